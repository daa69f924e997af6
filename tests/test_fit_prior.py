"""The second stage of a run: a prior over its codes, killed, resumed, made again and refused."""

import json
import math
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import nn

import noiseloom
import noiseloom.fit
import noiseloom.fit_prior
import noiseloom.new_prior
from noiseloom.cli import main
from noiseloom.data import Points, Split
from noiseloom.encodings import Standardised
from noiseloom.fit import fit
from noiseloom.glossary import MEANINGS
from noiseloom.loading import load
from noiseloom.nets import MLP, VectorEncoder
from noiseloom.prior_folder import read_prior, remove_prior, write_prior
from noiseloom.priors import MEASURED, PriorKind, TabularPrior
from noiseloom.recipes import RECIPES, Coded, DiscoMixture
from noiseloom.rng import Rng
from noiseloom.training import loop

TINY = {
    "steps": 12,
    "batch_size": 16,
    "checkpoint_every": 5,
    "width": 8,
    "depth": 1,
    "m": 2,
    "k": 3,
    "samples": 20,
    "sampling_steps": 2,
    "prior_steps": 12,
    "prior_batch_size": 16,
    "prior_width": 8,
    "prior_depth": 1,
}
RECIPE = DiscoMixture(**TINY)
WORDS = [f"--{name.replace('_', '-')}={value}" for name, value in TINY.items()]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run; copied, never changed."""
    out = tmp_path_factory.mktemp("trained") / "run"
    fit(RECIPE, out, command="")
    return out


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def fails(capsys, *words):
    """The one line of an error."""
    capsys.readouterr()
    assert main([str(word) for word in words]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("noiseloom: error: ")
    return line


def same(ours, theirs):
    found = [load_file(folder / "prior" / "ema.safetensors") for folder in (ours, theirs)]
    return all(torch.equal(found[0][name], found[1][name]) for name in found[1])


def weights(run):
    return (run / "ema.safetensors").read_bytes()


# Killed in either stage, or between them, a run goes on to the same prior.


def killed_at(out, resume, place):
    """Train until something is called for the nth time; `place` is (module, name, n), or None."""
    torch.set_num_threads(1)
    if place is not None:
        module, name, n = place
        owner = {"fit": noiseloom.fit, "prior": noiseloom.fit_prior, "loop": loop._Run}[module]
        inner: Callable[..., object] = getattr(owner, name)
        calls = []

        def last_time(*args, **more):
            calls.append(1)
            if len(calls) == n:
                os.kill(os.getpid(), signal.SIGKILL)
            return inner(*args, **more)

        setattr(owner, name, last_time)
    fit(RECIPE, out, command="", resume=resume)


def test_a_run_killed_in_any_stage_comes_to_the_same_prior(trained, tmp_path):
    out = tmp_path / "killed"
    context = multiprocessing.get_context("forkserver")  # imports once, forks for each process
    context.set_forkserver_preload(["noiseloom.fit", "torch._dynamo"])
    places = (
        ("loop", "_update", 8),  # of the first stage, with a checkpoint at 5
        ("fit", "fit_prior", 1),  # between the stages
        ("prior", "_encoded", 1),
        ("prior", "_write", 1),  # the codes are known, and not kept
        ("loop", "_update", 3),  # of the second stage, before any checkpoint
        ("loop", "_update", 8),
        ("prior", "code_likelihoods", 1),  # trained, and not finished
        None,
    )
    first = None
    for i, place in enumerate(places):
        process = context.Process(target=killed_at, args=(out, i > 0, place))
        process.start()
        process.join()
        assert process.exitcode == (0 if place is None else -9), place
        first = weights(out) if i == 1 else first
        if place is not None:
            found = read_prior(out)
            assert found is None or not found[1]
            assert load(out, device="cpu").parts.prior is None
    assert first == weights(out) == weights(trained)  # a killed second stage leaves the first alone
    assert same(out, trained)
    assert read_prior(out) == read_prior(trained)
    files = [(folder / "prior" / "metrics.jsonl").read_text() for folder in (out, trained)]
    ours, theirs = ([json.loads(line)["loss"] for line in text.splitlines()] for text in files)
    assert ours == theirs
    assert len(ours) == 12


# What a finished one holds.


def test_likelihoods_lie_between_entropy_and_what_codes_can_hold(trained):
    kind, told = read_prior(trained)
    codes = load_file(trained / "prior" / "codes.safetensors")
    assert codes.keys() == {"train.codes", "held_out.codes"}
    assert codes["train.codes"].shape == (noiseloom.fit_prior.DRAWS * 12 * 16, 2)
    prior = load(trained, device="cpu").parts.prior
    assert isinstance(prior, noiseloom.AutoregressivePrior)
    key = Rng(RECIPE.seed).fold("prior").fold("measured")
    for name in ("train", "held_out"):
        table, every = TabularPrior(2, 3), codes[f"{name}.codes"]
        table.fit(every, smoothing=0)
        nats = -prior.log_prob(every).double()
        assert nats.mean() >= table.entropy()
        measured = float(nats[key.permutation(len(every))[:MEASURED]].mean()) / math.log(2)
        assert told[f"prior_bits_{name}"] == pytest.approx(measured, abs=1e-6)  # of these weights
    assert table.entropy() / math.log(2) - 0.01 <= told["marginal_bits"] <= told["code_bits"]
    assert kind == RECIPE.prior_kind({"classes": ["a"]})


def test_it_is_loaded_and_published_with_the_run(run, tmp_path, capsys):
    drawn = load(run, device="cpu").samples({"label": torch.zeros(5)}, seed=3)
    assert main(["push", str(run), str(tmp_path / "published")]) == 0
    assert sorted(path.name for path in (tmp_path / "published" / "prior").iterdir()) == [
        "ema.safetensors",
        "prior.yaml",
    ]
    again = load(tmp_path / "published", device="cpu").samples({"label": torch.zeros(5)}, seed=3)
    assert torch.equal(drawn, again)


# The verb.


def test_sampling_before_there_is_a_prior_names_the_command_that_makes_it(run, tmp_path, capsys):
    made = shutil.copytree(run, tmp_path / "made")
    remove_prior(run)
    out = tmp_path / "x.csv"
    told = fails(capsys, "sample", run, "-n", 3, "--out", out)
    assert f"no prior yet to draw codes from: make it with noiseloom prior {run}, or" in told
    assert not out.exists()
    assert main(["sample", str(run), "-n", "3", "--codes", "marginal", "--out", str(out)]) == 0
    assert main(["report", str(run)]) == 0
    assert "noiseloom prior run" in (run / "report.html").read_text()
    assert main(["prior", str(run)]) == 0
    assert "prior_bits_held_out" in capsys.readouterr().out
    assert same(run, made)
    assert not (run / "report.html").exists()
    words = ["sample", str(run), "-n", "3", "--code-temperature", "0.5", "--code-top-p", "0.9"]
    assert main([*words, "--out", str(tmp_path / "y.csv")]) == 0


def test_another_prior_takes_its_place_by_force_alone(run, capsys):
    before, first = read_prior(run), weights(run)
    for words in ([], ["--prior", "tabular"]):
        told = fails(capsys, "prior", run, *words)
        assert "run has a prior (autoregressive): replace it with --force" in told
    told = fails(capsys, "prior", run, "--force", "--prior-width", 0)
    assert "prior_width must be at least 1" in told
    assert read_prior(run) == before
    (run / "evaluation.json").write_text("{}")
    assert main(["prior", str(run), "--prior", "tabular", "--force", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["prior_bits_train"] < found["marginal_bits"] + 0.01
    assert read_prior(run)[0].kind == "tabular"
    assert yaml.safe_load((run / "recipe.yaml").read_text())["prior"] == "tabular"
    assert not (run / "evaluation.json").exists()
    assert isinstance(load(run, device="cpu").parts.prior, TabularPrior)
    assert weights(run) == first
    assert main(["train", "--out", str(run), "--resume", "--no-evaluate"]) == 0
    assert "is finished" in capsys.readouterr().err


def test_a_table_takes_no_options_of_a_training(run, capsys):
    words = ["prior", run, "--force", "--prior", "tabular"]
    for name in ("prior_steps", "prior_width", "prior_depth", "prior_batch_size"):
        told = fails(capsys, *words, f"--{name.replace('_', '-')}", "10")
        assert told.endswith(
            f"{name} changes nothing of a tabular prior, which is counted: leave it out"
        )
    assert read_prior(run)[0].kind == "autoregressive"  # it has stayed
    assert main([*map(str, words), "--prior-steps", str(TINY["prior_steps"])]) == 0


def test_bits_by_a_prior_of_bits_are_said_to_be_a_bound(run, capsys):
    words = ["prior", str(run), "--force", "--prior"]
    assert main([*words, "bits", "--prior-steps", "1"]) == 0
    told = capsys.readouterr()
    bits = read_prior(run)[1]
    assert bits["prior_bits_held_out"] > bits["code_bits"] == pytest.approx(2 * math.log2(3))
    (note,) = [line for line in told.err.splitlines() if line.startswith("note: ")]
    assert "bound" in note
    assert "above the 3.2 that they can hold" in note
    assert main([*words, "tabular"]) == 0
    assert "note: " not in capsys.readouterr().err
    for part in ("train", "held_out"):
        assert "bound" in MEANINGS[f"prior_bits_{part}"][2]


def test_of_many_samples_as_many_are_encoded_as_the_prior_learns_from(run, monkeypatch):
    asked = []
    inner = DiscoMixture.encoded

    def encoded(self, parts, facts, data, rng, *, rows=None, draws=1):
        asked.append((len(data), None if rows is None else rows.tolist()))
        return inner(self, parts, facts, data, rng, rows=rows, draws=draws)

    monkeypatch.setattr(DiscoMixture, "encoded", encoded)
    assert main(["prior", str(run), "--force"]) == 0
    samples, rows = asked[0]
    assert len(rows) == 12 * 16 < samples  # updates by batch
    assert rows == sorted(set(rows))
    assert set(rows) <= set(range(samples))
    kept = load_file(run / "prior" / "codes.safetensors")
    assert kept["train.codes"].shape == (noiseloom.fit_prior.DRAWS * 12 * 16, 2)
    asked.clear()
    for enough in (50, samples):  # that a table counts
        words = ["prior", str(run), "--force", "--prior", "tabular", "--prior-samples"]
        assert main([*words, str(enough)]) == 0
    assert [len(rows or ()) for _, rows in asked[::2]] == [50, 0]


def test_what_is_left_of_a_removed_prior_is_not_gone_on_with(run, trained):
    folder = run / "prior"
    (folder / "prior.yaml").unlink()  # goes first: a kill may come before the rest does
    codes = load_file(folder / "codes.safetensors")
    save_file({name: value.flip(0) for name, value in codes.items()}, folder / "codes.safetensors")
    for path in folder.glob("*/*/model.safetensors"):
        save_file({n: v + 1 for n, v in load_file(path).items()}, path)
    fit(RECIPE, run, command="", resume=True)
    assert same(run, trained)


def test_one_that_was_begun_goes_on_and_no_other(run, tmp_path, monkeypatch, capsys):
    whole = shutil.copytree(run, tmp_path / "whole")
    words = ["prior", str(run), "--force", "--prior", "bits", "--prior-steps", "9"]
    monkeypatch.setattr(noiseloom.fit_prior, "MEASURED", 100)
    calls = []
    stopped_after(monkeypatch, 8, calls)
    assert main(words) == 130
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.endswith(f"go on with: noiseloom prior {run} --prior bits --prior-steps 9")
    assert load(run, device="cpu").parts.prior is not None
    told = fails(capsys, "prior", run, "--prior", "tabular")
    assert "has begun a prior (bits): replace it with --force" in told
    assert main(["prior", str(run)]) == 0
    assert calls[8:] == [6, 7, 8, 9]
    assert main(["prior", str(whole), *words[2:]]) == 0
    assert same(run, whole)
    told = fails(capsys, "sample", run, "--code-temperature", 0.5, "--out", tmp_path / "x.csv")
    assert "code_temperature 0.5 says nothing to a prior of bits" in told


def files(folder):
    """All that lies in a folder, by name."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def judged(run):
    """Results of a run, as if it had been evaluated."""
    (run / "evaluations").mkdir(exist_ok=True)
    names = ("evaluation.json", "evaluations/codes='marginal'.json", "report.html")
    for name in names:
        (run / name).write_text("{}")
    return names


