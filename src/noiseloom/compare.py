"""A grid of options and seeds, each cell a run, and one table of the results with their spread.

Cells that differ in sampling options only share their runs. A run is found again by its name, which
is made of the options that differ from the recipe's defaults, and an evaluation by its setting: so
a comparison that was stopped goes on, and one with a larger grid trains what is new.
"""

import itertools
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

from torch import nn

from noiseloom.commands import load
from noiseloom.fit import Options, absolute, finished, fit, resumed
from noiseloom.jobs import in_jobs
from noiseloom.recipes import Coded, Recipe, TwoStages
from noiseloom.run_folder import (
    evaluation_file,
    read_description,
    recipe_of,
    same_data,
    write_text,
)
from noiseloom.table import METRICS, Cell, chosen, markdown, record, rows, source, text_of
from noiseloom.terminal import answer, say
from noiseloom.training import checkpoint

__all__ = ["METRICS", "combinations", "compare"]

_OWN = {"runs", "logs", "table.json", "table.md", "drift.html"}


def combinations(grid: Sequence[str], cells: Sequence[str] = ()) -> list[dict[str, str]]:
    """Every combination of the values in `grid`, then those of each entry of `cells`.

    Args:
        grid: entries NAME=VALUE,VALUE; commas within brackets belong to a value.
        cells: entries that are grids of their own, their words separated by blanks.

    Raises:
        ValueError: an entry without name, or without value.

    Example:
        >>> combinations(["td=0,1"], ["code=gray head=softmax"])
        [{'td': '0'}, {'td': '1'}, {'code': 'gray', 'head': 'softmax'}]
    """
    found = []
    for words in (list(grid), *(entry.split() for entry in cells)):
        axes = {}
        for word in words:
            name, _, text = word.removeprefix("--").partition("=")
            # No comma before the end of a list, nor before whole lists and the end of theirs.
            values = re.split(r",(?![^\[]*\])(?!(?:\[[^\[\]]*\],?)+\])", text)
            if not name or not all(values):
                raise ValueError(f"expected NAME=VALUE,VALUE in the grid, got {word!r}")
            axes[name.replace("-", "_")] = values
        if axes:
            found += [
                dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())
            ]
    return [cell for i, cell in enumerate(found) if cell not in found[:i]]


def compare(
    kind: type[Recipe],
    cells: Sequence[tuple[dict[str, str], Options]],
    seeds: int,
    out: Path,
    *,
    jobs: int = 1,
    data: str | None,
    metrics: Sequence[str],
    command: str,
    as_json: bool,
) -> None:
    """Train and judge every cell with every seed; `table.json` and `table.md` in `out`.

    Args:
        kind: the recipe's class.
        cells: of each, what was typed, and all options that were given.
        seeds: runs of every cell.
        out: folder, new or of an earlier comparison.
        jobs: runs at a time, each in a process of its own.
        data: where the data lies.
        metrics: which to show; * stands for any letters. Those of `METRICS` that there are, or else
            all, by default.
        command: what was typed.
        as_json: answer a program.

    Raises:
        FileExistsError: `out` holds something else.
        ValueError: no cell can be made.
        OSError: a process was killed.
    """
    if seeds < 1:
        raise ValueError(f"--seeds must be at least 1, got {seeds}")
    if any("seed" in typed for typed, _ in cells):
        raise ValueError("seed is no option of a grid: --seeds N has N of them, from --seed on")
    found = {path.name for path in out.iterdir()} if out.is_dir() else set()
    foreign = sorted(name for name in found - _OWN if not name.startswith("."))
    if foreign or (out.exists() and not out.is_dir()):
        what = f"holds {foreign[0]}, no part of a comparison" if foreign else "is no folder"
        raise FileExistsError(f"{out} {what}: choose another --out")
    good: list[Cell] = []
    skipped: list[dict[str, Any]] = []
    for typed, options in cells:
        try:
            cell = Cell(typed, kind(**options))
            cell.recipe.check()
            good.append(cell)
        except ValueError as error:
            skipped.append({"options": typed, "reason": str(error)})
            say(f"skipped {text_of(typed)}: {error}")
    if good:
        good[0].recipe.load(data)  # what is wrong with the data is wrong with every cell
    errors = _judge_all(good, seeds, jobs, out, data, command, metrics)
    for i, text in errors.items():
        skipped.append({"options": good[i].options, "reason": text})
        say(f"skipped {text_of(good[i].options)}: {text}")
    good = [cell for cell in good if cell.values]
    if not good:
        raise ValueError(f"no cell of the grid can be made: {skipped[0]['reason']}")

    table = {
        "command": command,
        "recipe": kind.name,
        "data": data,
        "seeds": [good[0].recipe.seed + j for j in range(seeds)],
        "steps": sorted({cell.recipe.steps for cell in good}),
        **source(),
        "cells": [record(cell) for cell in good],
        "skipped": skipped,
    }
    write_text(out / "table.json", json.dumps(table, indent=1) + "\n")
    head, lines = rows(good, metrics)
    write_text(out / "table.md", markdown(head, lines, table))
    others = " and table.md"
    if kind.shows == "videos":
        from noiseloom.drifts import write_drifts  # matplotlib takes its time

        kept = {
            text_of(cell.options): [_kept(_seeded(cell.recipe, j), out) for j in range(seeds)]
            for cell in good
        }
        if write_drifts(out / "drift.html", kept):
            others = ", table.md and drift.html"
    answer(as_json, table, ["", f"kept in {out / 'table.json'}{others}"], head, lines)


