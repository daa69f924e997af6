"""Columns of a table that is read once, row by row: its cells as numbers, and not as they stand."""

import itertools
import math
import re
from array import array
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from noiseloom.data.option_names import said
from noiseloom.data.table_columns import GAPS, NUMBER, Reals
from noiseloom.data.table_dates import (
    EXACT,
    date_of,
    finer_form,
    form_of,
    number_of,
    seconds_of,
    spacing,
    without_marks,
)
from noiseloom.data.table_files import Rows
from noiseloom.data.table_numbers import Writing, is_code, lost, lost_zero

__all__ = ["Stored", "date_hint", "read_columns"]

Cells: TypeAlias = Literal["text", "number", "date"]

_DATES = "; if these are dates, say in the schema how: {{kind: date, format: '{}'}}"
_CHUNK = 4096
_MEND = ": mend it, or say in the schema that the column is categorical"
_BEFORE = f", and all before it are{_MEND}"
_STROKES = re.compile(r"[0-9]{1,2}[/-][0-9]{1,2}[/-][0-9]{4}\b")
# Of decimals, of thousands, and of decimals where points are of thousands.
_COMMA = re.compile(
    r"[+-]?(?:[0-9]+,[0-9]+|[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]*)?|[0-9]{1,3}(?:\.[0-9]{3})+,[0-9]+)"
)


