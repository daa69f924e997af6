"""The hexagonal lattice, and all cata-condensed benzenoids on it.

A benzenoid is a set of hexagons, each named by two whole numbers (q, r): its centre is at q a + r b
with a = (sqrt(3), 0) and b = (sqrt(3) / 2, 3 / 2), in lengths of a carbon bond. Two hexagons are
fused where their centres are sqrt(3) apart. It is cata-condensed if no carbon belongs to three of
them, and simply connected: neighbours and fusions are then a tree. Taking away a leaf of that tree
leaves a smaller one, so all with h + 1 rings come from those with h by adding a hexagon that
touches exactly one. Two that a rotation or a reflection maps onto each other are one molecule.

Up to 16 rings, the sorted cells of a benzenoid that is moved to the corner are 16 bytes, and the
least of its twelve images is its name. There are 1, 1, 2, 5, 12, 36, 118, 411, 1489, 5572, 21115
of 1 to 11 rings (A. T. Balaban, F. Harary, 1968, "Chemical graphs V", for the first of these).
"""

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["MOST", "STEPS", "canonical", "cata_condensed", "centres", "keys", "touching"]

STEPS = ((1, 0), (0, 1), (-1, 1), (-1, 0), (0, -1), (1, -1))
"""The cells around one, from the right, counter-clockwise, 60 degrees apart."""

MOST = 16
"""Rings that a benzenoid can have here: a cell is then a byte."""

Ints = NDArray[np.int64]
_STEPS = np.array(STEPS)
_CHUNK = 4096  # structures at a time: 50 MB at 11 rings


def cata_condensed(rings: int) -> Tensor:
    """All cata-condensed benzenoids of so many rings, helicenes left out.

    Args:
        rings: h, 1 to 16; 11 take about a second, and each further ring four times as long.

    Returns:
        Cells, int64, shape (N, h, 2), each in its canonical form, in ascending order.

    Raises:
        ValueError: a number of rings out of range.

    Example:
        >>> [len(cata_condensed(h)) for h in range(1, 8)]
        [1, 1, 2, 5, 12, 36, 118]
    """
    if not 1 <= rings <= MOST:
        raise ValueError(f"benzenoids of 1 to {MOST} rings are enumerated, not of {rings}")
    return torch.from_numpy(_enumerated(rings).copy())


def canonical(cells: Tensor) -> Tensor:
    """The canonical form of sets of cells: the least of their twelve images, sorted.

    Args:
        cells: integers, shape (N, h, 2), h <= 16, any benzenoid, anywhere on the lattice.
    """
    return torch.from_numpy(_cells(_words(_checked(cells)), cells.shape[1]))


def keys(cells: Tensor) -> list[str]:
    """A name for each set of cells, the same for all its images: equal only for one molecule.

    Args:
        cells: as for `canonical`.

    Example:
        >>> keys(torch.tensor([[[0, 0], [1, 0]], [[5, 5], [5, 4]]]))
        ['2:0001', '2:0001']
    """
    h = cells.shape[1]
    return [f"{h}:{word[16 - h :].tobytes().hex()}" for word in _bytes(_words(_checked(cells)))]


def centres(cells: Tensor) -> Tensor:
    """Where the cells lie in the plane, in bond lengths: float64, the shape of `cells`."""
    q, r = cells.to(torch.float64).unbind(-1)
    return torch.stack((3**0.5 * (q + r / 2), 1.5 * r), -1)


def touching(cells: Tensor) -> Tensor:
    """Which cells are neighbours: bool, shape (N, h, h), for cells (N, h, 2)."""
    off = cells[:, :, None] - cells[:, None]
    q, r = off.unbind(-1)
    return torch.stack((q, r, q + r), -1).abs().amax(-1) == 1


def _checked(cells: Tensor) -> Ints:
    if cells.ndim != 3 or cells.shape[2] != 2 or not 1 <= cells.shape[1] <= MOST:
        raise ValueError(
            f"cells of shape {tuple(cells.shape)}: expected (N, h, 2) with h from 1 to {MOST}"
        )
    found: Ints = cells.to(torch.int64).numpy()
    extent = np.ptp(found, axis=1)
    if len(found) and max(extent.max(), np.ptp(found.sum(-1), axis=1).max()) >= MOST:
        raise ValueError(f"cells that are {MOST} or more apart are no molecule of {MOST} rings")
    return found


@lru_cache
def _enumerated(rings: int) -> Ints:
    if rings == 1:
        return np.zeros((1, 1, 2), dtype=np.int64)
    smaller = _enumerated(rings - 1)
    parts = [_grown(smaller[i : i + _CHUNK]) for i in range(0, len(smaller), _CHUNK)]
    return _cells(np.unique(np.concatenate(parts), axis=0), rings)


def _grown(cells: Ints) -> NDArray[np.uint64]:
    """The names of all that have one ring more."""
    places = (cells[:, :, None] + _STEPS).reshape(len(cells), -1, 2)
    off = places[:, :, None] - cells[:, None]
    apart = np.maximum(np.abs(off).max(-1), np.abs(off.sum(-1)))  # steps from cell to cell
    free = ((apart == 1).sum(-1) == 1) & (apart > 0).all(-1)
    structure, place = np.nonzero(free)
    new = places[structure, place][:, None]
    return np.unique(_words(np.concatenate((cells[structure], new), 1)), axis=0)


def _symmetries() -> Ints:
    """Six rotations, and each of them after a reflection: matrices that act on (q, r)."""
    turn, flip = np.array([[0, -1], [1, 1]]), np.array([[0, 1], [1, 0]])
    turns = [np.linalg.matrix_power(turn, k) for k in range(6)]
    return np.stack(turns + [t @ flip for t in turns])


def _words(cells: Ints) -> NDArray[np.uint64]:
    """The least image of each, as two big-endian words: shape (N, 2)."""
    count, h, _ = cells.shape
    best: Any = None
    for symmetry in _symmetries():
        image = cells @ symmetry.T
        image = image - image.min(1, keepdims=True)
        code = np.zeros((count, MOST), np.uint8)
        code[:, MOST - h :] = np.sort(image[..., 0] * MOST + image[..., 1], 1)
        words = code.view(">u8").astype(np.uint64)
        if best is None:
            best = words
            continue
        first = words[:, 0] == best[:, 0]
        less = (words[:, 0] < best[:, 0]) | (first & (words[:, 1] < best[:, 1]))
        best = np.where(less[:, None], words, best)
    found: NDArray[np.uint64] = best
    return found


def _bytes(words: NDArray[np.uint64]) -> NDArray[np.uint8]:
    return words.astype(">u8").view(np.uint8).reshape(-1, MOST)


def _cells(words: NDArray[np.uint64], h: int) -> Ints:
    code = _bytes(words)[:, MOST - h :].astype(np.int64)
    return np.stack((code // MOST, code % MOST), -1)
