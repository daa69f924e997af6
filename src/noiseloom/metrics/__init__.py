"""How good are samples: distances between sets, coverage, copies, discreteness."""

from noiseloom.metrics.bits import bit_histogram, discreteness
from noiseloom.metrics.coverage import (
    Coverage,
    coverage,
    expected_coverage,
    memorised_share,
    nearest,
)
from noiseloom.metrics.drift import Drift, frame_statistics
from noiseloom.metrics.energy import energy_distance
from noiseloom.metrics.features import Features, agreement
from noiseloom.metrics.forecasts import forecast_report, historical_paths, quantile_score
from noiseloom.metrics.frechet import frechet, frechet_of_moments, frechet_spread
from noiseloom.metrics.kid import kid
from noiseloom.metrics.report import image_report, noised, set_distances

__all__ = [
    "Coverage",
    "Drift",
    "Features",
    "agreement",
    "bit_histogram",
    "coverage",
    "discreteness",
    "energy_distance",
    "expected_coverage",
    "forecast_report",
    "frame_statistics",
    "frechet",
    "frechet_of_moments",
    "frechet_spread",
    "historical_paths",
    "image_report",
    "kid",
    "memorised_share",
    "nearest",
    "noised",
    "quantile_score",
    "set_distances",
]
