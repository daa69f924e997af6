import math

import pytest
import torch

from noiseloom.metrics import copied_share, noised_tokens, row_keys
from noiseloom.metrics.rows import mean_and_error
from noiseloom.rng import Rng


def test_copies_are_counted_whatever_the_type():
    train = torch.tensor([[0, 1, 2], [3, 3, 3], [0, 1, 3]])
    rows = torch.tensor([[0, 1, 3], [0, 1, 3], [1, 0, 2], [2, 2, 2]], dtype=torch.uint8)
    share, error = copied_share(row_keys(rows), row_keys(train))
    assert share == 0.5
    assert error == pytest.approx(math.sqrt(0.25 / 3))


def test_copies_of_uniform_rows_are_as_many_as_the_law_says():
    """A row is not among M draws of V equal ones with probability (1 - 1 / V)^M."""
    V, M = 4**4, 200
    found = []
    for i in range(80):
        rows, train = Rng(i).integers(4, (300, 4)), Rng(i).fold("train").integers(4, (M, 4))
        found.append(copied_share(row_keys(rows), row_keys(train)))
    share, error = torch.tensor(found, dtype=torch.float64).T
    expected = 1 - (1 - 1 / V) ** M
    assert abs(share.mean() - expected) < 4 * share.std() / 80**0.5
    # The error is of the rows given the training set, whose own spread comes on top.
    assert 0.5 < error.mean() / share.std() < 1.1


def test_noise_has_its_share_keeps_the_classes_and_the_pads():
    sizes = (2, 5, 10)
    rows = torch.zeros(20_000, 3, dtype=torch.int64)
    x = noised_tokens(rows, sizes, 0.3, Rng(0))
    for c, K in enumerate(sizes):
        share = x[:, c].bincount(minlength=K) / len(x)
        expected = torch.full((K,), 0.3 / K)
        expected[0] += 0.7
        assert share.tolist() == pytest.approx(expected.tolist(), abs=4 * 0.5 / len(x) ** 0.5)
    padded = rows.clone()
    padded[:, 2] = 4
    y = noised_tokens(padded, (6,), 1.0, Rng(0), pad=4)
    assert (y[:, 2] == 4).all()
    assert sorted(y[:, :2].unique().tolist()) == [0, 1, 2, 3, 5]
    assert torch.equal(noised_tokens(rows, sizes, 0.0, Rng(0)), rows)


def test_means_of_one_and_of_none():
    mean, error = mean_and_error(torch.tensor([True]))
    assert mean == 1
    assert math.isnan(error)
    with pytest.raises(ValueError, match="no values"):
        mean_and_error(torch.empty(0))
    with pytest.raises(ValueError, match=r"in \[0, 1\], got 2"):
        noised_tokens(torch.zeros(1, 1), (2,), 2, Rng(0))
