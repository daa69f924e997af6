"""Pictures of few colours as rows of tokens: a pixel is one of K colours of a palette."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from noiseloom.data.folder import image_folder
from noiseloom.data.split import Split
from noiseloom.data.tokens import Tokens
from noiseloom.rng import Rng

__all__ = ["Palette", "read_palette"]

_PIXELS = 500_000  # that a palette is chosen by


@dataclass(frozen=True)
class Palette:
    """Square pictures as rows of their pixels, line by line.

    Attributes:
        colours: red, green and blue of each class, 0 .. 255.
        side: of a picture, in pixels.

    Raises:
        ValueError: fewer than two colours, two that are equal, or a side below 1.
    """

    colours: tuple[tuple[int, int, int], ...]
    side: int

    def __post_init__(self) -> None:
        if len(set(self.colours)) < max(len(self.colours), 2) or self.side < 1:
            raise ValueError("a palette needs two colours or more, all different, and a side")

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "Palette":
        """The palette of its facts."""
        return cls(tuple((int(r), int(g), int(b)) for r, g, b in facts["colours"]), facts["side"])

    @property
    def sizes(self) -> tuple[int, ...]:
        """K for each of side^2 pixels."""
        return (len(self.colours),) * self.side**2

    @property
    def table(self) -> Tensor:
        """The colours, uint8, shape (K, 3)."""
        return torch.tensor(self.colours, dtype=torch.uint8)

    def encode(self, rows: Sequence[Any] | Tensor) -> Tensor:
        """The nearest colours of pixels, int64, shape (N, side^2).

        Args:
            rows: pictures, uint8, shape (3, side, side) each, or one tensor of them.
        """
        pixels = rows if isinstance(rows, Tensor) else torch.stack([*map(torch.as_tensor, rows)])
        if pixels.shape[1:] != (3, self.side, self.side):
            raise ValueError(
                f"pictures must have shape (N, 3, {self.side}, {self.side}), got "
                f"{tuple(pixels.shape)}"
            )
        colours, found = self.table.float(), []
        for part in torch.split(pixels, max(1_000_000 // self.side**2, 1)):
            flat = part.flatten(2).movedim(1, 2).float()
            distance = colours.square().sum(-1) - 2 * flat @ colours.T
            found.append(distance.argmin(-1))
        return torch.cat(found)

    def decode(self, tokens: Tensor) -> list[Any]:
        """Pictures of rows, uint8, shape (3, side, side) each."""
        return list(self.pixels(tokens))

    def pixels(self, tokens: Tensor) -> Tensor:
        """Pictures of rows, uint8, shape (N, 3, side, side)."""
        return (
            self.table[tokens.cpu().long()]
            .movedim(-1, 1)
            .reshape(len(tokens), 3, self.side, self.side)
        )

    def facts(self) -> dict[str, Any]:
        """Colours and side."""
        return {"kind": "palette", "colours": [list(c) for c in self.colours], "side": self.side}

    def read_template(self, path: str | os.PathLike[str]) -> tuple[Tensor, Tensor]:
        """What is known of a picture: its pixels that are not transparent, by the nearest colours.

        Args:
            path: of a picture of this size, with transparency.

        Returns:
            Tokens (1, side^2) and bool (1, side^2).

        Raises:
            FileNotFoundError: no such file.
            ValueError: no picture, one of another size, or one without transparent pixels.
        """
        rgb, known = self._picture(path)
        return self.encode([rgb]), known

    def replaced(self, path: str | os.PathLike[str]) -> str:
        """What `read_template` makes of known pixels whose colour is none of these; "" of none.

        Args:
            path: of a picture, likewise.

        Raises:
            FileNotFoundError: no such file.
            ValueError: as `read_template`.
        """
        rgb, known = self._picture(path)
        wanted, there = rgb.flatten(1).T, self.table[self.encode([rgb])[0]]
        other = (wanted != there).any(-1) & known[0]
        if not other.any():
            return ""
        at = int((wanted.int() - there.int()).square().sum(-1).mul(other).argmax())
        row, column = divmod(at, self.side)
        return (
            f"{int(other.sum()):,} of {int(known.sum()):,} known pixels have colours that the "
            f"palette has not, and become the nearest: {tuple(wanted[at].tolist())} in row "
            f"{row + 1}, column {column + 1} is {tuple(there[at].tolist())} then"
        )

    def _picture(self, path: str | os.PathLike[str]) -> tuple[Tensor, Tensor]:
        """Pixels, uint8, (3, side, side), and which of them are known, (1, side^2)."""
        if not Path(path).is_file():
            raise FileNotFoundError(f"there is no file {path}")
        try:
            with Image.open(path) as file:
                picture = np.asarray(file.convert("RGBA"))
        except OSError as error:
            raise ValueError(f"{path} cannot be read as a picture: {error}") from error
        if picture.shape[:2] != (self.side, self.side):
            height, width = picture.shape[:2]
            raise ValueError(
                f"{path} has {width} x {height} pixels, and the run draws {self.side} x {self.side}"
            )
        known = torch.from_numpy(picture[..., 3] > 127).reshape(1, -1)
        if known.all():
            raise ValueError(f"{path} has no transparent pixels: nothing is left to draw")
        return torch.from_numpy(picture[..., :3].copy()).movedim(-1, 0), known


def read_palette(
    path: str | os.PathLike[str],
    side: int,
    colours: int = 16,
    *,
    held_out: float = 0.1,
    split: Literal["auto", "random", "arcs"] = "auto",
    background: tuple[int, int, int] = (0, 0, 0),
    seed: int = 0,
) -> tuple[Split[Tokens], Palette]:
    """Read pictures as rows of pixels of few colours.

    The palette is chosen by the pictures to train on: their own colours where there are no more
    than asked for, else by median cut and k-means.

    Args:
        path: a folder or zip file of pictures.
        side: of the pictures, in pixels.
        colours: K, the most there may be, 2 to 256.
        held_out: share to hold out, as for `image_folder`.
        split: which pictures, likewise.
        background: colour behind transparent pixels.
        seed: decides which pictures are held out where they are drawn one by one.

    Raises:
        FileNotFoundError: nothing at `path`.
        ValueError: pictures of one colour, an option out of range, and what `image_folder` refuses.
    """
    if not 2 <= colours <= 256:
        raise ValueError(f"a palette has 2 to 256 colours, got {colours}")
    images = image_folder(
        path, side, held_out=held_out, split=split, background=background, seed=seed
    )
    train = images.train.pixels
    flat = train.movedim(1, -1).reshape(-1, 3)
    own = _different(flat)
    if len(own) > colours:
        if len(flat) > _PIXELS:
            flat = flat[Rng(0).fold("palette").permutation(len(flat))[:_PIXELS]]
        picture = Image.fromarray(flat[None].contiguous().numpy())
        cut = picture.quantize(colours, method=Image.Quantize.MEDIANCUT, kmeans=10)
        values = np.asarray((cut.getpalette() or [])[: 3 * colours], dtype=np.uint8).reshape(-1, 3)
        own = torch.unique(torch.from_numpy(values), dim=0)
    if len(own) < 2:
        raise ValueError(f"{path}: the pictures have one colour only")
    palette = Palette(tuple((int(r), int(g), int(b)) for r, g, b in own.tolist()), side)
    parts = [
        Tokens(palette.encode(part.pixels).to(torch.uint8), palette.sizes)
        for part in (images.train, images.held_out)
    ]
    return Split(parts[0], parts[1], images.notes), palette


def _different(pixels: Tensor) -> Tensor:
    """The colours among pixels, uint8, (N, 3), sorted."""
    seen = np.zeros(2**24, dtype=np.bool_)
    for part in torch.split(pixels, _PIXELS):
        red, green, blue = part.numpy().astype(np.int64).T
        seen[red * 65_536 + green * 256 + blue] = True
    places = torch.from_numpy(np.flatnonzero(seen))
    return torch.stack([places // 65_536, places // 256 % 256, places % 256], 1).to(torch.uint8)
