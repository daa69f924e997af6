"""How whole the futures of Monte Carlo guidance are: their law, exactly, for each way to draw them.

17 tokens of an AR(1) process of unit variance, as many as a plan in umaze has, the first of them
known. The exact denoiser is linear, so that what completes a future is a product of matrices.
"""

import math
from dataclasses import replace

import pytest
import torch
from oracles import F64, Correlated

from noiseloom.diffusion import GaussianDiffusion
from noiseloom.guidance import MonteCarloGuided, completing
from noiseloom.noise import SCHEDULES
from noiseloom.recipes import ForcingMaze
from noiseloom.recipes.forcing import token_plan
from noiseloom.rng import Rng

T = 17
SCHEDULE = SCHEDULES["cosine"]
DIFFUSION = GaussianDiffusion(SCHEDULE)


def process(correlation):
    return correlation ** (torch.arange(T, dtype=F64)[:, None] - torch.arange(T)).abs()


def present(time):
    t = torch.full((1, T), time, dtype=F64)
    t[0, 0] = 0
    return t


def posterior(C, t):
    """d E[x_0 | x_t] / d x_t and the covariance of x_0 given x_t."""
    alpha, sigma = SCHEDULE(t[0])
    gain = Correlated(SCHEDULE, C).gain(alpha, sigma)
    return gain, C - (gain * alpha) @ C


def law(plan, C, t, noise):
    """d F / d x_t and the covariance of a future F over its draws, and its rows.

    What a future is, is what was said of each token in its last row: states and results are moved
    side by side.
    """
    denoiser = Correlated(SCHEDULE, C)
    unit = Rng(0).fold("move").normal((1, T, T + 1), F64)[0]
    states = torch.cat((torch.zeros(T, 1, dtype=F64), torch.eye(T, dtype=F64)), 1)[None]
    none, same = torch.zeros(T, T, dtype=F64), torch.eye(T, dtype=F64)
    cov, gain, rows = torch.zeros(2 * T, 2 * T, dtype=F64), torch.cat((same, same)), 0
    for a, b in zip(torch.minimum(plan.t[:, 0], t), torch.minimum(plan.s[:, 0], t), strict=True):
        args = DIFFUSION, states, a[None], b[None], {}, {}, None, Rng(0)
        made, said, *_ = completing(noise)(denoiser, *args)
        spread = made[0, :, 0] / unit[:, 0]  # of the state 0 nothing is left but noise
        move = (made[0] - spread[:, None] * unit)[:, 1:]
        decided = torch.where((b < a).expand(T)[:, None], said.mean[0, :, 1:], none)
        kept = torch.where((b < a).expand(T)[:, None], none, same)
        whole = torch.cat((torch.cat((move, none), 1), torch.cat((decided, kept), 1)))
        cov, gain = whole @ cov @ whole.T, whole @ gain
        cov[:T, :T] += spread.square().diag()
        rows += bool((b < a).any())
    torch.testing.assert_close(cov[:T, :T], cov[T:, T:], rtol=1e-9, atol=1e-9)
    return gain[T:], cov[T:, T:], rows


# Plan, steps, noise, rows from noise on; shares of the variance for correlations of 0.8 and 0.95,
# each from noise on and from time 0.6.
SHARES = [
    ("full-sequence", 4, "small", 4, (0.39, 0.32, 0.37, 0.31)),  # what was the default
    ("full-sequence", 4, "large", 4, (0.69, 0.75, 0.62, 0.70)),
    ("full-sequence", 8, "small", 8, (0.60, 0.50, 0.58, 0.48)),
    ("full-sequence", 8, "large", 8, (0.86, 0.93, 0.82, 0.92)),
    ("full-sequence", 16, "small", 16, (0.76, 0.68, 0.75, 0.67)),
    ("full-sequence", 16, "large", 16, (0.93, 0.98, 0.91, 0.99)),  # what is
    ("pyramid:1", 8, "small", 23, (0.62, 0.51, 0.60, 0.49)),
    ("pyramid:1", 8, "large", 23, (0.91, 0.98, 0.95, 1.03)),
    ("chunked:4", 8, "large", 40, (0.95, 0.99, 1.03, 1.04)),
    ("trapezoid:1", 8, "large", 16, (0.90, 0.98, 0.91, 1.02)),
    ("autoregressive", 4, "small", 64, (0.40, 0.32, 0.27, 0.23)),
    ("autoregressive", 4, "large", 64, (0.96, 0.88, 0.79, 0.70)),
    ("autoregressive", 8, "small", 128, (0.58, 0.51, 0.47, 0.43)),
    ("autoregressive", 8, "large", 128, (1.07, 1.07, 1.15, 1.14)),
]


