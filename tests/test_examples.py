"""The examples run."""

import runpy
import subprocess
import sys
from pathlib import Path

from noiseloom.cli import main

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_rows_are_streamed_after_those_that_are_known(tmp_path, capsys):
    run = str(tmp_path / "rows")
    words = ["--steps", "2", "--width", "16", "--depth", "1", "--heads", "2", "--batch-size", "8"]
    assert main(["train", "forcing-digits", "--out", run, "--no-evaluate", *words]) == 0
    capsys.readouterr()
    runpy.run_path(str(EXAMPLES / "stream.py"))["main"](run)
    lines = capsys.readouterr().out.rstrip("\n").split("\n")
    assert len(lines) == 8
    assert {len(line) for line in lines} == {6 * 16 + 5 * 3}


def test_one_wrapper_and_one_loss_for_bits_and_for_rows(capsys):
    runpy.run_path(str(EXAMPLES / "latents_everywhere.py"))["main"](updates=1)
    _, bits, rows = capsys.readouterr().out.splitlines()
    for line, name, k in ((bits, "analog bits", 16), (rows, "rows", 8)):
        assert line.startswith(name)
        *losses, used, of, codes = line[len(name) :].split()
        # Codes have not been read yet: after one update what reads them is still almost zero.
        assert max(map(float, losses)) - min(map(float, losses)) < 0.01
        assert (of, codes) == ("of", str(k))
        assert 1 <= float(used) <= k


def test_what_cannot_be_streamed_is_told_in_a_line(tmp_path):
    def told(*words):
        command = [sys.executable, str(EXAMPLES / "stream.py"), *words]
        result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert result.returncode == 1
        return result.stderr

    assert told() == "usage: python examples/stream.py RUN, a run of forcing-digits\n"
    assert told("nowhere") == "error: no run at nowhere\n"
    assert "bits-digits is no run of forcing-digits" in told("bits-digits")
