"""From points to a benzenoid: lay the hexagonal lattice on them, and snap.

A structure is valid if its points are those of a cata-condensed benzenoid, each within a tolerance
(0.15 bond lengths) of where the centre of its ring belongs, wherever that lies and however it is
turned:

1. the plane that fits best in least squares; no point may be further from it than the tolerance;
2. pairs sqrt(3) apart, to twice the tolerance, are neighbours: of rings on a lattice no others can
   be. The mean of exp(6 i angle) over them is the lattice's direction;
3. cells are counted from neighbour to neighbour, and the lattice is laid on all points again, in
   least squares; each must now be within the tolerance of its own cell's centre;
4. no two in one cell, and the fusions must be a tree.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from noiseloom.data.benzenoids import gaps_of, keys_of
from noiseloom.data.hexagons import MOST, STEPS, centres, touching

__all__ = ["Structures", "snap"]

REASONS = (
    "valid",
    "not finite",
    "not planar",
    "not connected",
    "off the lattice",
    "two rings in one place",
    "three rings share a carbon",
    "the rings close a circle",
)
"""Why a structure is none, in the order in which it is looked for."""


@dataclass(frozen=True, eq=False)
class Structures:
    """What points were taken for.

    Attributes:
        cells: int64, shape (B, N, 2), cells in the order of the points, real ones first, and zeros;
            those of a structure that is not valid mean nothing.
        rings: int64, shape (B,), how many points were real.
        code: int64, shape (B,), 0 for a valid structure, otherwise its place in `REASONS`.
        off: float64, shape (B,), largest distance of a point from where it belongs, in bond
            lengths; infinite where that is not known.
    """

    cells: Tensor
    rings: Tensor
    code: Tensor
    off: Tensor

    def __len__(self) -> int:
        return len(self.rings)

    @property
    def valid(self) -> Tensor:
        """Which are benzenoids: bool, shape (B,)."""
        return self.code == 0

    @property
    def reasons(self) -> list[str]:
        """For each, "valid" or why it is not."""
        return [REASONS[i] for i in self.code.tolist()]

    @property
    def keys(self) -> list[str | None]:
        """The name of each, None where there is none; equal ones are one molecule."""
        rows = self.valid.nonzero()[:, 0]
        names = keys_of(self.cells[rows], self.rings[rows])
        named = dict(zip(rows.tolist(), names, strict=True))
        return [named.get(i) for i in range(len(self))]

    @property
    def gaps(self) -> Tensor:
        """Hueckel gaps in |beta|, float64, shape (B,), NaN where there is no structure."""
        rows = self.valid.nonzero()[:, 0]
        found = torch.full(self.rings.shape, math.nan, dtype=torch.float64)
        found[rows] = gaps_of(self.cells[rows], self.rings[rows])
        return found


def snap(positions: Tensor, mask: Tensor | None = None, *, tolerance: float = 0.15) -> Structures:
    """Take points for the rings of benzenoids.

    Args:
        positions: centres of rings in bond lengths, shape (B, N, 3), N <= 16.
        mask: bool, shape (B, N), True for a point that is real; None if all are.
        tolerance: how far a point may be from where it belongs, in bond lengths, in (0, 0.4); at
            0.4 pairs of neighbours and others could no longer be told apart.

    Raises:
        ValueError: a shape that does not fit, a structure without points, or a tolerance out of
            range.
    """
    if not 0 < tolerance < 0.4:
        raise ValueError(f"a tolerance must be in (0, 0.4) bond lengths, got {tolerance}")
    if positions.ndim != 3 or positions.shape[2] != 3 or not 1 <= positions.shape[1] <= MOST:
        raise ValueError(
            f"points of shape {tuple(positions.shape)}: expected (B, N, 3) with N from 1 to {MOST}"
        )
    x = positions.detach().to("cpu", torch.float64)
    real = torch.ones(x.shape[:2], dtype=torch.bool) if mask is None else mask.cpu()
    if real.shape != x.shape[:2] or not real.any(1).all():
        raise ValueError(
            f"a mask of shape {tuple(real.shape)} for points of shape {tuple(x.shape)}: expected "
            f"{tuple(x.shape[:2])}, with at least one real point each"
        )
    order = (~real).to(torch.uint8).argsort(dim=1, stable=True)  # real points first
    real = real.gather(1, order)
    x = x.gather(1, order[..., None].expand_as(x))
    rings = real.sum(1)
    finite = (x.isfinite().all(-1) | ~real).all(1)
    x = torch.where((real & finite[:, None])[..., None], x, 0)
    flat, height = _laid_flat(x, real)
    cells, known = _counted(flat, real, tolerance)
    off = torch.hypot(_misfit(flat, cells, real), height)
    off = torch.where(real, off, 0).amax(1)

    pairs = real[:, :, None] & real[:, None] & ~torch.eye(x.shape[1], dtype=torch.bool)
    fused = touching(cells) & pairs
    same = (cells[:, :, None] == cells[:, None]).all(-1) & pairs
    corner = ((fused.float() @ fused.float()) * fused).flatten(1).any(1)
    faults = (
        ~finite,
        height.amax(1) > tolerance,
        ~known.all(1),
        off > tolerance,
        same.flatten(1).any(1),
        corner,
        fused.flatten(1).sum(1) > 2 * (rings - 1),
    )
    code = torch.zeros_like(rings)
    for i, fault in reversed(list(enumerate(faults, 1))):
        code[fault] = i
    off = off.masked_fill((code > 0) & (code < 4), math.inf)
    return Structures(torch.where(real[..., None], cells, 0), rings, code, off)


def _laid_flat(x: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates in the best plane (B, N, 2), of mean zero, and distances from it (B, N)."""
    count = real.sum(1)[:, None, None]
    x = torch.where(real[..., None], x - x.sum(1, keepdim=True) / count, 0)
    axes = torch.linalg.eigh(x.mT @ x).eigenvectors
    turned = x @ axes
    return turned[..., 1:], turned[..., 0].abs()