def stopped_after(monkeypatch, most, calls=None):
    """Interrupt training at so many updates, counted in `calls`; what is returned ends that."""
    update, calls = loop._Run._update, [] if calls is None else calls

    def stopped(self, step):
        calls.append(step)
        if len(calls) == most:
            raise KeyboardInterrupt
        return update(self, step)

    monkeypatch.setattr(loop._Run, "_update", stopped)
    return lambda: monkeypatch.setattr(loop._Run, "_update", update)


@pytest.mark.parametrize("most", [2, 8])  # before and after a first checkpoint
def test_a_prior_and_its_results_stay_until_another_is_finished(run, monkeypatch, capsys, most):
    names, before = judged(run), files(run)
    goes_on = stopped_after(monkeypatch, most)
    words = ["prior", str(run), "--prior", "bits", "--prior-steps", "9"]
    assert main([*words, "--force"]) == 130
    assert files(run).items() >= before.items()
    assert isinstance(load(run, device="cpu").parts.prior, noiseloom.AutoregressivePrior)
    told = fails(capsys, "prior", run, "--prior", "tabular")
    assert "has begun a prior (bits)" in told
    goes_on()
    assert main(words) == 0
    told = capsys.readouterr().err
    assert "removed with the autoregressive prior: " in told
    assert "evaluation.json, evaluations/ (1), report.html" in told
    assert not any((run / name).exists() for name in names)
    assert read_prior(run)[0].kind == "bits"
    assert "with bits" not in told
    options = yaml.safe_load((run / "recipe.yaml").read_text())
    assert (options["prior"], options["prior_steps"]) == ("bits", 9)
    left = {path.name for path in run.iterdir() if "prior" in path.name}
    assert left == {"prior"}
    assert "has a prior (bits)" in fails(capsys, "prior", run)


