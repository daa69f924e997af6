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
    cuts = np.unique(np.quantile(part, np.linspace(0, 1, count + 1), method="lower"))
    starts = np.searchsorted(part, cuts[:-1] if len(cuts) > 1 else cuts)
    found = []
    for i, start in enumerate(starts.tolist()):
        last = i == len(starts) - 1
        stop = len(part) if last else int(starts[i + 1])
        high = part[-1] if last else cuts[i + 1] - whole
        found.append((float(part[start]), float(high), float(part[(start + stop - 1) // 2])))
    return found
