"""Tiny runs with a property that is known exactly: how many of its letters are an A."""

import random

from noiseloom.cli import main
from noiseloom.loading import load
from noiseloom.recipes.guide_options import OWN_OPTIONS

LETTERS, LENGTH = "ACGT", 6
TRAINING = ["--width", "32", "--depth", "1", "--heads", "2", "--steps", "300", "--no-evaluate"]
TRAINING += ["--sampling-steps", "12", "--learning-rate", "4e-3", "--times", "shared"]
GUIDE = ["--width", "16", "--depth", "1", "--steps", "300", "--learning-rate", "4e-3"]
OWN = {"context_size": "16", "members": "2", "pretraining_steps": "60"}


def sequences(count, seed, weights=(0.3, 3.0)):
    """Different ones, with few As, or with many: so a letter says something of the others."""
    draw, found = random.Random(seed), {}
    while len(found) < count:
        many = [draw.choice(weights), 1, 1, 1]
        found["".join(draw.choices(LETTERS, weights=many, k=LENGTH))] = None
    return list(found)


def write_files(folder):
    """Sequences to train on, with labels (count of A, count of C), others without, and shifted."""
    train = sequences(800, 0)
    (folder / "train.txt").write_text("\n".join(train) + "\n")
    labelled = [s for s in train if s.count("A") <= 3][:500]
    rows = [f"{s},{s.count('A')},{s.count('C')}" for s in labelled]
    (folder / "labels.csv").write_text("\n".join(["sequence,a,c", *rows]) + "\n")
    others = [s for s in sequences(700, 1, (3.0,)) if s not in labelled]
    (folder / "context.fasta").write_text("".join(f">x\n{s}\n" for s in others[:300]))
    rows = [f"{s},{s.count('A')},{s.count('C')}" for s in others[300:] if s.count("A") > 3]
    (folder / "shifted.csv").write_text("\n".join(["sequence,a,c", *rows]) + "\n")
    return folder


def train_run(files, out, state, *words):
    """A run, by the command line."""
    command = ["train", "sequences", "--data", str(files / "train.txt"), "--out", str(out)]
    assert main([*command, "--state", state, *TRAINING, *words]) == 0
    return out


def train_guide(run, files, *words, columns="a", method="none"):
    """A guide of a run, by the command line, in the run's folder."""
    command = ["guide", str(run), "--labels", str(files / "labels.csv"), "--columns", columns]
    command += ["--context", str(files / "context.fasta"), "--method", method]
    own = [f"--{n.replace('_', '-')}={OWN[n]}" for n in OWN_OPTIONS[method] if n in OWN]
    assert main([*command, *GUIDE, *own, *words]) == 0
    return run / "guides" / f"{method}-0"


def load_run(folder):
    """On the CPU."""
    return load(folder, device="cpu")
