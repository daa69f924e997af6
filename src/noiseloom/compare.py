"""A grid of options and seeds, each cell a run, and one table of the results with their spread.

Cells that differ in sampling options only share their runs. A run is found again by its name, which
is made of the options that differ from the recipe's defaults, and an evaluation by its setting: so
a comparison that was stopped goes on, and one with a larger grid trains what is new. A table that
has cells or seeds which the next one in its folder lacks is kept beside it, as table-1.json.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from noiseloom.budget import check_budget, updates_within
from noiseloom.compare_notes import (
    few_updates,
    of_costs,
    of_metrics,
    unequal_before,
    where_samples_lie,
)
from noiseloom.fit import Options, say_data
from noiseloom.grid import changes, combinations, made, passed_over, run_name, seeded, trained
from noiseloom.jobs import check_jobs
from noiseloom.judged_cells import check_data, judge_all, kept, own_file, reason
from noiseloom.recipes import Recipe
from noiseloom.run_folder import write_text
from noiseloom.sizes import equal_states
from noiseloom.table import (
    ASIDE,
    Cell,
    arrowed,
    default_metrics,
    markdown,
    record,
    rows,
    set_aside,
    source,
    text_of,
)
from noiseloom.terminal import answer, say

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
    beforehand, early, warned = dict[str, str](), list[str](), list[str]()
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
    # Runs of an earlier version are called by options that change nothing, too.
    begun = any((out / "runs" / run_name(trained(cell.recipe, 0))).exists() for cell in good)
    recipes, named_each = [c.recipe for c in good], [c.options for c in good]
    over = passed_over(recipes, named_each, given, () if begun else typed)
    if over:
        say(over)
    if good:
        split = good[0].recipe.load(data)  # what is wrong with the data is wrong with every cell
        check_data(kind, out, data)
        say_data(good[0].recipe, split, said)
    if good and budget is not None:
        split_facts = good[0].recipe.facts(split)
        asked, beforehand = equal_states(good, split_facts)
        warned = unequal_before([c for c in asked if "state" in c.options], split_facts)
        for note in (*beforehand.values(), *warned):
            say(note)
        good = []
        for cell, paid in zip(asked, _afforded(asked, budget, out, data, jobs), strict=True):
            if isinstance(paid, Exception):
                skip(cell.options, reason(paid))
            else:
                good.append(Cell(cell.options, replace(cell.recipe, **paid)))
        early = few_updates(good)
        for note in early:
            say(note)
        if good:
            say(_in_all(good, seeds, budget, jobs))
    errors = judge_all(good, seeds, jobs, out, data, command, metrics, said)
    for i, text in errors.items():
        skip(good[i].options, text)
    good = [cell for cell in good if cell.values]
    if not good:
        raise ValueError(f"no cell of the grid can be made: {skipped[0]['reason']}")
    for cell in good if budget is not None else ():
        for values in cell.values:
            values["steps"] = float(cell.recipe.steps)
    told = of_costs(good)
    for note in told:
        if note not in warned:
            say(note)
    few = of_metrics(good, metrics)

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
            *early,
            *told,
            *few,
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
    others = " and table.md, which says what columns are"
    if kind.shows == "videos":
        from noiseloom.drifts import write_drifts  # matplotlib takes its time

        judged = {
            text_of(cell.options): [kept(seeded(cell.recipe, j), out) for j in range(seeds)]
            for cell in good
        }
        if write_drifts(out / "drift.html", judged):
            others = ", drift.html and table.md, which says what columns are"
    answer(
        as_json,
        table,
        ["", *few, f"kept in {out / 'table.json'}{others}", *where_samples_lie(out)],
        head,
        lines,
    )


def _in_all(cells: Sequence[Cell], seeds: int, budget: float, jobs: int) -> str:
    """How long all of it takes, as far as that is known before."""
    minutes = len({run_name(trained(cell.recipe, 0)) for cell in cells}) * seeds * budget / 60
    beside = f", {jobs} runs at a time" if jobs > 1 else ""
    return f"{minutes:.3g} minutes of training in all{beside}, and what judging its runs takes"


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
        recipe_file=own_file(cells),
    )
    return [found[name] for name, _ in named]