@pytest.mark.parametrize("place", ["write_text", "forget", "replace_prior"])
def test_a_kill_as_priors_change_places_leaves_one_that_is_finished(run, monkeypatch, place):
    whole = shutil.copytree(run, run.with_name("whole"))
    words = ["--prior", "tabular"]
    assert main(["prior", str(whole), *words, "--force"]) == 0
    with monkeypatch.context() as patch:
        patch.setattr(noiseloom.new_prior, place, stop)
        assert main(["prior", str(run), *words, "--force"]) == 130
    assert load(run, device="cpu").parts.prior is not None
    assert main(["prior", str(run), *words]) == 0
    assert same(run, whole)
    ours, theirs = files(run), files(whole)
    assert ours.keys() == theirs.keys()
    assert ours["recipe.yaml"] == theirs["recipe.yaml"]
    assert ours["prior/prior.yaml"] == theirs["prior/prior.yaml"]


def test_one_that_cannot_be_made_takes_no_place_and_leaves_nothing(run, monkeypatch):
    judged(run)
    before = files(run)
    monkeypatch.setattr(noiseloom.fit_prior, "_encoded", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["prior", str(run), "--force"])
    with pytest.raises(ZeroDivisionError):
        main(["prior", str(run), "--out", str(run.with_name("new"))])
    assert files(run) == before
    assert not run.with_name("new").exists()


