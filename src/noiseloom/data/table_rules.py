"""Rules between the columns of a table: comparisons of two columns, or of a column and a number.

    low <= high
    price >= 0
    born < 2020-01-01

Times with an offset from UTC are compared as instants, and only with others that have one.

A value that is missing, or "other", keeps any rule. A row of classes keeps a rule where some
numbers in its intervals do: that an interval holds more than its numbers can say is no fault of
who draws it, and the tokens of a row that keeps a rule do so, too.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noiseloom.data.table_columns import NUMBER, Column, Reals
from noiseloom.data.table_dates import form_of, number_of, offset_of, seconds_of

__all__ = ["Comparison", "comparison"]

Truths: TypeAlias = NDArray[np.bool_]
Ends: TypeAlias = tuple[Reals, Reals, Truths]
"""Low and high ends, and whether a high belongs to its interval."""

_SIGN = re.compile(r"<=|>=|==|!=|<|>")
_TURNED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}
_LAWS: dict[str, Callable[[Reals, Reals], Truths]] = {
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
    "==": np.equal,
    "!=": np.not_equal,
}


@dataclass(frozen=True)
class Comparison:
    """A rule that a row keeps or breaks.

    Attributes:
        text: as it was given.
        left: place of a column.
        sign: one of < <= > >= == !=.
        right: place of another, or None for a number.
        number: that one; of a column of dates in seconds, of UTC where it has an offset.
        columns: all of the table.
    """

    text: str
    left: int
    sign: str
    right: int | None
    number: float
    columns: tuple[Column, ...]

    def holds(self, values: Sequence[Reals]) -> Truths:
        """Which rows keep it, bool (N,).

        Args:
            values: numbers of the left column, and of the right one if there is one, NaN where they
                are missing, each of shape (N,).
        """
        a = _counted(self.columns[self.left], values[0])
        b = np.full_like(a, self.number)
        if self.right is not None:
            b = _counted(self.columns[self.right], values[1])
        return _LAWS[self.sign](a, b) | np.isnan(a) | np.isnan(b)

    def __call__(self, rows: Tensor) -> Tensor:
        """Which rows of classes (N, T) can keep it, bool (N,)."""
        a, b = self._ends(self.left, rows), self._ends(self.right, rows)
        if self.sign in (">", ">="):
            a, b = b, a
        found = {
            "<": a[0] < b[1],
            "<=": _reaches(a, b),
            "==": _reaches(a, b) & _reaches(b, a),
            "!=": (a[0] < a[1]) | (b[0] < b[1]) | (a[0] != b[0]),
        }
        return torch.from_numpy(found[self.sign.replace(">", "<")])

    def _ends(self, place: int | None, rows: Tensor) -> Ends:
        """Of the numbers that each row may have in a column, or of the number."""
        if place is None:
            number = np.full(len(rows), self.number)
            return number, number, np.ones(len(rows), dtype=np.bool_)
        low, high, closed = self.columns[place].ends()
        at, column = rows[:, place].cpu().long().numpy(), self.columns[place]
        return _counted(column, low[at]), _counted(column, high[at]), closed[at]


def comparison(text: str, columns: Sequence[Column]) -> Comparison:
    """Read a rule.

    Args:
        text: of two names of columns, or a name and a number (a date, of a column of dates), with
            a sign between them: < <= > >= == or !=.
        columns: all of the table.

    Raises:
        ValueError: no such rule, a name that is none, a column of text, dates and numbers, or times
            of which some have an offset.
    """
    names = [column.name for column in columns]
    signs = list(_SIGN.finditer(text))
    for match in signs:  # a name may have a sign in it
        sign, left, right = match[0], text[: match.start()].strip(), text[match.end() :].strip()
        if left not in names and right in names:
            sign, left, right = _TURNED[sign], right, left
        if left not in names or (right in names and left == right):
            continue
        column = _compared(text, columns[names.index(left)])
        if right in names:
            other = _compared(text, columns[names.index(right)])
            if bool(column.dates) != bool(other.dates):
                raise ValueError(f"rule {text!r}: one column has dates, and the other numbers")
            _check_offsets(text, column, other)
            there = names.index(right)
            return Comparison(text, names.index(left), sign, there, 0.0, tuple(columns))
        number = _number(column, right)
        if number is not None:
            return Comparison(text, names.index(left), sign, None, number, tuple(columns))
        if column.dates:
            raise ValueError(
                f"rule {text!r}: {right!r} is neither a column nor a date as {left!r} has them, "
                f"{column.dates}"
            )
    raise ValueError(
        f"rule {text!r} must be a column, one of < <= > >= == != and another column or a number"
        f"{' (a date, of a column of dates)' * any(c.dates for c in columns)}; columns are "
        f"{', '.join(names)}"
    )


def _compared(text: str, column: Column) -> Column:
    if column.type == "text":
        dates = all(form_of(str(value)) for value in column.values)
        few = (
            f": its dates are categories, as they are few; write {column.name}: date in the schema"
        )
        raise ValueError(
            f"rule {text!r}: column {column.name!r} has text, and rules compare numbers or dates"
            f"{few * dates}"
        )
    return column


def _check_offsets(text: str, *columns: Column) -> None:
    told = [column for column in columns if offset_of(column.dates) is not None]
    if len(told) == 1:
        other = next(column for column in columns if column is not told[0])
        raise ValueError(
            f"rule {text!r}: {told[0].name!r} has an offset from UTC, and {other.name!r} none "
            f"({told[0].dates}, {other.dates}): they cannot be compared"
        )


def _number(column: Column, text: str) -> float | None:
    if column.dates:
        found = number_of(column.dates, text, strict=False)
        return None if found is None else float(_seconds(column.dates, np.array(float(found))))
    return float(text) if NUMBER.fullmatch(text) else None


def _counted(column: Column, numbers: Reals) -> Reals:
    """Its numbers, those of dates in seconds, of UTC where they have an offset."""
    if not column.dates:
        return numbers
    return _seconds(column.dates, column.start + numbers * column.step)


def _seconds(form: str, units: Reals) -> Reals:
    """Seconds of dates, the same of the same instant whatever its unit."""
    one, ahead = seconds_of(form), offset_of(form) or 0
    if one >= 1:
        return units * one - ahead
    each = round(1 / one)  # divided, not multiplied: whole numbers, and one rounding of a quotient
    return (units - ahead * each) / each


def _reaches(a: Ends, b: Ends) -> Truths:
    """Whether some number of a is at most one of b."""
    found: Truths = (a[0] < b[1]) | ((a[0] == b[1]) & b[2])
    return found
