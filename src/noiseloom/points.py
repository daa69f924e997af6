"""What a run draws in the plane, as a part of a page and as a file."""

import csv
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from noiseloom.data import Split
from noiseloom.figures import scatter
from noiseloom.gallery import section
from noiseloom.latents import Latent
from noiseloom.run import Run

__all__ = ["points", "write_points"]

COUNT = 2000


def points(run: Run, data: Split[Any] | None, seed: int) -> str:
    """A section of a page with samples beside held-out points, in the colours of their codes.

    Args:
        run: of a recipe of points.
        data: the points; None if they are not at hand.
        seed: of the draws.
    """
    drawn = _drawn(run, COUNT, seed)
    model = run.denoiser

    def codes(values: Tensor) -> Tensor | None:
        if not isinstance(model, Latent):
            return None
        found = model.encode(values.to(run.device)).cpu()
        return (found * model.k ** torch.arange(model.m - 1, -1, -1)).sum(-1)

    charts = [scatter(drawn, "samples", codes(drawn))]
    if data is not None:
        held = data.held_out.values[:COUNT]
        charts.append(scatter(held, "held out", codes(held)))
    told = " Colours are the codes that the encoder gives." if isinstance(model, Latent) else ""
    text = f"{COUNT:,} samples, as drawn with seed {seed}, beside held-out points.{told}"
    figures = "".join(f"<figure>{chart}</figure>" for chart in charts)
    return section("Samples", f'<p>{text}</p><div class="pair">{figures}</div>')


def write_points(
    run: Run, path: Path, *, data: str | None, count: int, seed: int, codes: Tensor | None = None
) -> int:
    """Draw points into a CSV file, a row each.

    Args:
        run: of a recipe of points.
        path: of the file.
        data: must be None: samples follow no data.
        count: number of points.
        seed: of the draws.
        codes: that they are told, int64, shape (count, m); by default as the run's options say.

    Returns:
        Coordinates of a point.

    Raises:
        ValueError: data are named.
    """
    if data is not None:
        raise ValueError("points follow no data: leave --data out")
    drawn = _drawn(run, count, seed, codes)
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow([f"x{i}" for i in range(drawn.shape[1])])
        rows.writerows(drawn.tolist())
    return drawn.shape[1]


def _drawn(run: Run, count: int, seed: int, codes: Tensor | None = None) -> Tensor:
    given = {"label": torch.zeros(count, dtype=torch.int64)}
    return run.samples(given if codes is None else {**given, "codes": codes}, seed=seed)
