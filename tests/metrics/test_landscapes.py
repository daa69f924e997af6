"""True values of samples: against a plain count, and with what nobody knows left unknown."""

import math
import random
import statistics

import pytest
import torch

from noiseloom import Rng
from noiseloom.metrics import value_report, values_of


class Digits:
    """Rows are numbers of two digits: valid below 50, known where even, and worth themselves."""

    def valid(self, rows):
        return self._number(rows) < 50

    def value(self, rows):
        number = self._number(rows)
        return number.double().masked_fill((number % 2 == 1) | (number >= 50), torch.nan)

    def _number(self, rows):
        return rows[:, 0] * 10 + rows[:, 1]


def rows(*numbers):
    return torch.tensor([[n // 10, n % 10] for n in numbers])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("top", [0.05, 0.3, 1.0])
def test_values_are_those_of_a_plain_count(seed, top):
    draw = random.Random(seed)
    numbers = [draw.randrange(100) for _ in range(37)]
    found = values_of(rows(*numbers), Digits(), top)
    valid = [n for n in numbers if n < 50]
    known = [n for n in valid if n % 2 == 0]
    best = sorted(set(known), reverse=True)[: round(top * 37)]
    mean = sum(known) / len(known)
    assert found["measured"] == pytest.approx(len(known) / len(valid))
    assert found["value"] == pytest.approx(mean)
    spread = math.sqrt(sum((n - mean) ** 2 for n in known) / (len(known) - 1))
    assert found["value_se"] == pytest.approx(spread / math.sqrt(len(known)))
    assert found["value_top"] == pytest.approx(sum(best) / len(best))
    assert found["value_best"] == max(known)


def test_equal_rows_count_once_among_the_best():
    found = values_of(rows(48, 48, 48, 2, 4, 6, 8, 10, 12, 14), Digits(), 0.2)
    assert found["value_top"] == (48 + 14) / 2


def test_what_nobody_knows_is_left_out_and_not_made_up():
    assert values_of(rows(51, 77), Digits()) == {}
    assert values_of(rows(51, 7, 9), Digits()) == {"measured": 0}
    found = value_report(rows(8, 51), rows(1, 3), rows(2, 4), Digits(), Rng(0))
    assert found == {
        "n": 2.0,
        "measured": 1.0,
        "value": 8.0,
        "value_top": 8.0,
        "value_best": 8.0,
        "measured_train": 0.0,
        "measured_held_out": 1.0,
        "value_held_out": 3.0,
        "value_se_held_out": 1.0,
        "value_top_held_out": 4.0,
        "value_best_held_out": 4.0,
    }


def test_all_sets_are_of_one_size():
    many = rows(*range(0, 50, 2))
    found = value_report(many[:10], many, many.repeat(2, 1), Digits(), Rng(1))
    assert found["n"] == 10
    draws = [value_report(many[:10], many, many, Digits(), Rng(s)) for s in range(300)]
    # The largest of n = 10 of 0 .. N - 1, N = 25, without replacement: n (N + 1) / (n + 1) - 1.
    mean = sum(d["value_best_train"] for d in draws) / 300
    expected = 2 * (10 * 26 / 11 - 1)
    spread = statistics.stdev(d["value_best_train"] for d in draws) / math.sqrt(300)
    assert mean == pytest.approx(expected, abs=5 * spread)


def test_sets_and_shares_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match=r"rows in all sets, got \[1, 0, 1\]"):
        value_report(rows(2), rows(2)[:0], rows(2), Digits(), Rng(0))
    with pytest.raises(ValueError, match=r"share in \(0, 1\]"):
        values_of(rows(2), Digits(), 0.0)
