import math

import pytest
import torch
from oracles import F64, Gaussian, Mixture, Oracle

from noiseloom.diffusion import GaussianDiffusion, ZeroCentre
from noiseloom.likelihood import flow_log_likelihood
from noiseloom.noise import EDM, SCHEDULES, Cosine, RectifiedFlow
from noiseloom.rng import Rng


def log_normal(x, variance):
    return (-0.5 * (x.square() / variance + math.log(2 * math.pi * variance))).flatten(1).sum(1)


def early(schedule):
    return 0.4 if isinstance(schedule, EDM) else 0.02  # a ratio sigma / alpha near 0.03 or more


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("probes", [None, 1, 2])
def test_a_gaussian_is_exact(schedule, probes):
    """Its flow is diagonal, so one probe of +-1 is the exact divergence."""
    v, start = 0.6, early(schedule)
    alpha, sigma = schedule(torch.tensor([start, 1.0], dtype=F64))
    total = alpha**2 * v + sigma**2
    x = float(total[0].sqrt()) * Rng(0).normal((8, 2, 3), F64)
    got = flow_log_likelihood(
        Gaussian(schedule, v),
        GaussianDiffusion(schedule),
        x,
        Rng(1),
        start=start,
        steps=60,
        probes=probes,
    )
    # What is left of the data at t = 1 is not quite N(0, 1): its variance in y is this.
    left = float(total[1] / (alpha[1] ** 2 + sigma[1] ** 2))
    y = x / float(total[0].sqrt()) * math.sqrt(left)
    expected = log_normal(x, float(total[0])) + log_normal(y, 1.0) - log_normal(y, left)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("schedule", [Cosine(), RectifiedFlow()], ids=str)
def test_a_mixtures_density_is_right_and_integrates_to_1(schedule):
    exact, start = Mixture(schedule), torch.tensor(0.05, dtype=F64)
    x = torch.linspace(-5, 5, 2001, dtype=F64)[:, None]
    got = flow_log_likelihood(
        exact, GaussianDiffusion(schedule), x, Rng(0), start=0.05, steps=200, probes=None
    )
    assert float(torch.trapezoid(got.exp(), x[:, 0])) == pytest.approx(1, abs=1e-5)
    near = got > -12
    torch.testing.assert_close(
        got[near], exact.log_density(x, start)[near, ...].reshape(-1), rtol=0, atol=1e-3
    )


class Correlated(Oracle):
    """x_0 ~ N(0, S) with a full covariance."""

    covariance = torch.tensor([[1.0, 0.7, 0.2], [0.7, 0.8, -0.1], [0.2, -0.1, 0.5]], dtype=F64)

    def mean(self, x, alpha, sigma):
        s = self.covariance
        gain = alpha * s @ torch.linalg.inv(alpha**2 * s + sigma**2 * torch.eye(3, dtype=F64))
        return x @ gain.T


def test_hutchinsons_probes_are_unbiased():
    schedule, n = Cosine(), 4000
    d, exact = GaussianDiffusion(schedule), Correlated(schedule)
    x = torch.tensor([[0.5, -1.0, 0.3]], dtype=F64)
    options = {"start": 0.05, "steps": 40}
    truth = flow_log_likelihood(exact, d, x, Rng(0), probes=None, **options)
    alpha, sigma = schedule(torch.tensor(0.05, dtype=F64))
    total = alpha**2 * exact.covariance + sigma**2 * torch.eye(3, dtype=F64)
    normal = torch.distributions.MultivariateNormal(torch.zeros(3, dtype=F64), total)
    torch.testing.assert_close(truth, normal.log_prob(x), rtol=0, atol=1e-5)
    deviations = []
    for probes in (1, 4):
        draws = flow_log_likelihood(
            exact, d, x.expand(n, 3), Rng(1).samples(n), probes=probes, **options
        )
        deviations.append(float(draws.std()))
        assert abs(float(draws.mean() - truth)) < 5 * deviations[-1] / math.sqrt(n)
    assert deviations[0] / deviations[1] == pytest.approx(2, rel=0.15)  # 1 / sqrt(probes)


def test_each_row_has_its_own_probes_and_no_gradient_is_left():
    schedule = Cosine()
    d, exact, x = GaussianDiffusion(schedule), Correlated(schedule), Rng(0).normal((6, 3), F64)
    whole = flow_log_likelihood(exact, d, x, Rng(1).samples(6), steps=10)
    part = flow_log_likelihood(exact, d, x[2:4], Rng(1).samples(2, 2), steps=10)
    torch.testing.assert_close(whole[2:4], part)
    assert not whole.requires_grad
    with torch.no_grad():
        torch.testing.assert_close(
            flow_log_likelihood(exact, d, x, Rng(1).samples(6), steps=10), whole
        )


@pytest.mark.parametrize("steps", [1, 18, 27, 31, 37])
def test_it_ends_at_pure_noise(steps):
    """From 0.1, these steps (but the first) add up to more than pi / 2, where alpha is 0."""
    schedule = RectifiedFlow()
    exact, x = Gaussian(schedule), torch.ones(1, 1, dtype=F64)
    value = flow_log_likelihood(
        exact, GaussianDiffusion(schedule), x, Rng(0), start=0.1, steps=steps
    )
    assert value.isfinite().all()


def test_a_subspace_is_refused():
    with pytest.raises(ValueError, match="whole space"):
        flow_log_likelihood(None, GaussianDiffusion(subspace=ZeroCentre()), torch.zeros(1), Rng(0))
