"""A grid of options and seeds, each cell a run, and one table of the results with their spread.

Cells that differ in sampling options only share their runs. A run is found again by its name, which
is made of the options that differ from the recipe's defaults, and an evaluation by its setting: so
a comparison that was stopped goes on, and one with a larger grid trains what is new.
"""

import itertools
import json
import platform
import re
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatch
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch

from noiseloom import __version__
from noiseloom.commands import load
from noiseloom.fit import Options, absolute, fit, resumed
from noiseloom.recipes import Recipe, Sampling
from noiseloom.run_folder import evaluation_file, read_description, write_text
from noiseloom.terminal import answer, number, say

__all__ = ["METRICS", "Cell", "combinations", "compare"]

METRICS = (
    "class_agreement",
    "kid_*",
    "fd_*",
    "coverage",
    "memorised",
    "discreteness",
    "invalid_codes",
)
_SAMPLING = {f.name for f in fields(Sampling)} | {"samples"}


@dataclass(frozen=True)
class Cell:
    """A combination of options.

    Attributes:
        options: as they were typed.
        recipe: made of them, for the first seed.
        values: metrics, one mapping for each seed.
    """

    options: dict[str, str]
    recipe: Recipe
    values: list[dict[str, float]] = field(default_factory=list)


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
            values = re.split(r",(?![^\[]*\])", text)
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
        data: where the data lies.
        metrics: which to show; * stands for any letters.
        command: what was typed.
        as_json: answer a program.

    Raises:
        ValueError: no cell can be made.
    """
    if seeds < 1:
        raise ValueError(f"--seeds must be at least 1, got {seeds}")
    good: list[Cell] = []
    skipped: list[dict[str, Any]] = []
    for typed, options in cells:
        try:
            good.append(Cell(typed, kind(**options)))
        except ValueError as error:
            skipped.append({"options": typed, "reason": str(error)})
    if good:
        good[0].recipe.check()
        good[0].recipe.load(data)  # what is wrong with the data is wrong with every cell
    for i, cell in enumerate(good, 1):
        try:
            for j in range(seeds):
                say(f"cell {i} of {len(good)}, seed {j + 1} of {seeds}: {_text(cell.options)}")
                cell.values.append(_judged(cell.recipe, j, out, data, command))
        except ValueError as error:
            skipped.append({"options": cell.options, "reason": " ".join(str(error).split())})
            cell.values.clear()
    good = [cell for cell in good if cell.values]
    for entry in skipped:
        say(f"skipped {_text(entry['options'])}: {entry['reason']}")
    if not good:
        raise ValueError(f"no cell of the grid can be made: {skipped[0]['reason']}")

    shown = _chosen({k: v for cell in good for k, v in cell.values[0].items()}, metrics)
    head, rows = _rows(good, shown)
    table = {
        "command": command,
        "recipe": kind.name,
        "data": data,
        "seeds": [good[0].recipe.seed + j for j in range(seeds)],
        "steps": sorted({cell.recipe.steps for cell in good}),
        "noiseloom": __version__,
        "git": _commit(),
        "torch": torch.__version__,
        "device": _device(),
        "cells": [_record(cell) for cell in good],
        "skipped": skipped,
    }
    write_text(out / "table.json", json.dumps(table, indent=1) + "\n")
    write_text(out / "table.md", _markdown(head, rows, table))
    answer(as_json, table, ["", f"kept in {out / 'table.json'} and table.md"], head, rows)


def _judged(recipe: Recipe, j: int, out: Path, data: str | None, command: str) -> dict[str, float]:
    """Metrics of one cell and seed, from the run's folder if they are there."""
    recipe = replace(recipe, seed=recipe.seed + j)
    # The run itself has the recipe's own sampling options: they are not part of what is trained.
    defaults: dict[str, Any] = {f.name: f.default for f in fields(recipe) if f.name in _SAMPLING}
    trained = replace(recipe, **defaults)
    folder = out / "runs" / _name(trained)
    begun = (folder / "recipe.yaml").is_file()
    if begun:
        resumed(folder, {f.name: getattr(trained, f.name) for f in fields(trained)}, type(trained))
        if read_description(folder)["data"] != absolute(data):
            raise FileExistsError(f"{folder} was trained on other data: choose another --out")
    if not (begun and (folder / f"state/step-{trained.steps:08d}").is_dir()):
        fit(trained, folder, data=data, resume=begun, command=command)
    path = evaluation_file(folder, recipe, recipe.seed)
    if not path.is_file():
        changes = {name: getattr(recipe, name) for name in defaults}
        load(folder).with_options(**changes).evaluate(data)
    found: dict[str, float] = json.loads(path.read_text())
    return found


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


def _chosen(values: Mapping[str, float], patterns: Sequence[str]) -> list[str]:
    anchors = ("_se", "_held_out", "_noised")
    found = [
        name
        for pattern in patterns
        for name in values
        if name == pattern or (fnmatch(name, pattern) and not name.endswith(anchors))
    ]
    if not found:
        names = ", ".join(name for name in values if not name.endswith(anchors))
        raise ValueError(f"no metric is called {', '.join(patterns)}: there are {names}")
    return list(dict.fromkeys(found))


def _record(cell: Cell) -> dict[str, Any]:
    names = list(dict.fromkeys(name for values in cell.values for name in values))
    each = {n: [values[n] for values in cell.values if n in values] for n in names}
    return {
        "options": cell.options,
        "n": len(cell.values),
        "mean": {name: statistics.fmean(values) for name, values in each.items()},
        "deviation": {n: statistics.stdev(v) for n, v in each.items() if len(v) > 1},
        "values": each,
    }


def _rows(cells: Sequence[Cell], metrics: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """The table: cells, then the two anchors that give the numbers a meaning."""
    names = list(dict.fromkeys(name for cell in cells for name in cell.options))
    rows = []
    for cell in cells:
        record = _record(cell)
        row = [cell.options.get(name) or str(getattr(cell.recipe, name)) for name in names]
        for metric in metrics:
            mean, spread = record["mean"].get(metric), record["deviation"].get(metric)
            row.append(number(mean, spread))
        rows.append([*row, str(record["n"])])
    first = cells[0].values[0]
    for title, suffix in (("held-out real", "_held_out"), ("real, noised", "_noised")):
        anchors = [number(first.get(metric + suffix)) for metric in metrics]
        if set(anchors) != {"-"}:
            rows.append([title, *[""] * (len(names) - 1), *anchors, ""])
    return [*names, *metrics, "seeds"], rows


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]], table: Mapping[str, Any]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    left_out = "".join(
        f"\nLeft out: {_text(e['options'])}: {e['reason']}\n" for e in table["skipped"]
    )
    steps = " or ".join(f"{steps:,}" for steps in table["steps"])
    return (
        f"{text}\n{left_out}\nMean ± standard deviation over seeds, {steps} steps, "
        f"{table['device']}, noiseloom {table['noiseloom']} ({table['git'] or 'no commit'}):\n\n"
        f"    {table['command']}\n"
    )


def _text(options: Mapping[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in options.items())


def _commit() -> str | None:
    """The commit of the checkout this package runs from, if it does."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()


def _device() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    count = torch.get_num_threads()
    return f"{platform.machine()} CPU, {count} thread{'s' * (count > 1)}"
