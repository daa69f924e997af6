"""How good are samples: distances between sets, coverage, copies, discreteness."""

from noiseloom.metrics.bits import bit_histogram, discreteness
from noiseloom.metrics.calibration import SHARES, calibration_report, inside_share, spearman
from noiseloom.metrics.captions import (
    caption_report,
    distinct_captions,
    exact_match,
    invalid_codes,
    true_share,
)
from noiseloom.metrics.colours import colour_distances
from noiseloom.metrics.coverage import (
    Coverage,
    coverage,
    expected_coverage,
    memorised_share,
    nearest,
)
from noiseloom.metrics.discrete import discrete_report
from noiseloom.metrics.drift import Drift, frame_statistics
from noiseloom.metrics.edits import nearest_edits
from noiseloom.metrics.energy import energy_distance
from noiseloom.metrics.features import Features, agreement
from noiseloom.metrics.forecasts import (
    forecast_report,
    historical_paths,
    history_report,
    quantile_score,
    random_walks,
)
from noiseloom.metrics.frechet import frechet, frechet_of_moments, frechet_spread
from noiseloom.metrics.intervals import mean_interval, t_quantile
from noiseloom.metrics.kid import kid, kid_by_group
from noiseloom.metrics.landscapes import value_report, values_of
from noiseloom.metrics.ngrams import NGramModel
from noiseloom.metrics.overlap import bleu, cider, rouge_l
from noiseloom.metrics.report import image_report, noised, set_distances
from noiseloom.metrics.rows import copied_share, noised_tokens, row_keys
from noiseloom.metrics.sentences import Sentences
from noiseloom.metrics.sequences import (
    canonical_smiles,
    kmer_distance,
    length_distance,
    lengths,
    novelty,
    uniqueness,
    validity,
)
from noiseloom.metrics.tables import (
    closest,
    cramers_v,
    dependence_gap,
    invalid_share,
    marginal_distances,
    only,
    pair_distances,
)
from noiseloom.metrics.text import distinct_ngrams, judged_bits, word_validity
from noiseloom.metrics.two_sample import two_sample_accuracy

__all__ = [
    "SHARES",
    "Coverage",
    "Drift",
    "Features",
    "NGramModel",
    "Sentences",
    "agreement",
    "bit_histogram",
    "bleu",
    "calibration_report",
    "canonical_smiles",
    "caption_report",
    "cider",
    "closest",
    "colour_distances",
    "copied_share",
    "coverage",
    "cramers_v",
    "dependence_gap",
    "discrete_report",
    "discreteness",
    "distinct_captions",
    "distinct_ngrams",
    "energy_distance",
    "exact_match",
    "expected_coverage",
    "forecast_report",
    "frame_statistics",
    "frechet",
    "frechet_of_moments",
    "frechet_spread",
    "historical_paths",
    "history_report",
    "image_report",
    "inside_share",
    "invalid_codes",
    "invalid_share",
    "judged_bits",
    "kid",
    "kid_by_group",
    "kmer_distance",
    "length_distance",
    "lengths",
    "marginal_distances",
    "mean_interval",
    "memorised_share",
    "nearest",
    "nearest_edits",
    "noised",
    "noised_tokens",
    "novelty",
    "only",
    "pair_distances",
    "quantile_score",
    "random_walks",
    "rouge_l",
    "row_keys",
    "set_distances",
    "spearman",
    "t_quantile",
    "true_share",
    "two_sample_accuracy",
    "uniqueness",
    "validity",
    "value_report",
    "values_of",
    "word_validity",
]
