"""Schedules: the table and the end points of the paper's file (checks 7 and 8)."""

import math
from fractions import Fraction

import pytest
import torch
from oracles import F64

from noiseloom.noise import (
    DDPM,
    EDM,
    SCHEDULES,
    Cosine,
    LinearGamma,
    RectifiedFlow,
    ScaledCosine,
    Schedule,
    Sigmoid,
)

EVERY = {
    **SCHEDULES,
    "cosine-half": ScaledCosine(end=0.5),
    "cosine-inner": ScaledCosine(start=0.2, end=0.9, tau=2.0),
    "sigmoid-sharp": Sigmoid(tau=0.9),
    "sigmoid-skewed": Sigmoid(start=0.0, end=3.0, tau=0.7),
    "edm-small": EDM(sigma_max=5.0, rho=3.0),
    "ddpm-constant": DDPM(beta_min=8.0, beta_max=8.0),
}
every = pytest.mark.parametrize("schedule", EVERY.values(), ids=EVERY)
preserving = pytest.mark.parametrize(
    "schedule", [s for s in EVERY.values() if not isinstance(s, EDM | RectifiedFlow)], ids=str
)


def at(*t, dtype=F64):
    return torch.tensor(t, dtype=dtype)


TABLE = {  # gamma at t = 0, .25, .5, .75, 1
    Cosine(): (0.9999999013532888, 0.85340067, 0.49988222, 0.14643273, 6.165419642888e-9),
    ScaledCosine(): (1, 0.85355339, 0.5, 0.14644661, 1e-9),
    ScaledCosine(end=0.5): (1, 0.92387953, 0.70710678, 0.38268343, 1e-9),
    Sigmoid(): (1, 0.85085355, 0.5, 0.14914645, 1e-9),
    Sigmoid(tau=0.9): (1, 0.86637029, 0.5, 0.13362971, 1e-9),
    LinearGamma(): (1, 0.75, 0.5, 0.25, 1e-9),
}


@pytest.mark.parametrize(("schedule", "gammas"), TABLE.items(), ids=map(str, TABLE))
def test_check_7_the_papers_table(schedule, gammas):
    alpha, _ = schedule(at(0, 0.25, 0.5, 0.75, 1))
    torch.testing.assert_close(alpha**2, at(*gammas), rtol=0, atol=5e-9)
    # The ends are given to more digits (the file's cos^2 near pi / 2 is itself off by 7e-12).
    torch.testing.assert_close(alpha[[0, -1]] ** 2, at(gammas[0], gammas[-1]), rtol=1e-11, atol=0)


def test_check_7_the_cosines_log_snr_at_its_ends():
    assert Cosine().log_snr(at(0, 1)).tolist() == pytest.approx([16.13, -18.90], abs=5e-3)
    alpha, sigma = Cosine()(at(1, 0))
    assert float(alpha[0]) == pytest.approx(7.85e-5, rel=1e-3)
    assert float(sigma[1]) == pytest.approx(3.14e-4, rel=1e-3)


def test_check_7_closed_forms_away_from_the_clip():
    t = torch.linspace(0, 0.999, 1000, dtype=F64)
    torch.testing.assert_close(
        ScaledCosine()(t)[0], (math.pi / 2 * t).cos(), rtol=1e-12, atol=1e-15
    )
    torch.testing.assert_close(LinearGamma()(t)[0] ** 2, 1 - t, rtol=1e-14, atol=0)
    for end, tau in ((3.0, 1.0), (1.0, 0.3), (5.0, 2.0)):
        alpha, _ = Sigmoid(-end, end, tau)(at(0.5))
        assert float(alpha**2) == pytest.approx(0.5, rel=1e-15)


@every
@pytest.mark.parametrize("dtype", [torch.float32, F64], ids=str)
def test_check_7_log_snr_never_rises_and_gamma_is_in_range(schedule, dtype):
    t = torch.linspace(0, 1, 10_001, dtype=dtype)
    alpha, sigma = schedule(t)
    log_snr = schedule.log_snr(t)
    assert alpha.dtype == sigma.dtype == log_snr.dtype == dtype
    assert (log_snr.diff() <= 0).all()
    if dtype == F64:  # strictly, but where gamma is clipped
        clip = getattr(schedule, "clip", -1)
        assert (log_snr.diff()[alpha[1:] ** 2 > clip * (1 + 1e-9)] < 0).all()
        assert (alpha.diff() <= 0).all()
        assert (sigma.diff() >= 0).all()
    assert (alpha >= 0).all()
    assert (sigma >= 0).all()


