"""How the numbers of a column are written, and draws within intervals that could stand there too.

A file whose prices end in cents has no price of 3.14159. Draws are therefore of the numbers k 10^-d
in an interval, all alike, where d is the most decimals of any cell (below 0 for whole numbers that
all end in zeros), and of no more digits than any cell has. That is a uniform draw of the interval,
rounded down, so that it stays below the next one.
"""

import re
from array import array
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from noiseloom.rng import Rng

__all__ = ["Reals", "Writing", "counted", "drawn", "is_code", "lost", "lost_zero", "written"]

Reals: TypeAlias = NDArray[np.float64]

_EXACT = 2.0**53  # whole numbers below are floats
_DIGITS = 15  # so many a float keeps
_MOST, _EXPONENT = 60, 64
_ZERO = re.compile(r"[+-]?0[0-9]+(?:\.[0-9]*)?")


@dataclass
class Writing:
    """How the numbers of a column are written, two bytes each.

    Attributes:
        places: digits after the point; of whole numbers how many zeros they end in, below 0.
        figures: digits from the first that is not 0; more than all that counts where numbers have
            an exponent, and for missing ones -1.
    """

    places: "array[int]" = field(default_factory=lambda: array("b"))
    figures: "array[int]" = field(default_factory=lambda: array("b"))

    def missing(self, count: int = 1) -> None:
        """So many more without a number."""
        self.places.extend([0] * count)
        self.figures.extend([-1] * count)

    def add(self, cell: str) -> None:
        """One more number."""
        mantissa, exponent, _ = cell.lower().partition("e")
        whole, _, part = mantissa.lstrip("+-").partition(".")
        figures = (whole + part).lstrip("0")
        places = len(part) or len(whole.rstrip("0")) - len(whole) if figures or part else -_MOST
        self.places.append(max(min(places, _MOST), -_MOST))
        self.figures.append(_EXPONENT * bool(exponent) + min(len(figures), _MOST))

    def of(self, rows: NDArray[np.intp]) -> tuple[tuple[int, ...], int]:
        """Decimals and digits of some rows.

        Returns:
            The fewest and the most digits after the point, below 0 the zeros in which all end; none
            where numbers have exponents, or more digits than floats. And the most digits, or 0.
        """
        places, figures = (
            np.frombuffer(v, dtype=np.int8)[rows] for v in (self.places, self.figures)
        )
        places, figures = places[figures >= 0].astype(int), figures[figures >= 0]
        exponents, figures = figures >= _EXPONENT, figures % _EXPONENT
        if not len(figures) or not 0 < figures.max() <= _DIGITS:
            return (), 0
        if exponents.any() or places.max() > _DIGITS:
            return (), int(figures.max())
        return (int(places.min().clip(0)), int(places.max())), int(figures.max())


def written(value: object, decimals: tuple[int, ...]) -> str:
    """A value as its column would have it, from which it is read again; "" where it is missing."""
    if value is None:
        return ""
    if not isinstance(value, float) or not decimals:
        return str(value)
    fewest, most = decimals
    text = f"{value:.{max(most, fewest, 0)}f}"
    if "." in text:
        kept = len(text) - max(most - fewest, 0)
        text = (text[:kept] + text[kept:].rstrip("0")).rstrip(".")
    return text if float(text) == value else str(value)


def counted(
    lows: Reals, highs: Reals, closed: NDArray[np.bool_], decimals: int
) -> tuple[Reals, Reals]:
    """The numbers k 10^-decimals in intervals: the first k, and how many there are.

    Args:
        lows: ends, which belong to their interval.
        highs: the others, which do where it is closed.
        closed: whether it is.
        decimals: d; below 0 for multiples of 10^-d.

    Returns:
        Whole numbers as floats; none are counted where floats cannot tell them apart.
    """
    scale = 10.0 ** abs(decimals)

    def places(ends: Reals, up: bool) -> tuple[Reals, NDArray[np.bool_]]:
        at = ends * scale if decimals >= 0 else ends / scale
        near = np.rint(at)
        # Of 1.15 it is 114.99...: that this is 115 is told by the way back, which rounds rightly.
        there = (near / scale if decimals >= 0 else near * scale) == ends
        return np.where(there, near, np.ceil(at) if up else np.floor(at)), there

    first, _ = places(lows, up=True)
    last, there = places(highs, up=False)
    count = last - first + 1 - (there & ~closed)
    fine = np.maximum(np.abs(first), np.abs(last)) < _EXACT
    return first, np.where(fine, count.clip(0), 0)


def drawn(
    lows: Reals,
    highs: Reals,
    closed: NDArray[np.bool_],
    rng: Rng,
    *,
    whole: bool,
    decimals: tuple[int, ...] = (),
    digits: int = 0,
) -> Reals:
    """A draw in each of N intervals, uniform over the numbers that may be written there.

    Args:
        lows: their ends, shape (N,).
        highs: the others, >= these.
        closed: whether the high belongs to an interval.
        rng: one key, or a key for each.
        whole: whether these are whole numbers.
        decimals: fewest and most, as `Writing.of` has them.
        digits: the most, 0 for any number.
    """
    # Two draws of 23 bits: one alone could not reach every whole number of a wide interval.
    pair = rng.uniform((len(lows), 2)).double().numpy()
    share = pair[:, 0] - 2.0**-24 + 2.0**-23 * pair[:, 1]
    below = np.where(closed, highs, np.nextafter(highs, lows))
    found = np.minimum(lows + share * (highs - lows), below)
    if not decimals and digits and not whole:  # exponents: the nearest, if it is in the interval
        near = np.array([float(f"{value:.{digits - 1}e}") for value in found.tolist()])
        return np.where((near < lows) | (near > below), lows, near)
    grids = [0] if whole else []
    if decimals:  # the last holds, but where it has no number in an interval
        grids.append(min(decimals[1], 0) if whole else decimals[1])
    for d in grids:
        first, count = counted(lows, highs, closed, d)
        k = first + np.minimum(np.floor(share * count), count - 1)
        if digits and not whole:
            size = np.floor(np.log10(np.abs(k).clip(1))) + 1
            unit = 10.0 ** (size - digits).clip(0)
            k = np.maximum(np.floor(k / unit) * unit, first)
        found = np.where(count > 0, k / 10.0**d if d >= 0 else k * 10.0**-d, found)
    return found


def is_code(cell: str) -> bool:
    """Whether digits are no number: with a 0 in front, or so many that a float would lose some."""
    return cell.isascii() and cell.isdigit() and bool(lost(cell))


def lost(text: str) -> str:
    """What digits would lose if they were a number, to go on with; "" where nothing."""
    if _ZERO.fullmatch(text):
        return ", as the 0 in front would be lost"
    long = text.isdigit() and len(text) > _DIGITS
    return (
        f", as of over {_DIGITS} digits some are lost (say real in the schema if they may)" * long
    )


def lost_zero(text: str) -> str:
    """Why digits with a 0 in front are no number; "" of others."""
    if not _ZERO.fullmatch(text):
        return ""
    return f"{lost(text)}: codes are categorical, and numbers have none there"