@pytest.mark.parametrize(("name", "steps", "noise", "rows", "shares"), SHARES)
def test_the_share_of_the_variance_that_futures_have(name, steps, noise, rows, shares):
    found = []
    for correlation in (0.8, 0.95):
        C = process(correlation)
        for time in (1.0, 0.6):
            t = present(time)
            gain, cov, count = law(token_plan(name, steps, T), C, t, noise)
            exact, left = posterior(C, t)
            # Whatever the order and the noise, futures have the right mean.
            torch.testing.assert_close(gain[:, t[0] < 1], exact[:, t[0] < 1], rtol=1e-6, atol=1e-6)
            found.append(float(cov.trace() / left.trace()))
            assert count == rows or time < 1
    assert found == pytest.approx(shares, abs=0.006)


@pytest.mark.parametrize("noise", ["small", "large"])
@pytest.mark.parametrize("name", ["full-sequence", "pyramid:1", "autoregressive"])
def test_with_many_steps_every_order_has_the_whole_law(name, noise):
    C, t = process(0.8), present(0.6)
    _, left = posterior(C, t)
    errors = [
        float((law(token_plan(name, steps, T), C, t, noise)[1] - left).abs().max())
        for steps in (20, 80)
    ]
    assert errors[1] < (0.05 if noise == "small" else 0.02)
    assert math.log(errors[0] / errors[1], 4) > 0.4


@pytest.mark.parametrize("noise", ["small", "large"])
def test_futures_that_are_drawn_have_that_law(noise):
    seen, C, t = [], process(0.8), present(0.6)

    def watch(x):
        seen.append(x[..., 0].detach())
        return x.sum((1, 2))

    n, R = 150, 16
    plan = token_plan("full-sequence", 4, T)
    solver = completing(noise)
    denoiser = Correlated(SCHEDULE, C)
    guide = MonteCarloGuided(denoiser, DIFFUSION, watch, futures=R, plan=plan, solver=solver)
    clean = torch.linalg.cholesky(C) @ Rng(1).normal((1, T, 1), F64)
    x = DIFFUSION.corrupt(clean, t, Rng(2)).expand(n, T, 1).contiguous()
    guide(x, t, rng=Rng(3))
    drawn = torch.cat(seen).T.cov()
    assert (drawn - law(plan, C, t, noise)[1]).abs().max() < 5 * math.sqrt(2 / (n * R))


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        ({}, 16),
        ({"future_steps": 4}, 4),
        ({"future_plan": "pyramid:1"}, 8 + 16),
        ({"future_plan": "autoregressive", "future_steps": 2}, 2 * 17),
        ({"network": "causal", "deadline": 0.0}, 4 * 17),
    ],
)
def test_recipes_complete_futures_as_they_are_told(options, rows):
    recipe = ForcingMaze(goal_guidance="monte-carlo", **options)
    facts = {"columns": [""] * 6, "observations": 4, "mean": [0.0] * 6, "std": [1.0] * 6}
    parts = recipe.build(facts)
    maze_goal = recipe.aim(None)[None]
    given = {"observations": torch.tensor([[[1.0, 1.0, 0.0, 0.0]]]), "goal": maze_goal}
    guide = recipe.guide(parts.denoiser, parts, given, facts)
    assert len(guide.plan) == rows
    # Which variance it draws with is read off a move without a denoiser.
    x, half = torch.zeros(1, T, 60), torch.tensor(0.5)

    def moved(made):
        return made.solver(*step, {}, {}, None, Rng(0))[0].std()

    step = guide.denoiser, parts.diffusion, x, torch.tensor(0.9), half
    other = replace(recipe, future_noise="small").guide(parts.denoiser, parts, given, facts)
    assert moved(guide) > 1.05 * moved(other)
