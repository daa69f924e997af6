"""Diffusion Forcing's recipes: what their options make, and that they learn."""

import json
import re
from pathlib import Path

import pytest
import torch

import noiseloom
from noiseloom import SamplingPlan
from noiseloom.cli import main
from noiseloom.encodings import Bits, Scaled
from noiseloom.nets import CausalTransformer, Recurrent, Transformer
from noiseloom.objective import min_snr_weight
from noiseloom.recipes import RECIPES, ForcingDigits, ForcingSeries
from noiseloom.recipes.forcing import token_plan
from noiseloom.recipes.forcing_digits import Rows
from noiseloom.rng import Rng
from noiseloom.run_folder import read_description

TINY = {"width": 16, "depth": 1, "heads": 2, "batch_size": 8, "warmup": 1, "steps": 2}
WORDS = [f"--{name.replace('_', '-')}={value}" for name, value in TINY.items()]


@pytest.mark.parametrize("codec", [Scaled(16), Bits(16, axis=1)])
def test_rows_are_pictures_and_back(codec):
    pixels = Rng(0).integers(16, (5, 3, 4, 6)).to(torch.uint8)
    channels = codec.encode(pixels).shape[1]
    rows = Rows(codec, channels).encode(pixels)
    assert rows.shape == (5, 4, channels * 6)
    # Token t holds row t of the picture, and nothing else.
    other = pixels.clone()
    other[:, :, 2] = 15 - other[:, :, 2]
    changed = (Rows(codec, channels).encode(other) != rows).any(-1).any(0)
    assert changed.tolist() == [False, False, True, False]
    assert torch.equal(Rows(codec, channels).decode(rows), codec.decode(codec.encode(pixels)))


@pytest.mark.parametrize(
    ("name", "plan"),
    [
        ("full-sequence", SamplingPlan.full_sequence(5, 8)),
        ("autoregressive", SamplingPlan.autoregressive(5, 8)),
        ("pyramid:1.5", SamplingPlan.pyramid(5, 8, 1.5)),
        ("trapezoid:2", SamplingPlan.trapezoid(5, 8, 2)),
        ("chunked:3", SamplingPlan.chunked(5, 8, 3)),
    ],
)
def test_plans_by_name(name, plan, tmp_path):
    assert torch.equal(token_plan(name, 5, 8).s, plan.s)
    plan.save(tmp_path / "mine.json")
    assert torch.equal(token_plan(str(tmp_path / "mine.json"), 99, 8).s, plan.s)
    with pytest.raises(ValueError, match="is a plan for other sequences than of 6 tokens"):
        token_plan(str(tmp_path / "mine.json"), 99, 6)
    recipe = ForcingDigits(plan=name, sampling_steps=5, rest=0)
    assert torch.equal(recipe.make_plan(None).s, plan.s)


@pytest.mark.parametrize(
    "name",
    ["pyramide", "pyramid", "pyramid:x", "pyramid:-1", "chunked:1.5", "autoregressive:2", ""],
)
def test_what_is_no_plan_is_named_when_the_options_are_read(name):
    with pytest.raises(ValueError, match="plan"):
        ForcingDigits(plan=name)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"plan": "pyramid"}, "plan 'pyramid': it needs U steps per token, as in pyramid:2"),
        ({"plan": "trapezoid:x"}, "plan 'trapezoid:x': it needs U steps per token"),
        ({"plan": "chunked:1.5"}, "'chunked:1.5': it needs N tokens in a chunk, as in chunked:2"),
        ({"depth": 0}, "depth must be at least 1, got 0"),
        ({"heads": -1}, "heads must be at least 1, got -1"),
        ({"self_conditioning": 2.0}, r"self_conditioning must be in \[0, 1\], got 2"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1"),
        ({"snr_decay": 1.2}, r"snr_decay must be in \[0, 1\), got 1.2"),
    ],
)
def test_options_out_of_range_are_refused_by_their_names(options, told):
    for kind in (ForcingDigits, ForcingSeries):
        with pytest.raises(ValueError, match=told):
            kind(**options)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("p8.csv", "2,2,2\n1,1,2\n0,0,2\n", "token 2 ends at t = 1, not 0"),
        ("head.csv", "4,1,1\n2,1,1\n0,0,0\n", r"token 1 begins at t = 0\.25, not 1"),
        ("bad.json", '{"t": [[[0.5]]], "s": [[[0.1]]]}', r"token 0 begins at t = 0\.5, not 1"),
        ("end.json", '{"t": [[[1, 1, 1]]], "s": [[[0, 0.1, 0]]]}', r"token 1 ends at t = 0\.1,"),
    ],
)
def test_a_file_that_leaves_noise_is_refused_and_its_first_wrong_token_named(
    file, text, message, tmp_path
):
    path = tmp_path / file
    path.write_text(text)
    with pytest.raises(ValueError, match=f"{file}: {message}") as caught:
        token_plan(str(path), 4, 3)
    assert "\n" not in str(caught.value)
    recipe = ForcingSeries(plan=str(path), context=1, horizon=2)
    with pytest.raises(ValueError, match="not"):
        recipe.make_plan(None)


