"""Guides trained side by side: the same guides, failures and Ctrl-C, trials shared by choices."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from guided import GUIDE, train_run, write_files
from safetensors.torch import load_file

import noiseloom.guide_trainings
from noiseloom.cli import main
from noiseloom.guide_folder import read_guide

CLI = [sys.executable, "-c", "import sys; from noiseloom.cli import main; sys.exit(main())"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def run(files, tmp_path_factory):
    return train_run(files, tmp_path_factory.mktemp("runs") / "run", "masked", "--steps", "5")


def words_of(run, files, out, *more):
    words = ["guide", str(run), "--labels", str(files / "labels.csv"), "--columns", "a"]
    words += ["--shifted", str(files / "shifted.csv"), "--context", str(files / "context.fasta")]
    return [*words, "--method", "weight-decay,parameter-prior", "--out", str(out), *GUIDE, *more]


def test_two_processes_make_what_one_makes(run, files, tmp_path, capsys):
    results = []
    for jobs in "12":
        out = tmp_path / jobs
        more = ["--configurations", "2", "--steps", "10", "--jobs", jobs, "--json"]
        assert main(words_of(run, files, out, *more)) == 0
        told = capsys.readouterr()
        assert (jobs == "2") == ("guide 4 of 4 is done: " in told.err)
        result = json.loads(told.out)
        result.pop("folder")
        weights = {
            str(path.relative_to(out)): load_file(path)
            for path in sorted(out.rglob("ema.safetensors"))
            if "state" not in path.parts
        }
        results.append((result, json.loads((out / "selection.json").read_text()), weights))
        assert (out / "logs").exists() == (jobs == "2")
    (first, chosen, weights), (second, also, others) = results
    assert first == second
    assert chosen == also
    assert len(weights) == 6
    assert weights.keys() == others.keys()
    for name, state in weights.items():
        for key, value in state.items():
            assert torch.equal(value, others[name][key]), (name, key)


def test_another_choice_finds_the_same_trials(run, files, tmp_path, capsys, monkeypatch):
    first, second = tmp_path / "in-domain", tmp_path / "shifted"
    more = ["--configurations", "2", "--steps", "5"]
    assert main(words_of(run, files, first, *more)) == 0
    trained, inner = [], noiseloom.guide_trainings.fit_guide

    def fit(run, options, out, *given, **named):
        if not (read_guide(out) and read_guide(out).finished):
            trained.append(options.seed)
        return inner(run, options, out, *given, **named)

    monkeypatch.setattr("noiseloom.guide_trainings.fit_guide", fit)
    more += ["--select", "shifted", "--trials", str(first / "selection")]
    assert main(words_of(run, files, second, *more)) == 0
    assert set(trained) == {0}  # and no trial, whose seed is 1000
    assert not (second / "selection").exists()
    kept = [json.loads((out / "selection.json").read_text()) for out in (first, second)]
    assert [k["select"] for k in kept] == ["in-domain", "shifted"]
    assert kept[0]["grids"] == kept[1]["grids"]
    assert main(words_of(run, files, second, "--trials", "x")) == 2
    assert "--trials is of --configurations N" in capsys.readouterr().err


def test_a_guide_that_fails_is_told_and_is_not_the_end_of_the_others(
    run, files, tmp_path, capsys, monkeypatch
):
    inner = noiseloom.guide_trainings.fit_guide

    def fit(run, options, out, *given, **named):
        if options.method == "weight-decay":
            raise torch.OutOfMemoryError("no room")
        return inner(run, options, out, *given, **named)

    monkeypatch.setattr("noiseloom.guide_trainings.fit_guide", fit)
    words = words_of(run, files, tmp_path / "some", "--steps", "5", "--json")
    assert main(words) == 0
    told = capsys.readouterr()
    assert "weight-decay-0 failed: OutOfMemoryError: no room" in told.err
    result = json.loads(told.out)
    assert result["failed"] == {"weight-decay-0": "OutOfMemoryError: no room"}
    assert list(result["guides"]) == ["parameter-prior"]
    words[words.index("weight-decay,parameter-prior")] = "weight-decay"
    assert main([*words, "--seeds", "2", "--out", str(tmp_path / "none")]) == 2
    assert "error: OutOfMemoryError: no room" in capsys.readouterr().err


def test_the_number_of_jobs_is_checked_before_anything_is_read(run, files, tmp_path, capsys):
    assert main(words_of(run, files, tmp_path / "a", "--jobs", "0")) == 2
    assert "--jobs must be at least 1, got 0" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


def test_ctrl_c_ends_all_of_them_and_the_same_command_goes_on(run, files, tmp_path, capsys):
    out = tmp_path / "chosen"
    # The first trials are short, so that some are done when it comes; nobody waits for the rest.
    more = ["--configurations", "3", "--steps", "100", "--jobs", "2"]
    words = words_of(run, files, out, *more)
    process = subprocess.Popen(
        [*CLI, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    end = time.monotonic() + 120
    while not (out / "selection.json").is_file() and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert "go on with: noiseloom guide" in told
    assert "Traceback" not in told
    done = [p for p in (out / "selection").rglob("guide.yaml") if read_guide(p.parent).finished]
    assert 1 <= len(done) < 6
    times = {path: os.stat(path).st_mtime_ns for path in done}
    words[words.index("--jobs") + 1] = "1"
    assert main(words) == 0
    capsys.readouterr()
    assert {path: os.stat(path).st_mtime_ns for path in done} == times
    kept = json.loads((out / "selection.json").read_text())
    assert {m: len(g["tried"]) for m, g in kept["grids"].items()} == {
        "weight-decay": 3,
        "parameter-prior": 3,
    }
    assert read_guide(out / "weight-decay-0").finished
