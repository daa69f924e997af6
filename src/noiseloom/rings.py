"""Benzenoids that a run draws, as a part of a page and as files: a table and a picture."""

import csv
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from noiseloom.data import Split, snap
from noiseloom.data.hexagon_picture import hexagon_picture
from noiseloom.gallery import section
from noiseloom.guide_folder import guidable
from noiseloom.rng import Rng
from noiseloom.run import Run
from noiseloom.terminal import say

__all__ = ["rings", "write_rings"]

_COUNT = 64
_SHOWN = 32


def rings(run: Run, data: Split[Any] | None, seed: int) -> str:
    """A section of a page with drawn structures beside held-out ones, and their true gaps.

    Args:
        run: of benzenoids.
        data: them; None if they are not at hand.
        seed: of the draws.
    """
    found = snap(_drawn(run, _COUNT, seed))
    rows = found.valid.nonzero()[:_SHOWN, 0]
    names = [name for name in found.reasons if name != "valid"]
    wrong = "; ".join(f"{names.count(name)} {name}" for name in dict.fromkeys(names))
    told = f": {wrong}" if wrong else ""
    text = (
        f"Of {_COUNT} structures, drawn with seed {seed}, {int(found.valid.sum())} are "
        f"benzenoids{told}. Below each is its true gap, in |beta|."
    )
    figures = [(_picture(found.cells[rows], found.gaps[rows]), "samples")]
    if data is not None:
        some = Rng(0).fold("held out").permutation(len(data.held_out))
        held = data.held_out.select(some[:_SHOWN])
        figures.append((_picture(held.cells.long(), held.gaps), "held out"))
    shown = "".join(
        f"<figure>{picture}<figcaption>{what}</figcaption></figure>" for picture, what in figures
    )
    return section("Samples", f"<p>{text}</p>{shown}")


def write_rings(run: Run, path: Path, *, data: str | None, count: int, seed: int) -> int:
    """Draw benzenoids into a CSV file, a row each, and the first into a picture beside it.

    Args:
        run: of benzenoids.
        path: of the table; the picture ends in .svg.
        data: must be None: samples follow no data.
        count: of samples, those that are none among them: their cells are empty.
        seed: of the draws.

    Returns:
        Rings of each.

    Raises:
        ValueError: data are named.
    """
    if data is not None:
        raise ValueError("benzenoids follow no data: leave --data out")
    recipe, drawn = guidable(run), _drawn(run, count, seed)
    found = snap(drawn)
    cells = recipe.cells(run.parts, run.facts, drawn)
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow([*recipe.columns(run.facts), "found"])
        rows.writerows([*row, why] for row, why in zip(cells, found.reasons, strict=True))
    say(f"picture: {recipe.write_structures(path, run.parts, run.facts, drawn, {})}")
    return drawn.shape[1]


def _drawn(run: Run, count: int, seed: int) -> Tensor:
    return run.samples({"row": torch.arange(count)}, seed=seed)


def _picture(cells: Tensor, gaps: Tensor) -> str:
    return hexagon_picture(cells, [f"{gap:.3f}" for gap in gaps.tolist()])
