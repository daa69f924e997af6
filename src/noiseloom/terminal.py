"""What people see: notes on standard error, tables on standard output, pictures in files."""

import csv
import io
import json
import math
import re
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor

from noiseloom.glossary import MEANINGS, direction, kind_of
from noiseloom.plan import SamplingPlan
from noiseloom.run_folder import write_bytes

__all__ = [
    "ANCHORS",
    "Pace",
    "answer",
    "bare",
    "counted",
    "metrics_rows",
    "number",
    "print_table",
    "save_paths",
    "save_picture",
    "say",
    "say_plan",
    "shown",
]

ANCHORS = {
    "_held_out": "held-out real",
    "_elsewhere": "of another picture",
    "_noised": "real, noised",
    "_train": "trained on",
    "_walk": "history repeated",
    "_season": "by season",
    "_pace": "a random walk",
    "_still": "standing still",
    "_velocity": "at constant velocity",
    "_random": "random forces",
    "_waypoint": "the controller",
    "_straight": "straight ahead",
    "_chance": "by chance",
}
"""What gives a number its meaning: endings of the names of metrics, and what they were taken of."""


_ROUNDING = 1e-12  # of a value; a float has 53 bits, 1e-16
_DIGITS = 15  # so many it has after the point, of values below 1
_EVERY = 5.0  # seconds between two lines


_ENDINGS = [f"{error}{anchor}" for error in ("_se", "") for anchor in (*ANCHORS, "")][:-1]


def bare(names: Collection[str]) -> list[str]:
    """The metrics themselves: without anchors and standard errors, which are of another name.

    Example:
        >>> bare(["crps", "crps_walk", "crps_se", "crps_se_walk", "random_walk"])
        ['crps', 'random_walk']
    """
    return [name for name in names if _metric_of(name, names) == name]


def shown(names: Collection[str]) -> list[str]:
    """The metrics that there is something of, be it only what stands beside them.

    Example:
        >>> shown(["valid", "unique_held_out", "unique_noised", "random_walk"])
        ['valid', 'unique', 'random_walk']
    """
    return list(dict.fromkeys(_metric_of(name, names) for name in names))


def _metric_of(name: str, names: Collection[str]) -> str:
    """What an anchor or an error is of: a name among these, or a metric without a value here."""
    stems = [name.removesuffix(ending) for ending in _ENDINGS if name.endswith(ending)]
    there = [stem for stem in stems if stem in names]
    known = [stem for stem in stems if name not in MEANINGS and kind_of(stem) in MEANINGS]
    return next(iter(there + known), name)


def say(text: str) -> None:
    """One line on standard error, where it does not disturb what a program reads."""
    print(text, file=sys.stderr, flush=True)


def say_plan(plan: SamplingPlan) -> None:
    """A plan with a time per token, as a picture of letters on standard error."""
    say(f"{plan}; dark is noise, tokens go right, steps down:\n{plan.heatmap()}")


class Pace:
    """Says where something slow is, in a line every five seconds, if there is anything new.

    Args:
        opening: called once, when it has really begun.
    """

    def __init__(self, opening: Callable[[], None] | None = None) -> None:
        self.opening = opening
        self.told = time.monotonic()
        self.said = ""

    def __call__(self, place: Callable[[], str]) -> None:
        """Say it, if it is time."""
        if self.opening is not None:
            self.opening()
            self.opening = None
        if time.monotonic() - self.told >= _EVERY:
            self.told, before, self.said = time.monotonic(), self.said, place()
            if self.said and self.said != before:
                say(self.said)


def answer(
    as_json: bool,
    result: Any,  # noqa: ANN401
    lines: Sequence[str] = (),
    columns: Sequence[str] = (),
    rows: Sequence[Sequence[str]] = (),
) -> None:
    """What a command was asked for, on standard output.

    Args:
        as_json: print `result` as JSON and nothing else.
        result: plain values, for a program.
        lines: for people, below the table.
        columns: headings of the table.
        rows: its cells.
    """
    if as_json:
        print(json.dumps(result))
        return
    if rows:
        print_table(columns, rows)
    for line in lines:
        print(line)


def counted(count: int, things: str) -> str:
    """So many of what is called by a plural in s.

    Example:
        >>> counted(1, "videos"), counted(2, "videos")
        ('1 video', '2 videos')
    """
    return f"{count} {things[:-1] if count == 1 else things}"


