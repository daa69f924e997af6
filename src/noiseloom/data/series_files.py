"""Time series from files: a person's own CSV, or GluonTS's layout."""

import csv
import gzip
import json
import math
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from noiseloom.data.series import Table

__all__ = ["read_series"]

_GAPS = ("", "na", "n/a", "nan", "null", "none", "-", "?")
_HINT = ", or say --gaps missing, where they are in what is trained on"


def read_series(
    path: str | Path,
    header: Literal["auto", "yes", "no"] = "auto",
    *,
    gaps: bool = False,
    like: Sequence[str] | None = None,
) -> Table:
    """Read a table of numbers, a row per step.

    Args:
        path: a `.csv` or `.csv.gz` file, whose first column may hold dates, which are left out; or
            a data set in GluonTS's layout (a folder or tar file with `test/test.json`, a series a
            line, the last and longest of each counting).
        header: whether the first row of a CSV file holds names; auto takes it for names where a
            cell of it is no number.
        gaps: take cells that are empty, NaN or the like for NaN; rows of nothing else at the end
            are no rows. Otherwise they are refused.
        like: names of the columns of a `.csv` template, whose steps are known or are gaps as a
            whole; at its ends, too, these are rows.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not of these formats, no numbers, rows of unequal length, cells that are empty
            or no finite numbers, a column of gaps, names that cannot be told from numbers, other
            separators than commas, dates that run back, several series below each other; of a
            template a step that is known in part, an empty line, or another format.
    """
    path = Path(path).expanduser()
    gaps = gaps or like is not None
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        if path.is_dir() and like is None:
            files = sorted(path.rglob("test/*.json"))
            with _one(files, path).open(encoding="utf-8") as file:
                return _gluonts(file, path, gaps)
        if path.name.endswith((".tar", ".tar.gz", ".tgz")) and like is None:
            with tarfile.open(path) as archive:
                names = [n for n in archive.getnames() if Path(n).match("test/*.json")]
                member = archive.extractfile(str(_one([Path(n) for n in names], path)))
                assert member is not None
                return _gluonts((line.decode("utf-8") for line in member), path, gaps)
        if path.name.endswith((".csv", ".csv.gz")):
            opened = gzip.open if path.suffix == ".gz" else open
            with opened(path, "rt", newline="", encoding="utf-8-sig") as file:
                return _csv(file, path, header, gaps, like)
    except (
        UnicodeDecodeError,
        EOFError,
        OSError,
        tarfile.TarError,
        csv.Error,
        zlib.error,
    ) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if like is not None:
        raise ValueError(f"{path} is no template: give a .csv or .csv.gz file with a row per step")
    raise ValueError(
        f"{path} is no time series: give a .csv or .csv.gz file with a row per step, or a data set "
        "in GluonTS's layout"
    )


def _one(files: Sequence[Path], path: Path) -> Path:
    if len(files) != 1:
        raise ValueError(f"{path} holds {len(files)} files test/*.json, and one is expected")
    return files[0]


def _gluonts(lines: Iterable[str], path: Path, gaps: bool) -> Table:
    """Of a rolling test set, D series after D series, the last D: the longest."""
    found = []
    for number, line in enumerate(lines, 1):
        try:
            target = torch.tensor(json.loads(line)["target"], dtype=torch.float64)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}, line {number}: no series with a target") from error
        if target.ndim != 1:
            raise ValueError(
                f"{path}, line {number}: a target is one list of numbers, a series a line"
            )
        found.append(target)
    longest = max(map(len, found), default=0)
    last = [series for series in found if len(series) == longest]
    if not longest:
        raise ValueError(f"{path} holds no numbers")
    values = torch.stack(last, 1)
    if not (values.isfinite() | (values.isnan() & gaps)).all():
        hint = "" if values.isinf().any() else _HINT
        raise ValueError(f"{path} has values that are not finite: fill or remove them{hint}")
    return _told(Table(values, tuple(str(i) for i in range(len(last)))), path)


