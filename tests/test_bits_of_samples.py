"""Samples that are no draws of the model have no bits per token, and it is said."""

import json
import math
import random
from dataclasses import replace
from typing import Any

import pytest
import torch
from test_bound_terms import made
from test_categorical import made as noise
from test_categorical import pushed
from torch import Tensor
from torch.nn.functional import one_hot

from noiseloom import Prediction, Rng, SamplingPlan, TabularPrior
from noiseloom.bound import nats_bound
from noiseloom.cli import main

TINY = ["--steps=4", "--batch-size=8", "--width=16", "--depth=1", "--heads=2", "--length=8"]
TINY += ["--sampling-steps=3", "--samples=16", "--judged=8", "--levels=2"]
LATENT = {"state": "latent", "latent_base": "masked"}


def bits(found: dict[str, float]) -> list[str]:
    return [name for name in found if name.startswith("bits_per_token")]


def one_sided(x: Tensor, t: Tensor, *rest: object) -> tuple[Prediction, None]:
    """Of two equal tokens of two classes, masks know the first from the second, and no more."""
    p = torch.tensor([0.5, 0.5, 0.0]).double().expand(*x.shape, 3).clone()
    p = torch.where((x < 3)[..., None], one_hot(x.clamp(max=2), 3).double(), p)
    told = (x[:, 1] < 3) & (x[:, 0] == 3)
    p[told, 0] = p[told, 1]
    return Prediction(p), None


def test_a_bound_is_none_of_samples_from_left_to_right() -> None:
    diffusion, rows = noise("absorbing"), (torch.arange(20_000) % 2)[:, None].expand(-1, 2)
    bound = nats_bound(one_sided, diffusion, rows, Rng(0)) / math.log(2)
    assert float(bound.mean()) == pytest.approx(1.5, abs=5 * float(bound.std()) / 20_000**0.5)
    cost = []
    for plan in (SamplingPlan.uniform(200), SamplingPlan.autoregressive(1, 2)):
        law = pushed(one_sided, diffusion, plan, 2).reshape(4, 4)
        cost.append(-float((law[0, 0].log2() + law[1, 1].log2()) / 2))
    assert cost[0] == pytest.approx(-math.log2(3 / 8), abs=0.01)  # below the bound, as it should be
    assert cost[1] == pytest.approx(2, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"td": 1.0}, "--td 1"),
        ({"state": "bits", "td": 0.5}, "--td 0.5"),
        ({"unmask": "confidence"}, "--unmask confidence"),
        ({"state": "bits", "self_guidance": 3.0}, "--self-guidance 3"),
        ({"churn": 2.0}, "--churn 2"),
        ({"state": "bits", "churn": 2.0, "churn_noise": 1.003}, "--churn 2"),
        ({"resample": 4}, "--resample 4"),
        ({"restarts": ((3, 2, 0.5, 2.0),)}, "--restarts [[3,2,0.5,2.0]]"),
        ({"plan": "autoregressive"}, "--plan autoregressive"),
        ({"plan": "pyramid:2", "rest": 0.3}, "--plan pyramid:2 and --rest 0.3"),
        ({"plan": "full-sequence", "rest": 0.3}, "--rest 0.3"),
        ({"state": "bits", "momentum": 0.5}, "--momentum 0.5"),
        ({"state": "autoregressive", "temperature": 0.5}, "--temperature 0.5"),
        ({"state": "autoregressive", "top_p": 0.9}, "--top-p 0.9"),
        ({"state": "autoregressive", "beams": 3}, "--beams 3"),
        ({**LATENT, "code_temperature": 0.5}, "--code-temperature 0.5"),
        ({**LATENT, "code_top_p": 0.5}, "--code-top-p 0.5"),
        ({**LATENT, "code_guidance": 2.0, "td": 1.0}, "--td 1 and --code-guidance 2"),
    ],
)
def test_samplers_that_are_not_the_model_have_none_and_say_so(
    options: dict[str, Any], told: str
) -> None:
    recipe, parts, facts, data = made(**options)
    if recipe.coded:
        parts = replace(parts, prior=TabularPrior(2, 3))
    found = recipe.examine(parts, facts, data, Rng(0))
    assert not bits(found)
    assert ("perplexity" in found) is recipe.coded  # which is no matter of samples
    assert recipe.caveat == (
        f"samples with {told} are no draws of the model: they have no bits_per_token"
    )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"plan": "karras"},
        {"plan": "full-sequence"},
        {"rest": 0.3},  # which a plan of one time for all has not
        {"state": "bits", "self_guidance": 1.0, "sampler": "ddpm-small"},
        {"state": "bits", "self_conditioning": 0.0, "sampler": "ddpm"},
        {"state": "autoregressive"},
        {**LATENT, "codes": "marginal"},
        {**LATENT, "codes": "none", "code_temperature": 0.5},  # which draws nothing then
    ],
)
def test_samplers_of_the_model_have_them(options: dict[str, Any]) -> None:
    recipe, parts, facts, data = made(**options)  # without a prior, which these need not have
    assert "bits_per_token" in bits(recipe.examine(parts, facts, data, Rng(0)))
    assert not recipe.caveat


