"""The energy distance between two sets of vectors."""

import torch
from torch import Tensor

__all__ = ["energy_distance"]

_ROWS = 2000


def energy_distance(x: Tensor, y: Tensor) -> float:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'|, without bias: about 0, perhaps below, for equal laws.

    It is 0 for equal laws only, has no parameter, and needs no features: for points in few
    dimensions.

    Args:
        x: shape (n, D), n >= 2.
        y: shape (l, D), l >= 2.

    References:
        G. Szekely, M. Rizzo, 2013, "Energy statistics: A class of statistics based on distances".

    Example:
        >>> import torch
        >>> energy_distance(torch.zeros(2, 1), torch.ones(2, 1))
        2.0
    """
    n, m = len(x), len(y)
    own = _total(x, x) / (n * (n - 1)) + _total(y, y) / (m * (m - 1))
    return 2 * _total(x, y) / (n * m) - own


def _total(x: Tensor, y: Tensor) -> float:
    # By coordinates: matrix products would lose the digits of small distances.
    mode = "donot_use_mm_for_euclid_dist"
    parts = (
        torch.cdist(rows.double(), y.double(), compute_mode=mode).sum()
        for rows in torch.split(x, _ROWS)
    )
    return float(sum(parts))
