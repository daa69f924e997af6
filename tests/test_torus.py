"""The torus: wrapping, and the score of the wrapped normal against autograd of long series."""

import math

import pytest
import torch
from oracles import F64

from noiseloom.manifolds import Torus
from noiseloom.manifolds.torus import CROSSOVER, by_images, by_waves, wrap
from noiseloom.rng import Rng

PI = math.pi
ANGLES = torch.linspace(-PI, PI, 257, dtype=F64)[:-1]
ZERO = torch.zeros((), dtype=F64)


def at(value):
    return torch.tensor(value, dtype=F64)


def images(x, sigma, terms=60):
    """Log-density of the wrapped normal by far more images than are needed."""
    k = torch.arange(-terms, terms + 1, dtype=F64)
    off = (x[..., None] + 2 * PI * k) / sigma
    return torch.logsumexp(-off * off / 2, -1) - math.log(sigma * math.sqrt(2 * PI))


def waves(x, sigma, terms=60):
    """The same by its Fourier series, for sigma >= 0.5 or so."""
    n = torch.arange(1, terms + 1, dtype=F64)
    series = 1 + 2 * ((-n * n * sigma**2 / 2).exp() * (n * x[..., None]).cos()).sum(-1)
    return (series / (2 * PI)).log()


def slope(log_density, x, sigma):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(log_density(x, sigma).sum(), x)[0]


def test_wrapping_is_the_identity_bit_for_bit_where_there_is_nothing_to_wrap():
    for dtype in (torch.float32, F64):
        x = (PI * (2 * Rng(0).uniform((10_000,)).double() - 1)).to(dtype)
        x = torch.cat((x, torch.tensor([0.0, -0.0, 1e-30, -PI, 3.1415], dtype=dtype)))
        assert torch.equal(wrap(x), x)


def test_wrapping_stays_in_range_and_changes_by_whole_turns():
    for dtype, close in ((torch.float32, 2e-5), (F64, 1e-13)):
        pi = torch.tensor(PI, dtype=dtype)
        edge = torch.stack((pi, -pi, 3 * pi, -3 * pi))
        near = torch.cat([torch.nextafter(edge, edge * sign) for sign in (0.0, 2.0)])
        x = torch.cat((edge, near, 30 * Rng(0).normal((10_000,), dtype)))
        y = wrap(x)
        assert (y >= -pi).all()
        assert (y < pi).all()
        assert ((x - y) / (2 * PI) - ((x - y) / (2 * PI)).round()).abs().max() < close
    assert wrap(at(math.nan)).isnan()
    x = at([-9.0, 0.2, PI, 11.0]).requires_grad_()
    assert torch.equal(torch.autograd.grad(wrap(x).sum(), x)[0], torch.ones(4, dtype=F64))


@pytest.mark.parametrize("sigma", [0.05, 0.3, 1.0, 2.0, 2.5, 2.6, 4.0, 9.0])
def test_score_is_the_slope_of_the_log_density(sigma):
    """Both long series under autograd, and central differences of one."""
    got = Torus().score(ZERO, ANGLES, at(sigma))
    torch.testing.assert_close(got, slope(images, ANGLES, sigma), rtol=1e-11, atol=1e-13)
    if sigma >= 1:
        torch.testing.assert_close(got, slope(waves, ANGLES, sigma), rtol=1e-11, atol=1e-13)
    h = 1e-5
    differences = (images(ANGLES + h, sigma) - images(ANGLES - h, sigma)) / (2 * h)
    third = max(1.0, sigma**-6)  # of the error h^2 / 6 times the third derivative
    torch.testing.assert_close(got, differences, rtol=1e-6, atol=1e-9 * third)


def test_the_two_series_agree_on_both_sides_of_where_one_takes_over():
    for sigma in (0.85, 0.95, 1.0, 1.05, 1.15):
        s = at(CROSSOVER * sigma)
        torch.testing.assert_close(by_images(ANGLES, s), by_waves(ANGLES, s), rtol=1e-8, atol=1e-10)
    # Where they meet, each is exact to rounding: what is left out is below 2e-16.
    s = at(CROSSOVER)
    torch.testing.assert_close(by_images(ANGLES, s), by_waves(ANGLES, s), rtol=0, atol=2e-15)


