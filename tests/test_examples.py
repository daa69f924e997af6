"""The examples run."""

import runpy
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
