"""Runs from Python: the pictures they draw."""

import math
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import nn

import noiseloom
from noiseloom.diffusion import GaussianDiffusion, Prediction
from noiseloom.encodings import Scaled
from noiseloom.recipes import Parts, Recipe
from noiseloom.run import Run
from noiseloom.sampling import Step


@dataclass(frozen=True)
class Known(Recipe):
    """Its final estimates are what it is told they are."""

    result: torch.Tensor | None = None

    def draw(self, parts, facts, labels, rng):
        x = self.result[labels]
        time = torch.zeros(())
        yield Step(0, time, time, x, Prediction(x), x, {})


def run(levels, result):
    parts = Parts(nn.Linear(1, 1), GaussianDiffusion(), Scaled(levels))
    facts = {"levels": levels, "classes": ["a", "b", "c"], "shape": [1, 1, 1]}
    return Run(Path(), Known(result=result.reshape(-1, 1, 1, 1)), facts, parts)


@pytest.mark.parametrize(
    ("levels", "dtype"),
    [
        (2, torch.uint8),
        (256, torch.uint8),
        (257, torch.int16),
        (32768, torch.int16),
        (32769, torch.int32),
        (65536, torch.int32),
    ],
)
def test_pictures_hold_every_level(levels, dtype):
    pixels = run(levels, torch.tensor([-1.0, 0.0, 1.0])).pixels(torch.tensor([0, 2]))
    assert pixels.dtype == dtype
    assert pixels.flatten().tolist() == [0, levels - 1]


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_estimates_that_are_not_finite_are_no_pictures(value):
    drawn = run(256, torch.tensor([0.0, 1.0, value]))
    assert drawn.pixels(torch.tensor([0, 1])).shape == (2, 1, 1, 1)
    with pytest.raises(ValueError, match="estimates of 2 of 3 pictures are not finite"):
        drawn.pixels(torch.tensor([2, 0, 2]))
    assert replace(drawn, facts={"classes": ["a"]}).pixels(torch.tensor([0])).dtype == torch.uint8


def test_a_metric_is_a_number(tmp_path, monkeypatch):
    known = run(4, torch.zeros(3))
    monkeypatch.setattr(Known, "load", lambda self, data: None)
    monkeypatch.setattr(Known, "evaluate", lambda self, draw, data, rng: {"sharpness": math.nan})
    with pytest.raises(ValueError, match="the metric sharpness is nan"):
        known.evaluate("data", save=False)


def test_the_path_of_the_data_is_not_published(tmp_path):
    shipped = noiseloom.load("bits-digits", device="cpu")
    folder = tmp_path / "run"
    shutil.copytree(shipped.folder, folder)
    text = (folder / "recipe.yaml").read_text()
    text = text.replace("data: null", "data: /home/somebody/digits.zip")
    text = text.replace(
        "command: noiseloom demo", "command: noiseloom --data /home/somebody/digits.zip"
    )
    (folder / "recipe.yaml").write_text(text)
    noiseloom.push(noiseloom.load(folder, device="cpu"), str(tmp_path / "published"))
    published = (tmp_path / "published/recipe.yaml").read_text()
    assert "somebody" not in published
    assert "command: noiseloom --data digits.zip" in published
    labels = torch.arange(3)
    again = noiseloom.load(tmp_path / "published", device="cpu")
    assert torch.equal(again.pixels(labels), shipped.pixels(labels))


def test_a_wrong_type_in_a_description_is_named(tmp_path):
    shipped = noiseloom.load("bits-digits", device="cpu")
    (tmp_path / "recipe.yaml").write_text(
        (shipped.folder / "recipe.yaml").read_text().replace("steps: 1500", "steps: many")
    )
    with pytest.raises(ValueError, match="an option of recipe 'bits-digits' is of a wrong type"):
        noiseloom.load(tmp_path)
