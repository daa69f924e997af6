"""Means of few numbers, such as one for each seed, with intervals that say how little is known."""

import math
import statistics
from collections.abc import Sequence

__all__ = ["mean_interval", "t_quantile"]


def mean_interval(values: Sequence[float], share: float = 0.95) -> tuple[float, float]:
    """Mean and half width of Student's interval, mean +- t s / sqrt(n).

    s is the standard deviation of the n values, t the quantile of n - 1 degrees of freedom. Of
    independent normal values it holds the true mean in that share of cases, for any n >= 2.

    Args:
        values: n of them; the half width of one alone is not defined, NaN.
        share: that the interval is to hold, in (0, 1).

    Raises:
        ValueError: no values, or a share out of range.

    Example:
        >>> [round(v, 3) for v in mean_interval([1.0, 2.0, 3.0])]
        [2.0, 2.484]
    """
    if not values:
        raise ValueError("the mean of no values is not defined")
    mean, count = statistics.fmean(values), len(values)
    if count == 1:
        return mean, math.nan
    spread = statistics.stdev(values) / math.sqrt(count)
    return mean, t_quantile(0.5 + share / 2, count - 1) * spread


def t_quantile(p: float, freedom: int) -> float:
    """The number that Student's t does not exceed with probability p.

    With theta = atan(t / sqrt(freedom)) the probability of |t| is a finite sum of powers of
    cos(theta) (M. Abramowitz, I. Stegun, 1964, 26.7.3 and 26.7.4), which is solved by bisection.

    Args:
        p: in [0.5, 1).
        freedom: degrees of freedom, at least 1.

    Raises:
        ValueError: an argument out of range.

    Example:
        >>> round(t_quantile(0.975, 4), 4)
        2.7764
    """
    if not 0.5 <= p < 1 or freedom < 1:
        raise ValueError(
            f"p must be in [0.5, 1) and freedom at least 1, got {p:g} and {freedom}: an interval "
            "is to hold a share in (0, 1)"
        )
    low, high = 0.0, math.pi / 2
    for _ in range(200):
        middle = (low + high) / 2
        if _within(middle, freedom) < 2 * p - 1:
            low = middle
        else:
            high = middle
    return math.tan(low) * math.sqrt(freedom)


def _within(theta: float, freedom: int) -> float:
    """P(|t| <= sqrt(freedom) tan(theta))."""
    odd, square = freedom % 2, math.cos(theta) ** 2
    term = math.cos(theta) if odd else 1.0
    total = 0.0
    for k in range(2 + odd, freedom + 1, 2):
        total += term
        term *= square * (k - 1) / k
    if odd:
        return 2 / math.pi * (theta + math.sin(theta) * total)
    return math.sin(theta) * total