@pytest.mark.parametrize("row", [[1.0] * 8, [[1.0] * 8] * 8, [[1.0] * 8] * 3, 1.0, [[[1.0] * 8]]])
def test_a_file_says_times_of_tokens_not_of_samples(row, tmp_path):
    """8 tokens and 8 samples: by the law of shapes the first row is a time for each sample."""
    path = tmp_path / "plan.json"
    shape = re.escape(str(tuple(torch.tensor(row).shape)))
    path.write_text(json.dumps({"t": [row], "s": [(0 * torch.tensor(row)).tolist()]}))
    told = rf"plan\.json: its rows have shape {shape}, and a time per token has shape \(1, 8\)"
    with pytest.raises(ValueError, match=told) as caught:
        ForcingDigits(plan=str(path)).make_plan(None)
    assert "write each row as [[" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_run_opens_where_the_file_of_its_plan_is_not():
    assert ForcingDigits(plan="gone.json").plan == "gone.json"
    with pytest.raises(FileNotFoundError):
        ForcingDigits(plan="gone.json").make_plan(None)


def test_the_order_by_default_is_the_networks():
    assert not ForcingDigits(rest=0).make_plan(None).joint
    assert ForcingDigits(rest=0, network="bidirectional").make_plan(None).joint


@pytest.mark.parametrize(
    ("network", "kind"),
    [("causal", CausalTransformer), ("recurrent", Recurrent), ("bidirectional", Transformer)],
)
@pytest.mark.parametrize("state", ["pixels", "bits"])
@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_every_network_builds_trains_and_draws(network, kind, state, rate):
    recipe = ForcingDigits(
        network=network, state=state, self_conditioning=rate, sampling_steps=2, **TINY
    )
    split = recipe.load(None)
    facts = recipe.facts(split)
    parts = recipe.build(facts)
    assert any(isinstance(module, kind) for module in parts.denoiser.modules())
    rng, rows = Rng(0).samples(8), torch.arange(8)
    loss = recipe.loss(parts, facts)(parts.denoiser, split.train[rows], rng, rows)
    assert loss.shape == (8,)
    loss.mean().backward()
    last = noiseloom.final(recipe.draw(parts, facts, {"label": torch.arange(3)}, Rng(1).samples(3)))
    assert parts.codec.decode(last.result).shape == (3, 1, 8, 8)


def test_a_joint_plan_on_a_causal_network_is_warned_of_with_the_bias():
    recipe = ForcingDigits(plan="pyramid:1", sampling_steps=2, **TINY)
    facts = recipe.facts(recipe.load(None))
    parts, rng = recipe.build(facts), Rng(1).samples(2)
    with pytest.warns(UserWarning, match=r"biased.*0\.40 for full-sequence") as told:
        noiseloom.final(recipe.draw(parts, facts, {"label": torch.arange(2)}, rng))
    assert len(told) == 1


@pytest.mark.parametrize("forcing", ["independent", "full-sequence", "teacher-forcing"])
@pytest.mark.parametrize("weight", ["target", "min-snr", "fused-snr", "sigmoid"])
def test_the_loss_is_algorithm_1_with_the_times_and_weights_that_are_named(forcing, weight):
    recipe = ForcingDigits(forcing=forcing, weight=weight, target="x0", **TINY)
    split = recipe.load(None)
    facts = recipe.facts(split)
    with Rng(0).torch():
        parts = recipe.build(facts)  # the output of a new network is zero
    rng, rows = Rng(3).samples(8), torch.arange(8)
    batch = split.train[rows]
    found = recipe.loss(parts, facts)(parts.denoiser, batch, rng, rows)
    clean = parts.codec.encode(batch["pixels"])
    kind = "independent" if forcing == "teacher-forcing" else forcing  # after a clean past
    t, counted = noiseloom.tokens.forcing_times(kind, (8, 8), rng.fold("time"))
    error = clean.square().mean(-1)
    each = {
        "target": torch.ones_like(t),
        "min-snr": min_snr_weight()(parts.diffusion.schedule.log_snr(t)),
    }
    if weight in each:
        expected = (each[weight] * error * counted).sum(1) / counted.sum(1)
        torch.testing.assert_close(found, expected)
    assert (found > 0).all()


