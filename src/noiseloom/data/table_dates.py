"""Dates of a table as whole numbers, and back as the file has them.

A form is what `strftime` takes. Those of the list can be read in one way only: a point between
numbers is put after the day, as in German, and a dash or stroke after the year; 05/01/2024 is the
fifth of January to some and the first of May to others, and has to be told by a schema. A number
counts days, seconds where a form has times, or microseconds where it has parts of a second, from
the beginning of 1970.
"""

from datetime import datetime, timedelta
from functools import lru_cache

__all__ = ["FORMS", "coarsest", "date_like", "date_of", "form_of", "number_of", "seconds_of"]

_TIMES = ("", "{}%H:%M", "{}%H:%M:%S", "{}%H:%M:%S.%f")
_ISO = [f"%Y-%m-%d{time.format(mark)}" for time in _TIMES for mark in (" ", "T")]
_ZONED = [form + zone for form in _ISO if "%S" in form for zone in ("Z", "+00:00")]
_OTHERS = [
    day + time.format(" ") for day in ("%Y/%m/%d", "%Y.%m.%d", "%d.%m.%Y") for time in _TIMES[:3]
]
_NAMED = ["%d %b %Y", "%d-%b-%Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y"]
FORMS = tuple(dict.fromkeys([*_ISO, *_ZONED, *_OTHERS, *_NAMED]))
"""In which dates are found, without a schema."""

_START = datetime(1970, 1, 1)
_EXACT = 2**53  # whole numbers below are floats


def form_of(cell: str) -> str:
    """The form of a date; "" where it is none."""
    if not 8 <= len(cell) <= 32 or sum(c.isdigit() for c in cell) < 5:
        return ""
    return next((form for form in FORMS if number_of(form, cell) is not None), "")


@lru_cache(65_536)
def number_of(form: str, cell: str, strict: bool = True) -> int | None:
    """What a date counts as; None where it is no such date.

    Args:
        form: as of `strftime`.
        cell: of a file.
        strict: only a cell that `date_of` writes again, letter by letter.
    """
    if form.endswith(".%f") and "." not in cell:
        cell += ".000000"  # as Python writes times that are whole seconds
    try:
        moment = datetime.strptime(cell, form).replace(tzinfo=None)
        if strict and moment.strftime(form) != cell:
            return None
    except ValueError:
        return None
    found = (moment - _START) // _unit(form)
    return found if abs(found) < _EXACT else None


def date_of(form: str, number: int) -> str:
    """The date that a number counts as, as a cell."""
    return (_START + number * _unit(form)).strftime(form)


def date_like(form: str) -> bool:
    """Whether a form says day, month and year, and tells days apart when it is read again."""
    day = datetime(2024, 5, 17)
    try:
        found = datetime.strptime(day.strftime(form), form)
    except ValueError:
        return False
    return found.replace(tzinfo=None) == day


def coarsest(form: str, numbers: set[int]) -> int:
    """The largest of a second, minute, hour and day that all times are whole numbers of.

    Returns:
        How many units of the form that is.
    """
    unit = _unit(form)
    for step in (timedelta(days=1), timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)):
        if step >= unit and not any(number % (step // unit) for number in numbers):
            return step // unit
    return 1


def seconds_of(form: str) -> float:
    """Seconds of the unit of a form."""
    return _unit(form).total_seconds()


def _unit(form: str) -> timedelta:
    if "%f" in form:
        return timedelta(microseconds=1)
    return timedelta(seconds=1) if "%H" in form or "%I" in form else timedelta(days=1)
