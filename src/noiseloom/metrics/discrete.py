"""One table of how good sampled rows of tokens are, with the two anchors that give it meaning.

As for pictures, the same code measures samples, held-out real rows (as good as it gets at this
size) and real rows with noise (visibly wrong). It knows nothing of the model, so that models of
bits, masks, uniform noise, embeddings and autoregressive ones have the same table.
"""

import math
from collections.abc import Callable, Collection, Hashable, Sequence
from typing import Literal, TypeAlias

from torch import Tensor

from noiseloom.metrics.ngrams import NGramModel
from noiseloom.metrics.rows import copied_share, mean_and_error, noised_tokens, row_keys
from noiseloom.metrics.sequences import (
    kmer_distance,
    length_distance,
    lengths,
    novelty,
    uniqueness,
    validity,
)
from noiseloom.metrics.tables import (
    Rule,
    closest,
    dependence_gap,
    invalid_share,
    marginal_distances,
    pair_distances,
)
from noiseloom.metrics.text import distinct_ngrams, judged_bits, word_validity
from noiseloom.metrics.two_sample import two_sample_accuracy
from noiseloom.rng import Rng

__all__ = ["discrete_report"]

Forms: TypeAlias = Callable[[Tensor], Sequence[Hashable | None]]
Measure: TypeAlias = Callable[[Tensor, Tensor], dict[str, float]]
"""Rows to hold against the training set, and rows to hold against the held-out set."""


