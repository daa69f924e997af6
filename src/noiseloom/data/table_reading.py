"""Columns of a table on their way to tokens: what is left out, held out, and a class."""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from noiseloom.data.characters import smallest
from noiseloom.data.folder import HELD_OUT, TRAIN
from noiseloom.data.option_names import said
from noiseloom.data.split import Split
from noiseloom.data.table_columns import Classes, Column
from noiseloom.data.table_files import ColumnError
from noiseloom.data.table_making import categorical, numeric
from noiseloom.data.table_rules import Comparison
from noiseloom.data.table_schema import Defaults, Wish
from noiseloom.data.table_store import Stored, date_hint
from noiseloom.data.table_vocabulary import CONSTANT, TableVocabulary, left_by
from noiseloom.data.tokens import Tokens

__all__ = ["Reading"]


class Reading:
    """The columns of a file, each let go once it is tokens.

    Args:
        columns: by name.
        where: in the file each row is.
        unit: what that counts, line or row.
        left_out: columns that were not read, and why.
        faults: columns that could not be, and why.
        names: of all, as they stand in the file.
    """

    def __init__(
        self,
        columns: dict[str, Stored],
        where: "array[int]",
        unit: str,
        left_out: dict[str, str],
        faults: Mapping[str, str] | None = None,
        names: Sequence[str] = (),
    ) -> None:
        self.faults, self.names = dict(faults or {}), names
        self.columns, self.where, self.unit, self.left_out = columns, where, unit, left_out
        self.notes = [f"column {name!r} is left out: {why}" for name, why in left_out.items()]

    def leave_out(self, name: str, why: str) -> None:
        """Drop a column, and note why."""
        self.left_out[name] = why
        self.notes.append(f"column {name!r} is left out: {why}")
        del self.columns[name]

    def identifiers(self, wishes: Mapping[str, Wish], keep: str | None) -> None:
        """Leave out columns that tell rows apart and say nothing of them."""
        for name, column in list(self.columns.items()):
            if name in wishes or name == keep:
                continue
            if column.kind == "identifier":
                told = "every row has another text"
                if column.known < len(self.where):
                    told = f"its first {column.known:,} texts are all different"
                self.leave_out(name, told + column.hint)
                continue
            whole = column.kind == "number" and not (column.pointed or column.dates)
            whole = whole and len(self.where) >= 8
            if whole and (np.diff(column.values()) == 1).all():
                self.leave_out(name, f"it counts the rows{column.hint}")

    def rows(self, missing: str) -> NDArray[np.intp]:
        """The rows that are kept."""
        gaps = np.zeros(len(self.where), dtype=np.bool_)
        for column in self.columns.values():
            found = column.missing(len(self.where))
            if missing == "refuse" and found.any():
                raise ValueError(
                    f"{self._place(found.argmax())}, column {column.name!r}: a value is missing "
                    f"({found.sum():,} are): choose {said('missing', 'class')} or "
                    f"{said('missing', 'drop')}"
                )
            gaps |= found
        if missing == "drop" and gaps.any():
            self.notes.append(
                f"{gaps.sum():,} of {len(gaps):,} rows with missing values are left out"
            )
            return np.flatnonzero(~gaps)
        if gaps.any():
            self.notes.append(
                f"{gaps.sum():,} of {len(gaps):,} rows have missing values, which are a class"
            )
        return np.arange(len(gaps))

    def by_column(
        self, column: Stored, rows: NDArray[np.intp], value: str | None
    ) -> NDArray[np.bool_]:
        """Which of the rows are held out, as a column says."""
        here = f"column {column.name!r}"
        if column.missing(len(self.where))[rows].any():
            raise ValueError(f"{here} is missing in some rows, and says what is held out")
        words = list(column.index)
        if value is None:
            unknown = [word for word in words if word.lower() not in TRAIN | HELD_OUT]
            if unknown:
                raise ValueError(
                    f"{here} has {unknown[0]!r}, which is neither train nor test: say which value "
                    f"is held out, {said('held_out_value')}"
                )
            chosen = np.array([word.lower() in HELD_OUT for word in words])
        else:
            chosen = np.array([word == value for word in words])
        held: NDArray[np.bool_] = chosen[np.frombuffer(column.codes, dtype=np.int32)[rows]]
        if held.all() or not held.any():
            told = "all rows" if held.all() else "no row"
            raise ValueError(f"{here} holds out {told}, and both parts need one")
        return held

    def tokens(
        self,
        rows: NDArray[np.intp],
        held: NDArray[np.bool_],
        wishes: Mapping[str, Wish],
        defaults: Defaults,
        constant: str,
        rules: Sequence[str] = (),
    ) -> tuple[Split[Tokens], TableVocabulary]:
        """Tokens of the rows, by classes that are made of those to learn from.

        These rows must keep the rules.

        Raises:
            ColumnError: a column with one value, or a value without a class; the first of them.
            ValueError: a rule that is none, or that a row to learn from breaks.
        """
        train = rows[~held]
        made = []
        for name, stored in list(self.columns.items()):
            try:
                column = self._column(stored, rows, train, wishes.get(name), defaults)
            except ValueError as error:
                self.faults[name] = str(error)
                continue
            if column is not None:
                made.append(column)
            elif constant == "leave_out":
                self.leave_out(name, CONSTANT)
            else:
                self.faults[name] = (
                    f"column {name!r} has one value in all training rows: leave it "
                    f"out ({said('leave_out', [name])}), or all such with "
                    f"{said('constant', 'leave_out')}"
                )
        if self.faults:
            raise self._error(made)
        vocabulary = TableVocabulary(tuple(made), self.left_out, tuple(rules))
        for rule in vocabulary.comparisons():
            self._check(rule, train)
        kind = smallest(max(vocabulary.sizes))
        parts = [torch.empty((int(part.sum()), len(made)), dtype=kind) for part in (~held, held)]
        for c, column in enumerate(made):
            stored = self.columns.pop(column.name)
            try:
                wish = wishes.get(column.name)
                listed = wish is not None and bool(wish.values)
                classes = self._classes(stored, column, rows, held, listed)
            except ValueError as error:
                self.faults[column.name] = str(error)
                raise self._error(made) from error
            for tokens, part in zip(parts, (~held, held), strict=True):
                tokens[:, c] = torch.from_numpy(classes[part])
        sets = [Tokens(tokens, vocabulary.sizes) for tokens in parts]
        return Split(sets[0], sets[1], tuple(self.notes)), vocabulary

    def _check(self, rule: Comparison, train: NDArray[np.intp]) -> None:
        places = [rule.left] if rule.right is None else [rule.left, rule.right]
        columns = [rule.columns[place] for place in places]
        values = [self.columns[column.name].floats()[train] for column in columns]
        broken = ~rule.holds(values)
        if broken.any():
            at = int(broken.argmax())
            told = " and ".join(
                f"{c.name!r} is {c.typed(v[at])}" for c, v in zip(columns, values, strict=True)
            )
            raise ValueError(
                f"{self._place(train[at])}, rule {rule.text!r}: {told} ({broken.sum():,} of "
                f"{len(broken):,} training rows break it): mend the rows, or leave the rule out"
            )

    def _error(self, made: Sequence[Column]) -> ColumnError:
        """The first fault, and what each column is taken for so far."""
        first, *others = self.faults.values()
        known: dict[str, Any] = {column.name: column.schema() for column in made}
        schema = {name: known.get(name, left_by(self.left_out.get(name))) for name in self.names}
        if others:
            more = ", ".join(repr(name) for name in list(self.faults)[1:4])
            more += ", ..." * (len(others) > 3)
            told = "columns are" if len(others) > 1 else "column is"
            first += f"; {len(others)} other {told} refused too: {more}"
        return ColumnError(first, schema, self.faults)

    def _column(
        self,
        stored: Stored,
        rows: NDArray[np.intp],
        train: NDArray[np.intp],
        wish: Wish | None,
        defaults: Defaults,
    ) -> Column | None:
        """The classes of a column; None where training rows have one value."""
        if stored.kind is None:
            return None
        if wish and wish.kind == "integer":
            wrong = np.flatnonzero(stored.values() % 1 > 0)  # not so of NaN
            if len(wrong):
                raise ValueError(
                    f"{self._place(wrong[0])}, column {stored.name!r}: "
                    f"{stored.values()[wrong[0]]:.15g} is no whole number"
                )
        number = stored.kind == "number" and not (wish and wish.kind == "categorical")
        column = (numeric if number else categorical)(stored, train, wish, defaults)
        asked = column is not None and wish is not None and column.size > 1
        if column is None or not (asked or len(np.unique(stored.cells()[train])) > 1):
            return None
        if hint := stored.hint:
            of = "bins" if column.bins else "whole numbers"
            of = "categories" if column.kind == "categorical" else of
            self.notes.append(f"column {stored.name!r} has {of}{hint}")
        missing = stored.missing(len(self.where))
        gaps = int(missing[train].sum())
        # Where only held-out rows lack it too: that values may be missing was chosen beforehand.
        gap = bool(missing[rows].any()) or (wish is not None and wish.missing)
        decimals, digits = stored.writing.of(train) if stored.kind == "number" else ((), 0)
        # Whole numbers of 64 bits tell so themselves, unless they are so large that they are words.
        told = column.type != "text" and stored.arrow == "int64"
        return replace(
            column,
            gap=gap,
            gaps=gaps,
            decimals=decimals,
            digits=digits,
            dates=stored.dates,
            start=stored.start if stored.dates else 0,
            step=stored.step if stored.dates else 0,
            arrow="" if told else stored.arrow,
        )

    def _classes(
        self,
        stored: Stored,
        column: Column,
        rows: NDArray[np.intp],
        held: NDArray[np.bool_],
        listed: bool,
    ) -> Classes:
        cells = stored.cells()[rows]
        if stored.kind == "number":
            classes = column.of_numbers(cells)
            outside = ~column.within(cells)
            if (outside & ~held).any():  # a range of the schema, which may be of other rows
                at = int((outside & ~held).argmax())
                raise ValueError(
                    f"{self._place(rows[at])}, column {column.name!r}: {cells[at]:.15g} is not in "
                    f"{column.lows[0]} .. {column.highs[-1]}, as the schema has it"
                )
            if outside.any():
                self.notes.append(
                    f"column {column.name!r}: {outside.sum():,} of {held.sum():,} held-out numbers "
                    "are beyond those of training rows, or between its bins: they are in the "
                    "nearest class"
                )
        else:
            values = [*map(column.parse, stored.index), None]  # code -1 is a missing value
            classes = column.classes(values)[cells]
        if (classes < 0).any():
            at = int((classes < 0).argmax())
            why = "no training row has it" if held[at] and not listed else "the schema has none"
            self._refuse(stored, column, rows[at], why)
        return classes

    def _refuse(self, stored: Stored, column: Column, row: int | np.intp, why: str) -> None:
        cell = stored.cells()[row]
        text = list(stored.index)[cell] if stored.kind == "text" else f"{cell:.15g}"
        raise ValueError(
            f"{self._place(row)}, {column.refusal(text)}: {why}; give {said('rare', 1)} or "
            f"more, or other: true in the schema{date_hint(text)}"
        )

    def _place(self, row: int | np.intp) -> str:
        return f"{self.unit} {self.where[int(row)]}"
