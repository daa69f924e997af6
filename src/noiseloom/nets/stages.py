"""What U-Nets are made of: residual blocks at several resolutions, down and up again, with skips.

Stage i works on pictures 2^i times smaller. A network says how its blocks are made and called; the
order of the parts, and which of them takes which skip, is here.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from noiseloom.nets.attention import Attention
from noiseloom.nets.layers import Dropout, GroupNorm

__all__ = ["Block", "Upsample", "ascent", "descent", "heads", "refuse_new_layers", "walk"]

_HALF = math.sqrt(0.5)


class Block(nn.Module):
    """GN-SiLU-conv, GN-FiLM-SiLU-dropout-conv, a shortcut, and self-attention where wanted.

    Residual sums are divided by sqrt(2).

    Args:
        c_in: channels of the input.
        c_out: channels of the output.
        head_width: channels per attention head, None for a block without attention.
        dropout: rate before the second convolution.
        layer: index of the block in its network, so that masks differ.
    """

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
            count = heads(c_out, head_width)
            self.norm3, self.attention = GroupNorm(c_out), Attention(c_out, count)

    @property
    def silent(self) -> tuple[nn.Module, ...]:
        """The parts that are zero at initialisation."""
        return (self.conv2,) if self.attention is None else (self.conv2, self.attention.out)

    def forward(self, x: Tensor, film: Tensor, keys: Tensor | None) -> Tensor:
        """The next activations, from those (B, c_in, H, W), (scale, shift) and dropout keys."""
        h = self.conv1(functional.silu(self.norm1(x)))
        h = self.conv2(self.dropout(functional.silu(self.norm2(h, film)), keys))
        y: Tensor = (h + (x if self.shortcut is None else self.shortcut(x))) * _HALF
        if self.norm3 is None or self.attention is None:
            return y
        tokens = self.norm3(y).flatten(2).transpose(1, 2)
        z: Tensor = self.attention(tokens)
        return (y + z.transpose(1, 2).view(y.shape)) * _HALF


class Upsample(nn.Module):
    """Nearest neighbour times two, then a 3 x 3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (B, C, H, W) to (B, C, 2 H, 2 W)."""
        result: Tensor = self.conv(functional.interpolate(x, scale_factor=2.0, mode="nearest"))
        return result


def heads(channels: int, head_width: int) -> int:
    """The number of attention heads.

    Raises:
        ValueError: `head_width` does not divide the channels.
    """
    if channels % head_width:
        raise ValueError(f"{channels} channels cannot be divided into heads of {head_width}")
    return channels // head_width


def descent(
    channels: int, widths: Sequence[int], blocks: int, make: Callable[[int, int, int], nn.Module]
) -> tuple[nn.ModuleList, list[int]]:
    """The way down: each stage but the first begins with a convolution of stride 2.

    Args:
        channels: of what comes in.
        widths: channels of each stage.
        blocks: blocks per stage.
        make: a block of (channels in, channels out, stage).

    Returns:
        The modules, and the channels of the skips: of what comes in, and of every module's output.
    """
    modules, skips = list[nn.Module](), [channels]
    for stage, width in enumerate(widths):
        if stage:
            modules.append(nn.Conv2d(skips[-1], skips[-1], 3, stride=2, padding=1))
            skips.append(skips[-1])
        for _ in range(blocks):
            modules.append(make(skips[-1], width, stage))
            skips.append(width)
    return nn.ModuleList(modules), skips


def ascent(
    skips: Sequence[int],
    widths: Sequence[int],
    blocks: int,
    make: Callable[[int, int, int], nn.Module],
) -> nn.ModuleList:
    """The way up: one block more per stage than on the way down, each of which takes a skip.

    Args:
        skips: channels of the skips, as `descent` returns them.
        widths: channels of each stage.
        blocks: blocks per stage on the way down.
        make: a block of (channels in, channels out, stage).
    """
    modules, left, c = list[nn.Module](), list(skips), skips[-1]
    for stage, width in reversed(list(enumerate(widths))):
        for _ in range(blocks + 1):
            modules.append(make(c + left.pop(), width, stage))
            c = width
        if stage:
            modules.append(Upsample(c))
    return nn.ModuleList(modules)


def walk(
    h: Tensor,
    down: Iterable[nn.Module],
    middle: Iterable[nn.Module],
    up: Iterable[nn.Module],
    step: Callable[[nn.Module, Tensor], Tensor],
) -> Tensor:
    """Go down and up again.

    Args:
        h: activations of the first stage, shape (B, C, H, W).
        down: modules of `descent`.
        middle: blocks between the two ways.
        up: modules of `ascent`.
        step: how a module is called.
    """
    skips = [h]
    for module in down:
        h = step(module, h)
        skips.append(h)
    for module in middle:
        h = step(module, h)
    for module in up:
        if not isinstance(module, Upsample):
            h = torch.cat((h, skips.pop()), 1)
        h = step(module, h)
    return h


def refuse_new_layers(network: nn.Module, old: Mapping[str, Tensor]) -> None:
    """Refuse to start from fewer layers: a sum over sqrt(2) is felt even where a term is zero.

    Args:
        network: the U-Net that is to start.
        old: tensors of the one that it is to start from.

    Raises:
        ValueError: `network` has blocks, or attention in them, that are not in `old`.
    """
    blocks = [(name, m) for name, m in network.named_modules() if isinstance(m, Block)]
    new = [name for name, _ in blocks if f"{name}.conv2.weight" not in old]
    attending = [name for name, block in blocks if block.attention is not None]
    if new or any(f"{name}.attention.out.weight" not in old for name in attending):
        part, keep = ("layers", "blocks, multipliers") if new else ("attention", "attention")
        raise ValueError(
            f"a U-Net with more {part} cannot start as one with less, where its residual sums "
            f"are divided by sqrt(2) once more: keep {keep} as it was"
        )
