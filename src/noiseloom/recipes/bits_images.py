"""Bit Diffusion on a folder of pictures of your own.

The defaults are a middle-sized U-Net for 32 x 32 to 64 x 64 pixels; the paper's ImageNet 64 x 64
network is `--width 192 --multipliers [1,2,3,4] --blocks 3` (240 M parameters;
published FID 4.84 for binary codes, 5.14 for Gray, 8.76 for random ones, 3.43 for continuous
pixels; Table 2). Not reproduced here: no ImageNet, and no Inception features.
"""

from dataclasses import dataclass
from typing import ClassVar

from noiseloom.recipes.bits import BitDiffusion
from noiseloom.recipes.picture_folder import PictureFolder

__all__ = ["BitsImages"]


@dataclass(frozen=True)
class BitsImages(BitDiffusion, PictureFolder):
    """Options of `BitDiffusion` for any folder or zip file of pictures (`PictureFolder`)."""

    name: ClassVar[str] = "bits-images"
    summary: ClassVar[str] = "your own folder or zip of pictures as analog bits"

    steps: int = 20000
    batch_size: int = 128
    learning_rate: float = 2e-4
    warmup: int = 500
    ema_decay: float = 0.9995
    checkpoint_every: int = 2000
    flip: bool = True
    width: int = 128
    multipliers: tuple[int, ...] = (1, 2, 2)
    blocks: int = 2
