"""Churn and Restart: they keep the law, cost what they say, and leave what stays alone.

On Gaussians everything is linear, so the covariance of what the solvers make is exact (`Columns`).
"""

import itertools
import math

import pytest
import torch
from oracles import F64, Columns, Correlated, Gaussian, Mixture

from noiseloom.diffusion import GaussianDiffusion
from noiseloom.noise import EDM, SCHEDULES, Cosine, RectifiedFlow
from noiseloom.plan import SamplingPlan
from noiseloom.rng import Rng
from noiseloom.sampling import ancestral, dpm_solver_pp_2m, final, heun, resampled, sample
from noiseloom.stochastic import churned, restarted, restarts

T = 3
C = 0.8 ** (torch.arange(T, dtype=F64)[:, None] - torch.arange(T)).abs()
schedules = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)


def at(value):
    return torch.tensor(value, dtype=F64)


def run(denoiser, schedule, plan, x, solver, rng=None):
    d = GaussianDiffusion(schedule)
    return final(sample(denoiser, d, plan, x, rng=rng or Rng(5), solver=solver))


def both(solver, steps):
    return restarted(churned(solver, 3, steps))


# The law


def covariance_error(schedule, plan, solver):
    """Of what the solver makes of the exact law at time 1, against the law's at time 0."""
    alpha, sigma = schedule(at(1.0))
    begin = alpha * alpha * C + sigma * sigma * torch.eye(T, dtype=F64)
    x = torch.zeros(1, T, T * (1 + 2 * len(plan)), dtype=F64)  # two draws a row at most
    x[0, :, :T] = torch.linalg.cholesky(begin)
    diffusion, exact = GaussianDiffusion(schedule, Columns()), Correlated(schedule, C)
    with torch.no_grad():
        end = final(sample(exact, diffusion, plan, x, rng=Rng(0), solver=solver)).x[0]
    assert diffusion.subspace.drawn > 0
    assert (end[:, T:] != 0).any()  # noise did come in
    return float((end @ end.T - C).abs().max())


def together(steps, schedule):
    return restarts(SamplingPlan.uniform(steps), 0.25, 0.5, 2)


