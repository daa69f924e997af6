"""Columns of tables: bins that share the rows out, and the density that they stand for."""

import math

import numpy as np
import pytest
import torch
from table_cases import anything

from noiseloom.data import TableVocabulary
from noiseloom.data.table_bins import binned
from noiseloom.data.table_columns import Column
from noiseloom.rng import Rng


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("law", ["normal", "spike", "spikes", "grid", "heavy tail", "few", "two"])
@pytest.mark.parametrize("bins", [2, 5, 32])
def test_bins_are_a_partition_with_equal_shares(law, bins, whole):
    draw = np.random.default_rng(0)
    numbers = {
        "normal": draw.normal(size=2_000) * 100,
        "spike": np.where(draw.random(2_000) < 0.5, 0, draw.normal(size=2_000) * 100),
        "spikes": np.where(draw.random(2_000) < 0.7, draw.integers(3, size=2_000) * 50, 1)
        * np.where(draw.random(2_000) < 0.5, 1, draw.random(2_000)),
        "grid": draw.integers(90, size=2_000).astype(float),
        "heavy tail": np.exp(3 * draw.normal(size=2_000)),
        "few": draw.normal(size=9),
        "two": np.array([1.0, 3.0] * 20),
    }[law]
    numbers = np.round(numbers) if whole else numbers
    found = binned(numbers, bins, whole)
    lows, highs, medians = (list(ends) for ends in zip(*found, strict=True))
    kind = "integer" if whole else "real"
    column = Column("x", kind, kind, (), tuple(lows), tuple(highs), tuple(medians), bins=bins)
    assert column.within(numbers).all()
    counts = np.bincount(column.of_numbers(numbers), minlength=len(found))
    assert (counts > 0).all()
    assert set(medians) <= set(numbers.tolist())
    unique, times = np.unique(numbers, return_counts=True)
    heavy = unique[times * max(2, min(bins, len(numbers) // 4)) >= len(numbers)]
    for value in heavy.tolist():
        assert (value, value, value) in found
    assert len(found) <= bins + len(heavy) + 1
    if law in ("normal", "heavy tail") and not whole:
        assert len(found) == bins
        assert counts.max() - counts.min() <= 1


def test_numbers_outside_go_to_the_nearest_class_that_is_no_single_number():
    column = Column("x", "real", "real", (), (0, 2, 5), (0, 4, 6), (0, 3, 5), gap=True)
    numbers = np.array([-9, 0, 1e-9, 1.9, 2, 4.4, 4.6, 6, 99, math.nan])
    assert column.of_numbers(numbers).tolist() == [0, 0, 1, 1, 1, 1, 2, 2, 2, 3]
    assert column.within(numbers).tolist() == [
        *(False, True, False, False, True),
        *(False, False, True, False, True),
    ]


def test_widths_turn_bits_into_a_density():
    """Draws of a law of classes have the density that its probabilities and the widths say."""
    real = Column("r", "real", "real", (), (0, 0.5, 3), (0, 3, 3.5), (0, 1, 3.2), gap=True)
    whole = Column("n", "integer", "integer", (), (1, 11), (10, 12), (5, 11))
    vocabulary = TableVocabulary((real, whole))
    tokens = anything(vocabulary, 200_000)
    widths = vocabulary.log_widths(tokens)
    assert widths.dtype == torch.float64
    expected = [[0, math.log(2.5), math.log(0.5), 0], [math.log(10), math.log(2)]]
    for c, nats in enumerate(expected):
        torch.testing.assert_close(widths[:, c], torch.tensor(nats).double()[tokens[:, c]])
    rows = vocabulary.decode(tokens, Rng(0))
    for low, high, k in ((1, 1.4, 1), (3.1, 3.2, 2)):
        share = sum(r is not None and low < r < high for r, _ in rows) / len(rows)
        density = 1 / 4 * math.exp(-expected[0][k]) * (high - low)
        assert abs(share - density) < 5 * math.sqrt(density / len(rows))
    for n in range(1, 13):
        share = sum(m == n for _, m in rows) / len(rows)
        probability = 1 / 2 * math.exp(-expected[1][n > 10])
        assert abs(share - probability) < 5 * math.sqrt(probability / len(rows))


def test_wide_whole_numbers_are_all_reached():
    """One draw of 23 bits would only make multiples."""
    column = Column("n", "integer", "integer", (), (0,), (2**40 - 1,), (5,))
    drawn = column.decode(np.zeros(2_000, dtype=np.int64), Rng(0))
    assert {value % 16 for value in drawn} == set(range(16))
    assert abs(np.mean(drawn) / 2**39 - 1) < 0.1
