"""Forecasts of what comes after the end of a series, into a file."""

from pathlib import Path

import torch

from noiseloom.data import Series, read_series
from noiseloom.recipes import ForcingSeries
from noiseloom.run import Run
from noiseloom.run_folder import read_description
from noiseloom.terminal import save_paths

__all__ = ["write_forecasts"]


def write_forecasts(run: Run, path: Path, *, data: str | None, count: int, seed: int) -> int:
    """Sample what may come after the last row of a series.

    The file has a row for every path and step: their numbers, from 0 and from 1, and the columns.

    Args:
        run: of a recipe of series.
        path: of the CSV file.
        data: where the series lies; by default where training found it.
        count: number of paths.
        seed: of the draws.

    Returns:
        Steps of a path.

    Raises:
        ValueError: other columns than the run's.
    """
    recipe = run.recipe
    assert isinstance(recipe, ForcingSeries)
    path_of_data = data or read_description(run.folder)["data"]
    if path_of_data is None:
        raise ValueError("the run does not say where its data lay: name them with --data")
    table, known = read_series(path_of_data, recipe.header), run.facts["columns"]
    recipe.fits({"columns": list(table.columns), **recipe.origin(table.values)}, run.facts)
    if len(table.values) < recipe.lead:
        raise ValueError(
            f"{path_of_data} has {len(table.values)} rows, and a forecast follows {recipe.lead}"
        )
    end = Series(table.values, table.columns, recipe.lead)
    paths = run.samples(recipe.asked(end, torch.tensor([len(end) - 1]), count), seed=seed)
    save_paths(path, "path", known, paths)
    return paths.shape[1]
