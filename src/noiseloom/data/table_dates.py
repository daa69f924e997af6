"""Dates of a table as whole numbers, and back as the file has them.

A form is what `strftime` takes. Those of the list can be read in one way only: a point between
numbers is put after the day, as in German, and a dash or stroke after the year; 05/01/2024 is the
fifth of January to some and the first of May to others, and has to be told by a schema. Times of
ISO may end in an offset from UTC, which is a part of the form, so that all of a column have the
same: Z, +02:00, +0200 or +02. A number counts days, seconds where a form has times, or milli- or
microseconds where it has parts of a second (%3f, which `strftime` does not know, or %f), from the
beginning of 1970 by the same clock; `offset_of` is what that clock is ahead of UTC.
"""

import math
import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import lru_cache

__all__ = [
    "EXACT",
    "FORMS",
    "date_like",
    "date_of",
    "finer_form",
    "form_of",
    "number_of",
    "offset_of",
    "seconds_of",
    "spacing",
    "strides",
    "without_marks",
]

_TIMES = ("", "{}%H:%M", "{}%H:%M:%S", "{}%H:%M:%S.%f")
_ISO = [f"%Y-%m-%d{time.format(mark)}" for time in _TIMES for mark in (" ", "T")]
_OTHERS = [
    day + time.format(" ") for day in ("%Y/%m/%d", "%Y.%m.%d", "%d.%m.%Y") for time in _TIMES[:3]
]
_NAMED = ["%d %b %Y", "%d-%b-%Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y"]
FORMS = tuple(dict.fromkeys([*_ISO, *_OTHERS, *_NAMED]))
"""In which dates are found, without a schema; those of ISO also with milliseconds and offsets."""

EXACT = 2**53
"""Whole numbers below are floats, and all dates are counted as such."""
_START = datetime(1970, 1, 1)
_OFFSET = re.compile(r"%(?:[HMSfp]|3f) ?(?:Z|UTC|([+-][0-9]{2}):?([0-9]{2})?)$")
_PART = re.compile(r"\.%3?f")
_TAIL = re.compile(
    r"(.{11}[0-9]{2}:[0-9]{2}(?::[0-9]{2})?)(\.[0-9]{3}(?:[0-9]{3})?)?(Z|[+-](?:0[0-9]|1[0-4])(?::?[0-5][0-9])?)?"
)


def form_of(cell: str) -> str:
    """The form of a date; "" where it is none."""
    if not 8 <= len(cell) <= 32 or sum(c.isdigit() for c in cell) < 5:
        return ""
    found = _TAIL.fullmatch(cell)
    if found is None or not (found[2] or found[3]):
        return next((form for form in FORMS if number_of(form, cell) is not None), "")
    part = {0: "", 4: ".%3f", 7: ".%f"}[len(found[2] or "")]
    for form in _ISO:
        fits = form.endswith("%S") or (form.endswith("%M") and not part)
        if fits and number_of(form, found[1]) is not None:
            return form + part + (found[3] or "")
    return ""


def finer_form(form: str, cell: str) -> str:
    """The form of a time with parts of a second, where another has none; "" else."""
    found = form_of(cell)
    return found if found != form and _PART.sub("", found) == form else ""


@lru_cache(65_536)
def number_of(form: str, cell: str, strict: bool = True) -> int | None:
    """What a date counts as; None where it is no such date.

    Args:
        form: as of `strftime`.
        cell: of a file.
        strict: only a cell that `date_of` writes again, letter by letter.
    """
    # Python writes times that are whole seconds without parts of one.
    here = form if "." in cell else _PART.sub("", form)
    try:
        moment = datetime.strptime(cell, here.replace("%3f", "%f")).replace(tzinfo=None)
        if strict and _written(here, moment) != cell:
            return None
    except ValueError:
        return None
    found = (moment - _START) // _unit(form)
    return found if abs(found) < EXACT else None


def date_of(form: str, number: int, bare: bool = False) -> str:
    """The date that a number counts as, as a cell.

    Args:
        form: as of `strftime`.
        number: as `number_of` has it.
        bare: whole seconds are written without parts of one.
    """
    moment = _START + number * _unit(form)
    return _written(_PART.sub("", form) if bare and not moment.microsecond else form, moment)


def date_like(form: str) -> bool:
    """Whether a form says day, month and year, and tells days apart when it is read again."""
    day = datetime(2024, 5, 17)
    try:
        found = datetime.strptime(_written(form, day), form.replace("%3f", "%f"))
    except ValueError:
        return False
    return found.replace(tzinfo=None) == day


def without_marks(numbers: Iterable[float]) -> bool:
    """Whether some numbers are all dates from 1900 to 2100 that are written as 20240101."""
    return all(
        19_000_101 <= number <= 21_001_231 and number_of("%Y%m%d", f"{number:.0f}") is not None
        for number in numbers
    )


def spacing(numbers: set[int]) -> tuple[int, int]:
    """The first, from 0 on, and the step of the coarsest grid that has all of some numbers.

    The step is the greatest common divisor of their differences: 7 days of Mondays, whose first is
    4, as 1970 began with a Thursday. Months have no such step, but of days.
    """
    low = min(numbers, default=0)
    step = math.gcd(*(number - low for number in numbers)) or 1
    return low % step, step


def strides(form: str, start: int, step: int) -> int:
    """How many days, or hours, minutes or seconds if it is no whole days, a step is of a grid.

    Args:
        form: of the dates, one unit of which is 1.
        start: as `spacing` has it.
        step: likewise.
    """
    for size in (timedelta(days=1), timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)):
        each = size // _unit(form)
        if each and not start % each and not step % each:
            return step // each
    return step


def seconds_of(form: str) -> float:
    """Seconds of the unit of a form."""
    return _unit(form).total_seconds()


def offset_of(form: str) -> int | None:
    """Seconds by which the clock of a form is ahead of UTC; None where it does not say."""
    found = _OFFSET.search(form)
    if found is None:
        return None
    hours, minutes = found[1] or "+00", found[2] or "00"
    return int(hours) * 3600 + int(hours[0] + minutes) * 60


def _written(form: str, moment: datetime) -> str:
    return moment.strftime(form.replace("%3f", f"{moment.microsecond // 1000:03d}"))


def _unit(form: str) -> timedelta:
    if "%3f" in form:
        return timedelta(milliseconds=1)
    if "%f" in form:
        return timedelta(microseconds=1)
    return timedelta(seconds=1) if "%H" in form or "%I" in form else timedelta(days=1)
