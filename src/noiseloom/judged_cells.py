"""The runs of a comparison, each trained and judged with every setting that is asked of it."""

import itertools
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from noiseloom.commands import load
from noiseloom.costs import costs
from noiseloom.evaluations import evaluation_file
from noiseloom.fit import absolute, finished, fit, resumed
from noiseloom.grid import run_name, seeded, trained
from noiseloom.jobs import in_jobs
from noiseloom.recipes import Recipe
from noiseloom.run_folder import read_description, recipe_of, same_data
from noiseloom.table import Cell, chosen
from noiseloom.terminal import say
from noiseloom.training import checkpoint

__all__ = ["check_data", "judge_all", "kept", "own_file", "reason"]


def own_file(cells: Sequence[Cell]) -> str | None:
    """The file that defines the recipe, if it is not this package's."""
    own = [sys.modules[type(cell.recipe).__module__] for cell in cells[:1]]
    files = [module.__file__ for module in own if not module.__name__.startswith("noiseloom.")]
    return files[0] if files else None


@dataclass(frozen=True)
class _Task:
    """A run, and every evaluation that is asked of it.

    Attributes:
        recipes: one for each evaluation; they differ in sampling options only.
        folder: of the run.
        data: where the data lies.
        command: what was typed.
        said: what has been said of the data.
    """

    recipes: tuple[Recipe, ...]
    folder: Path
    data: str | None
    command: str
    said: set[str] = field(default_factory=set)


def judge_all(
    cells: Sequence[Cell],
    seeds: int,
    jobs: int,
    out: Path,
    data: str | None,
    command: str,
    metrics: Sequence[str],
    said: set[str],
) -> dict[int, str]:
    """Fill in the values of every cell; returns what was wrong with those that cannot be made."""
    found: dict[tuple[int, int], dict[str, float] | str] = {}
    places: dict[str, list[tuple[int, int]]] = {}
    # All cells with the first seed come first: half a comparison is a comparison.
    for j, i in itertools.product(range(seeds), range(len(cells))):
        places.setdefault(run_name(trained(cells[i].recipe, j)), []).append((i, j))
    tasks = [
        _Task(
            tuple(seeded(cells[i].recipe, j) for i, j in asked),
            out / "runs" / name,
            data,
            command,
            said,
        )
        for name, asked in places.items()
    ]
    file = own_file(cells)
    for done, (k, results) in enumerate(in_jobs(_judge, tasks, jobs, out / "logs", file), 1):
        name, asked = list(places.items())[k]
        found |= dict(zip(asked, results, strict=True))
        say(f"run {done} of {len(tasks)} is done: {name}")
        if done == 1:
            _hear_of_missing(metrics, results)
    errors: dict[int, str] = {}
    for (i, _), result in sorted(found.items()):
        if isinstance(result, str):
            errors[i] = result
            cells[i].values.clear()
        elif i not in errors:
            cells[i].values.append(result)
    return errors


def _hear_of_missing(metrics: Sequence[str], results: Sequence[dict[str, float] | str]) -> None:
    """Say early what is perhaps misspelt; no error, since other cells may have such a metric."""
    values = {k: v for result in results if isinstance(result, dict) for k, v in result.items()}
    try:
        if values:
            chosen(values, metrics)
    except ValueError as error:
        say(f"so far {error}")


def check_data(kind: type[Recipe], out: Path, data: str | None) -> None:
    """Raise FileExistsError where the runs of a comparison, of which one tells, had other data."""
    for path in sorted((out / "runs").glob("*/recipe.yaml")):
        try:
            recipe = recipe_of(read_description(path.parent), kind)
        except (ValueError, OSError):  # which is told with its cell
            continue
        _check_trained_on(recipe, path.parent, data)
        return


def _check_trained_on(recipe: Recipe, folder: Path, data: str | None) -> None:
    described = read_description(folder)
    same = described["data"] == absolute(data)
    if not (same and same_data(recipe.load(data), described["facts"])):
        raise FileExistsError(f"{folder} was trained on other data: choose another --out")


def _judge(task: _Task) -> list[dict[str, float] | str]:
    """Metrics of one run with each of the sampling options, or what is wrong with them.

    What is in the run's folder already is taken from there.
    """
    recipe, folder = trained(task.recipes[0], 0), task.folder
    try:
        begun = (folder / "recipe.yaml").is_file()
        if begun:
            # Not how samples are drawn, which may have another default since.
            names = [f.name for f in fields(recipe) if f.name not in recipe.changeable()]
            options = {name: getattr(recipe, name) for name in names}
            resumed(folder, options, type(recipe))
            _check_trained_on(recipe, folder, task.data)
        if finished(recipe, folder):
            newest = checkpoint.newest(folder / "state")
            assert newest is not None
            checkpoint.publish(newest, folder)  # a kill may have come between the two
        else:
            fit(recipe, folder, data=task.data, resume=begun, command=task.command, said=task.said)
    except Exception as error:  # one cell that does not fit in memory is not the end of the others
        return [reason(error)] * len(task.recipes)
    return [_evaluation(asked, folder) for asked in task.recipes]


def kept(recipe: Recipe, out: Path) -> Path:
    """Where the evaluation of a seeded recipe is kept."""
    return _file(recipe, out / "runs" / run_name(trained(recipe, 0)))


def _drawn(recipe: Recipe) -> dict[str, Any]:
    """The options of drawing that say something, as a grid gives some to all its cells."""
    names = [name for name in recipe.changeable() if name not in recipe.idle]
    return {name: getattr(recipe, name) for name in names}


def _file(recipe: Recipe, folder: Path) -> Path:
    drawn = _drawn(recipe)
    # The run's own description has the full paths of its files.
    asked = replace(recipe_of(read_description(folder), type(recipe)), **drawn)
    return evaluation_file(folder, asked, recipe.seed)


def _evaluation(recipe: Recipe, folder: Path) -> dict[str, float] | str:
    drawn = _drawn(recipe)
    try:
        path = _file(recipe, folder)
        if path.is_file():
            found: dict[str, float] = json.loads(path.read_text())
        else:  # nor may it be there afterwards, where it cannot be written
            say(f"judging {recipe.samples:,} samples of {folder.name}")
            found = load(folder).with_options(**drawn).evaluate()
        return found | costs(folder)
    except Exception as error:
        return reason(error)


def reason(error: Exception) -> str:
    """An error in one line."""
    kind = "" if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: "
    return kind + " ".join(str(error).split())
