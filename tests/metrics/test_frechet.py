import pytest
import torch

from noiseloom.metrics import frechet, frechet_of_moments, frechet_spread
from noiseloom.rng import Rng


def _with_moments(n, mean, root, rng):
    """n points whose sample mean is `mean` and sample covariance root root^T, exactly."""
    x = rng.normal((n, len(mean)), torch.float64)
    x = x - x.mean(0)
    x = x @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.mT))).mT
    return x @ root.mT + mean


def test_two_dimensions_closed_form():
    """tr (S1 S2)^(1/2) = (tr S1 S2 + 2 (det S1 S2)^(1/2))^(1/2) for 2 x 2; they do not commute."""
    A = torch.tensor([[1.0, 0.0], [0.7, 0.4]], dtype=torch.float64)
    B = torch.tensor([[0.3, -1.1], [0.0, 2.0]], dtype=torch.float64)
    m, k = torch.tensor([1.0, -2.0]).double(), torch.tensor([0.5, 0.0]).double()
    S, T = A @ A.mT, B @ B.mT
    cross = ((S @ T).trace() + 2 * (torch.det(S) * torch.det(T)).sqrt()).sqrt()
    exact = float((m - k).square().sum() + S.trace() + T.trace() - 2 * cross)
    assert frechet_of_moments(m, S, k, T) == pytest.approx(exact, rel=1e-12)
    x = _with_moments(40, m, A, Rng(0).fold("x"))
    y = _with_moments(40, k, B, Rng(0).fold("y"))
    assert frechet(x, y) == pytest.approx(exact, rel=1e-10)
    assert frechet(y, x) == pytest.approx(exact, rel=1e-10)


def test_diagonal_closed_form_and_singular_covariances():
    a, b = torch.tensor([4.0, 1.0, 0.0]), torch.tensor([1.0, 9.0, 2.25])
    zero = torch.zeros(3)
    exact = float((a.sqrt() - b.sqrt()).square().sum())
    assert frechet_of_moments(zero, a.diag(), zero, b.diag()) == pytest.approx(exact, rel=1e-7)


def test_same_set_is_zero_and_turning_changes_nothing():
    x, y = Rng(1).normal((2, 60, 5), torch.float64)
    turn = torch.linalg.qr(Rng(2).normal((5, 5), torch.float64)).Q
    assert frechet(x, x.flip(0)) == pytest.approx(0, abs=1e-12)
    assert frechet(3 * x @ turn + 1, 3 * y @ turn + 1) == pytest.approx(9 * frechet(x, y))


def test_bias_is_of_order_one_over_n():
    """Parts of a tenth of the size: ten times the bias, and nothing but bias is there."""
    x, y = Rng(3).normal((2, 4000, 4), torch.float64)
    parts = frechet_spread(x, y, 10, Rng(0))
    assert parts.shape == (10,)
    assert 5 < parts.mean() / frechet(x, y) < 20


def test_spread_uses_every_row_once():
    """Distances of parts of one point cloud and its shift: each part sees the shift of the mean."""
    x = Rng(4).normal((40, 1), torch.float64)
    whole = frechet_spread(x, x + 5, 1, Rng(0))
    assert whole.item() == pytest.approx(25)


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (torch.zeros(20, 3), torch.zeros(21, 3), "equal size"),
        (torch.zeros(5, 3), torch.zeros(5, 3), "at least 6 rows, got 5"),
        (torch.full((20, 3), torch.nan), torch.zeros(20, 3), "finite"),
    ],
)
def test_refusals(x, y, words):
    with pytest.raises(ValueError, match=words):
        frechet(x, y)


def test_small_sets_on_request():
    assert frechet(torch.zeros(5, 3), torch.ones(5, 3), allow_small=True) == pytest.approx(3)
