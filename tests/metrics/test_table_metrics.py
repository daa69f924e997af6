"""Columns, pairs, rules and copies of tables by hand and on laws whose distances are known."""

import pytest
import torch

from noiseloom.metrics import (
    closest,
    cramers_v,
    dependence_gap,
    invalid_share,
    marginal_distances,
    only,
    pair_distances,
)
from noiseloom.rng import Rng

SIZES = (2, 3)
EVERY = torch.cartesian_prod(torch.arange(2), torch.arange(3))  # independent and uniform


def test_marginals_by_hand():
    x = torch.tensor([[0, 0], [0, 1], [1, 2], [1, 2]])
    y = torch.tensor([[0, 0], [0, 0]])
    assert marginal_distances(x, y, SIZES).tolist() == [0.5, 0.75]
    assert marginal_distances(x, x.repeat(3, 1).to(torch.uint8), SIZES).tolist() == [0, 0]


def test_what_is_no_class_is_a_difference():
    x = torch.tensor([[0, 0], [1, 3], [1, -1], [1, 9]])
    y = torch.tensor([[0, 0], [1, 0]])
    assert marginal_distances(x, y, SIZES).tolist() == [0.25, 0.75]
    assert pair_distances(x, y, SIZES).tolist() == [0.75]


def test_marginals_of_a_known_law():
    """Against equal shares: of the shares .5, .3, .2 total variation is 1/6."""
    u = Rng(0).uniform((200_000, 1))
    x = (u > 0.5).long() + (u > 0.8).long()
    y = Rng(1).integers(3, (200_000, 1))
    error = 3 * 0.5 / 200_000**0.5
    assert float(marginal_distances(x, y, (3,))[0]) == pytest.approx(1 / 6, abs=4 * error)


def test_a_pair_by_hand():
    """Equal bits against opposite ones: marginals agree, nothing else does."""
    same, opposite = torch.tensor([[0, 0], [1, 1]]), torch.tensor([[0, 1], [1, 0]])
    assert marginal_distances(same, opposite, (2, 2)).tolist() == [0, 0]
    assert pair_distances(same, opposite, (2, 2)).tolist() == [1]
    assert pair_distances(same, torch.cat([same, opposite]), (2, 2)).tolist() == [0.5]
    assert dependence_gap(same.repeat(9, 1), opposite.repeat(9, 1), (2, 2)) == (0, 0)


def test_pairs_are_in_order_and_pieces_change_nothing(monkeypatch):
    x, y = Rng(0).integers(2, (50, 4)), Rng(1).integers(2, (70, 4))
    sizes = (2, 2, 3, 2)
    whole, distance = pair_distances(x, y, sizes), closest(x, y)
    each = [(a, b) for a in range(4) for b in range(a + 1, 4)]
    alone = [pair_distances(x[:, p], y[:, p], [sizes[c] for c in p])[0] for p in map(list, each)]
    torch.testing.assert_close(whole, torch.stack(alone))
    monkeypatch.setitem(pair_distances.__globals__, "_CELLS", 200)
    torch.testing.assert_close(pair_distances(x, y, sizes), whole)
    assert torch.equal(closest(x, y), distance)


def test_cramers_v_at_its_ends():
    independent = EVERY.repeat(20, 1)
    assert cramers_v(independent, SIZES).tolist() == [0]
    tells = torch.arange(60)[:, None] % 3 * torch.tensor([1, 1])
    assert cramers_v(tells, (3, 3)).tolist() == pytest.approx([1])
    assert cramers_v(torch.zeros(9, 2).long(), SIZES).tolist() == [0]
    alone = torch.arange(5)[:, None].expand(5, 2)  # as many classes as rows
    assert cramers_v(alone, (5, 5)).tolist() == [0]


