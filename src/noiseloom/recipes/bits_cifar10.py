"""Bit Diffusion on CIFAR-10, in the paper's configuration (51 M parameters).

Published FID, unconditional / class-conditional: binary codes 3.48 / 2.72, Gray 3.86 / 2.94, random
6.93 / 6.43; continuous pixels 3.14 / 2.95 (Table 1, 1.5 M steps). Not reproduced here. The
defaults are the paper's; where paper and released code differ, the paper's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from noiseloom.data import Images, Split, cifar10
from noiseloom.metrics.lite0 import Lite0Features
from noiseloom.recipes.bits import BitDiffusion
from noiseloom.recipes.picture_folder import photograph_report
from noiseloom.rng import Rng

__all__ = ["BitsCifar10"]


@dataclass(frozen=True)
class BitsCifar10(BitDiffusion):
    """Options of `BitDiffusion` with the paper's values for CIFAR-10."""

    name: ClassVar[str] = "bits-cifar10"
    summary: ClassVar[str] = "CIFAR-10 in the paper's configuration, from its binary version"

    steps: int = 1_500_000
    batch_size: int = 128
    learning_rate: float = 1e-4
    warmup: int = 10_000
    ema_decay: float = 0.9999
    checkpoint_every: int = 10_000
    flip: bool = True

    def check(self) -> None:
        """The feature network of the evaluation must be there."""
        Lite0Features()

    def load(self, data: str | None) -> Split[Images]:
        """The official binary version at a path."""
        if data is None:
            raise ValueError("bits-cifar10 needs --data PATH, of cifar-10-binary.tar.gz")
        return cifar10(data)

    def evaluate(
        self, draw: Callable[[Tensor], Tensor], data: Split[Images], rng: Rng
    ) -> dict[str, float]:
        """Distances in EfficientNet-Lite0 features (not FID)."""
        return photograph_report(draw, data, rng, self.samples, mirrored=self.flip)
