"""A table of cells into a file: .csv, .tsv or .parquet, as `opened` reads them."""

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from noiseloom.data.table_columns import NUMBER
from noiseloom.data.table_files import pyarrow_for
from noiseloom.data.whole_file import write_bytes

__all__ = ["WRITTEN", "check_writable", "write_table"]

WRITTEN = (".csv", ".tsv", ".parquet")
"""Endings of tables that are written."""
_CODED = re.compile("dictionary<values=string, indices=(u?int[0-9]+), ordered=0>")
_DECIMAL = re.compile(r"(decimal[0-9]+)\(([0-9]+), (-?[0-9]+)\)")
_WHOLE = 2**63  # of 64 bits, above the largest


def check_writable(path: Path) -> None:
    """Raise where no table can be written under a name.

    Raises:
        ImportError: .parquet, without the extra `parquet`.
        ValueError: another ending.
    """
    if path.suffix.lower() not in WRITTEN:
        raise ValueError(f"{path}: tables are written as {', '.join(WRITTEN)}")
    if path.suffix.lower() == ".parquet":
        pyarrow_for(path)


def write_table(
    path: Path,
    names: Sequence[str],
    rows: Sequence[Sequence[str]],
    words: Sequence[bool],
    types: Sequence[str] = (),
) -> None:
    """Write cells as a table.

    A column of a .parquet file has its type where all its cells are of it, numbers to the last
    digit: of floats of 32 bits not all that are drawn between others are. Else one whose cells are
    all numbers has these, whole ones of 64 bits or floats, and none where a cell is empty, and
    others have text.

    Args:
        path: .csv, .tsv or .parquet; it is replaced.
        names: of the columns.
        rows: cells as they are to be read again.
        words: whether a column is text, though its cells may look like numbers.
        types: of columns in a .parquet file, as PyArrow calls them; "" to tell by the cells.

    Raises:
        ImportError: .parquet, without the extra `parquet`.
        ValueError: another ending.
    """
    check_writable(path)
    if path.suffix.lower() == ".parquet":
        pyarrow = pyarrow_for(path)
        columns = [list(cells) for cells in zip(*rows, strict=True)] or [[] for _ in names]
        arrays = []
        for c, (cells, word) in enumerate(zip(columns, words, strict=True)):
            typed = _typed(pyarrow, cells, types[c]) if types and types[c] else None
            arrays.append(pyarrow.array(_values(cells, word)) if typed is None else typed)
        buffer = io.BytesIO()
        pyarrow.parquet.write_table(pyarrow.table(dict(zip(names, arrays, strict=True))), buffer)
        write_bytes(path, buffer.getvalue())
        return
    text = io.StringIO()
    mark = "\t" if path.suffix.lower() == ".tsv" else ","
    writer = csv.writer(text, delimiter=mark, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(rows)
    write_bytes(path, text.getvalue().encode("utf-8"))


def _typed(pyarrow: ModuleType, cells: Sequence[str], name: str) -> object:
    """Cells as an array of a type; None where one of them is no such value."""
    coded, decimal = _CODED.fullmatch(name), _DECIMAL.fullmatch(name)
    plain, _, zone = name.removesuffix("]").partition(", tz=")
    found = pyarrow.array([cell or None for cell in cells], pyarrow.string())
    try:
        if coded:
            values = found.dictionary_encode()
            places = values.indices.cast(pyarrow.type_for_alias(coded[1]))
            return pyarrow.DictionaryArray.from_arrays(places, values.dictionary)
        if decimal:
            kind = getattr(pyarrow, decimal[1])(int(decimal[2]), int(decimal[3]))
        else:
            kind = pyarrow.type_for_alias(f"{plain}]" if zone else name)
        if not pyarrow.types.is_timestamp(kind):
            return found.cast(kind) if _fits(cells, name) else None
        # Draws have microseconds; cut to milliseconds they stay in bins whose ends are such.
        fine = found.cast(pyarrow.timestamp("us", zone or None))
        return fine.cast(pyarrow.timestamp(kind.unit, zone or None), safe=kind.unit == "ns")
    except (ValueError, NotImplementedError):  # a cell that is none, or a cast Arrow has not
        return None


def _fits(cells: Sequence[str], name: str) -> bool:
    """Whether numbers would be read again, and lie in the same bins: 0.0999999999 would be 0.1."""
    short = {"float": np.float32, "halffloat": np.float16}.get(name)
    if short is None:
        return True
    with np.errstate(over="ignore"):
        return all(float(str(short(cell))) == float(cell) for cell in cells if cell)


def _values(cells: Sequence[str], words: bool) -> list[Any]:
    """The cells of a column, of one type."""
    there = [cell for cell in cells if cell]
    if words or not all(map(NUMBER.fullmatch, there)):
        return [cell or None for cell in cells]
    whole = all(c.lstrip("+-").isdigit() and abs(int(c)) < _WHOLE for c in there)
    return [(int(cell) if whole else float(cell)) if cell else None for cell in cells]