def _csv(
    file: Iterator[str], path: Path, header: str, gaps: bool, like: Sequence[str] | None
) -> Table:
    rows = list(enumerate(csv.reader(file), 1))
    rows = _filled(rows) if like is None else _whole(rows, path)
    if not rows:
        raise ValueError(f"{path} is empty")
    for mark, called in ((";", "semicolons"), ("\t", "tabs")):
        if all(mark in row[0] for _, row in rows):
            raise ValueError(
                f"{path} has {called} between its cells: write it with commas, and points in "
                "numbers"
            )
    first = rows[0][1]
    # A column of dates is a number in no row, and empty in none: a gap among numbers is a gap.
    cells = [row[0] for _, row in rows[1:] if _says(row)]
    dates = bool(cells) and all(map(_is_text, cells))
    named = header == "yes" or (
        header == "auto" and any(_number(cell) is None for cell in first[dates:])
    )
    if like is not None and header == "auto":  # whose names may be numbers, and first step a gap
        own = [cell.strip() for cell in first[dates:]]
        named = own == [*like] or (named and not all(map(_is_gap, own)))
    body = rows[named:]
    if dates and body:
        _check_dates([row[0] for _, row in body if _says(row)], path)
    values = []
    for number, row in body:
        if len(row) != len(first):
            raise ValueError(f"{path}, line {number}: {len(row)} cells, and {len(first)} before")
        values.append([math.nan if _is_gap(cell) else _number(cell) for cell in row[dates:]])
        for place, cell in enumerate(values[-1], dates):
            gap = _is_gap(row[place])
            if cell is None or (not math.isfinite(cell) and not (gap and gaps)):
                what = repr(row[place]) if row[place].strip() else "an empty cell"
                raise ValueError(
                    f"{path}, line {number}, column {place + 1}: {what} is no finite number; fill "
                    f"or remove such rows or columns{_HINT * gap}"
                )
    if not values or not values[0]:
        raise ValueError(f"{path} holds no rows of numbers")
    table = torch.tensor(values, dtype=torch.float64)
    if like is not None:
        _check_steps(table, [number for number, _ in body], path)
    elif header == "auto" and not named and len(table) > 2 and _unlike(table):
        raise ValueError(
            f"the first row of {path} ({', '.join(first[:3])}, ...) looks like names that are "
            "numbers: say --header yes if it is, or --header no"
        )
    names = first[dates:] if named else [str(i) for i in range(table.shape[1])]
    steps = table[:, 0].diff()
    if (
        not dates
        and table.shape[1] > 1
        and len(steps) > 8
        and steps[0]
        and (steps == steps[0]).all()
    ):
        raise ValueError(
            f"the first column of {path} ({names[0] or 'without a name'}) grows by {steps[0]:g} in "
            "every row: leave a number or time of the row out, or write it as text (a date)"
        )
    found = Table(table, tuple(name.strip() for name in names))
    return _told(found, path) if like is None else found


def _told(table: Table, path: Path) -> Table:
    """The table, of whose columns each has a number, and a name of its own."""
    for name in table.columns:
        if table.columns.count(name) > 1:
            raise ValueError(
                f"{table.columns.count(name)} columns of {path} are called {name!r}: give each a "
                "name of its own"
            )
    for values, name in zip(table.values.unbind(1), table.columns, strict=True):
        if values.isnan().all():
            raise ValueError(f"column {name!r} of {path} has no numbers: remove it")
    return table


def _filled(rows: list[tuple[int, list[str]]]) -> list[tuple[int, list[str]]]:
    """Rows with their numbers, without empty lines, and without empty rows at either end.

    An empty row between others is one of gaps: without it time would jump.
    """
    width = max((len(row) for _, row in rows), default=0)
    rows = [(i, row) for i, row in rows if len(row) == width or _says(row)]
    said = [place for place, (_, row) in enumerate(rows) if _says(row)]
    return rows[said[0] : said[-1] + 1] if said else []


def _whole(rows: list[tuple[int, list[str]]], path: Path) -> list[tuple[int, list[str]]]:
    """Rows of a template, without empty lines at either end: between others they are refused."""
    there = [place for place, (_, row) in enumerate(rows) if row]
    rows = rows[there[0] : there[-1] + 1] if there else []
    for number, row in rows:
        if not row:
            raise ValueError(
                f"{path}: line {number} is empty: write nan for a step to be filled in"
            )
    return rows


def _check_steps(table: Tensor, lines: Sequence[int], path: Path) -> None:
    there = table.isfinite()
    part = (there.any(1) & ~there.all(1)).nonzero()
    if len(part):
        raise ValueError(
            f"{path}: line {lines[int(part[0])]} is known in part, and a step is known or filled "
            "in as a whole: write nan in all of its columns, or a number in each"
        )


def _says(row: Sequence[str]) -> bool:
    return any(map(str.strip, row))


def _check_dates(cells: Sequence[str], path: Path) -> None:
    """What is left out as dates must not tell of several series in one, or of time running back."""
    # A day may have many rows, but what has no digit in it is no day.
    if 2 * len(set(cells)) < len(cells) and not any(map(str.isdigit, "".join(cells))):
        raise ValueError(
            f"the first column of {path} says the same in many rows ({cells[0]!r}): give a file "
            "for each series, or leave that column out"
        )
    try:
        back = datetime.fromisoformat(cells[0].strip()) > datetime.fromisoformat(cells[-1].strip())
    except (ValueError, TypeError):  # not ISO 8601, or a time zone in one of them alone
        return
    if back:
        raise ValueError(
            f"{path} begins with its newest row ({cells[0]}) and ends with its oldest: reverse it"
        )


def _unlike(table: Tensor) -> bool:
    """Whether every value of the first row is a whole number far outside of its column."""
    rest = table[1:]
    low = torch.where(rest.isnan(), torch.inf, rest).amin(0)
    high = torch.where(rest.isnan(), -torch.inf, rest).amax(0)
    far = (table[0] > high + 3 * (high - low)) | (table[0] < low - 3 * (high - low))
    return bool((far & (table[0] == table[0].round())).all())


def _is_text(cell: str) -> bool:
    return _number(cell) is None and not _is_gap(cell)


def _is_gap(cell: str) -> bool:
    return cell.strip().lower() in _GAPS


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None
