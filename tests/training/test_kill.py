"""SIGKILL at any moment, then --resume: the same losses, bit for bit."""

import multiprocessing
import time
from dataclasses import replace

import torch
from safetensors.torch import load_file
from toy_run import OPTIONS, finish, losses

from noiseloom.rng import Rng

KILLS = 6
# Most of the time goes into writing checkpoints: most kills hit one.
LONG = replace(OPTIONS, steps=50 * KILLS, checkpoint_every=2, post_hoc_ema=True)


def run(out, resume):
    torch.set_num_threads(1)
    finish(out, LONG, dropout=0.2, resume=resume)


def test_killed_runs_resume_bit_for_bit(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    context = multiprocessing.get_context("forkserver")  # imports once, forks for each process
    context.set_forkserver_preload(["noiseloom.training", "torch._dynamo"])

    def start(out, resume=False):
        process = context.Process(target=run, args=(out, resume))
        process.start()
        return process

    first = start(whole)
    moments = Rng(time.time_ns()).uniform((KILLS,)).tolist()
    for i, moment in enumerate(moments):
        process = start(killed, resume=True)
        while process.is_alive() and _lines(killed) < 40 * i + 1:
            time.sleep(0.001)
        time.sleep(0.2 * moment)
        process.kill()
        process.join()
        assert process.exitcode == -9, "the run ended before it was killed"
    last = start(killed, resume=True)
    for process in (first, last):
        process.join()
        assert process.exitcode == 0

    assert losses(killed) == losses(whole), moments
    for path in (whole / "model.safetensors", *whole.glob("ema*/*"), whole / "ema.safetensors"):
        ours, theirs = load_file(killed / path.relative_to(whole)), load_file(path)
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert [path.name for path in (killed / "state").iterdir()] == [f"step-{LONG.steps:08d}"]


def _lines(out):
    path = out / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0
