"""Bit Diffusion on a folder of pictures of your own.

The defaults are a middle-sized U-Net for 32 x 32 to 64 x 64 pixels; the paper's ImageNet 64 x 64
network is `--width 192 --multipliers [1,2,3,4] --blocks 3` (240 M parameters;
published FID 4.84 for binary codes, 5.14 for Gray, 8.76 for random ones, 3.43 for continuous
pixels; Table 2). Not reproduced here: no ImageNet, and no Inception features.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from noiseloom.data import Images, Split, image_folder
from noiseloom.metrics import image_report
from noiseloom.metrics.lite0 import Lite0Features
from noiseloom.recipes.bits import BitDiffusion
from noiseloom.rng import Rng

__all__ = ["BitsImages", "photograph_report"]


@dataclass(frozen=True)
class BitsImages(BitDiffusion):
    """Options of `BitDiffusion` for any folder or zip file of pictures.

    Attributes:
        size: side of the pictures, in pixels.
        labels: "folders", or a CSV file with the columns file and label.
        class_depth: how many folder levels name the class; negative counts from the picture.
        held_out: share of pictures kept from training where no test folder does.
        skip_bad: leave out pictures that cannot be read.
        split: auto takes the train and test folders where there are both; random throws them
            together and holds some out of each class.
        background: colour (red, green, blue), each 0 .. 255, behind transparent pixels.
    """

    name: ClassVar[str] = "bits-images"
    summary: ClassVar[str] = "your own folder or zip of pictures as analog bits"
    paths: ClassVar[tuple[str, ...]] = ("labels",)
    in_data: ClassVar[tuple[str, ...]] = ("labels",)

    size: int = 64
    labels: str = "folders"
    class_depth: int | None = None
    held_out: float = 0.1
    skip_bad: bool = False
    split: Literal["auto", "random"] = "auto"
    background: tuple[int, int, int] = (255, 255, 255)

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

    def check(self) -> None:
        """The feature network of the evaluation must be there."""
        Lite0Features()

    def load(self, data: str | None) -> Split[Images]:
        """The pictures at a path."""
        if data is None:
            raise ValueError("bits-images needs --data PATH, a folder or zip file of pictures")
        return image_folder(
            data,
            self.size,
            labels=self.labels,
            class_depth=self.class_depth,
            held_out=self.held_out,
            skip_bad=self.skip_bad,
            split=self.split,
            background=self.background,
        )

    def evaluate(
        self, draw: Callable[[Tensor], Tensor], data: Split[Images], rng: Rng
    ) -> dict[str, float]:
        """Distances in EfficientNet-Lite0 features."""
        return photograph_report(draw, data, rng, self.samples)


def photograph_report(
    draw: Callable[[Tensor], Tensor], data: Split[Images], rng: Rng, count: int
) -> dict[str, float]:
    """Metrics in EfficientNet-Lite0 features, of samples with the held-out pictures' classes."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    features = Lite0Features().to(device)
    # No more than there are held-out pictures are compared; fewer have their mix of classes.
    rows = rng.fold("classes").permutation(len(data.held_out))[:count]
    labels = data.held_out.labels[rows]
    return image_report(features, draw(labels), data.train, data.held_out, rng)
