import pytest
import torch

from noiseloom.metrics import bit_histogram, discreteness
from noiseloom.rng import Rng


def test_discreteness_counts_both_levels_in_units_of_the_scale():
    x = torch.tensor([[1.0, -1.05, 0.91, 0.89], [0.0, 1.2, torch.nan, -0.95]])
    assert discreteness(x) == 4 / 8
    assert discreteness(2 * x, scale=2) == 4 / 8
    assert discreteness(torch.tensor([0.5, -0.46]), scale=0.5) == 1


def test_discreteness_of_noise_is_its_normal_probability():
    """P(0.9 <= |z| <= 1.1) for a standard normal z."""
    z = torch.distributions.Normal(0.0, 1.0)
    exact = 2 * float(z.cdf(torch.tensor(1.1)) - z.cdf(torch.tensor(0.9)))
    n = 200_000
    error = (exact * (1 - exact) / n) ** 0.5
    assert abs(discreteness(Rng(0).normal((n,))) - exact) < 5 * error


def test_histogram_has_one_row_per_step_and_loses_nothing():
    edges, shares = bit_histogram(
        [torch.tensor([-9.0, 0.1, 9.0, 0.1]), torch.full((3, 2), -0.99)], bins=3, limit=1.5
    )
    assert edges.tolist() == [-1.5, -0.5, 0.5, 1.5]
    assert shares.tolist() == [[0.25, 0.5, 0.25], [1, 0, 0]]


def test_histogram_refuses_nan_and_nothing():
    with pytest.raises(ValueError, match="step 1 hold NaN"):
        bit_histogram([torch.zeros(2), torch.tensor([torch.nan])])
    with pytest.raises(ValueError, match="at least one step"):
        bit_histogram([])
