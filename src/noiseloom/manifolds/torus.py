"""The flat torus: angles, each on a circle of its own.

Its heat kernel is the wrapped normal, for each angle d = x - x_0 two series of one function:

    sum_k exp(-(d + 2 pi k)^2 / (2 sigma^2)) / (sigma sqrt(2 pi))                       (images)
        = (1 + 2 sum_n exp(-n^2 sigma^2 / 2) cos(n d)) / (2 pi)                         (waves)

Both converge everywhere, the first fast where sigma is small, the second where it is large; at
sigma^2 = 2 pi their terms fall alike, and a few of either are exact to rounding.

References:
    K. Mardia, P. Jupp, 2000, Directional Statistics, Section 3.5.7; B. Jing et al., 2022, Torsional
    Diffusion, arXiv 2206.01729, Section 3.2.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from noiseloom.rng import Rng

__all__ = ["Torus", "wrap"]

CROSSOVER = math.sqrt(2 * math.pi)
"""The noise level from which on waves are taken."""
TERMS = 3
"""Images on either side, and waves: the first left out add less than 2e-16 at the crossover."""


@dataclass(frozen=True)
class Torus:
    """Angles in [-pi, pi), shape (B, ..., D), each with noise of its own.

    Example:
        >>> x = torch.tensor([[3.0, 0.0]])
        >>> Torus().exp(x, torch.tensor([[0.5, 0.5]]))
        tensor([[-2.7832,  0.5000]])
    """

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        """Wrap(x + v)."""
        return wrap(x + v)

    def project(self, x: Tensor, v: Tensor) -> Tensor:
        """Return v: a flat space is its own tangent."""
        return v

    def uniform(self, like: Tensor, rng: Rng) -> Tensor:
        """Pi (2 u - 1) with u ~ U(0, 1)."""
        return math.pi * (2 * rng.uniform(like.shape, like.dtype, like.device) - 1)

    def noise(self, x: Tensor, rng: Rng) -> Tensor:
        """One standard normal number per angle."""
        return rng.normal_like(x)

    def heat(self, x: Tensor, sigma: Tensor, rng: Rng) -> Tensor:
        """Wrap(x + sigma z): a normal, wrapped, is the heat kernel exactly."""
        return self.exp(x, sigma * self.noise(x, rng))

    def score(self, clean: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
        """The derivative of the log-density of the wrapped normal, per angle.

        An angle is known to u = pi eps (eps of its type, in float32 u = 3.7e-7), so it holds the
        noise sigma^2 + u^2, and that is the law whose score this is: of an exact law at sigma < u
        the roundings of x would be taken for noise, u / sigma times as large as it is.

        Args:
            clean: x_0.
            x: x_t.
            sigma: >= 0.
        """
        d, sigma = wrap(x - clean), sigma.to(x.device, x.dtype)
        sigma = torch.hypot(sigma, sigma.new_tensor(math.pi * torch.finfo(x.dtype).eps))
        near = by_images(d, sigma.clamp(max=CROSSOVER))
        return torch.where(sigma < CROSSOVER, near, by_waves(d, sigma.clamp(min=CROSSOVER)))

    def remnant(self, sigma: float) -> float:
        """2 exp(-sigma^2 / 2), the first wave, of each angle."""
        return 2 * math.exp(-sigma * sigma / 2)

    def features(self, x: Tensor) -> Tensor:
        """Sines and cosines, (B, ..., 2 D)."""
        return torch.cat((x.sin(), x.cos()), -1)


def wrap(x: Tensor) -> Tensor:
    """Angles in [-pi, pi), bit for bit where they already are."""
    turned = torch.remainder(x + math.pi, 2 * math.pi) - math.pi
    turned = torch.where(turned < math.pi, turned, turned - 2 * math.pi)  # rounding may reach pi
    return torch.where((x >= -math.pi) & (x < math.pi), x, turned)


def by_images(d: Tensor, sigma: Tensor) -> Tensor:
    """The score at d in [-pi, pi), for 0 < sigma <= `CROSSOVER` or little more."""
    variance = sigma * sigma
    total, turn = torch.ones_like(d), torch.zeros_like(d)
    for k in range(1, TERMS + 1):
        for step in (2 * math.pi * k, -2 * math.pi * k):
            # Relative to the image at d itself, which is the nearest: at most 1.
            weight = (-step * (d + step / 2) / variance).exp()
            total, turn = total + weight, turn + step * weight
    return -(d + turn / total) / variance


def by_waves(d: Tensor, sigma: Tensor) -> Tensor:
    """The score at d, for sigma >= `CROSSOVER` or little less."""
    density, slope = torch.ones_like(d), torch.zeros_like(d)
    for n in range(1, TERMS + 1):
        height = 2 * (-(n * n / 2) * sigma * sigma).exp()
        density, slope = density + height * (n * d).cos(), slope - n * height * (n * d).sin()
    return slope / density