@pytest.mark.filterwarnings("default:this plan moves")
def test_from_the_command_line(capsys, tmp_path):
    run = tmp_path / "run"
    words = ["train", "forcing-digits", "--out", str(run), *WORDS, "--no-evaluate"]
    assert main(words) == 0
    assert main(["report", str(run)]) == 0
    page = (run / "report.html").read_text()
    assert "<h2>The plan</h2>" in page
    png = str(tmp_path / "x.png")
    words = ["sample", str(run), "-n", "4", "--sampling-steps", "2", "--out", png]
    assert main([*words, "--plan", "chunked:8", "--rest", "0"]) == 0
    told = capsys.readouterr().err
    assert told.count("warning: this plan moves several tokens together") == 1
    assert "SamplingPlan of 2 rows of 8 tokens" in told
    assert "\n▒▒▒▒▒▒▒▒\n" in told
    assert main([*words, "--force", "--plan", "chunky:2"]) == 2
    assert "there is no plan 'chunky:2': choose auto, full-sequence" in capsys.readouterr().err
    assert "forcing-digits" in RECIPES


def test_a_time_that_is_left_open_is_kept_so_and_one_of_an_older_run_as_it_was(tmp_path):
    run = tmp_path / "run"
    words = ["train", "forcing-digits", "--out", str(run), *WORDS, "--no-evaluate"]
    assert main([*words, "--forcing", "teacher-forcing"]) == 0
    text = (run / "recipe.yaml").read_text()
    assert "\nrest: null\n" in text
    recipe = noiseloom.load(run, device="cpu").recipe
    assert recipe.rest is None
    assert not recipe.make_plan(None).s[-1].any()
    (run / "recipe.yaml").write_text(text.replace("rest: null", "rest: 0.1"))
    assert noiseloom.load(run, device="cpu").recipe.resting == 0.1
    page = tmp_path / "run" / "report.html"
    assert main(["report", str(run)]) == 0
    assert page.is_file()


def test_a_run_may_have_the_name_of_its_plan(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["train", "forcing-digits", *WORDS, "--no-evaluate", "--plan", "autoregressive"]
    assert main([*words, "--out", "autoregressive"]) == 0
    assert noiseloom.load("autoregressive", device="cpu").recipe.plan == "autoregressive"


def test_what_could_not_be_drawn_with_is_refused_before_training(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    SamplingPlan.full_sequence(2, 5).save("other.json")
    SamplingPlan.autoregressive(2, 8).save("own.json")
    words = ["train", "forcing-digits", "--out", "run", *WORDS, "--no-evaluate"]
    for more, told in (
        (["--self-guidance", "1"], "self_guidance needs a model that is self-conditioned on its"),
        (["--momentum", "0.5"], "momentum needs a model that is self-conditioned on its"),
        (["--plan", "nope.json"], "nope.json"),
        (["--plan", "other.json"], "a plan for other sequences than of 8 tokens"),
    ):
        assert main([*words, *more]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert told in lines[-1]
        assert not any(line.startswith("step ") for line in lines)
        assert not Path("run").exists()
    with pytest.raises(ValueError, match="self_guidance needs"):
        ForcingSeries(self_guidance=1.0)

    assert main([*words, "--plan", "own.json"]) == 0
    Path("own.json").unlink()
    run = noiseloom.load("run", device="cpu")  # opens, where its plan is no more
    assert run.with_options(plan="auto").pixels(torch.zeros(1, dtype=torch.int64)).shape[0] == 1


def test_a_plan_beside_the_data_means_the_same_from_anywhere(tmp_path, monkeypatch):
    plan = tmp_path / "p.json"
    SamplingPlan.autoregressive(3, 8).save(plan)
    monkeypatch.chdir(tmp_path)
    words = ["train", "forcing-digits", "--plan", "p.json", "--out", "run", "--no-evaluate"]
    words += ["--width", "8", "--depth", "1", "--heads", "2", "--batch-size", "4", "--steps"]
    assert main([*words, "2"]) == 0
    described = read_description(tmp_path / "run")
    assert described["options"]["plan"] == str(plan)
    digest = described["digests"]
    # A plan that became another, or is gone, does not become the run's by going on.
    plan.unlink()
    SamplingPlan.autoregressive(5, 8).save(plan)
    assert (
        main(
            ["train", "forcing-digits", "--out", "run", "--resume", "--no-evaluate", "--steps", "3"]
        )
        == 0
    )
    assert read_description(tmp_path / "run")["digests"] == digest
    plan.unlink()
    before = (tmp_path / "run" / "recipe.yaml").read_text()
    assert (
        main(
            ["train", "forcing-digits", "--out", "run", "--resume", "--no-evaluate", "--steps", "4"]
        )
        == 2
    )
    assert (tmp_path / "run" / "recipe.yaml").read_text() == before
