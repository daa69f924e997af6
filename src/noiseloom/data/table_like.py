"""Another table by the columns of a model: the same classes, whatever the file would suggest."""

import itertools
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noiseloom.data.characters import smallest
from noiseloom.data.table_cells import encode_cells
from noiseloom.data.table_columns import GAPS, Column
from noiseloom.data.table_files import Rows
from noiseloom.data.table_schema import check_names
from noiseloom.data.table_vocabulary import TableVocabulary

__all__ = ["read_like"]

_CHUNK = 4096


def read_like(
    table: Rows, vocabulary: TableVocabulary, missing: str, words: str | None
) -> tuple[Tensor, "array[int]", list[str] | None, list[str]]:
    """Read a table to its end as tokens of known columns, found by their names.

    Args:
        table: open; columns that the vocabulary does not have are passed over.
        vocabulary: of the model.
        missing: as `read_table` has it; a "class" is only one where the column has it.
        words: a column whose cells are wanted as they are.

    Returns:
        Tokens of the rows that are kept, in the smallest type of integers, (N, T); where in the
        file each is; the cells of `words`; and notes.

    Raises:
        ValueError: a column that is not there, or a cell that its column has no class for, by line.
    """
    check_names(vocabulary.names, table.names)
    at = {name: place for place, name in enumerate(table.names)}
    looked = list(vocabulary.names)
    if missing == "drop":  # what was left out as it says nothing has had its say on rows before
        looked += [name for name in vocabulary.gaps_of if name in at]
    kind, kept, where, found = smallest(max(vocabulary.sizes)), [], array("q"), list[str]()
    gaps, total, beyond = 0, 0, Counter[str]()
    while rows := list(itertools.islice(table.rows, _CHUNK)):
        for place, cells in rows:
            table.check(place, cells)
        places = [f"{table.unit} {place}" for place, _ in rows]
        columns = list(zip(*(cells for _, cells in rows), strict=True))
        absent = np.array(
            [[cell.strip().lower() in GAPS for cell in columns[at[name]]] for name in looked]
        )
        if missing == "refuse" and absent.any():
            row = int(absent.any(0).argmax())
            name = looked[int(absent[:, row].argmax())]
            raise ValueError(f"{places[row]}, column {name!r}: a value is missing")
        keep = ~absent.any(0) if missing == "drop" else np.ones(len(rows), dtype=np.bool_)
        tokens = torch.empty((int(keep.sum()), len(vocabulary.columns)), dtype=kind)
        chosen = np.flatnonzero(keep).tolist()
        for c, column in enumerate(vocabulary.columns):
            cells = [columns[at[column.name]][i] for i in chosen]
            classes, outside = _encode(column, cells, [places[i] for i in chosen])
            tokens[:, c] = torch.from_numpy(classes)
            beyond[column.name] += outside
        kept.append(tokens)
        gaps += int(absent.any(0).sum())
        total += len(rows)
        where.extend(rows[i][0] for i in chosen)
        found += [columns[at[words]][i].strip() for i in chosen] if words else []
    if not len(where):
        rest = f": all {total:,} have missing values, and are left out" if total else ""
        raise ValueError(f"there are no rows below the header{rest}")
    known = {*vocabulary.names, *vocabulary.left_out, words}
    notes = _notes([n for n in table.names if n not in known], missing, gaps, total, beyond)
    return torch.cat(kept), where, found if words else None, [*notes, *table.notes]


def _encode(
    column: Column, cells: Sequence[str], places: Sequence[str]
) -> tuple[NDArray[np.int64], int]:
    """Classes of cells, and how many numbers lie in no interval: each different cell once."""
    first: dict[str, str] = {}
    for cell, place in zip(cells, places, strict=True):
        first.setdefault(cell, place)
    values, classes = encode_cells(column, list(first), list(first.values()))
    numbers = column.kind != "categorical"
    inside = np.ones(len(first), dtype=np.bool_)
    if numbers:
        inside = column.within(np.array([np.nan if v is None else v for v in values], dtype=float))
    index = {cell: i for i, cell in enumerate(first)}
    each = np.fromiter((index[cell] for cell in cells), dtype=np.int64, count=len(cells))
    return classes[each], int((~inside)[each].sum())


def _notes(
    others: list[str], missing: str, gaps: int, total: int, beyond: Mapping[str, int]
) -> list[str]:
    notes = []
    if others:
        notes.append(f"columns that the model does not have are passed over: {', '.join(others)}")
    if gaps:
        told = "with missing values are left out"
        told = told if missing == "drop" else "have missing values, which are a class"
        notes.append(f"{gaps:,} of {total:,} rows {told}")
    for name, count in beyond.items():
        if count:
            notes.append(
                f"column {name!r}: {count:,} numbers are beyond those of the model's training "
                "rows, or between its bins: they are in the nearest class"
            )
    return notes
