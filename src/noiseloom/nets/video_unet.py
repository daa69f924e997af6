"""A causal U-Net for video: the blocks of `UNet` within frames, attention alone over time.

Frames are mixed by nothing but attention at one place of the feature map, after the blocks of
chosen stages (J. Ho et al., 2022, "Video Diffusion Models", arXiv:2204.03458, section 3; there over
all frames, the future included). There are no convolutions over time, which would need caches of
their own. Normalisation sees one frame at a time: moments that are pooled over frames tell a frame
of its future, as they do in the released video network of Diffusion Forcing, where earlier outputs
change with later frames also when it is asked to be causal.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional

from noiseloom.carry import Carry
from noiseloom.nets.attention import Attention, Sight
from noiseloom.nets.inputs import Inputs
from noiseloom.nets.layers import GroupNorm, initialise, zero
from noiseloom.nets.past import added, blank, cached, check_heads, check_window, entries, sight
from noiseloom.nets.patches import paste
from noiseloom.nets.stages import Block, ascent, descent, heads, refuse_new_layers, walk

__all__ = ["VideoUNet"]


class VideoUNet(nn.Module):
    """A U-Net `(x, log_snr, cond) -> Tensor` for frames (B, T, C, H, W), blind to the future.

    A frame is cut into patches, the pixels of the first stage. Stage i has width
    `width * multipliers[i]` and works on maps 2^i times smaller; it has `blocks` blocks on the way
    down and one more on the way up, modulated by the frame's own log-SNR, class and action:

        h <- residual block and attention within a frame, as in `UNet`
        h <- h + attention(GN(h))    frames i - window + 1 .. i, by place; where `time` says so

    Through L attentions over time a frame sees L (window - 1) frames back. Positions in time are
    rotary, so that only differences count. The sum over time is not divided by sqrt(2) as the
    others are: attention over time can be added to a trained network without a change. The output
    is 0 at initialisation. Activations are channels-last throughout, and give it channels-last
    weights too: attention then reads places as tokens without copying them.

    For frames of 3 x 64 x 64,
    `patch=2, width=128, multipliers=(1, 2, 2, 3), blocks=1, attention=(False, False, True, True),
    time=(False, True, True, True)` makes 34.8 million parameters and 4.4 G multiply-adds a frame.

    Args:
        in_channels: C, channels of a frame, without the estimate's.
        out_channels: channels of the prediction.
        patch: side of a patch, in pixels; 1 for a first stage at full size.
        width: channels of the first stage; the embedding is four times as wide.
        multipliers: width of each stage over `width`.
        blocks: residual blocks per stage.
        attention: for each stage, whether attention within a frame follows each of its blocks.
        time: for each stage, whether attention over time does, after that. A stage of N places
            costs a frame N window products of queries and keys for each.
        window: number of frames that a frame attends to, itself included.
        head_width: channels per attention head, an even number.
        num_classes: K, for class labels 0 .. K - 1 and the null label K.
        action_features: A, features of the action that comes with a frame; 0 for none.
        self_conditioning: whether it takes an estimate beside the state.
        dropout: rate of the residual blocks.

    Attributes:
        causal: True: no token sees a later one.
        memory: frames that a cache has to hold, window - 1.

    Raises:
        ValueError: multipliers, attention and time of different lengths, no attention over time,
            no window, or widths without whole heads.

    Example:
        >>> net = VideoUNet(3, 3, patch=1, width=16, multipliers=(1, 1), blocks=1, head_width=8,
        ...     attention=(False, True), time=(False, True), window=4)
        >>> net(torch.zeros(2, 5, 3, 8, 8), torch.zeros(2, 5)).shape
        torch.Size([2, 5, 3, 8, 8])
    """

    causal = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        patch: int,
        width: int,
        multipliers: Sequence[int],
        blocks: int,
        attention: Sequence[bool],
        time: Sequence[bool],
        window: int,
        head_width: int = 64,
        num_classes: int | None = None,
        action_features: int = 0,
        self_conditioning: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_window(window)
        if not len(multipliers) == len(attention) == len(time):
            raise ValueError(
                f"multipliers has {len(multipliers)} entries, attention {len(attention)} and time "
                f"{len(time)}: give one of each per stage"
            )
        if not any(time):
            raise ValueError(
                "a video network without attention over time sees no past: set time for at least "
                "one stage, or use UNet on frames"
            )
        self.window, self.memory = window, window - 1
        self.patch, self.halvings, self.head_width = patch, len(multipliers) - 1, head_width
        films: list[int] = []
        self.seers: list[tuple[int, int]] = []  # (stage, heads) of each attention over time

        def make(c_in: int, c_out: int, stage: int) -> _Block:
            space = Block(
                c_in, c_out, head_width if attention[stage] else None, dropout, len(films)
            )
            films.append(2 * c_out)
            if not time[stage]:
                return _Block(space, None)
            count = heads(c_out, head_width)
            check_heads(c_out, count)
            self.seers.append((stage, count))
            return _Block(space, _Time(c_out, count))

        widths = [width * m for m in multipliers]
        self.inputs = Inputs(
            in_channels, width, num_classes, action_features, self_conditioning, patch, 4 * width
        )
        self.down, skips = descent(width, widths, blocks, make)
        self.up = ascent(skips, widths, blocks, make)
        self.norm = GroupNorm(widths[0])
        self.output = nn.Conv2d(widths[0], out_channels * patch**2, 3, padding=1)

        # The modulations of all blocks come from one matrix product.
        self.films = films
        self.film = nn.Linear(4 * width, sum(films))

        initialise(self)
        zero(self.output)
        for module in self.modules():
            if isinstance(module, Block | _Time):
                zero(*module.silent)

    def forward(
        self, x: Tensor, log_snr: Tensor, cond: Mapping[str, Any] | None = None
    ) -> Tensor | tuple[Tensor, Carry]:
        """Predict.

        Args:
            x: state of unit variance, shape (B, T, C, H, W): the whole history, or the frames that
                follow those in the cache; H and W divisible by patch 2^(stages - 1).
            log_snr: float32, shape (B,) or (B, T), in [-20, 20].
            cond: as for `CausalTransformer`, with frames for tokens; the estimate in the shape of
                x, and in the cache, for each attention over time in the order of the way, keys and
                values of shape (B, n, N, heads, head_width), N the number of places of its stage.

        Returns:
            Shape (B, T, out_channels, H, W); with "cache", that and the entries of these T frames,
            a tree like the cache.

        Raises:
            ValueError: a shape that does not fit, or a condition the network was not built for.
        """
        cond = cond or {}
        self._check_size(x)
        n = cached(cond)
        h, embedding = self.inputs(x, log_snr, cond, n)
        batch, length = x.shape[:2]
        rows, columns = (size // self.patch for size in x.shape[-2:])
        past: Sequence[dict[str, Tensor] | None]
        past = entries(x, cond, self._shapes(x)) or [None] * len(self.seers)
        seen = sight(x, cond, n, self.window, self.head_width)
        keys = _frames(cond.get("dropout"), batch, length)

        # From here on frames are pictures: their axis is folded into the batch.
        film = self.film(embedding).expand(batch, length, -1).flatten(0, 1)
        films, before = iter(film.split(self.films, -1)), iter(past)
        new: list[dict[str, Tensor]] = []

        def step(module: nn.Module, h: Tensor) -> Tensor:
            if not isinstance(module, _Block):
                y: Tensor = module(h)
                return y
            h = module.space(h, next(films), keys)
            if module.time is not None:
                h, entry = module.time(h, length, past=next(before), **seen)
                new.append(entry)
            return h

        # Patches side by side are a channels-last picture: a view.
        picture = h.flatten(0, 1).transpose(1, 2).unflatten(2, (rows, columns))
        h = walk(picture, self.down, (), self.up, step)
        y = self.output(functional.silu(self.norm(h)))
        y = y.flatten(2).transpose(1, 2).unflatten(0, (batch, length))
        frames = paste(y, self.patch, rows)
        return frames if cond.get("cache") is None else (frames, added(x, cond, new))

    def blank(self, x: Tensor) -> Carry:
        """The cache to begin with, of the size it will always have: `memory` frames, none real.

        Args:
            x: a state, shape (B, T, C, H, W).
        """
        return blank(x, self.memory, self._shapes(x))

    def _shapes(self, x: Tensor) -> list[tuple[int, ...]]:
        """Of the keys of one frame, for each attention over time."""
        count = x.shape[-2] * x.shape[-1] // self.patch**2
        return [(count // 4**stage, heads, self.head_width) for stage, heads in self.seers]

    def inherit(
        self, old: Mapping[str, Tensor], classes: Sequence[int] | None
    ) -> dict[str, Tensor]:
        """Refuse new layers within frames. See `noiseloom.training.Heir`."""
        refuse_new_layers(self, old)
        return dict(old)

    def _check_size(self, x: Tensor) -> None:
        """Refuse frames that cannot be halved; what is no video at all, the inputs refuse."""
        divisor = self.patch * 2**self.halvings
        if x.ndim == 5 and (x.shape[3] % divisor or x.shape[4] % divisor):
            raise ValueError(
                f"frames of {x.shape[3]} x {x.shape[4]} pixels: both sizes must be divisible by "
                f"{divisor}, the network cuts patches of {self.patch} and halves their rows and "
                f"columns {self.halvings} times"
            )


class _Block(nn.Module):
    """What follows each other at one place of the way: within frames, then over time."""

    def __init__(self, space: Block, time: "_Time | None") -> None:
        super().__init__()
        self.space, self.time = space, time


class _Time(nn.Module):
    """Attention over time at each place, normalised frame by frame."""

    def __init__(self, channels: int, count: int) -> None:
        super().__init__()
        self.norm, self.attention = GroupNorm(channels), Attention(channels, count)

    @property
    def silent(self) -> tuple[nn.Module]:
        return (self.attention.out,)

    def forward(
        self, x: Tensor, length: int, **seen: Unpack[Sight]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        tokens = self.norm(x).flatten(2).transpose(1, 2).unflatten(0, (-1, length))
        y, entry = self.attention.attend(tokens, **seen)
        return x + y.flatten(0, 1).transpose(1, 2).view(x.shape), entry


def _frames(keys: Tensor | None, batch: int, length: int) -> Tensor | None:
    """A dropout key for each frame, shape (B T,), from those of the samples."""
    if keys is None:
        return None
    if keys.shape != (batch,):
        raise ValueError(
            f"dropout keys of shape {tuple(keys.shape)} for {batch} videos: expected ({batch},)"
        )
    # An odd factor, 2^64 over the golden ratio, takes keys that are neighbours far apart.
    spread = keys[:, None] * (0x9E3779B97F4A7C15 - 2**64)
    return (spread + torch.arange(length, device=keys.device)).flatten()
