"""The agenda of captions: commands that can be typed, and options chosen on other pictures."""

import importlib.util
import json
import shlex
from pathlib import Path

import pytest

from noiseloom import SamplingPlan, load
from noiseloom.cli import main

FILE = Path(__file__).parents[1] / "tools" / "captions.py"
SPEC = importlib.util.spec_from_file_location("captions_agenda", FILE)
TOOL = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(TOOL)

JOBS = TOOL.agenda(["scenes:012", "nlvr:012", "emoji:012"])


def typed(job, tmp_path, monkeypatch):
    """The recipe and the folder of a training."""
    called = []
    monkeypatch.setattr("noiseloom.commands.train", lambda *a, **_: called.append(a))
    assert main(shlex.split(job["run"].format(out=tmp_path))) == 0
    ((kind, options, out),) = called
    return kind(**options), out


def test_each_training_can_be_typed_and_is_looked_at_directly_after(monkeypatch, tmp_path):
    recipes = {}
    for job in JOBS:
        if job["lane"] == "train":
            recipes[job["name"]], out = typed(job, tmp_path, monkeypatch)
            assert out == tmp_path / "runs" / job["name"]
            last = job["name"]
            continue
        words = shlex.split(job["run"].format(out=tmp_path))
        looks = ["report"] if job["name"].endswith("page") else ["tools/captions.py", "look"]
        assert words[: len(looks) + 1] == [*looks, str(tmp_path / "runs" / last)]
        assert job["after"] == [last]
    assert len({job["name"] for job in JOBS}) == len(JOBS)
    assert len(recipes) == 27
    assert list(recipes)[:2] == ["scenes-bits-0", "scenes-auto-0"]
    seen = {"scenes": 3_200_000, "nlvr": 256_000, "emoji": 256_000}
    for name, recipe in recipes.items():
        data, short, seed = name.split("-")
        assert (recipe.state, recipe.seed) == (TOOL.STATES[short], int(seed))
        assert recipe.encoder_width == recipe.width == (128 if data == "emoji" else 256)
        assert recipe.steps * recipe.batch_size == seen[data]
        assert not recipe.similarity  # of what judges, not of what is trained


def test_options_are_chosen_from_the_grids_that_are_said():
    """Overshoots td of N steps, all that differ up to N - 1."""
    for steps in (5, 10, 20, 50):
        td = [case["td"] for case in TOOL.cases("bits", steps)]
        assert td == [
            t for t in (0, 1, 2, 3, 4 if steps == 5 else 5, 7, 10) if t < steps - 1 or t == 4
        ]
        plans = {SamplingPlan.uniform(steps).overshoot(t).s.numpy().tobytes() for t in td}
        assert len(plans) == len(td)
    last, more = (SamplingPlan.uniform(5).overshoot(t).s.numpy().tobytes() for t in (4, 10))
    assert last == more
    ones = TOOL.cases("autoregressive", None)
    assert {case["temperature"] for case in ones if "temperature" in case} == {0, 0.5, 0.7, 1}
    assert {"beams": 3} in ones


@pytest.mark.parametrize("state", ["bits", "autoregressive"])
def test_what_is_best_of_the_first_half_is_reported_of_the_second(state, tmp_path, capsys):
    small = ["--width", "16", "--depth", "1", "--heads", "2", "--encoder-width", "16"]
    small += ["--encoder-depth", "1", "--encoder-heads", "2", "--steps", "2", "--judged", "4"]
    small += ["--levels", "2", "--size", "24", "--patch", "8", "--scenes", "60", "--no-evaluate"]
    out = tmp_path / "runs" / f"scenes-{'auto' if state == 'autoregressive' else 'bits'}-0"
    command = ["train", "captions", "--data", "scenes", *small, "--state", state]
    assert main([*command, "--out", str(out)]) == 0
    steps = None if state == "autoregressive" else 5
    run = load(out)
    data = run.recipe.load_like("scenes", run.facts)
    assert TOOL.chosen(out, 3, steps) is None
    best = TOOL.look(run, 3, steps, data)
    again, found = TOOL.chosen(out, 3, steps)
    assert again == best
    kept = {p.name: json.loads(p.read_text()) for p in (out / "evaluations").glob("*.json")}
    first = {name: one for name, one in kept.items() if "half=first" in name}
    second = {name: one for name, one in kept.items() if "half=second" in name}
    assert len(first) == len(TOOL.cases(state, steps))
    ((name, reported),) = second.items()
    assert reported == found
    chosen = first[name.replace("second", "first")]
    assert chosen["true_beyond"] == max(one["true_beyond"] for one in first.values())
    for weights in out.glob("*.safetensors"):  # which a table needs no more
        weights.unlink()
    lines = TOOL.table(tmp_path, 3)
    assert [line.split(" | ")[1] for line in lines[2:]] == [state, *TOOL.REAL.values()]
    told = [line.strip("| ").split(" | ") for line in TOOL.overshoots(tmp_path, 3)[2:]]
    assert bool(told) == (state == "bits")
    for _, figure, number, *values in told:
        assert number == "5"
        for td, value in zip([0, 1, 2, 3, 4, 5, 7, 10], values, strict=True):
            case = {"sampling_steps": 5, "td": float(td)}
            there = TOOL.judged(out, 3, {"half": "first", **case}) if td < 5 else None
            assert value == ("-" if there is None else f"{there[figure]:.4g}")
