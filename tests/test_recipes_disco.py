"""`disco-mixture`: options, codes that are given or drawn, and what training it comes to."""

import json
import math
import re
from dataclasses import replace

import pytest
import torch
from oracles import Clusters
from torch import nn

import noiseloom as nl
from noiseloom.cli import main
from noiseloom.curvature import jacobian_squares
from noiseloom.data import Points
from noiseloom.glossary import MEANINGS
from noiseloom.latents import Latent, UsageBonus, one_hot, perplexity
from noiseloom.metrics import energy_distance
from noiseloom.recipes import DiscoMixture, disco_mixture
from noiseloom.recipes.by_calls import Compared
from noiseloom.recipes.code_examination import code_sources, error, errors, paths
from noiseloom.training import train

TINY = {"width": 16, "depth": 1, "samples": 200}
FACTS = {"features": 2, "classes": [str(j) for j in range(8)]}


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(disco_mixture, "_ROWS", 3)


def make(**options):
    recipe = DiscoMixture(**{**TINY, **options})
    with nl.Rng(0).torch():
        parts = recipe.build(FACTS)
    with torch.no_grad():
        for i, parameter in enumerate(parts.denoiser.parameters()):
            parameter += 0.2 * nl.Rng(1).fold("shake", i).normal(parameter.shape)
    return recipe, parts


def drawn(recipe, parts, given, count=12):
    *_, last = recipe.draw(parts, FACTS, given, nl.Rng(2).samples(count))
    return last.result


def test_codes_are_those_given_or_as_often_as_the_encoder_picks_them():
    recipe, parts = make(m=2, k=3)
    usage = torch.tensor([[0.0, 1.0, 0.0], [0.2, 0.3, 0.5]])
    parts.denoiser.usage.copy_(usage)
    marginal = replace(recipe, codes="marginal")
    cond = marginal.told_codes(parts, {}, {}, nl.Rng(0).samples(8000))
    found = cond["codes"].mean(0)
    assert ((found - usage).abs() < 5 * (0.25 / 8000) ** 0.5).all()
    assert torch.equal(found[0], usage[0])
    usage = torch.tensor([[0.5, 0.1, 0.4], [0.2, 0.3, 0.5]])
    parts.denoiser.usage.copy_(usage)
    first, second = marginal.told_codes(parts, {}, {}, nl.Rng(0).samples(8000))["codes"].unbind(1)
    pairs = first.T @ second / 8000  # of latents that know nothing of each other
    assert ((pairs - usage[0, :, None] * usage[1]).abs() < 5 * (0.25 / 8000) ** 0.5).all()
    given = torch.tensor([[0, 2]] * 12)
    told = drawn(recipe, parts, {"codes": given})
    assert not torch.equal(told, drawn(recipe, parts, {"codes": given.flip(1)}))
    without = replace(recipe, codes="none")
    silent = drawn(without, parts, {})
    told_to_none = "code_guidance 5 needs codes to guide to: draw with codes, or leave"
    with pytest.raises(ValueError, match=told_to_none):
        drawn(replace(without, code_guidance=5.0), parts, {})
    with pytest.raises(ValueError, match=told_to_none):  # before a comparison trains it
        replace(without, code_guidance=5.0).check()
    assert torch.equal(silent, drawn(replace(recipe, code_guidance=0.0), parts, {"codes": given}))
    assert torch.equal(told, drawn(recipe, parts, {"codes": given[:5]}, 5)[[0, 1, 2, 3, 4]]) or (
        torch.allclose(told[:5], drawn(recipe, parts, {"codes": given[:5]}, 5), atol=1e-5)
    )


