"""Text, tables and sequences of one's own by every kind of state, by the commands and by parts."""

import json
import math
import random
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import noiseloom
from noiseloom import Rng, SamplingPlan
from noiseloom.cli import main
from noiseloom.data import Split, Tokens, image_folder, read_palette, template, vocabulary
from noiseloom.data import palette as palettes
from noiseloom.data.characters import LETTERS, Characters
from noiseloom.data.tokens import evenly
from noiseloom.recipes import RECIPES, Classes
from noiseloom.remarks import by_heart, remarks
from noiseloom.training import train

STATES = ("masked", "uniform", "marginal", "bits", "onehot", "embedding", "autoregressive")
TINY = ["--steps", "6", "--batch-size", "8", "--width", "16", "--depth", "1", "--heads", "2"]
TINY += ["--sampling-steps", "3", "--samples", "24", "--judged", "16", "--levels", "2"]

TOLD = pytest.mark.filterwarnings("default:a causal network sees no later token")

CHAIN = torch.tensor([[0.9, 0.1, 0.0], [0.0, 0.2, 0.8], [0.7, 0.0, 0.3]])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A file of each kind, and a template of each."""
    folder, draw = tmp_path_factory.mktemp("own"), random.Random(0)
    (folder / "text.txt").write_text(
        " ".join(draw.choice(["so", "it", "goes", "on"]) for _ in range(900))
    )
    (folder / "sequences.txt").write_text(
        "\n".join("".join(draw.choices("ACGT", k=draw.randint(3, 9))) for _ in range(300))
    )
    rows = [
        f"{draw.randint(0, 5)},{draw.choice(['a', 'b', ''])},{draw.gauss(0, 1):.4f}"
        for _ in range(300)
    ]
    (folder / "table.csv").write_text("age,job,gain\n" + "\n".join(rows) + "\n")
    (folder / "gaps.csv").write_text("age,job,gain\n3,,\n,b,0.12345\n")
    return folder


KINDS = {
    "text": ("text.txt", ["--length", "12"], "so __ goes"),
    "table": ("table.csv", ["--bins", "4"], "gaps.csv"),
    "sequences": ("sequences.txt", [], "AC_T"),
}
CASES = [("text", state) for state in STATES]
CASES += [(kind, s) for kind in ("table", "sequences") for s in ("masked", "uniform", "bits")]
CASES += [("table", "autoregressive"), ("sequences", "autoregressive"), ("table", "marginal")]


def trained(files, tmp_path, kind, *options):
    file, own, _ = KINDS[kind]
    out = tmp_path / "run"
    command = ["train", kind, "--data", str(files / file), "--out", str(out), *TINY, *own]
    assert main([*command, *options]) == 0
    return out


@TOLD
@pytest.mark.parametrize(("kind", "state"), CASES)
def test_every_state_is_trained_judged_shown_and_drawn(kind, state, files, tmp_path, capsys):
    out = trained(files, tmp_path, kind, "--state", state)
    found = json.loads((out / "evaluation.json").read_text())
    assert 0 < found["bits_per_token"] < 12
    # Of states that are self-conditioned, what they say when told nothing stands beside it.
    assert ("bits_per_token_one_call" in found) is (state in ("bits", "onehot", "embedding"))
    assert (out / "report.html").read_text().count("Held out") == 1

    run = noiseloom.load(out)
    words = vocabulary(run.facts["vocabulary"])
    given = {"row": torch.arange(6)}
    drawn = run.samples(given, seed=3)
    assert drawn.shape == (6, run.facts["length"])
    assert not (drawn >= torch.tensor(run.facts["sizes"])).any()
    assert drawn.min() >= 0
    assert torch.equal(run.samples(given, seed=3, batch_size=4), drawn)

    template = KINDS[kind][2]
    known = str(files / template) if template.endswith(".csv") else template
    file = tmp_path / f"drawn.{'csv' if kind == 'table' else 'txt'}"
    assert main(["sample", str(out), "--known", known, "--out", str(file)]) == 0
    lines = file.read_text().splitlines()
    if kind == "table":
        assert lines[0] == "age,job,gain"
        assert [line.split(",")[0] for line in lines[1:5]] == ["3"] * 4
        assert [line.split(",")[1:] for line in lines[5:9]] == [["b", "0.12345"]] * 4
        assert len(words.encode([line.split(",") for line in lines[1:]])) == 8
    else:
        fixed = [(i, c) for i, c in enumerate(template) if c != "_"]
        assert len(lines) == 4
        for line in lines:
            # A sequence may end in a gap: what comes after it is not written.
            assert kind == "sequences" or all(line[i] == c for i, c in fixed)
        assert all(line.startswith(template.split("_")[0]) for line in lines)
    capsys.readouterr()


def test_pictures_of_few_colours_are_rows_too(tmp_path, capsys):
    folder, colours = tmp_path / "tiles", np.array([[0, 0, 0], [255, 0, 0], [9, 200, 40]])
    folder.mkdir()
    draw = np.random.default_rng(0)
    for i in range(40):
        pixels = colours[draw.integers(3, size=(4, 4))].astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    out = tmp_path / "run"
    command = ["train", "palette", "--data", str(folder), "--out", str(out), "--side", "4", *TINY]
    assert main([*command, "--no-evaluate"]) == 0
    run = noiseloom.load(out)
    words = vocabulary(run.facts["vocabulary"])
    assert sorted(words.colours) == sorted(map(tuple, colours.tolist()))  # as they are
    drawn = run.samples({"row": torch.arange(5)}, seed=0)
    pixels = words.pixels(drawn)
    assert pixels.shape == (5, 3, 4, 4)
    assert torch.equal(words.encode(pixels), drawn)
    half = np.zeros((4, 4, 4), dtype=np.uint8)
    half[:2] = (255, 0, 0, 255)
    Image.fromarray(half).save(tmp_path / "half.png")
    tokens, known = words.read_template(tmp_path / "half.png")
    red = words.colours.index((255, 0, 0))
    assert known[0].tolist() == [True] * 8 + [False] * 8
    assert (tokens[known] == red).all()
    file = tmp_path / "drawn.png"
    template = str(tmp_path / "half.png")
    capsys.readouterr()
    assert main(["sample", str(out), "--known", template, "--out", str(file)]) == 0
    assert "known pixels" not in capsys.readouterr().err
    half[1, 2] = (250, 3, 4, 255)
    half[1, 3] = (200, 10, 90, 255)  # farther from a colour of the palette
    half[3, 3] = (9, 9, 9, 0)  # not known
    Image.fromarray(half).save(template)
    file.unlink()
    assert main(["sample", str(out), "--known", template, "--out", str(file)]) == 0
    assert (
        "note: 2 of 8 known pixels have colours that the palette has not, and become the nearest: "
        "(200, 10, 90) in row 2, column 4 is (255, 0, 0) then\n"
    ) in capsys.readouterr().err
    assert file.stat().st_size > 0
    for name, told in (("5.png", "5 x 5"), ("full.png", "no transparent")):
        side = 5 if "5" in name else 4
        Image.new("RGBA", (side, side), (255, 0, 0, 255)).save(tmp_path / name)
        with pytest.raises(ValueError, match=told):
            words.read_template(tmp_path / name)
    with pytest.raises(ValueError, match="2 to 256 colours"):
        RECIPES["palette"](side=4, colours=1).load(str(folder))
    capsys.readouterr()


def test_a_rare_colour_of_many_pixels_is_in_the_palette(tmp_path, monkeypatch):
    pixels = np.zeros((40, 8, 8, 3), dtype=np.uint8)
    pixels[:, 0] = (9, 8, 7)
    pixels[:, 1, 1] = (0, 0, 1) + np.arange(40)[:, None] % 2 * np.uint8(1)
    for i, picture in enumerate(pixels):
        Image.fromarray(picture).save(tmp_path / f"{i:02}.png")
    train = image_folder(tmp_path, 8).train.pixels
    own = sorted(set(map(tuple, train.movedim(1, -1).reshape(-1, 3).tolist())))
    monkeypatch.setattr(palettes, "_PIXELS", 5)
    assert read_palette(tmp_path, 8, len(own))[1].colours == tuple(own)


def test_a_palette_of_many_colours_is_near_to_all_of_them(tmp_path):
    draw = np.random.default_rng(0)
    for i in range(30):
        ramp = draw.integers(256, size=3) * np.linspace(0, 1, 64)[:, None]
        Image.fromarray(ramp.reshape(8, 8, 3).astype(np.uint8)).save(tmp_path / f"{i}.png")
    errors = []
    for colours in (4, 16, 64):
        split, palette = read_palette(tmp_path, 8, colours)
        assert len(palette.colours) <= colours
        again = vocabulary(json.loads(json.dumps(palette.facts())))
        assert again == palette
        real = image_folder(tmp_path, 8).train.pixels.float()
        errors.append(float((palette.pixels(split.train.values).float() - real).square().mean()))
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


def test_bits_of_a_model_that_is_not_drawn_from_are_called_so():
    assert Chain().caveat == ""
    assert "two calls" in Chain(state="bits").caveat
    assert "two calls" in Chain(self_conditioning=0.5).caveat
    assert "the flow" in Chain(state="bits", self_guidance=1.0).caveat
    drawn = Chain(state="bits", self_guidance=1.0, sampler="ddpm-small")
    assert drawn.caveat == ""  # draws what the bits are of


@dataclass(frozen=True)
class Chain(Classes):
    """Rows of a Markov chain whose entropy is known."""

    name: ClassVar[str] = "chain"
    summary: ClassVar[str] = "a Markov chain"
    kind: ClassVar[str] = "text"
    width: int = 32
    depth: int = 2
    steps: int = 400
    batch_size: int = 64
    learning_rate: float = 5e-3

    def load(self, data: str | None) -> Split:
        return Split(Tokens(rows(8000, 0), (3,) * 8), Tokens(rows(1000, 1), (3,) * 8))

    def evaluate(self, draw, data, rng) -> dict[str, float]:
        return {}


def rows(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(3, (count, 1), generator=generator)
    for _ in range(7):
        x = torch.cat((x, torch.multinomial(CHAIN[x[:, -1]], 1, generator=generator)), 1)
    return x


def parts_of(recipe: Classes):
    data = recipe.load(None)
    facts = recipe.facts(data)
    with Rng(0).torch():
        return recipe.build(facts), facts, data


def learnt(recipe: Classes, tmp_path):
    parts, facts, data = parts_of(recipe)
    for _ in train(parts.denoiser, recipe.loss(parts, facts), data.train, recipe, tmp_path / "r"):
        pass
    return parts, facts, data


@pytest.mark.slow
@pytest.mark.parametrize(
    ("state", "more", "excess"),
    [
        ("masked", {}, 0.06),
        ("masked", {"objective": "bound"}, 0.06),
        ("uniform", {}, 0.15),
        ("uniform", {"objective": "bound"}, 0.15),
        ("marginal", {}, 0.15),
        ("bits", {}, 0.25),
        ("onehot", {}, 0.25),
        ("embedding", {}, 0.25),
        ("autoregressive", {}, 0.02),
    ],
)
def test_the_bits_of_a_chain_come_near_its_entropy(state, more, excess, tmp_path):
    recipe = Chain(state=state, **more)
    parts, facts, data = learnt(recipe, tmp_path)
    held = data.held_out.values
    nats = math.log(3) - CHAIN[held[:, :-1], held[:, 1:]].log().sum(1).mean()
    truth = float(nats) / 8 / math.log(2)
    found = recipe.examine(parts, facts, data, Rng(0))
    assert -4 * found["bits_per_token_se"] < found["bits_per_token"] - truth < excess
    *_, last = recipe.draw(parts, facts, {}, Rng(1).samples(2000))
    drawn = recipe.decode(parts, last.result, {})
    impossible = (CHAIN[drawn[:, :-1], drawn[:, 1:]] == 0).float().mean()
    chance = 4 / 9
    assert float(impossible) < 0.2 * chance


@dataclass(frozen=True)
class Few(Chain):
    """The same of twenty rows to learn from, and ten that are held out."""

    judged: int = 45

    def load(self, data: str | None) -> Split:
        return Split(Tokens(rows(20, 0), (3,) * 8), Tokens(rows(10, 1), (3,) * 8))


@pytest.mark.parametrize(("state", "draws"), [("masked", 18), ("bits", 18), ("autoregressive", 1)])
def test_bounds_of_few_rows_are_means_over_several_draws_of_each(state, draws, monkeypatch):
    recipe = Few(state=state, levels=2)  # 45 rows of 32 tokens are 18 times ten of eight
    parts, facts, data = parts_of(recipe)
    with torch.no_grad():  # so that a second call differs from the first
        for i, parameter in enumerate(parts.denoiser.parameters()):
            parameter += 0.3 * Rng(1).fold("shake", i).normal(parameter.shape)
    asked, inner = [], Few.nats
    monkeypatch.setattr(Few, "nats", lambda *a, **k: asked.append(len(a[2])) or inner(*a, **k))
    found = recipe.examine(parts, facts, data, Rng(0))
    assert asked == [10 * draws, 20]
    held = data.held_out.values
    nats = inner(recipe, parts, held.repeat(draws, 1), Rng(0).fold("bits"))[-1].sum(0)
    each = nats.reshape(draws, 10).mean(0) / 8 / math.log(2)
    assert found["bits_per_token"] == pytest.approx(float(each.mean()))
    assert found["bits_per_token_se"] == pytest.approx(float(each.std() / math.sqrt(10)))
    seen = inner(recipe, parts, data.train.values, Rng(0).fold("train"))[-1].sum(0)
    assert found["bits_per_token_seen"] == pytest.approx(float(seen.mean()) / 8 / math.log(2))


def test_rows_that_were_learnt_by_heart_are_told(tmp_path):
    recipe = Few(state="autoregressive")
    parts, facts, data = learnt(recipe, tmp_path)
    data = Split(data.train, Tokens(rows(200, 2), (3,) * 8))
    found = recipe.examine(parts, facts, data, Rng(0))
    distinct = math.log2(len(data.train.values.unique(dim=0))) / 8
    assert found["bits_per_token_seen"] < distinct + 0.15
    assert found["bits_per_token"] > 1.5  # the chain has 0.96
    assert "rows were learnt by heart" in by_heart(found)
    assert remarks(recipe, found) == [by_heart(found)]


@pytest.mark.parametrize("times", ["shared", "independent"])
def test_tokens_that_are_shown_are_clean_and_do_not_count(times):
    recipe = Chain(times=times, infill=0.5)
    tokens = torch.zeros(4000, 8, dtype=torch.int64)
    keys = Rng(0).samples(4000)
    t, counted = recipe.training_times(tokens, keys, torch.arange(4000))
    assert torch.equal(t == 0, ~counted)
    some = (~counted).any(1)
    # Half of the rows show some, less those whose share, uniform in (0, 1), shows none of eight.
    assert float(some.float().mean()) == pytest.approx(0.5 * 8 / 9, abs=0.03)
    same = (t == t[:, :1]).all(1)[~some]
    assert bool(same.all()) is (times == "shared")
    assert (
        not Chain(infill=0).training_times(tokens, keys, torch.arange(4000))[1].logical_not().any()
    )


@pytest.mark.parametrize("state", ["masked", "bits"])
@pytest.mark.parametrize("plan", ["autoregressive", "pyramid:1", "chunked:4"])
def test_plans_of_tokens_work_unchanged(state, plan):
    recipe = Chain(state=state, plan=plan, times="independent", sampling_steps=2)
    parts, facts, _ = parts_of(recipe)
    steps = list(recipe.draw(parts, facts, {}, Rng(0).samples(5)))
    assert len(steps) == len(recipe.plan_of(facts, parts.diffusion.schedule))
    assert steps[-1].result.shape[:2] == (5, 8)


@pytest.mark.parametrize("state", ["masked", "bits"])
def test_a_plan_from_a_file_is_the_plan_of_that_name(tmp_path, state):
    file = tmp_path / "mine.json"
    SamplingPlan.pyramid(2, 8, 1).save(file)
    options = {"state": state, "times": "independent", "sampling_steps": 2}
    by_name, by_file = Chain(plan="pyramid:1", **options), Chain(plan=str(file), **options)
    parts, facts, _ = parts_of(by_name)
    one, two = (
        list(recipe.draw(parts, facts, {}, Rng(0).samples(5)))[-1].result
        for recipe in (by_name, by_file)
    )
    assert torch.equal(one, two)
    schedule = parts.diffusion.schedule
    assert torch.equal(by_file.plan_of(facts, schedule).t, by_name.plan_of(facts, schedule).t)
    SamplingPlan.pyramid(2, 7, 1).save(file)  # which is read when it is needed
    with pytest.raises(ValueError, match="other sequences than of 8 tokens"):
        by_file.plan_of(facts, schedule)


@pytest.mark.parametrize("kind", ["table", "sequences"])
def test_the_plan_that_is_shown_is_the_plan_that_runs(kind, files, tmp_path, capsys):
    out = trained(files, tmp_path, kind, "--no-evaluate")
    capsys.readouterr()
    command = ["sample", str(out), "--plan", "pyramid:1", "-n", "2"]
    assert main([*command, "--out", str(tmp_path / "x.csv")]) == 0
    length = noiseloom.load(out).facts["length"]
    head, *picture = capsys.readouterr().err.splitlines()
    rows = 3 + length - 1  # each token has three steps, and begins one after that before it
    assert f"{rows} rows of {length} tokens" in head
    assert {len(line) for line in picture} == {length}


def test_frequencies_are_those_of_training_and_leave_no_class_out():
    recipe = Chain(state="marginal")
    _, facts, data = parts_of(recipe)
    counts = torch.bincount(data.train.values.flatten(), minlength=3).double()
    found = torch.tensor(facts["frequencies"])
    assert found.shape == (1, 3)
    torch.testing.assert_close(found[0].double(), counts / counts.sum(), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"state": "masked", "sampler": "heun"}, "moves numbers"),
        ({"state": "uniform", "unmask": "confidence"}, "of state masked"),
        ({"state": "bits", "plan": "pyramid:1"}, "--times independent"),
        ({"state": "autoregressive", "td": 1.0}, "of diffusions"),
        ({"state": "masked", "temperature": 0.5}, "of state autoregressive"),
        ({"order_noise": 1.0}, "of --unmask confidence"),
        ({"unmask": "confidence", "churn": 1.0}, "goes down only"),
        ({"churn": 1.0, "churn_noise": 1.01}, "scales numbers"),
        ({"infill": 1.5}, r"infill must be in \[0, 1\]"),
        ({"self_conditioning": -1.0}, r"self_conditioning must be in \[0, 1\]"),
        ({"conditional": True}, "no classes of rows"),
        ({"width": 0}, "at least 1"),
        ({"temperature": -1.0}, "temperature"),
        ({"plan": "spiral"}, "no plan 'spiral'"),
        ({"state": "words"}, "state must be one of"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(options, message):
    with pytest.raises(ValueError, match=message):
        Chain(**options)


@pytest.mark.parametrize(
    ("kind", "known", "message"),
    [
        ("text", "so ZZ", "row 1|template"),
        ("text", "so it goes on on on", "are the most"),
        ("sequences", "AC_X", "X"),
        ("table", "nowhere.csv", "nowhere.csv"),
    ],
)
def test_templates_that_do_not_fit_are_one_line(kind, known, message, files, tmp_path, capsys):
    out = trained(files, tmp_path, kind, "--no-evaluate")
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        raise SystemExit(main(["sample", str(out), "--known", known, "--out", str(tmp_path / "x")]))
    assert stop.value.code == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert any(word in said[0] for word in message.split("|"))
    assert not (tmp_path / "x").exists()


@TOLD
@pytest.mark.parametrize("state", ["masked", "uniform", "bits", "autoregressive"])
def test_rows_of_numbers_are_filled_as_a_template_says(state, tmp_path, capsys):
    draw = np.random.default_rng(0)
    np.save(tmp_path / "rows.npy", draw.integers(5, size=(200, 6)))
    out, file = tmp_path / "run", tmp_path / "drawn.npy"
    command = ["train", "sequences", "--data", str(tmp_path / "rows.npy"), "--out", str(out)]
    assert main([*command, *TINY, "--no-evaluate", "--state", state]) == 0
    np.save(tmp_path / "gaps.npy", np.array([[4, -1, -1, 0], [-1, -1, 2, -1]]))
    known = ["--known", str(tmp_path / "gaps.npy")]
    assert main(["sample", str(out), *known, "--out", str(file)]) == 0
    drawn = np.load(file)
    assert drawn.shape == (8, 6)
    assert 0 <= drawn.min() <= drawn.max() < 5
    assert (drawn[:4, [0, 3]] == [4, 0]).all()
    assert (drawn[4:, 2] == 2).all()
    lines = tmp_path / "drawn.txt"
    assert main(["sample", str(out), "--known", "4,?,?,0", "-n", "3", "--out", str(lines)]) == 0
    assert [line.split(",")[:4:3] for line in lines.read_text().splitlines()] == [["4", "0"]] * 3
    capsys.readouterr()
    for wrong in ("4,5", "1,2,3,4,0,1,2", "so_it"):
        assert main(["sample", str(out), "--known", wrong, "--out", str(tmp_path / "x.txt")]) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert main(["sample", str(out), *known, "-n", "1", "--out", str(tmp_path / "x.txt")]) == 2
    assert "gaps.npy has 2 templates, and -n is 1" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["text", "table", "sequences"])
def test_a_recipe_without_data_says_what_it_reads(kind):
    with pytest.raises(ValueError, match="--data FILE"):
        RECIPES[kind]().load(None)


def test_a_schema_is_printed_written_edited_and_given_back(files, tmp_path, capsys):
    schema = tmp_path / "schema.yaml"
    trained(files, tmp_path, "table", "--no-evaluate", "--schema", str(schema))
    said = capsys.readouterr().err
    assert "job     categorical" in said
    text = schema.read_text()
    assert "gain" in text
    lines = ["gain: leave_out" if line.startswith("gain:") else line for line in text.splitlines()]
    schema.write_text("\n".join(lines) + "\n")
    out = tmp_path / "second"
    command = ["train", "table", "--data", str(files / "table.csv"), "--out", str(out), *TINY]
    assert main([*command, "--no-evaluate", "--schema", str(schema)]) == 0
    run = noiseloom.load(out)
    assert run.facts["length"] == 2
    assert "left out" in capsys.readouterr().err


def test_what_is_known_of_letters_is_read_as_their_text_was(files, tmp_path):
    out = trained(files, tmp_path, "text", "--no-evaluate", "--alphabet", "letters")
    file = tmp_path / "x.txt"
    command = ["sample", str(out), "--known", "SO, It??-- Ö", "--gap", "?", "-n", "3"]
    assert main([*command, "--out", str(file)]) == 0
    for line in file.read_text().removesuffix("\n").split("\n"):
        assert len(line) == 12
        assert (line[:5], line[7]) == ("so it", " ")
    one = template("SO, It__-- Ö", Characters(LETTERS), length=12)
    for found, same in zip(one, template("so it__ ", Characters(LETTERS), length=12), strict=True):
        assert torch.equal(found, same)
    with pytest.raises(ValueError, match="'S', character 1, is none of the 28"):
        template("SO", Characters(LETTERS + "!"))


def test_a_prior_is_refused_by_the_state_of_a_run(files, tmp_path, capsys):
    out = trained(files, tmp_path, "table", "--no-evaluate", "--state", "bits")
    capsys.readouterr()
    assert main(["prior", str(out)]) == 2
    told = "has no codes for a prior to draw: its state is bits, and codes are of state latent"
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "name"), [("sequences", "x.txt"), ("sequences", "ACG.smi"), ("text", "so.md")]
)
@pytest.mark.parametrize("there", [True, False])
def test_what_is_known_of_sequences_is_no_file(kind, name, there, files, tmp_path, capsys):
    out = trained(files, tmp_path, kind, "--no-evaluate")
    capsys.readouterr()
    if there:
        (tmp_path / name).write_text("AC_T\n")
    path = str(tmp_path / name)
    assert main(["sample", str(out), "--known", path, "--out", str(tmp_path / "o.txt")]) == 2
    thing = "sequence" if kind == "sequences" else "text"
    told = (
        f"what is known is a {thing} itself, with '_' for each unknown token, and no file: {path}"
    )
    assert told in capsys.readouterr().err


def test_a_file_that_is_called_as_what_is_known_does_not_matter(files, tmp_path, monkeypatch):
    out = trained(files, tmp_path, "text", "--no-evaluate")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "so").write_text("x")
    assert main(["sample", str(out), "--known", "so", "--out", "o.txt", "-n", "2"]) == 0
    assert (tmp_path / "o.txt").read_text().startswith("so")


@TOLD
@pytest.mark.parametrize("state", ["masked", "uniform", "bits", "autoregressive"])
def test_a_sequence_does_not_end_before_what_is_known_of_it(state, files, tmp_path, capsys):
    out = trained(files, tmp_path, "sequences", "--no-evaluate", "--state", state)
    file = tmp_path / "drawn.txt"
    command = ["sample", str(out), "--known", "A?C?G", "--gap", "?", "-n", "300"]
    assert main([*command, "--out", str(file)]) == 0
    lines = file.read_text().splitlines()
    assert len(lines) == 300
    assert all(len(s) >= 5 and (s[0], s[2], s[4]) == ("A", "C", "G") for s in lines)
    capsys.readouterr()


def test_options_of_drawing_are_options_of_the_commands(files, tmp_path, capsys):
    out = trained(files, tmp_path, "text", "--no-evaluate")
    file = tmp_path / "drawn.txt"
    command = ["sample", str(out), "--unmask", "confidence", "--order-noise", "0.5"]
    assert main([*command, "-n", "3", "--out", str(file)]) == 0
    assert len(file.read_text().splitlines()) == 3
    assert main(["sample", str(out), "--temperature", "0.5", "--force", "--out", str(file)]) == 2
    assert "of state autoregressive" in capsys.readouterr().err


@pytest.mark.parametrize("state", ["masked", "uniform", "bits", "autoregressive"])
def test_a_model_that_says_nothing_is_not_drawn_from(state, files, tmp_path):
    run = noiseloom.load(trained(files, tmp_path, "text", "--no-evaluate", "--state", state))
    with torch.no_grad():
        for parameter in run.denoiser.parameters():
            parameter.fill_(torch.nan)
    with pytest.raises(ValueError, match=r"not finite|not numbers"):
        run.samples({"row": torch.arange(3)})


def test_places_of_long_texts_are_whole_numbers():
    for count in (62_999_936, 70_000_000, 3):
        places = evenly(count, 10_000)
        assert int(places[-1]) < count
        assert len(places.unique()) == min(count, 10_000)


@pytest.mark.parametrize("kind", ["text", "table", "sequences"])
def test_other_data_are_judged_by_the_words_of_the_run(kind, files, tmp_path, capsys):
    out = trained(files, tmp_path, kind, "--no-evaluate")
    table = "job,gain,age\n" + "a,0.3,1\n,7,2\n" * 30  # fewer jobs, ages beyond none, another order
    some = {"text": "so it so it on on " * 40, "sequences": "ACG\nAACC\nGTTA\nTT\nCCC\nGA\n"}
    other = tmp_path / ("other.csv" if kind == "table" else "other.txt")
    other.write_text({**some, "table": table}[kind])
    assert main(["evaluate", str(out), "--data", str(other), "--samples", "24"]) == 0
    kept = list((out / "evaluations").glob("*data=*.json"))
    assert 0 < json.loads(kept[0].read_text())["bits_per_token"] < 12
    assert ("column 'gain': 30 numbers" in capsys.readouterr().err) is (kind == "table")
    wrong = {**some, "table": table + "@,1,1\n"}[kind]
    other.write_text(wrong if kind == "table" else "@" + wrong)
    assert main(["evaluate", str(out), "--data", str(other)]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "@" in said
    assert kind != "table" or "other.csv: line 62, column 'job': there is no class for '@'" in said


def test_a_table_is_its_own_data_by_the_columns_of_its_run(files, tmp_path, capsys):
    out = trained(files, tmp_path, "table")
    assert main(["evaluate", str(out), "--samples", "24"]) == 0
    assert not (out / "evaluations").exists()  # kept as that of its own data
    capsys.readouterr()


def test_it_is_said_that_a_model_saw_nothing_known(files, tmp_path, capsys):
    out = trained(files, tmp_path, "text", "--no-evaluate", "--state", "bits", "--infill", "0")
    file = tmp_path / "drawn.txt"
    assert main(["sample", str(out), "--known", "so __", "--out", str(file)]) == 0
    assert capsys.readouterr().err.count("--infill 0") == 1


BETWEEN = "warning: a causal network sees no later token"


@TOLD
@pytest.mark.parametrize(
    ("state", "known", "told"),
    [
        ("autoregressive", "so __ goes", 1),
        ("autoregressive", "so it g____", 0),  # a beginning, which it knows
        ("masked", "so __ goes", 0),
    ],
)
def test_it_is_said_that_what_follows_a_gap_is_not_known_token_by_token(
    state, known, told, files, tmp_path, capsys
):
    out = trained(files, tmp_path, "text", "--no-evaluate", "--state", state)
    capsys.readouterr()
    command = ["sample", str(out), "--known", known, "-n", "3"]
    assert main([*command, "--out", str(tmp_path / "drawn.txt")]) == 0
    said = capsys.readouterr().err
    assert said.count(BETWEEN) == told
    assert ("train with --state masked" in said) is bool(told)


def test_rows_of_a_batch_that_know_something_after_a_gap_are_found_by_themselves():
    recipe = Chain(state="autoregressive")
    parts, facts, _ = parts_of(recipe)
    tokens = torch.zeros(2, 8, dtype=torch.int64)
    known = torch.zeros(2, 8, dtype=torch.bool)
    known[0, :3] = True
    list(recipe.draw(parts, facts, {"tokens": tokens, "known": known}, Rng(0).samples(2)))
    known[1, 4] = True  # after what the row before it knows, and after a gap of its own
    with pytest.warns(UserWarning, match="--state masked"):
        list(recipe.draw(parts, facts, {"tokens": tokens, "known": known}, Rng(0).samples(2)))


def test_a_column_of_any_words_may_say_what_is_held_out(files):
    path = str(files / "table.csv")
    with pytest.raises(ValueError, match="neither train nor test: say which value is held out"):
        RECIPES["table"](split="age").load(path)
    split = RECIPES["table"](split="age", held_out_value="3").load(path)
    lines = (files / "table.csv").read_text().splitlines()[1:]
    assert len(split.held_out) == sum(line.startswith("3,") for line in lines)
    assert split.vocabulary.names == ("job", "gain")
