"""What a guide thinks of every single substitution: where a sequence is best changed."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from noiseloom.context import Predictor
from noiseloom.guidance.acquisition import Acquisition

__all__ = ["every_gain", "substitution_gains"]


def substitution_gains(
    guide: Predictor,
    acquisition: Acquisition,
    x: Tensor,
    classes: int,
    *,
    cond: Mapping[str, Any] | None = None,
    batch_size: int = 512,
) -> Tensor:
    """a(x with token i changed to k) - a(x), for every i and k: no approximation, but T K rows.

    The guide is asked at time 0, about clean rows. The best of each site, `gains.amax(1)`, is what
    `redesign.free_sites` takes.

    Args:
        guide: in evaluation.
        acquisition: a, what is asked of it.
        x: one row of classes, int64, shape (T,).
        classes: K: substitutes are 0 .. K - 1. Of sequences that end leave the end out.
        cond: what the guide is told, the same for all.
        batch_size: rows that it is asked about at once.

    Returns:
        Gains, shape (T, K); 0 where k is what is there.

    Raises:
        ValueError: a row of another shape.
    """

    def worth(rows: Tensor) -> Tensor:
        found = []
        for start in range(0, len(rows), batch_size):
            part = rows[start : start + batch_size]
            t = torch.zeros(len(part), device=x.device)
            found.append(acquisition(guide.predict(part, t, cond)))
        return torch.cat(found)

    return every_gain(worth, x, classes)


@torch.no_grad()
def every_gain(
    worth: Callable[[Tensor], Tensor], x: Tensor, classes: int, length: int | None = None
) -> Tensor:
    """What is gained by each substitution in one row, by what rows are worth.

    Args:
        worth: of rows (N, T), shape (N,).
        x: the row, int64, shape (T,).
        classes: K: substitutes are 0 .. K - 1.
        length: L, tokens from the first on that are changed; all by default.

    Returns:
        Gains, shape (L, K); 0 where k is what is there.

    Raises:
        ValueError: a row of another shape.
    """
    if x.ndim != 1 or x.is_floating_point():
        raise ValueError(f"substitutions are in one row of classes, got {tuple(x.shape)}")
    length = len(x) if length is None else length
    rows = x.repeat(length * classes + 1, 1)
    where = torch.arange(length * classes, device=x.device)
    rows[where, where // classes] = where % classes
    found = worth(rows)
    gains = (found[:-1] - found[-1]).reshape(length, classes)
    here = torch.arange(classes, device=x.device) == x[:length, None]
    return gains.masked_fill(here, 0)  # the same row in another batch may round differently
