"""What networks read off points that does not depend on how these lie, and what turns with them."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from noiseloom.nets.nodes import hidden_padding, masked_mean

__all__ = ["DISTANCES", "INVARIANTS", "Lines", "moments"]

DISTANCES = 16
"""Features of a distance: waves of 1/2 to 16 rad per unit of the states' deviation."""

INVARIANTS = 6
"""Of the second moment of points, three of each point and three of all."""


class Lines(NamedTuple):
    """From every point to every other: vectors (B, N, N, 3) and lengths (B, N, N, 1)."""

    way: Tensor
    length: Tensor

    @classmethod
    def between(cls, x: Tensor) -> "Lines":
        """Those of points (B, N, 3)."""
        way = x[:, :, None] - x[:, None]
        # The root has no derivative at 0, where two points meet.
        return cls(way, (way.square().sum(-1, keepdim=True) + 1e-12).sqrt())

    def waves(self) -> Tensor:
        """Sines and cosines of the lengths, shape (B, N, N, DISTANCES).

        They are bounded, and the longest tells all lengths below 12 deviations apart.
        """
        like: dict[str, Any] = {"dtype": self.length.dtype, "device": self.length.device}
        rates = 2 ** torch.linspace(-1, 4, DISTANCES // 2, **like).repeat(2)
        quarter = (torch.arange(DISTANCES, **like) >= DISTANCES // 2) * (math.pi / 2)
        return torch.addcmul(quarter, self.length, rates).sin()


def moments(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The second moment M of points about their centre, of trace 1: what is said with it.

    Args:
        x: points (B, N, 3), padding 0.
        mask: bool (B, N).

    Returns:
        Invariants, shape (B, N, INVARIANTS): x M^k x / trace of each point x about the centre, for
        k = 0, 1, 2, and of all the logarithm of the trace (before it was 1), tr M^2 and tr M^3; and
        x, M x and M^2 x as rows, shape (B, N, 3, 3).
    """
    x = hidden_padding(x - masked_mean(x, mask)[:, None], mask)
    # Products of small matrices, entry by entry: autocast would round where the points are.
    moment = (x[..., :, None] * x[..., None, :]).sum(1) / mask.sum(1).clamp(min=1)[:, None, None]
    trace = moment.diagonal(dim1=1, dim2=2).sum(1) + 1e-6  # of a single point it is 0
    moment = moment / trace[:, None, None]
    square = (moment[..., None] * moment[:, None]).sum(2)
    turned = [(x[..., None] * power[:, None]).sum(2) for power in (moment, square)]
    powers = torch.stack((x, *turned), 2)
    own = (powers * x[:, :, None]).sum(-1) / trace[:, None, None]
    two, three = square.diagonal(dim1=1, dim2=2).sum(1), (square * moment).sum((1, 2))
    of_all = torch.stack((trace.log(), two, three), -1)[:, None]
    return torch.cat((own, of_all.expand_as(own)), -1), powers
