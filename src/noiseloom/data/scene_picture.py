"""Pictures of scenes: integers only, so that a scene has the same pixels everywhere."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noiseloom.data.scene_things import GRID, Thing

__all__ = ["SMALLEST", "draw_things"]

SMALLEST = 24
"""Side of the smallest picture in which all shapes can be told apart."""

_BACKGROUND = (38, 38, 46)
_COLOURS = {
    "red": (230, 40, 40),
    "green": (30, 180, 60),
    "blue": (50, 100, 255),
    "yellow": (250, 215, 50),
    "purple": (185, 70, 225),
    "white": (245, 245, 245),
}
_FINE = 8  # places along a pixel's side at which a shape is asked whether it is there


def draw_things(things: Sequence[Thing], size: int) -> Tensor:
    """Draw things on a dark square, uint8, shape (3, size, size).

    A cell has floor(size / 3) pixels, a large thing all of them but one, and a small one half as
    many. Edges are smooth: a pixel has the share of a thing's colour that the thing has of 64
    places within it.

    Args:
        things: at most one in a cell.
        size: of the picture, in pixels, at least 24.

    Raises:
        ValueError: a smaller picture.
    """
    if size < SMALLEST:
        raise ValueError(f"a picture of a scene needs {SMALLEST} pixels a side or more, got {size}")
    cell = size // GRID
    margin = (size - GRID * cell) // 2
    image = np.empty((size, size, 3), np.uint8)
    image[:] = _BACKGROUND
    for thing in things:
        patch = _patch(thing.shape, thing.colour, _extent(thing.size, cell))
        inset = (cell - len(patch)) // 2
        top, left = (margin + cell * at + inset for at in (thing.row, thing.column))
        image[top : top + len(patch), left : left + len(patch)] = patch
    return torch.from_numpy(image).permute(2, 0, 1).contiguous()


def _extent(size: str, cell: int) -> int:
    return cell - 1 if size == "large" else cell // 2


@lru_cache(maxsize=1024)
def _patch(shape: str, colour: str, extent: int) -> NDArray[np.uint8]:
    """The square of pixels around a shape, (extent, extent, 3)."""
    side = _FINE * extent
    line = 2 * np.arange(side) + 1 - side  # in units in which the shape reaches from -side to side
    inside = _inside(shape, line[None], line[:, None], side)
    count = inside.reshape(extent, _FINE, extent, _FINE).sum((1, 3))[..., None]
    own, behind = (np.array(rgb) for rgb in (_COLOURS[colour], _BACKGROUND))
    half = _FINE**2 // 2
    mixed = (count * own + (_FINE**2 - count) * behind + half) // _FINE**2
    return np.asarray(mixed, np.uint8)


def _inside(shape: str, x: NDArray[np.int64], y: NDArray[np.int64], side: int) -> NDArray[np.bool_]:
    """Whether places are in a shape: x to the right, y down, both -side .. side."""
    a, b = np.abs(x), np.abs(y)
    found: NDArray[np.bool_] = {
        "circle": a**2 + b**2 <= side**2,
        "square": np.maximum(a, b) <= side,
        "triangle": 2 * a <= y + side,
        "cross": 5 * np.minimum(a, b) <= side,  # thin, or a small one is like a diamond
        "diamond": a + b <= side,
    }[shape]
    return found
