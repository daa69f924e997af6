"""Rows that are made several times keep a law, and lead to it.

Check 13.6 of the notes on Diffusion Forcing, on the AR(1) process of which `test_forcing_oracle`
samples. Everything is linear, so the covariance of what the solver itself makes is exact: noise is
handed out as columns of its own beside the state's (`Columns`).
"""

import pytest
import torch
from oracles import F64, Columns, Correlated

from noiseloom.diffusion import GaussianDiffusion
from noiseloom.noise import LinearGamma
from noiseloom.rng import Rng
from noiseloom.sampling import ancestral, dpm_solver_pp_2m, heun, resampled

T = 4
C = 0.8 ** (torch.arange(T, dtype=F64)[:, None] - torch.arange(T)).abs()
SCHEDULE = LinearGamma(clip=0.0)  # alpha^2 = 1 - t
EXACT = Correlated(SCHEDULE, C, False)
HELD = torch.tensor([0.02, 0.6, 0.6, 0.6], dtype=F64)  # the first token is nearly known


def law(times):
    """Covariance of x_t at these times."""
    signal, noise = SCHEDULE(times)
    return signal[:, None] * C * signal + noise.square().diag()


def after(solver, before, t, s, draws):
    """Covariance after one row, of a state that had `before` ahead of it."""
    x = torch.zeros(1, T, T * (1 + draws), dtype=F64)
    x[0, :, :T] = torch.linalg.cholesky(before)
    diffusion = GaussianDiffusion(SCHEDULE, Columns())
    new, *_ = solver(EXACT, diffusion, x, t[None], s[None], None, {}, None, Rng(0))
    assert diffusion.subspace.drawn == draws
    return new[0] @ new[0].T


def lower(step):
    return HELD - step * (HELD == 0.6)


@pytest.mark.parametrize("eta", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("rounds", [1, 2, 6])
def test_check_13_6_resampling_at_a_level_keeps_the_law_given_the_tokens_that_stay(eta, rounds):
    def error(step):
        solver = resampled(ancestral(eta), rounds)
        draws = (rounds - 1) + rounds * (eta > 0)
        cov = after(solver, law(HELD), HELD, lower(step), draws)
        assert float((cov - law(HELD))[0, 0].abs()) < 1e-15  # the first token stayed
        return float((cov - law(lower(step))).abs().max())

    # A first-order move is off by the square of its step, and so are several of them.
    assert error(0.01) < 3e-4 * rounds
    assert error(0.01) / error(0.005) == pytest.approx(4, abs=0.3)


def test_check_13_6_rounds_lead_tokens_to_the_law_given_the_one_that_stays():
    apart = law(HELD)
    apart[0, 1:] = apart[1:, 0] = 0  # each part right by itself, and nothing between them

    def error(step, rounds):
        end = lower(step)
        solver = resampled(ancestral(1.0), rounds)
        return float((after(solver, apart, HELD, end, 2 * rounds - 1) - law(end)).abs().max())

    assert error(0.05, 1) > 0.4
    coarse, fine = error(0.05, 200), error(0.025, 400)
    assert coarse < 0.05
    assert coarse / fine == pytest.approx(2, abs=0.2)  # what is left is the steps'


@pytest.mark.parametrize(
    "solver", [ancestral(0.0), ancestral(1.0, "large"), heun(), dpm_solver_pp_2m()]
)
def test_one_round_is_the_solver_itself_and_two_are_down_up_and_down(solver):
    diffusion, rng = GaussianDiffusion(SCHEDULE), Rng(3)
    x = diffusion.prior(torch.zeros(5, T, 2, dtype=F64), rng.fold("x"))
    t, s = HELD[None], lower(0.2)[None]

    def move(with_, x, key):
        return with_(EXACT, diffusion, x, t, s, None, {}, None, key)[0]

    assert torch.equal(move(resampled(solver, 1), x, rng), move(solver, x, rng))
    key = rng.fold("round", 0)
    up = diffusion.renoise(move(solver, x, key), s, t, key.fold("up"))
    twice = move(resampled(solver, 2), x, rng)
    assert torch.equal(twice, move(solver, up, rng))
    assert torch.equal(twice[:, 0], x[:, 0])
    assert not torch.equal(twice[:, 1:], move(solver, x, rng)[:, 1:])


def test_a_row_is_made_at_least_once():
    with pytest.raises(ValueError, match="at least once, got 0"):
        resampled(ancestral(), 0)