@dataclass
class Stored:
    """The cells of a column so far: 8 bytes a number, 4 bytes a text and each text once.

    Attributes:
        name: of the column.
        wanted: text, number or date if that is known; else the first cell decides, and another kind
            of cell later is an error.
        cap: how many different texts there may be.
        told: whether a person said that it is to be kept, so that it is no identifier.
        natural: whether texts that are all numbers may be meant as numbers.
        kind: text, number, or identifier: every text another; None while all are missing.
        dates: of numbers that are dates, their form; "" for others, or not known yet.
        start: what 0 counts as then, in units of the form.
        step: how many of these units one of them is.
        numbers: of a column of numbers, NaN where missing.
        codes: of a column of text, the place in `index`, -1 where missing.
        index: texts by first appearance.
        pointed: whether a number was written with a point or an exponent.
        writing: how its numbers are written.
        known: how many cells of text there were, until they were too many.
        arrow: its type in a .parquet file, as `Column` has it.
        code: of text, its first cell of digits that are no number (02134), and where that is.
        mixed: whether there are digits beside it that could be a number, all equally many.
        strokes: what to do if its first text, which looks like a date, is one; no schema says so.
    """

    name: str
    wanted: Cells | None
    cap: int
    told: bool
    natural: bool = True
    kind: Literal["text", "number", "identifier"] | None = None
    dates: str = ""
    start: int = 0
    step: int = 1
    numbers: "array[float]" = field(default_factory=lambda: array("d"))
    codes: "array[int]" = field(default_factory=lambda: array("i"))
    index: dict[str, int] = field(default_factory=dict)
    pointed: bool = False
    writing: Writing = field(default_factory=Writing)
    known: int = 0
    arrow: str = ""
    code: str = ""
    mixed: bool = False
    strokes: str = ""
    _missing_first: int = 0
    _found: bool = False  # the form of its dates, and not told
    _bare: bool = False  # some times are whole seconds, where others have parts of one
    _plain: bool = True
    _digits: int = 0  # so many have all cells of digits; below 0 where they differ

    def extend(self, cells: Iterable[str], where: Sequence[str]) -> None:
        """Keep some more cells.

        Args:
            cells: one a row.
            where: the rows, for errors.

        Raises:
            ValueError: a cell of another kind than those before, or more texts than `cap`.
        """
        found = [None if (c := cell.strip()).lower() in GAPS else c for cell in cells]
        first = next((cell for cell in found if cell is not None), None)
        if self.kind is None and first is not None:
            number = self.wanted == "number" or (not self.wanted and _is_number(first))
            if not number and not self.told and (not self.wanted or not self.natural):
                self.dates, self._found = form_of(first), True  # also of what a file calls text
            elif self.wanted == "date" and not self.dates:
                self.dates, self._found = self._form(first, where[found.index(first)]), True
            number = number or bool(self.dates)
            self.kind = "number" if number else "text"
            if number:
                self.numbers.extend([math.nan] * self._missing_first)
                self.writing.missing(self._missing_first)
            self.codes.extend([-1] * self._missing_first * (self.kind == "text"))
            self.strokes = "" if self.told else date_hint(first)
        if self.kind == "number" and not self._extend_numbers(found, where):
            self.to_text()
        if self.kind == "text":
            self._extend_text(found, where)
        if self.kind is None:
            self._missing_first += len(found)

    def close(self) -> None:
        """After the last cell: text of which none comes twice is an identifier; steps of dates."""
        if self.kind == "number" and self.dates:
            known = {int(number) for number in set(self.numbers) if not math.isnan(number)}
            start, step = self.start, self.step = spacing(known)
            self.numbers = array("d", ((number - start) // step for number in self.numbers))
        if self.kind == "text" and not self.told and len(self.index) == self.known > 1:
            self._forget()

    @property
    def hint(self) -> str:
        """Why it is what it is, where that may be a mistake; "" elsewhere."""
        if self.mixed:
            return f"; {self.code} is no number, so that all of them are text"
        if self.strokes:
            return self.strokes
        bare = self.kind == "number" and not (self.told or self.pointed or self.dates)
        bare = bare and without_marks({n for n in self.numbers if not math.isnan(n)})
        return _DATES.format("%Y%m%d") if bare else ""

    def values(self) -> Reals:
        """The numbers, float64, shape (N,)."""
        return np.frombuffer(self.numbers, dtype=np.float64)

    def floats(self) -> Reals:
        """The numbers, also of texts that are numbers, float64, shape (N,); NaN where missing."""
        if self.kind != "text":
            return self.values()
        found: Reals = np.array([*map(float, self.index), math.nan])[self.cells()]
        return found

    def cells(self) -> NDArray[Any]:
        """Numbers, or codes of text, shape (N,)."""
        return np.frombuffer(self.codes, dtype=np.int32) if self.kind == "text" else self.values()

    def missing(self, count: int) -> NDArray[np.bool_]:
        """Which of the `count` rows are missing."""
        if self.kind is None:
            return np.ones(count, dtype=np.bool_)
        cells = self.cells()
        found: NDArray[np.bool_] = cells < 0 if self.kind == "text" else np.isnan(cells)
        return found

    def _extend_numbers(self, cells: list[str | None], where: Sequence[str]) -> bool:
        """Whether these are numbers; not so where the column turns out to be of codes (02134)."""
        kept, writing = array("d"), self.writing
        for cell, place in zip(cells, where, strict=True):
            if cell is None:
                kept.append(math.nan)
                writing.missing()
                continue
            if self.dates:
                strict = self.wanted != "date"
                date = number_of(self.dates, cell, strict)
                if date is None and self._refined(cell, kept):
                    date = number_of(self.dates, cell, strict)
                if date is None:
                    raise ValueError(
                        f"{place}, column {self.name!r}: {cell!r} is no date as {self.dates}"
                        f"{' has it' if self.wanted == 'date' else _BEFORE}"
                    )
                self._bare = self._bare or ("." not in cell and seconds_of(self.dates) < 1)
                kept.append(date)
                writing.missing()
                continue
            code = not self.wanted and self._plain and is_code(cell)
            if code and len(cell) == self._digits:
                self.code = f"{cell!r} in {place}"
                return False
            if code or not NUMBER.fullmatch(cell):
                why = lost_zero(cell) if self.wanted else lost(cell) + _BEFORE
                raise ValueError(f"{place}, column {self.name!r}: {cell!r} is no number{why}")
            number = float(cell)
            if math.isinf(number):
                raise ValueError(f"{place}, column {self.name!r}: {cell} is too large a number")
            self._plain = self._plain and cell.isdigit()
            self._count(cell)
            self.pointed = self.pointed or not cell.lstrip("+-").isdigit()
            writing.add(cell)
            kept.append(number)
        self.numbers.extend(kept)
        return True

    def _refined(self, cell: str, kept: "array[float]") -> bool:
        """Whether times were whole seconds so far, and this one has parts of one: all have now.

        Args:
            cell: the time.
            kept: numbers that are not among `numbers` yet.
        """
        form = finer_form(self.dates, cell) if self._found else ""
        if not form:
            return False
        scale = round(seconds_of(self.dates) / seconds_of(form))
        for numbers in (self.numbers, kept):
            if any(abs(number) * scale >= EXACT for number in numbers):
                return False
        for numbers in (self.numbers, kept):
            numbers[:] = array("d", (number * scale for number in numbers))
        self.dates, self._bare = form, True
        return True

    def to_text(self) -> None:
        """Make text of numbers that are dates, or codes, as it stood in the file."""
        form = self.dates
        self.kind, self.mixed, self.dates = "text", not form, ""
        for number in self.numbers:
            self.codes.append(
                -1
                if math.isnan(number)
                else self.index.setdefault(
                    date_of(form, self.start + int(number) * self.step, self._bare)
                    if form
                    else str(int(number)),
                    len(self.index),
                )
            )
            self.known += not math.isnan(number)
        self.numbers, self.writing = array("d"), Writing()

    def _extend_text(self, cells: list[str | None], where: Sequence[str]) -> None:
        index = self.index
        for cell, place in zip(cells, where, strict=True):
            if cell is None:
                self.codes.append(-1)
                continue
            self.known += 1
            if cell not in index:
                self._check(cell, place)
                index[cell] = len(index)
                if len(index) > self.cap:
                    if len(index) == self.known and not self.told:
                        self._forget()
                        return
                    raise ValueError(
                        f"{place}, column {self.name!r}: more than {self.cap:,} different texts: "
                        f"leave it out ({said('leave_out', [self.name])}), throw those in few rows "
                        f"together ({said('rare', 5)}), or raise {said('max_classes')}"
                        f"{self.hint or date_hint(cell)}"
                    )
            self.codes.append(index[cell])

    def _check(self, cell: str, place: str) -> None:
        if self.wanted:
            return
        here = f"{place}, column {self.name!r}: {cell!r}"
        if is_code(cell):
            if self.mixed and len(cell) != self._digits:
                raise ValueError(
                    f"{here} has {len(cell)} digits, and all before it have {self._digits}{_MEND}"
                )
            self.code = self.code or f"{cell!r} in {place}"
        elif self.index and NUMBER.fullmatch(cell):
            if not (self.code and cell.isdigit() and len(cell) == self._digits):
                raise ValueError(
                    f"{here} is a number, and text is before it "
                    f"({self.code or repr(next(iter(self.index)))}): if it is a name too, say in "
                    "the schema that the column is categorical"
                )
            self.mixed = True
        self._count(cell)
        if _COMMA.fullmatch(cell):
            raise ValueError(
                f"{here} is a number with a comma: write numbers with points alone, or say in the "
                "schema that the column is categorical"
            )

    def _count(self, cell: str) -> None:
        if cell.isdigit():
            self._digits = len(cell) if self._digits in (0, len(cell)) else -1

    def _form(self, cell: str, place: str) -> str:
        found = form_of(cell)
        if not found:
            raise ValueError(
                f"{place}, column {self.name!r}: the form of {cell!r} cannot be told: give it "
                "in the schema, {kind: date, format: '%d/%m/%Y'}"
            )
        return found

    def _forget(self) -> None:
        self.kind, self.codes, self.index = "identifier", array("i"), {}


def date_hint(cell: str) -> str:
    """What to do where a text looks like a date that can be read in two ways; "" where not."""
    found = _STROKES.match(cell)
    if found is None:
        return ""
    rest = re.sub("[0-9]+", "{}", cell[found.end() :])
    times = {" {}:{}": " %H:%M", " {}:{}:{}": " %H:%M:%S"}
    mark = "-" if "-" in found.group() else "/"
    return _DATES.format(f"%d{mark}%m{mark}%Y{times.get(rest, '')}")


def _there(cell: str) -> str:
    return "" if cell.strip().lower() in GAPS else "there"


def _is_number(cell: str) -> bool:
    return NUMBER.fullmatch(cell) is not None and not is_code(cell)


def read_columns(
    table: Rows,
    leave_out: Iterable[str],
    wanted: Mapping[str, Cells],
    cap: int,
    forms: Mapping[str, str] | None = None,
    gaps: Collection[str] = (),
) -> tuple[dict[str, Stored], "array[int]", dict[str, str]]:
    """Read a table to its end.

    Args:
        table: open.
        leave_out: columns that are not read.
        wanted: text, number or date, of columns of which it is known.
        cap: how many different texts a column may have.
        forms: of dates, where they are known.
        gaps: columns of text of which no more is kept than where they are missing.

    Returns:
        The columns by name; where in the file each row is; and of columns that are refused, and are
        not among these, what is wrong with them, as `Stored` has it.

    Raises:
        ValueError: rows of another length than the header.
    """
    forms, faults = forms or {}, dict[str, str]()
    given = {**dict.fromkeys(table.words, "text"), **wanted}
    columns: dict[str, Stored] = {}
    for name in table.names:
        if name not in leave_out:
            known: Any = given.get(name)
            columns[name] = Stored(name, known, cap, name in wanted, name not in table.words)
            columns[name].dates = forms.get(name, "")
            columns[name].arrow = table.types.get(name, "")
    where: array[int] = array("q")
    while rows := list(itertools.islice(table.rows, _CHUNK)):
        for place, cells in rows:
            table.check(place, cells)
        places = [f"{table.unit} {place}" for place, _ in rows]
        for name, column in zip(table.names, zip(*(c for _, c in rows), strict=True), strict=True):
            if name in columns:
                try:
                    columns[name].extend(map(_there, column) if name in gaps else column, places)
                except ValueError as error:
                    faults[name] = str(error)
                    del columns[name]
        where.extend(place for place, _ in rows)
    for stored in columns.values():
        stored.close()
    return columns, where, faults
