"""Encoders of pictures, sequences and classes: what is clean in, logits of discrete codes out.

m tokens beside the data's, one for each latent, see all of them and are read at the end ("several
classification tokens", Y. Xu et al., 2024, DisCo-Diff, arXiv 2407.03300, section 3.3, on A.
Dosovitskiy et al., 2020, arXiv 2010.11929). The paper's has patches of 8 x 8 of 64 x 64 pixels, and
12 blocks of width 768 with 12 heads. `noiseloom.nets.VectorEncoder` is the one for vectors.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from noiseloom.nets.blocks import Blocks
from noiseloom.nets.codes import CodeHead
from noiseloom.nets.conditions import check_names
from noiseloom.nets.layers import initialise
from noiseloom.nets.patches import Places, cut

__all__ = ["ImageEncoder", "RowEncoder", "SequenceEncoder"]


class ImageEncoder(nn.Module):
    """Logits of discrete codes from pictures: (B, C, H, W) to (B, m, k).

    The places of patches are fixed sines and cosines, so one network reads pictures of any size.

    Args:
        channels: C.
        m: number of latents.
        k: number of codes of each.
        patch: side of a patch, in pixels.
        width: features W inside, a multiple of 4.
        depth: number of blocks.
        heads: attention heads, a divisor of `width`.
        dropout: rate at the end of both branches of every block.
        scale: the pictures are divided by it first: their standard deviation.

    Raises:
        ValueError: a patch below 1, or a width that is not divisible by 4 and by `heads`.

    Example:
        >>> import torch
        >>> encoder = ImageEncoder(3, 2, 16, patch=4, width=16, depth=1, heads=2)
        >>> encoder(torch.zeros(5, 3, 8, 12)).shape
        torch.Size([5, 2, 16])
    """

    def __init__(
        self,
        channels: int,
        m: int,
        k: int,
        *,
        patch: int = 8,
        width: int = 192,
        depth: int = 6,
        heads: int = 3,
        dropout: float = 0.0,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        if patch < 1:
            raise ValueError(f"a patch of {patch} pixels: it must be at least 1")
        self.channels, self.patch, self.scale = channels, patch, scale
        self.reader = _Reader(channels * patch**2, m, k, width, depth, heads, dropout)

    def forward(self, clean: Tensor, cond: Mapping[str, Any] | None = None) -> Tensor:
        """Logits of clean pictures.

        Args:
            clean: shape (B, C, H, W), H and W multiples of the patch.
            cond: "dropout" keys (B,), needed in training where the rate is not 0; other draws than
                the denoiser's.

        Raises:
            ValueError: a shape that does not fit, or a condition that is not known.
        """
        fits = clean.ndim == 4 and clean.shape[1] == self.channels
        if not fits or clean.shape[2] % self.patch or clean.shape[3] % self.patch:
            raise ValueError(
                f"pictures of shape {tuple(clean.shape)}: expected (B, {self.channels}, H, W) with "
                f"H and W multiples of the patch, {self.patch}"
            )
        patches = cut(clean / self.scale, self.patch)
        rows, columns = (size // self.patch for size in clean.shape[2:])
        logits: Tensor = self.reader(patches, rows, columns, cond or {})
        return logits


class SequenceEncoder(nn.Module):
    """Logits of discrete codes from sequences of any length: (B, T, D) to (B, m, k).

    Args:
        features: D.
        m: number of latents.
        k: number of codes of each.
        width: features W inside, a multiple of 4.
        depth: number of blocks.
        heads: attention heads, a divisor of `width`.
        dropout: rate at the end of both branches of every block.
        scale: the sequences are divided by it first: their standard deviation.

    Raises:
        ValueError: a width that is not divisible by 4 and by `heads`.
    """

    def __init__(
        self,
        features: int,
        m: int,
        k: int,
        *,
        width: int = 192,
        depth: int = 6,
        heads: int = 3,
        dropout: float = 0.0,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.features, self.scale = features, scale
        self.reader = _Reader(features, m, k, width, depth, heads, dropout)

    def forward(self, clean: Tensor, cond: Mapping[str, Any] | None = None) -> Tensor:
        """Logits of clean sequences (B, T, D); `cond` as for `ImageEncoder`."""
        if clean.ndim != 3 or clean.shape[2] != self.features:
            raise ValueError(
                f"sequences of shape {tuple(clean.shape)}: expected (B, T, {self.features})"
            )
        logits: Tensor = self.reader(clean / self.scale, clean.shape[1], 1, cond or {})
        return logits


class RowEncoder(nn.Module):
    """Logits of discrete codes from rows of tokens: classes (B, T), or vectors (B, T, D) for them.

    Args:
        features: D; of classes how many there are.
        m: number of latents.
        k: number of codes of each.
        places: T, for maps in of each place's own, as `Placed` has them; None for one for all.
        **options: others of `SequenceEncoder` (width, depth, heads, dropout).

    Example:
        >>> import torch
        >>> encoder = RowEncoder(5, 2, 3, width=16, depth=1, heads=2)
        >>> encoder(torch.zeros(4, 7, dtype=torch.int64)).shape
        torch.Size([4, 2, 3])
    """

    def __init__(
        self,
        features: int,
        m: int,
        k: int,
        *,
        places: int | None = None,
        width: int = 192,
        **options: Any,  # noqa: ANN401
    ) -> None:
        super().__init__()
        self.features = features
        self.enter = None
        if places is not None:
            self.enter = nn.Parameter(torch.randn(places, features, width) / math.sqrt(features))
        inside = features if places is None else width
        self.inner = SequenceEncoder(inside, m, k, width=width, **options)

    def forward(self, clean: Tensor, cond: Mapping[str, Any] | None = None) -> Tensor:
        """Logits of clean rows; `cond` as for `ImageEncoder`."""
        if not clean.is_floating_point():
            # Of unit variance, as vectors are.
            clean = functional.one_hot(clean, self.features).float() * math.sqrt(self.features)
        if self.enter is not None:
            clean = torch.einsum("btd,tdw->btw", clean, self.enter.to(clean.dtype))
        logits: Tensor = self.inner(clean, cond)
        return logits


class _Reader(nn.Module):
    """From tokens in rows to logits."""

    def __init__(
        self, features: int, m: int, k: int, width: int, depth: int, heads: int, dropout: float
    ) -> None:
        super().__init__()
        if width % 4:
            raise ValueError(f"a width of {width}: places of tokens need a multiple of 4")
        self.token = nn.Linear(features, width)
        self.places = Places(width)
        self.latents = nn.Parameter(torch.randn(m, width))
        self.blocks = Blocks(width, depth, heads, dropout)
        self.head = CodeHead(width, m, k)
        initialise(self)

    def forward(self, x: Tensor, rows: int, columns: int, cond: Mapping[str, Any]) -> Tensor:
        check_names(cond, ("dropout",))
        h = self.token(x)
        h = h + self.places(rows, columns).to(h.dtype)
        h = torch.cat((h, self.latents.to(h.dtype).expand(len(h), -1, -1)), 1)
        h = self.blocks(h, cond.get("dropout"))
        logits: Tensor = self.head(h[:, x.shape[1] :])
        return logits
