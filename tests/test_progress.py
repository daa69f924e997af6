"""What takes long tells how far it is, and is heard by whoever has begun it."""

import random

import torch

from noiseloom import Rng, terminal
from noiseloom.cli import main
from noiseloom.metrics.coverage import coverage
from noiseloom.metrics.features import in_batches
from noiseloom.metrics.two_sample import two_sample_accuracy
from noiseloom.progress import heard_by, tell


def test_what_is_told_in_a_block_is_heard_there_alone():
    outer, inner = [], []
    tell("nothing", 0, 1)
    with heard_by(lambda *far: outer.append(far)):
        tell("a", 1, 3)
        with heard_by(lambda *far: inner.append(far)):
            tell("b", 2, 3)
        tell("a", 3, 3)
    tell("nothing", 1, 1)
    assert outer == [("a", 1, 3), ("a", 3, 3)]
    assert inner == [("b", 2, 3)]


def test_measures_tell_how_far_they_are():
    heard = []
    with heard_by(lambda *far: heard.append(far)):
        in_batches(lambda x: x.flatten(1).float(), torch.zeros(10, 1, 2, 2, dtype=torch.uint8), 4)
        assert heard == [("features of pictures", done, 10) for done in (4, 8, 10)]
        heard.clear()
        rows = torch.arange(40)[:, None] % 4
        two_sample_accuracy(rows, rows, Rng(0))
        assert heard == [("folds of the classifier", fold, 5) for fold in range(5)]
        heard.clear()
        coverage(torch.arange(9.0)[:, None], torch.arange(1500.0)[:, None])
        assert ("neighbours of pictures", 1024, 1500) in heard


def test_judging_says_how_far_it_is(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(terminal, "_EVERY", 0.0)
    draw = random.Random(0)
    lines = "".join(f"{draw.randrange(3)},{draw.choice('xyz')}\n" for _ in range(900))
    (tmp_path / "a.csv").write_text("a,b\n" + lines)
    words = ["--steps", "2", "--batch-size", "8", "--width", "8", "--depth", "1", "--heads", "2"]
    words += ["--sampling-steps", "2", "--samples", "24", "--levels", "1", "--held-out", "0.3"]
    out = ["--data", str(tmp_path / "a.csv"), "--out", str(tmp_path / "grid")]
    assert main(["compare", "--state", "masked", *words, "--judged", "200", *out]) == 0
    told = capsys.readouterr().err
    assert "judging 24 samples of " in told
    for far in ("bits of rows, 128 of 200", "folds of the classifier, 4 of 5"):
        assert f"judging: {far}\n" in told
