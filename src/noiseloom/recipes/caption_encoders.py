"""What reads the picture of a caption: encoders, and the model that holds one beside a denoiser."""

from typing import Any

import torch
from torch import Tensor, nn

from noiseloom.carry import Carry
from noiseloom.metrics.lite0 import lite0_maps, lite0_network
from noiseloom.nets import PictureTokens, SourceKeys
from noiseloom.rng import Rng
from noiseloom.shapes import Cond

__all__ = ["Captioner", "Lite0Maps", "PictureEncoder"]


class Lite0Maps(nn.Module):
    """The places of EfficientNet-Lite0's last feature maps: (B, 3, H, W) to (B, N, 1280).

    Its batch norms keep ImageNet's statistics, fine-tuned or not: those of a small batch would be
    noise. Pictures keep their shape: the shorter side s becomes 128 or more, a multiple of 32, and
    the longer one is filled up to such with grey; N is the number of squares of 32 pixels.

    Args:
        size: of the pictures: a side, or height and width.
        tuned: train its weights on, or leave them as they are.

    Raises:
        ImportError: the extra `metrics` is missing.
    """

    features = 1280

    def __init__(self, size: int | tuple[int, int], *, tuned: bool) -> None:
        super().__init__()
        self.net = lite0_network()
        self.net.requires_grad_(tuned)
        self.net._fc.requires_grad_(False)  # which has no part in the features
        height, width = (size, size) if isinstance(size, int) else size
        shorter = min(height, width)
        scale = max(128, -(-shorter // 32) * 32) / shorter
        self.size, self.tuned = (round(scale * height), round(scale * width)), tuned
        self.train(self.training)

    def train(self, mode: bool = True) -> "Lite0Maps":
        """The network itself always works as in evaluation."""
        super().train(mode)
        self.net.eval()
        return self

    def forward(self, pixels: Tensor, keys: Tensor | None = None) -> Tensor:
        """Features of uint8 pixels."""
        with torch.set_grad_enabled(self.tuned and torch.is_grad_enabled()):
            maps = lite0_maps(self.net, pixels, self.size)
        return maps.flatten(2).transpose(1, 2)


class PictureEncoder(nn.Module):
    """From pixels to what a decoder reads of them in every block: `cond["source"]`.

    Args:
        inner: `(pictures, dropout keys) -> features` (B, N, F), with F as its `features`; of
            `Lite0Maps` uint8 pixels, else pictures in [-1, 1].
        width: W of the decoder.
        depth: its blocks.
    """

    def __init__(self, inner: PictureTokens | Lite0Maps, width: int, depth: int) -> None:
        super().__init__()
        self.inner = inner
        self.keys = SourceKeys(inner.features, width, depth)

    def forward(self, pixels: Tensor, keys: Tensor | None = None) -> Tensor:
        """The source (B, N, 2 W depth) of uint8 pixels (B, 3, H, W), given keys of dropout (B,)."""
        if not isinstance(self.inner, Lite0Maps):
            pixels = pixels.to(self.keys.told.weight.dtype) / 127.5 - 1
        source: Tensor = self.keys(self.inner(pixels, keys))
        return source


class Captioner(nn.Module):
    """A model of captions, and the encoder of the pictures that they are of.

    A call is passed through to the denoiser, whose network reads `cond["source"]`; `source` makes
    it, once for all calls of a drawing or of a training step.

    Args:
        denoiser: of captions; or what else models them (`NextToken`).
        encoder: of the pictures.
        drop: share of pictures that training does not show, in [0, 1].
    """

    def __init__(self, denoiser: nn.Module, encoder: PictureEncoder, drop: float) -> None:
        super().__init__()
        self.denoiser, self.encoder, self.drop = denoiser, encoder, drop

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        cond: Cond | None = None,
        carry: Carry | None = None,
        rng: Rng | None = None,
    ) -> Any:  # noqa: ANN401
        """What the denoiser says."""
        return self.denoiser(x, t, cond, carry, rng)

    def source(self, pixels: Tensor, rng: Rng | None = None) -> Tensor:
        """What is read of pictures.

        Args:
            pixels: uint8, shape (B, 3, H, W).
            rng: in training, one key per picture, by which some are left out: a source of zeros.
        """
        pixels = pixels.to(next(self.parameters()).device)
        if rng is None:
            source: Tensor = self.encoder(pixels)
            return source
        draws = rng.fold("picture")
        source = self.encoder(pixels, draws.fold("dropout").key)
        shown = draws.fold("shown").uniform((len(pixels),), device=pixels.device) >= self.drop
        return source * shown[:, None, None].to(source.dtype)