def _counted(flat: Tensor, real: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
    """Cells, counted from the first point from neighbour to neighbour, and which were reached."""
    off = flat[:, None] - flat[:, :, None]  # from i to j
    near = (off.norm(dim=-1) - 3**0.5).abs() <= 2 * tolerance
    near = near & real[:, :, None] & real[:, None]
    angle = torch.atan2(off[..., 1], off[..., 0])
    six = (6 * angle).masked_fill(~near, 0)
    sines, cosines = ((f(six) * near).sum((1, 2)) for f in (torch.sin, torch.cos))
    lean = torch.atan2(sines, cosines) / 6
    step = ((angle - lean[:, None, None]) / (math.pi / 3)).round().long() % 6
    steps = torch.tensor(STEPS)[step]
    cells = torch.zeros(*real.shape, 2, dtype=torch.int64)
    known = ~real
    known[:, 0] = True
    rows = torch.arange(len(real))[:, None]
    for _ in range(real.shape[1] - 1):
        # A point that is new, and any point it is next to that is not; padding is next to none.
        able = near & known[:, :, None]
        new = able.any(1) & ~known
        if not new.any():
            break
        parent = able.to(torch.uint8).argmax(1)
        found = cells[rows, parent] + steps[rows, parent, torch.arange(real.shape[1])]
        cells = torch.where(new[..., None], found, cells)
        known = known | new
    return cells, known


def _misfit(flat: Tensor, cells: Tensor, real: Tensor) -> Tensor:
    """Distances (B, N) in the plane from the cells of the lattice that fits best."""
    goal = torch.where(real[..., None], centres(cells), 0)
    goal = goal - goal.sum(1, keepdim=True) / real.sum(1)[:, None, None]
    goal = torch.where(real[..., None], goal, 0)
    (a, b), (c, d) = goal.unbind(-1), flat.unbind(-1)
    angle = torch.atan2((a * d - b * c).sum(1), (a * c + b * d).sum(1))[:, None]
    turned = torch.stack((a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()), -1)
    distance: Tensor = torch.linalg.vector_norm(flat - turned, dim=-1)
    return distance
