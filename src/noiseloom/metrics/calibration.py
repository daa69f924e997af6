"""Whether what is said of a number, a mean and a variance, is borne out by the number itself."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from noiseloom.metrics.rows import mean_and_error

__all__ = ["SHARES", "calibration_report", "inside_share", "spearman"]

SHARES = (0.5, 0.8, 0.9, 0.95)
"""Of the central intervals whose coverage is told."""


def inside_share(labels: Tensor, mean: Tensor, variance: Tensor, shares: Sequence[float]) -> Tensor:
    """How many labels lie inside the central intervals of N(mean, variance) of these shares.

    Args:
        labels: y, shape (N,), N >= 1.
        mean: said of each.
        variance: likewise, > 0.
        shares: p in (0, 1), P of them: the interval is mean +- sqrt(2 variance) erfinv(p).

    Returns:
        Shares of labels, float64, shape (P,); p each where mean and variance are right.

    Raises:
        ValueError: shapes that differ, or no labels.

    Example:
        >>> inside_share(torch.tensor([0.5, 1.5]), torch.zeros(2), torch.ones(2), [0.5, 0.68, 0.95])
        tensor([0.5000, 0.5000, 1.0000], dtype=torch.float64)
    """
    if not labels.shape == mean.shape == variance.shape or labels.ndim != 1 or not len(labels):
        raise ValueError(
            f"labels, means and variances are three rows of one length, got {tuple(labels.shape)}, "
            f"{tuple(mean.shape)} and {tuple(variance.shape)}"
        )
    away = (labels - mean).double().abs() / variance.double().sqrt()
    limits = 2**0.5 * torch.erfinv(torch.tensor(shares, dtype=torch.float64))
    return (away[:, None] <= limits.to(away.device)).double().mean(0)


def spearman(x: Tensor, y: Tensor) -> float:
    """The rank correlation: Pearson's of ranks, equal numbers having the mean of theirs.

    NaN of fewer than two, or where all of one side are equal.

    Args:
        x: shape (N,).
        y: shape (N,).

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> round(spearman(torch.tensor([1.0, 2.0, 9.0]), torch.tensor([0.1, 0.5, 0.2])), 6)
        0.5
    """
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"ranks need two rows of one length, got {x.shape} and {y.shape}")
    first, second = (_ranks(v) - (len(v) + 1) / 2 for v in (x, y))
    size = (first.square().sum() * second.square().sum()).sqrt()
    return float((first * second).sum() / size) if size > 0 else float("nan")


def _ranks(values: Tensor) -> Tensor:
    _, places, counts = np.unique(values.cpu().numpy(), return_inverse=True, return_counts=True)
    ends = torch.from_numpy(counts).cumsum(0).double()
    return (ends - (torch.from_numpy(counts) - 1) / 2)[torch.from_numpy(places)]


def calibration_report(
    labels: Tensor, mean: Tensor, variance: Tensor, scale: float
) -> dict[str, float]:
    """What is to be known of predictions of one property.

    `nll`, nats a label where labels are counted in `scale`, with its standard error; `rmse`, in the
    units of the labels; `spearman`; and `inside_50` to `inside_95` (`SHARES`).

    Args:
        labels: y, shape (N,), N >= 1.
        mean: said of each.
        variance: likewise, > 0.
        scale: deviation of the training labels, > 0.
    """
    labels, mean, variance = (v.double() for v in (labels, mean, variance))
    off = labels - mean
    nats = (variance / scale**2).log() + off.square() / variance + math.log(2 * math.pi)
    nll, error = mean_and_error(nats / 2)
    inside = inside_share(labels, mean, variance, SHARES).tolist()
    return {
        "nll": nll,
        "nll_se": error,
        "rmse": float(off.square().mean().sqrt()),
        "spearman": spearman(labels, mean),
        **{f"inside_{100 * p:g}": share for p, share in zip(SHARES, inside, strict=True)},
    }
