"""Matrices of levels: which of S steps each token is at, row after row.

Level S is noise and 0 is clean. The plans of the literature are one family: token t waits d(t) rows
and then takes its S steps, one a row,

    M[m, t] = clip(S + d(t) - m, 0, S), m = 0 ... S + max d,

and differ in the delays d alone: 0 (full sequence), int(t u) (pyramid), its mirror (trapezoid), or
the end of the previous chunk. Waits are integers, so a real slope u makes neighbours start
together now and then, as the papers' matrices do.
"""

import operator
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = [
    "astray",
    "check_steps",
    "checked_levels",
    "chunks",
    "further",
    "grid",
    "log_ratios",
    "placed",
    "ramp",
    "staircase",
    "whole",
]


def staircase(steps: int, delays: list[int]) -> Tensor:
    """The matrix M, shape (S + max d + 1, T), of tokens that start after `delays` d."""
    steps = check_steps(steps)
    if not delays:
        raise ValueError("a plan needs at least one token")
    rows = torch.arange(steps + max(delays) + 1)
    return (steps + torch.tensor(delays) - rows[:, None]).clamp(0, steps)


def ramp(steps: int, tokens: int, slope: float) -> list[int]:
    """Delays int(t u); u is at most S, beyond which rows would pass in which nothing moves."""
    steps = check_steps(steps)
    try:
        slopes = slope >= 0  # NaN does not
    except TypeError:
        raise TypeError(f"a plan's slope >= 0 is a number of steps, got {slope!r}") from None
    if not slopes:
        raise ValueError(f"a plan needs a slope >= 0 in steps per token, got {slope}")
    slope = min(slope, steps)
    return [int(t * slope) for t in range(whole(tokens, "number of tokens"))]


def chunks(steps: int, tokens: int, chunk: int, slope: float) -> list[int]:
    """Delays of ramps of `chunk` tokens, each starting where the previous one has ended."""
    steps, tokens = check_steps(steps), whole(tokens, "number of tokens")
    if whole(chunk, "number of tokens in a chunk") < 1:
        raise ValueError(f"a plan needs a chunk >= 1, got {chunk}")
    delays: list[int] = []
    for start in range(0, tokens, chunk):
        begin = delays[-1] + steps if delays else 0
        own = ramp(steps, min(chunk, tokens - start), slope)
        delays += [begin + delay for delay in own]
    return delays


def grid(steps: int, times: Tensor | None = None) -> Tensor:
    """The times of levels 0 to S, shape (S + 1,): those given, or 1 - (S - i) / S."""
    steps = check_steps(steps)
    if times is None:
        return 1 - torch.arange(steps, -1, -1, dtype=torch.float64) / steps
    times = torch.as_tensor(times, dtype=torch.float64, device="cpu")
    ends = times.shape == (steps + 1,) and times[0] == 0 and times[-1] == 1
    if not (ends and (times.diff() > 0).all()):
        raise ValueError(
            f"{steps} steps need {steps + 1} increasing times from 0 to 1, got {times.tolist()}"
        )
    return times


def log_ratios(high: float, low: float, count: int, rho: float = 7.0) -> Tensor:
    """Logarithms of Karras' levels, noise-to-signal ratios uniform in their rho-th root.

    sigma_i = (high^(1/rho) + i / (N - 1) (low^(1/rho) - high^(1/rho)))^rho.

    Args:
        high: first ratio, finite.
        low: last ratio, >= 0.
        count: N >= 2.
        rho: exponent, > 0.

    References:
        T. Karras et al., 2022, arXiv 2206.00364, Eq. 5.
    """
    first, last = (
        torch.full((count,), end ** (1 / rho), dtype=torch.float64) for end in (high, low)
    )
    return rho * first.lerp(last, torch.linspace(0, 1, count, dtype=torch.float64)).log()