def test_codes_are_drawn_by_the_prior_as_the_options_say():
    recipe, parts = make(m=2, k=3)
    with pytest.raises(ValueError, match=r"no prior yet .*: make it with noiseloom prior RUN"):
        drawn(recipe, parts, {})
    prior = nl.TabularPrior(2, 3)
    prior.fit(torch.tensor([[0, 1], [0, 1], [0, 1], [2, 2]]), smoothing=0)
    parts = replace(parts, prior=prior)
    keys = nl.Rng(0).samples(4000)

    def told(**changes):
        codes = replace(recipe, **changes).told_codes(parts, {}, {}, keys)["codes"]
        return codes.argmax(-1)

    found, common = told(), torch.tensor([0, 1])
    share = (found == common).all(1).float().mean()
    assert share == pytest.approx(0.75, abs=5 * (0.75 * 0.25 / 4000) ** 0.5)
    assert ((found == common).all(1) | (found == 2).all(1)).all()
    assert (told(code_temperature=0.0) == common).all()
    assert (told(code_top_p=0.7) == common).all()
    codes = recipe.generated(prior, {}, 12, nl.Rng(2).samples(12).fold("codes"))
    assert torch.equal(drawn(recipe, parts, {}), drawn(recipe, parts, {"codes": codes}))


def test_with_the_exact_table_generated_codes_are_as_good_as_oracle_ones():
    recipe, parts = make(m=2, k=3, sampling_steps=2)
    data = recipe.load(None)
    with torch.no_grad():
        parts.denoiser.encoder.head.weight *= 20  # codes that depend on the point, and each other
    codes = recipe.encoded(parts, FACTS, data.train, nl.Rng(3), draws=2)
    prior = nl.TabularPrior(2, 3)
    prior.fit(codes.codes)
    parts = replace(parts, prior=prior)
    oracle = recipe.encoded(parts, FACTS, data.held_out, nl.Rng(4)).codes[:2000]
    other = nl.Rng(5).integers(3, (2000, 2))
    sets = {
        "generated": drawn(recipe, parts, {}, 2000),
        "other": drawn(recipe, parts, {"codes": other}, 2000),
    }
    told = drawn(recipe, parts, {"codes": oracle}, 2000)
    gaps = {name: energy_distance(found, told) for name, found in sets.items()}
    assert abs(gaps["generated"]) < 0.1 * gaps["other"], gaps


def test_encoded_codes_follow_the_encoder_and_not_the_batch():
    recipe, parts = make(m=2, k=3)
    data = recipe.load(None).train
    one = Points(data.values[:1].expand(1200, 2), data.labels[:1].expand(1200), data.classes)
    q = parts.denoiser.logits(data.values[:1]).softmax(-1)[0]
    codes = recipe.encoded(parts, FACTS, one, nl.Rng(0), draws=3)
    assert codes.codes.shape == (3600, 2)
    assert codes.label is None
    found = one_hot(codes.codes, 3).mean(0)
    assert ((found - q).abs() < 5 * (q * (1 - q) / 3600).sqrt()).all()
    some = recipe.encoded(parts, FACTS, data, nl.Rng(0), rows=torch.arange(700), draws=2)
    whole = recipe.encoded(parts, FACTS, data, nl.Rng(0))
    assert torch.equal(some.codes[:700], whole.codes[:700])
    assert not torch.equal(some.codes[:700], some.codes[700:])


def test_who_was_always_told_codes_is_never_told_none(monkeypatch):
    """Its null is untrained: no sample, loss or path of it means anything."""
    recipe, parts = make(m=1, k=3, code_drop=0.0, evaluations=(3,))
    told = "codes none needs a model that was trained without codes at times"
    without = replace(recipe, codes="none")
    with pytest.raises(ValueError, match=told):
        drawn(without, parts, {})
    with pytest.raises(ValueError, match=told):  # before the training
        without.check()
    codes = {"codes": torch.zeros(12, 1, dtype=torch.int64)}
    assert torch.equal(drawn(without, parts, codes), drawn(recipe, parts, codes))
    replace(without, m=0).check()  # the plain one is always told none
    found = recipe.examine(parts, FACTS, recipe.load(None), nl.Rng(0))
    assert {"energy_oracle_3", "energy_table_3", "loss_8_true", "loss_8_shuffled"} <= found.keys()
    assert not [name for name in found if "none" in name or "null" in name]
    dropped = replace(recipe, code_drop=0.1)
    more = dropped.examine(parts, FACTS, recipe.load(None), nl.Rng(0))
    assert {"energy_none_3", "loss_8_null", "straightness_none"} <= more.keys() - found.keys()
    assert {name: more[name] for name in found} == found


