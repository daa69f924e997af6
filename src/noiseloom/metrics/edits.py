"""Edit distances: how many symbols a sequence is away from the nearest of many."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["nearest_edits"]

Ints: TypeAlias = NDArray[np.int64]

_AT_ONCE = 1024
"""Known sequences that one is compared with at a time."""


def nearest_edits(made: Sequence[str], known: Sequence[str]) -> Tensor:
    """The edit distance of each sequence to the nearest known one.

    Least number of characters that must be put in, taken out or changed (Levenshtein). Known
    sequences are looked at in the order of what the characters in both, whatever their order, leave
    as the least distance there can be, until that is no less than what was found.

    Args:
        made: n sequences.
        known: at least one.

    Returns:
        int64, shape (n,).

    Raises:
        ValueError: none is known.

    Example:
        >>> nearest_edits(["kitten", "ab"], ["sitting", "abc", "b"])
        tensor([3, 1])
    """
    if not known:
        raise ValueError("there is no known sequence to be near to")
    different = list(dict.fromkeys(known))
    exact, letters = set(different), _letters((*made, *different))
    counts = _counts(different, letters)
    return torch.tensor(
        [0 if s in exact else _nearest(s, different, counts, letters) for s in made]
    )


def _nearest(one: str, known: Sequence[str], counts: Ints, letters: dict[str, int]) -> int:
    gap = _counts([one], letters) - counts
    # What one has more of, the other must be given, and the other way round.
    least = np.maximum(np.maximum(gap, 0).sum(1), np.maximum(-gap, 0).sum(1))
    order, best = np.argsort(least, kind="stable"), max(map(len, (one, *known)))
    for start in range(0, len(order), _AT_ONCE):
        rows = order[start : start + _AT_ONCE]
        if least[rows[0]] >= best:
            break
        best = min(best, int(_distances(one, [known[i] for i in rows], letters).min()))
    return best


def _distances(one: str, others: Sequence[str], letters: dict[str, int]) -> Ints:
    """The distance of one sequence to each of others, row by row of the usual table."""
    longest = max(map(len, others))
    table = np.full((len(others), longest), -1, dtype=np.int64)
    for row, other in enumerate(others):
        table[row, : len(other)] = [letters[c] for c in other]
    places = np.arange(longest + 1)
    before = np.tile(places, (len(others), 1))  # of no character of `one`
    for i, character in enumerate(one, 1):
        changed = before[:, :-1] + (table != letters[character])
        now = np.empty_like(before)
        now[:, 0] = i
        now[:, 1:] = np.minimum(before[:, 1:] + 1, changed)
        # Characters put in, one after the other: now[j] = min over k <= j of now[k] + j - k.
        before = np.minimum.accumulate(now - places, axis=1) + places
    found: Ints = before[np.arange(len(others)), [len(other) for other in others]]
    return found


def _letters(sequences: Sequence[str]) -> dict[str, int]:
    return {c: i for i, c in enumerate(sorted(set[str]().union(*sequences)))}


def _counts(sequences: Sequence[str], letters: dict[str, int]) -> NDArray[np.int64]:
    found = np.zeros((len(sequences), len(letters)), dtype=np.int64)
    for row, sequence in enumerate(sequences):
        for c in sequence:
            found[row, letters[c]] += 1
    return found
