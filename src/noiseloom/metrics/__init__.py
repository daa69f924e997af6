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
from noiseloom.metrics.ngrams import NGramModel
from noiseloom.metrics.report import image_report, noised, set_distances
from noiseloom.metrics.rows import copied_share, noised_tokens
from noiseloom.metrics.text import distinct_ngrams, judged_bits, word_validity

__all__ = [
    "Coverage",
    "Drift",
    "Features",
    "NGramModel",
    "agreement",
    "bit_histogram",
    "copied_share",
    "coverage",
    "discreteness",
    "distinct_ngrams",
    "energy_distance",
    "expected_coverage",
    "forecast_report",
    "frame_statistics",
    "frechet",
    "frechet_of_moments",
    "frechet_spread",
    "historical_paths",
    "image_report",
    "judged_bits",
    "kid",
    "memorised_share",
    "nearest",
    "noised",
    "noised_tokens",
    "quantile_score",
    "set_distances",
    "word_validity",
]
