"""What a run fills in of a file with gaps: pictures row by row, and series step by step."""

from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from noiseloom.data import Series
from noiseloom.data.templates import picture_templates, series_template, which_template
from noiseloom.interrupts import uninterrupted
from noiseloom.recipes import ForcingDigits, ForcingSeries
from noiseloom.recipes.filling import check_differences
from noiseloom.run import Run
from noiseloom.terminal import Pace, save_paths, save_picture, say_plan

__all__ = ["known_pictures", "write_filled", "write_filled_pictures"]


def known_pictures(run: Run, known: str, count: int | None, label: int | None) -> dict[str, Tensor]:
    """What a template knows, for so many samples.

    Args:
        run: of digits row by row.
        known: the file (`picture_templates`).
        count: number of samples; by default as `which_template` says.
        label: class of all; None tells none where the model has learnt to do without.

    Raises:
        ValueError: a template that does not fit, fewer samples than it has pictures, or a class
            that has to be told.
        FileNotFoundError: no such file.
    """
    recipe = run.recipe
    assert isinstance(recipe, ForcingDigits)
    pixels, rows = picture_templates(known, run.facts["shape"], run.facts["levels"])
    if label is None and recipe.conditional and not recipe.label_drop:
        raise ValueError(
            "this model was always told the class (--label-drop 0): say with --label of which "
            "class the pictures are"
        )
    each = which_template(len(pixels), count, known)
    told = {} if label is None else {"label": torch.full((len(each),), label)}
    return {"pixels": pixels[each], "known": rows[each], "picture": each, **told}


def write_filled_pictures(run: Run, path: Path, given: dict[str, Tensor], seed: int) -> None:
    """Draw pictures whose known rows are as they were into one PNG; several templates by line.

    Args:
        run: of digits row by row.
        path: of the file.
        given: as `known_pictures` says.
        seed: of the draws.
    """
    assert isinstance(run.recipe, ForcingDigits)
    found = torch.empty_like(given["pixels"], dtype=torch.int64)
    gaps, which = torch.unique(given["known"], dim=0, return_inverse=True)
    for i, known in enumerate(gaps):  # whose plans differ
        rows = (which == i).nonzero()[:, 0]
        held = known.nonzero()[:, 0].tolist()
        plan = run.recipe.plan_beside(run.diffusion.schedule, held)
        part = {name: values[rows] for name, values in given.items()} | {"index": rows}
        pace = Pace(partial(say_plan, plan))
        found[rows] = run.samples(part, seed=seed, progress=pace)
    counts = given["picture"].bincount()
    columns = int(counts[0]) if len(counts) > 1 and (counts == counts[0]).all() else None
    save_picture(path, found, run.facts["levels"], columns)


def write_filled(
    run: Run, path: Path, known: str, *, count: int, seed: int, data: str | None = None
) -> int:
    """Fill in a series with gaps several times, into a file.

    It has a row for every path and step: their numbers, from 0 and as in the template from 1, and
    columns. What is known is written to the last digit.

    Args:
        run: of a recipe of series.
        path: of the CSV file.
        known: the template (`series_template`).
        count: number of paths.
        seed: of the draws.
        data: must be None: nothing else is followed.

    Returns:
        Steps of a path.

    Raises:
        ValueError: data are named, or a template does not fit.
        FileNotFoundError: no such file.
    """
    if data is not None:
        raise ValueError("what is filled in follows nothing but --known: leave --data out")
    recipe, columns = run.recipe, run.facts["columns"]
    assert isinstance(recipe, ForcingSeries)
    check_differences(recipe.state)
    values, there, first = series_template(
        known, columns, recipe.lead, recipe.horizon, recipe.header
    )
    recipe.fits({"columns": columns, **recipe.origin(values)}, run.facts)
    there = there[first : first + recipe.tokens]
    # Tokens after the last step are drawn, too. No lag reaches a gap: these lie within a horizon.
    ahead = recipe.tokens - len(there)
    steps = Series(values, tuple(columns), len(there), lags=recipe.lags, ahead=ahead)
    window = {**steps[torch.tensor([first])], "known": there[None]}
    given = {name: part.expand(count, *part.shape[1:]) for name, part in window.items()}
    plan = recipe.plan_beside(run.diffusion.schedule, there.nonzero()[:, 0].tolist())
    drawn = run.samples(given, seed=seed, progress=Pace(partial(say_plan, plan)))
    with uninterrupted():
        save_paths(path, "path", columns, drawn, start=first + 1, exact=there)
    return drawn.shape[1]
