"""Cata-condensed benzenoids as points: the centres of their rings, with the Hueckel gap as a label.

All that there are of a number of rings, and the exact label of each, also of any that a model makes
(`noiseloom.data.lattice_fit`): so what guidance claims can be held against what it reached.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from noiseloom.data.hexagons import cata_condensed, centres, keys
from noiseloom.data.hueckel import hueckel_gaps

__all__ = ["Benzenoids", "benzenoids", "gaps_of", "keys_of", "load_benzenoids"]


@dataclass(frozen=True, eq=False)
class Benzenoids:
    """Benzenoids of one or of several numbers of rings, in memory.

    Attributes:
        cells: int16, shape (N, R, 2), the cells of the rings, zeros after the last.
        rings: int64, shape (N,), how many each has, 1 to R.
        gaps: float64, shape (N,), Hueckel gaps in units of |beta|.
    """

    cells: Tensor
    rings: Tensor
    gaps: Tensor

    def __len__(self) -> int:
        return len(self.rings)

    def __getitem__(self, indices: Tensor) -> dict[str, Tensor]:
        """A batch {"positions", "mask", "gap"}.

        positions: float32 (B, R, 3), centres of rings in bond lengths in the plane z = 0, of mean
        zero, and zero in padding; mask: bool (B, R), True for a ring; gap: float32 (B,).
        """
        cells, mask = self.cells[indices], self.mask[indices]
        flat = centres(cells) * mask[..., None]
        flat = flat - flat.sum(1, keepdim=True) / mask.sum(1)[:, None, None]
        positions = torch.nn.functional.pad(flat * mask[..., None], (0, 1)).float()
        return {"positions": positions, "mask": mask, "gap": self.gaps[indices].float()}

    @property
    def mask(self) -> Tensor:
        """Which places hold a ring: bool, shape (N, R)."""
        return torch.arange(self.cells.shape[1]) < self.rings[:, None]

    @property
    def keys(self) -> list[str]:
        """The name of each, the same for all images of a molecule (`noiseloom.data.hexagons`)."""
        return keys_of(self.cells, self.rings)

    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """Cells, numbers of rings, and gaps."""
        return self.cells, self.rings, self.gaps

    def select(self, indices: Tensor) -> "Benzenoids":
        """Some of them, in the order of `indices`."""
        return Benzenoids(self.cells[indices], self.rings[indices], self.gaps[indices])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write them as .safetensors, which `load_benzenoids` reads."""
        names = ("cells", "rings", "gaps")
        parts = {k: v.contiguous() for k, v in zip(names, self.tensors(), strict=True)}
        save_file(parts, path)


def benzenoids(rings: int | Iterable[int] = 11) -> Benzenoids:
    """All cata-condensed benzenoids of these numbers of rings, helicenes left out, with their gaps.

    Those of 11 rings take two seconds.

    Args:
        rings: one number, or several, each 1 to 16.

    Example:
        >>> len(benzenoids(range(4, 7)))
        53
    """
    counts = [rings] if isinstance(rings, int) else sorted(set(rings))
    if not counts:
        raise ValueError("benzenoids of no number of rings: name at least one")
    parts = [cata_condensed(h) for h in counts]
    padded = [torch.nn.functional.pad(p, (0, 0, 0, counts[-1] - p.shape[1])) for p in parts]
    return Benzenoids(
        torch.cat(padded).short(),
        torch.cat([torch.full((len(p),), h) for p, h in zip(parts, counts, strict=True)]),
        torch.cat([hueckel_gaps(p) for p in parts]),
    )


def load_benzenoids(path: str | os.PathLike[str]) -> Benzenoids:
    """Read what `Benzenoids.save` has written.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another kind of file, or one that is damaged.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        found = load_file(path)
        cells, rings, gaps = found["cells"], found["rings"], found["gaps"]
        if not (
            cells.ndim == 3
            and cells.shape == (len(rings), cells.shape[1], 2)
            and gaps.shape == rings.shape == (len(cells),)
            and ((rings >= 1) & (rings <= cells.shape[1])).all()
        ):
            raise ValueError(f"cells {tuple(cells.shape)}, rings {tuple(rings.shape)}")
    except (SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"{path} holds no benzenoids: {error}; write it anew") from error
    return Benzenoids(cells, rings, gaps)


def keys_of(cells: Tensor, rings: Tensor) -> list[str]:
    """Names of benzenoids of various numbers of rings.

    Args:
        cells: int, shape (N, R, 2), real ones first.
        rings: int64, shape (N,).
    """
    found = [""] * len(rings)
    for h in set(rings.tolist()):
        rows = (rings == h).nonzero()[:, 0]
        for row, key in zip(rows.tolist(), keys(cells[rows, :h]), strict=True):
            found[row] = key
    return found


def gaps_of(cells: Tensor, rings: Tensor) -> Tensor:
    """Hueckel gaps of benzenoids of various numbers of rings, in |beta|, float64, shape (N,).

    Args:
        cells: int, shape (N, R, 2), real ones first.
        rings: int64, shape (N,).
    """
    found = torch.zeros(len(rings), dtype=torch.float64)
    for h in set(rings.tolist()):
        rows = (rings == h).nonzero()[:, 0]
        found[rows] = hueckel_gaps(cells[rows, :h])
    return found
