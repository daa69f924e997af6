"""Churn as options of recipes: EDM's four numbers, what they do, and where they are refused."""

import json
import math

import pytest
import torch
import yaml
from oracles import F64, Columns, Correlated, Mixture

from noiseloom.cli import main
from noiseloom.diffusion import GaussianDiffusion
from noiseloom.noise import EDM, SCHEDULES
from noiseloom.plan import SamplingPlan
from noiseloom.recipes import BitsDigits
from noiseloom.recipes.sampling import Sampling
from noiseloom.rng import Rng
from noiseloom.sampling import final, heun, sample
from noiseloom.stochastic import churned

PUBLISHED = {"churn": 40.0, "churn_min": 0.05, "churn_max": 50.0, "churn_noise": 1.003}
T = 3
C = 0.8 ** (torch.arange(T, dtype=F64)[:, None] - torch.arange(T)).abs()


def run(solver, schedule, plan, x, exact=None, diffusion=None):
    diffusion = diffusion or GaussianDiffusion(schedule)
    with torch.no_grad():
        steps = sample(exact or Mixture(schedule), diffusion, plan, x, rng=Rng(5), solver=solver)
        return final(steps).x


def test_the_published_numbers_are_those_of_churned():
    """Karras et al., 2022, for ImageNet at 64: 256 steps, 511 evaluations."""
    options, schedule = Sampling(256, "karras", sampler="heun-edm", **PUBLISHED), EDM()
    plan, x = options.make_plan(schedule), 80 * Rng(0).normal((20,), F64)
    named = churned(heun(math.inf), 40, 256, low=0.05, high=50, noise=1.003)
    exact = Mixture(schedule)
    found = run(options.make_solver(), schedule, plan, x, exact)
    assert exact.calls == 511
    assert torch.equal(found, run(named, schedule, plan, x))


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize(
    ("option", "value"), [("churn_min", 0.7), ("churn_max", 0.7), ("churn_noise", 1.1)]
)
def test_each_has_its_part(schedule, option, value):
    plan, x = SamplingPlan.uniform(6), Rng(1).normal((5, 2), F64)
    plain, changed = (
        run(Sampling(6, churn=2.0, **told).make_solver(), schedule, plan, x)
        for told in ({}, {option: value})
    )
    assert not torch.equal(plain, changed)


def test_noise_goes_in_between_the_two_ratios_alone():
    """On a Gaussian the columns of a draw are where its noise went (`Columns`)."""
    schedule, options = EDM(), Sampling(8, "karras", churn=4, churn_min=0.5, churn_max=10.0)
    plan = options.make_plan(schedule)
    ratios = schedule(plan.t)[1]
    inside = int(((ratios >= 0.5) & (ratios <= 10)).sum())
    assert 1 < inside < 6
    x = torch.zeros(1, T, T * (1 + len(plan)), dtype=F64)
    diffusion = GaussianDiffusion(schedule, Columns())
    end = run(options.make_solver(), schedule, plan, x, Correlated(schedule, C), diffusion)[0]
    written = end.reshape(T, 1 + len(plan), T).ne(0).any(2).any(0)
    assert int(written.sum()) == inside


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"churn": 1, "churn_min": -0.1}, r"churn_min and churn_max need 0 <= churn_min < churn_"),
        ({"churn": 1, "churn_min": 2, "churn_max": 1}, r"got 2 and 1$"),
        ({"churn": 1, "churn_min": math.inf}, "churn_min must be a number, got inf"),
        ({"churn": 1, "churn_max": math.nan}, "got 0.0 and nan$"),
        ({"churn": 1, "churn_max": 0}, "got 0.0 and 0$"),
        ({"churn": 1, "churn_noise": 0}, "churn_noise must be above 0, got 0"),
        ({"churn": 1, "churn_noise": math.nan}, "churn_noise must be a number, got nan"),
        ({"churn_min": 0.1}, "churn_min says nothing without churn: give --churn, or leave it"),
        ({"churn_max": 50}, "churn_max says nothing without churn"),
        ({"churn_noise": 1.003}, "churn_noise says nothing without churn"),
    ],
)
def test_what_means_nothing_gets_one_clear_line(options, told):
    with pytest.raises(ValueError, match=told):
        BitsDigits(**options)


def test_they_are_kept_with_a_run_and_older_runs_have_none(tmp_path, capsys):
    out = tmp_path / "run"
    words = [
        "train",
        "disco-mixture",
        "--out",
        str(out),
        "--steps",
        "3",
        "--width",
        "8",
        "--prior",
        "none",
    ]
    words += ["--samples", "20", "--sampling-steps", "6", "--sampler", "heun-edm", "--churn", "3"]
    assert main([*words, "--churn-max", "50", "--evaluations", "[]", "--codes", "none"]) == 0
    kept = yaml.safe_load((out / "recipe.yaml").read_text())
    told = {name: kept[name] for name in PUBLISHED}
    assert told == {"churn": 3.0, "churn_min": 0.0, "churn_max": 50.0, "churn_noise": 1.0}
    before = json.loads((out / "evaluation.json").read_text())["energy"]
    assert main(["evaluate", str(out), "--churn-noise", "1.2"]) == 0
    (other,) = (out / "evaluations").glob("*.json")
    assert other.name == "churn_noise=1.2.json"
    assert json.loads(other.read_text())["energy"] != before
    for name in ("churn_min", "churn_max", "churn_noise"):
        del kept[name]
    (out / "recipe.yaml").write_text(yaml.safe_dump(kept))
    assert main(["sample", str(out), "-n", "2", "--out", str(tmp_path / "x.csv")]) == 0
    capsys.readouterr()
    assert main(["sample", str(out), "--churn", "0", "--churn-min", "1"]) == 2
    assert "churn_min says nothing without churn" in capsys.readouterr().err