def test_more_of_the_first_stage_outdates_a_prior_that_was_begun(run, monkeypatch):
    goes_on = stopped_after(monkeypatch, 8)
    assert main(["prior", str(run), "--force", "--prior", "bits"]) == 130
    goes_on()
    assert (run / "prior.next").is_dir()
    fit(replace(RECIPE, steps=14), run, command="", resume=True)
    assert not (run / "prior.next").exists()


def test_results_of_a_run_without_a_prior_are_removed_with_a_word(run, monkeypatch, capsys):
    remove_prior(run)
    names = judged(run)
    goes_on = stopped_after(monkeypatch, 8)
    assert main(["prior", str(run)]) == 130
    assert all((run / name).exists() for name in names)
    goes_on()
    capsys.readouterr()
    assert main(["prior", str(run)]) == 0
    told = capsys.readouterr().err
    assert "removed, as they are of before this prior: evaluation.json" in told
    assert not any((run / name).exists() for name in names)


def test_another_run_gets_another_prior_of_the_same_first_stage(run, tmp_path, capsys):
    judged(run)
    before, out = files(run), tmp_path / "new"
    assert main(["prior", str(run), "--prior", "tabular", "--out", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["run"], found["prior"]) == (str(out), str(out / "prior"))
    assert files(run) == before
    assert weights(out) == weights(run)
    assert isinstance(load(out, device="cpu").parts.prior, TabularPrior)
    assert not any((out / name).exists() for name in ("evaluation.json", "report.html"))
    theirs, ours = (yaml.safe_load((f / "recipe.yaml").read_text()) for f in (run, out))
    assert {name for name in ours if ours[name] != theirs[name]} == {"prior", "run"}  # copied_from
    assert main(["prior", str(run), "--prior", "tabular", "--force"]) == 0
    assert same(run, out)
    capsys.readouterr()
    assert main(["train", "--out", str(out), "--resume", "--no-evaluate"]) == 0
    assert "is finished" in capsys.readouterr().err


def test_another_run_that_was_begun_goes_on_by_its_own_name(run, tmp_path, monkeypatch, capsys):
    out, whole = tmp_path / "new", tmp_path / "whole"
    words = ["prior", str(run), "--prior", "bits", "--prior-steps", "9", "--out"]
    assert main([*words, str(whole)]) == 0
    goes_on = stopped_after(monkeypatch, 8)
    assert main([*words, str(out)]) == 130
    assert capsys.readouterr().err.endswith(f"go on with: noiseloom prior {out}\n")
    told = fails(capsys, *words, out)
    assert f"{out} exists: go on with noiseloom prior {out}, or choose another --out" in told
    goes_on()
    assert main(["prior", str(out)]) == 0
    assert same(out, whole)
    assert fails(capsys, *words, out).endswith(f"{out} exists: choose another --out")
    shutil.rmtree(out / "prior")  # as if killed before it was begun
    assert f"go on with noiseloom prior {out}, or" in fails(capsys, *words, out)


def test_another_run_must_be_one(run, tmp_path, capsys):
    before = files(run)
    assert "exists" in fails(capsys, "prior", run, "--out", run)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x.txt").write_text("mine")
    told = fails(capsys, "prior", run, "--out", tmp_path / "mine")
    assert f"{tmp_path / 'mine'} exists: choose another --out" in told
    told = fails(capsys, "prior", run, "--force", "--out", tmp_path / "new")
    assert "leave one of them out" in told
    assert "name one" in fails(capsys, "prior", run, "--prior", "none", "--out", tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert files(run) == before


def test_a_run_whose_draws_ask_more_than_a_prior_of_bits_can_do_is_told(run, tmp_path, capsys):
    path = run / "recipe.yaml"
    path.write_text(path.read_text().replace("code_temperature: 1.0", "code_temperature: 0.5"))
    words = ["prior", str(run), "--prior", "bits", "--prior-steps", "1", "--out"]
    assert main([*words, str(tmp_path / "new")]) == 0
    told = capsys.readouterr().err
    assert "note: code_temperature 0.5 says nothing to a prior of bits" in told
    assert "draw with --code-temperature 1" in told


def test_a_run_without_codes_or_with_other_data_gets_no_prior(run, tmp_path, monkeypatch, capsys):
    told = fails(capsys, "prior", run, "--prior", "none", "--codes", "none")
    assert "unknown option --codes" in told
    told = fails(capsys, "prior", "bits-digits")
    assert "no run" in told or "no recipe.yaml" in told
    monkeypatch.setattr(DiscoMixture, "load", lambda self, data: halved())
    told = fails(capsys, "prior", run, "--force")
    assert "the data are not those" in told
    assert read_prior(run)[1]


def halved():
    data = noiseloom.data.gaussians_on_a_circle(400)
    return Split(data.train, data.held_out)


def test_without_a_prior_there_is_no_second_stage(tmp_path, capsys):
    codes = tuple(f"--{name}=" for name in ("m", "k", "prior-steps", "prior-batch-size"))
    codes += tuple(f"--prior-{name}=" for name in ("width", "depth"))
    others = [word for word in WORDS if not word.startswith(codes)]
    coded = [word for word in WORDS if word.startswith(("--m=", "--k="))]
    for name, words in (
        ("none", [*coded, "--prior=none", "--codes=marginal"]),
        ("plain", ["--m=0"]),
    ):
        out = tmp_path / name
        assert main(["train", "disco-mixture", "--out", str(out), *others, *words]) == 0
        assert not (out / "prior").exists()
        found = json.loads((out / "evaluation.json").read_text())
        assert not any("prior" in key or "generated" in key for key in found)
        assert ("marginal_bits" in found) == (name == "none")
    run = tmp_path / "none"
    told = fails(capsys, "sample", run, "--codes", "prior")
    assert "no prior yet" in told
    remedy = f"noiseloom prior {run} --prior autoregressive"
    assert f"make it with {remedy}, or" in told
    words = ["train", "disco-mixture", "--out", tmp_path / "x", *others, "--prior=none"]
    told = fails(capsys, *words)
    assert "evaluate with --codes marginal or none" in told
    assert not (tmp_path / "x").exists()
    assert "has no codes" in fails(capsys, "prior", tmp_path / "plain")
    assert "name one" in fails(capsys, "prior", tmp_path / "none")
    assert main([*remedy.split()[1:], "--prior-steps", "12"]) == 0
    words = ["sample", str(tmp_path / "none"), "--codes", "prior", "--out", str(tmp_path / "x.csv")]
    assert main(words) == 0


# What it was made for.


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"m": 3}, "codes of m 3, k 3 for a model with codes of m 2, k 3"),
        ({"k": 4}, "codes of m 2, k 4 for a model with codes of m 2, k 3"),
        ({"num_classes": 5}, "a prior of 5 classes for a model with no classes"),
    ],
)
def test_a_prior_for_other_codes_or_classes_gets_one_clear_line(run, changes, told, capsys):
    write_prior(run, replace(read_prior(run)[0], **changes), {"code_bits": 1.0})
    line = fails(capsys, "sample", run)
    assert told in line
    assert f"noiseloom prior {run} --force" in line