def test_score_is_odd_and_periodic_and_minus_x_over_variance_where_sigma_is_small():
    torus, x = Torus(), ANGLES[1:]
    for sigma in (0.2, 1.0, 5.0):
        s = at(sigma)
        score = torus.score(ZERO, x, s)
        torch.testing.assert_close(score, -torus.score(ZERO, -x, s), rtol=0, atol=1e-13)
        turned = torus.score(at(2.0), wrap(x + 2.0), s)
        torch.testing.assert_close(score, turned, rtol=1e-11, atol=1e-12)
    small = x[x.abs() < 2]
    torch.testing.assert_close(torus.score(ZERO, small, at(0.1)), -small / 0.01, rtol=1e-14, atol=0)


def test_score_is_stable_in_float32_at_every_noise_level():
    """sigma times the score, which is what is learnt, where p_sigma has mass."""
    torus, u = Torus(), PI * torch.finfo(torch.float32).eps
    for sigma in (*(10.0**-e for e in range(6)), 2.0, 2.5, 2.6, 3.0, 6.0, 9.0, 80.0, 1e10):
        x = (torch.linspace(-1, 1, 101, dtype=F64) * min(6 * sigma, PI * 0.999)).float()
        s = torch.tensor(sigma)
        got = s * torus.score(torch.zeros(()), x, s)
        exact = sigma * slope(images if sigma < 2.6 else waves, x.double(), float(s))
        # The law is the one of sigma^2 + u^2, u being the rounding of an angle.
        part = 1e-5 + 1.1 * (u / sigma) ** 2
        torch.testing.assert_close(got.double(), exact, rtol=part, atol=2e-6)
    everywhere = torch.cat((ANGLES.float(), torch.tensor([-PI, PI, 0.0])))
    for sigma in (0.0, 1e-45, 1e-30, 1e-8, 1e-7, 1e-6, 1e-3, 1.0, 1e19, 3e38):
        score = torus.score(torch.zeros(()), everywhere, torch.tensor(sigma))
        assert score.isfinite().all(), sigma


def test_below_the_rounding_of_an_angle_the_target_vanishes_instead_of_exploding():
    """x_0 + sigma eps rounded to an angle: eps is lost, and a rounding over sigma would be huge."""
    torus, n = Torus(), 100_000
    clean = torus.uniform(torch.empty(n), Rng(0))
    for sigma in (0.0, 1e-14, 1e-10, 1e-8, 1e-7, 1e-6, 1e-4, 1e-2):
        s = torch.tensor(sigma)
        x = torus.heat(clean, s, Rng(1))
        target = s * torus.score(clean, x, s)
        assert target.square().mean() < 1.02
        if sigma >= 1e-4:
            assert target.square().mean() > 0.98


def test_what_is_left_of_the_start_at_a_noise_level_is_what_the_density_says():
    torus = Torus()
    for sigma in (3.0, 5.0):
        density = waves(ANGLES, sigma).exp() * 2 * PI
        assert torus.remnant(sigma) == pytest.approx(float((density - 1).abs().max()), rel=1e-5)
    assert torus.remnant(9.0) < 2**-53


def test_heat_has_the_wrapped_normal_law_and_two_of_it_are_one():
    torus, n = Torus(), 100_000
    start = at([[2.9, -1.0]]).expand(n, 2)
    for first, second in ((0.5, 0.0), (0.6, 0.8), (1.5, 1.0)):
        x = torus.heat(torus.heat(start, at(first), Rng(0)), at(second), Rng(1))
        for order in (1, 2, 3):
            turned = order * (x - start)
            expected = math.exp(-(order**2) * (first**2 + second**2) / 2)
            assert (turned.cos().mean(0) - expected).abs().max() < 5 / math.sqrt(2 * n)
            assert turned.sin().mean(0).abs().max() < 5 / math.sqrt(2 * n)


def test_uniform_draws_are_uniform_and_in_range():
    for dtype in (torch.float32, F64):
        x = Torus().uniform(torch.empty(100_000, 2, dtype=dtype), Rng(0))
        assert x.dtype == dtype
        assert (x >= -PI).all()
        assert (x < PI).all()
        for order in (1, 2, 3):
            assert (order * x).cos().mean(0).abs().max() < 5 / math.sqrt(200_000)
            assert (order * x).sin().mean(0).abs().max() < 5 / math.sqrt(200_000)


def test_features_know_no_seam():
    torus = Torus()
    pi = at([[PI - 1e-9, 0.0]])
    seam = torus.features(pi) - torus.features(torus.exp(pi, at(2e-9)))
    assert seam.abs().max() < 1e-8
    assert torus.features(torch.zeros(2, 3, 5)).shape == (2, 3, 10)
