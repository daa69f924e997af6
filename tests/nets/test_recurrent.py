"""The recurrent network against its formula; the rest is tested with the other causal ones."""

import torch
from causal_cases import T, recurrent


def gru(cell, u, z):
    """r, g = sigmoid gates; n = tanh(W u + r (V z)); (1 - g) n + g z."""
    a, b = (m.chunk(3, -1) for m in (u @ cell.weight_ih.T, z @ cell.weight_hh.T))
    a = [v + bias for v, bias in zip(a, cell.bias_ih.chunk(3), strict=True)]
    b = [v + bias for v, bias in zip(b, cell.bias_hh.chunk(3), strict=True)]
    reset, keep = ((v + w).sigmoid() for v, w in zip(a[:2], b[:2], strict=True))
    return (1 - keep) * (a[2] + reset * b[2]).tanh() + keep * z


def test_a_recurrent_network_is_its_formula(awake):
    network = awake(recurrent(depth=2)).eval()
    x, log_snr, _ = recurrent.inputs({})
    token, embedding = network.inputs(x, log_snr, {}, 0)
    shift, scale = network.film(embedding).chunk(2, -1)
    u = token * (1 + scale) + shift
    u = u + network.before(u)
    z, outputs = [start.expand(len(x), -1) for start in network.initial], []
    for t in range(T):
        z[0] = gru(network.cells[0], u[:, t], z[0])
        z[1] = gru(network.cells[1], z[0], z[1])
        outputs.append(network.output(z[1] + network.after(z[1])))
    expected = torch.stack(outputs, 1)
    torch.testing.assert_close(network(x, log_snr), expected, rtol=0, atol=1e-10)
