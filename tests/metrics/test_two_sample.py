"""A classifier that tells two sets apart: at chance for equal laws, near the best there is else."""

import pytest
import torch

from noiseloom.metrics import two_sample_accuracy
from noiseloom.rng import Rng


def test_is_at_chance_for_equal_laws_and_its_error_is_right():
    found = []
    for i in range(80):
        x, y = Rng(i).integers(3, (2, 100, 4)).unbind()
        found.append(two_sample_accuracy(x, y, Rng(i), folds=4))
    accuracy, error = torch.tensor(found, dtype=torch.float64).T
    assert abs(accuracy.mean() - 0.5) < 4 * accuracy.std() / 80**0.5
    assert 0.8 < error.mean() / accuracy.std() < 1.3


def test_reaches_the_best_accuracy_on_a_column():
    """Shares 3/4 and 1/4 against halves: TV = 1/4, so 5/8."""
    x = (Rng(0).uniform((3000, 2)) < 0.75).long()
    y = (Rng(1).uniform((3000, 2)) < 0.75).long()
    y[:, 1] = Rng(2).integers(2, (3000,))
    accuracy, error = two_sample_accuracy(x, y, Rng(0))
    assert accuracy == pytest.approx(5 / 8, abs=3 * error)


def test_sees_pairs_whose_columns_agree_if_it_may():
    """Bits that are equal in x with probability 0.9 and 0.5 in y: TV = 0.4, so 0.7."""
    x, y = Rng(0).integers(2, (2, 3000, 3)).unbind()
    x[:, 1] = x[:, 0] ^ (Rng(1).uniform((3000,)) < 0.1)
    accuracy, error = two_sample_accuracy(x, y, Rng(0))
    assert accuracy == pytest.approx(0.7, abs=3 * error)
    accuracy, error = two_sample_accuracy(x, y, Rng(0), pairs=False)
    assert accuracy == pytest.approx(0.5, abs=3 * error)


def test_does_not_see_what_takes_three_columns():
    x, y = Rng(0).integers(2, (2, 3000, 3)).unbind()
    x[:, 2] = x[:, 0] ^ x[:, 1]
    accuracy, error = two_sample_accuracy(x, y, Rng(0))
    assert accuracy == pytest.approx(0.5, abs=3 * error)


def test_sets_that_do_not_meet_and_sets_that_are_constant():
    ones = torch.ones(40, 3, dtype=torch.int64)
    assert two_sample_accuracy(ones, 2 * ones, Rng(0)) == (1, 0)
    assert two_sample_accuracy(ones, ones, Rng(0))[0] == 0.5


def test_is_a_function_of_its_key_and_of_as_many_rows_of_each():
    x, y = Rng(0).integers(3, (90, 3)), Rng(1).integers(3, (60, 3))
    assert two_sample_accuracy(x, y, Rng(0)) == two_sample_accuracy(x, y, Rng(0))
    assert two_sample_accuracy(x, y, Rng(0)) != two_sample_accuracy(x, y, Rng(1))
    accuracy, error = two_sample_accuracy(x, y, Rng(0))
    assert error == pytest.approx((accuracy * (1 - accuracy) / 60) ** 0.5)


@pytest.mark.parametrize(("n", "T", "folds"), [(4, 2, 5), (9, 3, 5), (9, 2, 1)])
def test_refusals(n, T, folds):
    with pytest.raises(ValueError, match="need as many rows of the same columns"):
        two_sample_accuracy(torch.ones(n, T), torch.ones(9, 2), Rng(0), folds=folds)
