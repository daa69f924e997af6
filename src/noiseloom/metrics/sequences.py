"""How good sampled sequences are: valid, different, new, and of what lengths and pieces.

What is valid is known to a function of the field, such as a parser of molecules; that brackets
match is not validity. It gives a canonical form, so that two spellings of one thing are one. D.
Polykovskiy et al., 2020, "Molecular sets (MOSES)" (arXiv:1811.12823), Sec. 4, names the shares.
"""

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from noiseloom.data.chemistry import chemistry
from noiseloom.metrics.ngrams import Floats, Ints, ngram_codes
from noiseloom.metrics.rows import copied_share, mean_and_error

__all__ = [
    "canonical_smiles",
    "kmer_distance",
    "length_distance",
    "lengths",
    "novelty",
    "uniqueness",
    "validity",
]


def validity(forms: Sequence[Hashable | None]) -> tuple[float, float]:
    """Share of sequences that are valid, and its standard error.

    Args:
        forms: of each sequence its canonical form, None where it is not valid; at least one.

    Raises:
        ValueError: no sequences.
    """
    return mean_and_error(torch.tensor([form is not None for form in forms]))


def uniqueness(forms: Sequence[Hashable | None]) -> float:
    """Share of different ones among the valid sequences; NaN where none is valid.

    It falls with their number: compare only numbers of equal counts.

    Args:
        forms: of each sequence its canonical form, None where it is not valid.
    """
    valid = [form for form in forms if form is not None]
    return len(set(valid)) / len(valid) if valid else float("nan")


def novelty(
    forms: Sequence[Hashable | None], train: Iterable[Hashable | None]
) -> tuple[float, float]:
    """Share of the different valid sequences that are not in the training set, with its error.

    Near 1 is good of a law that is large beside the training set: it means something beside that
    of held-out sequences. NaN where none is valid.

    Args:
        forms: of each sequence its canonical form, None where it is not valid.
        train: canonical forms of the training sequences.
    """
    different = list({form for form in forms if form is not None})
    if not different:
        return float("nan"), float("nan")
    share, error = copied_share(different, train)
    return 1 - share, error


def canonical_smiles(text: str) -> str | None:
    """The canonical SMILES of a molecule, None of what RDKit cannot read or sanitise.

    Args:
        text: SMILES; of no characters there is no molecule, nor of any with a blank, after which
            RDKit would read a name.

    Raises:
        ImportError: the extra `chem` is not installed.
    """
    chem = chemistry()
    from rdkit import rdBase

    with rdBase.BlockLogs():  # or every sample that is wrong writes lines to the terminal
        molecule = chem.MolFromSmiles(text) if text.split() == [text] else None
        form: Any = chem.MolToSmiles(molecule) if molecule is not None else None
    return form or None


def lengths(rows: Tensor, pad: int | None) -> Tensor:
    """Tokens of each row before its first pad, int64, shape (N,).

    Args:
        rows: integers, shape (N, T).
        pad: the class that fills rows up; None where all rows are of T tokens.
    """
    if pad is None:
        return torch.full((len(rows),), rows.shape[1])
    return (rows != pad).long().cumprod(1).sum(1)


def length_distance(x: Tensor, y: Tensor, pad: int | None) -> float:
    """Wasserstein distance between the laws of lengths, sum_l |F(l) - G(l)|, in tokens.

    By how many tokens sequences must grow or shrink, on average, for the lengths to agree.

    Args:
        x: integers, shape (n, T), n >= 1.
        y: integers, shape (m, T), m >= 1.
        pad: the class that fills rows up, or None.

    Raises:
        ValueError: no rows.
    """
    if not (len(x) and len(y)):
        raise ValueError(f"lengths need rows on both sides, got {len(x)} and {len(y)}")
    most = max(x.shape[1], y.shape[1]) + 1
    p, q = (torch.bincount(lengths(r, pad).cpu(), minlength=most).double() for r in (x, y))
    return float((p.cumsum(0) / len(x) - q.cumsum(0) / len(y)).abs().sum())


def kmer_distance(x: Tensor, y: Tensor, k: int, classes: int, pad: int | None = None) -> float:
    """Total variation between the laws of k tokens in a row, (1/2) sum_w |p_w - q_w|, in [0, 1].

    Like that of columns it is above 0 for finite sets of one law, more so for larger k: it means
    something beside that of as many held-out rows.

    Args:
        x: integers, shape (n, T), 0 .. K - 1.
        y: integers, shape (m, S), likewise.
        k: tokens of a piece, at least 1.
        classes: K, with the pad.
        pad: the class that fills rows up; pieces end before the first one.

    Raises:
        ValueError: no piece of k tokens on one of the sides; what `ngram_codes` refuses.
    """
    (kinds, p), (others, q) = (_kmers(r, k, classes, pad) for r in (x, y))
    every = np.union1d(kinds, others)
    gap = np.zeros(len(every))
    gap[np.searchsorted(every, kinds)] += p
    gap[np.searchsorted(every, others)] -= q
    return float(np.abs(gap).sum() / 2)


def _kmers(rows: Tensor, k: int, classes: int, pad: int | None) -> tuple[Ints, Floats]:
    """The different pieces of rows, and their shares."""
    codes = ngram_codes(rows, k, classes)
    ends = torch.arange(k, k + codes.shape[1])
    codes = codes[(ends <= lengths(rows, pad).cpu()[:, None]).numpy()]
    if not codes.size:
        raise ValueError(f"there is no piece of {k} tokens in rows {tuple(rows.shape)}")
    kinds, counts = np.unique(codes, return_counts=True)
    return kinds, counts / codes.size