def test_codes_that_do_not_fit_get_one_clear_line():
    recipe, parts = make(m=2, k=3)
    with pytest.raises(ValueError, match=r"codes must be in 0 \.\. 2, got values from 1 to 3"):
        drawn(recipe, parts, {"codes": torch.tensor([[1, 3]] * 12)})
    with pytest.raises(ValueError, match="this model has 2 a sample"):
        drawn(recipe, parts, {"codes": torch.tensor([[1]] * 12)})


def test_without_latents_it_is_the_plain_denoiser():
    recipe, parts = make(m=0)
    assert not isinstance(parts.denoiser, Latent)
    assert drawn(recipe, parts, {}).shape == (12, 2)
    found = recipe.examine(parts, FACTS, recipe.load(None), nl.Rng(0))
    assert {name for name in found if "loss" in name} == {"loss_8_null"}
    assert "perplexity" not in found


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"m": -1}, "m must be at least 0"),
        ({"m": 5, "k": 8}, "at most 4096"),
        ({"samples": 5000}, "samples must be 2 to 4000"),
        ({"penalty": -0.1}, "penalty must be at least 0"),
        ({"code_guidance": 2.0, "code_drop": 0.0}, "codes that training dropped"),
        ({"code_guidance": 2.0, "m": 0}, r"code_guidance needs codes.*without codes \(m 0\)"),
        ({"prior": "table"}, "prior must be one of autoregressive, tabular, bits, none"),
        ({"codes": "best"}, "codes must be one of prior, marginal, none"),
        ({"code_temperature": -1.0}, "code_temperature must be at least 0"),
        ({"code_top_p": 0.0}, r"code_top_p must be in \(0, 1\]"),
        ({"prior_steps": 0}, "prior_steps must be at least 1"),
        ({"prior_learning_rate": 0.0}, "prior_learning_rate must be above 0"),
        ({"prior_dropout": 1.0}, r"prior_dropout must be in \[0, 1\)"),
        ({"conditional": True}, "told no classes"),
        ({"temperature": "warm"}, "temperature must be one of constant, annealed"),
        ({"code_drop": 2.0}, r"^code_drop must be in \[0, 1\], got 2.0$"),
        ({"code_drop": -0.1}, r"^code_drop must be in \[0, 1\]"),
        ({"code_drop": math.nan}, r"^code_drop must be in \[0, 1\]"),
        ({"restart": 3.0}, r"^restart must be in \[0, 1\], got 3.0$"),
        ({"noise_mean": 100}, r"noise_mean is that of ln sigma, in \[-6, 4\], got 100"),
        ({"noise_std": -1}, r"noise_std is that of ln sigma, in \(0, 3\], got -1"),
        ({"noise_std": math.nan}, "noise_std is that of ln sigma"),
        ({"self_guidance": 1.0}, "self_guidance needs a model that is self-conditioned"),
        ({"momentum": 0.5}, "momentum needs a model that is self-conditioned"),
        ({"temperature_start": math.inf}, "above 0 and finite, got inf"),
    ],
)
def test_bad_options_get_one_clear_line(options, told):
    with pytest.raises(ValueError, match=told):
        make(**options)


