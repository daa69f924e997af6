"""Two processes never train in one folder, and none outlives the one that started it."""

import os
import shlex
import signal
import subprocess
import sys
import time

import pytest

from noiseloom.cli import main
from noiseloom.run_folder import claimed

TINY = shlex.split(
    "--width 8 --head-width 8 --multipliers [1] --batch-size 8 --samples 40 --warmup 1 "
    "--sampling-steps 2 --no-evaluate"
)


def test_a_claim_excludes_others_and_leaves_nothing(tmp_path):
    folder = tmp_path / "run"
    with claimed(folder):
        with pytest.raises(FileExistsError, match="is being trained by another process"):
            claimed(folder).__enter__()
        assert folder.is_dir()
    assert not folder.exists()
    folder.mkdir()
    with claimed(folder):
        (folder / "kept").touch()
    assert [path.name for path in folder.iterdir()] == ["kept"]


@pytest.mark.parametrize("words", [["--steps", "2"], ["--resume", "--steps", "4"]])
def test_training_where_another_trains_is_refused_and_harms_nothing(tmp_path, capsys, words):
    out = tmp_path / "run"
    resume = "--resume" in words
    if resume:
        assert main(["train", "bits-digits", "--out", str(out), "--steps", "2", *TINY]) == 0
    with claimed(out):
        before = sorted(out.iterdir())
        command = ["train", "bits-digits", "--out", str(out), *words, *(() if resume else TINY)]
        assert main(command) == 2
        told = capsys.readouterr().err.splitlines()[-1]
        assert told == f"noiseloom: error: {out} is being trained by another process"
        assert sorted(out.iterdir()) == before
    assert main(command) == 0


def test_a_claim_ends_with_a_killed_process(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from noiseloom.run_folder import claimed\n"
        "with claimed(Path(sys.argv[1])): print('claimed', flush=True); time.sleep(60)"
    )
    folder = tmp_path / "run"
    words = [sys.executable, "-c", code, str(folder)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "claimed\n"
        with pytest.raises(FileExistsError):
            claimed(folder).__enter__()
        process.kill()
    with claimed(folder):
        pass


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT], ids=["killed", "stopped"])
def test_jobs_end_with_their_comparison(tmp_path, end):
    grid = ["--grid", "code=binary,gray", "--seeds", "1", "--jobs", "2", "--steps", "100000"]
    words = [sys.executable, "-m", "noiseloom", "compare", "bits-digits", "--out", str(tmp_path)]
    words += [*TINY[:-1], *grid]
    # Of what runs in the background a shell has SIGINT ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL, start_new_session=True)
    signal.signal(signal.SIGINT, before)
    with process:
        deadline = time.monotonic() + 120
        while len(files := list(tmp_path.glob("runs/*/metrics.jsonl"))) < 2:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.1)
        if end == signal.SIGKILL:
            process.kill()
        else:
            os.killpg(process.pid, end)  # as a terminal does
            assert process.wait(60) == 130
    group = process.pid
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            break
        time.sleep(0.1)
    else:
        os.killpg(group, signal.SIGKILL)
        pytest.fail("a process outlived the comparison")
    sizes = [file.stat().st_size for file in files]
    time.sleep(0.3)
    assert [file.stat().st_size for file in files] == sizes
