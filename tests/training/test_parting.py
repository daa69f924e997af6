"""Two processes part: at the end, after an error of one, where one was killed or both stopped."""

import os
import re
import signal
import time
from pathlib import Path

import pytest
from several import LOOK
from toy_run import finish, losses, started

from noiseloom.training import processes

SCRIPT = str(Path(__file__).with_name("several.py"))
LOST = "noiseloom: error: another process of this training has ended"


def part(out, mode):
    every = f"--monitor-interval={LOOK}"
    process = started("--nproc-per-node", "2", every, SCRIPT, str(out), mode)
    told, said = _heard(process)
    assert "terminate called" not in said
    return process.returncode, told, said


@pytest.mark.parametrize("mode", ["recipe", "recipes", "script", "script that destroys"])
def test_the_group_and_its_threads_are_gone_at_the_end(tmp_path, mode):
    code, told, said = part(tmp_path / "run", mode)
    assert code == 0, said
    assert "Error" not in said
    times = ["at the end", "returned"] if mode == "recipe" else ["at the end"]
    expected = [f"{when}: group False, 0 threads of gloo" for when in times for _ in range(2)]
    # The other process may write in the middle of a line.
    found = re.findall(r"(?:returned|at the end): group \w+, \d+ threads of gloo", told)
    assert sorted(found) == expected


@pytest.mark.parametrize("mode", ["error", "pending"])
def test_an_error_of_one_is_what_is_said_and_waits_for_nobody(tmp_path, mode):
    code, _, said = part(tmp_path / "run", mode)
    assert code == 1
    lines = [line for line in said.splitlines() if line.startswith("noiseloom: ")]
    assert lines.pop(0) == "noiseloom: error: a broken picture"
    assert [line[: len(LOST)] for line in lines] == ([LOST] if mode == "error" else [])
    assert "[rank" not in said  # tracebacks
    assert _cause(said) == (1, 2)


@pytest.mark.parametrize("mode", ["bug", "script with a bug"])
def test_the_traceback_of_a_bug_comes_first(tmp_path, mode):
    code, _, said = part(tmp_path / "run", mode)
    assert code == 1
    own, _, rest = said.partition("[rank1]: LookupError: a bug\n")
    assert "Error" not in own.replace("LookupError", "")
    assert ("[rank0]" in rest) == (mode != "bug")
    assert _cause(said) == (1, 1)


def test_the_other_one_of_a_killed_process_ends_and_the_run_goes_on(tmp_path):
    code, _, said = part(tmp_path / "run", "killed")
    assert code == 1
    assert [line[: len(LOST)] for line in said.splitlines() if "noiseloom: " in line] == [LOST]
    assert "[rank" not in said
    assert _cause(said) == (1, -9)
    _goes_on(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_processes_end_and_the_run_goes_on(tmp_path, number):
    process = started("--nproc-per-node", "2", SCRIPT, str(tmp_path / "run"), "slow")
    metrics, deadline = tmp_path / "run" / "metrics.jsonl", time.monotonic() + 60
    while not (metrics.exists() and metrics.read_bytes().count(b"\n") > 6):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, number)
    _, said = _heard(process, 25)  # torchrun kills after 30
    assert process.returncode != 0
    assert "terminate called" not in said
    assert "[rank" not in said
    _goes_on(tmp_path)


def _heard(process, seconds=60):
    """What a launcher says until it ends; if it hangs, it ends what it has started."""
    try:
        return process.communicate(timeout=seconds)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()


def _cause(said):
    """Which process torchrun names as the cause, and its exit code."""
    found = re.search(r"Root Cause.*?rank +: (\d).*?exitcode +: (-?\d+)", said, re.DOTALL)
    return int(found[1]), int(found[2])


def _goes_on(folder):
    finish(folder / "whole")
    finish(folder / "run", resume=True)
    assert losses(folder / "run") == pytest.approx(losses(folder / "whole"), rel=1e-5)


class Broken:
    def flush(self):
        raise BrokenPipeError


@pytest.mark.parametrize("stream", [None, Broken()])
def test_a_process_leaves_also_where_it_can_say_nothing(monkeypatch, stream):
    left = []
    monkeypatch.setattr(processes, "_begun", True)
    monkeypatch.setattr(processes, "_is_connected", lambda: True)
    monkeypatch.setattr(processes.os, "_exit", left.append)
    monkeypatch.setattr(processes.sys, "stdout", stream)
    processes.leave(2, ValueError("told already"))

    def untold(*_):
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        processes._told(untold, LookupError, LookupError("a bug"), None)
    assert left == [2, 1]