@preserving
@pytest.mark.parametrize("dtype", [torch.float32, F64], ids=str)
def test_check_8_variance_is_preserved_to_precision(schedule, dtype):
    alpha, sigma = schedule(torch.linspace(0, 1, 1001, dtype=dtype))
    off = (alpha.double() ** 2 + sigma.double() ** 2 - 1).abs().max()
    assert off < 4 * torch.finfo(dtype).eps


def test_check_8_sigma_at_0_in_float32():
    _, sigma = Cosine()(at(0, dtype=torch.float32))
    assert float(sigma) == pytest.approx(3.1408e-4, rel=2e-5)  # by subtraction: 3.4527e-4
    exact = math.sin(2e-4 / (1 + 2.5e-4) * math.pi / 2)
    assert float(sigma) == pytest.approx(exact, rel=2**-23)


@pytest.mark.parametrize("dtype", [torch.float32, F64], ids=str)
def test_both_ends_to_a_few_ulp(dtype):
    """Against exact rationals, or series where the value vanishes, at times beside both ends."""
    eps = torch.finfo(dtype).eps
    small = [2.0**-k for k in (40, 20, 10)] if dtype == F64 else [2.0**-k for k in (40, 20, 12)]
    near_one = [1 - 2.0**-k for k in (20, 12, 8)]

    def close(value, exact):
        assert float(value) == pytest.approx(float(exact), rel=4 * eps, abs=0)

    for t in small:
        close(LinearGamma()(at(t, dtype=dtype))[1], math.sqrt(t))
        close(RectifiedFlow()(at(t, dtype=dtype))[1], t)
        if dtype == F64 or t >= 2**-12:  # not below the smallest number
            close(EDM()(at(t, dtype=dtype))[1], 80 * Fraction(t) ** 7)
        close(ScaledCosine()(at(t, dtype=dtype))[1], math.sin(math.pi / 2 * t))
        beta = 0.1 * t + 9.95 * t * t
        close(DDPM()(at(t, dtype=dtype))[1], math.sqrt(-math.expm1(-beta)))
        close(Cosine()(at(t, dtype=dtype))[1], math.sin((t + 2e-4) / 1.00025 * math.pi / 2))
    for t in near_one:
        rest = 1 - t  # exact
        close(LinearGamma()(at(t, dtype=dtype))[0], math.sqrt(rest))
        close(RectifiedFlow()(at(t, dtype=dtype))[0], rest)
        close(ScaledCosine(clip=0)(at(t, dtype=dtype))[0], math.sin(math.pi / 2 * rest))
        close(Cosine()(at(t, dtype=dtype))[0], math.sin((rest + 5e-5) / 1.00025 * math.pi / 2))
    # The sigmoid by its defining difference in rationals-with-exp at a time where it has digits.
    for t in (0.25, 0.5, 0.75):
        s = [1 / (1 + math.exp(-v)) for v in (3.0, 6 * t - 3, -3.0)]
        gamma = (s[0] - s[1]) / (s[0] - s[2])
        close(Sigmoid()(at(t, dtype=dtype))[0], math.sqrt(gamma))
    # Beside its ends by the derivative: 1 - gamma ~ t s'(start) span / [s(end) - s(start)].
    slope = 6 * (1 / (1 + math.exp(3))) * (1 / (1 + math.exp(-3)))
    slope /= 1 / (1 + math.exp(-3)) - 1 / (1 + math.exp(3))
    t = 2.0**-40
    assert float(Sigmoid()(at(t))[1]) ** 2 == pytest.approx(slope * t, rel=1e-10)


