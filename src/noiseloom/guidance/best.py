"""The best that a sampling loop has come by, sample by sample."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from noiseloom.sampling import Step
from noiseloom.shapes import map_state

__all__ = ["best_of"]

S = TypeVar("S", Tensor, dict[str, Tensor])


def best_of(steps: Iterable[Step[S]], worth: Callable[[S], Tensor]) -> tuple[S, Tensor]:
    """Of each sample, the result of the step that is worth most, and what it is worth.

    The last step is not always the best: a guide that is asked about each result picks another, and
    is believed where it errs upwards, too.

    Args:
        steps: a sampling loop, run to its end.
        worth: of results (clean states), shape (B,); NaN is never best.

    Raises:
        ValueError: there are no steps.

    References:
        N. Gruver et al., 2023, NOS, arXiv 2305.20009 (the released code's `return_best`).
    """
    best: S | None = None
    most = torch.zeros(())
    for step in steps:
        with torch.no_grad():
            value = worth(step.result).nan_to_num(nan=-torch.inf)
        if best is None:
            best, most = step.result, value
            continue
        better = value > most
        best = map_state(partial(_chosen, better), step.result, best)
        most = torch.where(better, value, most)
    if best is None:
        raise ValueError("no steps to choose from")
    return best, most


def _chosen(better: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(better.reshape(-1, *(1,) * (new.ndim - 1)), new, old)
