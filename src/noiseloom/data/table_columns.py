"""A column of a table as classes: categories, whole numbers one by one, or bins of numbers."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from noiseloom.data.table_dates import EXACT, date_of, number_of
from noiseloom.data.table_numbers import Reals, counted, drawn, lost_zero, written
from noiseloom.rng import Rng

__all__ = ["GAPS", "NUMBER", "OTHER", "Column", "Kind", "Reals", "Value"]

Value: TypeAlias = str | int | float | None
Kind: TypeAlias = Literal["categorical", "integer", "real"]
Classes: TypeAlias = NDArray[np.int64]

GAPS = frozenset(("", "na", "n/a", "nan", "null", "?"))
"""Cells that are missing values, in small letters."""

# A number that begins with 0 (a postcode, 02134) is none: its zero would be lost.
NUMBER = re.compile(r"[+-]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")

OTHER = "other"
"""How the class of all values that have none of their own is written."""


@dataclass(frozen=True)
class Column:
    """What the classes 0 .. K - 1 of a column mean.

    First come the values or the intervals, then the class `other`, then that of missing values,
    where there are such.

    Attributes:
        name: of the column.
        kind: categorical, integer or real.
        type: of its values: text, integer or real.
        values: of categories, different ones; empty for other kinds.
        lows: least number of each interval, increasing; of integers these are whole numbers.
        highs: largest number of each interval, >= its low; a real interval that touches the next is
            open at its high. An interval whose ends are equal is one number, and exact.
        medians: of the numbers in each, one of them.
        other: whether values that are none of `values` have a class; where a category is itself
            called "other", it is that one.
        gap: whether missing values have a class.
        gaps: rows that were missing in training.
        bins: how many intervals were asked for; 0 of categories, and of whole numbers one by one.
        decimals: fewest and most digits after the point in training rows, as `Writing.of` has
            them; empty where they are not known.
        digits: the most of a number there; 0 where they are not known.
        dates: of whole numbers that are dates, the form of these (`noiseloom.data.table_dates`).
        start: what 0 counts as then, in units of the form, from 0 to `step` - 1.
        step: how many of these units one of the numbers is; 0 where there is no form.
        arrow: type of a .parquet file's column, where its cells do not tell, as of truth values,
            dates or whole numbers of 8 bits; "" of others.

    Raises:
        ValueError: none or equal values, intervals that overlap or hold no number.
    """

    name: str
    kind: Kind
    type: Literal["text", "integer", "real"]
    values: tuple[str | int | float, ...] = ()
    lows: tuple[int | float, ...] = ()
    highs: tuple[int | float, ...] = ()
    medians: tuple[int | float, ...] = ()
    other: bool = False
    gap: bool = False
    gaps: int = 0
    bins: int = 0
    decimals: tuple[int, ...] = ()
    digits: int = 0
    dates: str = ""
    start: int = 0
    step: int = 0
    arrow: str = ""

    def __post_init__(self) -> None:
        here = f"column {self.name!r}"
        if self.kind not in ("categorical", "integer", "real") or not isinstance(self.name, str):
            raise ValueError(f"{here} is of no known kind: {self.kind!r}")
        if self.type not in ("text", "integer", "real"):
            raise ValueError(f"{here} has values of no known type: {self.type!r}")
        if len(self.decimals) not in (0, 2) or not all(_is(d, int) for d in self.decimals):
            raise ValueError(f"{here} has decimals {self.decimals}, and not fewest and most")
        if self.dates and (self.kind != "integer" or self.step < 1):
            raise ValueError(f"{here} has dates that are no whole numbers")
        if self.kind == "categorical":
            allowed: type | tuple[type, ...] = str if self.type == "text" else (int, float)
            if not self.values or not all(_is(value, allowed) for value in self.values):
                raise ValueError(f"{here} needs values that are all {self.type}")
            if len(set(self.values)) < len(self.values):
                raise ValueError(f"{here} has a value twice")
            return
        ends = np.array([self.lows, self.medians, self.highs], dtype=np.float64)
        ordered = ends.T.flatten()
        if not ordered.size or not np.isfinite(ordered).all() or (np.diff(ordered) < 0).any():
            raise ValueError(f"{here} has intervals that overlap or hold no number")
        if (np.diff(ends[0]) <= 0).any():
            raise ValueError(f"{here} has an interval twice")
        if self.kind == "integer" and (ends % 1).any():
            raise ValueError(f"{here} has whole numbers in intervals that do not begin so")

    @property
    def size(self) -> int:
        """K, the number of classes."""
        return len(self.values or self.lows) + len(self._rest())

    @property
    def exact(self) -> bool:
        """Whether every value is a class, so that nothing is lost."""
        return self.lows == self.highs

    def parse(self, cell: object) -> Value:
        """The value of a cell of a file, or of a value: None where it is missing.

        A date is the number that it counts as, in steps of the column, rounded down.

        Raises:
            ValueError: no number, or no whole one, or no date, where the column has them.
        """
        if cell is None or (isinstance(cell, float) and math.isnan(cell)):
            return None
        text = (str(cell).lower() if isinstance(cell, bool) else str(cell)).strip()
        if text.lower() in GAPS:
            return None
        if self.type == "text" or (self.kind == "categorical" and text == OTHER):
            return text
        if self.dates:
            found = number_of(self.dates, text, strict=False)
            if found is None:
                raise ValueError(f"{text!r} is no date as {self.dates} has it")
            return (found - self.start) // self.step
        if not NUMBER.fullmatch(text) or not math.isfinite(float(text)):
            raise ValueError(f"{text!r} is no finite number{lost_zero(text)}")
        number = float(text)
        if self.kind == "integer" and not number.is_integer():
            raise ValueError(f"{text!r} is no whole number")
        return int(number) if self.type == "integer" and number.is_integer() else number

    def classes(self, values: Sequence[Value]) -> Classes:
        """Classes of values, int64, shape (N,); -1 where a value has none."""
        if self.kind == "categorical":
            return self._of(self._places(), values)
        numbers = np.array([math.nan if v is None else v for v in values], dtype=np.float64)
        return self.of_numbers(numbers)

    def of_numbers(self, numbers: Reals) -> Classes:
        """Classes of numbers, of which missing ones are NaN; -1 where a number has none.

        Numbers outside of all intervals are in the nearest, though not in one that is a single
        number where there is another: next to a heap of zeros lies no zero.
        """
        missing = np.isnan(numbers)
        gap = self.size - 1 if self.gap else -1
        if self.kind == "categorical":
            unique, inverse = np.unique(numbers[~missing], return_inverse=True)
            found = np.full(len(numbers), gap, dtype=np.int64)
            found[~missing] = self._of(self._places(), unique.tolist())[inverse]
            return found
        lows, highs = (np.array(ends, dtype=np.float64) for ends in (self.lows, self.highs))
        known = np.where(missing, lows[0], numbers)
        left = (np.searchsorted(lows, known, side="right") - 1).clip(0)
        right = (left + 1).clip(max=len(lows) - 1)
        point = lows == highs
        nearer = np.abs(lows[right] - known) < np.abs(known - highs[left])
        choose = np.where(point[left] == point[right], nearer, point[left])
        outside = (known > highs[left]) & (right > left)
        return np.where(missing, gap, np.where(outside & choose, right, left)).astype(np.int64)

    def within(self, numbers: Reals) -> NDArray[np.bool_]:
        """Whether each number lies in the interval of its class; categories and gaps do."""
        if self.kind == "categorical":
            return np.ones(len(numbers), dtype=np.bool_)
        at = self.of_numbers(numbers).clip(0, len(self.lows) - 1)
        inside = (numbers >= np.array(self.lows)[at]) & (numbers <= np.array(self.highs)[at])
        found: NDArray[np.bool_] = inside | np.isnan(numbers)
        return found

    def decode(self, classes: Classes, rng: Rng | None = None) -> list[Value]:
        """Values of classes, shape (N,).

        Args:
            classes: 0 .. K - 1.
            rng: one key or a key for each row, draws uniformly within an interval, of the numbers
                that the file might have there (`noiseloom.data.table_numbers`); without it an
                interval gives its median.
        """
        if self.kind == "categorical" or rng is None:
            values = [*(self.values or map(self.typed, self.medians)), *self._rest()]
            return [values[k] for k in classes.tolist()]
        at = classes.clip(max=len(self.lows) - 1)
        low, high, closed = (ends[at] for ends in self._ends())
        whole = self.kind == "integer"
        numbers = drawn(
            low, high, closed, rng, whole=whole, decimals=self.decimals, digits=self.digits
        )
        found = [self.typed(value) for value in numbers.tolist()]
        return [v if k < len(self.lows) else None for v, k in zip(found, classes, strict=True)]

    def text(self, value: Value) -> str:
        """A value as the file would have it; empty where it is missing."""
        return written(value, self.decimals)

    def known(self, cell: str) -> str:
        """A cell that a person gave, as the column writes it; a time between its steps stays so.

        Raises:
            ValueError: as `parse`.
        """
        value = self.parse(cell)
        if self.dates and value is not None:
            found = number_of(self.dates, cell.strip(), strict=False)
            return date_of(self.dates, found) if found is not None else cell
        whole = self.type == "integer" and isinstance(value, int) and abs(value) < EXACT
        return str(value) if whole else cell

    def log_widths(self) -> Reals:
        """Nats that a class loses, (K,): log(high - low), of whole numbers log(how many there are).

        The density of a number in class k is p(k) e^-nats; of one that is its own class, category
        or gap, 0 nats: there p(k) is a probability.
        """
        found = np.zeros(self.size)
        if self.kind != "categorical":
            low, high, closed = self._ends()
            width = np.where(high > low, high - low, 1)
            if self.kind == "integer":
                width = counted(low, high, closed, 0)[1]
                coarse = counted(low, high, closed, min((0, *self.decimals[1:])))[1]
                width = np.where(coarse > 0, coarse, width)
            found[: len(width)] = np.log(width)
        return found

    def ends(self) -> tuple[Reals, Reals, NDArray[np.bool_]]:
        """Low and high of the numbers of each class, (K,), and whether a high is one of them.

        Classes of values that are missing, or are others, may be any number.
        """
        if self.kind == "categorical":
            low = high = np.array(self.values, dtype=np.float64)
            closed = np.ones(len(low), dtype=np.bool_)
        else:
            low, high, closed = self._ends()
        rest = np.full(len(self._rest()), np.inf)
        return np.append(low, -rest), np.append(high, rest), np.append(closed, rest < 0)

    @property
    def called(self) -> str:
        """The kind, with what its classes are."""
        kind = "date" if self.dates else self.kind
        return f"{kind}, in bins" if self.bins else kind

    @property
    def examples(self) -> str:
        """Some values, for a table that people read."""
        if self.kind != "categorical":
            ends = (self.lows[0], self.highs[-1])
            if self.dates:
                return " .. ".join(str(self.typed(end)) for end in ends)
            return " .. ".join(f"{end:g}" if self.kind == "real" else str(end) for end in ends)
        some = ", ".join(" ".join(str(value).split())[:24] for value in self.values[:3])
        return some + ", ..." * (len(self.values) > 3)

    def refusal(self, value: Value) -> str:
        """What is wrong with a value that has no class."""
        if value is None:
            return f"column {self.name!r}: a value is missing, and there is no class for that"
        return f"column {self.name!r}: there is no class for {value!r}"

    def schema(self) -> dict[str, Any]:
        """What a schema says of it."""
        found: dict[str, Any] = {"kind": self.kind}
        if self.kind == "categorical":
            found["values"] = list(self.values)
        elif self.dates:
            found = {"kind": "date", "format": self.dates}
            found |= {"bins": self.bins} if self.bins else {}
        elif self.bins:
            found["bins"] = self.bins
        else:
            found |= {"low": self.lows[0], "high": self.highs[-1]}
        settings = {"other": self.other, "missing": self.gap}
        return found | {name: True for name, said in settings.items() if said}

    def facts(self) -> dict[str, Any]:
        """Plain JSON values; what is empty is left out."""
        found = {name: getattr(self, name) for name in self.__dataclass_fields__}
        found = {k: list(v) if isinstance(v, tuple) else v for k, v in found.items()}
        return {name: value for name, value in found.items() if value or name == "name"}

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> "Column":
        """Make it again of what `facts` gave.

        Raises:
            ValueError: other facts.
        """
        try:
            found: dict[str, Any] = {
                k: tuple(v) if isinstance(v, list) else v for k, v in facts.items()
            }
            return cls(**found)
        except (TypeError, AttributeError) as error:
            raise ValueError(f"these are no facts of a column: {error}") from error

    def _rest(self) -> list[Value]:
        """What the classes after the values or intervals decode to."""
        return [OTHER] * (self.other and OTHER not in self.values) + [None] * self.gap

    def _ends(self) -> tuple[Reals, Reals, NDArray[np.bool_]]:
        """Lows, highs and whether these belong to their intervals."""
        low, high = (np.array(ends, dtype=np.float64) for ends in (self.lows, self.highs))
        touches = np.append(low[1:] == high[:-1], False)
        return low, high, ~touches | (low == high)

    def _places(self) -> dict[object, int]:
        return {value: place for place, value in enumerate(self.values)}

    def _of(self, places: Mapping[object, int], values: Sequence[Value]) -> Classes:
        other = places.get(OTHER, len(self.values)) if self.other else -1
        gap = self.size - 1 if self.gap else -1
        found = (gap if v is None else places.get(v, other) for v in values)
        return np.fromiter(found, dtype=np.int64, count=len(values))

    def typed(self, value: int | float) -> int | float | str:
        """A number of the column as a value: a date as it is written, or of its type."""
        if self.dates:
            return date_of(self.dates, self.start + int(value) * self.step)
        return int(value) if self.type == "integer" else float(value)


def _is(value: object, allowed: type | tuple[type, ...]) -> bool:
    return isinstance(value, allowed) and not isinstance(value, bool)
