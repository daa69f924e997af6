"""A U-Net for pictures, in the family of Bit Diffusion's.

Residual blocks with feature-wise modulation, self-attention at chosen stages, and every residual
sum divided by sqrt(2). The paper gives widths, depths and attention; what it leaves open follows
its released network as far as that is described (T. Chen, R. Zhang, G. Hinton, 2022, "Analog Bits",
arXiv:2208.04202; P. Dhariwal and A. Nichol, 2021, arXiv:2105.05233, for the modulation).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from noiseloom.nets.attention import Attention
from noiseloom.nets.conditions import check_names, with_estimate
from noiseloom.nets.layers import Dropout, Embedding, GroupNorm, initialise, zero

__all__ = ["UNet"]

_HALF = math.sqrt(0.5)


class UNet(nn.Module):
    """A U-Net `(x, log_snr, cond) -> Tensor` for states (B, C, H, W).

    Stage i has width `width * multipliers[i]` and works on pictures 2^i times smaller; it has
    `blocks` residual blocks on the way down and one more on the way up, where each takes a skip.
    The output is 0 at initialisation. The memory format of the state is kept: give it channels-last
    tensors (attention then reads pixels as tokens without copying them).

    Args:
        in_channels: C, channels of the state, without the estimate's.
        out_channels: channels of the prediction.
        width: channels of the first stage; the embedding is four times as wide.
        multipliers: width of each stage over `width`.
        blocks: residual blocks per stage.
        attention: for each stage, whether self-attention follows each of its blocks.
        head_width: channels per attention head.
        middle: between the ways down and up: nothing (the paper's choice), or two residual blocks
            ("plain"), or those with attention between them.
        num_classes: K, for class labels 0 .. K - 1 and the null label K.
        self_conditioning: whether it takes an estimate beside the state.
        dropout: rate of the residual blocks.
        per_pixel_time: whether it accepts one log-SNR per pixel.

    Raises:
        ValueError: multipliers and attention of different lengths, or widths without whole heads.

    Example:
        >>> net = UNet(4, 4, width=16, multipliers=(1,), attention=(True,), head_width=16)
        >>> net(torch.zeros(2, 4, 8, 8), torch.zeros(2)).shape
        torch.Size([2, 4, 8, 8])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: int = 128,
        multipliers: Sequence[int] = (1, 2, 2, 2),
        blocks: int = 2,
        attention: Sequence[bool] = (False, True, False, False),
        head_width: int = 64,
        middle: Literal["none", "plain", "attention"] = "none",
        num_classes: int | None = None,
        self_conditioning: bool = False,
        dropout: float = 0.0,
        per_pixel_time: bool = False,
    ) -> None:
        super().__init__()
        if len(attention) != len(multipliers):
            raise ValueError(
                f"attention has {len(attention)} entries and multipliers {len(multipliers)}: "
                "give one of each per stage"
            )
        if middle not in ("none", "plain", "attention"):
            raise ValueError(f'middle must be "none", "plain" or "attention", got {middle!r}')
        self.in_channels, self.self_conditioning = in_channels, self_conditioning
        self.per_pixel_time, self.divisor = per_pixel_time, 2 ** (len(multipliers) - 1)

        films: list[int] = []

        def block(c_in: int, c_out: int, attend: bool) -> _Block:
            films.append(2 * c_out)
            return _Block(c_in, c_out, head_width if attend else None, dropout, len(films) - 1)

        c = width
        inputs = in_channels * (1 + self_conditioning) + per_pixel_time
        self.embedding = Embedding(width, 4 * width, num_classes)
        self.input = nn.Conv2d(inputs, c, 3, padding=1)

        stages = list(zip((width * m for m in multipliers), attention, strict=True))
        skips, down = [c], list[nn.Module]()
        for i, (w, attend) in enumerate(stages):
            if i:
                down.append(nn.Conv2d(c, c, 3, stride=2, padding=1))
                skips.append(c)
            for _ in range(blocks):
                down.append(block(c, w, attend))
                skips.append(c := w)
        self.down = nn.ModuleList(down)

        between = () if middle == "none" else (middle == "attention", False)
        self.middle = nn.ModuleList(block(c, c, attend) for attend in between)

        up: list[nn.Module] = []
        for i, (w, attend) in reversed(list(enumerate(stages))):
            for _ in range(blocks + 1):
                up.append(block(c + skips.pop(), w, attend))
                c = w
            if i:
                up.append(_Upsample(c))
        self.up = nn.ModuleList(up)
        self.norm = GroupNorm(c)
        self.output = nn.Conv2d(c, out_channels, 3, padding=1)

        # The modulations of all blocks come from one matrix product.
        self.films = films
        self.film = nn.Linear(4 * width, sum(films))

        initialise(self)
        zero(self.output)
        for module in self.modules():
            if isinstance(module, _Block):
                zero(module.conv2)
            elif isinstance(module, Attention):
                zero(module.out)

    def forward(
        self, x: Tensor, log_snr: Tensor, cond: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Predict.

        Args:
            x: state of unit variance, shape (B, C, H, W); H and W divisible by 2^(stages - 1).
            log_snr: float32, shape (B,), in [-20, 20]; with `per_pixel_time` also (B, C, H, W),
                all but B may be 1: its mean over channels enters as one more channel, its mean over
                everything as the embedding's time.
            cond: "label" (B,), "estimate" like x, "dropout" keys (B,); see `noiseloom.nets`.

        Returns:
            Shape (B, out_channels, H, W).

        Raises:
            ValueError: a shape that does not fit, or a condition the network was not built for.
        """
        cond = cond or {}
        check_names(cond, ("label", "estimate", "dropout"))
        level, level_map = self._levels(x, log_snr)
        keys = cond.get("dropout")
        h = with_estimate(x, cond, self.self_conditioning, dim=1)
        if level_map is not None:
            h = torch.cat((h, level_map.to(h.dtype)), 1)

        films = iter(self.film(self.embedding(level, cond)).split(self.films, -1))
        h = self.input(h)
        skips = [h]
        for module in self.down:
            h = module(h, next(films), keys) if isinstance(module, _Block) else module(h)
            skips.append(h)
        for module in self.middle:
            h = module(h, next(films), keys)
        for module in self.up:
            if isinstance(module, _Block):
                h = module(torch.cat((h, skips.pop()), 1), next(films), keys)
            else:
                h = module(h)
        result: Tensor = self.output(functional.silu(self.norm(h)))
        return result

    def inherit(
        self, old: Mapping[str, Tensor], classes: Sequence[int] | None
    ) -> dict[str, Tensor]:
        """Refuse new layers: a sum over sqrt(2) is felt even where one of its terms is zero.

        See `noiseloom.training.Heir`.
        """
        last = ("conv2.weight", "attention.out.weight")
        new = [name for name in self.state_dict() if name.endswith(last) and name not in old]
        if new:
            only = all(name.endswith(last[1]) for name in new)
            part, keep = ("attention", "attention") if only else ("layers", "blocks, multipliers")
            raise ValueError(
                f"a U-Net with more {part} cannot start as one with less, where its residual sums "
                f"are divided by sqrt(2) once more: keep {keep} as it was"
            )
        first, now = old.get("input.weight"), self.input.weight
        if first is None or not self.per_pixel_time or first.shape[1] == now.shape[1]:
            return dict(old)
        # The map of levels is the last channel: an estimate comes before it.
        gap = first.new_zeros(len(first), now.shape[1] - first.shape[1], *first.shape[2:])
        return {**old, "input.weight": torch.cat((first[:, :-1], gap, first[:, -1:]), 1)}

    def _levels(self, x: Tensor, log_snr: Tensor) -> tuple[Tensor, Tensor | None]:
        """The log-SNR (B,) of the embedding, and its map (B, 1, H, W) / 10 for the input."""
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(
                f"a state of shape {tuple(x.shape)} for a network of {self.in_channels} channels: "
                f"expected (B, {self.in_channels}, H, W)"
            )
        if x.shape[2] % self.divisor or x.shape[3] % self.divisor:
            raise ValueError(
                f"a picture of {x.shape[2]} x {x.shape[3]} pixels: both sizes must be divisible by "
                f"{self.divisor}, the network halves them {self.divisor.bit_length() - 1} times"
            )
        if log_snr.shape == x.shape[:1]:
            if not self.per_pixel_time:
                return log_snr, None
            log_snr = log_snr[:, None, None, None]
        fits = self.per_pixel_time and log_snr.ndim == 4 and len(log_snr) == len(x)
        if not (fits and all(a in (1, b) for a, b in zip(log_snr.shape, x.shape, strict=True))):
            more = " or four axes, all but the first 1 or equal" if self.per_pixel_time else ""
            raise ValueError(
                f"a log-SNR of shape {tuple(log_snr.shape)} for a state of shape "
                f"{tuple(x.shape)}: expected ({x.shape[0]},){more}"
            )
        level_map = log_snr.mean(1, keepdim=True).expand(-1, -1, *x.shape[2:])
        return log_snr.mean((1, 2, 3)), level_map / 10

    @classmethod
    def cifar10(cls, in_channels: int = 24, out_channels: int = 24, **options: Any) -> Self:  # noqa: ANN401
        """The paper's network for CIFAR-10.

        52.02 M parameters (paper: 51 M; its released code, counted: 52.02 M) and 16.94 G
        multiply-adds per 32 x 32 picture.

        Args:
            in_channels: channels of the state, 24 for 8-bit colours as bits.
            out_channels: channels of the prediction.
            **options: others of `UNet`; the defaults are the paper's for bits.
        """
        preset: dict[str, Any] = {
            "width": 256,
            "multipliers": (1, 1, 1),
            "blocks": 3,
            "attention": (False, True, True),
            "self_conditioning": True,
        }
        return cls(in_channels, out_channels, **preset | options)

    @classmethod
    def imagenet64(cls, in_channels: int = 24, out_channels: int = 24, **options: Any) -> Self:  # noqa: ANN401
        """The paper's network for ImageNet at 64 x 64, with classes.

        247.2 M parameters (paper: 240 M; its released code, counted: 247.2 M) and 88.0 G
        multiply-adds per 64 x 64 picture.

        Args:
            in_channels: channels of the state, 24 for 8-bit colours as bits.
            out_channels: channels of the prediction.
            **options: others of `UNet`; the defaults are the paper's for bits.
        """
        preset: dict[str, Any] = {
            "width": 192,
            "multipliers": (1, 2, 3, 4),
            "blocks": 3,
            "attention": (False, False, True, True),
            "self_conditioning": True,
            "num_classes": 1000,
        }
        return cls(in_channels, out_channels, **preset | options)

    @classmethod
    def ddpm(cls, in_channels: int = 3, out_channels: int = 3, **options: Any) -> Self:  # noqa: ANN401
        """The shape of the DDPM network for CIFAR-10, for comparisons of speed.

        38.31 M parameters and 6.224 G multiply-adds per 32 x 32 picture; diffusers' `UNet2DModel`
        of google/ddpm-cifar10-32 has 35.75 M and 6.222 G, with the same attention (one head of
        256). The difference in parameters is modulation by scale and shift instead of shift alone.

        Args:
            in_channels: channels of the state.
            out_channels: channels of the prediction.
            **options: others of `UNet`.
        """
        preset: dict[str, Any] = {
            "width": 128,
            "multipliers": (1, 2, 2, 2),
            "blocks": 2,
            "attention": (False, True, False, False),
            "head_width": 256,
            "middle": "attention",
        }
        return cls(in_channels, out_channels, **preset | options)


class _Block(nn.Module):
    """GN-SiLU-conv, GN-FiLM-SiLU-dropout-conv, a shortcut, and self-attention where wanted."""

    def __init__(
        self, c_in: int, c_out: int, head_width: int | None, dropout: float, layer: int
    ) -> None:
        super().__init__()
        self.norm1, self.conv1 = GroupNorm(c_in), nn.Conv2d(c_in, c_out, 3, padding=1)
        self.norm2, self.conv2 = GroupNorm(c_out), nn.Conv2d(c_out, c_out, 3, padding=1)
        self.dropout = Dropout(dropout, layer)
        self.shortcut = None if c_in == c_out else nn.Conv2d(c_in, c_out, 1)
        self.norm3 = self.attention = None
        if head_width is not None:
            if c_out % head_width:
                raise ValueError(f"{c_out} channels cannot be divided into heads of {head_width}")
            self.norm3, self.attention = GroupNorm(c_out), Attention(c_out, c_out // head_width)

    def forward(self, x: Tensor, film: Tensor, keys: Tensor | None) -> Tensor:
        h = self.conv1(functional.silu(self.norm1(x)))
        h = self.conv2(self.dropout(functional.silu(self.norm2(h, film)), keys))
        y: Tensor = (h + (x if self.shortcut is None else self.shortcut(x))) * _HALF
        if self.norm3 is None or self.attention is None:
            return y
        tokens = self.norm3(y).flatten(2).transpose(1, 2)
        z: Tensor = self.attention(tokens)
        return (y + z.transpose(1, 2).view(y.shape)) * _HALF


class _Upsample(nn.Module):
    """Nearest neighbour times two, then a 3 x 3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.conv(functional.interpolate(x, scale_factor=2.0, mode="nearest"))
        return result
