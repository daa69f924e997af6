"""Shares of sequences by hand and on uniform laws; lengths and pieces on laws that are known."""

import math
import sys

import pytest
import torch

from noiseloom.metrics import (
    canonical_smiles,
    kmer_distance,
    length_distance,
    lengths,
    novelty,
    uniqueness,
    validity,
)
from noiseloom.rng import Rng

FORMS = ["a", "b", "a", None, "c"]


def test_shares_by_hand():
    share, error = validity(FORMS)
    assert share == 4 / 5
    assert error == pytest.approx((0.8 * 0.2 / 4) ** 0.5)
    assert uniqueness(FORMS) == 3 / 4
    share, error = novelty(FORMS, ["c", "d", None])
    assert share == pytest.approx(2 / 3)
    assert error == pytest.approx((2 / 9 / 2) ** 0.5)
    assert novelty(FORMS, FORMS)[0] == 0
    assert math.isnan(uniqueness([None]))
    assert all(map(math.isnan, novelty([None], FORMS)))
    with pytest.raises(ValueError, match="no values"):
        validity([])


def test_uniqueness_and_novelty_of_a_uniform_law():
    """Of n draws of V equal forms V (1 - (1 - 1/V)^n) differ; each is new to M with (1 - 1/V)^M."""
    V, n, M = 300, 200, 250
    found = []
    for i in range(100):
        forms, train = (Rng(i).fold(f).integers(V, (c,)).tolist() for f, c in (("x", n), ("y", M)))
        found.append((uniqueness(forms), novelty(forms, train)[0]))
    means, spread = torch.tensor(found).mean(0), torch.tensor(found).std(0)
    expected = torch.tensor([V * (1 - (1 - 1 / V) ** n) / n, (1 - 1 / V) ** M])
    assert ((means - expected).abs() < 4 * spread / 10).all()


def test_lengths_end_before_the_first_pad():
    rows = torch.tensor([[1, 2, 0, 0], [0, 1, 2, 3], [1, 1, 1, 1], [2, 0, 2, 2]])
    assert lengths(rows, 0).tolist() == [2, 0, 4, 1]
    assert lengths(rows, None).tolist() == [4, 4, 4, 4]


def test_length_distance_is_the_shift():
    rows = torch.ones(6, 10, dtype=torch.int64)
    cut = rows * (torch.arange(10) < torch.arange(1, 7)[:, None])
    longer = rows * (torch.arange(10) < torch.arange(4, 10)[:, None])
    assert length_distance(cut, longer, 0) == pytest.approx(3)
    assert length_distance(cut, cut.flip(0)[:, :7], 0) == 0
    assert length_distance(cut, rows[:2], None) == 0
    # Half of the rows are 9 tokens longer: so are they by 4.5 on average.
    both = torch.cat([cut[:1], rows[:1]])
    assert length_distance(both, cut[:1], 0) == 4.5


def test_length_distance_of_geometric_laws():
    """F and G of laws that end with probability p and q do not cross: the difference of means."""
    p, q, n = 0.3, 0.2, 20_000

    def rows(end, rng):
        return (rng.uniform((n, 80)) > end).long().cumprod(1)

    found = length_distance(rows(p, Rng(0)), rows(q, Rng(1)), 0)
    error = ((1 - p) / p**2 / n + (1 - q) / q**2 / n) ** 0.5
    assert found == pytest.approx((1 - q) / q - (1 - p) / p, abs=4 * error)


def test_kmers_by_hand():
    x = torch.tensor([[0, 1, 0, 1], [1, 1, 2, 2]])  # 2 pads: 01 10 01 | 11
    y = torch.tensor([[1, 1, 0], [2, 0, 1]])  # 11 10 |
    assert kmer_distance(x, y, 2, 3, pad=2) == pytest.approx(0.5)
    assert kmer_distance(x, y, 1, 3, pad=2) == pytest.approx(0)  # 2 of 6 and 1 of 3
    # 01 10 01 11 12 22 and 11 10 20 01
    assert kmer_distance(x, y, 2, 3) == pytest.approx(
        (1 / 12 + 1 / 12 + 1 / 12 + 1 / 3 + 1 / 4) / 2
    )
    assert kmer_distance(x, x.flip(0), 3, 3) == 0


def test_kmers_of_a_chain_against_independent_tokens():
    """Bits that stay with 0.8 have 1-mers like coins, 2-mers 0.3 away from theirs, exactly."""
    n, T = 4000, 20
    moves = (Rng(0).uniform((n, T)) > 0.8).long()
    moves[:, 0] = Rng(1).integers(2, (n,))
    chain, coins = moves.cumsum(1) % 2, Rng(2).integers(2, (n, T))
    assert kmer_distance(chain, coins, 1, 2) < 0.01
    assert kmer_distance(chain, coins, 2, 2) == pytest.approx(0.3, abs=0.01)
    # Of three: 0.32, 0.08, 0.02, 0.08 for 000, 001, 010, 011, and mirrored, against 1/8 each.
    expected = abs(0.32 - 0.125) + 2 * abs(0.08 - 0.125) + abs(0.02 - 0.125)
    assert kmer_distance(chain, coins, 3, 2) == pytest.approx(expected, abs=0.01)


def test_smiles_of_one_molecule_are_one():
    pytest.importorskip("rdkit", reason="needs the extra chem")
    assert canonical_smiles("OCC") == canonical_smiles("CCO") == "CCO"
    assert canonical_smiles("C1=CC=CC=C1") == canonical_smiles("c1ccccc1")
    # Brackets and rings that close are not enough: a carbon has four bonds.
    for wrong in ("C(C)(C)(C)(C)C", "C1CC", "(C)", "", "CCO name", " ", "xx"):
        assert canonical_smiles(wrong) is None


def test_the_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "rdkit", None)
    with pytest.raises(ImportError, match=r"pip install 'noiseloom\[chem\]'"):
        canonical_smiles("CCO")


def test_refusals():
    rows = torch.tensor([[1, 0], [0, 0]])
    with pytest.raises(ValueError, match=r"no piece of 2 tokens in rows \(2, 2\)"):
        kmer_distance(rows, torch.ones(2, 2).long(), 2, 2, pad=0)
    with pytest.raises(ValueError, match=r"0 \.\. 1, got 0 to 2"):
        kmer_distance(rows, 2 * rows, 1, 2)
    with pytest.raises(ValueError, match="got 2 and 0"):
        length_distance(rows, rows[:0], 0)
