"""The agenda of captions: commands that can be typed, and options chosen on other pictures."""

import importlib.util
import json
import shlex
from functools import partial
from pathlib import Path
from types import SimpleNamespace

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


def test_a_choice_is_of_all_options_or_of_none(tmp_path, monkeypatch):
    """By what is true beyond, and by CIDEr-D where truth is not known."""
    run = tmp_path / "runs" / "nlvr-bits-0"
    monkeypatch.setattr(TOOL, "recipe_in", lambda _: SimpleNamespace(state="bits"))
    found = {0.0: (0.3, 0.9), 1.0: (0.5, 0.8), 2.0: (0.4, 0.7), 3.0: (0.1, 0.6), 4.0: (0.2, 0.5)}

    def judged(known, folder, samples, options):
        there = found.get(options["td"]) if options["half"] == "first" else (-1.0, -1.0)
        return there and dict(zip(known, there, strict=True))

    for known, best in ((("true_beyond", "cider_d"), 1.0), (("bleu_4", "cider_d"), 0.0)):
        monkeypatch.setattr(TOOL, "judged", partial(judged, known))
        told = TOOL.chosen(run, 3, 5)
        assert told == ({"sampling_steps": 5, "td": best}, dict.fromkeys(known, -1.0))
    del found[4.0]
    assert TOOL.chosen(run, 3, 5) is None


def test_all_figures_are_kept_with_what_was_run(tmp_path, monkeypatch):
    run = tmp_path / "runs" / "scenes-auto-0"
    (run / "evaluations").mkdir(parents=True)
    (tmp_path / "logs").mkdir()
    told = "training: captions, 14,937,914 parameters, 179,553 samples, on NVIDIA H200\nstep 1\n"
    (tmp_path / "logs" / "scenes-auto-0.log").write_text(told)
    job = {"name": "scenes-auto-0", "run": "train captions --seed 0", "seconds": 9.5}
    lines = [json.dumps(job | {"code": code, "seconds": s}) for code, s in ((1, 2.0), (0, 9.5))]
    (tmp_path / "jobs.jsonl").write_text("\n".join(lines))
    monkeypatch.setattr(TOOL, "recipe_in", lambda _: SimpleNamespace(state="autoregressive"))
    figures = {
        "n": 3.0,
        "true": 0.123456,
        "true_beyond": 0.1,
        "cider_d": 1.0,
        "true_elsewhere": 0.5,
    }
    monkeypatch.setattr(TOOL, "judged", lambda *_: figures)
    ((name, kept),) = TOOL.gathered(tmp_path, 3).items()
    assert name == "scenes-auto-0"
    assert (kept["command"], kept["seconds"]) == ("noiseloom train captions --seed 0", 9.5)
    assert (kept["parameters"], kept["rows"]) == (14_937_914, 179_553)
    assert kept["device"] == "NVIDIA H200"
    assert len(kept["tried"]) == len(TOOL.cases("autoregressive", None))
    assert "true_elsewhere" not in kept["tried"][0]
    assert kept["told"] == [
        {"temperature": 0.5, "n": 3, "true": 0.1235, "true_beyond": 0.1, "cider_d": 1}
        | {"true_elsewhere": 0.5}
    ]
