"""How good sampled rows of a table are: columns, pairs of columns, rules, copies.

Rows are integers (N, T) with K_c classes in column c; what is no class of its column counts as one
more class, so that codes that mean nothing are a difference like any other.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from noiseloom.metrics.rows import mean_and_error
from noiseloom.progress import tell

__all__ = [
    "Rule",
    "closest",
    "cramers_v",
    "dependence_gap",
    "invalid_share",
    "marginal_distances",
    "only",
    "pair_distances",
]

Rule: TypeAlias = Callable[[Tensor], Tensor]
"""Rows (N, T) to bool (N,): whether each keeps a rule."""

_CELLS = 2**24  # of a matrix at a time, to bound memory


def marginal_distances(x: Tensor, y: Tensor, sizes: Sequence[int]) -> Tensor:
    """Total variation between the two laws of each column, (1/2) sum_k |p_k - q_k|, in [0, 1].

    Of finite sets it is above 0 where the laws agree, by about sqrt(K / n): it means something
    beside that of as many held-out rows.

    Args:
        x: integers, shape (n, T), n >= 1.
        y: integers, shape (m, T), m >= 1.
        sizes: K_1, ..., K_T.

    Returns:
        float64, shape (T,).

    Raises:
        ValueError: no rows, or other columns.
    """
    _check(sizes, x, y)
    found = []
    for c, K in enumerate(sizes):
        p, q = (torch.bincount(_classes(r[:, c], K), minlength=K + 1).double() for r in (x, y))
        found.append((p / len(x) - q / len(y)).abs().sum() / 2)
    return torch.stack(found)


def pair_distances(x: Tensor, y: Tensor, sizes: Sequence[int]) -> Tensor:
    """Total variation between the two joint laws of each pair of columns, in [0, 1].

    At least that of either column alone: what two columns have in common is wrong where it is much
    more. It sees any change of a pair, but is biased upwards as if by K_a K_b classes.

    Args:
        x: integers, shape (n, T), n >= 1.
        y: integers, shape (m, T), m >= 1.
        sizes: K_1, ..., K_T.

    Returns:
        float64, shape (T (T - 1) / 2,), in the order (0, 1), (0, 2), ..., (1, 2), ...

    Raises:
        ValueError: no rows, other columns, or one column only.
    """
    _check(sizes, x, y, pairs=True)
    gap = _tables(x, sizes) / len(x) - _tables(y, sizes) / len(y)
    return torch.stack([part.abs().sum() / 2 for part in _pairs(gap, sizes)])


def cramers_v(x: Tensor, sizes: Sequence[int]) -> Tensor:
    """How strongly each pair of columns depends: Cramer's V without its bias, in [0, 1].

    V^2 = max(0, f - (r - 1)(s - 1) / (n - 1)) / (min(r', s') - 1), f = chi^2 / n, r and s the
    classes that are there, r' = r - (r - 1)^2 / (n - 1) and s' alike: 0 for independent columns
    up to noise, 1 where one tells the other, and for columns of one class 0.

    Args:
        x: integers, shape (n, T), n >= 2.
        sizes: K_1, ..., K_T.

    Returns:
        float64, shape (T (T - 1) / 2,), in the order of `pair_distances`.

    Raises:
        ValueError: fewer than two rows, other columns, or one column only.

    References:
        W. Bergsma, 2013, "A bias-correction for Cramer's V and Tschuprow's T", J. Korean Stat.
        Soc. 42(3).
    """
    _check(sizes, x, pairs=True)
    n = len(x)
    if n < 2:
        raise ValueError("dependence needs at least two rows, got one")
    found = []
    for table in _pairs(_tables(x, sizes), sizes):
        table = table[table.sum(1) > 0][:, table.sum(0) > 0]
        r, s = table.shape
        if min(r, s) < 2:
            found.append(0.0)
            continue
        expected = table.sum(1, keepdim=True) * table.sum(0) / n
        strength = float(((table - expected) ** 2 / expected).sum()) / n
        strength = max(0.0, strength - (r - 1) * (s - 1) / (n - 1))
        most = min(r - (r - 1) ** 2 / (n - 1), s - (s - 1) ** 2 / (n - 1)) - 1
        # Of all but as many classes as rows nothing can be said.
        found.append(min((strength / most) ** 0.5, 1.0) if most > 1e-9 else 0.0)
    return torch.tensor(found, dtype=torch.float64)


def dependence_gap(x: Tensor, y: Tensor, sizes: Sequence[int]) -> tuple[float, float]:
    """How differently pairs of columns depend: mean and largest |V_x - V_y|, in [0, 1].

    Cramer's V, and not mutual information, as it has one scale for columns of few and of many
    classes, and a correction of its bias. It asks how strong a dependence is and not which: of two
    opposite ones the gap is 0, and `pair_distances` 1.

    Args:
        x: integers, shape (n, T), n >= 2.
        y: integers, shape (m, T), m >= 2.
        sizes: K_1, ..., K_T.

    Raises:
        ValueError: fewer than two rows, other columns, or one column only.
    """
    gap = (cramers_v(x, sizes) - cramers_v(y, sizes)).abs()
    return float(gap.mean()), float(gap.max())


def only(columns: Sequence[int], allowed: Tensor) -> Rule:
    """The rule that some columns together have one of the combinations that are allowed.

    Args:
        columns: which, C of them; one for a rule on its values.
        allowed: the combinations, integers, shape (A, C), or (A,) for one column; training rows
            `train[:, columns]` for what was ever seen.
    """
    known = {tuple(row) for row in allowed.reshape(len(allowed), len(columns)).tolist()}

    def keeps(rows: Tensor) -> Tensor:
        found = [tuple(row) in known for row in rows[:, list(columns)].tolist()]
        return torch.tensor(found, dtype=torch.bool)

    return keeps


def invalid_share(
    rows: Tensor, sizes: Sequence[int], rules: Sequence[Rule] = ()
) -> tuple[float, float]:
    """Share of rows that cannot be, and its standard error.

    Args:
        rows: integers, shape (N, T), N >= 1.
        sizes: K_1, ..., K_T: a row with a code that is no class is invalid.
        rules: what rows must keep besides; they are asked about rows of classes only.

    Raises:
        ValueError: no rows, or other columns.
    """
    _check(sizes, rows)
    rows = rows.cpu()
    valid = ((rows >= 0) & (rows < torch.tensor(sizes))).all(1)
    for rule in rules:
        left = valid.nonzero()[:, 0]
        valid[left] = rule(rows[left])
    return mean_and_error(~valid)


def closest(rows: Tensor, train: Tensor) -> Tensor:
    """Share of columns in which each row differs from the training row that is most like it.

    0 for copies. Rows that are nearer to the training set than held-out rows are were memorised.

    Args:
        rows: integers, shape (n, T), |x| < 2^24.
        train: integers, shape (N, T), N >= 1.

    Returns:
        float64, shape (n,), multiples of 1 / T in [0, 1].

    Raises:
        ValueError: no training rows, or other columns.
    """
    T = rows.shape[1]
    if not len(train) or train.shape[1:] != rows.shape[1:]:
        raise ValueError(
            f"rows of shape {tuple(rows.shape)} cannot be nearest to any of {tuple(train.shape)}"
        )
    reference = train.float()
    step = max(_CELLS // len(train), 1)
    parts = []
    for start in range(0, len(rows), step):
        tell("nearest training rows", start, len(rows))
        distance = torch.cdist(rows[start : start + step].float(), reference, p=0)
        parts.append(distance.amin(1))
    return torch.cat(parts).double() / T


def _classes(column: Tensor, K: int) -> Tensor:
    """The classes of a column, K for what is none."""
    return torch.where((column >= 0) & (column < K), column.long(), K).cpu()


def _tables(x: Tensor, sizes: Sequence[int]) -> Tensor:
    """How often each class of each column meets each class of each, a matrix of blocks."""
    total = torch.zeros(sum(sizes) + len(sizes), sum(sizes) + len(sizes), dtype=torch.float64)
    for rows in torch.split(x, max(_CELLS // len(total), 1)):
        hot = [one_hot(_classes(rows[:, c], K), K + 1).float() for c, K in enumerate(sizes)]
        flat = torch.cat(hot, 1)  # whose counts of one piece are exact in float32
        total += flat.mT @ flat
    return total


def _pairs(blocks: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """The blocks of pairs of different columns."""
    widths = [K + 1 for K in sizes]
    rows = [torch.split(row, widths, 1) for row in torch.split(blocks, widths)]
    return [rows[a][b] for a in range(len(sizes)) for b in range(a + 1, len(sizes))]


def _check(sizes: Sequence[int], *sets: Tensor, pairs: bool = False) -> None:
    for x in sets:
        if x.ndim != 2 or not len(x) or x.shape[1] != len(sizes):
            raise ValueError(
                f"rows must have shape (N, {len(sizes)}) with N >= 1, got {tuple(x.shape)}"
            )
    if pairs and len(sizes) < 2:
        raise ValueError("pairs need at least two columns, got one")
