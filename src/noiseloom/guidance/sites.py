"""What a guide thinks of every single substitution: where a sequence is best changed."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from noiseloom.context import Predictor
from noiseloom.guidance.acquisition import Acquisition

__all__ = ["substitution_gains"]


@torch.no_grad()
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
    if x.ndim != 1 or x.is_floating_point():
        raise ValueError(f"substitutions are in one row of classes, got {tuple(x.shape)}")
    length = len(x)
    rows = x.repeat(length * classes + 1, 1)
    where = torch.arange(length * classes, device=x.device)
    rows[where, where // classes] = where % classes
    said = []
    for start in range(0, len(rows), batch_size):
        part = rows[start : start + batch_size]
        t = torch.zeros(len(part), device=x.device)
        said.append(acquisition(guide.predict(part, t, cond)))
    worth = torch.cat(said)
    gains = (worth[:-1] - worth[-1]).reshape(length, classes)
    here = torch.arange(classes, device=x.device) == x[:, None]
    return gains.masked_fill(here, 0)  # the same row in another batch may round differently
