"""`noiseloom record`: files, interruptions, one line for every error; no simulator is needed."""

import json
import os
import signal
import subprocess
import sys
import threading

import pytest
import torch

import noiseloom.record as module
from noiseloom.cli import main
from noiseloom.data import Clips, Trajectories
from noiseloom.data.doom import _vizdoom
from noiseloom.data.point_maze import _model
from noiseloom.interrupts import uninterrupted
from noiseloom.rng import Rng
from noiseloom.sources import SOURCES, BenzenoidSource, MazeSource


@pytest.fixture
def simulator(monkeypatch):
    """A source of ten steps a piece; with `stop` it is sent `number` after so many pieces."""
    options = {"stop": None, "calls": [], "number": signal.SIGINT}

    def simulate(source, steps, seed):
        options["calls"].append((source, steps, seed))
        for i in range(-(-steps // 10)):
            if i == options["stop"]:
                os.kill(os.getpid(), options["number"])
            count = min(10, steps - 10 * i)
            yield Trajectories(Rng(seed).fold("piece", i).normal((count, 2)), torch.zeros(count, 1))

    monkeypatch.setitem(module._SIMULATORS, MazeSource, simulate)
    return options


def record(*words):
    return main(["record", "maze", *map(str, words)])


def test_every_source_has_a_simulator():
    assert set(SOURCES.values()) == {*module._SIMULATORS, BenzenoidSource}


def test_a_recording_is_a_file_of_trajectories(tmp_path, capsys, simulator):
    out = tmp_path / "new" / "a.safetensors"
    assert record("--maze", "large", "--steps", 25, "--seed", 3, "--out", out) == 0
    printed = capsys.readouterr()
    assert printed.out == f"25 steps: {out}\n"
    assert "25 of 25 steps" in printed.err
    assert simulator["calls"] == [(MazeSource("large"), 25, 3)]
    found = Trajectories.read(out)
    assert found.episodes.tolist() == [[0, 25]]
    assert torch.equal(found.observations[10:20], Rng(3).fold("piece", 1).normal((10, 2)))
    assert record("--steps", 5, "--out", out, "--force", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"file": str(out), "steps": 5, "seed": 0}
    assert len(Trajectories.read(out)) == 5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_was_recorded_before_an_interruption_is_kept(tmp_path, capsys, simulator, number):
    out, usual = tmp_path / "a.safetensors", signal.getsignal(number)
    simulator |= {"stop": 2, "number": number}
    assert record("--steps", 100, "--out", out) == 128 + number  # as shells say it
    assert signal.getsignal(number) is usual
    printed = capsys.readouterr()
    assert printed.out == f"20 steps: {out}\n"
    assert printed.err.splitlines()[-1] == "noiseloom: stopped"
    assert len(Trajectories.read(out)) == 20
    # Nothing was made: what was there stays.
    simulator["stop"] = 0
    assert record("--steps", 100, "--out", out, "--force") == 128 + number
    printed = capsys.readouterr()
    assert printed.err.splitlines() == ["nothing was recorded yet", "noiseloom: stopped"]
    assert len(Trajectories.read(out)) == 20


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", ["joined", "save"])
def test_writing_is_not_interrupted(tmp_path, monkeypatch, simulator, step, number):
    out, does, usual = tmp_path / "a.safetensors", getattr(Trajectories, step), []

    def interrupted(*args, **more):
        usual.append(signal.getsignal(number))
        os.kill(os.getpid(), number)
        return does(*args, **more)

    patch = staticmethod(interrupted) if step == "joined" else interrupted
    monkeypatch.setattr(Trajectories, step, patch)
    before = signal.getsignal(number)
    assert record("--steps", 25, "--out", out) == 0
    assert usual == [signal.SIG_IGN]
    assert signal.getsignal(number) is before
    assert len(Trajectories.read(out)) == 25


def test_processes_are_started_as_what_ctrl_c_does_not_end():
    code = "import signal as s; print([s.getsignal(n).name for n in (s.SIGINT, s.SIGTERM)])"
    with uninterrupted():
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "['SIG_IGN', 'SIG_IGN']\n"


def test_other_threads_leave_signals_alone():
    found = []

    def work():
        with uninterrupted():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGINT)]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "record needs a source: there is maze, doom, benzenoids"),
        (["mase"], "unknown source 'mase': did you mean maze?"),
        (["maze"], "record needs --out FILE.safetensors"),
        (["maze", "--maze", "tiny"], "--maze: expected one of umaze, medium, large, got tiny"),
        (["maze", "--out", "a.npz"], "a.npz: name a file that ends in .safetensors"),
        (["maze", "--out", "old.safetensors"], "old.safetensors exists: choose another"),
        (["maze", "--out", "a.safetensors/"], "a.safetensors is a folder"),
        (["maze", "--stepps", "3"], "unknown option --stepps: did you mean --steps?"),
    ],
)
def test_bad_words(tmp_path, capsys, monkeypatch, simulator, words, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.safetensors").write_bytes(b"old")
    (tmp_path / "a.safetensors").mkdir()
    assert main(["record", *words]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"noiseloom: error: {told}")
    assert printed.err.count("\n") == 1
    assert not simulator["calls"]
    assert (tmp_path / "old.safetensors").read_bytes() == b"old"


@pytest.mark.parametrize("missing", ["mujoco", "gymnasium_robotics.envs.maze.point_maze"])
def test_a_missing_extra_is_one_line(tmp_path, capsys, monkeypatch, missing):
    _model.cache_clear()
    monkeypatch.setitem(sys.modules, missing, None)
    assert record("--out", tmp_path / "new" / "a.safetensors") == 2
    printed = capsys.readouterr()
    assert "pip install 'noiseloom[sim]'" in printed.err
    assert printed.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_doom_without_its_extra_is_one_line(tmp_path, capsys, monkeypatch):
    _vizdoom.cache_clear()
    monkeypatch.setitem(sys.modules, "vizdoom", None)
    assert main(["record", "doom", "--out", str(tmp_path / "new" / "a.safetensors")]) == 2
    printed = capsys.readouterr()
    assert "pip install 'noiseloom[sim]'" in printed.err
    assert printed.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_options_of_doom_reach_its_recording(tmp_path, monkeypatch):
    def recording(steps, rng, **given):
        options = {"walk": "seeing", "size": 8, "skip": 2, "jobs": 5}
        assert (steps, rng, given) == (3, Rng(2), options)
        yield Clips(torch.zeros(3, 3, 8, 8).byte(), torch.zeros(3, 5), torch.arange(3) == 0)

    monkeypatch.setattr("noiseloom.data.doom.recording", recording)
    out = tmp_path / "a.safetensors"
    words = "--steps 3 --seed 2 --walk seeing --size 8 --skip 2 --jobs 5 --out"
    assert main(["record", "doom", *words.split(), str(out)]) == 0
    assert Clips.read(out).about == {"seed": "2"}


def test_help(capsys):
    assert main(["record", "--help"]) == 0
    assert "--maze" not in capsys.readouterr().out
    assert main(["record", "maze", "--help"]) == 0
    assert "--maze {umaze,medium,large}" in capsys.readouterr().out
