"""Pictures of few colours as rows of tokens, by any kind of state.

`noiseloom train palette --data FOLDER --side 16 --colours 16`: pixel art, sprites, tiles. For
photographs, and for networks that know what a picture is, there is `bits-images`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from noiseloom.data import Images, Palette, Split, read_palette
from noiseloom.metrics import image_report
from noiseloom.metrics.lite0 import Lite0Features
from noiseloom.recipes.classes import Classes, TokenSplit
from noiseloom.recipes.picture_folder import photograph_features
from noiseloom.rng import Rng

__all__ = ["PalettePictures"]


@dataclass(frozen=True)
class PalettePictures(Classes):
    """Options of `Classes` for pictures.

    Attributes:
        side: of a picture, in pixels; a row has side^2 tokens.
        colours: of the palette, 2 to 256.
        held_out: share of the pictures that is held out where no test folder is.
        split_seed: decides which pictures these are, where they are drawn one by one.
        split: as for `bits-images`: auto, random, or arcs.
        background: colour behind transparent pixels.
    """

    name: ClassVar[str] = "palette"
    summary: ClassVar[str] = "pictures of few colours, by any kind of state"

    side: int = 16
    colours: int = 16
    held_out: float = 0.1
    split_seed: int = 0
    split: Literal["auto", "random", "arcs"] = "auto"
    background: tuple[int, int, int] = (0, 0, 0)

    def load(self, data: str | None) -> Split[Any]:
        """The pictures at a path."""
        if data is None:
            raise ValueError("palette needs --data FOLDER, or a zip file, of pictures")
        split, palette = read_palette(
            data,
            self.side,
            self.colours,
            held_out=self.held_out,
            seed=self.split_seed,
            split=self.split,
            background=self.background,
        )
        return TokenSplit(split.train, split.held_out, split.notes, palette)

    def check(self) -> None:
        """The feature network of the evaluation must be there."""
        super().check()
        Lite0Features()

    def evaluate(self, draw: Callable[..., Tensor], data: Split[Any], rng: Rng) -> dict[str, float]:
        """Distances in EfficientNet-Lite0 features, to pictures in the same colours."""
        assert isinstance(data, TokenSplit)
        palette = data.vocabulary
        assert isinstance(palette, Palette)
        drawn = palette.pixels(draw({"row": torch.arange(self.samples)}))
        sets = []
        for part in (data.train, data.held_out):
            pixels = palette.pixels(part.values)
            sets.append(Images(pixels, torch.zeros(len(pixels), dtype=torch.int64), ("",)))
        return image_report(photograph_features(), drawn, sets[0], sets[1], rng.fold("report"))
