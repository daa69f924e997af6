"""A grid of options and seeds, each cell a run, and one table of the results with their spread.

Cells that differ in sampling options only share their runs. A run is found again by its name, which
is made of the options that differ from the recipe's defaults, and an evaluation by its setting: so
a comparison that was stopped goes on, and one with a larger grid trains what is new. A table that
has cells or seeds which the next one in its folder lacks is kept beside it, as table-1.json.
"""

import itertools
import json
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from noiseloom.budget import check_budget, updates_within
from noiseloom.commands import load
from noiseloom.costs import costs, short_note, unequal_note
from noiseloom.evaluations import evaluation_file
from noiseloom.fit import Options, absolute, finished, fit, resumed, say_data
from noiseloom.grid import (
    changes,
    combinations,
    made,
    passed_over,
    run_name,
    seeded,
    trained,
)
from noiseloom.jobs import check_jobs, in_jobs
from noiseloom.recipes import Recipe
from noiseloom.remarks import by_heart, too_few, unsure
from noiseloom.run_folder import (
    read_description,
    recipe_of,
    same_data,
    write_text,
)
from noiseloom.sizes import equal_states
from noiseloom.table import (
    ASIDE,
    Cell,
    arrowed,
    chosen,
    default_metrics,
    markdown,
    record,
    rows,
    set_aside,
    source,
    text_of,
)
from noiseloom.terminal import answer, say
from noiseloom.training import checkpoint

__all__ = ["combinations", "compare"]

_OWN = {"budget.json", "runs", "logs", "table.json", "table.md", "drift.html"}


def compare(
    kind: type[Recipe],
    cells: Sequence[tuple[dict[str, str], Options]],
    seeds: int,
    out: Path,
    *,
    jobs: int = 1,
    data: str | None,
    metrics: Sequence[str] | None,
    command: str,
    as_json: bool,
    budget: float | None = None,
    typed: Collection[str] = (),
) -> None:
    """Train and judge every cell with every seed; `table.json` and `table.md` in `out`.

    An earlier table there that has what this one lacks is set aside.

    Args:
        kind: the recipe's class.
        cells: of each, what was typed, and all options that were given.
        seeds: runs of every cell.
        out: folder, new or of an earlier comparison.
        jobs: runs at a time, each in a process of its own.
        data: where the data lies.
        metrics: which to show; * stands for any letters. By default what `default_metrics` names.
        command: what was typed.
        as_json: answer a program.
        budget: seconds of training of every run, which say its number of steps (`budget.json`).
        typed: names of the options of all cells that are in no file.

    Raises:
        FileExistsError: `out` holds something else, or runs that were trained on other data.
        ValueError: no cell can be made, or a budget that is none, or not that of `out`; an option
            that was typed for all cells and changes nothing of any.
        OSError: a process was killed.
    """
    metrics = default_metrics(kind) if metrics is None else metrics
    if seeds < 1:
        raise ValueError(f"--seeds must be at least 1, got {seeds}")
    if any("seed" in named for named, _ in cells):
        raise ValueError("seed is no option of a grid: --seeds N has N of them, from --seed on")
    if budget is not None:
        check_budget(budget)
        check_jobs(jobs)  # before anything is timed
        if any("steps" in named for named, _ in cells):
            raise ValueError("--budget says the steps of every run: leave them out of the grid")
    found = {path.name for path in out.iterdir()} if out.is_dir() else set()
    foreign = sorted(
        name for name in found - _OWN if not (name.startswith(".") or ASIDE.fullmatch(name))
    )
    if foreign or (out.exists() and not out.is_dir()):
        what = f"holds {foreign[0]}, no part of a comparison" if foreign else "is no folder"
        raise FileExistsError(f"{out} {what}: choose another --out")
    if budget is None and "budget.json" in found:
        raise ValueError(f"{out} was begun with --budget: give it again, or choose another --out")
    began = source()["git"]  # hours may pass, and the checkout may be another one at the end
    good: list[Cell] = []
    skipped: list[dict[str, Any]] = []
    beforehand: dict[str, str] = {}
    said = set[str]()

    def skip(cell: Mapping[str, str], reason: str) -> None:
        skipped.append({"options": cell, "reason": reason})
        say(f"skipped {text_of(cell)}: {reason}")

    given = list[Options]()
    for named, options in cells:
        try:
            cell = Cell(named, made(kind, named, options))
            cell.recipe.check()
            good.append(cell)
            given.append(options)
        except ValueError as error:
            skip(named, str(error))
    over = passed_over([c.recipe for c in good], [c.options for c in good], given, typed)
    if over:
        say(over)
    if good:
        split = good[0].recipe.load(data)  # what is wrong with the data is wrong with every cell
        _check_data(kind, out, data)
        say_data(good[0].recipe, split, said)
    if good and budget is not None:
        asked, beforehand = equal_states(good, good[0].recipe.facts(split))
        for note in beforehand.values():
            say(note)
        good = []
        for cell, paid in zip(asked, _afforded(asked, budget, out, data, jobs), strict=True):
            if isinstance(paid, Exception):
                skip(cell.options, _reason(paid))
            else:
                good.append(Cell(cell.options, replace(cell.recipe, **paid)))
        for name, recipe in ((text_of(cell.options), cell.recipe) for cell in good):
            if recipe.steps < 3 * recipe.warmup:
                beforehand[f"{name}, updates"] = note = (
                    f"{name}: {recipe.steps:,} updates, {recipe.warmup:,} of them to warm up, are "
                    "a beginning: a larger --budget says more"
                )
                say(note)
    errors = _judge_all(good, seeds, jobs, out, data, command, metrics, said)
    for i, text in errors.items():
        skip(good[i].options, text)
    good = [cell for cell in good if cell.values]
    if not good:
        raise ValueError(f"no cell of the grid can be made: {skipped[0]['reason']}")
    for cell in good if budget is not None else ():
        for values in cell.values:
            values["steps"] = float(cell.recipe.steps)
    rates = [cell.values[0].get("updates_per_second") for cell in good]
    told = [note for note in (_unequal(good), short_note(rates)) if note]
    for note in told:
        say(note)
    few = _few(good, metrics)

    table = {
        "command": command,
        "recipe": kind.name,
        "data": data,
        "seeds": [good[0].recipe.seed + j for j in range(seeds)],
        "budget": budget,
        "steps": sorted({cell.recipe.steps for cell in good}),
        "notes": [
            *([over] if over else []),
            *beforehand.values(),
            *dict.fromkeys(n for n in (*told, *(c.recipe.caveat for c in good), *few) if n),
        ],
        **source(),
        "git": began,
        "cells": [record(cell) for cell in good],
        "skipped": skipped,
    }
    set_aside(out, table)
    write_text(out / "table.json", json.dumps(table, indent=1) + "\n")
    head, lines = rows(good, metrics)
    head = arrowed(head, good)
    write_text(out / "table.md", markdown(head, lines, table))
    others = " and table.md"
    if kind.shows == "videos":
        from noiseloom.drifts import write_drifts  # matplotlib takes its time

        kept = {
            text_of(cell.options): [_kept(seeded(cell.recipe, j), out) for j in range(seeds)]
            for cell in good
        }
        if write_drifts(out / "drift.html", kept):
            others = ", table.md and drift.html"
    answer(
        as_json,
        table,
        ["", *few, f"kept in {out / 'table.json'}{others}", *_samples(out)],
        head,
        lines,
    )


