"""Time series in memory: a table of numbers, a row per step, and the windows of it."""

import csv
import gzip
import hashlib
import json
import math
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from noiseloom.data.split import Split

__all__ = ["Series", "Table", "beginning", "read_series", "rolling"]

_GAPS = ("", "na", "n/a", "nan", "null", "none", "-", "?")


class Table(NamedTuple):
    """Numbers with named columns.

    Attributes:
        values: float64, shape (N, D), finite, a row per step.
        columns: their names.
    """

    values: Tensor
    columns: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Series:
    """All windows of a time series: a data set whose samples are stretches of it.

    Attributes:
        values: float64, shape (N, D).
        columns: names of the D columns.
        window: steps of a sample, 1 .. N.
        first: index of the first row in the whole series.

    Raises:
        ValueError: fewer rows than a window has.
    """

    values: Tensor
    columns: tuple[str, ...]
    window: int
    first: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.window <= len(self.values):
            raise ValueError(
                f"a window of {self.window} steps does not fit a series of {len(self.values)}: "
                "give a longer series, or ask for a shorter horizon or context"
            )

    def __len__(self) -> int:
        return len(self.values) - self.window + 1

    def __getitem__(self, indices: Tensor) -> dict[str, Tensor]:
        """The windows that begin at `indices`: "values" (B, window, D) and "position" (B,)."""
        rows = indices[:, None] + torch.arange(self.window, device=indices.device)
        return {"values": self.values[rows], "position": indices + self.first}

    def to(self, device: torch.device) -> "Series":
        """The same on another device."""
        return Series(self.values.to(device), self.columns, self.window, self.first)

    def tensors(self) -> tuple[Tensor]:
        """The values."""
        return (self.values,)


def beginning(values: Tensor, count: int) -> str:
    """A hash of the first `count` rows, by which the steps of a series are known elsewhere.

    It is published with a model: of one row alone the numbers could be guessed.
    """
    return hashlib.blake2b(values[:count].contiguous().numpy().data, digest_size=8).hexdigest()


def rolling(table: Table, *, context: int, horizon: int, windows: int) -> Split[Series]:
    """Hold out the last `windows` stretches of `horizon` steps, to be forecast one after another.

    Training windows end before the first of them. Samples of the held-out part begin `context`
    steps before what is to be forecast; those numbered 0, horizon, 2 horizon, ... are the protocol.

    Args:
        table: the series.
        context: steps that are known of a sample, >= 1.
        horizon: steps that follow, >= 1.
        windows: how many stretches to hold out, >= 1.

    Raises:
        ValueError: too short a series.
    """
    total, size = len(table.values), context + horizon
    held = windows * horizon
    if total - held < size:
        raise ValueError(
            f"{total} steps are too few: {windows} windows of {horizon} are held out, and training "
            f"needs at least {size} before them; ask for fewer, or a shorter horizon or context"
        )
    cut = total - held
    train = Series(table.values[:cut], table.columns, size)
    return Split(train, Series(table.values[cut - context :], table.columns, size, cut - context))


def read_series(path: str | Path, header: Literal["auto", "yes", "no"] = "auto") -> Table:
    """Read a table of numbers, a row per step.

    Args:
        path: a `.csv` or `.csv.gz` file, whose first column may hold dates, which are left out; or
            a data set in GluonTS's layout (a folder or tar file with `test/test.json`, a series a
            line, the last and longest of each counting).
        header: whether the first row of a CSV file holds names; auto takes it for names where a
            cell of it is no number.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not of these formats, no numbers, rows of unequal length, cells that are empty
            or no finite numbers, names that cannot be told from numbers, other separators than
            commas, dates that run back, several series below each other.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        if path.is_dir():
            files = sorted(path.rglob("test/*.json"))
            with _one(files, path).open(encoding="utf-8") as file:
                return _gluonts(file, path)
        if path.name.endswith((".tar", ".tar.gz", ".tgz")):
            with tarfile.open(path) as archive:
                names = [n for n in archive.getnames() if Path(n).match("test/*.json")]
                member = archive.extractfile(str(_one([Path(n) for n in names], path)))
                assert member is not None
                return _gluonts((line.decode("utf-8") for line in member), path)
        if path.name.endswith((".csv", ".csv.gz")):
            opened = gzip.open if path.suffix == ".gz" else open
            with opened(path, "rt", newline="", encoding="utf-8-sig") as file:
                return _csv(file, path, header)
    except (
        UnicodeDecodeError,
        EOFError,
        OSError,
        tarfile.TarError,
        csv.Error,
        zlib.error,
    ) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    raise ValueError(
        f"{path} is no time series: give a .csv or .csv.gz file with a row per step, or a data set "
        "in GluonTS's layout"
    )


def _one(files: Sequence[Path], path: Path) -> Path:
    if len(files) != 1:
        raise ValueError(f"{path} holds {len(files)} files test/*.json, and one is expected")
    return files[0]


def _gluonts(lines: Iterable[str], path: Path) -> Table:
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
    if not values.isfinite().all():
        raise ValueError(f"{path} has values that are not finite: fill or remove them")
    return Table(values, tuple(str(i) for i in range(len(last))))


def _csv(file: Iterator[str], path: Path, header: str) -> Table:
    rows = [(i, row) for i, row in enumerate(csv.reader(file), 1) if any(map(str.strip, row))]
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
    dates = len(rows) > 1 and all(_is_text(row[0]) for _, row in rows[1:])
    named = header == "yes" or (
        header == "auto" and any(_number(cell) is None for cell in first[dates:])
    )
    body = rows[named:]
    if dates and body:
        _check_dates([row[0] for _, row in body], path)
    values = []
    for number, row in body:
        if len(row) != len(first):
            raise ValueError(f"{path}, line {number}: {len(row)} cells, and {len(first)} before")
        cells = [_number(cell) for cell in row[dates:]]
        for place, cell in enumerate(cells):
            if cell is None or not math.isfinite(cell):
                what = repr(row[place + dates]) if row[place + dates].strip() else "an empty cell"
                raise ValueError(
                    f"{path}, line {number}, column {place + dates + 1}: {what} is no finite "
                    "number; fill or remove such rows or columns"
                )
        values.append(cells)
    if not values or not values[0]:
        raise ValueError(f"{path} holds no rows of numbers")
    table = torch.tensor(values, dtype=torch.float64)
    if header == "auto" and not named and len(table) > 2 and _unlike(table):
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
    return Table(table, tuple(name.strip() for name in names))


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
    low, high = table[1:].amin(0), table[1:].amax(0)
    far = (table[0] > high + 3 * (high - low)) | (table[0] < low - 3 * (high - low))
    return bool((far & (table[0] == table[0].round())).all())


def _is_text(cell: str) -> bool:
    return _number(cell) is None and cell.strip().lower() not in _GAPS


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None
