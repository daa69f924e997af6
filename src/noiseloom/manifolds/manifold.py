"""What a diffusion asks of a curved space."""

from typing import Protocol

from torch import Tensor

from noiseloom.rng import Rng

__all__ = ["Manifold"]


class Manifold(Protocol):
    """A compact space with its heat kernel p_sigma(x | x_0), of variance sigma^2 per direction.

    Points x and tangents v are tensors with as many axes, batch first; sigma broadcasts to them.
    """

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        """Where the geodesic from x along v ends; x, bit for bit, where v = 0."""

    def project(self, x: Tensor, v: Tensor) -> Tensor:
        """The part of v that is tangent at x."""

    def uniform(self, like: Tensor, rng: Rng) -> Tensor:
        """Uniform points in the shape, type and place of `like`."""

    def noise(self, x: Tensor, rng: Rng) -> Tensor:
        """Standard normal tangents at x."""

    def heat(self, x: Tensor, sigma: Tensor, rng: Rng) -> Tensor:
        """A draw of the heat kernel around x; x, bit for bit, where sigma = 0."""

    def score(self, clean: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
        """Grad_x ln p_sigma(x | clean), a tangent at x, finite for every sigma >= 0."""

    def remnant(self, sigma: float) -> float:
        """How far, at most, the density p_sigma is from the uniform one, as a share of it."""

    def features(self, x: Tensor) -> Tensor:
        """Smooth functions of x for a network, on its last axis."""
