"""How good forecasts are that are given as sampled paths."""

import torch
from torch import Tensor

from noiseloom.rng import Rng

__all__ = ["forecast_report", "historical_paths", "quantile_score"]

LEVELS = torch.arange(1, 20, dtype=torch.float64) / 20
"""0.05, 0.10, ..., 0.95."""


def quantile_score(paths: Tensor, truth: Tensor) -> float:
    """The continuous ranked probability score at 19 quantiles, over the size of the truth.

    (1 / 19) sum_q 2 sum |(y_q - y) (1[y <= y_q] - q)| / sum |y|, y_q the q-quantile of the paths:
    GluonTS's mean_wQuantileLoss. Of sums over the columns it is CRPS_sum.

    Args:
        paths: samples, shape (P, ...).
        truth: what came, shape (...).

    References:
        D. Salinas et al., 2019, "High-dimensional multivariate forecasting with low-rank Gaussian
        copula processes", arXiv 1910.03002, Section 5.2.
    """
    paths, truth = paths.double(), truth.double()
    levels = LEVELS.to(paths.device)
    found = torch.quantile(paths, levels, dim=0)
    q = levels.reshape(-1, *[1] * truth.ndim)
    loss = 2 * ((found - truth) * ((truth <= found).double() - q)).abs()
    return float(loss.sum() / len(levels) / truth.abs().sum())


def historical_paths(
    past: Tensor, start: Tensor, horizon: int, season: int, count: int, rng: Rng
) -> Tensor:
    """Forecasts that repeat history: the last season, moved as it moved at some time in the past.

    y_h = x_{h - m k} + z_{i + h} - z_{i + h - m k}, k = ceil(h / m), with a place i of the past
    for each path; m = 1 is a random walk with the increments of the past.

    Args:
        past: z, what is known, shape (N, D), N >= horizon + season.
        start: x, the steps that the forecast follows, shape (n, D), n >= season.
        horizon: number of steps h = 1, 2, ...
        season: m, in steps.
        count: number of paths.
        rng: which places.

    Returns:
        Shape (count, horizon, D).
    """
    h = torch.arange(1, horizon + 1)
    back = season * torch.div(h + season - 1, season, rounding_mode="floor")
    span = int(back.max())
    low = max(span - 1, 0)  # the earliest place from which there is as much before as is needed
    i = rng.integers(len(past) - horizon - low, (count, 1)) + low
    moved = past[i + h] - past[i + h - back]
    return start[len(start) - 1 + h - back] + moved


def forecast_report(paths: Tensor, truth: Tensor) -> dict[str, float]:
    """Scores of sampled paths.

    Args:
        paths: shape (P, W, H, D): paths, windows, steps, columns.
        truth: shape (W, H, D).

    Returns:
        "crps_sum", of the sums over columns; "crps", of all columns together; "inside_90", the
        share of values between the 5 % and 95 % quantiles, 0.9 (P - 1) / (P + 1) if the spread is
        right; and "mean_error", the mean absolute error of the median over the mean absolute
        value. What would be over nothing is left out.
    """
    edges = torch.quantile(paths.double(), torch.tensor([0.05, 0.5, 0.95]).double(), dim=0)
    inside = (truth >= edges[0]) & (truth <= edges[2])
    report = {}
    if truth.sum(-1).any():
        report["crps_sum"] = quantile_score(paths.sum(-1), truth.sum(-1))
    if truth.any():
        report["crps"] = quantile_score(paths, truth)
        report["mean_error"] = float((edges[1] - truth).abs().sum() / truth.abs().sum())
    return {**report, "inside_90": float(inside.double().mean())}
