"""Calibration of means and variances, and edit distances: closed forms and brute force."""

import math
import random

import pytest
import torch

from noiseloom.metrics import calibration_report, inside_share, nearest_edits, spearman
from noiseloom.rng import Rng

F64 = torch.float64


def test_a_right_law_covers_what_it_says_and_a_wrong_one_what_it_must():
    n, shares = 20_000, [0.1, 0.5, 0.8, 0.9, 0.95]
    mean, variance = Rng(0).normal((n,), F64), Rng(1).uniform((n,), F64) + 0.1
    labels = mean + variance.sqrt() * Rng(2).normal((n,), F64)
    error = torch.tensor([(p * (1 - p) / n) ** 0.5 for p in shares], dtype=F64)
    found = inside_share(labels, mean, variance, shares)
    assert ((found - torch.tensor(shares, dtype=F64)).abs() < 4 * error).all()
    # With a quarter of the variance the interval is half as wide: erf(erfinv(p) / 2).
    narrow = torch.erf(torch.erfinv(torch.tensor(shares, dtype=F64)) / 2)
    found = inside_share(labels, mean, variance / 4, shares)
    assert ((found - narrow).abs() < 4 * (narrow * (1 - narrow) / n).sqrt()).all()


def test_ranks_are_those_of_the_formula_and_ties_share_theirs():
    x, y = Rng(0).normal((50,)), Rng(1).normal((50,))
    gap = x.argsort().argsort().double() - y.argsort().argsort().double()
    assert spearman(x, y) == pytest.approx(1 - 6 * float(gap.square().sum()) / (50 * (50**2 - 1)))
    assert spearman(x, x.exp()) == pytest.approx(1)
    assert spearman(x, -x) == pytest.approx(-1)
    # Ranks 1.5, 1.5, 3, 4 and 1, 2, 3, 4, by hand: 4.5 / sqrt(4.5 * 5).
    tied = spearman(torch.tensor([0.0, 0, 1, 2]), torch.tensor([0.0, 1, 2, 3]))
    assert tied == pytest.approx(4.5 / (4.5 * 5) ** 0.5)
    assert math.isnan(spearman(torch.ones(3), x[:3]))


def test_the_report_is_in_units_of_labels_and_its_nats_in_deviations():
    labels, mean = torch.tensor([10.0, 14.0]), torch.tensor([12.0, 12.0])
    found = calibration_report(labels, mean, torch.tensor([4.0, 16.0]), scale=2.0)
    nats = [0.5 * math.log(2 * math.pi) + 0.5, 0.5 * math.log(2 * math.pi * 4) + 0.125]
    assert found["nll"] == pytest.approx(sum(nats) / 2)
    assert found["rmse"] == pytest.approx(2.0)
    assert (found["inside_50"], found["inside_80"]) == (0.5, 1.0)
    again = calibration_report(labels / 2, mean / 2, torch.tensor([1.0, 4.0]), scale=1.0)
    assert again["nll"] == pytest.approx(found["nll"])


def levenshtein(a, b):
    row = list(range(len(b) + 1))
    for i, c in enumerate(a, 1):
        new = [i]
        for j, d in enumerate(b, 1):
            new.append(min(row[j] + 1, new[-1] + 1, row[j - 1] + (c != d)))
        row = new
    return row[-1]


def test_nearest_edits_are_those_of_brute_force(monkeypatch):
    monkeypatch.setattr("noiseloom.metrics.edits._AT_ONCE", 7)
    draw = random.Random(0)
    made, known = (
        ["".join(draw.choices("ACGT", k=draw.randint(0, 12))) for _ in range(n)] for n in (60, 50)
    )
    found = nearest_edits([*made, known[3]], known).tolist()
    assert found == [min(levenshtein(a, b) for b in known) for a in made] + [0]
    with pytest.raises(ValueError, match="no known sequence"):
        nearest_edits(made, [])
