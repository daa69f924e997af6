"""Maps of their own for every place: the formula, and a network that stops at its last states."""

import torch

from noiseloom.nets import Placed, Transformer
from noiseloom.rng import Rng

T, D, K, W = 5, 3, 4, 8


def made():
    with Rng(0).torch():
        own = Placed(Transformer(W, W, max_length=T, width=W, depth=1, heads=2), T, D, K, W)
        for parameter in own.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return own.eval()


def test_each_place_has_maps_of_its_own():
    own, x = made(), Rng(1).normal((2, T, D))
    inner = own.inner(torch.stack([x[:, i] @ own.enter[i] for i in range(T)], 1), torch.zeros(2))
    right = torch.stack([inner[:, i] @ own.leave[i] + own.bias[i] for i in range(T)], 1)
    torch.testing.assert_close(own(x, torch.zeros(2)), right)


def test_it_stops_at_its_last_states_and_goes_on_from_others_token_by_token():
    own, x, log_snr = made(), Rng(1).normal((2, T, D)), torch.zeros(2)
    h, rest = own.states(x, log_snr)
    assert h.shape == (2, T, W)
    assert torch.equal(own.finish(h, rest), own(x, log_snr))
    other = h.clone()
    other[:, 2] += Rng(2).normal((2, W))
    changed = (own.finish(other, rest) != own(x, log_snr)).any(-1)
    assert changed.tolist() == [[False, False, True, False, False]] * 2