def one_by_one(steps, schedule):
    return restarts(SamplingPlan.pyramid(steps, T, steps / 2), 0.25, 0.5, 2, rows=steps // 3)


@pytest.mark.parametrize("schedule", [EDM(), Cosine(), RectifiedFlow()], ids=str)
@pytest.mark.parametrize("kind", ["churn", "restart", "both"])
@pytest.mark.parametrize("plan", [together, one_by_one])
def test_the_law_of_a_gaussian_is_kept_to_the_order_of_the_solver(schedule, kind, plan):
    def error(steps):
        rows = plan(steps, schedule)
        if kind == "churn":
            rows = SamplingPlan.uniform(steps)
        solver = churned(heun(), 3, steps)
        solver = {"churn": solver, "restart": restarted(heun()), "both": both(heun(), steps)}[kind]
        return covariance_error(schedule, rows, solver)

    coarse, fine = error(12), error(48)
    assert fine < 0.01
    assert coarse / fine > 9  # order 2: 16 in the limit


@pytest.mark.parametrize("kind", ["churn", "restart"])
def test_the_law_of_a_mixture_is_reached(kind):
    """Energy distance in one dimension, 2 int (F - G)^2 dx, against the exact F."""
    schedule, n = Cosine(), 20_000
    exact, places = Mixture(schedule), torch.linspace(-4, 4, 801, dtype=F64)
    truth = exact.cdf(places, at(0.0))
    x = GaussianDiffusion(schedule).prior(torch.empty(n, dtype=F64), Rng(0))

    def distance(steps):
        plan = SamplingPlan.uniform(steps)
        solver = churned(heun(), 3, steps)
        if kind == "restart":
            plan, solver = restarts(plan, 0.4, 0.8, 3), restarted(heun())
        got = run(exact, schedule, plan, x, solver).x.sort().values
        share = torch.searchsorted(got, places).double() / n
        return 2 * float(((share - truth) ** 2).sum()) * 0.01

    noise = 2 * float((truth * (1 - truth)).sum()) * 0.01 / n  # of n exact draws, on average
    assert distance(40) < 6 * noise
    assert distance(5) > 20 * noise


def test_both_forget_an_error_that_the_solver_alone_keeps():
    """A state that starts at the wrong place: the flow is a bijection, and noise is not."""
    schedule, plan = Cosine(), SamplingPlan.uniform(40)
    exact, x = Gaussian(schedule, 1.0), torch.full((4000,), 3.0, dtype=F64)
    alone = float(run(exact, schedule, plan, x, heun()).x.mean())
    assert alone == pytest.approx(3, abs=0.01)
    churn = run(exact, schedule, plan, x, churned(heun(), 8, 40)).x
    restart = run(exact, schedule, restarts(plan, 0.3, 0.8, 2), x, restarted(heun())).x
    assert abs(float(churn.mean())) < 0.3
    # At unit variance the flow is the identity, and each round keeps alpha_high / alpha_low.
    high, low = schedule(at([0.8, 0.3]))[0].tolist()
    assert float(restart.mean()) == pytest.approx(3 * (high / low) ** 2, abs=5 / math.sqrt(4000))


# What they leave alone


def test_without_churn_it_is_the_solver_itself_and_without_rounds_the_plan():
    solver, plan = heun(), SamplingPlan.uniform(6)
    assert churned(solver, 0, 6) is solver
    assert restarts(plan, 0.2, 0.6, 0) is plan


@schedules
@pytest.mark.parametrize("inner", [ancestral(), ancestral(1.0), heun()])
def test_without_gaps_or_outside_of_the_limits_nothing_changes_bit_for_bit(schedule, inner):
    x = Rng(1).normal((2, 3, 2), F64)
    for plan in (SamplingPlan.uniform(5), SamplingPlan.pyramid(4, 3, 2)):
        plain = run(Gaussian(schedule, 0.6), schedule, plan, x, inner).x
        for solver in (
            restarted(inner),
            churned(inner, 9, 5, low=1e9),
            churned(inner, 9, 5, high=1e-9),
        ):
            assert torch.equal(run(Gaussian(schedule, 0.6), schedule, plan, x, solver).x, plain)


@schedules
@pytest.mark.parametrize("wrap", [lambda s: churned(s, 2, 4, noise=1.1), lambda s: both(s, 4)])
def test_tokens_that_stay_are_untouched_bit_for_bit(schedule, wrap):
    plan = restarts(SamplingPlan.autoregressive(4, 3), 0.25, 0.75, 2)
    d, before = GaussianDiffusion(schedule), Rng(0).normal((2, 3, 2), F64)
    steps = sample(
        Gaussian(schedule, 0.6), d, plan, before, rng=Rng(1), solver=wrap(ancestral(0.5))
    )
    for step in steps:
        held = (step.s == step.t).expand(2, 3)
        assert held.sum() == 4
        assert torch.equal(step.x[held], before[held])
        assert (step.x[~held] != before[~held]).all()
        assert step.x.isfinite().all()
        before = step.x


def keys(*shape):
    rng = Rng(6)
    for axis, size in enumerate(shape):
        rng = rng.each(f"axis {axis}", torch.arange(size))
    return rng


@schedules
@pytest.mark.parametrize("inner", [ancestral(1.0), heun()])
def test_they_are_a_loop_over_tokens(schedule, inner):
    plan = restarts(SamplingPlan.pyramid(5, 3, 2), 0.2, 0.6, 1)
    x, key, exact = Rng(9).normal((2, 3, 2), F64), keys(2, 3, 2), Gaussian(schedule, 0.6, 0.2)
    whole = run(exact, schedule, plan, x, both(inner, 5), key)
    for place in itertools.product(range(2), range(3), range(2)):
        t, s = plan.t[:, 0, place[1]], plan.s[:, 0, place[1]]
        alone = run(
            exact, schedule, SamplingPlan(t, s), x[place], both(inner, 5), Rng(key.key[place])
        )
        torch.testing.assert_close(whole.x[place], alone.x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("solver", [churned(heun(), 3, 6), both(heun(), 6)])
@pytest.mark.parametrize("plan", [SamplingPlan.uniform(6), SamplingPlan.full_sequence(6, 3)])
def test_samples_do_not_depend_on_the_batch_that_they_are_in(solver, plan):
    plan, schedule = restarts(plan, 0.2, 0.6, 2), Cosine()
    x = Rng(2).normal((10, 3, 2), F64)

    def part(start, count):
        rng = Rng(1).samples(count, start)
        return run(Mixture(schedule), schedule, plan, x[start : start + count], solver, rng).x

    whole = part(0, 10)
    torch.testing.assert_close(torch.cat((part(0, 3), part(3, 7))), whole, rtol=1e-12, atol=1e-12)
    assert not torch.equal(run(Mixture(schedule), schedule, plan, x, solver, Rng(7)).x, whole)


# Churn


class Told:
    """A solver that makes no move and remembers what it was given."""

    def __call__(self, denoiser, diffusion, x, t, s, cond, carry, memory, rng):
        self.x, self.t, self.memory = x, t, memory
        return x, None, carry, "memory"


@schedules
@pytest.mark.parametrize("churn", [1.0, 3.0, 400.0])
def test_churn_multiplies_the_ratio_by_1_plus_gamma(schedule, churn):
    told, d = Told(), GaussianDiffusion(schedule)
    t, x = at([0.9, 0.5, 0.4, 0.1, 0.3]), torch.zeros(5, dtype=F64)
    s = at([0.5, 0.4, 0.1, 0.0, 0.3])
    ratio = schedule(t)[1] / schedule(t)[0]
    low, high = float(ratio[3] * 1.01), float(ratio[1] * 1.01)
    solver = churned(told, churn, 10, low=low, high=high)
    out = solver(None, d, x, t, s, None, {}, "old", Rng(0))
    alpha, sigma = schedule(told.t)
    gamma = min(churn / 10, math.sqrt(2) - 1)
    factor = at([1, 1 + gamma, 1 + gamma, 1, 1])
    torch.testing.assert_close(sigma / alpha, ratio * factor)
    still = factor == 1
    assert torch.equal(told.t[still], t[still])
    assert not told.x[still].any()
    assert (told.memory, out[-1]) == (None, None)


@schedules
def test_churn_stops_at_time_1(schedule):
    told, t = Told(), at([1.0, 0.999])
    x = torch.ones(2, dtype=F64)
    solver = churned(told, 4, 10)
    solver(None, GaussianDiffusion(schedule), x, t, at([0.5, 0.5]), None, {}, None, Rng(0))
    assert told.t[0] == 1
    assert 0.999 < told.t[1] <= 1
    assert torch.equal(told.x[0], x[0])


def test_s_noise_is_a_factor_of_the_noise_alone():
    schedule, t = RectifiedFlow(), at(0.5)
    x = torch.full((2, 3), 7.0, dtype=F64)

    def risen(noise):
        told = Told()
        solver = churned(told, 2, 10, noise=noise)
        solver(None, GaussianDiffusion(schedule), x, t, at(0.2), None, {}, None, Rng(0))
        return told.x, told.t

    (once, up), (twice, _) = risen(1.0), risen(2.0)
    kept = x * (1 - up) / 0.5
    torch.testing.assert_close(twice - kept, 2 * (once - kept))
    assert (once != kept).all()


def test_churn_costs_no_calls_and_a_multistep_solver_becomes_first_order():
    x, plan = Rng(0).normal((5,), F64), SamplingPlan.uniform(7)
    for inner, calls in ((heun(), 13), (ancestral(), 7), (dpm_solver_pp_2m(), 7)):
        exact = Mixture(Cosine())
        churn = run(exact, Cosine(), plan, x, churned(inner, 2, 7))
        assert exact.calls == calls
    first = run(Mixture(Cosine()), Cosine(), plan, x, churned(ancestral(), 2, 7))
    torch.testing.assert_close(churn.x, first.x)


# Restart


def test_the_rows_of_a_restart():
    plan = restarts(SamplingPlan.uniform(4), 0.26, 0.75, 2)
    rows = [(1, 0.75), (0.75, 0.5), (0.5, 0.25), *[(0.75, 0.5), (0.5, 0.25)] * 2, (0.25, 0)]
    assert list(zip(plan.t.tolist(), plan.s.tolist(), strict=True)) == rows
    # t_max is taken as it is, and other rows lie evenly along the plan's.
    plan = restarts(SamplingPlan.uniform(4), 0.25, 0.6, 1, rows=4)
    assert plan.t.tolist()[3:7] == pytest.approx([0.6, 0.55, 0.5, 0.375])
    assert plan.s.tolist()[3:8] == pytest.approx([0.55, 0.5, 0.375, 0.25, 0])


def test_each_token_restarts_when_it_gets_there_and_the_others_stay():
    plan = restarts(SamplingPlan.autoregressive(2, 2), 0.5, 1.0, 1)
    t, s = [1, 1, 0.5, 0, 0, 0], [0.5, 0.5, 0, 0, 0, 0]
    assert plan.t[:, 0, 0].tolist() == t
    assert plan.s[:, 0, 0].tolist() == s
    t, s = [1, 1, 1, 1, 1, 0.5], [1, 1, 1, 0.5, 0.5, 0]
    assert plan.t[:, 0, 1].tolist() == t
    assert plan.s[:, 0, 1].tolist() == s
    full = restarts(SamplingPlan.full_sequence(2, 2), 0.5, 1.0, 1)  # together: one more row
    assert full.t[:, 0].tolist() == [[1, 1], [1, 1], [0.5, 0.5]]
    held = restarts(SamplingPlan.full_sequence(2, 2).hold([0]), 0.5, 1.0, 1)
    assert held.t[:, 0].tolist() == [[0, 1], [0, 1], [0, 0.5]]


def edm(*sigmas):
    return EDM().time(-2 * at(sigmas).log())


@pytest.mark.parametrize("schedule", [EDM(), Cosine(), RectifiedFlow()], ids=str)
def test_with_a_schedule_the_rows_of_a_round_are_evenly_in_the_root_of_the_ratio(schedule):
    """Karras' levels: 1.5^7 = 17.0859375, 1.25^7 = 4.76837158203125 and 1, whatever the plan's."""
    times = schedule.time(-2 * at([60.0, 17.0, 9.0, 1.0, 0.3]).log())
    plan = SamplingPlan.from_times(torch.cat((at([1.0]), times, at([0.0]))))
    low, high = (float(schedule.time(-2 * at(r).log())) for r in (1.0, 17.0859375))
    again = restarts(plan, low, high, 2, 2, schedule=schedule)
    assert len(again) == len(plan) + 4
    t, s = (torch.exp(schedule.log_snr(x[4:8]) / -2) for x in (again.t, again.s))
    between = 4.76837158203125
    torch.testing.assert_close(t, at([17.0859375, between] * 2), rtol=1e-11, atol=0)
    torch.testing.assert_close(s, at([between, 1.0] * 2), rtol=1e-11, atol=0)
    # By default there are as many as the plan has in between, here from 17 and from 9.
    assert len(restarts(plan, low, high, 2, schedule=schedule)) == len(plan) + 6
    # The ends are taken as they are, to the last bit.
    assert again.t[4] == high
    assert again.s[5] == plan.s[3]


def test_rows_of_a_restart_may_end_where_there_is_no_noise():
    plan = SamplingPlan.from_times(torch.cat((edm(80, 2.0), at([0.0]))))
    again = restarts(plan, 0.0, float(edm(128 / 2**7)[0]), 1, 4, schedule=EDM())
    roots = EDM()(torch.cat((again.t[2:], again.s[-1:])))[1] ** (1 / 7)
    torch.testing.assert_close(roots, at([1, 0.75, 0.5, 0.25, 0]))


def test_rows_from_where_there_is_no_signal_have_no_levels():
    plan, flow = SamplingPlan.uniform(4), RectifiedFlow()
    with pytest.raises(ValueError, match="levels from time 1, where nothing but noise is left"):
        restarts(plan, 0.5, 1.0, 1, schedule=flow)
    assert restarts(plan, 0.5, 1.0, 1, 1, schedule=flow).t.tolist() == [1, 0.75, 1, 0.5, 0.25]


def test_tokens_have_levels_from_where_each_restarts():
    plan = restarts(SamplingPlan.pyramid(8, 3, 2), 0.3, 0.8, 1, 3, schedule=Cosine())
    t, s = plan.t[:, 0], plan.s[:, 0]
    for token in range(3):
        begin = int((t[1:, token] > s[:-1, token]).nonzero()[0]) + 1
        moves = [n for n in range(begin, len(plan)) if s[n, token] < t[n, token]][:3]
        times = torch.stack([t[n, token] for n in moves] + [s[moves[-1], token]])
        roots = torch.exp(Cosine().log_snr(times) / -14)
        torch.testing.assert_close(roots.diff(), roots.diff().mean().expand(3))
        assert (times[0], times[-1]) == (0.8, 0.25)


def test_the_published_setting_of_203_calls():
    """N = 36, and points, rounds, t_min, t_max of each: Xu et al.'s for EDM on ImageNet-64."""
    schedule = EDM()
    plan = SamplingPlan.karras(36, schedule)
    published = (
        (4, 1, 19.35, 40.79),
        (4, 1, 1.09, 1.92),
        (4, 5, 0.59, 1.09),
        (4, 5, 0.30, 0.59),
        (6, 6, 0.06, 0.30),
    )
    for points, rounds, *sigmas in published:
        low, high = schedule.time(-2 * at(sigmas).log()).tolist()
        plan = restarts(plan, low, high, rounds, points - 1, schedule=schedule)
    exact, x = Mixture(schedule), 80 * Rng(0).normal((50,), F64)
    steps = list(
        sample(exact, GaussianDiffusion(schedule), plan, x, rng=Rng(0), solver=both(heun(), 1))
    )
    assert exact.calls == 203
    rises = plan.t[1:] - plan.s[:-1]
    assert (rises >= 0).all()
    assert int((rises > 0).sum()) == 1 + 1 + 5 + 5 + 6
    assert steps[-1].x.isfinite().all()


def test_restarts_wrap_outermost():
    """Inside of `resampled` it would not see where its row ended; outside of it, it does."""
    schedule, plan = Cosine(), restarts(SamplingPlan.uniform(40), 0.25, 0.4, 2)
    right = covariance_error(schedule, plan, restarted(resampled(heun(), 2)))
    wrong = covariance_error(schedule, plan, resampled(restarted(heun()), 2))
    assert right < 0.004
    assert wrong > 0.13  # however many the steps


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: churned(heun(), -1, 5), "amount >= 0"),
        (lambda: churned(heun(), 1, 0), "steps >= 1"),
        (lambda: churned(heun(), 1, 5, low=2, high=1), "low <= high"),
        (lambda: churned(heun(), 1, 5, noise=0), "noise > 0"),
        (lambda: restarts(SamplingPlan.uniform(4), 0.5, 0.5, 1), "low < high"),
        (lambda: restarts(SamplingPlan.uniform(4), 0.2, 0.5, -1), "rounds >= 0"),
        (lambda: restarts(SamplingPlan.uniform(4), 0.2, 0.5, 1, 0), "rows >= 1"),
        (lambda: restarts(SamplingPlan.uniform(4), 0.4, 0.45, 1), "ends a row at 0.5"),
        (lambda: restarts(SamplingPlan(at([0.3]), at([0.0])), 0.5, 0.9, 1), "moves from 0.3 to 0"),
    ],
)
def test_impossible_ones_raise(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(("rounds", "rows"), [(2.5, None), (2.0, None), (1, 2.5)])
def test_rounds_and_rows_are_whole(rounds, rows):
    with pytest.raises(TypeError, match=f"whole rounds and rows, got {rounds} and {rows}"):
        restarts(SamplingPlan.uniform(4), 0.25, 0.75, rounds, rows)


def test_churn_moves_one_tensor():
    solver = churned(heun(), 1, 5)
    with pytest.raises(TypeError, match=r"the parts \['a'\]"):
        solver(None, None, {"a": torch.zeros(1)}, {}, {}, None, {}, None, Rng(0))