def further(t: Tensor, s: Tensor, steps: float) -> Tensor:
    """Targets that are `steps` of a token's own later moves lower, linearly between them.

    Args:
        t: times of rows, shape (N, ...), a token a column.
        s: targets, same shape; where s = t the token stays.
        steps: >= 0; beyond a token's last move is its last target.
    """
    t, s = t.reshape(len(t), -1), s.clone()
    flat = s.view(len(s), -1)  # one column per token, written through
    for token in range(flat.shape[1]):
        moves = (flat[:, token] < t[:, token]).nonzero()[:, 0]
        targets = flat[moves, token]
        place = torch.arange(len(moves), dtype=torch.float64) + steps
        low, high = (p.clamp(max=len(moves) - 1).long() for p in (place.floor(), place.ceil()))
        flat[moves, token] = torch.lerp(targets[low], targets[high], place - place.floor())
    return s


def placed(times: Tensor, tokens: int, places: Sequence[int], at: float) -> Tensor:
    """Times of some tokens of a sequence, the others at one time.

    Args:
        times: shape (N, B, n), n being 1 for one time for all of them.
        tokens: T, of the sequence.
        places: of the former in it, n different indices.
        at: the time of the others.

    Returns:
        Shape (N, B, T).

    Raises:
        ValueError: no time per token, or places that do not fit.
    """
    if times.ndim != 3 or times.shape[2] not in (1, len(places)):
        raise ValueError(
            f"{len(places)} tokens among {tokens} need a plan of so many, got times of shape "
            f"{tuple(times.shape[1:])}"
        )
    tokens = whole(tokens, "number of tokens")
    places = [whole(place, "index of a place") for place in places]
    if len({*places}) < len(places) or not all(0 <= place < tokens for place in places):
        raise ValueError(f"places are different indices in 0 .. {tokens - 1}, got {[*places]}")
    found = times.new_full((*times.shape[:2], tokens), at)
    found[..., list(places)] = times
    return found


def checked_levels(levels: Tensor | Sequence[Sequence[int]], steps: int) -> Tensor:
    """A matrix of levels, int64.

    Raises:
        ValueError: it is none, or leaves 0 to S or rises: the first such place is named.
    """
    try:
        levels = torch.as_tensor(levels, device="cpu")
    except ValueError as error:
        raise ValueError(f"levels need rows of equally many integers: {error}") from error
    if levels.ndim != 2 or len(levels) < 2 or not levels.numel():
        raise ValueError(
            "levels need two or more rows of one or more tokens, got a matrix of shape "
            f"{tuple(levels.shape)}"
        )
    if levels.is_floating_point() or levels.dtype == torch.bool:
        raise ValueError(f"levels must be integers, got {levels.dtype}")
    wrong = (levels < 0) | (levels > steps)
    wrong[1:] |= levels[1:] > levels[:-1]
    if wrong.any():
        row, token = wrong.nonzero()[0].tolist()
        before = f" after {int(levels[row - 1, token])}" if row else ""
        raise ValueError(
            f"levels must stay within 0 and {steps} and never rise, got in row {row}, "
            f"token {token}: {int(levels[row, token])}{before}"
        )
    return levels.long()


def astray(first: Tensor, last: Tensor) -> str:
    """Which token does not begin at 1 or does not end at 0, the first one, in words; "" for none.

    Args:
        first: times that a plan begins at, a row of any shape.
        last: times that it ends at, same shape.
    """
    for place in ((first != 1) | (last != 0)).nonzero().tolist():
        token = f"token {place[1]}" if len(place) > 1 else "it"
        start, end = float(first[tuple(place)]), float(last[tuple(place)])
        if start != 1:
            return f"{token} begins at t = {start:.4g}, not 1"
        return f"{token} ends at t = {end:.4g}, not 0"
    return ""


def check_steps(steps: float) -> int:
    """The number of steps, which may be written 4.0.

    Raises:
        TypeError: no number.
        ValueError: there are none, or a part of one.
    """
    if isinstance(steps, float):
        if not steps.is_integer():  # nor are infinity and NaN
            raise ValueError(f"a plan needs a whole number of steps, got {steps}")
        steps = int(steps)
    if whole(steps, "number of steps") < 1:
        raise ValueError(f"a plan needs at least one step, got {steps}")
    return whole(steps, "number of steps")


def whole(value: int, what: str) -> int:
    """A whole number, of what a plan consists of.

    Raises:
        TypeError: another one, or no number.
    """
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"a plan needs a whole {what}, got {value!r}") from None
