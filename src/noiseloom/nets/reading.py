"""How a transformer reads what stands beside its tokens, as a caption reads a picture.

Features of that, (B, N, F), become keys and values of every block once (`SourceKeys`), however
often the decoder is then called: they are a condition like any other, `cond["source"]`, and know
neither noise nor what is being written. Each block reads them between its attention and its
perceptron (A. Vaswani et al., 2017, "Attention is all you need", arXiv 1706.03762, Section 3.1).
"""

from collections.abc import Mapping
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from noiseloom.nets.attention import Attention, Sight, consult
from noiseloom.nets.blocks import Blocks
from noiseloom.nets.layers import Dropout, initialise, perceptron
from noiseloom.nets.patches import Places, cut
from noiseloom.nets.trunk import modulate

__all__ = ["PictureTokens", "ReadingBlock", "SourceKeys", "check_source", "reading"]


class ReadingBlock(nn.Module):
    """A block of `Trunk` that reads a source as well, with a modulation of its own.

        h <- h + gate_1 attention(LN(h) (1 + scale_1) + shift_1)
        h <- h + gate_2 W_o consult(W_q (LN(h) (1 + scale_2) + shift_2), source)
        h <- h + gate_3 mlp(LN(h) (1 + scale_3) + shift_3)

    W_o has no bias, and `consult` finds 0 where all values are 0: a source of zeros is none at all,
    so that rows of one batch may have one or not.
    """

    def __init__(self, width: int, heads: int, dropout: float, index: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.query, self.out = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.mlp = perceptron(width)
        self.heads, self.place = heads, slice(2 * width * index, 2 * width * (index + 1))
        self.dropout = nn.ModuleList(Dropout(dropout, 3 * index + i) for i in range(3))

    def forward(
        self,
        h: Tensor,
        modulation: Tensor,
        keys: Tensor | None,
        source: Tensor | None = None,
        past: dict[str, Tensor] | None = None,
        told: Tensor | None = None,
        **sight: Unpack[Sight],
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The next token states, and the keys and values of the tokens."""
        shift1, scale1, gate1, shift2, scale2, gate2, shift3, scale3, gate3 = modulation.chunk(
            9, -1
        )
        y, entry = self.attention.attend(modulate(h, shift1, scale1), past=past, told=told, **sight)
        h = torch.addcmul(h, gate1, self.dropout[0](y, keys))
        if source is not None:
            q = self.query(modulate(h, shift2, scale2))
            q = q.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            found = consult(q, source[..., self.place].to(q.dtype)).transpose(1, 2).flatten(2)
            h = torch.addcmul(h, gate2, self.dropout[1](self.out(found), keys))
        y = self.dropout[2](self.mlp(modulate(h, shift3, scale3)), keys)
        return torch.addcmul(h, gate3, y), entry


def reading(reads: bool) -> dict[str, Any]:
    """Options of `Trunk` for a network that reads a source, or does not."""
    return {"block": ReadingBlock, "branches": 3} if reads else {}


def check_source(cond: Mapping[str, Any], batch: int, width: int, depth: int) -> Tensor | None:
    """The source of a batch, or None.

    Raises:
        ValueError: one of another shape than (B, N, 2 W depth).
    """
    source: Tensor | None = cond.get("source")
    features = 2 * width * depth
    if source is not None and (
        source.ndim != 3 or source.shape[0] != batch or source.shape[2] != features
    ):
        raise ValueError(
            f"a source of shape {tuple(source.shape)} for a network of {depth} blocks of width "
            f"{width}: expected ({batch}, N, {features}), as SourceKeys makes it"
        )
    return source


class SourceKeys(nn.Module):
    """Keys and values of features in all blocks of a decoder: (B, N, F) to (B, N, 2 W depth).

    Args:
        features: F.
        width: W of the decoder.
        depth: its blocks.
    """

    def __init__(self, features: int, width: int, depth: int) -> None:
        super().__init__()
        self.told = nn.Linear(features, 2 * width * depth)
        initialise(self)

    def forward(self, features: Tensor) -> Tensor:
        """Side by side, block by block: those of one block are keys, then values."""
        told: Tensor = self.told(features)
        return told


class PictureTokens(nn.Module):
    """A vision transformer: pictures (B, C, H, W) to features of their patches, (B, N, F).

    The places of patches are fixed sines and cosines, so one network reads pictures of any size
    (A. Dosovitskiy et al., 2020, arXiv 2010.11929, without a token for the class).

    Args:
        channels: C.
        patch: side of a patch, in pixels.
        width: features F, a multiple of 4.
        depth: number of blocks.
        heads: attention heads, a divisor of `width`.
        dropout: rate at the end of both branches of every block.

    Raises:
        ValueError: a patch below 1, or a width that is not divisible by 4 and by `heads`.

    Example:
        >>> import torch
        >>> PictureTokens(3, patch=4, width=16, depth=1, heads=2)(torch.zeros(5, 3, 8, 12)).shape
        torch.Size([5, 6, 16])
    """

    def __init__(
        self,
        channels: int,
        *,
        patch: int = 8,
        width: int = 192,
        depth: int = 6,
        heads: int = 3,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if patch < 1:
            raise ValueError(f"a patch of {patch} pixels: it must be at least 1")
        if width % 4:
            raise ValueError(f"a width of {width}: places of patches need a multiple of 4")
        self.channels, self.patch, self.features = channels, patch, width
        self.token = nn.Linear(channels * patch**2, width)
        self.places = Places(width)
        self.blocks = Blocks(width, depth, heads, dropout)
        initialise(self)

    def forward(self, pictures: Tensor, keys: Tensor | None = None) -> Tensor:
        """Features of pictures of unit scale, given dropout keys (B,) in training.

        Raises:
            ValueError: a shape that does not fit.
        """
        fits = pictures.ndim == 4 and pictures.shape[1] == self.channels
        if not fits or pictures.shape[2] % self.patch or pictures.shape[3] % self.patch:
            raise ValueError(
                f"pictures of shape {tuple(pictures.shape)}: expected (B, {self.channels}, H, W) "
                f"with H and W multiples of the patch, {self.patch}"
            )
        h = self.token(cut(pictures, self.patch))
        rows, columns = (size // self.patch for size in pictures.shape[2:])
        features: Tensor = self.blocks(h + self.places(rows, columns).to(h.dtype), keys)
        return features
