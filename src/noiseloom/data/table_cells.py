"""Cells of a table whose columns are known: their classes, and rows of them with gaps."""

import difflib
import os
from collections.abc import Collection, Sequence
from pathlib import Path

from noiseloom.data.table_columns import Classes, Column, Value
from noiseloom.data.table_files import opened
from noiseloom.data.table_schema import check_names

__all__ = ["encode_cells", "read_cells"]


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
    with opened(Path(path).expanduser()) as table:
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


def _hint(column: Column, value: str) -> str:
    """What there are classes for instead."""
    near = difflib.get_close_matches(value, map(str, column.values), 1)
    return f": did you mean {near[0]!r}?" if near else f": there are {column.examples}"
