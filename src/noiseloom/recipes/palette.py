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
from noiseloom.metrics import colour_distances, image_report, noised_tokens
from noiseloom.metrics.lite0 import Lite0Features
from noiseloom.recipes.classes import Classes, TokenSplit
from noiseloom.recipes.picture_folder import photograph_features
from noiseloom.recipes.recipe import Findings
from noiseloom.recipes.samples import few_rows
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
    kind: ClassVar[Any] = "pictures"

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
        """Distances in EfficientNet-Lite0 features, and of colours and neighbouring ones."""
        assert isinstance(data, TokenSplit)
        palette, key = data.vocabulary, rng.fold("report")
        assert isinstance(palette, Palette)
        tokens = draw({"row": torch.arange(self.samples)})
        sets = []
        for part in (data.train, data.held_out):
            pixels = palette.pixels(part.values)
            sets.append(Images(pixels, torch.zeros(len(pixels), dtype=torch.int64), ("",)))
        found = image_report(photograph_features(), palette.pixels(tokens), sets[0], sets[1], key)
        # The pictures of the report above, by the same keys; small noise may change no colour.
        real, n = data.held_out.values, int(found["n"])
        drawn, real = (
            rows[key.fold(name).permutation(len(rows))[:n].to(rows.device)]
            for name, rows in (("samples", tokens), ("held out", real))
        )
        shape, K = (-1, self.side, self.side), len(palette.colours)
        worse = noised_tokens(real, (K,), 0.2, key.fold("noise"))
        seen = data.train.values.reshape(shape)
        for suffix, rows in (("", drawn), ("_held_out", real), ("_noised", worse)):
            distances = colour_distances(rows.cpu().reshape(shape), seen, K)
            found |= {f"{name}{suffix}": value for name, value in distances.items()}
        return Findings(found, few_rows(palette, tokens))
