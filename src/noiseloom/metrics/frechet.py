"""Frechet distance between two sets of features, each seen as a Gaussian.

    d^2 = |mu_1 - mu_2|^2 + tr(S_1 + S_2 - 2 (S_1^(1/2) S_2 S_1^(1/2))^(1/2))

D. Dowson, B. Landau, 1982, "The Frechet distance between multivariate normal distributions"; M.
Heusel et al., 2017, "GANs trained by a two time-scale update rule" (arXiv:1706.08500), who use
features of the Inception network: only there it is called FID.

The estimate is biased upwards, more so for small sets. So both sets have the same size, stated
beside the number; fewer than two rows per dimension are refused; and a spread comes from disjoint
subsets: drawing with replacement repeats rows and lands far above the truth.
"""

import torch
from torch import Tensor

from noiseloom.rng import Rng

__all__ = ["frechet", "frechet_of_moments", "frechet_spread"]


def frechet_of_moments(mean_1: Tensor, cov_1: Tensor, mean_2: Tensor, cov_2: Tensor) -> float:
    """The distance d^2 of two Gaussians, in float64.

    Args:
        mean_1: shape (d,).
        cov_1: covariance, shape (d, d), positive semi-definite.
        mean_2: shape (d,).
        cov_2: covariance, shape (d, d), positive semi-definite.
    """
    m_1, m_2, S_1, S_2 = (x.double() for x in (mean_1, mean_2, cov_1, cov_2))
    values, vectors = torch.linalg.eigh(S_1)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.mT
    cross = torch.linalg.eigvalsh(root @ S_2 @ root).clamp_min(0).sqrt().sum()
    return float((m_1 - m_2).square().sum() + S_1.trace() + S_2.trace() - 2 * cross)


def frechet(x: Tensor, y: Tensor, *, allow_small: bool = False) -> float:
    """The distance d^2 between two sets of features of equal size.

    Args:
        x: features, float, shape (n, d).
        y: features, float, shape (n, d).
        allow_small: compute it for n < 2 d too, where bias outweighs most differences.

    Raises:
        ValueError: unequal sizes, too few rows, features that are not finite.
    """
    n, d = x.shape
    if y.shape != x.shape:
        raise ValueError(
            f"a Frechet distance needs sets of equal size, got {tuple(x.shape)} and "
            f"{tuple(y.shape)}: its bias depends on it"
        )
    if n < 2 or (n < 2 * d and not allow_small):
        raise ValueError(
            f"a Frechet distance in {d} dimensions needs at least {2 * d} rows, got {n}: use more "
            "samples, kid, or allow_small"
        )
    x, y = x.double(), y.double()
    if not (x.isfinite().all() and y.isfinite().all()):
        raise ValueError("features must be finite, got NaN or infinity")
    S, T = (torch.cov(z.mT).reshape(d, d) for z in (x, y))  # of one feature, cov gives a number
    return frechet_of_moments(x.mean(0), S, y.mean(0), T)


def frechet_spread(
    x: Tensor, y: Tensor, parts: int, rng: Rng, *, allow_small: bool = False
) -> Tensor:
    """Distances of disjoint parts; their spread is that of one distance at n / parts rows.

    Args:
        x: features, float, shape (n, d).
        y: features, float, shape (n, d).
        parts: into how many parts of n // parts rows each.
        rng: shuffles each set before it is cut.
        allow_small: as in `frechet`.

    Returns:
        float64, shape (parts,).
    """
    size = len(x) // parts
    a = x[rng.fold("x").permutation(len(x)).to(x.device)]
    b = y[rng.fold("y").permutation(len(y)).to(y.device)]
    cuts = (slice(i * size, (i + 1) * size) for i in range(parts))
    distances = [frechet(a[cut], b[cut], allow_small=allow_small) for cut in cuts]
    return torch.tensor(distances, dtype=torch.float64)
