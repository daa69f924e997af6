"""Runs from Python: the pictures they draw."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import nn

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
