"""The carbons of a benzenoid, and what Hueckel's model says of their electrons.

Every carbon gives one electron to orbitals that are eigenvectors of the adjacency of the carbons,
with energies alpha + beta x, beta < 0. Carbons fall in two halves that are bonded to each other
alone, so that the energies are plus and minus the singular values of the block between them, B. The
highest filled orbital is its least singular value and the lowest empty one the negative of that:

    gap = 2 min singular value of B, in units of |beta|

which of a chain of h rings, an acene, is sqrt(9 + 8 cos(h pi / (h + 1))) - 1 (C. A. Coulson, 1948,
"Excited electronic levels in conjugated molecules: I", Proc. Phys. Soc. 60, 257). |det B| counts
the Kekule structures, the ways to pair all carbons by double bonds (M. J. S. Dewar, H. C.
Longuet-Higgins, 1952, "The correspondence between the resonance and molecular orbital theories").
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noiseloom.data.hexagons import STEPS

__all__ = ["carbons", "hueckel_gaps", "kekule_counts"]

_CORNERS = np.array(STEPS) + np.roll(STEPS, -1, 0)  # of a hexagon, in thirds of (q, r)
_CHUNK = 4096  # structures at a time: their blocks take 17 MB at 11 rings


def hueckel_gaps(cells: Tensor) -> Tensor:
    """The Hueckel gaps between filled and empty orbitals.

    Args:
        cells: int64, shape (N, h, 2), cata-condensed benzenoids.

    Returns:
        In units of |beta|, float64, shape (N,).

    Raises:
        ValueError: cells that are not of cata-condensed benzenoids.

    Example:
        >>> round(float(hueckel_gaps(torch.tensor([[[0, 0], [1, 0]]]))), 6)  # naphthalene
        1.236068
    """
    parts = torch.split(cells, _CHUNK)
    found = [np.linalg.svd(_blocks(part), compute_uv=False)[:, -1] for part in parts]
    return 2 * torch.from_numpy(np.concatenate(found))


def kekule_counts(cells: Tensor) -> Tensor:
    """How many ways there are to pair all carbons by double bonds, int64, shape (N,).

    Args:
        cells: int64, shape (N, h, 2), cata-condensed benzenoids.
    """
    found = [np.abs(np.linalg.det(_blocks(part))) for part in torch.split(cells, _CHUNK)]
    return torch.from_numpy(np.concatenate(found).round().astype(np.int64))


def carbons(cells: Tensor) -> tuple[Tensor, Tensor]:
    """The skeleton: where the carbons are, and which are bonded.

    Args:
        cells: int64, shape (N, h, 2), cata-condensed benzenoids.

    Returns:
        Places in the plane, in bond lengths, in the frame of `centres`, float64, shape
        (N, 4 h + 2, 2); and bonds, int64, shape (N, 5 h + 1, 2), pairs of carbons.

    Raises:
        ValueError: cells that are not of cata-condensed benzenoids.
    """
    corners, atom = _atoms(cells)
    count, h = atom.shape[:2]
    row = np.arange(count)[:, None, None]
    thirds = np.zeros((count, 4 * h + 2, 2))
    thirds[row, atom] = corners
    q, r = thirds[..., 0] / 3, thirds[..., 1] / 3
    places = np.stack((3**0.5 * (q + r / 2), 1.5 * r), -1)
    other = np.roll(atom, -1, 2)
    code = np.minimum(atom, other) * (4 * h + 2) + np.maximum(atom, other)
    flat = np.sort(code.reshape(count, -1), 1)
    new = np.ones(flat.shape, dtype=bool)
    new[:, 1:] = flat[:, 1:] != flat[:, :-1]
    bonds = np.stack(np.divmod(flat[new].reshape(count, -1), 4 * h + 2), -1)
    return torch.from_numpy(places), torch.from_numpy(bonds)


def _atoms(cells: Tensor) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Corners of every cell (N, h, 6, 2), and the numbers 0 .. 4 h + 1 of the carbons there.

    Those at even corners, one half, have the numbers below 2 h + 1.
    """
    count, h = cells.shape[:2]
    corners = 3 * cells.to(torch.int64).numpy()[:, :, None] + _CORNERS
    shifted = corners - corners.min((1, 2), keepdims=True)
    number = np.empty((count, h, 6), dtype=np.int64)
    for half in (0, 1):
        own = shifted[:, :, half::2]
        code = (own[..., 0] * (int(shifted.max(initial=0)) + 1) + own[..., 1]).reshape(count, -1)
        order = np.argsort(code, 1, kind="stable")
        code = np.take_along_axis(code, order, 1)
        new = np.zeros(code.shape, dtype=np.int64)
        new[:, 1:] = code[:, 1:] != code[:, :-1]
        rank = np.cumsum(new, 1)
        if (rank[:, -1] != 2 * h).any():
            raise ValueError(
                f"cata-condensed benzenoids of {h} rings have {4 * h + 2} carbons, and some of "
                "these have not: their rings are not a tree"
            )
        place = np.empty_like(rank)
        np.put_along_axis(place, order, rank + half * (2 * h + 1), 1)
        number[:, :, half::2] = place.reshape(own.shape[:-1])
    return corners, number


def _blocks(cells: Tensor) -> NDArray[np.float64]:
    """Which carbons of one half are bonded to which of the other: shape (N, 2 h + 1, 2 h + 1)."""
    _, atom = _atoms(cells)
    count, size = len(atom), 2 * atom.shape[1] + 1
    even, odd = atom[:, :, 0::2], atom[:, :, 1::2] - size
    block = np.zeros((count, size, size))
    row = np.arange(count)[:, None, None]
    block[row, even, odd] = 1
    block[row, even, np.roll(odd, 1, 2)] = 1
    return block