def discrete_report(
    kind: Literal["text", "table", "sequences"],
    samples: Tensor,
    train: Tensor,
    held_out: Tensor,
    rng: Rng,
    *,
    sizes: Sequence[int],
    noise: float = 0.2,
    order: int = 5,
    judge_tokens: int = 10_000_000,
    breaks: Sequence[int] = (),
    rules: Sequence[Rule] = (),
    pairs: bool = True,
    pad: int | None = None,
    forms: Forms | None = None,
    known: Collection[Hashable | None] | None = None,
) -> dict[str, float]:
    """Compare samples, held-out and noised real rows with real rows.

    All sets are cut to the same number n of rows, drawn without replacement, but for the training
    set where it is what the others are held against. The keys are, of text,

        bits                bits per token under a judge of the training text
        bits_reverse        bits per held-out token under a judge of the n rows
        distinct_1 .. _4    share of different n-grams, among n (T - k + 1) of them
        words               share of words that the training text has, where there are breaks

    of tables

        marginal, marginal_worst        total variation of columns, mean and largest
        pair, pair_worst                of pairs of columns
        dependence, dependence_worst    difference of Cramer's V
        classifier          accuracy of telling from held-out rows, 0.5 at best; where n >= 20
        invalid             share of rows that are of no class or break a rule
        closest             mean share of columns unlike the nearest training row
        copies              share of rows that are training rows

    and of sequences

        valid               share that has a form, where forms are given
        unique, novel       share of different ones of these; of those that are not in training
        length              distance of lengths, in tokens
        kmer_1 .. _4        total variation of stretches of k tokens; 1 where rows have none

    each with `_se` appended for its standard error, where it is a mean over rows, and `_held_out`
    and `_noised` for the anchors; `n` is the number of rows, and of text `tokens` that of tokens.
    For `bits_reverse` and `classifier`, which are against held-out rows, the anchors are n training
    rows. What is not defined is left out.

    Args:
        kind: what rows are.
        samples: integers, shape (N, T).
        train: what the model was trained on, integers, shape (M, T); of text (L,) too, which is
            cut into rows where that is needed.
        held_out: what it was not trained on, likewise.
        rng: draws rows, folds and noise.
        sizes: K_1, ..., K_T, or one number for all positions.
        noise: share of tokens drawn anew for the anchor.
        order: n of the judge of text.
        judge_tokens: how many tokens of the training text, from its start, the judge is made of.
        breaks: classes that part words of text.
        rules: what rows of a table must keep.
        pairs: whether the classifier of tables looks at pairs of columns.
        pad: the class that fills sequences up.
        forms: canonical forms of sequences, None for what is not valid; by default each is its own.
        known: forms of the training sequences, where these were made before.

    Raises:
        ValueError: an unknown kind, no rows, rows that do not fit, tokens of text and sequences
            that are no class.
    """
    T = samples.shape[-1]
    if kind not in ("text", "table", "sequences"):
        raise ValueError(f"the kind must be text, table or sequences, got {kind!r}")
    if samples.ndim != 2 or len(sizes) not in (1, T):
        raise ValueError(
            f"samples of {len(sizes)} columns must have shape (N, {len(sizes)}), got "
            f"{tuple(samples.shape)}"
        )
    rows, unseen = (_rows(x, T, name) for x, name in ((train, "train"), (held_out, "held-out")))
    n = min(len(samples), len(rows), len(unseen))
    if not n:
        raise ValueError(
            f"there must be rows in all sets, got {len(samples)} samples, {len(rows)} training "
            f"and {len(unseen)} held-out rows"
        )
    drawn, seen, real = (
        x[rng.fold(name).permutation(len(x))[:n].to(x.device)].cpu().long()
        for x, name in ((samples, "samples"), (rows, "train"), (unseen, "held out"))
    )
    # The same rows may not be on both sides of a comparison, with noise or without.
    worse = noised_tokens(real, sizes, noise, rng.fold("noise"), pad=pad)
    worse_seen = noised_tokens(seen, sizes, noise, rng.fold("noise", 1), pad=pad)
    sets = {"": (drawn, drawn), "_held_out": (real, seen), "_noised": (worse, worse_seen)}

    result = {"n": float(n)}
    if kind == "text":
        result["tokens"] = float(n * T)
        text = train.cpu()[None] if train.ndim == 1 else train.cpu()
        text = text[:, :judge_tokens] if len(text) == 1 else text[: max(judge_tokens // T, 1)]
        judge = NGramModel.fit(text, max(sizes), order)
        measure = _text(judge, train, real, max(sizes), order, breaks)
    elif kind == "table":
        each = tuple(sizes) * (T if len(sizes) == 1 else 1)
        measure = _table(rows.cpu(), real, each, rules, pairs, rng.fold("classifier"))
    else:
        measure = _sequences(rows.cpu(), max(sizes), pad, forms, known)
    for suffix, (against_train, against_real) in sets.items():
        found = measure(against_train, against_real)
        result |= {f"{k}{suffix}": v for k, v in found.items() if not math.isnan(v)}
    return result


def _rows(x: Tensor, T: int, name: str) -> Tensor:
    """A text in rows of T tokens; rows as they are."""
    if x.ndim == 1:
        return x[: len(x) // T * T].reshape(-1, T)
    if x.ndim != 2 or x.shape[1] != T:
        raise ValueError(
            f"samples of {T} tokens cannot be held against {name} rows of shape {tuple(x.shape)}"
        )
    return x


def _both(name: str, found: tuple[float, float], second: str = "_se") -> dict[str, float]:
    return {name: found[0], f"{name}{second}": found[1]}


def _text(
    judge: NGramModel, train: Tensor, real: Tensor, K: int, order: int, breaks: Sequence[int]
) -> Measure:
    def measure(rows: Tensor, others: Tensor) -> dict[str, float]:
        found = _both("bits", judged_bits(judge, rows))
        found |= _both("bits_reverse", judged_bits(others, real, classes=K, order=order))
        for k in _stretches(rows.shape[1], K):
            found[f"distinct_{k}"] = distinct_ngrams(rows, k, K)
        if breaks:
            found |= _both("words", word_validity(rows, train, breaks))
        return found

    return measure


def _table(
    train: Tensor,
    real: Tensor,
    sizes: Sequence[int],
    rules: Sequence[Rule],
    pairs: bool,
    rng: Rng,
) -> Measure:
    keys = set(row_keys(train))

    def measure(rows: Tensor, others: Tensor) -> dict[str, float]:
        columns = marginal_distances(rows, train, sizes)
        found = _both("marginal", (float(columns.mean()), float(columns.max())), "_worst")
        if len(sizes) > 1 and min(len(rows), len(train)) > 1:
            tables = pair_distances(rows, train, sizes)
            found |= _both("pair", (float(tables.mean()), float(tables.max())), "_worst")
            found |= _both("dependence", dependence_gap(rows, train, sizes), "_worst")
        if len(rows) >= 20:
            found |= _both("classifier", two_sample_accuracy(others, real, rng, pairs=pairs))
        found |= _both("invalid", invalid_share(rows, sizes, rules))
        found |= _both("closest", mean_and_error(closest(rows, train)))
        return found | _both("copies", copied_share(row_keys(rows), keys))

    return measure


def _sequences(
    train: Tensor,
    K: int,
    pad: int | None,
    forms: Forms | None,
    known: Collection[Hashable | None] | None,
) -> Measure:
    make: Forms = forms or row_keys
    seen = set(make(train)) if known is None else known

    def measure(rows: Tensor, _: Tensor) -> dict[str, float]:
        made = make(rows)
        found = _both("valid", validity(made)) if forms else {}
        found |= {"unique": uniqueness(made), **_both("novel", novelty(made, seen))}
        found["length"] = length_distance(rows, train, pad)
        ours, theirs = (int(lengths(x, pad).max()) for x in (rows, train))
        for k in _stretches(theirs, K):
            found[f"kmer_{k}"] = kmer_distance(rows, train, k, K, pad) if k <= ours else 1.0
        return found

    return measure


def _stretches(longest: int, K: int) -> list[int]:
    """1 .. 4, as far as rows reach and 63 bits do."""
    return [k for k in range(1, min(4, longest) + 1) if K**k < 2**63]
