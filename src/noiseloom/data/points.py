"""Points in the plane, of a law that is known."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from noiseloom.data.split import Split
from noiseloom.rng import Rng

__all__ = ["Points", "gaussians_on_a_circle"]


@dataclass(frozen=True, eq=False)
class Points:
    """Vectors with one class each.

    Attributes:
        values: float32, shape (N, D).
        labels: int64, shape (N,), values 0 .. len(classes) - 1.
        classes: names of the classes.
    """

    values: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, indices: Tensor) -> dict[str, Tensor]:
        """The points at `indices`, in that order, as a batch {"values", "label"}."""
        return {"values": self.values[indices], "label": self.labels[indices]}

    def tensors(self) -> tuple[Tensor, Tensor]:
        """Values and labels."""
        return self.values, self.labels


def gaussians_on_a_circle(
    count: int = 8000,
    *,
    components: int = 8,
    radius: float = 3.0,
    std: float = 0.2,
    rng: Rng | None = None,
) -> Split[Points]:
    """Points of isotropic Gaussians, evenly spaced on a circle.

    Component j is N(radius (cos(2 pi j / K), sin(2 pi j / K)), std^2 I). Equally many are trained
    on, as in the paper; what is held out is drawn at random, as samples are.

    Args:
        count: points of each part, for training and held out.
        components: K.
        radius: of the circle, > 0.
        std: of each component along each axis, > 0.
        rng: key of the draws; by default that of seed 0.

    References:
        Y. Xu et al., 2024, arXiv 2407.03300, Appendix F.1.
    """
    rng = rng or Rng(0).fold("gaussians on a circle")

    def draw(labels: Tensor, key: Rng) -> Points:
        angle = labels * (2 * math.pi / components)
        centre = radius * torch.stack((angle.cos(), angle.sin()), 1)
        values = centre + std * key.normal((count, 2))
        return Points(values, labels, tuple(str(j) for j in range(components)))

    held = rng.fold("held out")
    random = held.fold("component").integers(components, (count,))
    return Split(draw(torch.arange(count) % components, rng.fold("train")), draw(random, held))
