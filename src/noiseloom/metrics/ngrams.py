"""Stretches of n tokens, and a model of the next token that is made by counting them.

With c(h w) how often token w follows the context h, c(h) = sum_w c(h w), T(h) the number of
different tokens that follow it, and h' the context without its oldest token,

    p(w | h) = (c(h w) + T(h) p(w | h')) / (c(h) + T(h)),    p(w | no context) from 1 / K:

Witten and Bell's estimate of what was not seen yet, interpolated, which sums to 1 over the K
classes whatever was counted. I. Witten, T. Bell, 1991, "The zero-frequency problem", IEEE Trans.
Inf. Theory 37(4), method C; S. Chen, J. Goodman, 1998, "An empirical study of smoothing techniques
for language modeling", TR-10-98. Kneser-Ney's is a little better on words, but its
discounts are estimated from n-grams that were seen once or twice: it is not defined on tiny texts,
nor where samples repeat themselves, which a judge must bear.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["NGramModel", "ngram_codes"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def ngram_codes(rows: Tensor, n: int, classes: int) -> Ints:
    """Every stretch of n tokens within a row as one number, sum_j x_j K^(n - 1 - j).

    Args:
        rows: integers, shape (N, T), 0 .. K - 1.
        n: length, at least 1.
        classes: K.

    Returns:
        int64, shape (N, max(T - n + 1, 0)).

    Raises:
        ValueError: n below 1, K^n that 63 bits cannot hold, tokens that are no class.
    """
    if rows.ndim != 2:
        raise ValueError(f"rows of tokens must have shape (N, T), got {tuple(rows.shape)}")
    if n < 1 or classes**n >= 2**63:
        raise ValueError(
            f"stretches of {n} tokens of {classes} classes do not fit in 63 bits; take n in "
            f"1 .. {int(62 / max(np.log2(max(classes, 2)), 1))}"
        )
    if rows.numel() and not (int(rows.min()) >= 0 and int(rows.max()) < classes):
        raise ValueError(
            f"tokens must be in 0 .. {classes - 1}, got {int(rows.min())} to {int(rows.max())}"
        )
    x = rows.cpu().long().numpy()
    count = max(x.shape[1] - n + 1, 0)
    codes = np.zeros((len(x), count), np.int64)
    for j in range(n):
        codes *= classes
        codes += x[:, j : j + count]
    return codes


@dataclass(frozen=True, eq=False)
class _Counts:
    """What was seen of one length: n-grams with counts, contexts with c(h) and T(h), all sorted."""

    grams: Ints
    seen: Ints
    contexts: Ints
    followed: Ints
    types: Ints

    @staticmethod
    def of(codes: Ints, classes: int, n: int) -> "_Counts":
        grams, seen = _distinct(codes, classes, n)
        # Sorted by context first: those of one context lie side by side.
        contexts, start, types = np.unique(grams // classes, return_index=True, return_counts=True)
        followed = np.add.reduceat(seen, start) if len(seen) else seen
        return _Counts(grams, seen, contexts, followed, types)


@dataclass(frozen=True, eq=False)
class NGramModel:
    """The interpolated Witten-Bell model of the next token given the n - 1 before it.

    Rows begin anywhere, as windows of a text do: the first tokens of a row are given the shorter
    contexts that there are, when counting and when judging.

    Attributes:
        classes: K.
        counts: of 1-grams, 2-grams, ..., n-grams.
    """

    classes: int
    counts: tuple[_Counts, ...]

    @classmethod
    def fit(cls, rows: Tensor, classes: int, order: int = 5) -> "NGramModel":
        """Count the n-grams of rows.

        Args:
            rows: integers, shape (N, T), 0 .. K - 1; a text is one row.
            classes: K.
            order: n, tokens of the longest n-gram.

        Raises:
            ValueError: what `ngram_codes` refuses.
        """
        if order < 1:
            raise ValueError(f"the order of n-grams must be at least 1, got {order}")
        lengths = range(1, order + 1)
        counts = (_Counts.of(ngram_codes(rows, n, classes), classes, n) for n in lengths)
        return cls(classes, tuple(counts))

    def log2_probability(self, rows: Tensor) -> Tensor:
        """log2 p of every token given those before it in its row.

        Args:
            rows: integers, shape (N, T), 0 .. K - 1.

        Returns:
            In bits, float64, shape (N, T).

        Raises:
            ValueError: what `ngram_codes` refuses.
        """
        p: Floats = np.full(tuple(rows.shape), 1 / self.classes)
        for n, counts in enumerate(self.counts, 1):
            codes = ngram_codes(rows, n, self.classes)
            if not codes.size:
                break
            if self.classes**n <= codes.size:  # fewer n-grams that there can be than places
                queries, back = np.arange(self.classes**n), codes
            else:  # sorted: a search that jumps about in memory takes much longer
                queries, back = np.unique(codes, return_inverse=True)
            seen = _look_up(counts.grams, (counts.seen,), queries)[0]
            followed, types = _look_up(
                counts.contexts, (counts.followed, counts.types), queries // self.classes
            )
            # Of a context that was never seen nothing is known: the shorter one's stays.
            weight = np.maximum(followed + types, 1)
            share, known = seen / weight, np.where(followed > 0, types / weight, 1.0)
            back = back.reshape(codes.shape)  # which NumPy 1 flattens
            p[:, n - 1 :] = share[back] + known[back] * p[:, n - 1 :]
        return torch.from_numpy(np.log2(p))


def _distinct(codes: Ints, classes: int, n: int) -> tuple[Ints, Ints]:
    """The different codes, sorted, and how often each is there."""
    if classes**n <= codes.size:  # quicker than sorting
        table = np.bincount(codes.ravel(), minlength=1)
        grams = table.nonzero()[0]
        return grams, table[grams]
    return np.unique(codes, return_counts=True)


def _look_up(keys: Ints, values: tuple[Ints, ...], queries: Ints) -> list[Ints]:
    """The values of keys, 0 of what is no key."""
    if not len(keys):
        return [np.zeros_like(queries) for _ in values]
    place = np.minimum(np.searchsorted(keys, queries), len(keys) - 1)
    found = keys[place] == queries
    return [np.where(found, v[place], 0) for v in values]
