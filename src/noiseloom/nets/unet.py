"""A U-Net for pictures, in the family of Bit Diffusion's.

Residual blocks with feature-wise modulation, self-attention at chosen stages, and every residual
sum divided by sqrt(2). The paper gives widths, depths and attention; what it leaves open follows
its released network as far as that is described (T. Chen, R. Zhang, G. Hinton, 2022, "Analog Bits",
arXiv:2208.04202; P. Dhariwal and A. Nichol, 2021, arXiv:2105.05233, for the modulation).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from noiseloom.nets.code_attention import CodeLayers, check_groups
from noiseloom.nets.codes import check_told, informative
from noiseloom.nets.conditions import with_estimate
from noiseloom.nets.layers import Embedding, GroupNorm, initialise, zero
from noiseloom.nets.stages import Block, ascent, descent, refuse_new_layers, walk

__all__ = ["UNet"]


class UNet(nn.Module):
    """A U-Net `(x, log_snr, cond) -> Tensor` for states (B, C, H, W).

    Stage i has width `width * multipliers[i]` and works on pictures 2^i times smaller; it has
    `blocks` residual blocks on the way down and one more on the way up, where each takes a skip.
    The output is 0 at initialisation. The memory format of the state is kept: give it channels-last
    tensors (attention then reads pixels as tokens without copying them).

    Codes are read by cross-attention at every stage, down and up, or in groups, where each stage of
    the way up has latents of its own (`noiseloom.nets.code_attention.CodeLayers`). It is 0 at
    initialisation: a network that starts from one without codes begins exactly there. Codes that
    say nothing (m = 0 or k = 1) have no path at all.

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
        codes: (m, k), number of latents and of the codes of each; None for a network without.
        code_groups: how many latents each stage's way up reads, from the coarsest to the finest;
            None for all latents at every stage, down and up.
        code_depth: number of blocks of attention between codes, before they are read.

    Raises:
        ValueError: multipliers and attention of different lengths, widths without whole heads, or
            groups that are not one for each stage or do not share out the latents.

    Example:
        >>> net = UNet(4, 4, width=16, multipliers=(1,), attention=(True,), head_width=16)
        >>> net(torch.zeros(2, 4, 8, 8), torch.zeros(2)).shape
        torch.Size([2, 4, 8, 8])
    """

    causal = False  # all see all

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
        codes: tuple[int, int] | None = None,
        code_groups: Sequence[int] | None = None,
        code_depth: int = 2,
    ) -> None:
        super().__init__()
        if len(attention) != len(multipliers):
            raise ValueError(
                f"attention has {len(attention)} entries and multipliers {len(multipliers)}: "
                "give one of each per stage"
            )
        if middle not in ("none", "plain", "attention"):
            raise ValueError(f'middle must be "none", "plain" or "attention", got {middle!r}')
        check_groups(code_groups, codes, len(multipliers))
        self.in_channels, self.self_conditioning, self.known = in_channels, self_conditioning, codes
        self.per_pixel_time, self.divisor = per_pixel_time, 2 ** (len(multipliers) - 1)

        films: list[int] = []

        def block(c_in: int, c_out: int, attend: bool) -> Block:
            films.append(2 * c_out)
            return Block(c_in, c_out, head_width if attend else None, dropout, len(films) - 1)

        def staged(c_in: int, c_out: int, stage: int) -> Block:
            return block(c_in, c_out, attention[stage])

        widths = [width * m for m in multipliers]
        inputs = in_channels * (1 + self_conditioning) + per_pixel_time
        self.embedding = Embedding(width, 4 * width, num_classes)
        self.input = nn.Conv2d(inputs, width, 3, padding=1)
        self.down, skips = descent(width, widths, blocks, staged)
        between = () if middle == "none" else (middle == "attention", False)
        self.middle = nn.ModuleList(block(skips[-1], skips[-1], attend) for attend in between)
        self.up = ascent(skips, widths, blocks, staged)
        self.norm = GroupNorm(widths[0])
        self.output = nn.Conv2d(widths[0], out_channels, 3, padding=1)

        # The modulations of all blocks come from one matrix product.
        self.films = films
        self.film = nn.Linear(4 * width, sum(films))

        initialise(self)
        zero(self.output)
        for module in self.modules():
            if isinstance(module, Block):
                zero(*module.silent)

        # After all else: what is drawn for that is the same with codes and without.
        self.codes = None
        if informative(codes):
            self.codes = CodeLayers(
                codes, code_groups, code_depth, widths, head_width, blocks, len(between)
            )

    def forward(
        self, x: Tensor, log_snr: Tensor, cond: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Predict.

        Args:
            x: state of unit variance, shape (B, C, H, W); H and W divisible by 2^(stages - 1).
            log_snr: float32, shape (B,), in [-20, 20]; with `per_pixel_time` also (B, C, H, W),
                all but B may be 1: its mean over channels enters as one more channel, its mean over
                everything as the embedding's time.
            cond: "label" (B,), "estimate" like x, "codes" (B, m, k), "dropout" keys (B,); see
                `noiseloom.nets`.

        Returns:
            Shape (B, out_channels, H, W).

        Raises:
            ValueError: a shape that does not fit, or a condition the network was not built for.
        """
        cond = cond or {}
        level, level_map = self._levels(x, log_snr)
        check_told(cond, ("label", "estimate", "dropout"), len(x), self.known)
        keys = cond.get("dropout")
        h = with_estimate(x, cond, self.self_conditioning, dim=1)
        if level_map is not None:
            h = torch.cat((h, level_map.to(h.dtype)), 1)

        films = iter(self.film(self.embedding(level, cond)).split(self.films, -1))
        readers = None if self.codes is None else iter(self.codes(cond, len(x)))

        def step(module: nn.Module, h: Tensor) -> Tensor:
            if not isinstance(module, Block):
                y: Tensor = module(h)
                return y
            h = module(h, next(films), keys)
            read = None if readers is None else next(readers)
            return h if read is None else read(h)

        h = walk(self.input(h), self.down, self.middle, self.up, step)
        result: Tensor = self.output(functional.silu(self.norm(h)))
        return result

    def inherit(
        self, old: Mapping[str, Tensor], classes: Sequence[int] | None
    ) -> dict[str, Tensor]:
        """Refuse new layers, and keep the map of levels last. See `noiseloom.training.Heir`."""
        refuse_new_layers(self, old)
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
