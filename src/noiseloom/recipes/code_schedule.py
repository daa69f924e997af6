"""The codes of a state that has some, and the schedule by which their tokens lose what they say."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from noiseloom.encodings import Bits, OneHot
from noiseloom.information import Tabulated, affordable_draws, information_schedule
from noiseloom.recipes.recipe import Facts
from noiseloom.rng import Rng

__all__ = ["code_schedule", "code_table", "kept_schedule"]

Code: TypeAlias = Literal["binary", "gray", "random"]

_NEAR = 0.01  # shares lost at two log-SNRs, between which nothing need be found out


def code_table(state: str, code: Code, features: int, classes: int) -> Tensor:
    """The codes of a state, shape (K, n); embeddings, which are learnt, as they may begin."""
    if state == "bits":
        return Bits(classes, code=code).table
    if state == "onehot":
        # Of unit variance where classes are alike, as the schedule expects of a state.
        table = OneHot(classes).table
        return (table - table.mean()) / table.std(correction=0).clamp_min(1e-6)
    return torch.randn(classes, features)


def code_schedule(
    state: str, code: Code, features: int, frequencies: Sequence[Sequence[float]], *, quick: bool
) -> Tabulated:
    """The schedule of a state's codes, found once for all models of the same in a process.

    Args:
        state: bits, onehot or embedding.
        code: of the bits.
        features: of an embedding.
        frequencies: of the classes, for each place with a law of its own.
        quick: in seconds, however many the classes; otherwise as runs that kept none had it.
    """
    return _found(state, code, features, tuple(map(tuple, frequencies)), quick)


@lru_cache(maxsize=8)
def _found(
    state: str, code: Code, features: int, laws: tuple[tuple[float, ...], ...], quick: bool
) -> Tabulated:
    classes = len(laws[0])
    if state == "embedding":  # as far apart as these, but the same whenever it is built
        table = Rng(0).normal((classes, features))
        table = functional.rms_norm(table, table.shape[-1:])
    else:
        table = code_table(state, code, features, classes)
    # A law for each place where these differ: of a table's columns a mixture would be no law.
    pi = torch.tensor(laws, dtype=torch.float64)
    if quick:
        return information_schedule(table, pi, affordable_draws(classes), _NEAR)
    return information_schedule(table, pi)


def kept_schedule(derived: Facts) -> Tabulated | None:
    """The schedule among what a run keeps that was `derived` from its facts, if there is one."""
    kept = derived.get("schedule")
    return kept and Tabulated(tuple(kept["times"]), tuple(kept["log_snrs"]))