@pytest.mark.parametrize(
    "text",
    [
        "kind: tabular\nwide: 3\n",
        "kind: foo\nm: 2\nk: 3\nlikelihoods: {code_bits: 1.0}\n",
        "kind: tabular\nm: 2\nk: 0\nlikelihoods: {code_bits: 1.0}\n",
        "kind: tabular\nm: 2\nk: three\nlikelihoods: {code_bits: 1.0}\n",
    ],
)
def test_a_damaged_prior_gets_one_clear_line(run, capsys, text):
    (run / "prior" / "prior.yaml").write_text(text)
    told = fails(capsys, "sample", run)
    assert f"{run / 'prior' / 'prior.yaml'} does not describe a prior" in told
    assert f"make it again with noiseloom prior {run} --force" in told
    assert main(["prior", str(run), "--force"]) == 0
    assert read_prior(run)[1]


@pytest.mark.parametrize("left", [b"", None])
def test_weights_of_a_prior_that_are_damaged_or_missing_name_the_command(run, capsys, left):
    path = run / "prior" / "ema.safetensors"
    path.unlink() if left is None else path.write_bytes(left)
    told = fails(capsys, "sample", run)
    assert str(path) in told
    remedy = f"restore it from a copy, or make it again with noiseloom prior {run} --force"
    assert told.endswith(remedy)
    assert told.count("restore it") == 1


