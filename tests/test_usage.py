"""The lines of Python that reports and model cards show: they run, for every recipe."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from test_recipes_doom import square
from test_recipes_maze import recording
from test_recipes_series import series, write
from test_recipes_trajectories import walks

import noiseloom as nl
from noiseloom.recipes import RECIPES, Coded
from noiseloom.run import Run

TINY = {"width": 8, "depth": 1, "heads": 2, "head_width": 8, "blocks": 1, "multipliers": (1,)}
TINY |= {"encoder_width": 8, "encoder_depth": 1, "encoder_heads": 2, "sampling_steps": 2}
TINY |= {"attention": 0, "patch": 4, "m": 2, "k": 3}
PICTURES = {"size": 16, "attention": 0}
FUTURES = {"horizon": 6, "stack": 3}
# Options beside these, and the shape of what the lines draw.
CASES = {
    "context-proteins": ({"length": 8, "motif_length": 2, "pool": 200}, (16, 8)),
    "bits-digits": ({}, (16, 1, 8, 8)),
    "bits-images": (PICTURES, (16, 3, 16, 16)),
    "bits-cifar10": ({}, (16, 3, 32, 32)),
    "captions": ({"size": 8}, (4, 3)),
    "context-benzenoids": ({"rings": 5}, (16, 5, 3)),
    "context-molecules": ({"edge_width": 4}, (16, 3, 4)),
    "disco-digits": ({}, (16, 1, 8, 8)),
    "disco-images": (PICTURES, (16, 3, 16, 16)),
    "disco-mixture": ({}, (16, 2)),
    "forcing-digits": ({}, (16, 1, 8, 8)),
    "forcing-doom": ({"frames": 6, "window": 4, "context": 3, "held_out": 0.6}, (4, 200, 3, 8, 8)),
    "forcing-exchange": ({"horizon": 4, "context": 3}, (16, 4, 2)),
    "forcing-maze": ({**FUTURES, "replan": 3, "deadline": 0.0}, (16, 6, 6)),
    "forcing-series": ({"horizon": 4, "context": 3}, (16, 4, 2)),
    "forcing-trajectories": (FUTURES, (16, 6, 4)),
    "palette": ({"side": 4, "colours": 4}, (16, 16)),
    "sequences": ({}, (16, 5)),
    "table": ({}, (16, 2)),
    "text": ({"length": 12}, (16, 12)),
}

OWN_DATA = (
    "bits-digits",
    "context-benzenoids",
    "disco-digits",
    "disco-mixture",
    "forcing-digits",
)

ROWS = {
    "context-molecules": (".smi", "CCO\nCCN\nCO\nC=O\nCC\nC1CC1\n"),
    "sequences": (".txt", "ACGTA\nCCA\nGTTA\n" + "".join(f"A{'C' * i}G\n" for i in range(4))),
    "table": (".csv", "a,b\n" + "".join(f"{i % 3},{'xyz'[i % 2]}\n" for i in range(60))),
    "text": (".txt", "so it goes on and on " * 40),
}


def data_of(name, folder):
    """What the recipe reads, or None for one that needs nothing to draw."""
    if name == "context-proteins":
        return "ehrlich"
    if name in ("forcing-series", "forcing-exchange"):
        write(folder / "data.csv", series())
        return folder / "data.csv"
    if name == "palette":
        for i in range(20):
            draw = np.random.default_rng(i).integers(2, size=(4, 4, 3)) * 255
            Image.fromarray(draw.astype(np.uint8)).save(folder / f"{i}.png")
        return folder
    if name == "captions":
        for i in range(50):
            Image.new("RGB", (8, 8), (5 * i, 0, 0)).save(folder / f"{i}.png")
            (folder / f"{i}.txt").write_text(f"tile {i} red\n")
        return folder
    if name in ROWS:
        ending, text = ROWS[name]
        (folder / f"data{ending}").write_text(text)
        return folder / f"data{ending}"
    made = {"forcing-doom": square, "forcing-maze": recording, "forcing-trajectories": walks}
    if name not in made:
        return None
    path = folder / "data.safetensors"
    made[name]().save(path)
    return path


def facts_of(recipe, path):
    own = recipe.name in OWN_DATA
    if path or own:
        return recipe.facts(recipe.load(path and str(path)))
    side = getattr(recipe, "size", 32)
    return {"shape": [3, side, side], "levels": 256, "classes": ["a", "b"]}


@pytest.mark.parametrize("name", RECIPES)
def test_the_lines_of_a_report_draw(name, tmp_path):
    options, shape = CASES[name]
    kind = RECIPES[name]
    fields = kind.__dataclass_fields__
    recipe = kind(**{n: v for n, v in {**TINY, **options}.items() if n in fields})
    path = data_of(name, tmp_path)
    facts = facts_of(recipe, path)
    with nl.Rng(0).torch():
        parts = recipe.build(facts)
    if isinstance(recipe, Coded):
        prior = nl.TabularPrior(recipe.m, recipe.k)
        prior.fit(torch.zeros(1, recipe.m, dtype=torch.int64))
        parts = replace(parts, prior=prior)
    parts.denoiser.eval().requires_grad_(False)
    run = Run(tmp_path, recipe, facts, parts)
    assert ("DATA" in recipe.usage) == (
        path is not None and name not in (*ROWS, "palette", "context-proteins")
    )
    names = {"noiseloom": nl, "torch": torch, "run": run}
    before = set(names)
    exec(recipe.usage.replace("DATA", str(path)), names)
    drawn = list({n: v for n, v in names.items() if n not in before}.values())[-1]
    assert drawn.shape == shape