@pytest.mark.parametrize(
    ("options", "draws", "how"),
    [
        ({"self_conditioning": 0.5}, "--self-guidance 1", "handed from step to step"),
        ({"state": "bits"}, "--self-guidance 1 --sampler ddpm-small", "the flow (--sampler ddim)"),
        ({"state": "bits", "sampler": "ddpm"}, "--self-guidance 1", "handed from step to step"),
        (
            {"state": "bits", "self_guidance": 1.0, "sampler": "heun"},
            "--sampler ddpm-small",
            "the flow (--sampler heun)",
        ),
        (
            {"state": "latent", "latent_base": "bits", "codes": "none", "self_conditioning": 0.0},
            "--sampler ddpm-small",
            "the flow (--sampler ddim)",
        ),
    ],
)
def test_samples_of_a_kin_of_the_model_have_them_and_it_is_said(
    options: dict[str, Any], draws: str, how: str
) -> None:
    """The flow and the noisy moves have one law where the denoiser is exact, and no other."""
    recipe, parts, facts, data = made(**options)
    assert "bits_per_token" in bits(recipe.examine(parts, facts, data, Rng(0)))
    assert f"which {draws} draws from" in recipe.caveat
    assert how in recipe.caveat
    assert ("--sampler" in recipe.caveat) is ("sampler" in how or "sampler" in draws)


def test_samples_that_a_guide_leads_have_none() -> None:
    recipe, parts, facts, data = made()
    led = replace(parts, steering=lambda denoiser, solver: (denoiser, solver))
    assert not bits(recipe.examine(led, facts, data, Rng(0)))


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    draw, path = random.Random(0), tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(" ".join(draw.choice(["so", "it", "goes"]) for _ in range(600)))
    return str(path)


def test_the_commands_and_the_report_say_it(text: str, tmp_path: Any, capsys: Any) -> None:
    out, line = tmp_path / "run", "samples with --td 1 are no draws of the model"
    assert main(["train", "text", "--data", text, "--out", str(out), *TINY]) == 0
    assert "bits_per_token" in json.loads((out / "evaluation.json").read_text())
    assert "no draws of the model" not in capsys.readouterr().out
    assert "no draws of the model" not in (out / "report.html").read_text()
    assert main(["evaluate", str(out), "--td", "1"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert sum(row.startswith(line) for row in told) == 1
    assert not any(row.split()[:1] == ["bits_per_token"] for row in told)
    kept = json.loads((out / "evaluations" / "td=1.0.json").read_text())
    assert kept
    assert not bits(kept)
    assert main(["evaluate", str(out), "--td", "1", "--json"]) == 0
    (note,) = json.loads(capsys.readouterr().out)["notes"]
    assert note.startswith(line)

    own = tmp_path / "own"
    command = ["train", "text", "--data", text, "--out", str(own), "--td", "1", *TINY]
    assert main(command) == 0
    assert line in capsys.readouterr().out
    page = (own / "report.html").read_text()
    assert page.count(line) == 1
    assert "real rows with a fifth of their tokens" in page


def test_a_comparison_has_a_dash_and_the_line(text: str, tmp_path: Any, capsys: Any) -> None:
    out = tmp_path / "table"
    command = ["compare", "text", "--data", text, "--out", str(out), "--seeds", "1", *TINY]
    assert main([*command, "--grid", "td=0,1"]) == 0
    body = (out / "table.md").read_text()
    head, _, plain, ahead, *_ = ([c.strip() for c in row.split("|")] for row in body.splitlines())
    place = head.index("bits_per_token ↓")
    assert float(plain[place].split()[0]) > 0
    assert ahead[place] == "-"
    assert body.count("samples with --td 1 are no draws of the model") == 1
    capsys.readouterr()


def test_a_plan_from_a_file_is_not_the_model_s_if_tokens_have_times_of_their_own(
    tmp_path: Any,
) -> None:
    path = tmp_path / "plan.json"
    recipe, parts, facts, data = made()
    SamplingPlan.pyramid(3, facts["length"], 1).save(path)
    recipe = replace(recipe, plan=str(path))
    assert not bits(recipe.examine(parts, facts, data, Rng(0)))
    told = f"samples with --plan {path}, whose tokens have times of their own, are no draws"
    assert recipe.caveat.startswith(told)
    SamplingPlan.full_sequence(3, facts["length"]).save(path)
    assert bits(recipe.examine(parts, facts, data, Rng(0)))
    assert not recipe.caveat


@pytest.mark.parametrize("steps", [0.0, 1.0])
def test_a_plan_from_a_file_is_the_model_s_if_its_rows_touch(steps: float, tmp_path: Any) -> None:
    plan, path = SamplingPlan.uniform(4).overshoot(steps), tmp_path / "plan.json"
    SamplingPlan(*(v.reshape(-1, 1, 1) for v in (plan.t, plan.s))).save(path)
    recipe, parts, facts, data = made(plan=str(path))
    assert bool(bits(recipe.examine(parts, facts, data, Rng(0)))) is not bool(steps)
    told = f"samples with --plan {path}, whose rows have gaps, are no draws of the model"
    assert recipe.caveat.startswith(told) is bool(steps)