def test_a_run_without_a_prior_has_a_report_that_says_so_and_a_note_when_it_gets_one(
    tmp_path, capsys
):
    out = tmp_path / "run"
    words = [word for word in WORDS if not word.startswith("--prior")]
    assert main(["train", "disco-mixture", "--out", str(out), *words, "--prior=none"]) == 2
    words += ["--prior=none", "--no-evaluate"]
    assert main(["train", "disco-mixture", "--out", str(out), *words]) == 0
    assert main(["report", str(out)]) == 0
    page = (out / "report.html").read_text()
    assert "There is no prior over codes yet" in page
    assert "noiseloom prior run --prior autoregressive" in page
    other = tmp_path / "other"
    words += ["--codes=marginal"]
    assert main(["train", "disco-mixture", "--out", str(other), *words]) == 0
    capsys.readouterr()
    assert main(["prior", str(other), "--prior", "tabular"]) == 0
    assert "note: samples of this run have codes marginal: draw with --codes prior" in (
        capsys.readouterr().err
    )


def test_a_prior_that_cannot_be_made_is_refused_before_the_first_stage(tmp_path, capsys):
    words = ["--m=4", "--k=8", "--prior-width=-1"]
    out = tmp_path / "run"
    assert "prior_width" in fails(capsys, "train", "disco-mixture", "--out", out, *WORDS, *words)
    recipe = Squares(**{**SQUARES, "m": 21, "k": 2, "prior": "tabular"})
    with pytest.raises(ValueError, match="use an autoregressive prior"):
        fit(recipe, out, command="")
    assert not out.exists()