def test_cramers_v_of_bits_is_their_correlation():
    """Bits that agree with probability (1 + r) / 2: V = |r|; its bias at r = 0 is below 0.02."""
    for r in (0.3, -0.7):
        x = Rng(0).integers(2, (100_000, 1))
        y = x ^ (Rng(1).uniform((100_000, 1)) > (1 + r) / 2)
        found = float(cramers_v(torch.cat([x, y], 1), (2, 2)))
        assert found == pytest.approx(abs(r), abs=4 * (1 - r * r) / 100_000**0.5)
    none = [float(cramers_v(Rng(i).integers(5, (1000, 2)), (5, 5))) for i in range(40)]
    assert sum(none) / 40 < 0.02  # 0.063 without the correction: sqrt(16 / 1000 / 4)


def test_dependence_gap_tells_what_lost_its_pairs():
    x = Rng(0).integers(3, (2000, 3))
    x[:, 1] = x[:, 0]
    shuffled = torch.stack([x[:, c][Rng(c + 1).permutation(2000)] for c in range(3)], 1)
    mean, most = dependence_gap(x, shuffled, (3, 3, 3))
    assert most > 0.93
    assert mean == pytest.approx(most / 3, abs=0.03)
    assert marginal_distances(x, shuffled, (3, 3, 3)).max() == 0


def test_invalid_rows_by_hand():
    rows = torch.tensor([[0, 0], [1, 2], [0, 3], [-1, 0], [1, 1]])
    assert invalid_share(rows, SIZES)[0] == 2 / 5
    assert invalid_share(rows, SIZES, [only([0], torch.tensor([0]))])[0] == 4 / 5
    pairs = only([1, 0], torch.tensor([[0, 0], [2, 1]]))
    assert invalid_share(rows, SIZES, [pairs])[0] == 3 / 5
    assert invalid_share(rows[2:4], SIZES, [pairs]) == (1, 0)  # and no row is left to ask about
    asked = []

    def sees(some):
        asked.extend(some.tolist())
        return some[:, 0] == 1

    share, error = invalid_share(rows, SIZES, [only([0], torch.tensor([0, 1])), sees])
    assert asked == [[0, 0], [1, 2], [1, 1]]
    assert share == 3 / 5
    assert error == pytest.approx((0.6 * 0.4 / 4) ** 0.5)


def test_closest_by_hand():
    train = torch.tensor([[0, 0, 0, 0], [1, 1, 1, 1]], dtype=torch.uint8)
    rows = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0], [0, 5, 1, 1], [7, 7, 7, 7]])
    assert closest(rows, train).tolist() == [0, 0.25, 0.5, 1]


def test_closest_of_uniform_rows():
    """Of T columns of K classes a row differs in D ~ Bin(T, 1 - 1 / K), from M rows the least."""
    T, K, M = 6, 4, 50
    law = torch.distributions.Binomial(T, torch.tensor(1 - 1 / K, dtype=torch.float64))
    beyond = 1 - law.log_prob(torch.arange(T).double()).exp().cumsum(0)  # P(D > d), d < T
    expected = float((beyond.clamp(min=0) ** M).sum() / T)
    found = torch.stack(
        [
            closest(Rng(i).integers(K, (100, T)), Rng(i).fold("m").integers(K, (M, T))).mean()
            for i in range(60)
        ]
    )
    assert abs(found.mean() - expected) < 4 * found.std() / 60**0.5


@pytest.mark.parametrize(
    ("do", "words"),
    [
        (lambda: marginal_distances(EVERY, EVERY[:, :1], SIZES), r"\(N, 2\) .*got \(6, 1\)"),
        (lambda: marginal_distances(EVERY[:0], EVERY, SIZES), "N >= 1"),
        (lambda: pair_distances(EVERY[:, :1], EVERY[:, :1], (2,)), "two columns"),
        (lambda: cramers_v(EVERY[:1], SIZES), "two rows"),
        (lambda: closest(EVERY, EVERY[:0]), r"any of \(0, 2\)"),
        (lambda: closest(EVERY, EVERY[:, :1]), r"any of \(6, 1\)"),
        (lambda: invalid_share(EVERY, (2,)), r"\(N, 1\)"),
    ],
)
def test_refusals(do, words):
    with pytest.raises(ValueError, match=words):
        do()