@pytest.mark.parametrize(
    ("schedule", "clean", "noisy"),
    [
        (ScaledCosine(), (1, 0), (math.sqrt(1e-9), math.sqrt(1 - 1e-9))),
        (ScaledCosine(0.2, 0.9, 2.0), (1, 0), (math.sqrt(1e-9), math.sqrt(1 - 1e-9))),
        (ScaledCosine(clip=0.0), (1, 0), (0, 1)),
        (Sigmoid(), (1, 0), (math.sqrt(1e-9), math.sqrt(1 - 1e-9))),
        (LinearGamma(clip=0.0), (1, 0), (0, 1)),
        (DDPM(), (1, 0), (math.exp(-10.05 / 2), math.sqrt(-math.expm1(-10.05)))),
        (EDM(), (1, 0), (1, 80)),
        (RectifiedFlow(), (1, 0), (0, 1)),
    ],
    ids=str,
)
def test_the_ends_are_met_exactly(schedule, clean, noisy):
    for dtype in (torch.float32, F64):
        alpha, sigma = schedule(at(0, 1, dtype=dtype))
        assert (float(alpha[0]), float(sigma[0])) == clean
        expected = at(*noisy).to(dtype)
        torch.testing.assert_close(
            torch.stack((alpha[1], sigma[1])), expected, rtol=6 * torch.finfo(dtype).eps, atol=0
        )


@every
def test_log_snr_is_that_of_the_pair_and_time_inverts_it(schedule):
    t = torch.linspace(0.001, 0.999, 999, dtype=F64)
    alpha, sigma = schedule(t)
    torch.testing.assert_close(
        schedule.log_snr(t), 2 * (alpha / sigma).log(), rtol=1e-10, atol=1e-10
    )
    torch.testing.assert_close(schedule.time(schedule.log_snr(t)), t, rtol=0, atol=1e-9)
    levels = torch.linspace(-8, 12, 101, dtype=F64)
    inside = (levels > schedule.log_snr(at(1.0))) & (levels < schedule.log_snr(at(0.0)))
    back = schedule.log_snr(schedule.time(levels[inside]))
    torch.testing.assert_close(back, levels[inside], rtol=0, atol=1e-7)
    single = schedule.time(levels.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), schedule.time(levels), rtol=0, atol=1e-6)


@every
def test_infinite_log_snr_at_ends_without_noise_or_signal(schedule):
    t = at(0, 1)
    alpha, sigma = schedule(t)
    log_snr = schedule.log_snr(t)
    assert not log_snr.isnan().any()
    assert (float(log_snr[0]) == torch.inf) == (float(sigma[0]) == 0)
    assert (float(log_snr[1]) == -torch.inf) == (float(alpha[1]) == 0)


@every
def test_any_shape_and_a_scalar_work(schedule):
    assert isinstance(schedule, Schedule)
    for shape in ((), (1,), (2, 1, 3)):
        t = torch.full(shape, 0.3, dtype=F64)
        for value in (*schedule(t), schedule.log_snr(t), schedule.time(t)):
            assert value.shape == shape


@pytest.mark.parametrize(
    "make",
    [
        lambda: ScaledCosine(start=0.5, end=0.5),
        lambda: ScaledCosine(end=1.1),
        lambda: ScaledCosine(tau=0),
        lambda: Sigmoid(start=3, end=-3),
        lambda: Sigmoid(tau=-1),
        lambda: DDPM(beta_min=0),
        lambda: DDPM(beta_min=3, beta_max=2),
        lambda: EDM(sigma_max=0),
        lambda: EDM(rho=0),
    ],
)
def test_impossible_parameters_raise(make):
    with pytest.raises(ValueError, match="needs"):
        make()


@pytest.mark.parametrize("tau", [0.5, 1, 2, 3])
@pytest.mark.parametrize("start", [0.1, 0.2, 0.3, 0.7])
def test_a_late_start_reaches_the_noisy_end(start, tau):
    schedule = ScaledCosine(start=start, tau=tau)
    for dtype in (torch.float32, torch.float64):
        alpha, sigma = schedule(torch.ones((), dtype=dtype))
        assert float(alpha) == pytest.approx(math.sqrt(schedule.clip), rel=1e-6)
        assert float(sigma) == pytest.approx(1, rel=1e-6)


def test_a_clip_out_of_range_is_refused():
    for kind in (ScaledCosine, Sigmoid, LinearGamma):
        with pytest.raises(ValueError, match="clip must be in"):
            kind(clip=2.0)
