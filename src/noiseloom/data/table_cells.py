"""Cells of a table whose columns are known: their classes, and rows of them with gaps."""

import difflib
import os
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from noiseloom.data.table_columns import Classes, Column, Value
from noiseloom.data.table_files import opened
from noiseloom.data.table_schema import check_names

__all__ = ["check_reach", "encode_cells", "read_cells"]

_SLACK = 0.1
"""Of the range of a column, by which numbers that are known may be beyond it."""


def read_cells(
    path: str | os.PathLike[str], names: Sequence[str], left_out: Collection[str]
) -> tuple[list[list[str]], list[str]]:
    """Rows of a file as they stand, in the order of given columns; "" where nothing is known.

    Empty cells and "?" are unknown, and so is a column that is not there.

    Args:
        path: a file as `read_table` takes it.
        names: the columns.
        left_out: others that may be there, and are passed over.

    Returns:
        The cells of each row, and where it is in the file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a column that is none of these, no rows, or what is no table.
    """
    with opened(Path(path).expanduser(), {*names}.__contains__) as table:
        check_names(table.names, [*names, *left_out], "the vocabulary")
        places, rows = [], []
        for place, row in table.rows:
            table.check(place, row)
            places.append(f"{table.unit} {place}")
            cells = dict(zip(table.names, map(str.strip, row), strict=True))
            rows.append([cell if (cell := cells.get(n, "")) != "?" else "" for n in names])
        if not rows:
            raise ValueError("there are no rows below the header")
    return rows, places


def encode_cells(
    column: Column,
    cells: Sequence[object],
    places: Sequence[str],
) -> tuple[list[Value], Classes]:
    """Values of cells, and their classes, int64, shape (N,).

    Args:
        column: of the cells.
        cells: as they stand in a file, or values.
        places: where each is, for errors.

    Raises:
        ValueError: a cell that its column cannot have, by its place.
    """
    values = []
    for cell, place in zip(cells, places, strict=True):
        try:
            values.append(column.parse(cell))
        except ValueError as error:
            raise ValueError(f"{place}, column {column.name!r}: {error}") from None
    classes = column.classes(values)
    if (classes < 0).any():
        at = int((classes < 0).argmax())
        more = "" if values[at] is None else _hint(column, str(values[at]))
        raise ValueError(f"{places[at]}, {column.refusal(values[at])}{more}")
    return values, classes


def check_reach(column: Column, values: Sequence[Value], places: Sequence[str]) -> None:
    """Raise where a number is none that the column could have.

    Where every number is a class there are no others. In bins a number may be beyond those of
    training rows by a tenth of their range, as one of rows that are not there yet may be: it counts
    as one of the outermost bin. Between bins, too, it is in the nearest.

    Args:
        column: of the values.
        values: as `encode_cells` gave them.
        places: where each is.

    Raises:
        ValueError: such a number, by its place, with the range.
    """
    if column.kind == "categorical":
        return
    numbers = np.array([np.nan if v is None else v for v in values], dtype=np.float64)
    low, high = float(column.lows[0]), float(column.highs[-1])
    slack = _SLACK * (high - low) * (1 + 1e-9)  # of 12 a tenth is 1.2000000000000002
    wrong = (numbers < low - slack) | (numbers > high + slack)
    if column.exact:
        wrong = ~column.within(numbers)
    if wrong.any():
        at = int(wrong.argmax())
        number = values[at]
        told = column.typed(number) if isinstance(number, int | float) else number
        said = "none of" if column.exact else "beyond"
        raise ValueError(
            f"{places[at]}, column {column.name!r}: {told} is {said} {column.examples}, "
            "which training rows have"
        )


def _hint(column: Column, value: str) -> str:
    """What there are classes for instead."""
    near = difflib.get_close_matches(value, map(str, column.values), 1)
    return f": did you mean {near[0]!r}?" if near else f": there are {column.examples}"
