"""Kernel distance between two sets of features: unbiased, with a standard error.

    KID = mean k(x, x') + mean k(y, y') - 2 mean k(x, y),    k(a, b) = (a . b / d + 1)^3,

means over pairs of different rows: the unbiased estimate of a squared maximum mean discrepancy, 0
on average where the distributions agree (and negative as often as not). M. Binkowski et al., 2018,
"Demystifying MMD GANs" (arXiv:1801.01401), Eq. 4 and Sec. 4.
"""

import torch
from torch import Tensor

from noiseloom.rng import Rng

__all__ = ["kid"]


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
    if not (x.isfinite().all() and y.isfinite().all()):
        raise ValueError("features must be finite, got NaN or infinity")
    a = x.double()[rng.fold("x").permutation(len(x)).to(x.device)].tensor_split(blocks)
    b = y.double()[rng.fold("y").permutation(len(y)).to(y.device)].tensor_split(blocks)
    sums = _pairs(a, a), _pairs(b, b), _pairs(a, b)
    sizes = torch.tensor([len(p) for p in a]), torch.tensor([len(p) for p in b])

    def estimate(use: Tensor) -> Tensor:
        n, m = (use @ size.double() for size in sizes)
        xx, yy, xy = (use @ s @ use for s in sums)
        return xx / (n * (n - 1)) + yy / (m * (m - 1)) - 2 * xy / (n * m)

    whole = estimate(torch.ones(blocks, dtype=torch.float64))
    without = torch.stack([estimate(row) for row in 1 - torch.eye(blocks, dtype=torch.float64)])
    error = ((blocks - 1) * without.var(correction=0)).sqrt()
    return float(whole), float(error)


def _pairs(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> Tensor:
    """Sums of the kernel over pairs of blocks, shape (B, B); a row is not paired with itself."""
    sums = torch.empty(len(a), len(b), dtype=torch.float64)
    for i, p in enumerate(a):
        for j, q in enumerate(b):
            k = (p @ q.mT / p.shape[1] + 1) ** 3
            sums[i, j] = k.sum() - (k.trace() if p is q else 0)
    return sums