def test_more_steps_of_the_encoder_outdate_the_prior(run, monkeypatch):
    longer = replace(RECIPE, steps=14)
    monkeypatch.setattr(noiseloom.fit, "fit_prior", stop)
    with pytest.raises(KeyboardInterrupt):
        fit(longer, run, command="", resume=True)
    assert not (run / "prior").exists()
    monkeypatch.undo()
    fit(longer, run, command="", resume=True)
    assert read_prior(run)[1]


def stop(*args):
    raise KeyboardInterrupt


# A recipe brings its data, its network and its encoder.

CLASSES = ("left", "right")
SQUARES = {
    "steps": 4,
    "batch_size": 8,
    "m": 1,
    "k": 2,
    "sampling_steps": 2,
    "label_drop": 0.1,
    "prior_steps": 4,
    "prior_width": 8,
    "prior_depth": 1,
    "prior": "tabular",
}


class Deaf(nn.Module):
    """A network that is told the class, and does not mind it."""

    def __init__(self, codes):
        super().__init__()
        self.inner = MLP(2, 2, width=8, depth=1, codes=codes)
        self.heard = []

    def forward(self, x, log_snr, cond=None):
        self.heard.append(cond["label"])
        return self.inner(x, log_snr, {k: v for k, v in cond.items() if k != "label"})


@dataclass(frozen=True)
class Squares(Coded):
    """Points to the left and to the right, with their class."""

    name: ClassVar[str] = "squares"
    summary: ClassVar[str] = "points of two classes"
    shows: ClassVar[str] = "points"

    def load(self, data):
        labels = torch.arange(40) % 2
        values = torch.stack((labels * 2.0 - 1, Rng(0).normal((40,))), 1)
        return Split(Points(values, labels, CLASSES), Points(values[:20], labels[:20], CLASSES))

    def facts(self, data):
        return {"classes": list(data.train.classes)}

    def clean(self, parts, batch):
        return parts.codec.encode(batch["values"])

    def make_network(self, facts, codes):
        return Deaf(codes)

    def make_encoder(self, facts):
        return VectorEncoder(2, self.m, self.k, width=8)

    def make_codec(self, facts):
        return Standardised((0.0, 0.0), (1.0, 1.0))

    def shape(self, parts, facts):
        return (2,)

    def evaluate(self, draw, data, rng):
        return {"spread": float(draw({"label": torch.arange(6) % 2}).std())}


@pytest.mark.parametrize("prior", ["tabular", "autoregressive", "bits"])
def test_a_recipe_of_classes_tells_them_to_the_prior(tmp_path, monkeypatch, prior):
    monkeypatch.setitem(RECIPES, "squares", Squares)
    out = tmp_path / "run"
    fit(Squares(**{**SQUARES, "prior": prior}), out, command="")
    assert read_prior(out)[0] == PriorKind(prior, 1, 2, 2, 8, 1, 0.1)
    codes = load_file(out / "prior" / "codes.safetensors")
    assert torch.equal(codes["train.label"], (torch.arange(40) % 2).repeat(4))
    made = load(out, device="cpu")
    found = made.evaluate()
    assert {"spread", "prior_bits_train", "prior_bits_held_out"} <= found.keys()
    if prior == "tabular":  # each class has the code of its own that the table says
        made.parts.prior.table.copy_(torch.tensor([[1, 0], [0, 1], [0.5, 0.5]]))
        labels = torch.tensor([0, 1, 1, 0])
        keys = Rng(0).samples(4)
        told = made.recipe.told_codes(made.parts, {"label": labels}, {}, keys)["codes"]
        assert torch.equal(told.argmax(-1)[:, 0], labels)


# Comparisons.


def test_kinds_of_priors_are_compared(tmp_path, capsys):
    words = ["compare", "disco-mixture", "--out", str(tmp_path / "grid"), *WORDS, "--seeds", "1"]
    words += ["--grid", "prior=autoregressive,tabular", "--cells", "prior=none codes=marginal"]
    assert main([*words, "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    ours = [cell["mean"].get("prior_bits_held_out") for cell in table["cells"]]
    assert ours[0] != ours[1]
    assert ours[2] is None
    first = next((tmp_path / "grid" / "runs").glob("*,prior_steps=12*seed=0"))
    assert read_prior(first)[1]
    remove_prior(first)  # as if killed before the second stage
    shutil.rmtree(first / "evaluations", ignore_errors=True)
    (first / "evaluation.json").unlink(missing_ok=True)
    assert main([*words, "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["cells"] == table["cells"]
