import pytest
import torch

from noiseloom.metrics import kid
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
