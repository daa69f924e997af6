"""Pictures of one's own as a recipe's data, and how good photographs are."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, Literal

import torch
from torch import Tensor

from noiseloom.data import Images, Split, image_folder
from noiseloom.metrics import image_report
from noiseloom.metrics.features import Remembered
from noiseloom.metrics.lite0 import Lite0Features
from noiseloom.recipes.recipe import Recipe
from noiseloom.rng import Rng

__all__ = ["PictureFolder", "photograph_features", "photograph_report"]


@dataclass(frozen=True)
class PictureFolder(Recipe):
    """Options of any folder or zip file of pictures.

    Attributes:
        size: side of the pictures, in pixels.
        labels: "folders", or a CSV file with the columns file and label.
        class_depth: how many folder levels name the class; negative counts from the picture.
        held_out: share of pictures kept from training where no test folder does.
        skip_bad: leave out pictures that cannot be read.
        split: auto takes the train and test folders where there are both; random throws them
            together and holds some out of each class; arcs holds a contiguous range out, by file
            name, for frames of turntables and films, whose neighbours are all but equal.
        background: colour (red, green, blue), each 0 .. 255, behind transparent pixels.
    """

    paths: ClassVar[tuple[str, ...]] = ("labels",)
    in_data: ClassVar[tuple[str, ...]] = ("labels",)

    size: int = 64
    labels: str = "folders"
    class_depth: int | None = None
    held_out: float = 0.1
    skip_bad: bool = False
    split: Literal["auto", "random", "arcs"] = "auto"
    background: tuple[int, int, int] = (255, 255, 255)

    def check(self) -> None:
        """The feature network of the evaluation must be there."""
        super().check()
        Lite0Features()

    def load(self, data: str | None) -> Split[Images]:
        """The pictures at a path."""
        if data is None:
            raise ValueError(f"{self.name} needs --data PATH, a folder or zip file of pictures")
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
        mirrored = getattr(self, "flip", False)  # of what is trained on the folder
        return photograph_report(draw, data, rng, self.samples, mirrored=mirrored)


@cache
def photograph_features() -> Remembered:
    """The feature network of photographs, on a GPU if there is one; the same for all who ask."""
    return Remembered(Lite0Features().to("cuda" if torch.cuda.is_available() else "cpu"))


def photograph_report(
    draw: Callable[[Tensor], Tensor],
    data: Split[Images],
    rng: Rng,
    count: int,
    *,
    mirrored: bool = False,
) -> dict[str, float]:
    """Metrics in EfficientNet-Lite0 features, of samples with the held-out pictures' classes."""
    # No more than there are held-out pictures are compared; fewer have their mix of classes.
    rows = rng.fold("classes").permutation(len(data.held_out))[:count]
    drawn = draw(data.held_out.labels[rows])
    features, (train, held) = photograph_features(), (data.train, data.held_out)
    return image_report(features, drawn, train, held, rng, mirrored=mirrored)
