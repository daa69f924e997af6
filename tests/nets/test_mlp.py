"""Networks for vectors: what they are told has an effect, once it is learnt, and no other."""

import pytest
import torch

from noiseloom.latents import Splits, one_hot
from noiseloom.nets import MLP, CodeHead, VectorEncoder
from noiseloom.rng import Rng

X = Rng(0).normal((6, 3))
LOG_SNR = torch.linspace(-5, 5, 6)


def make(**options):
    with Rng(0).torch():
        return MLP(3, 3, width=16, depth=2, **options)


def shaken(module):
    with torch.no_grad():
        for i, parameter in enumerate(module.parameters()):
            parameter += 0.3 * Rng(1).fold("shake", i).normal(parameter.shape)
    return module


def test_the_output_is_0_at_first_and_then_depends_on_all_it_is_told():
    assert not make()(X, LOG_SNR).any()
    net = shaken(make(codes=(2, 4), num_classes=3, self_conditioning=True))
    told = {
        "codes": one_hot(torch.tensor([[0, 1]] * 6), 4),
        "label": torch.zeros(6, dtype=torch.int64),
        "estimate": X / 2,
    }
    y = net(X, LOG_SNR, told)
    for name in told:
        rest = {k: v for k, v in told.items() if k != name}
        assert (net(X, LOG_SNR, rest) - y).abs().amin(0).min() > 1e-4
    other = {**told, "codes": one_hot(torch.tensor([[0, 2]] * 6), 4)}
    assert (net(X, LOG_SNR, other) - y).abs().amin(0).min() > 1e-4
    assert torch.equal(net(X, LOG_SNR, {**told, "dropout": torch.arange(6)}), y)
    assert (net(X, LOG_SNR + 1, told) - y).abs().max() > 1e-4


def test_codes_have_no_effect_at_first_and_learn_in_the_first_step():
    net = make(codes=(2, 4))
    torch.nn.init.normal_(net.output.weight)
    for outer in net.outer:
        torch.nn.init.normal_(outer.weight)
    codes = one_hot(torch.arange(12).reshape(6, 2) % 4, 4)
    y = net(X, LOG_SNR, {"codes": codes})
    assert torch.equal(y, net(X, LOG_SNR))
    y.sum().backward()
    assert all(told.weight.grad.abs().max() > 0 for told in net.told)


@pytest.mark.parametrize("codes", [(0, 4), (1, 1), None])
def test_codes_that_say_nothing_have_no_path(codes):
    plain, net = make(), make(codes=codes)
    assert plain.state_dict().keys() == net.state_dict().keys()
    state = net.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in plain.state_dict().items())


def test_an_encoder_has_independent_logits_for_each_latent():
    with Rng(0).torch():
        encoder = VectorEncoder(3, 2, 5, width=16, scale=2.0)
    logits = encoder(X)
    assert logits.shape == (6, 2, 5)
    torch.testing.assert_close(encoder(2 * X), _by_hand(encoder, X))
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), encoder.head.weight)
    assert gradient[0].any()
    assert not gradient[1].any()


def _by_hand(encoder, x):
    for layer in encoder.layers:
        x = torch.nn.functional.silu(x @ layer.weight.T + layer.bias)
    return torch.stack([x @ encoder.head.weight[i].T + encoder.head.bias[i] for i in range(2)], 1)


def test_a_head_reads_features_of_all_latents_or_of_each():
    head = CodeHead(4, 3, 5)
    h = Rng(2).normal((6, 4))
    torch.testing.assert_close(head(h), head(h[:, None].expand(6, 3, 4)))
    each = Rng(3).normal((6, 3, 4))
    torch.testing.assert_close(head(each)[:, 1], head(each[:, 1])[:, 1])
    assert isinstance(head, Splits)


def test_what_it_was_not_built_for_is_refused():
    with pytest.raises(ValueError, match="knows no condition 'codes'"):
        make()(X, LOG_SNR, {"codes": torch.zeros(6, 1, 4)})
    with pytest.raises(ValueError, match="for a network of m 2, k 4"):
        make(codes=(2, 4))(X, LOG_SNR, {"codes": torch.zeros(6, 2, 3)})
    with pytest.raises(ValueError, match=r"of m 1, k 1: expected \(6, 1, 1\)"):
        make(codes=(1, 1))(X, LOG_SNR, {"codes": torch.zeros(6, 2, 3)})
    with pytest.raises(ValueError, match=r"expected \(B, 3\)"):
        make()(X[:, :2], LOG_SNR)
