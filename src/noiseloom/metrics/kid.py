"""Kernel distance between two sets of features: unbiased, with a standard error.

    KID = mean k(x, x') + mean k(y, y') - 2 mean k(x, y),    k(a, b) = (a . b / d + 1)^3,

means over pairs of different rows: the unbiased estimate of a squared maximum mean discrepancy, 0
on average where the distributions agree (and negative as often as not). M. Binkowski et al., 2018,
"Demystifying MMD GANs" (arXiv:1801.01401), Eq. 4 and Sec. 4.
"""

import torch
from torch import Tensor

from noiseloom.rng import Rng

__all__ = ["kid", "kid_by_group"]


def kid(x: Tensor, y: Tensor, rng: Rng, *, blocks: int = 10) -> tuple[float, float]:
    """The kernel distance and its standard error, in float64.

    The estimate uses all pairs. For its error both sets are shuffled and cut into disjoint blocks,
    and the estimate is repeated with each block left out in turn (the jackknife): right where the
    distributions differ, up to sqrt(2) too large where they agree.

    Args:
        x: features, float, shape (n, d).
        y: features, float, shape (m, d), n and m at least 2 blocks.
        rng: shuffles; the estimate does not depend on it, the error does.
        blocks: number of blocks B, at least 2.

    Returns:
        The estimate and its standard error.

    Raises:
        ValueError: too few rows, other dimensions, features that are not finite.
    """
    if x.shape[1:] != y.shape[1:] or blocks < 2 or min(len(x), len(y)) < 2 * blocks:
        raise ValueError(
            f"{blocks} blocks (at least 2) need at least {2 * blocks} rows of one dimension on "
            f"both sides, got {tuple(x.shape)} and {tuple(y.shape)}"
        )
    _check_finite(x, y)
    a = x.double()[rng.fold("x").permutation(len(x)).to(x.device)].tensor_split(blocks)
    b = y.double()[rng.fold("y").permutation(len(y)).to(y.device)].tensor_split(blocks)
    every = torch.eye(blocks, dtype=torch.float64)
    return _jackknifed(a, b, every, every)


def kid_by_group(x: Tensor, y: Tensor, groups: Tensor) -> tuple[float, float | None]:
    """The kernel distance of rows that are alike in groups, and its standard error over groups.

    The estimate is that of `kid`. For its error it is repeated with each group left out in turn
    (the jackknife), y staying as it is: how it would vary with other groups, as other videos of
    which each gives many frames. Rows that were taken for independent would make it too small.

    Args:
        x: features, float, shape (n, d).
        y: features, float, shape (m, d), n and m at least 2.
        groups: int64, shape (n,), the group of each row of x, of any numbers.

    Returns:
        The estimate and its standard error, None where there is one group.

    Raises:
        ValueError: too few rows, other dimensions, features that are not finite.
    """
    if x.shape[1:] != y.shape[1:] or min(len(x), len(y)) < 2 or groups.shape != x.shape[:1]:
        raise ValueError(
            "rows of one dimension, two or more on both sides, and a group of each of the first "
            f"are needed, got {tuple(x.shape)}, {tuple(y.shape)} and {tuple(groups.shape)}"
        )
    _check_finite(x, y)
    groups = groups.to(x.device)
    parts = tuple(x[groups == group].double() for group in sorted(set(groups.tolist())))
    if len(parts) > 1 and len(x) - max(map(len, parts)) < 2:
        raise ValueError(
            f"two rows or more are needed outside of each group, got {[*map(len, parts)]}"
        )
    estimate, error = _jackknifed(
        parts,
        (y.double(),),
        torch.eye(len(parts), dtype=torch.float64),
        torch.zeros(len(parts), 1, dtype=torch.float64),
    )
    return estimate, error if len(parts) > 1 else None


def _check_finite(x: Tensor, y: Tensor) -> None:
    if not (x.isfinite().all() and y.isfinite().all()):
        raise ValueError("features must be finite, got NaN or infinity")


def _jackknifed(
    a: tuple[Tensor, ...], b: tuple[Tensor, ...], out_a: Tensor, out_b: Tensor
) -> tuple[float, float]:
    """The estimate of all blocks, and its error by leaving some out.

    Args:
        a: blocks of rows x.
        b: blocks of rows y.
        out_a: which blocks of x each of R repetitions leaves out, 0 or 1, shape (R, blocks).
        out_b: the same of y.
    """
    sums = _pairs(a, a), _pairs(b, b), _pairs(a, b)
    sizes = [torch.tensor([len(p) for p in parts]).double() for parts in (a, b)]

    def estimate(use: Tensor, other: Tensor) -> Tensor:
        n, m = use @ sizes[0], other @ sizes[1]
        xx, yy, xy = use @ sums[0] @ use, other @ sums[1] @ other, use @ sums[2] @ other
        return xx / (n * (n - 1)) + yy / (m * (m - 1)) - 2 * xy / (n * m)

    whole = estimate(torch.ones_like(sizes[0]), torch.ones_like(sizes[1]))
    without = torch.stack([estimate(1 - p, 1 - q) for p, q in zip(out_a, out_b, strict=True)])
    error = ((len(without) - 1) * without.var(correction=0)).sqrt()
    return float(whole), float(error)


def _pairs(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> Tensor:
    """Sums of the kernel over pairs of blocks, shape (B, B); a row is not paired with itself."""
    sums = torch.empty(len(a), len(b), dtype=torch.float64)
    for i, p in enumerate(a):
        for j, q in enumerate(b):
            k = (p @ q.mT / p.shape[1] + 1) ** 3
            sums[i, j] = k.sum() - (k.trace() if p is q else 0)
    return sums
