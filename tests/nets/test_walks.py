"""Walks on graphs whose return probabilities are known, and what they tell apart."""

import math

import pytest
import torch

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


def test_walks_of_one_step_are_refused():
    with pytest.raises(ValueError, match="two steps at least, got 1"):
        Walks(4, 4, 1)
