"""Intervals that hold about equally many numbers, and single numbers where many are equal."""

import numpy as np

from noiseloom.data.table_columns import Reals

__all__ = ["binned"]


def binned(numbers: Reals, bins: int, whole: bool) -> list[tuple[float, float, float]]:
    """Intervals that hold about equally many numbers each.

    A number that is at least 1 in `bins` of all is an interval of its own. The rest lies between
    these, and each stretch of it is cut at its quantiles, all of them numbers that occur.

    Args:
        numbers: finite, shape (N,), N >= 1.
        bins: how many intervals there are to be, about; fewer where each would have less than four
            numbers.
        whole: whether they are whole numbers; intervals are then closed, and do not touch.

    Returns:
        (low, high, median) of each interval, increasing.
    """
    ordered = np.sort(numbers)
    bins = max(2, min(bins, len(ordered) // 4))
    unique, counts = np.unique(ordered, return_counts=True)
    heavy = unique[counts * bins >= len(ordered)] if len(unique) > bins else unique
    rest = ordered[~np.isin(ordered, heavy)]
    found = [(value, value, value) for value in heavy.tolist()]
    for part in np.split(rest, np.searchsorted(rest, heavy)):
        if len(part):
            count = max(1, round((bins - len(heavy)) * len(part) / len(rest)))
            found += _quantiles(part, count, whole)
    return sorted(found)


def _quantiles(part: Reals, count: int, whole: bool) -> list[tuple[float, float, float]]:
    cuts = np.unique(part[np.arange(count) * len(part) // count])
    starts = [*np.searchsorted(part, cuts).tolist(), len(part)]
    highs = [*(cuts[1:] - whole).tolist(), float(part[-1])]
    return [
        (low, high, float(part[(start + stop - 1) // 2]))
        for low, high, start, stop in zip(
            cuts.tolist(), highs, starts[:-1], starts[1:], strict=True
        )
    ]
