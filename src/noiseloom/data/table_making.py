"""The classes of a column of a table, made of the rows to learn from."""

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from noiseloom.data.option_names import said
from noiseloom.data.table_bins import binned
from noiseloom.data.table_columns import NUMBER, Column
from noiseloom.data.table_dates import strides
from noiseloom.data.table_schema import Defaults, Wish
from noiseloom.data.table_store import Stored

__all__ = ["categorical", "numeric"]


def categorical(
    stored: Stored, train: NDArray[np.intp], wish: Wish | None, defaults: Defaults
) -> Column | None:
    """A column of categories, sorted, from the rows to learn from; None if all are missing.

    Raises:
        ValueError: too many categories, or none that is frequent enough.
    """
    if stored.kind == "number":
        numbers = stored.values()[train]
        found, counts = np.unique(numbers[~np.isnan(numbers)], return_counts=True)
        seen: list[Any] = [_number(value, stored.pointed) for value in found.tolist()]
    else:
        texts = list(stored.index)
        codes = np.frombuffer(stored.codes, dtype=np.int32)[train]
        counts = np.bincount(codes[codes >= 0], minlength=len(texts))
        # A person's categories may be numbers, if all are written as numbers are.
        natural = stored.natural and all(map(_is_natural, texts))
        natural = natural and len(set(map(float, texts))) == len(texts)
        pairs = [(float(t) if natural else t, int(c)) for t, c in zip(texts, counts, strict=True)]
        pairs = sorted(pair for pair in pairs if pair[1])
        pointed = natural and any("." in text for text in texts)
        seen = [_number(v, pointed) if isinstance(v, float) else v for v, _ in pairs]
        counts = np.array([count for _, count in pairs])
    if not seen:
        return None
    values = tuple(v for v, n in zip(seen, counts.tolist(), strict=True) if n >= defaults.rare)
    if wish and wish.values:
        values = wish.values
    here = f"column {stored.name!r}"
    if not values:
        raise ValueError(
            f"{here} has no value in {defaults.rare} rows: leave it out, or lower {said('rare')}"
        )
    leave_out = said("leave_out", [stored.name])
    if len(values) > defaults.max_classes:
        raise ValueError(
            f"{here} has {len(values):,} values: leave it out ({leave_out}), raise "
            f"{said('rare')} to throw rare ones together, or raise {said('max_classes')}"
        )
    other = defaults.rare > 0 or (wish is not None and wish.other)
    return Column(stored.name, "categorical", _type(values), values, other=other)


def numeric(
    stored: Stored, train: NDArray[np.intp], wish: Wish | None, defaults: Defaults
) -> Column | None:
    """A column of a table of numbers from the rows to learn from; None if all are missing.

    Numbers of which few are different are categories, unless they are whole and fill their range.

    Raises:
        ValueError: more classes than there may be.
    """
    everything = stored.values()
    numbers = everything[train]
    numbers = numbers[~np.isnan(numbers)]
    if not len(numbers):
        return None
    low, high = float(numbers.min()), float(numbers.max())
    integral = bool((everything == np.floor(everything))[~np.isnan(everything)].all())
    kind: Literal["integer", "real"] = "integer" if integral else "real"
    span = high - low + 1
    dense = integral and span <= min(defaults.whole, defaults.max_classes)
    if wish:
        kind = "real" if wish.kind == "real" else "integer"
        given = wish.low is not None or wish.high is not None
        dense = kind == "integer" and (given or (dense and wish.bins is None))
        low = low if wish.low is None else wish.low
        high = high if wish.high is None else wish.high
    else:
        unique = len(np.unique(numbers))
        few = unique <= min(defaults.bins, len(numbers) // 4)
        # Of a few dates far apart any two have a step, and seven Mondays are no range of days.
        apart = strides(stored.dates, stored.start, stored.step) if stored.dates else 1
        if few and not (dense and (high - low) * apart + 1 <= 2 * unique):
            if stored.dates:
                stored.to_text()
            return categorical(stored, train, wish, defaults)
    here = f"column {stored.name!r}"
    type_: Literal["integer", "real"] = "real" if kind == "real" or stored.pointed else "integer"
    if dense:
        if not 0 < high - low + 1 <= defaults.max_classes:
            raise ValueError(
                f"{here} has whole numbers from {low:g} to {high:g}, and {said('max_classes')} "
                f"is {defaults.max_classes}"
            )
        each = tuple(range(int(low), int(high) + 1))
        return Column(stored.name, kind, type_, (), each, each, each)
    bins = wish.bins if wish and wish.bins else defaults.bins
    cut = [_whole(i) if kind == "integer" else i for i in binned(numbers, bins, kind == "integer")]
    if len(cut) > defaults.max_classes:
        raise ValueError(
            f"{here} has {len(cut)} bins, and {said('max_classes')} is {defaults.max_classes}"
        )
    lows, highs, medians = zip(*cut, strict=True)
    return Column(stored.name, kind, type_, (), lows, highs, medians, bins=bins)


def _whole(interval: tuple[float, float, float]) -> tuple[int, int, int]:
    low, high, median = interval
    return int(low), int(high), int(median)


def _number(value: float, pointed: bool) -> int | float:
    return int(value) if value.is_integer() and not pointed else value


def _is_natural(text: str) -> bool:
    """Whether a number is written as it would be written again."""
    if not NUMBER.fullmatch(text):
        return False
    number = float(text)
    return math.isfinite(number) and text in (str(number), str(int(number)))


def _type(values: tuple[str | int | float, ...]) -> Literal["text", "integer", "real"]:
    if isinstance(values[0], str):
        return "text"
    return "real" if any(isinstance(value, float) for value in values) else "integer"
