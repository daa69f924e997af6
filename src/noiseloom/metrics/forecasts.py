"""How good forecasts are that are given as sampled paths."""

import torch
from torch import Tensor

from noiseloom.rng import Rng

__all__ = [
    "forecast_report",
    "historical_paths",
    "history_report",
    "quantile_score",
    "random_walks",
]

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
        past: z, what is known, shape (N, D), N >= horizon + season; steps with a gap (NaN) are
            repeated by no path.
        start: x, the steps that the forecast follows, shape (n, D), n >= season.
        horizon: number of steps h = 1, 2, ...
        season: m, in steps.
        count: number of paths.
        rng: which places.

    Returns:
        Shape (count, horizon, D).

    Raises:
        ValueError: no stretch of the past is long enough, or without gaps.
    """
    h, back = _steps(horizon, season)
    places = _places(past, h, back)
    if not len(places):
        raise ValueError(f"no stretch of {horizon} steps and a season of {season} is without gaps")
    i = places[rng.integers(len(places), (count, 1))]
    moved = past[i + h] - past[i + h - back]
    return start[len(start) - 1 + h - back] + moved


def random_walks(known: Tensor, horizon: int, count: int, rng: Rng) -> Tensor:
    """Forecasts that know no more than how fast things have moved: normal walks without drift.

    y_h = x_0 + s (e_1 + ... + e_h), e ~ N(0, 1), s^2 the mean squared change of a column.

    Args:
        known: what forecasts follow, x_0 its last step, shape (W, L, D), L >= 2; changes from or to
            a gap (NaN) are left out.
        horizon: number of steps h = 1, 2, ...
        count: number of paths.
        rng: draws the steps.

    Returns:
        Shape (count, W, horizon, D); NaN where nothing is known of a column.

    References:
        R. Meese, K. Rogoff, 1983, "Empirical exchange rate models of the seventies", Journal of
        International Economics 14: for exchange rates it is hard to do better.
    """
    W, _, D = known.shape
    pace = known.diff(dim=1).square().nanmean(1, keepdim=True).sqrt()
    steps = rng.normal((count, W, horizon, D), device=known.device, dtype=known.dtype)
    return known[:, -1:] + pace * steps.cumsum(2)


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


def history_report(
    past: Tensor, ahead: Tensor, horizon: int, season: int, count: int, rng: Rng
) -> dict[str, float]:
    """Scores of `historical_paths` for stretches that follow each other, each known to the next.

    Args:
        past: what is known before, shape (N, D); gaps (NaN) are not repeated.
        ahead: what came, shape (W horizon, D).
        horizon: steps of a stretch.
        season: m, in steps.
        count: number of paths.
        rng: which places.

    Returns:
        As `forecast_report`; nothing where the past is shorter than three seasons and stretches,
        or gaps leave none to repeat.
    """
    h, back = _steps(horizon, season)
    last = torch.cat((past, ahead))[len(past) - int(back.max()) :]
    if len(past) < 3 * (season + horizon) or not len(_places(past, h, back)):
        return {}
    if not last.isfinite().all():
        return {}
    paths = [
        historical_paths(
            past,
            torch.cat((past, ahead[: i * horizon])),
            horizon,
            season,
            count,
            rng.fold("window", i),
        )
        for i in range(len(ahead) // horizon)
    ]
    return forecast_report(torch.stack(paths, 1), ahead.reshape(-1, horizon, ahead.shape[1]))


def _steps(horizon: int, season: int) -> tuple[Tensor, Tensor]:
    """Steps h = 1, 2, ..., and m ceil(h / m) of each."""
    h = torch.arange(1, horizon + 1)
    return h, season * torch.div(h + season - 1, season, rounding_mode="floor")


def _places(past: Tensor, h: Tensor, back: Tensor) -> Tensor:
    """The places i at which z_{i + h} and z_{i + h - m k} are there, int64, rising."""
    # The earliest place from which there is as much before as is needed.
    places = torch.arange(max(int(back.max()) - 1, 0), len(past) - len(h))
    there = past.isfinite().all(1)
    if there.all():
        return places
    good = torch.ones_like(places, dtype=torch.bool)
    for step, before in zip(h.tolist(), back.tolist(), strict=True):
        good &= there[places + step] & there[places + step - before]
    return places[good]
