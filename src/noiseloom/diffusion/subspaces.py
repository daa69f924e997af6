"""Where Gaussian noise lives: all of a space, or a linear subspace that all states are in.

Each knows the covariance operator C of its noise, and the mask of a batch of which some nodes are
padding. A mask belongs to a batch as its states do, and is needed wherever noise is made, so it is
a part of this value and not of what a denoiser is told: `diffusion.on(mask)` costs nothing, goes
into every solver, wrapper and loss as any other diffusion does, and none of them needs to know. The
network is told in `cond["mask"]`, as always.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Protocol, Self

import torch
from torch import Tensor

__all__ = ["Subspace", "Symmetric", "Whole", "ZeroCentre"]


class Subspace(Protocol):
    """A linear space that noise stays in; it knows the covariance operator C of its noise."""

    def on(self, mask: Tensor) -> Self:
        """The same space where some nodes are padding: mask is bool, shape (B or 1, N)."""

    def noise(self, z: Tensor) -> Tensor:
        """Noise of covariance C made from white noise z of the same shape."""

    def covariance(self, g: Tensor) -> Tensor:
        """C g."""

    def project(self, x: Tensor) -> Tensor:
        """The nearest point of the space."""

    def held(self, x: Tensor) -> Tensor | None:
        """Which entries of x may be other than 0: bool, to be broadcast; None for all."""

    def check(self, t: Tensor) -> None:
        """Raise ValueError where an aligned time varies along coupled axes."""

    def require(self, x: Tensor) -> None:
        """Raise ValueError where a state is not in the space, as far as the host knows it."""


@dataclass(frozen=True, eq=False)
class _Projected(ABC):
    """A space whose noise is white noise, projected: C = P, and the nearest point is P x."""

    mask: Tensor | None = None

    def on(self, mask: Tensor) -> Self:
        """The same space where some nodes are padding."""
        return replace(self, mask=mask)

    @abstractmethod
    def project(self, x: Tensor) -> Tensor:
        """Return P x, 0 in padding."""

    def noise(self, z: Tensor) -> Tensor:
        """Return P z."""
        return self.project(z)

    def covariance(self, g: Tensor) -> Tensor:
        """Return P g."""
        return self.project(g)

    def held(self, x: Tensor) -> Tensor | None:
        """The real nodes."""
        return None if self.mask is None else _nodes(self.mask, x)


@dataclass(frozen=True, eq=False)
class Whole(_Projected):
    """All of the space, C = 1; or all of the nodes that are real, and 0 in padding.

    Args:
        mask: bool, shape (B, N) or (1, N), True for a real node of states (B, N, ...); None if
            there is no padding.
    """

    def project(self, x: Tensor) -> Tensor:
        """Return x, 0 in padding."""
        return x if self.mask is None else torch.where(_nodes(self.mask, x), x, 0)

    def check(self, t: Tensor) -> None:
        """Any time will do."""

    def require(self, x: Tensor) -> None:
        """Padding must be 0."""
        if self.mask is not None:
            _require(x, self.project(x), "be 0 in padding")


@dataclass(frozen=True, eq=False)
class ZeroCentre(_Projected):
    """Points (B, N, D) whose mean over the real ones is zero: C = P, the projection g - mean(g).

    Args:
        mask: bool, shape (B, N) or (1, N), True for a real point, others are 0; None if all are.

    References:
        E. Hoogeboom et al., 2022, arXiv 2203.17003, Appendix A.
    """

    def project(self, x: Tensor) -> Tensor:
        """Return x less the mean of the real points, 0 in padding."""
        if self.mask is None:
            return x - x.mean(1, keepdim=True)
        real = _nodes(self.mask, x)
        total = torch.where(real, x, 0).sum(1, keepdim=True)
        return torch.where(real, x - total / real.sum(1, keepdim=True).clamp(min=1), 0)

    def check(self, t: Tensor) -> None:
        """A time must be constant along the points."""
        if t.ndim > 1 and t.shape[1] != 1:
            raise ValueError(
                f"a time of shape {tuple(t.shape)} varies along axis 1, whose points are coupled "
                "by their common centre: give one time per example"
            )

    def require(self, x: Tensor) -> None:
        """The mean must be 0."""
        _require(x, self.project(x), "have mean 0 over the real points, and be 0 in padding")


@dataclass(frozen=True, eq=False)
class Symmetric:
    """Adjacencies (B, N, N, E), symmetric without diagonal, unit variance off it: C g = g + g^T.

    Args:
        mask: bool, shape (B, N) or (1, N), True for a real node, edges of others are 0; None if all
            are.

    References:
        J. Jo, S. Lee, S. J. Hwang, 2022, arXiv 2202.02514, Section 3.
    """

    mask: Tensor | None = None

    def on(self, mask: Tensor) -> Self:
        """The same where some nodes are padding."""
        return replace(self, mask=mask)

    def noise(self, z: Tensor) -> Tensor:
        """Return the strict upper triangle of z, mirrored."""
        n = z.shape[1]
        above = torch.ones(n, n, dtype=torch.bool, device=z.device).triu(1)
        above = above.reshape(1, n, n, *(1,) * (z.ndim - 3))
        upper = torch.where(self.held(z) & above, z, 0)
        return upper + upper.transpose(1, 2)

    def covariance(self, g: Tensor) -> Tensor:
        """Return g + g^T off the diagonal, 0 on it."""
        return torch.where(self.held(g), g + g.transpose(1, 2), 0)

    def project(self, x: Tensor) -> Tensor:
        """Return (x + x^T) / 2 off the diagonal, 0 on it."""
        return torch.where(self.held(x), (x + x.transpose(1, 2)) / 2, 0)

    def held(self, x: Tensor) -> Tensor:
        """Pairs of different nodes that are real."""
        n = x.shape[1]
        off = ~torch.eye(n, dtype=torch.bool, device=x.device)[None]
        if self.mask is not None:
            _fit(self.mask, x)
            off = off & self.mask[:, :, None] & self.mask[:, None]
        return off.reshape(*off.shape, *(1,) * (x.ndim - 3))

    def check(self, t: Tensor) -> None:
        """A time must be constant along both node axes, or cover both and be symmetric.

        Values are checked on the CPU only, where that costs no wait.
        """
        if t.ndim < 3:
            return
        one = (t.shape[1] == 1) != (t.shape[2] == 1)
        if one or (t.device.type == "cpu" and not torch.equal(t, t.transpose(1, 2))):
            raise ValueError(
                f"a time of shape {tuple(t.shape)} differs between an edge of a symmetric "
                "adjacency and its reverse: edge times must be symmetric"
            )

    def require(self, x: Tensor) -> None:
        """It must be symmetric, and 0 on the diagonal and in padding."""
        _require(x, self.project(x), "be symmetric, and 0 on the diagonal and in padding")


def _fit(mask: Tensor, x: Tensor) -> None:
    if mask.ndim != 2 or mask.shape[0] not in (1, len(x)) or mask.shape[1] != x.shape[1]:
        raise ValueError(
            f"a mask of shape {tuple(mask.shape)} for a state of shape {tuple(x.shape)}: expected "
            f"{tuple(x.shape[:2])}; each batch has its own, `diffusion.on(mask)`"
        )


def _nodes(mask: Tensor, x: Tensor) -> Tensor:
    _fit(mask, x)
    return mask.reshape(*mask.shape, *(1,) * (x.ndim - 2))


def _require(x: Tensor, projected: Tensor, demand: str) -> None:
    """Refuse a state off its subspace by more than rounding, where that costs no wait."""
    if x.device.type != "cpu" or torch.compiler.is_compiling() or not x.numel():
        return
    off = float((projected - x).detach().abs().max())
    if off > 1e-4 * (1 + float(x.detach().abs().max())):
        raise ValueError(
            f"a clean state of shape {tuple(x.shape)} must {demand}, and is off by {off:.2g}: give "
            "`subspace.project(state)`"
        )
