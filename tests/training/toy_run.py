"""A toy run with all that makes resuming and splitting hard; also a script, for two processes.

The loss draws noise and a dropout mask per sample from its keys and makes a first pass without
gradient on every second row of the global batch; on demand the network has PyTorch's own dropout.
The real run is the same with a recipe: a small U-Net, keyed dropout and self-conditioning.
"""

import argparse
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import PartialState
from torch import nn

from noiseloom.fit import fit
from noiseloom.recipes import BitsDigits
from noiseloom.rng import Rng
from noiseloom.training import Training, train

OPTIONS = Training(
    steps=24, batch_size=8, warmup=4, checkpoint_every=5, learning_rate=1e-2, seed=3, decay="cosine"
)


class Points:
    """37 points: an epoch is no multiple of the batch."""

    def __init__(self, count=37):
        self.x = Rng(7).normal((count, 5))

    def __len__(self):
        return len(self.x)

    def __getitem__(self, indices):
        return {"x": self.x[indices]}


class Toy(nn.Module):
    def __init__(self, dropout=0.0):
        super().__init__()
        with Rng(1).torch():
            self.network = nn.Sequential(nn.Linear(11, 16), nn.SiLU(), nn.Dropout(dropout))
            self.head = nn.Linear(16, 5)
        self.register_buffer("scale", torch.ones(()))

    def forward(self, x, t, estimate, mask):
        hidden = self.network(torch.cat((x, t[:, None], estimate), 1))
        return self.head(hidden * mask) * self.scale


def toy_loss(model, batch, rng, rows):
    x = batch["x"]
    t = rng.fold("time").uniform((len(x),))
    noisy = x + t[:, None] * rng.fold("noise").normal_like(x)
    mask = (rng.fold("dropout").uniform((len(x), 16)) > 0.3) / 0.7
    estimate = torch.zeros_like(x)
    odd = (rows % 2 == 1).nonzero()[:, 0]
    if len(odd):
        with torch.no_grad():
            first = model(noisy[odd], t[odd], estimate[odd], mask[odd])
        estimate = estimate.index_copy(0, odd, first)
    return (model(noisy, t, estimate, mask) - x).square().mean(1)


def finish_real(out):
    """Train a recipe to the end."""
    network = {"width": 8, "head_width": 8, "multipliers": (1, 2), "attention": 8, "dropout": 0.3}
    # 16 pictures a process: from that many on PyTorch lays gradients of 1 x 1 kernels out as the
    # pictures are.
    options = {"steps": 4, "batch_size": 32, "warmup": 0, "learning_rate": 1e-3}
    fit(BitsDigits(**network, **options, self_conditioning=0.5), out, command="")


def finish(out, options=OPTIONS, dropout=0.0, resume=False, loss=toy_loss, data=None):
    """Train to the end; returns the model."""
    model = Toy(dropout)
    data = Points() if data is None else data
    for _ in train(model, loss, data, options, Path(out), resume=resume):
        pass
    return model


def records(out):
    return [json.loads(line) for line in (Path(out) / "metrics.jsonl").read_text().splitlines()]


def losses(out):
    assert [r["step"] for r in records(out)] == list(range(1, len(records(out)) + 1))
    return [r["loss"] for r in records(out)]


def started(*arguments):
    """A launcher of several processes on the CPU, whose output is kept."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    for name in ("steps", "accumulate"):
        parser.add_argument(f"--{name}", type=int, default=getattr(OPTIONS, name))
    parser.add_argument("--real", action="store_true")
    args = vars(parser.parse_args())
    out, real = args.pop("out"), args.pop("real")
    torch.set_num_threads(1)
    if real:
        finish_real(out)
    else:
        finish(out, replace(OPTIONS, **args), resume=True)
    if PartialState().is_main_process:
        (out / "world.json").write_text(json.dumps(PartialState().num_processes))