def _unequal(cells: Sequence[Cell]) -> str | None:
    """A warning of parameters that differ, those of priors among them."""
    named = {text_of(cell.options): cell.values[0] for cell in cells}
    priors = {name: values.get("prior_parameters", 0.0) for name, values in named.items()}
    whole = {name: named[name]["parameters"] + priors[name] for name in named}
    return unequal_note(whole, " with those of priors" if any(priors.values()) else "")


def _samples(out: Path) -> list[str]:
    """Where samples lie that can be read, if there are any."""
    found = next(out.glob("runs/**/*.samples.*"), None)
    return [f"samples of each run: {out / 'runs'}/**/*.samples{found.suffix}"] if found else []


def _few(cells: Sequence[Cell], patterns: Sequence[str]) -> list[str]:
    """What is to be known of the metrics that are shown, a sentence for each that differs.

    Which have too few rows, whose rows were learnt by heart, and what one run does not know well.
    """
    names = chosen({k: v for cell in cells for k, v in cell.values[0].items()}, patterns)
    found = [(text_of(c.options), record(c)) for c in cells if c.recipe.shows == "rows"]
    told = [too_few(seen["mean"], names) for _, seen in found]
    told += [f"{title}: {text}" for title, seen in found if (text := by_heart(seen["mean"]))]
    told += unsure([r["mean"] for _, r in found], [r["deviation"] for _, r in found], names)
    return [text for text in dict.fromkeys(told) if text]


def _afforded(
    cells: Sequence[Cell], budget: float, out: Path, data: str | None, jobs: int
) -> list[dict[str, Any] | Exception]:
    """The updates that a budget pays for of each cell; those of one run have one number."""
    named, titles = [], dict[str, str]()
    for cell in cells:
        run = trained(cell.recipe, 0)
        paid = ("steps=", "prior_steps=", "prior_samples=")
        differs = [text for text in changes(run) if not text.startswith(paid)]
        named.append((",".join(differs) or run.name, run))
        titles.setdefault(named[-1][0], text_of(cell.options))
    found = updates_within(
        budget,
        dict(named),
        out / "budget.json",
        titles=titles,
        data=data,
        jobs=jobs,
        recipe_file=_own_file(cells),
    )
    return [found[name] for name, _ in named]


def _own_file(cells: Sequence[Cell]) -> str | None:
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


def _judge_all(
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
    file = _own_file(cells)
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


def _check_data(kind: type[Recipe], out: Path, data: str | None) -> None:
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
        return [_reason(error)] * len(task.recipes)
    return [_evaluation(asked, folder) for asked in task.recipes]


def _kept(recipe: Recipe, out: Path) -> Path:
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
        return _reason(error)


def _reason(error: Exception) -> str:
    kind = "" if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: "
    return kind + " ".join(str(error).split())
