"""Walks on graphs whose return probabilities are known, and what they tell apart."""

import math

import pytest
import torch

import noiseloom.nets.walks as module
from noiseloom.nets import GraphEncoder
from noiseloom.nets.walks import Walks, walked

F64 = torch.float64


def rings(*sizes):
    """The adjacency of rings side by side."""
    count = sum(sizes)
    a, start = torch.zeros(count, count, dtype=F64), 0
    for n in sizes:
        i = torch.arange(n)
        a[start + i, start + (i + 1) % n] = a[start + (i + 1) % n, start + i] = 1
        start += n
    return a


@pytest.mark.parametrize("n", [3, 4, 5, 6, 8])
def test_walks_on_a_ring_return_as_steps_to_both_sides_do(n):
    """After k steps of +-1 with equal odds one is where one was if their sum is 0 modulo n."""
    length = 9
    seen = walked(rings(n)[None, ..., None], length)[0]
    for k in range(2, length + 1):
        sums = [(2 * up - k, math.comb(k, up) / 2**k) for up in range(k + 1)]
        for away in range(n):
            right = sum(p for s, p in sums if (s - away) % n == 0)
            assert float(seen[0, away, k - 2]) == pytest.approx(right, abs=1e-12)


def test_channels_stand_side_by_side_and_lonely_nodes_say_nothing():
    a = torch.stack((rings(3, 1), 2 * rings(4)), -1)[None]
    a[:, 3, 3] = 0
    seen = walked(a, 4)
    assert seen.shape == (1, 4, 4, 6)
    torch.testing.assert_close(seen[..., ::2], walked(a[..., :1], 4))
    torch.testing.assert_close(seen[..., 1::2], walked(rings(4)[None, ..., None], 4))
    assert not seen[0, 3, :, ::2].any()


def test_two_triangles_are_no_hexagon_to_who_walks_and_one_to_who_does_not():
    """All nodes and edges are alike, so messages between neighbours are, too."""
    log_snr = {"nodes": torch.zeros(2), "edges": torch.zeros(2)}
    x = {"nodes": torch.ones(2, 6, 1, dtype=F64)}
    x["edges"] = torch.stack((rings(6), rings(3, 3)))[..., None]
    for walks in (0, 3):
        torch.manual_seed(0)
        net = GraphEncoder(1, 1, width=12, edge_width=6, depth=3, heads=3, walks=walks).double()
        a, b = net(x, log_snr)
        assert torch.allclose(a, b, atol=1e-12) == (walks == 0)


def test_what_is_said_are_roots_of_walks_on_adjacencies_that_are_learnt():
    """The formula by loops, on graphs whose nodes have different degrees."""
    torch.manual_seed(0)
    net = Walks(6, 4, length=4, channels=2).double()
    pairs = ~torch.eye(5, dtype=torch.bool).repeat(2, 1, 1)
    pairs[1, 3:] = pairs[1, :, 3:] = False
    h, e = torch.randn(2, 5, 6, dtype=F64), torch.randn(2, 5, 5, 4, dtype=F64)
    e = 3 * (e + e.transpose(1, 2)) + 1
    net.requires_grad_(False)
    got_h, got_e = net(h, e, pairs)
    for b in range(2):
        normal = (e[b] - e[b].mean(-1, keepdim=True)) / (
            e[b].var(-1, correction=0, keepdim=True) + 1e-6
        ).sqrt()
        seen = [[[0.0] * 6 for _ in range(5)] for _ in range(5)]
        for c in range(2):
            logit = normal @ net.adjacency.weight[c] + net.adjacency.bias[c]
            a = torch.where(pairs[b], 1 / (1 + (-logit).exp()), 0)
            d = a.sum(1)
            step = torch.zeros_like(a)
            for i in range(5):
                for j in range(5):
                    if a[i, j] > 0:
                        step[i, j] = a[i, j] / (d[i] * d[j]).sqrt()
            for k in (2, 3, 4):
                power = torch.linalg.matrix_power(step, k)
                for i in range(5):
                    for j in range(5):
                        p = float(power[i, j])
                        seen[i][j][2 * (k - 2) + c] = math.sqrt(p + 1e-4) - 0.01
        told = torch.tensor(seen, dtype=F64)
        itself = told[range(5), range(5)]
        torch.testing.assert_close(got_h[b], h[b] + net.nodes(itself), rtol=0, atol=1e-9)
        torch.testing.assert_close(got_e[b], e[b] + net.pairs(told), rtol=0, atol=1e-9)


def test_walks_are_read_half_way_and_in_full_precision(monkeypatch):
    net = GraphEncoder(1, 1, width=12, edge_width=6, depth=3, heads=3, walks=3)
    order, dtypes = [], []
    for i, block in enumerate(net.body.blocks):
        block.register_forward_hook(lambda *_, i=i: order.append(i))
    net.body.walks.register_forward_hook(lambda *_: order.append("walks"))
    own = module.walked
    monkeypatch.setattr(module, "walked", lambda a, n: dtypes.append(a.dtype) or own(a, n))
    log_snr = {"nodes": torch.zeros(1), "edges": torch.zeros(1)}
    x = {"nodes": torch.ones(1, 6, 1), "edges": rings(6).float()[None, ..., None]}
    with torch.autocast("cpu", torch.bfloat16):
        net(x, log_snr)
    assert order == [0, "walks", 1, 2]
    assert dtypes == [torch.float32]


def test_slopes_are_finite_where_nobody_walks():
    """Graphs of one node and of none, and pairs that no walk joins."""
    net = Walks(4, 6, length=8)
    pairs = torch.zeros(3, 4, 4, dtype=torch.bool)
    pairs[2, 0, 1] = pairs[2, 1, 0] = True
    e = torch.randn(3, 4, 4, 6, requires_grad=True)
    h, said = net(torch.zeros(3, 4, 4), e, pairs)
    assert h.isfinite().all()
    (h.sum() + said.square().sum()).backward()
    assert e.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in net.parameters())


def test_walks_of_one_step_are_refused():
    with pytest.raises(ValueError, match="two steps at least, got 1"):
        Walks(4, 4, 1)