@pytest.mark.parametrize("options", [{"code_temperature": 0.5}, {"code_top_p": 0.9}])
def test_a_diffusion_over_codes_is_asked_for_no_temperature_before_it_is_trained(
    options, tmp_path, capsys
):
    ((name, value),) = options.items()
    word = f"--{name.replace('_', '-')}={value}"
    words = ["train", "disco-mixture", "--steps=2", "--prior=bits", word]
    assert main([*words, "--out", str(tmp_path / "run")]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert f"{name} {value:g} says nothing to a prior of bits" in told
    assert not (tmp_path / "run").exists()
    DiscoMixture(prior="autoregressive", **options).check()
    DiscoMixture(prior="bits").check()


@pytest.mark.parametrize(
    ("options", "tried"),
    [
        ({"bonus": 0.0}, set()),
        ({"bonus": 0.0, "hard": True, "penalty": 0.1}, {"hard", "penalty"}),
        ({"bonus": 0.3, "restart": 0.1}, {"bonus", "restart"}),
        ({"bonus": 0.0, "temperature": "annealed"}, {"temperature"}),
    ],
)
def test_the_warning_of_collapse_knows_what_is_on(options, tried):
    constant = {"temperature": "constant", "penalty": 0.0, "restart": 0.0, "hard": False}
    (watch,) = DiscoMixture(**{**constant, **options}).trackers()
    assert watch.tried == tried


def test_options_reach_the_training():
    told = {"temperature_start": 2.0, "temperature_end": 0.5, "bonus": 0.2, "penalty": 0.1}
    recipe, parts = make(m=2, k=3, fade=0.9, noise_mean=0.8, noise_std=0.5, **told)
    model, p = parts.denoiser, torch.tensor([0.0, 0.35, 0.7, 1.0])
    torch.testing.assert_close(model.temperature(p), 2 * 0.25 ** torch.tensor([0, 0.5, 1, 1]))
    torch.testing.assert_close(
        replace(recipe, temperature="constant").relaxation()(p), torch.full((4,), 2.0)
    )
    assert model.bonus == UsageBonus(0.2, 0.1, 0.9)
    n, times = 4000, []
    model.denoiser.register_forward_pre_hook(lambda _, args: times.append(args[1]))
    batch = {"values": torch.zeros(n, 2), "label": torch.zeros(n, dtype=torch.int64)}
    rows = torch.arange(n)
    recipe.loss(parts, FACTS)(model, batch, nl.Rng(3).each("sample", rows), rows)
    alpha, sigma = parts.diffusion.schedule(times[0])
    level = (sigma / alpha).log()
    assert float(level.mean()) == pytest.approx(0.8, abs=5 * 0.5 / n**0.5)
    assert float(level.std()) == pytest.approx(0.5, abs=5 * 0.5 / (2 * n) ** 0.5)


def test_its_codes_are_trained_with_the_bonus_alone():
    """What 20 of 20 seeds found all modes by (docs/results.md)."""
    recipe = DiscoMixture()
    assert (recipe.temperature, recipe.bonus, recipe.penalty, recipe.restart) == (
        "annealed",
        0.3,
        0,
        0,
    )
    bonus = make()[1].denoiser.bonus
    assert (bonus.marginal, bonus.conditional) == (0.3, 0.0)


def test_the_loss_at_a_noise_level_is_that_of_the_formula():
    recipe = DiscoMixture(m=0)
    parts = recipe.build(FACTS)  # says c_skip x, with its last layer at 0
    clean = recipe.load(None).held_out.values
    d2 = 3**2 / 2 + 0.2**2
    skip = d2 / (d2 + 64)
    expected = 2 * ((1 - skip) ** 2 * d2 + skip**2 * 64)
    found = error(parts, clean, 8.0, {}, nl.Rng(0))
    assert found == pytest.approx(expected, rel=0.03)


SIGMAS = (0.5, 1.0, 2.0)


class Wide(nn.Module):
    """A denoiser that thinks in double precision, for states of a recipe's."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x, t, cond=None, carry=None, rng=None):
        prediction, carry = self.inner(x.double(), t, cond, carry, rng)
        return nl.Prediction(prediction.mean.to(x)), carry


def exact():
    """The toy's exact denoiser, with an encoder that tells its components apart."""
    recipe, parts = DiscoMixture(samples=400), DiscoMixture().build(FACTS)
    ring = Clusters(parts.diffusion.schedule)
    encoder = nn.Sequential(nn.Linear(2, 8), nn.Unflatten(1, (1, 8)))
    with torch.no_grad():
        encoder[0].weight.copy_(40 * ring.centres)
        encoder[0].bias.zero_()
    return recipe, replace(parts, denoiser=Latent(Wide(ring), encoder, m=1, k=8, updates=1)), ring


def test_errors_of_the_exact_toy_are_those_of_true_null_and_others_codes():
    """With another's: the own, and (r^2 / (s^2 + r^2))^2 of the components' squared distance."""
    recipe, parts, _ = exact()
    held = recipe.load(None).held_out[torch.arange(4000)]
    codes = parts.denoiser.encode(held["values"])
    assert torch.equal(codes[:, 0], held["label"])
    found = errors(recipe, parts, FACTS, held, codes, (8.0,), nl.Rng(0))
    own, share = 2 * 0.04 * 64 / 64.04, 64 / 64.04
    assert found["loss_8_true"] == pytest.approx(own, rel=0.1)
    assert found["loss_8_null"] == pytest.approx(8.47, rel=0.05)  # check 7 of the notes
    assert found["loss_8_shuffled"] == pytest.approx(own + share**2 * 2 * 3**2, rel=0.05)


def test_paths_of_the_exact_toy_are_straight_told_the_component_and_bent_blind():
    recipe, parts, ring = exact()
    held = recipe.load(None).held_out
    kinds = code_sources(recipe, parts, FACTS, held, torch.arange(400), nl.Rng(0))
    found = paths(recipe, parts, FACTS, kinds, SIGMAS, nl.Rng(1), rows=60)
    assert set(kinds) == {"oracle", "none"}
    assert len(found) == 2 * (1 + 3 * len(SIGMAS))
    assert found["straightness_oracle"] == pytest.approx(1, abs=1e-6)
    assert found["straightness_none"] < 0.999
    # Check 5 of the notes, of 40,000 points under the law; these are 400, by Heun.
    for sigma, known in zip(SIGMAS, (0.155, 0.881, 0.0076), strict=True):
        assert found[f"curvature_{sigma:g}_oracle"] < 1e-5
        assert found[f"curvature_{sigma:g}_none"] == pytest.approx(known, rel=0.2), sigma
    diffusion = parts.diffusion
    clean = ring.draw(4000, nl.Rng(2))[0]
    for sigma in SIGMAS:
        gain = 0.04 / (0.04 + sigma**2)
        for name, own in (("denoiser", gain), ("drift", (1 - gain) / sigma)):
            assert found[f"jacobian_{name}_{sigma:g}_oracle"] == pytest.approx(2**0.5 * own)
        t = diffusion.schedule.time(-2 * torch.tensor(sigma, dtype=torch.float64).log())
        x = diffusion.corrupt(clean, t, nl.Rng(3).samples(4000))
        blind = jacobian_squares(ring, diffusion, x, t, nl.Rng(4).samples(4000))
        for name in ("denoiser", "drift"):
            squares = getattr(blind, name)
            error = 5 * float(squares.std()) * (1 / 400 + 1 / 4000) ** 0.5
            measured = found[f"jacobian_{name}_{sigma:g}_none"] ** 2
            assert measured == pytest.approx(float(squares.mean()), abs=error)
    # The two norms are two claims: far away codes raise the second.
    assert found["jacobian_denoiser_2_oracle"] < 0.1 * found["jacobian_denoiser_2_none"]
    assert found["jacobian_drift_2_oracle"] > 1.5 * found["jacobian_drift_2_none"]


def test_energy_distances_of_one_law_scatter_as_the_report_says():
    ring, n = exact()[2], 100
    draws = [ring.draw(n, nl.Rng(i))[0] for i in range(600)]
    found = torch.tensor([energy_distance(*draws[i : i + 2]) for i in range(0, 600, 2)])
    told = re.search(r"± ([\d.]+) / n", MEANINGS["energy"][2])
    assert float(n * found.std()) == pytest.approx(float(told.group(1)), rel=0.25)
    assert abs(float(found.mean())) < 5 * float(found.std()) / 300**0.5


def test_exact_samples_are_at_no_distance_by_whatever_seed(monkeypatch):
    """Codes of fresh points, and they themselves drawn: what is left is chance, of each seed."""
    recipe, parts = make(m=1, samples=2000, evaluations=())
    data, seeds, found = recipe.load(None), 8, []

    def itself(recipe, parts, facts, data, rows, rng):
        return {"none": {"label": data.labels[rows], "values": data.values[rows]}}

    monkeypatch.setattr(disco_mixture, "code_sources", itself)
    monkeypatch.setattr(
        disco_mixture,
        "by_evaluations",
        lambda *args: [Compared("real", 5, 5, args[3]["none"]["values"], 1.0)],
    )
    for seed in range(seeds):
        told = recipe.examine(parts, FACTS, data, nl.Rng(seed))["energy_real_5"]
        anchor = recipe.evaluate(lambda _: data.train.values, data, nl.Rng(seed))["energy_held_out"]
        found.append((told, anchor))
    n = recipe.samples
    error = float(re.search(r"± ([\d.]+) / n", MEANINGS["energy"][2]).group(1)) / n
    assert all(len(set(each)) == seeds for each in zip(*found, strict=True))
    for each in torch.tensor(found).T:
        assert abs(float(each.mean())) < 3 * error / seeds**0.5
        assert (each.abs() < 4 * error).all()


def test_from_the_command_line_to_report_and_samples(tmp_path, capsys):
    run = tmp_path / "run"
    words = ["train", "disco-mixture", "--out", str(run), "--steps", "30", "--width", "16"]
    words += ["--samples", "100", "--sampling-steps", "3", "--m", "2", "--k", "3"]
    words += ["--prior-steps", "5", "--prior-width", "8"]
    assert main(words) == 0
    capsys.readouterr()
    found = json.loads((run / "evaluation.json").read_text())
    kinds = ("oracle", "generated", "table", "none")
    assert {f"energy_{kind}_{n}" for kind in kinds for n in (5, 9, 19, 39, 79)} <= found.keys()
    assert {f"straightness_{kind}" for kind in kinds} <= found.keys()
    measures = ("curvature", "jacobian_denoiser", "jacobian_drift")
    of = {f"{name}_{sigma:g}_{k}" for name in measures for sigma in SIGMAS for k in kinds}
    assert of <= found.keys()
    assert {"perplexity", "mutual_information", "modes", "energy_held_out"} <= found.keys()
    assert found["code_bits"] == pytest.approx(2 * math.log2(3))
    assert found["marginal_bits"] <= found["code_bits"]
    assert {"prior_bits_train", "prior_bits_held_out"} <= found.keys()
    page = (run / "report.html").read_text()
    assert "prior, held-out codes" in page
    assert "Colours are the codes" in page
    assert "Jacobian of the drift" in page
    assert page.count("<svg") >= 3
    record = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert record["temperature"] == pytest.approx(0.3)
    assert 1 <= record["perplexity"] <= 3
    file = tmp_path / "points.csv"
    assert main(["sample", str(run), "-n", "7", "--out", str(file)]) == 0
    assert len(file.read_text().splitlines()) == 8
    assert main(["sample", str(run), "--data", "x", "--out", str(tmp_path / "no.csv")]) == 2
    assert "points follow no data" in capsys.readouterr().err
    assert main(["evaluate", str(run), "--code-guidance", "2", "--sampler", "heun"]) == 0


@pytest.mark.parametrize(
    "options",
    [{"sampler": sampler} for sampler in ("ddim", "heun", "heun-edm", "dpm++2m")]
    + [{"sampler": "heun", "resample": 2, "restarts": [[3, 2, 0.5, 2.0]]}]
    # Of two rows, by which calls are counted, none begins between these limits.
    + [{"sampler": "heun-edm", "churn": 40.0, "churn_min": 0.05, "churn_max": 50.0}],
)
def test_samples_are_compared_at_equal_numbers_of_evaluations(options, monkeypatch):
    monkeypatch.setattr(disco_mixture, "paths", lambda *_, **__: {})
    recipe = DiscoMixture(m=0, width=8, depth=1, samples=2, **options)
    parts, calls = recipe.build(FACTS), []
    parts.denoiser.register_forward_hook(lambda *_: calls.append(1))
    recipe.examine(parts, FACTS, recipe.load(None), nl.Rng(0))
    counting = 3 if recipe.sampler.startswith("heun") else 2  # by a draw of two rows
    assert len(calls) == 1 + counting + 5 + 9 + 19 + 39 + 79  # the first is of the loss


def trained(tmp_path, encoder=True, **options):
    recipe = DiscoMixture(**{"steps": 1200, "samples": 2000, "width": 64, **options})
    data = recipe.load(None)
    with nl.Rng(recipe.seed).fold("initialisation").torch():
        parts = recipe.build(FACTS)
    if not encoder:
        for parameter in parts.denoiser.encoder.parameters():
            parameter.requires_grad_(False).zero_()
    for _ in train(parts.denoiser, recipe.loss(parts, FACTS), data.train, recipe, tmp_path):
        pass
    parts.denoiser.eval()
    clean = data.held_out.values[:2000]

    def errors(sigma, **conds):
        rng = nl.Rng(0).fold("error")
        return {n: error(parts, clean, sigma, c, rng) for n, c in conds.items()}

    return recipe, parts, data, clean, errors


@pytest.mark.slow
def test_codes_find_the_modes_and_matter_where_there_is_much_noise(tmp_path):
    recipe, parts, data, clean, errors = trained(tmp_path)
    model = parts.denoiser
    codes = model.given(model.encode(clean))
    order = nl.Rng(3).permutation(len(clean))
    conds = {"true": {"codes": codes}, "null": {}, "shuffled": {"codes": codes[order]}}
    far, near = errors(8.0, **conds), errors(0.1, **conds)
    assert far["true"] < 0.5 < 7 < far["null"] < 10 < far["shuffled"]
    # With little noise the state tells all; a wrong code still misleads, but by little.
    assert near["null"] == pytest.approx(near["true"], rel=0.25)
    assert near["shuffled"] < 0.05 * far["shuffled"]
    found = recipe.examine(parts, FACTS, data, nl.Rng(0))
    assert found["perplexity"] > 7.5
    assert found["modes"] == 8
    assert found["mutual_information"] > 2.9
    assert found["energy_table_5"] < 0.02 < 0.05 < found["energy_none_5"]


@pytest.mark.slow
def test_most_seeds_find_the_modes_by_the_defaults(tmp_path):
    """Check 12 of the notes, at the recipe's own length; docs/results.md has 20 of 20 seeds."""
    found = []
    for seed in range(3):
        _, parts, data, clean, errors = trained(
            tmp_path / str(seed), seed=seed, steps=2500, width=96
        )
        model, labels = parts.denoiser, data.held_out.labels[:2000]
        codes = model.encode(clean)
        joint = torch.zeros(8, 8).index_put_(
            (codes[:, 0], labels), torch.ones(2000), accumulate=True
        )
        purity = float(joint.amax(1).sum()) / 2000
        far = errors(8.0, true={"codes": model.given(codes)}, null={})
        assert far["null"] == pytest.approx(8.47, abs=0.3)
        used = float(perplexity(joint.sum(1) / 2000))
        found.append(used > 7.5 and purity > 0.95 and far["true"] < 0.2)
    assert sum(found) >= 2, found


@pytest.mark.slow
def test_an_encoder_that_says_the_same_of_all_gives_the_plain_models_loss(tmp_path):
    *_, blind = trained(tmp_path / "blind", encoder=False, bonus=0.0, steps=600)
    *_, plain = trained(tmp_path / "plain", m=0, steps=600)
    code = {"codes": torch.eye(8)[torch.arange(2000) % 8][:, None]}
    for sigma in (1.0, 8.0):
        found, expected = blind(sigma, random=code, null={}), plain(sigma, null={})["null"]
        assert found["random"] == pytest.approx(expected, rel=0.05)
        assert found["null"] == pytest.approx(expected, rel=0.05)
