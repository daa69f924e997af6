"""Molecules that a run draws, as a part of a page and as files: a table, SDF and a picture."""

import csv
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from noiseloom.data import Split
from noiseloom.data.molecular_graphs import corrected_graphs, molecules_of, smiles_of_graphs
from noiseloom.data.molecule_files import molecule_picture
from noiseloom.gallery import section
from noiseloom.guide_folder import guidable
from noiseloom.rng import Rng
from noiseloom.run import Run
from noiseloom.run_folder import write_text
from noiseloom.terminal import say

__all__ = ["compounds", "write_compounds"]

_COUNT, _SHOWN = 64, 24


def compounds(run: Run, data: Split[Any] | None, seed: int) -> str:
    """A section of a page with drawn molecules beside held-out ones, and their true labels.

    Args:
        run: of molecules.
        data: them; None if they are not at hand.
        seed: of the draws.
    """
    drawn, kinds = _drawn(run, _COUNT, seed), run.facts["kinds"]
    right = sum(map(bool, smiles_of_graphs(drawn, kinds)))
    text = (
        f"Of {_COUNT} graphs, drawn with seed {seed}, {right} are molecules in one piece as they "
        "were drawn."
    )
    if getattr(run.recipe, "correct", False):
        text += " Shown are the largest pieces after valences were mended."
        drawn = corrected_graphs(drawn, kinds)
    text += " Below each is its true QED (10 &minus; SA) / 9."
    figures = [(_pictures(run, drawn), "samples")]
    if data is not None:
        some = Rng(0).fold("held out").permutation(len(data.held_out))
        held = data.held_out.select(some[:_SHOWN]).fitted(kinds, run.facts["atoms"])[0]
        figures.append((_pictures(run, held.graphs), "held out"))
    shown = "".join(
        f"<figure>{picture}<figcaption>{what}</figcaption></figure>"
        for picture, what in figures
        if picture
    )
    return section("Samples", f"<p>{text}</p>{shown}")


def write_compounds(run: Run, path: Path, *, data: str | None, count: int, seed: int) -> int:
    """Draw molecules into a CSV file, a row each, and beside it into an SDF file and a picture.

    Args:
        run: of molecules.
        path: of the table; the others end in .sdf and .svg.
        data: must be None: samples follow no data.
        count: of samples, those that are no molecule among them: their cells are empty.
        seed: of the draws.

    Returns:
        Atoms of the largest table.

    Raises:
        ValueError: data are named.
    """
    if data is not None:
        raise ValueError("molecules follow no data: leave --data out")
    recipe, drawn = guidable(run), _drawn(run, count, seed)
    right = smiles_of_graphs(drawn, run.facts["kinds"])
    cells = recipe.cells(run.parts, run.facts, drawn)
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow([*recipe.columns(run.facts), "as_drawn"])
        rows.writerows([*row, key] for row, key in zip(cells, right, strict=True))
    beside = recipe.write_structures(path, run.parts, run.facts, drawn, {"as_drawn": right})
    say(f"structures: {beside}")
    picture = _pictures(run, drawn)
    if picture:
        write_text(path.with_suffix(".svg"), picture)
        say(f"picture: {path.with_suffix('.svg')}")
    return drawn.shape[1]


def _drawn(run: Run, count: int, seed: int) -> Tensor:
    return run.samples({"row": torch.arange(count)}, seed=seed)


def _pictures(run: Run, graphs: Tensor) -> str:
    """The first molecules, with their labels; "" where there is none."""
    cells = guidable(run).cells(run.parts, run.facts, graphs)
    rows = [i for i, row in enumerate(cells) if row[0]][:_SHOWN]
    if not rows:
        return ""
    chosen = corrected_graphs(graphs[rows], run.facts["kinds"])
    molecules = molecules_of(chosen, run.facts["kinds"])
    return molecule_picture(molecules, [f"{cells[i][1]:.3f}" for i in rows])
