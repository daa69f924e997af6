"""Guidance: wrappers around a denoiser, a network or a solver, one method per file."""

from noiseloom.guidance import acquisition, scaling
from noiseloom.guidance.after_step import nudged
from noiseloom.guidance.best import best_of
from noiseloom.guidance.classifier_free import ClassifierFree
from noiseloom.guidance.gradient import RewardGuided
from noiseloom.guidance.hidden import HiddenGuided, hidden_guided, state_value
from noiseloom.guidance.history import (
    HistoryGuided,
    HistoryTerm,
    fractional_history,
    temporal_history,
    vanilla_history,
)
from noiseloom.guidance.monte_carlo import MonteCarloGuided, completing
from noiseloom.guidance.property import PropertyGuided
from noiseloom.guidance.sites import substitution_gains

__all__ = [
    "ClassifierFree",
    "HiddenGuided",
    "HistoryGuided",
    "HistoryTerm",
    "MonteCarloGuided",
    "PropertyGuided",
    "RewardGuided",
    "acquisition",
    "best_of",
    "completing",
    "fractional_history",
    "hidden_guided",
    "nudged",
    "scaling",
    "state_value",
    "substitution_gains",
    "temporal_history",
    "vanilla_history",
]
