"""Plans in files: JSON with the times t and s, to the last bit, or a table of levels in CSV.

Of a state of several parts, the JSON has them by name, under "parts".

A table is what a person draws, in a spreadsheet or an editor: one line per row, one column per
token, numbers from noise (the largest) down to clean (0). Line i to line i + 1 is a move.
"""

import csv
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

__all__ = ["PLAN_FILES", "read_parts", "read_times", "write_parts", "write_times"]

P = TypeVar("P")

PLAN_FILES = (".json", ".csv")
"""Endings of files that `read_times` reads."""


def write_times(path: Path, t: Tensor, s: Tensor) -> None:
    """Write times as JSON."""
    _write(path, _as_lists(t, s))


def write_parts(path: Path, parts: Mapping[str, tuple[Tensor, Tensor]]) -> None:
    """Write the times of parts as JSON."""
    _write(path, {"parts": {name: _as_lists(*times) for name, times in parts.items()}})


def read_parts(path: Path, make: Callable[[Tensor, Tensor], P]) -> dict[str, P]:
    """What is made of times t and s, by name, from a JSON file; a wrong part is named."""
    if path.suffix.lower() != ".json":
        raise ValueError("a plan of parts is read from a .json file")
    found = _parsed(_text(path))
    parts = found.get("parts") if isinstance(found, dict) else None
    if not (isinstance(parts, dict) and parts):
        raise ValueError("a plan of parts needs them by name, under 'parts'")
    read = {}
    for name, part in parts.items():
        try:
            read[name] = make(*_from_json(part))
        except ValueError as error:
            raise ValueError(f"part {name!r}: {error}") from error
    return read


def read_times(path: Path) -> tuple[Tensor, Tensor]:
    """Times t and s, of which only the form has been checked, from a JSON or CSV file."""
    kind = path.suffix.lower()
    if kind not in PLAN_FILES:
        raise ValueError("a plan is read from a .json or .csv file")
    text = _text(path)
    if kind == ".json":
        return _from_json(_parsed(text))
    times = _from_table(text)[:, None]
    return times[:-1], times[1:]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")  # spreadsheets begin theirs with an order mark
    except UnicodeDecodeError:
        raise ValueError("it is no plan: a plan is text, and this is not") from None


def _write(path: Path, content: object) -> None:
    if path.suffix.lower() != ".json":
        raise ValueError(f"{path}: a plan is saved as .json")
    path.write_text(json.dumps(content) + "\n", encoding="utf-8")


def _as_lists(t: Tensor, s: Tensor) -> dict[str, Any]:
    return {"t": t.tolist(), "s": s.tolist()}


def _parsed(text: str) -> object:
    try:
        found: object = json.loads(text)
        return found
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from error


def _from_json(found: object) -> tuple[Tensor, Tensor]:
    names = ("t", "s")
    if not (isinstance(found, dict) and all(isinstance(found.get(n), list) for n in names)):
        raise ValueError("a plan needs rows 't' and 's'")
    t, s = (_stacked(found[name], name) for name in names)
    return t, s


def _stacked(rows: list[Any], name: str) -> Tensor:
    times: list[Tensor] = []
    for index, row in enumerate(rows):
        try:
            times.append(torch.tensor(row, dtype=torch.float64))
        except (TypeError, ValueError, RuntimeError, OverflowError) as error:
            raise ValueError(f"row {index} of {name!r} is no array of numbers") from error
        if times[index].shape != times[0].shape:
            raise ValueError(
                f"row {index} of {name!r} has shape {tuple(times[index].shape)}, row 0 "
                f"{tuple(times[0].shape)}"
            )
    return torch.stack(times) if times else torch.empty(0)


def _from_table(text: str) -> Tensor:
    rows: list[list[float]] = []
    for cells in csv.reader(text.splitlines(), skipinitialspace=True):
        if not cells:
            continue
        here = f"row {len(rows) + 1}"
        row = [_number(cell, here) for cell in cells]
        above = rows[-1] if rows else [math.inf] * len(row)
        if len(row) != len(above):
            raise ValueError(f"{here}: {len(row)} tokens, but row 1 has {len(above)}")
        for token, (value, before) in enumerate(zip(row, above, strict=True)):
            if not 0 <= value < math.inf:
                raise ValueError(f"{here}: token {token} is at {value:g}, not a level >= 0")
            if value > before:
                raise ValueError(f"{here}: token {token} rises from {before:g} to {value:g}")
        rows.append(row)
    if len(rows) < 2:
        raise ValueError(f"a table of levels needs two or more rows, got {len(rows)}")
    if not any(rows[0]):
        raise ValueError("row 1: all tokens are at 0, so nothing can move")
    return torch.tensor(rows, dtype=torch.float64) / max(rows[0])


def _number(cell: str, here: str) -> float:
    try:
        return float(cell)
    except ValueError:
        raise ValueError(f"{here}: {cell!r} is not a number") from None
