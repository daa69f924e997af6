"""Draws of classes by one uniform number a token, its place in the cumulative sum of their law."""

import torch
from torch import Tensor

from noiseloom.rng import Rng
from noiseloom.schedule import wide

__all__ = ["drawn", "drawn_alike", "placed"]


def drawn(law: Tensor, rng: Rng) -> Tensor:
    """A class for each row of probabilities (..., K), which need not add up to 1.

    By one uniform number a token, the place in the cumulative sum: unlike the largest of K Gumbel
    numbers in float32 it does not favour likely classes, and a class of probability 0 is never
    drawn.
    """
    law = wide(law)
    return placed(law, rng.uniform(law.shape[:-1], device=law.device).to(law) * law.sum(-1))


def placed(p: Tensor, place: Tensor) -> Tensor:
    """The first class whose cumulative sum is above `place`, which is below their sum."""
    total = wide(p).cumsum(-1)
    # What rounding has put at the very end still belongs to the last class that there is.
    return (total <= place[..., None].minimum(total[..., -1:] * (1 - 1e-12))).sum(-1)


def drawn_alike(law: Tensor, u: Tensor) -> Tensor:
    """What `drawn` gives of a law (K,) or (T, K) for uniform numbers u (..., T): by bisection."""
    law = wide(law)
    total, u = law.cumsum(-1), wide(u)
    end = total[..., -1] * (1 - 1e-12)
    place = (u * law.sum(-1)).minimum(end)
    if law.ndim == 1:
        return torch.searchsorted(total, place, right=True)
    columns = place.movedim(-1, 0)
    found = torch.searchsorted(total, columns.flatten(1).contiguous(), right=True)
    return found.reshape(columns.shape).movedim(0, -1)
