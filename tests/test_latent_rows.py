"""State latent of text, tables and sequences: trained, drawn with a prior and without, judged."""

import json
import math
import random
from dataclasses import replace

import pytest
import torch

import noiseloom as nl
from noiseloom.cli import main
from noiseloom.latents import Latent, latent_loss
from noiseloom.loading import load
from noiseloom.meaning import misfit
from noiseloom.objective import denoising_loss, self_conditioned_rows
from noiseloom.prior_folder import read_prior
from noiseloom.recipes import PalettePictures, Sequences, Tables, Text
from noiseloom.recipes.coded import Coded
from noiseloom.recipes.two_stages import NoPriorError, TwoStages
from noiseloom.run_folder import describe

TINY = {
    "steps": 6,
    "batch_size": 8,
    "checkpoint_every": 6,
    "width": 8,
    "depth": 1,
    "heads": 2,
    "encoder_width": 8,
    "encoder_depth": 1,
    "m": 2,
    "k": 3,
    "prior_steps": 4,
    "prior_width": 8,
    "prior_depth": 1,
    "samples": 12,
    "sampling_steps": 3,
    "judged": 10,
    "levels": 2,
}
WORDS = [f"--{name.replace('_', '-')}={value}" for name, value in TINY.items()]
COUNTED = [word for word in WORDS if not word.startswith("--prior-")]  # for no prior, or a table
FACTS = {"length": 4, "sizes": [3] * 4, "frequencies": [[1 / 3] * 3]}

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A file of each kind."""
    folder, draw = tmp_path_factory.mktemp("data"), random.Random(0)
    words = ("a", "cat", "sat", "on", "mats")
    (folder / "text.txt").write_text(" ".join(draw.choice(words) for _ in range(600)))
    lines = ["".join(draw.choice("ACGT") for _ in range(draw.randint(4, 7))) for _ in range(120)]
    (folder / "sequences.txt").write_text("\n".join(lines) + "\n")
    cells = [f"{draw.choice('xyz')},{draw.randint(0, 3)},{draw.choice('uv')}" for _ in range(120)]
    (folder / "table.csv").write_text("\n".join(["one,two,three", *cells]) + "\n")
    return {
        "text": (folder / "text.txt", ["--length=8"]),
        "table": (folder / "table.csv", []),
        "sequences": (folder / "sequences.txt", []),
    }


def train(data, name, out, *words, tiny=WORDS):
    path, more = data[name]
    words = [*tiny, *more, *words]
    return main(["train", name, "--data", str(path), "--out", str(out), "--state=latent", *words])


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """A finished run of text; read only."""
    out = tmp_path_factory.mktemp("run") / "run"
    assert train(data, "text", out) == 0
    return out


def fails(capsys, *words):
    """The one line of an error."""
    capsys.readouterr()
    assert main([str(word) for word in words]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("noiseloom: error: ")
    return line


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("text", "masked"),
        ("text", "bits"),
        ("table", "marginal"),
        ("table", "embedding"),
        ("sequences", "uniform"),
        ("sequences", "onehot"),
    ],
)
def test_one_command_trains_both_stages_and_judges_them(data, tmp_path, name, base):
    out = tmp_path / "run"
    assert train(data, name, out, f"--latent-base={base}") == 0
    kind, told = read_prior(out)
    assert (kind.kind, kind.m, kind.k, kind.num_classes) == ("autoregressive", 2, 3, None)
    found = json.loads((out / "evaluation.json").read_text())
    assert found["prior_bits_held_out"] == pytest.approx(told["prior_bits_held_out"], abs=0.2)
    assert found["code_bits"] == pytest.approx(2 * math.log2(3))
    assert found["bits_per_token_codes"] < found["bits_per_token"]
    assert 1 <= found["perplexity"] <= 3
    assert -1e-6 <= found["information"] <= found["code_bits"]
    assert (out / "report.html").is_file()
    for i, codes in enumerate(("prior", "marginal", "none")):
        path = tmp_path / f"{i}{'.csv' if name == 'table' else '.txt'}"
        assert main(["sample", str(out), "-n", "4", "--codes", codes, "--out", str(path)]) == 0
        assert path.read_text()


def test_comparing_states_has_latent_beside_the_others(data, tmp_path):
    path, more = data["sequences"]
    out = tmp_path / "table"
    words = ["compare", "sequences", "--data", str(path), "--out", str(out), "--seeds", "1"]
    assert main([*words, *WORDS, *more, "--grid", "state=masked,latent,autoregressive"]) == 0
    cells = json.loads((out / "table.json").read_text())["cells"]
    found = {c["options"]["state"]: c for c in cells}
    assert found.keys() == {"masked", "latent", "autoregressive"}
    assert all("bits_per_token" in json.dumps(cell) for cell in cells)
    assert "prior_parameters" in json.dumps(found["latent"])
    assert "perplexity" not in json.dumps(found["masked"])


def test_a_run_without_a_prior_says_how_to_make_it_and_draws_without(data, tmp_path, capsys):
    out = tmp_path / "run"
    words = ["--prior=none", "--codes=marginal"]
    assert train(data, "text", out, *words, tiny=COUNTED) == 0
    assert not (out / "prior").exists()
    assert "no prior yet" in fails(capsys, "sample", out, "--codes", "prior")
    assert main(["prior", str(out), "--prior", "tabular"]) == 0
    again = ["evaluate", str(out), "--codes", "prior"]
    assert main(again) == 0


@pytest.mark.filterwarnings("default:what is filled in is told no codes")
def test_codes_of_a_file_are_told_and_gaps_are_told_none(run, data, tmp_path, capsys):
    (tmp_path / "codes.csv").write_text("0,1\n2,2\n1,0\n")
    words = ["sample", str(run), "--codes-from", str(tmp_path / "codes.csv")]
    assert main([*words, "--out", str(tmp_path / "x.txt")]) == 0
    assert len((tmp_path / "x.txt").read_text().splitlines()) == 3
    known = ["sample", str(run), "--known", "a cat___", "--seed", "3"]
    made, said = [], []
    capsys.readouterr()
    for more in (["-n", "3"], ["-n", "3", "--codes", "none"], [*words[2:]]):
        path = tmp_path / f"{len(made)}.txt"
        assert main([*known, *more, "--out", str(path)]) == 0
        made.append(path.read_text())
        said.append(capsys.readouterr().err.count("warning: what is filled in is told no codes"))
    assert said == [1, 0, 0]  # not where that was asked for, nor where there are some
    assert all(line.startswith("a cat") for line in made[0].splitlines())
    assert made[0] == made[1]
    strict = load(run, device="cpu")
    strict = replace(strict, recipe=replace(strict.recipe, code_drop=0.0))
    given = {"tokens": torch.zeros(2, 8, dtype=torch.int64)}
    given["known"] = torch.arange(8).expand(2, 8) < 3
    with pytest.raises(ValueError, match="know nothing of what is known"):
        strict.samples(given)
    with pytest.raises(ValueError, match="codes none needs a model that was trained without"):
        strict.with_options(codes="none").samples({"row": torch.arange(2)})
    found = strict.with_options(samples=4).evaluate(save=False)
    assert "bits_per_token_surest" in found
    assert "bits_per_token_none" not in found


def test_sample_17_is_the_same_in_any_batch(run):
    model = load(run, device="cpu")
    rows = {"row": torch.arange(20)}
    assert torch.equal(model.samples(rows, seed=1), model.samples(rows, seed=1, batch_size=7))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--latent-base=autoregressive"], "--latent-base: expected one of masked, uniform"),
        (["--m=0"], "state latent needs m >= 1, k >= 2"),
        (["--k=1"], "state latent needs m >= 1, k >= 2"),
        (["--m=100", "--k=100"], "m k <= 4096, got m 100, k 100"),
        (["--m=24", "--k=2", "--prior=tabular"], "use an autoregressive prior"),
        (["--prior=none"], "evaluate with --codes marginal or none"),
        (["--latent-base=bits", "--code-drop=0", "--code-guidance=2"], "dropped at times"),
        (["--relaxation-end=0"], "temperature must be above 0"),
        (["--encoder-width=10"], "a width of 10"),
        (["--encoder-depth=0"], "encoder_depth must be at least 1"),
        (["--latent-base=bits", "--unmask=confidence"], "of state masked"),
        (["--sampler=heun"], "state masked has classes"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line_and_leaves_nothing(
    data, tmp_path, capsys, words, told
):
    path, more = data["text"]
    out = tmp_path / "run"
    line = fails(
        *(capsys, "train", "text", "--data", path, "--out", out, "--state=latent"),
        *(*(COUNTED if "--prior" in " ".join(words) else WORDS), *more, *words),
    )
    assert told in line
    assert not out.exists()


@pytest.mark.parametrize("kind", [Text, Tables, Sequences, PalettePictures])
def test_an_evaluation_without_a_prior_needs_other_codes(kind):
    with pytest.raises(ValueError, match="leaves nothing to draw codes by"):
        kind(state="latent", prior="none").check()


def test_codes_say_nothing_to_other_states():
    for state in ("masked", "bits", "autoregressive"):
        recipe = Text(state=state, m=0, k=1)
        assert not recipe.coded
        assert not recipe.wants_prior
        with pytest.raises(ValueError, match="code_guidance"):
            Text(state=state, code_guidance=2.0)
    assert not issubclass(Text, Coded)
    assert issubclass(Text, TwoStages)
    assert "evaluations" not in Text.changeable()
    assert len(set(Text.changeable())) == len(Text.changeable())


def built(kind=Sequences, facts=FACTS, **options):
    recipe = kind(**{**TINY, "state": "latent", **options})
    with nl.Rng(0).torch():
        parts = recipe.build(facts)
    with torch.no_grad():
        for i, parameter in enumerate(parts.denoiser.parameters()):
            parameter += 0.2 * nl.Rng(1).fold("shake", i).normal(parameter.shape)
    return recipe, parts


@pytest.mark.parametrize("base", ["masked", "uniform", "marginal", "bits", "onehot", "embedding"])
def test_both_passes_are_told_the_codes_of_one_draw(base, monkeypatch):
    recipe, parts = built(latent_base=base, self_conditioning=0.5, code_drop=0.4)
    model, told = parts.denoiser, []
    assert isinstance(model, Latent)
    inner = model.denoiser.forward

    def listening(x, t, cond=None, carry=None, rng=None):
        told.append(cond["codes"])
        return inner(x, t, cond, carry, rng)

    monkeypatch.setattr(model.denoiser, "forward", listening)
    tokens, rows = nl.Rng(3).integers(3, (32, 4)), torch.arange(32)
    loss = recipe.loss(parts, FACTS)(model, {"tokens": tokens}, nl.Rng(4).samples(32), rows)
    loss.mean().backward()
    first, second = told
    assert torch.equal(first, second[self_conditioned_rows(rows, 0.5)])
    dropped = second.sum((1, 2)) == 0
    assert bool(dropped.any() and not dropped.all())
    assert all(p.grad is not None and p.grad.any() for p in model.encoder.parameters())


def test_the_loss_is_that_of_the_base_told_codes():
    recipe, parts = built(infill=0.5, objective="bound")
    tokens, rows, rng = nl.Rng(3).integers(3, (8, 4)), torch.arange(8), nl.Rng(4).samples(8)
    t, counted = recipe.training_times(tokens, rng.fold("time"), rows)
    model = parts.denoiser.eval()
    model.bonus = None
    options = {"rows": rows, "counted": counted, "cross_entropy": True}
    found = recipe.loss(parts, FACTS)(model, {"tokens": tokens}, rng, rows)
    same = latent_loss(model, parts.diffusion, tokens, t, {}, rng, **options)
    torch.testing.assert_close(found, same)
    plain = denoising_loss(model.denoiser, parts.diffusion, tokens, t, {}, rng, **options)
    assert found.shape == plain.shape
    assert not torch.equal(found, plain)


def test_a_bound_pays_for_what_the_encoder_tells():
    recipe, parts = built()
    tokens = nl.Rng(3).integers(3, (40, 4))
    with pytest.raises(NoPriorError):
        recipe.bits(parts, tokens, nl.Rng(0))
    prior = nl.TabularPrior(2, 3)
    with_prior = replace(parts, prior=prior)
    _, paid = recipe.nats(with_prior, tokens, nl.Rng(0), "surest")[-1]
    torch.testing.assert_close(paid, torch.full_like(paid, 2 * math.log(3)))  # it is uniform
    bits, error = recipe.bits(with_prior, tokens, nl.Rng(0))
    both = recipe.nats(with_prior, tokens, nl.Rng(0))[-1].sum(0) / 4 / math.log(2)
    assert bits == pytest.approx(float(both.mean()))
    assert error > 0
    # Codes by their marginals are another law, of which the running shares are the prior.
    usage = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]])
    parts.denoiser.usage.copy_(usage)
    marginal = replace(recipe, codes="marginal")
    _, paid = marginal.nats(parts, tokens, nl.Rng(0), "surest")[-1]
    z = parts.denoiser.encode(tokens)
    expected = -(usage[0].log()[z[:, 0]] + usage[1].log()[z[:, 1]])
    torch.testing.assert_close(paid.float(), expected)
    # And none are no codes: nothing is paid, and the row is not read.
    _, nothing = replace(recipe, codes="none").nats(parts, tokens, nl.Rng(0))[-1]
    assert not nothing.any()


def test_the_encoder_of_a_table_has_maps_for_each_column():
    facts = {"length": 3, "sizes": [3, 2, 4], "frequencies": [[0.25] * 4] * 3}
    _, parts = built(Tables, facts)
    assert parts.denoiser.encoder.enter.shape == (3, 4, 8)
    _, parts = built(Sequences)
    assert parts.denoiser.encoder.enter is None


@pytest.mark.parametrize("base", ["masked", "uniform", "bits", "embedding"])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_guidance_by_the_codes_is_inside_of_self_conditioning(base, share):
    recipe, parts = built(latent_base=base, self_conditioning=share)
    rows, codes = {"row": torch.arange(30)}, torch.tensor([[0, 2]] * 30)

    def drawn(given, **changes):
        made = replace(recipe, **changes)
        *_, last = made.draw(parts, FACTS, given, nl.Rng(2).samples(30))
        return last.result

    given = {**rows, "codes": codes}
    none = drawn(rows, codes="none")
    assert torch.equal(drawn(given, code_guidance=0.0), none)
    assert not torch.equal(drawn(given), none)
    assert not torch.equal(drawn(given, code_guidance=2.0), drawn(given))


def test_only_rows_of_latents_were_trained_with_codes(tmp_path):
    told = {}
    for old, new in (("latent", "bits"), ("bits", "latent"), ("bits", "onehot")):
        described = describe(Text(state=old), {}, data=None, command="")
        (tmp_path / "recipe.yaml").write_text(described)
        told[old, new] = misfit("no place for w", Text(state=new), {}, tmp_path)
    assert "was trained with codes" in told.pop(("latent", "bits"))
    assert all(line.startswith("no place for w") for line in told.values())
