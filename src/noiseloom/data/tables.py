"""A table of a person's own as tokens, one a column: .csv, .tsv, .csv.gz or .parquet."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from noiseloom.data.option_names import said
from noiseloom.data.split import Split
from noiseloom.data.table_files import Rows, opened
from noiseloom.data.table_like import read_like
from noiseloom.data.table_reading import Reading
from noiseloom.data.table_schema import Defaults, check_names, read_schema
from noiseloom.data.table_store import Cells, Stored, read_columns
from noiseloom.data.table_vocabulary import BUT_GAPS, TableVocabulary
from noiseloom.data.tokens import Tokens
from noiseloom.rng import Rng

__all__ = ["read_table"]

_MOST = 65_536
"""Different texts of a column, where rare ones are to be thrown together."""


def read_table(
    path: str | os.PathLike[str],
    *,
    schema: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    missing: Literal["class", "refuse", "drop"] = "class",
    constant: Literal["refuse", "leave_out"] = "refuse",
    bins: int = 32,
    whole: int = 100,
    rare: int = 0,
    max_classes: int = 256,
    held_out: float = 0.1,
    seed: int = 0,
    split_by: str | None = None,
    held_out_value: str | None = None,
    leave_out: Sequence[str] = (),
    vocabulary: TableVocabulary | None = None,
) -> tuple[Split[Tokens], TableVocabulary]:
    """Read a table with a header as tokens, one a column.

    The file is read once. Categories, ranges and bins are made of the training rows alone. A column
    of numbers is one of whole numbers, a class each, where they span at most `whole`; of categories
    where few are different (at most `bins`, and four rows for each); and else in bins with about
    equally many rows, where a number that is frequent has a bin of its own.

    A column of text has
    its words as categories, sorted; where every row has another word, or so have all until there
    are more than `max_classes`, it is an identifier, and left out with a note, as is one that
    counts the rows. Digits that begin with 0 or are more than 15 are words, and
    so are others beside these, with a note, if all are equally many; if not, they are an error.

    Dates that can be read in one way only (`noiseloom.data.table_dates`) are whole numbers of the
    largest step by which all of them lie apart, such as hours, days or weeks, and are written back
    as they were, so that draws between Mondays are Mondays; those between the first days of months
    are any days. Few different ones are categories.

    A held-out row with a category that no training row has is an error that names it, unless `rare`
    or the schema makes a class for such; held-out numbers beyond the training rows are in the
    nearest class, and a note says how many.

    Args:
        path: a .csv, .tsv, .csv.gz or .tsv.gz file in UTF-8, its cells separated by commas,
            semicolons or tabs, or a .parquet file.
        schema: a YAML file, or a mapping such as it holds, that says what columns are
            (`noiseloom.data.table_schema`); the others are inferred. It may have rules too, which
            all training rows must keep.
        missing: cells that are empty or ?, NA, N/A, NaN or null, in any letters: "class" gives a
            column in which some are, be it only in held-out rows, a class for them, "refuse"
            raises, "drop" leaves out the rows.
        constant: whether a column with one value in all training rows is an error or left out.
        bins: intervals of a column of numbers, about, >= 2.
        whole: the most whole numbers that are a class each, >= 2.
        rare: categories in fewer training rows share a class, "other", with those in none; at 0
            there is no such class. From 2 on it is also trained where there are rare ones.
        max_classes: the most of a column, less other and missing.
        held_out: share of the rows to hold out, in (0, 1), drawn.
        seed: decides which.
        split_by: a column that says instead which rows to hold out, and is no token: its words are
            train or training, and test, val, validation or held_out.
        held_out_value: the word of that column whose rows are held out, all others being trained
            on, where it has other words.
        leave_out: columns that are not read, whatever the schema says.
        vocabulary: of another table, to read this by instead: its columns, found by their names,
            and its classes. Then schema and all that makes classes say nothing, columns that it
            does not have are passed over, and so is a `split_by` that is not there: rows are drawn.

    Returns:
        The rows in the order of the file, in the smallest type of integers, and what they mean.

    Raises:
        FileNotFoundError: no such file or schema.
        ImportError: a .parquet file, without the extra `parquet`.
        ColumnError: a column whose cells change between numbers and text, or with more classes than
            `max_classes`, or one value, or a value without a class; a ValueError that has a schema.
        ValueError: a damaged or empty file, a row of another length than the header, columns
            without names or with equal ones, or anything above that is refused; with the line and
            the value where it is one.
    """
    if not 0 < held_out < 1:
        raise ValueError(f"{said('held_out')} must be between 0 and 1, got {held_out}")
    if missing not in ("class", "refuse", "drop") or constant not in ("refuse", "leave_out"):
        raise ValueError(
            "missing must be 'class', 'refuse' or 'drop' and constant 'refuse' or 'leave_out', got "
            f"{missing!r} and {constant!r}"
        )
    defaults = Defaults(bins, whole, rare, max_classes)
    wishes, rules = read_schema(schema)
    gaps = {n for n, w in wishes.items() if w.gaps and missing == "drop"} - {*leave_out, split_by}
    unread = {n for n, w in wishes.items() if w.kind == "leave_out"} - gaps | {*leave_out}
    read = {*vocabulary.names, *vocabulary.gaps_of} if vocabulary else set[str]()

    def wanted(name: str) -> bool:
        return name == split_by or (name in read if vocabulary else name not in unread)

    with opened(Path(path).expanduser(), wanted) as table:
        if vocabulary is not None:
            by = split_by if split_by in table.names else None
            split = _like(table, vocabulary, missing, held_out, seed, by, held_out_value)
            return split, vocabulary
        check_names(wishes, table.names)
        check_names([*([split_by] if split_by else []), *leave_out], table.names)
        skipped = [n for n, wish in wishes.items() if wish.kind == "leave_out" and n != split_by]
        left_out = {n: BUT_GAPS if wishes[n].gaps else "by the schema" for n in skipped}
        left_out |= dict.fromkeys((n for n in leave_out if n != split_by), "as asked")
        cells: dict[str, Cells] = {n: w.cells for n, w in wishes.items() if n not in left_out}
        cells |= dict.fromkeys([*gaps, *([split_by] if split_by else [])], "text")
        forms = {n: wish.format for n, wish in wishes.items() if wish.format}
        cap = _MOST if rare > 1 else defaults.max_classes
        columns, where, faults = read_columns(
            table, left_out.keys() - gaps, cells, cap, forms, gaps
        )
        if split_by in faults:
            raise ValueError(faults[split_by])
        if not where:
            raise ValueError("there are no rows below the header")
        reading = Reading(columns, where, table.unit, left_out, faults, table.names)
        reading.notes += table.notes
        reading.identifiers(wishes, split_by)
        part = columns.pop(split_by) if split_by else None
        if split_by:
            reading.left_out[split_by] = "says what is held out"
        rows = reading.rows(missing)
        for name in gaps:  # which have had their say
            del columns[name]
        if part:
            held = reading.by_column(part, rows, held_out_value)
        else:
            held = _drawn(len(rows), held_out, seed)
        return reading.tokens(rows, held, wishes, defaults, constant, rules)


def _like(
    table: Rows,
    vocabulary: TableVocabulary,
    missing: str,
    held_out: float,
    seed: int,
    split_by: str | None,
    held_out_value: str | None,
) -> Split[Tokens]:
    """The rows in two parts, by the columns of a model."""
    tokens, where, words, notes = read_like(table, vocabulary, missing, split_by)
    if words is None:
        held = _drawn(len(where), held_out, seed)
    else:
        assert split_by
        part = Stored(split_by, "text", len(words), True)
        part.extend(words, [f"{table.unit} {place}" for place in where])
        reading = Reading({}, where, table.unit, {})
        held = reading.by_column(part, np.arange(len(where)), held_out_value)
    rest, kept = (
        Tokens(tokens[torch.from_numpy(which)], vocabulary.sizes) for which in (~held, held)
    )
    return Split(rest, kept, tuple(notes))


def _drawn(count: int, share: float, seed: int) -> NDArray[np.bool_]:
    """Which of so many rows are held out."""
    if count < 2:
        raise ValueError(f"there are {count} rows: both parts need one")
    number = min(max(1, round(share * count)), count - 1)
    held = np.zeros(count, dtype=np.bool_)
    held[Rng(seed).fold("held out").permutation(count)[:number].numpy()] = True
    return held
