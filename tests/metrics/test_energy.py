"""The energy distance against closed forms."""

import math

import pytest
import torch

from noiseloom.metrics import energy_distance
from noiseloom.rng import Rng


def test_of_points_by_hand():
    x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [3.0], [6.0]])
    cross = (0 + 3 + 6 + 1 + 2 + 5) / 6
    assert energy_distance(x, y) == pytest.approx(2 * cross - 1 - 4)


def test_of_shifted_gaussians_in_one_dimension():
    # E|N(d, 2)| - E|N(0, 2)|, twice: of X - Y against X - X'.
    d, n = 1.5, 4000
    x, y = Rng(0).normal((n, 1)), Rng(1).normal((n, 1)) + d
    mean = 2 / math.sqrt(math.pi) * math.exp(-(d**2) / 4) + d * math.erf(d / 2)
    expected = 2 * mean - 2 * 2 / math.sqrt(math.pi)
    assert energy_distance(x, y) == pytest.approx(expected, abs=0.1)
    assert energy_distance(x, y) == pytest.approx(energy_distance(y, x))


def test_of_equal_laws_it_is_0_without_bias():
    found = torch.tensor([energy_distance(*Rng(i).normal((2, 50, 2)).unbind()) for i in range(200)])
    assert abs(found.mean()) < 5 * found.std() / 200**0.5
    assert (found < 0).any()


def test_small_distances_far_from_0_keep_their_digits():
    x = torch.tensor([[1e4, 0.0], [1e4, 0.0]])
    assert energy_distance(x, x + torch.tensor([0.0, 1e-3])) == pytest.approx(2e-3)
