"""Forecasts of what comes after the end of a series, into a file."""

from pathlib import Path
from typing import Literal

import torch

from noiseloom.data import Series
from noiseloom.interrupts import uninterrupted
from noiseloom.recipes import ForcingSeries
from noiseloom.run import Run
from noiseloom.run_folder import read_description
from noiseloom.terminal import Pace, save_paths, say

__all__ = ["write_forecasts"]


def write_forecasts(
    run: Run,
    path: Path,
    *,
    data: str | None,
    count: int,
    seed: int,
    progress: Pace | None = None,
) -> int:
    """Sample what may come after the last row of a series.

    Ctrl-C keeps the steps there are, as does SIGTERM in a block that is `terminable`: of forecasts
    that are made step by step, since along a plan nothing is finished before all is. The file has a
    row for every path and step: their numbers, from 0 and from 1, and columns.

    Args:
        run: of a recipe of series.
        path: of the CSV file.
        data: where the series lies; by default where training found it.
        count: number of paths.
        seed: of the draws.
        progress: told of every step.

    Returns:
        Steps of a path.

    Raises:
        ValueError: other columns than the run's, too few rows, or gaps in what is followed.
    """
    recipe = run.recipe
    assert isinstance(recipe, ForcingSeries)
    path_of_data = data or read_description(run.folder)["data"]
    if path_of_data is None:
        raise ValueError("the run does not say where its data lay: name them with --data")
    table, known = recipe.read(path_of_data), run.facts["columns"]
    recipe.fits({"columns": list(table.columns), **recipe.origin(table.values)}, run.facts)
    needed = recipe.lead + max(recipe.lags, default=0)
    if len(table.values) < needed:
        raise ValueError(
            f"{path_of_data} has {len(table.values)} rows, and a forecast takes {needed}"
            + (": what is known, and its lags" if recipe.lags else "")
        )
    if not table.values[-recipe.lead :].isfinite().all():
        raise ValueError(
            f"{path_of_data}: a forecast follows the last {recipe.lead} rows, and these have gaps: "
            f"fill them (--known {path_of_data} draws what may be there), or leave out what comes "
            "last"
        )
    end = Series(table.values, table.columns, recipe.lead, lags=recipe.lags, ahead=recipe.horizon)
    given = recipe.asked(end, torch.tensor([len(end) - 1]), count)
    keep: Literal["batches", "steps"] = "steps" if recipe.rolls else "batches"
    paths = run.samples(given, seed=seed, progress=progress, keep_part=keep)
    with uninterrupted():  # a second signal, or one at the end, would lose all of it
        save_paths(path, "path", known, paths)
    if paths.shape[:2] != (count, recipe.horizon):
        say(f"{len(paths)} paths of {paths.shape[1]:,} of {recipe.horizon:,} steps: {path}")
        raise KeyboardInterrupt
    return paths.shape[1]
