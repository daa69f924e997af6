"""Structures with measured numbers beside them: a table whose columns are named when it is read."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from noiseloom.data.table_columns import GAPS
from noiseloom.data.table_files import opened

__all__ = [
    "Cells",
    "Disagreement",
    "disagreement",
    "label_columns",
    "labels_of",
    "read_cells",
    "text_column",
]

_LARGEST = torch.finfo(torch.float32).max


@dataclass(frozen=True)
class Cells:
    """The cells of a file, as text, by column.

    Attributes:
        path: of the file.
        columns: cells of each column, without spaces around, by its name.
        lines: where in the file each row is.
        unit: what that counts, line or row.
    """

    path: Path
    columns: dict[str, list[str]]
    lines: tuple[int, ...]
    unit: str = "line"

    def __len__(self) -> int:
        return len(self.lines)

    def where(self, row: int) -> str:
        """A row's place, for errors."""
        return f"{self.path}, {self.unit} {self.lines[row]}"

    @property
    def places(self) -> list[str]:
        """Of all rows."""
        return [self.where(row) for row in range(len(self))]

    def column(self, name: str) -> list[str]:
        """The cells of a column.

        Raises:
            ValueError: there is none of that name.
        """
        if name not in self.columns:
            raise ValueError(f"{self.path} has no column {name!r}; it has {self.names}")
        return self.columns[name]

    @property
    def names(self) -> str:
        """Of the columns, for errors."""
        return ", ".join(self.columns)


def read_cells(path: str | os.PathLike[str]) -> Cells:
    """All cells of a table.

    Args:
        path: .csv, .tsv, either with .gz after it, or .parquet; the first row has names.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no table, no rows, or a row of another length than the header, by its line.
    """
    path = Path(path).expanduser()
    lines, rows = [], []
    with opened(path) as table:
        for line, row in table.rows:
            table.check(line, row)
            lines.append(line)
            rows.append([cell.strip() for cell in row])
        names, unit = table.names, table.unit
    if not rows:
        raise ValueError(f"{path} has no rows below the header")
    columns = [list(cells) for cells in zip(*rows, strict=True)]
    return Cells(path, dict(zip(names, columns, strict=True)), tuple(lines), unit)


def text_column(cells: Cells, named: str, labels: Sequence[str]) -> str:
    """Which column has the structures.

    Args:
        cells: of the file.
        named: by a run's options, "" for none. It need not be there: the run read another file.
        labels: columns that have not.

    Returns:
        The named one; or the one called smiles or sequence; or the only one that is no label and
        holds no numbers.

    Raises:
        ValueError: it cannot be told.
    """
    if named in cells.columns:
        return named
    others = [name for name in cells.columns if name not in labels]
    for found in (
        [name for name in others if name.lower() in ("smiles", "sequence")],
        [name for name in others if not _numeric(cells.columns[name])],
    ):
        if len(found) == 1:
            return found[0]
    raise ValueError(
        f"{cells.path}: which column holds the structures? Call it sequence or smiles; there are "
        f"{cells.names}"
    )


def label_columns(
    cells: Cells, named: Sequence[str] | None, structure: Sequence[str]
) -> tuple[str, ...]:
    """Which columns have the labels.

    Args:
        cells: of the file.
        named: those that were asked for; None for the only one of numbers.
        structure: columns that say what is labelled.

    Raises:
        ValueError: no such column, or it cannot be told.
    """
    if named is not None:
        for name in named:
            cells.column(name)
        if not named or len(set(named)) < len(named):
            raise ValueError(f"columns of labels are different ones, got {', '.join(named)!r}")
        return tuple(named)
    found = [n for n, c in cells.columns.items() if n not in structure and _numeric(c)]
    if len(found) != 1:
        told = (
            f"several columns of numbers, {', '.join(found)}" if found else "no column of numbers"
        )
        told += "" if found else _nearly(cells, structure)
        raise ValueError(f"{cells.path} has {told}: say which are labels, --columns NAME,NAME")
    return tuple(found)


def _nearly(cells: Cells, structure: Sequence[str]) -> str:
    """The first cell of a column that is no number where most of them are."""
    for name, column in cells.columns.items():
        wrong = [r for r, c in enumerate(column) if c.lower() not in GAPS and _number(c) is None]
        if name not in structure and 0 < len(wrong) < len(column) / 2:
            first = wrong[0]
            return f" (column {name!r} has {column[first]!r} in {cells.unit} {cells.lines[first]})"
    return ""


def labels_of(cells: Cells, names: Sequence[str]) -> Tensor:
    """The numbers of some columns, float64, shape (N, J).

    Raises:
        ValueError: a cell that is no finite number, or beyond the largest of float32, by its line;
            or a column of one value only.
    """
    found = torch.empty((len(cells), len(names)), dtype=torch.float64)
    for j, name in enumerate(names):
        for row, cell in enumerate(cells.column(name)):
            number = _number(cell)
            if number is None or not math.isfinite(number):
                told = f"is {cell!r}" if cell else "is missing"
                raise ValueError(
                    f"{cells.where(row)}, column {name!r}: the label {told}, and a label is a "
                    "finite number: leave the row out"
                )
            if abs(number) > _LARGEST:
                raise ValueError(
                    f"{cells.where(row)}, column {name!r}: the label is {cell!r}, and the largest "
                    f"are {_LARGEST:.2g}: leave the row out, or count in another unit"
                )
            found[row, j] = number
        if (found[:, j] == found[0, j]).all():
            raise ValueError(
                f"{cells.path}, column {name!r}: all {len(cells)} labels are {found[0, j]:g}, from "
                f"{cells.unit} {cells.lines[0]} to {cells.lines[-1]}: there is nothing to learn"
            )
    return found


@dataclass(frozen=True)
class Disagreement:
    """Structures with several labels that differ.

    Attributes:
        count: of such structures.
        rows: two of the one whose labels differ most, in deviations of all labels.
        column: of these.
    """

    count: int
    rows: tuple[int, int]
    column: int


def disagreement(keys: Sequence[str], labels: Tensor) -> Disagreement | None:
    """Where equal structures have labels that differ; None if they nowhere do.

    Args:
        keys: of N structures, equal ones having the same.
        labels: shape (N, J).
    """
    places: dict[str, list[int]] = {}
    for row, key in enumerate(keys):
        places.setdefault(key, []).append(row)
    several = [torch.tensor(rows) for rows in places.values() if len(rows) > 1]
    apart = [labels[rows].amax(0) - labels[rows].amin(0) for rows in several]
    differ = [(rows, spread) for rows, spread in zip(several, apart, strict=True) if spread.any()]
    if not differ:
        return None
    scaled = torch.stack([spread for _, spread in differ]) / labels.std(0, correction=0)
    which, column = divmod(int(scaled.nan_to_num(0).argmax()), labels.shape[1])
    rows = differ[which][0]
    own = labels[rows, column]
    two = sorted((int(rows[own.argmin()]), int(rows[own.argmax()])))
    return Disagreement(len(differ), (two[0], two[1]), column)


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _numeric(cells: Sequence[str]) -> bool:
    """Whether a column has numbers, or a word for a missing one, and some number."""
    told = [cell for cell in cells if cell.lower() not in GAPS]
    return bool(told) and all(_number(cell) is not None for cell in told)
