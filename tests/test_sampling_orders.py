"""Orders of convergence on a Gaussian mixture, against its exact flow (which keeps quantiles).

Steps are uniform where sigma is a smooth function of the grid at the clean end: t^7 of `EDM`. On
grids whose log-SNR jumps there (`Cosine`, `RectifiedFlow` in uniform t) 2M is still on its way to
order 2 at these step counts (1.72, 1.76): its history spans steps of very different length.
"""

import math

import pytest
import torch
from oracles import F64, Leaning, Mixture

from noiseloom.diffusion import GaussianDiffusion
from noiseloom.noise import EDM, Cosine, RectifiedFlow
from noiseloom.plan import SamplingPlan
from noiseloom.rng import Rng
from noiseloom.sampling import ancestral, dpm_solver_pp_2m, final, heun, sample

STEPS = (160, 320, 640, 1280)
GRIDS = {
    "edm": (EDM(), SamplingPlan.uniform),
    "karras": (EDM(), lambda n: SamplingPlan.karras(n, EDM(), sigma_min=1e-5)),
    "cosine": (Cosine(), SamplingPlan.uniform),
    "rectified-flow": (RectifiedFlow(), SamplingPlan.uniform),
}
SOLVERS = {
    "ddim": ancestral(),
    "heun": heun(),
    "heun-edm": heun(math.inf),
    "2m": dpm_solver_pp_2m(),
}


def order(grid, solver, leaning=0.0):
    """Minus the slope of ln error against ln N."""
    schedule, plan = GRIDS[grid]
    exact, d = Mixture(schedule), GaussianDiffusion(schedule)
    denoiser = Leaning(exact, leaning) if leaning else exact
    ends = torch.tensor([1.0, 0.0], dtype=F64)
    x = torch.linspace(-2, 2, 41, dtype=F64) * schedule(ends)[1][0]
    truth = exact.flow(x, *ends)
    errors = []
    for n in STEPS:
        got = final(sample(denoiser, d, plan(n), x, rng=Rng(0), solver=SOLVERS[solver])).x
        errors.append(float((got - truth).square().mean().sqrt()))
    k = torch.tensor(STEPS, dtype=F64).log()
    e = torch.tensor(errors, dtype=F64).log()
    return -float(((k - k.mean()) * (e - e.mean())).sum() / (k - k.mean()).square().sum())


@pytest.mark.parametrize(
    ("grid", "solver", "expected"),
    [
        ("edm", "ddim", 1),
        ("edm", "heun", 2),
        ("edm", "heun-edm", 2),
        ("edm", "2m", 2),
        ("karras", "2m", 2),
        ("cosine", "heun", 2),
        ("rectified-flow", "heun", 2),
    ],
)
def test_orders_with_the_exact_denoiser(grid, solver, expected):
    assert order(grid, solver) == pytest.approx(expected, abs=0.15)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("grid", "solver", "expected"),
    [
        ("karras", "ddim", 1),
        ("karras", "heun", 2),
        ("cosine", "ddim", 1),
        ("rectified-flow", "ddim", 1),
    ],
)
def test_orders_on_the_other_grids(grid, solver, expected):
    assert order(grid, solver) == pytest.approx(expected, abs=0.15)


@pytest.mark.parametrize("solver", SOLVERS)
def test_leaning_on_the_previous_estimate_lowers_any_solver_to_order_1(solver):
    assert order("edm", solver, leaning=0.5) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("stochasticity", [0.5, 1.0])
def test_stochastic_samplers_converge_in_law(stochasticity):
    """Mean and variance of a mixture's samples, within five standard errors."""
    schedule, n = Cosine(), 20_000
    exact, d = Mixture(schedule), GaussianDiffusion(schedule)
    x = d.prior(torch.empty(n, dtype=F64), Rng(0))
    plan = SamplingPlan.uniform(150)
    got = final(sample(exact, d, plan, x, rng=Rng(1), solver=ancestral(stochasticity))).x
    mean = float((exact.weights * exact.centres).sum())
    var = float((exact.weights * exact.centres**2).sum()) - mean**2 + exact.std**2
    assert abs(float(got.mean()) - mean) < 5 * math.sqrt(var / n)
    fourth = (got - got.mean()).pow(4).mean()
    assert abs(float(got.var()) - var) < 5 * float((fourth - var**2).sqrt()) / math.sqrt(n) + 0.01
    # The whole law: the distribution function at a few points.
    for point in (-1.5, -0.5, 0.3, 1.0, 2.0):
        p = float(exact.cdf(torch.tensor(point, dtype=F64), torch.zeros((), dtype=F64)))
        share = float((got < point).double().mean())
        assert abs(share - p) < 5 * math.sqrt(p * (1 - p) / n) + 0.003
