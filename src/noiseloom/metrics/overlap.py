"""How much of captions is in reference captions: BLEU, ROUGE-L, CIDEr and CIDEr-D.

Written to the definitions of their papers, as the COCO evaluation server has them (X. Chen et al.,
2015, "Microsoft COCO Captions: data collection and evaluation server", arXiv:1504.00325). Captions
are words here, as `noiseloom.data.phrases.caption_words` cuts them: lower case, without marks. The
server's scripts cut by the rules of the Penn Treebank (a Java program), which differs in words such
as "man's"; so numbers of other tools may differ in the third digit.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from noiseloom.data.phrases import caption_words
from noiseloom.metrics.rows import mean_and_error

__all__ = ["bleu", "cider", "rouge_l"]

Floats: TypeAlias = NDArray[np.float64]
Gram: TypeAlias = tuple[str, ...]
Vector: TypeAlias = dict[Gram, float]


def bleu(
    captions: Sequence[str], references: Sequence[Sequence[str]], n: int = 4
) -> tuple[float, float]:
    """BLEU of a corpus, and its standard error.

    min(1, exp(1 - r / c)) (p_1 ... p_n)^(1 / n), where p_k is the share of all k-grams of captions
    that are in references, each counted at most as often as in the reference that has it most; c is
    the number of words of all captions, and r that of the references nearest to each in length, the
    shorter of two as near. It is 0 where some p_k is: nothing is smoothed.

    The error is that of the jackknife over captions.

    Args:
        captions: N.
        references: one or more for each.
        n: words of the longest stretches.

    Raises:
        ValueError: no captions, other numbers of references, or one without any.

    References:
        K. Papineni et al., 2002, "BLEU: a method for automatic evaluation of machine translation".
    """
    ours, theirs = _cut(captions, references)
    rows = np.zeros((len(ours), 2 * n + 2))
    for row, words, others in zip(rows, ours, theirs, strict=True):
        row[-2] = len(words)
        row[-1] = min((abs(len(other) - len(words)), len(other)) for other in others)[1]
        for k in range(1, n + 1):
            most: Counter[Gram] = Counter()
            for other in others:
                most |= _grams(other, k)
            found = _grams(words, k)
            row[k - 1] = (found & most).total()
            row[n + k - 1] = found.total()
    total = rows.sum(0)
    count = len(rows)
    if count == 1:
        return float(_bleu(total, n)), math.nan
    without = _bleu(total - rows, n)
    error = math.sqrt((count - 1) / count * float(((without - without.mean()) ** 2).sum()))
    return float(_bleu(total, n)), error


def rouge_l(
    captions: Sequence[str], references: Sequence[Sequence[str]], beta: float = 1.2
) -> tuple[float, float]:
    """Mean over captions of ROUGE-L, and its standard error.

    (1 + beta^2) R P / (R + beta^2 P), where R is the longest common subsequence of caption and
    reference as a share of the reference's words, P as a share of the caption's, each for the
    reference that has the largest one; 0 where nothing is in common.

    Args:
        captions: N.
        references: one or more for each.
        beta: how much recall weighs beside precision; 1.2 on the COCO server.

    Raises:
        ValueError: no captions, other numbers of references, or one without any.

    References:
        C.-Y. Lin, 2004, "ROUGE: a package for automatic evaluation of summaries", Eqs. 2 to 4; the
        largest R and P of several references are of the server. (Lin has the largest F.)
    """
    scores = []
    for words, others in zip(*_cut(captions, references), strict=True):
        common = [_longest_common(words, other) for other in others]
        recall = max(c / max(len(o), 1) for c, o in zip(common, others, strict=True))
        precision = max(common) / max(len(words), 1)
        below = recall + beta**2 * precision
        scores.append((1 + beta**2) * recall * precision / below if below else 0.0)
    return mean_and_error(torch.tensor(scores, dtype=torch.float64))


def cider(
    captions: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    penalised: bool = False,
    counts: bool = False,
    n: int = 4,
    sigma: float = 6.0,
) -> tuple[float, float]:
    """Mean over captions of CIDEr or CIDEr-D, and its standard error.

    CIDEr is the mean over k = 1 .. n and over references of the cosine between vectors g of
    k-grams: the k-gram's share of the caption's k-grams times ln(N / number of pictures whose
    references have it). CIDEr-D has min(g_caption, g_reference) for g_caption in the numerator,
    a factor exp(-(difference of lengths)^2 / (2 sigma^2)), and a factor of 10.

    Words are not stemmed. A k-gram that no reference has is taken to be in one. Where a caption or
    a reference has no k-grams, or only such as all pictures' references have, the cosine is 0. The
    error takes captions as independent, which the weights ln(N / ...) make them not quite.

    Args:
        captions: N >= 2; of one picture all weights are 0.
        references: one or more for each.
        penalised: CIDEr-D.
        counts: of CIDEr-D, counts of k-grams instead of their shares, as the published scripts
            have them. What tables of captions on COCO call CIDEr is this.
        n: words of the longest stretches.
        sigma: of the penalty, in words.

    Raises:
        ValueError: no captions, other numbers of references, or one without any.

    References:
        R. Vedantam, C. L. Zitnick, D. Parikh, 2015, "CIDEr: consensus-based image description
        evaluation" (arXiv:1411.5726), Eqs. 1 to 3, and section 6 of its later version.
    """
    ours, theirs = _cut(captions, references)
    scores = np.zeros(len(ours))
    for k in range(1, n + 1):
        seen = Counter(
            gram for others in theirs for gram in set().union(*(_grams(o, k) for o in others))
        )
        for i, (words, others) in enumerate(zip(ours, theirs, strict=True)):
            own = _weighted(_grams(words, k), seen, len(ours), counts)
            alike = 0.0
            for other in others:
                vector = _weighted(_grams(other, k), seen, len(ours), counts)
                shared = own.keys() & vector.keys()
                if not penalised:
                    dot = math.fsum(own[gram] * vector[gram] for gram in shared)
                else:
                    dot = math.fsum(min(own[gram], vector[gram]) * vector[gram] for gram in shared)
                    far = len(words) - len(other)
                    dot *= 10 * math.exp(-(far**2) / (2 * sigma**2))
                norm = _norm(own) * _norm(vector)
                alike += dot / norm if norm else 0.0
            scores[i] += alike / len(others) / n
    return mean_and_error(torch.from_numpy(scores))


def _cut(
    captions: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[list[list[str]], list[list[list[str]]]]:
    """Their words, once these fit together."""
    if not captions or len(captions) != len(references):
        raise ValueError(
            f"captions need references each, got {len(captions)} and those of {len(references)}"
        )
    bare = next((i for i, others in enumerate(references) if not others), None)
    if bare is not None:
        raise ValueError(f"caption {bare + 1} has no reference")
    return (
        [caption_words(text) for text in captions],
        [[caption_words(text) for text in others] for others in references],
    )


def _grams(words: Sequence[str], k: int) -> Counter[Gram]:
    return Counter(tuple(words[i : i + k]) for i in range(len(words) - k + 1))


def _bleu(totals: Floats, n: int) -> Floats:
    """Of sums over captions (..., 2 n + 2): k-grams found, k-grams, words, words of references."""
    found, grams = totals[..., :n], totals[..., n : 2 * n]
    words, others = totals[..., -2], totals[..., -1]
    defined: NDArray[np.bool_] = np.asarray(np.all(found > 0, axis=-1))  # then there are words, too
    shares = np.where(defined[..., None], found, 1) / np.where(defined[..., None], grams, 1)
    brevity = np.minimum(0, 1 - others / np.where(defined, words, 1))
    score: Floats = np.where(defined, np.exp(brevity + np.log(shares).mean(-1)), 0.0)
    return score


def _longest_common(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(b) + 1)
    for word in a:
        corner = 0
        for j, other in enumerate(b, 1):
            above = row[j]
            row[j] = corner + 1 if word == other else max(above, row[j - 1])
            corner = above
    return row[-1]


def _weighted(grams: Counter[Gram], seen: Counter[Gram], pictures: int, counts: bool) -> Vector:
    total = 1 if counts else max(grams.total(), 1)
    return {
        gram: count / total * math.log(pictures / max(seen[gram], 1))
        for gram, count in grams.items()
    }


def _norm(vector: Vector) -> float:
    return math.sqrt(math.fsum(value**2 for value in vector.values()))
