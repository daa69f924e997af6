"""Guidance: wrappers around a denoiser, one method per file."""

from noiseloom.guidance.classifier_free import ClassifierFree
from noiseloom.guidance.gradient import RewardGuided
from noiseloom.guidance.history import (
    HistoryGuided,
    HistoryTerm,
    fractional_history,
    temporal_history,
    vanilla_history,
)
from noiseloom.guidance.monte_carlo import MonteCarloGuided

__all__ = [
    "ClassifierFree",
    "HistoryGuided",
    "HistoryTerm",
    "MonteCarloGuided",
    "RewardGuided",
    "fractional_history",
    "temporal_history",
    "vanilla_history",
]
