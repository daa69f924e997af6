"""The README's Python runs as it stands, on the model that comes with the package."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import noiseloom
from noiseloom import Rng
from noiseloom.metrics.digit_classifier import DigitClassifier
from noiseloom.run_folder import MODELS

ROOT = Path(__file__).parent.parent


def python():
    """The pieces of Python of the README."""
    return re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def test_readme_code_learns_classes_and_says_their_bits(capsys):
    _, code = python()
    names = {}
    with Rng(0).torch():
        exec(code, names)
    bits, drawn = float(names["bits"]), names["drawn"]
    assert 2 < bits < 2.4  # a bound on -log2 of a quarter
    assert drawn.shape == (8, 6)
    assert (drawn == drawn[:, :1]).float().mean() > 0.9
    assert "bits a row" in capsys.readouterr().out


def test_readme_code_draws_digits_of_the_classes_asked_for(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(python()[0], names)
    digits = names["digits"]
    assert digits.shape == (16, 1, 8, 8)
    assert len(capsys.readouterr().out.splitlines()) == 20
    with Image.open("sixteen.png") as made, Image.open(ROOT / "docs/sixteen.png") as shown:
        # Another machine's rounding may turn some pixels of 64 in 16 digits by a level.
        away = np.abs(np.asarray(made, int) - np.asarray(shown, int))
    assert (away > 17).mean() < 0.05
    found = DigitClassifier.shipped().logits(digits.to(torch.uint8)).argmax(-1)
    assert (found == torch.arange(16) % 10).float().mean() > 0.8


def test_the_shipped_model_was_judged_as_good_as_the_demo_should_be():
    found = json.loads((MODELS / "bits-digits" / "evaluation.json").read_text())
    assert found["class_agreement"] >= 0.95
    assert found["coverage"] >= 0.8 * found["coverage_held_out"]
    assert found["memorised"] <= 0.03


def test_shipped_model_is_small_and_draws_the_same_digits_alone_and_in_a_batch():
    files = [f for f in (MODELS / "bits-digits").iterdir() if f.is_file()]
    assert sum(f.stat().st_size for f in files) <= 2_000_000
    run = noiseloom.load("bits-digits", device="cpu").with_options(sampling_steps=10)
    labels = torch.arange(20) % 10
    batch = run.pixels(labels, seed=3)
    *_, alone = run.steps(labels[17:18], seed=3, start=17)
    assert torch.equal(run.codec.decode(alone.result)[0].to(torch.uint8), batch[17])
    assert torch.equal(run.pixels(labels, seed=3, batch_size=7), batch)


def test_links_and_pictures_of_the_readme_exist():
    text = (ROOT / "README.md").read_text()
    for target in re.findall(r"\]\(([^)h][^)]*)\)", text):
        assert (ROOT / target).exists(), target


@pytest.mark.parametrize("path", sorted((ROOT / "docs").glob("*.md")), ids=lambda p: p.name)
def test_links_of_the_docs_exist(path):
    for target in re.findall(r"\]\(([^)h#][^)]*)\)", path.read_text()):
        assert (path.parent / target).exists(), target
