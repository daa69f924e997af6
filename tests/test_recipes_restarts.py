"""Restart as an option of recipes: the paper's numbers, its law, its cost, and what it excludes."""

import json
from dataclasses import replace

import pytest
import torch
from oracles import F64, Columns, Correlated, Mixture

from noiseloom.cli import main
from noiseloom.diffusion import GaussianDiffusion
from noiseloom.noise import EDM, SCHEDULES, Cosine
from noiseloom.plan import SamplingPlan
from noiseloom.recipes import BitsDigits, ForcingDigits, ForcingDoom
from noiseloom.recipes.sampling import Sampling
from noiseloom.rng import Rng
from noiseloom.sampling import final, sample

T = 3
C = 0.8 ** (torch.arange(T, dtype=F64)[:, None] - torch.arange(T)).abs()
PUBLISHED = (  # Xu et al., 2023, for EDM on ImageNet-64
    (4, 1, 19.35, 40.79),
    (4, 1, 1.09, 1.92),
    (4, 5, 0.59, 1.09),
    (4, 5, 0.30, 0.59),
    (6, 6, 0.06, 0.30),
)


def run(options, exact, schedule, x, plan=None, diffusion=None):
    """Samples of an exact denoiser, as the options say."""
    plan = options.make_plan(schedule) if plan is None else options.complete(plan, schedule)
    diffusion = diffusion or GaussianDiffusion(schedule)
    with torch.no_grad():
        return final(sample(exact, diffusion, plan, x, rng=Rng(5), solver=options.make_solver())).x


def test_the_published_setting_makes_203_evaluations():
    options = Sampling(36, "karras", sampler="heun-edm", restarts=PUBLISHED)
    schedule, x = EDM(), 80 * Rng(0).normal((50,), F64)
    exact = Mixture(schedule)
    assert run(options, exact, schedule, x).isfinite().all()
    assert exact.calls == 203
    plan = options.make_plan(schedule)
    up = plan.t[1:] > plan.s[:-1]
    sigmas = schedule(plan.t[1:][up])[1]
    expected = [s for _, rounds, _, s in PUBLISHED for _ in range(rounds)]
    torch.testing.assert_close(sigmas, torch.tensor(expected, dtype=F64))


def test_rows_are_the_published_levels():
    """EDM's formula from t_max to the level of the plan at which a stretch ends, N_i points."""
    schedule = EDM()
    own = SamplingPlan.karras(36, schedule)
    plan = Sampling(36, "karras", sampler="heun-edm", restarts=PUBLISHED).make_plan(schedule)
    t, s = (schedule(x)[1] for x in (plan.t, plan.s))
    starts = ((plan.t[1:] > plan.s[:-1]).nonzero()[:, 0] + 1).tolist()
    for points, rounds, low, high in PUBLISHED:
        ends = schedule(own.s)[1]
        low = float(ends[(own.s - schedule.time(-2 * torch.tensor(low).log())).abs().argmin()])
        index = torch.arange(points, dtype=F64) / (points - 1)
        levels = (high ** (1 / 7) + index * (low ** (1 / 7) - high ** (1 / 7))) ** 7
        for _ in range(rounds):
            row = starts.pop(0)
            torch.testing.assert_close(t[row : row + points - 1], levels[:-1])
            torch.testing.assert_close(s[row : row + points - 1], levels[1:])
    assert not starts


@pytest.mark.parametrize("extra", [{}, {"resample": 2}, {"churn": 3.0}])
@pytest.mark.parametrize("schedule", [EDM(), Cosine()], ids=str)
@pytest.mark.parametrize("slope", [None, 0.5])
def test_the_law_of_a_gaussian_is_kept_to_the_order_of_the_solver(schedule, slope, extra):
    """Times for all, or of each token its own; the covariance is exact (`Columns`)."""

    def error(steps):
        points = steps // 4 + 1
        stretches = ((points, 2, 0.3, 1.0), (points, 1, 1.0, 3.0))
        options = Sampling(steps, sampler="heun", restarts=stretches, **extra)
        plan = SamplingPlan.uniform(steps)
        if slope is not None:
            plan = SamplingPlan.pyramid(steps, T, steps * slope)
        alpha, sigma = schedule(torch.tensor(1.0, dtype=F64))
        begin = alpha * alpha * C + sigma * sigma * torch.eye(T, dtype=F64)
        x = torch.zeros(1, T, T * (1 + 6 * len(options.complete(plan, schedule))), dtype=F64)
        x[0, :, :T] = torch.linalg.cholesky(begin)
        diffusion = GaussianDiffusion(schedule, Columns())
        end = run(options, Correlated(schedule, C), schedule, x, plan, diffusion)[0]
        assert diffusion.subspace.drawn > 0
        return float((end @ end.T - C).abs().max())

    coarse, fine = error(12), error(48)
    assert fine < 0.015
    assert coarse / fine > 7  # order 2: 16 in the limit