@dataclass(frozen=True)
class _Task:
    """A run, and every evaluation that is asked of it.

    Attributes:
        recipes: one for each evaluation; they differ in sampling options only.
        folder: of the run.
        data: where the data lies.
        command: what was typed.
    """

    recipes: tuple[Recipe, ...]
    folder: Path
    data: str | None
    command: str


def _judge_all(
    cells: Sequence[Cell],
    seeds: int,
    jobs: int,
    out: Path,
    data: str | None,
    command: str,
    metrics: Sequence[str],
) -> dict[int, str]:
    """Fill in the values of every cell; returns what was wrong with those that cannot be made."""
    found: dict[tuple[int, int], dict[str, float] | str] = {}
    places: dict[str, list[tuple[int, int]]] = {}
    # All cells with the first seed come first: half a comparison is a comparison.
    for j, i in itertools.product(range(seeds), range(len(cells))):
        places.setdefault(_name(_trained(cells[i].recipe, j)), []).append((i, j))
    tasks = [
        _Task(
            tuple(_seeded(cells[i].recipe, j) for i, j in asked), out / "runs" / name, data, command
        )
        for name, asked in places.items()
    ]
    own = [sys.modules[type(cell.recipe).__module__] for cell in cells[:1]]
    files = [module.__file__ for module in own if not module.__name__.startswith("noiseloom.")]
    for done, (k, results) in enumerate(in_jobs(_judge, tasks, jobs, out / "logs", *files), 1):
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


def _judge(task: _Task) -> list[dict[str, float] | str]:
    """Metrics of one run with each of the sampling options, or what is wrong with them.

    What is in the run's folder already is taken from there.
    """
    trained, folder = _trained(task.recipes[0], 0), task.folder
    try:
        begun = (folder / "recipe.yaml").is_file()
        if begun:
            # Not how samples are drawn, which may have another default since.
            names = [f.name for f in fields(trained) if f.name not in trained.changeable()]
            options = {name: getattr(trained, name) for name in names}
            resumed(folder, options, type(trained))
            described = read_description(folder)
            same = described["data"] == absolute(task.data)
            if not (same and same_data(trained.load(task.data), described["facts"])):
                raise FileExistsError(f"{folder} was trained on other data: choose another --out")
        if finished(trained, folder):
            newest = checkpoint.newest(folder / "state")
            assert newest is not None
            checkpoint.publish(newest, folder)  # a kill may have come between the two
        else:
            fit(trained, folder, data=task.data, resume=begun, command=task.command)
    except Exception as error:  # one cell that does not fit in memory is not the end of the others
        return [_reason(error)] * len(task.recipes)
    return [_evaluation(recipe, folder) for recipe in task.recipes]


def _kept(recipe: Recipe, out: Path) -> Path:
    """Where the evaluation of a seeded recipe is kept."""
    return _file(recipe, out / "runs" / _name(_trained(recipe, 0)))


def _file(recipe: Recipe, folder: Path) -> Path:
    changes = {name: getattr(recipe, name) for name in recipe.changeable()}
    # The run's own description has the full paths of its files.
    asked = replace(recipe_of(read_description(folder), type(recipe)), **changes)
    return evaluation_file(folder, asked, recipe.seed)


def _evaluation(recipe: Recipe, folder: Path) -> dict[str, float] | str:
    changes = {name: getattr(recipe, name) for name in recipe.changeable()}
    try:
        path = _file(recipe, folder)
        if path.is_file():
            found: dict[str, float] = json.loads(path.read_text())
        else:  # nor may it be there afterwards, where it cannot be written
            found = load(folder).with_options(**changes).evaluate()
        told = isinstance(recipe, TwoStages) and recipe.coded
        return found | costs(folder) if told or isinstance(recipe, Coded) else found
    except Exception as error:
        return _reason(error)


def costs(folder: Path) -> dict[str, float]:
    """What a run with codes is and took: parameters, and seconds of its stages, as far as known.

    `parameters` are all that were trained, those of an encoder (`encoder_parameters`) among them;
    those of a prior (`prior_parameters`) are not.

    Args:
        folder: of the run.
    """
    parts = load(folder).parts
    modules = {"": parts.denoiser, "encoder_": getattr(parts.denoiser, "encoder", None)}
    modules["prior_"] = parts.prior if isinstance(parts.prior, nn.Module) else None
    found = {
        f"{name}parameters": float(sum(p.numel() for p in module.parameters()))
        for name, module in modules.items()
        if module is not None
    }
    for name, file in (("train", folder), ("prior", folder / "prior")):
        path = file / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.is_file() else []
        if lines:
            found[f"{name}_seconds"] = float(json.loads(lines[-1])["seconds"])
    return found


def _reason(error: Exception) -> str:
    kind = "" if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: "
    return kind + " ".join(str(error).split())


def _seeded(recipe: Recipe, j: int) -> Recipe:
    return replace(recipe, seed=recipe.seed + j)


def _trained(recipe: Recipe, j: int) -> Recipe:
    """The run has the recipe's own sampling options: they are not part of what is trained."""
    drawn = recipe.changeable()
    defaults: dict[str, Any] = {f.name: f.default for f in fields(recipe) if f.name in drawn}
    return replace(_seeded(recipe, j), **defaults)


def _name(recipe: Recipe) -> str:
    """The options that differ from the recipe's defaults, and the seed."""
    changed = [
        f"{f.name}={json.dumps(value, separators=(',', ':'))}".replace('"', "").replace("/", "_")
        for f in fields(recipe)
        if (value := getattr(recipe, f.name)) != f.default and f.name != "seed"
    ]
    text = ",".join([*changed, f"seed={recipe.seed}"])
    if len(text) <= 120:
        return text
    return f"{text[:100]}-{blake2b(text.encode(), digest_size=6).hexdigest()}-seed={recipe.seed}"
