import pytest
import torch

from noiseloom.metrics import kid, kid_by_group
from noiseloom.rng import Rng


def _kernel(a, b):
    return float((a @ b / len(a) + 1) ** 3)


def _mean(pairs):
    values = [_kernel(a, b) for a, b in pairs]
    return sum(values) / len(values)


def test_equals_the_double_loop():
    x, y = Rng(0).normal((25, 3), torch.float64), Rng(1).normal((22, 3), torch.float64) + 1
    exact = (
        _mean((x[i], x[j]) for i in range(25) for j in range(25) if i != j)
        + _mean((y[i], y[j]) for i in range(22) for j in range(22) if i != j)
        - 2 * _mean((a, b) for a in x for b in y)
    )
    for blocks in (2, 3, 10):
        assert kid(x, y, Rng(2), blocks=blocks)[0] == pytest.approx(exact, rel=1e-12)


def _draws(shift, repeats=200, n=60, m=90):
    for i in range(repeats):
        rng = Rng(i)
        x = rng.fold("x").normal((n, 2), torch.float64) + shift
        yield kid(x, rng.fold("y").normal((m, 2), torch.float64), rng)


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_is_unbiased_and_its_error_is_right(shift):
    """x ~ N(shift, I), y ~ N(0, I) in two dimensions.

    With u = a . b / 2 the mean of (u + 1)^3 is 1 + 3 E u + 3 E u^2 + E u^3, all from Gaussian
    moments: for means p, q per coordinate E u = p q, E u^2 = ((1 + p^2)(1 + q^2) + p^2 q^2) / 2,
    E u^3 = ((p^3 + 3 p)(q^3 + 3 q) + 3 (1 + p^2)(1 + q^2) p q) / 4.
    """

    def mean(p, q):
        second = ((1 + p * p) * (1 + q * q) + (p * q) ** 2) / 2
        third = ((p**3 + 3 * p) * (q**3 + 3 * q) + 3 * (1 + p * p) * (1 + q * q) * p * q) / 4
        return 1 + 3 * p * q + 3 * second + third

    exact = mean(shift, shift) + mean(0, 0) - 2 * mean(shift, 0)
    estimates, errors = torch.tensor(list(_draws(shift)), dtype=torch.float64).T
    spread = estimates.std()
    assert abs(estimates.mean() - exact) < 4 * spread / len(estimates) ** 0.5
    assert 0.8 < errors.square().mean().sqrt() / spread < 2


def test_grows_with_the_shift():
    means = [torch.tensor([e for e, _ in _draws(s, 30)]).mean() for s in (0.0, 0.3, 0.6, 0.9)]
    assert means == sorted(means)


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (torch.zeros(19, 3), torch.zeros(40, 3), "at least 20 rows"),
        (torch.zeros(20, 3), torch.zeros(20, 4), "one dimension"),
        (torch.full((20, 3), torch.inf), torch.zeros(20, 3), "finite"),
    ],
)
def test_refusals(x, y, words):
    with pytest.raises(ValueError, match=words):
        kid(x, y, Rng(0))


def test_the_error_over_groups_is_that_of_other_groups():
    """Sixteen videos of ten frames that are all but one: an error is of sixteen, not of 160.

    Over 300 draws of videos the spread of the estimate is what the errors say, to the 4 % that a
    deviation of 300 is known to, and 10 % for what a jackknife is off by.
    """
    y, found, blocks = Rng(9).normal((400, 2), torch.float64), [], []
    groups = torch.arange(16).repeat_interleave(10)
    for i in range(300):
        rng = Rng(i)
        x = 0.7 + rng.fold("video").normal((16, 2), torch.float64).repeat_interleave(10, 0)
        x = x + 0.05 * rng.fold("frame").normal((160, 2), torch.float64)
        found.append(kid_by_group(x, y, groups))
        blocks.append(kid(x, y, rng))
    values, errors = torch.tensor(found).unbind(1)
    assert [value for value, _ in blocks] == pytest.approx(values.tolist(), rel=1e-5)
    spread = float(values.std())
    assert float(errors.square().mean().sqrt()) == pytest.approx(spread, rel=0.15)
    alone = torch.tensor(blocks)[:, 1].square().mean().sqrt()
    assert float(alone) < 0.6 * spread  # of frames that are taken for independent


def test_the_error_over_groups_leaves_each_out_by_hand():
    x, y = Rng(0).normal((9, 3), torch.float64) + 1, Rng(1).normal((7, 3), torch.float64)
    groups = torch.tensor([5, 5, 2, 2, 2, 9, 9, 5, 9])

    def alone(rows):
        return kid_by_group(rows, y, torch.zeros(len(rows), dtype=torch.int64))

    value, error = kid_by_group(x, y, groups)
    left = torch.tensor([alone(x[groups != group])[0] for group in (2, 5, 9)]).double()
    assert value == pytest.approx(alone(x)[0], rel=1e-12)
    assert error == pytest.approx(float((2 * left.var(correction=0)).sqrt()), rel=1e-5)
    assert alone(x)[1] is None
    with pytest.raises(ValueError, match=r"two rows or more are needed outside of each group"):
        kid_by_group(x, y, torch.tensor([0] * 8 + [1]))
    with pytest.raises(ValueError, match=r"a group of each of the first are needed"):
        kid_by_group(x, y, groups[1:])