def test_the_law_of_a_mixture_is_reached_from_a_wrong_start():
    """Energy distance in one dimension, 2 int (F - G)^2 dx, against the exact F."""
    schedule, n = EDM(), 20_000
    exact, places = Mixture(schedule), torch.linspace(-4, 4, 801, dtype=F64)
    truth = exact.cdf(places, torch.tensor(0.0, dtype=F64))
    x = 80 * Rng(0).normal((n,), F64) + 40  # half a deviation to the right

    def distance(restarts):
        options = Sampling(40, "karras", sampler="heun", restarts=restarts)
        got = run(options, exact, schedule, x).sort().values
        share = torch.searchsorted(got, places).double() / n
        return 2 * float(((share - truth) ** 2).sum()) * 0.01

    noise = 2 * float((truth * (1 - truth)).sum()) * 0.01 / n  # of n exact draws, on average
    assert distance(()) > 100 * noise
    assert distance(((8, 6, 0.2, 10.0),)) < 6 * noise


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "heun", "heun-edm"])
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_no_rounds_are_none_bit_for_bit(schedule, sampler):
    plain = Sampling(6, sampler=sampler, churn=2.0, resample=2)
    none = replace(plain, restarts=[[3, 0, 0.5, 2.0]])
    x = Rng(1).normal((5, 2), F64)
    for plan in (SamplingPlan.uniform(6), SamplingPlan.pyramid(6, 2, 2)):
        expected = run(plain, Mixture(schedule), schedule, x, plan)
        assert torch.equal(run(none, Mixture(schedule), schedule, x, plan), expected)
        some = replace(plain, restarts=[[3, 1, 0.5, 2.0]])
        assert not torch.equal(run(some, Mixture(schedule), schedule, x, plan), expected)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_beyond_the_ends_of_a_schedule_are_its_ends(schedule):
    plan = Sampling(4, restarts=((2, 1, 0.0, 1e9),)).make_plan(schedule)
    assert (float(plan.t[-1]), float(plan.s[-1])) == (pytest.approx(1, abs=1e-6), 0)


def test_tokens_restart_each_for_itself_and_rest_afterwards():
    options = ForcingDigits(sampling_steps=5, restarts=[[3, 2, 0.5, 2.0]])
    plan = options.make_plan(Cosine())
    t, s = plan.t[:, 0], plan.s[:, 0]
    assert options.resting == 0.1
    assert ((t[1:] > s[:-1]).sum(0) == 2).all()  # every token, every round
    assert ((s < t)[:-1].sum(1) == 1).all()
    assert (t[-1] == 0.1).all()
    assert (s[-1] == 0).all()


def test_what_does_not_go_together_is_refused(tmp_path):
    stretch = [[3, 2, 0.5, 2.0]]
    with pytest.raises(ValueError, match="restarts are not for windows that slide"):
        ForcingDoom(forcing="full-sequence", restarts=stretch)
    with pytest.raises(ValueError, match=r"restarts are stretches \[\[points, .* got \[3, 2\]"):
        BitsDigits(restarts=[[3, 2]])
    file = tmp_path / "gaps.json"
    SamplingPlan.full_sequence(5, 8).overshoot(1).save(file)
    options = ForcingDigits(plan=str(file), restarts=stretch)
    with pytest.raises(ValueError, match=r"restarts need a plan whose rows touch, .* gaps"):
        options.make_plan(Cosine())


def test_they_are_kept_with_the_run_and_reported(tmp_path, capsys):
    run = tmp_path / "run"
    words = ["train", "disco-mixture", "--out", str(run), "--steps", "3", "--width", "8"]
    words += ["--samples", "20", "--sampling-steps", "6", "--sampler", "heun-edm"]
    assert main([*words, "--restarts", "[[3, 2, 0.5, 2.0], [4, 1, 4.0, 9.0]]"]) == 0
    assert "6 steps of heun-edm, 13 with restarts" in (run / "report.html").read_text()
    kept = json.loads((run / "evaluation.json").read_text())
    assert main(["evaluate", str(run)]) == 0  # the same options, read from the run
    assert json.loads((run / "evaluation.json").read_text())["energy"] == kept["energy"]
    assert not (run / "evaluations").exists()
    assert main(["evaluate", str(run), "--restarts", "[]"]) == 0
    (other,) = (run / "evaluations").glob("*.json")
    assert json.loads(other.read_text())["energy"] != kept["energy"]
    capsys.readouterr()
