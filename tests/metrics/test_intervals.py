"""Student's intervals: printed tables, and the share of cases that they hold."""

import math

import pytest
import torch

from noiseloom import Rng
from noiseloom.metrics import mean_interval, t_quantile


@pytest.mark.parametrize(
    ("freedom", "p95", "p975", "p995"),
    [
        (1, 6.3138, 12.7062, 63.6567),
        (2, 2.9200, 4.3027, 9.9248),
        (3, 2.3534, 3.1824, 5.8409),
        (4, 2.1318, 2.7764, 4.6041),
        (5, 2.0150, 2.5706, 4.0321),
        (9, 1.8331, 2.2622, 3.2498),
        (30, 1.6973, 2.0423, 2.7500),
        (120, 1.6577, 1.9799, 2.6174),
    ],
)
def test_quantiles_are_those_of_printed_tables(freedom, p95, p975, p995):
    for p, right in ((0.95, p95), (0.975, p975), (0.995, p995)):
        assert t_quantile(p, freedom) == pytest.approx(right, abs=6e-5)
    assert t_quantile(0.5, freedom) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("count", [2, 5])
def test_an_interval_holds_the_mean_as_often_as_it_says(count):
    """4,000 cases: five standard errors of the share."""
    rows = 3 + 2 * Rng(0).normal((4000, count), torch.float64)
    inside = 0
    for row in rows.tolist():
        mean, half = mean_interval(row)
        inside += abs(mean - 3) <= half
    assert inside / 4000 == pytest.approx(0.95, abs=5 * (0.95 * 0.05 / 4000) ** 0.5)


def test_one_value_has_no_interval_and_none_has_no_mean():
    mean, half = mean_interval([2.0])
    assert mean == 2
    assert math.isnan(half)
    assert mean_interval([2.0, 2.0]) == (2.0, 0.0)
    with pytest.raises(ValueError, match="the mean of no values"):
        mean_interval([])
    with pytest.raises(ValueError, match="a share in"):
        mean_interval([1.0, 2.0], share=1.0)
