"""How often colours occur in pictures of few of them, and how often beside each other.

Features of photographs say little of tiles of 16 x 16 pixels; a palette's colours can be counted.
Which occur how often is what a model learns first, and which lie beside each other is edges,
textures and outlines.
"""

import torch
from torch import Tensor

from noiseloom.metrics.sequences import kmer_distance

__all__ = ["colour_distances"]


def colour_distances(x: Tensor, y: Tensor, colours: int) -> dict[str, float]:
    """Total variation of colours, and of pairs of neighbours, between two sets of pictures.

    With p_a the share of pixels of x that have colour a, and p_ab that of colours a and b of all
    pixels and their right neighbours, and of all pixels and those below, q of y likewise,

        colours     (1/2) sum_a |p_a - q_a|
        neighbours  (1/2) sum_ab |p_ab - q_ab|

    Both are above 0 for finite sets of one law, the second more so: they mean something beside
    those of as many held-out pictures. Pictures of one pixel have no neighbours.

    Args:
        x: colours of pixels, integers, shape (n, H, W), 0 .. colours - 1, H = W.
        y: likewise, shape (m, H, W).
        colours: of the palette.

    Raises:
        ValueError: pictures that are not square; colours that are none.
    """
    for pictures in (x, y):
        if pictures.ndim != 3 or pictures.shape[1] != pictures.shape[2]:
            raise ValueError(
                f"pictures must have shape (N, side, side), got {tuple(pictures.shape)}"
            )
    # Lines across and down: stretches of one and of two of their pixels.
    ours, theirs = (torch.cat((p.flatten(0, 1), p.mT.flatten(0, 1))) for p in (x, y))
    names = ("colours", "neighbours")[: x.shape[1]]
    return {name: kmer_distance(ours, theirs, k, colours) for k, name in enumerate(names, 1)}