def number(value: float | None, spread: float | None = None) -> str:
    """Four digits, whole above 10,000, or as many as the spread has two of; a dash for nothing.

    A spread that is rounding's, as of sums in another order, is 0.
    """
    spread = 0.0 if value and spread and spread < _ROUNDING * abs(value) else spread
    if value is None or not spread:
        form = ",.0f" if abs(value or 0) >= 9999.5 else ".4g"
        return "-" if value is None else f"{value:{form}}" + (" ± 0" if spread == 0 else "")
    digits = 1 - math.floor(math.log10(spread))
    form = ".2g" if digits > _DIGITS else f".{max(digits, 0)}f"
    return f"{value:{form}} ± {spread:.2g}"


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on standard output, never cut where it is no terminal.

    Args:
        columns: their headings, perhaps more than needed; numbers are aligned to the right.
        rows: cells.
    """
    console = Console()
    widest = [
        max(map(len, (*column.split("_"), *cells)))
        for column, cells in zip(columns, zip(*rows, strict=True), strict=False)
    ]
    if not console.is_terminal:
        console = Console(width=1000)
    elif sum(widest) + 2 * len(widest) > console.width:
        console = Console(width=sum(widest) + 2 * len(widest))  # long lines, but whole cells
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column, width, cells in zip(columns, widest, zip(*rows, strict=True), strict=False):
        numbers = any(re.match(r"\W*\d", cell) for cell in cells)
        # A heading of several words may be folded; a cell may not.
        heading = column.replace("_", " ") if console.is_terminal else column
        table.add_column(heading, justify="right" if numbers else "left", min_width=width)
    for row in rows:
        table.add_row(*(cell.replace("[", r"\[") for cell in row))
    console.print(table, highlight=False)


def metrics_rows(metrics: Mapping[str, float]) -> tuple[list[str], list[list[str]]]:
    """The head of an evaluation's table and its rows: each metric, and its anchors beside it."""
    names = [name for name in shown(metrics) if name != "n"]
    endings = [e for e in ANCHORS if any(name + e in metrics for name in names)]
    head = ["metric", "samples", *(ANCHORS[ending] for ending in endings)]
    rows = []
    for name in names:
        error = metrics.get(f"{name}_se")
        beside = [number(metrics.get(name + ending)) for ending in endings]
        told = f"{name} {direction(name)}".strip()
        rows.append([told, number(metrics.get(name), error), *beside])
    return head, rows


def save_paths(
    path: Path,
    first: str,
    columns: Sequence[str],
    paths: Tensor,
    *,
    start: int = 1,
    exact: Tensor | None = None,
) -> None:
    """Write sampled paths as CSV: a row for every path and step, numbered from 0 and from 1.

    Args:
        path: where.
        first: what a path is called.
        columns: names of its D values.
        paths: shape (P, H, D).
        start: number of the first step.
        exact: steps that are written to the last digit, others to eight; bool, shape (H,).
    """
    file, whole = io.StringIO(), [False] * paths.shape[1] if exact is None else exact.tolist()
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow([first, "step", *columns])
    for i, steps in enumerate(paths.tolist()):
        rows.writerows(
            [i, h, *(repr(value) if all_ else f"{value:.8g}" for value in row)]
            for h, (row, all_) in enumerate(zip(steps, whole, strict=True), start)
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, file.getvalue().encode())


def save_picture(path: str | Path, pixels: Tensor, levels: int, columns: int | None = None) -> None:
    """Lay pictures out in rows and write them as one PNG; small ones are magnified.

    Args:
        path: where; into a file that ends in .npy they go as they are, uint8 or int64.
        pixels: integers, shape (N, C, H, W), C 1 or 3, values 0 .. levels - 1.
        levels: number of values a pixel can take.
        columns: pictures in a row; by default as many as make a square.
    """
    path, file = Path(path), io.BytesIO()
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() == ".npy":
        np.save(file, pixels.to(torch.uint8 if levels <= 256 else torch.int64).cpu().numpy())
        write_bytes(path, file.getvalue())
        return
    count, _, height, width = pixels.shape
    columns = columns or math.ceil(math.sqrt(count))
    scale = max(1, 48 // max(height, width))
    gap = 2
    high, wide = height * scale + gap, width * scale + gap
    page = torch.full((3, high * -(-count // columns) + gap, wide * columns + gap), 255)
    tiles = pixels.long() * 255 // (levels - 1)
    for i, tile in enumerate(tiles.repeat_interleave(scale, -1).repeat_interleave(scale, -2)):
        top, left = gap + i // columns * high, gap + i % columns * wide
        page[:, top : top + height * scale, left : left + width * scale] = tile
    Image.fromarray(page.to(torch.uint8).permute(1, 2, 0).contiguous().numpy()).save(file, "PNG")
    write_bytes(path, file.getvalue())
