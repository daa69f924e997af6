"""A transformer for video, causal or not: `CausalTransformer`, for frames in patches.

Attention is divided: among the patches of one frame, then over time at one place (A. Arnab et al.,
2021, "ViViT", arXiv:2103.15691, model 3; G. Bertasius et al., 2021, "TimeSformer",
arXiv:2102.05095). A frame of N patches costs N^2 + N window products of queries and keys where
joint attention costs N^2 window, and a cache holds frames as another holds tokens. Nothing is
normalised across frames: statistics over time would tell a frame of its future.
"""

from collections.abc import Mapping
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from noiseloom.carry import Carry
from noiseloom.nets.attention import Attention, Sight
from noiseloom.nets.code_attention import CodeKeys
from noiseloom.nets.codes import informative
from noiseloom.nets.inputs import Inputs
from noiseloom.nets.layers import Dropout, initialise, perceptron, zero
from noiseloom.nets.past import (
    added,
    blank,
    cached,
    check_heads,
    check_window,
    entries,
    sight,
)
from noiseloom.nets.patches import Places, paste
from noiseloom.nets.trunk import Trunk, modulate

__all__ = ["VideoTransformer"]


class VideoTransformer(nn.Module):
    """A transformer `(x, log_snr, cond) -> Tensor` for frames (B, T, C, H, W), causal or not.

    Frames are cut into N = H W / patch^2 patches, told apart by fixed embeddings of their places,
    so that frames of any size will do. Each of `depth` blocks has three branches, modulated by the
    frame's own log-SNR and action, and the class (`Trunk`):

        h <- h + gate_1 space(LN(h) (1 + scale_1) + shift_1)    among the patches of a frame
        h <- h + gate_2 time(LN(h) (1 + scale_2) + shift_2)     frames i - window + 1 .. i, by place
        h <- h + gate_3 mlp(LN(h) (1 + scale_3) + shift_3)

    An action that was added to the patches would drown in their noise: of a frame at time 1, which
    an action has to tell most of, they are nothing else.

    A network that is not causal sees frames i - window + 1 .. i + window - 1 and keeps no cache: it
    is for windows that slide (`noiseloom.sliding`), not for rollouts.

    Through all blocks a frame sees depth (window - 1) frames back. Positions in time are rotary,
    so that only differences count. The output sees the patches past all blocks too, through a gate
    of the log-SNR, since layer norm forgets how large they were; it is 0 at initialisation.

    For frames of 3 x 64 x 64, `patch=8, width=384, depth=9, heads=6` makes 34.1 million parameters.

    Args:
        in_channels: C, channels of a frame, without the estimate's.
        out_channels: channels of the prediction.
        patch: side of a patch, in pixels, a divisor of H and W.
        width: features inside, a multiple of 4.
        depth: number of blocks.
        heads: attention heads; width / heads is an even number.
        window: number of frames that a frame attends to, itself included.
        causal: whether a frame sees none that follow.
        num_classes: K, for class labels 0 .. K - 1 and the null label K.
        action_features: A, features of the action that comes with a frame; 0 for none.
        self_conditioning: whether it takes an estimate beside the state.
        dropout: rate at the end of all branches of every block.
        codes: (m, k), number of latents and of the codes of each; None for a network without. They
            are of the whole video: the patches of all frames read the same ones, beside their past.
        code_depth: number of blocks of attention between codes, before they are read.

    Attributes:
        causal: whether no frame sees a later one.
        memory: frames that a cache has to hold, window - 1.

    Example:
        >>> net = VideoTransformer(3, 3, patch=4, width=16, depth=1, heads=2, window=4)
        >>> net(torch.zeros(2, 5, 3, 8, 8), torch.zeros(2, 5)).shape
        torch.Size([2, 5, 3, 8, 8])
    """

    causal: bool = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        patch: int,
        width: int,
        depth: int,
        heads: int,
        window: int,
        causal: bool = True,
        num_classes: int | None = None,
        action_features: int = 0,
        self_conditioning: bool = False,
        dropout: float = 0.0,
        codes: tuple[int, int] | None = None,
        code_depth: int = 2,
    ) -> None:
        super().__init__()
        check_window(window)
        check_heads(width, heads)
        if width % 4:
            raise ValueError(
                f"a width of {width} is not a multiple of 4: rows and columns of patches are told "
                "by sines and cosines, a quarter of it each"
            )
        self.window, self.memory, self.causal = window, window - 1, causal
        self.patch, self.head = patch, (heads, width // heads)
        self.inputs = Inputs(
            in_channels, width, num_classes, action_features, self_conditioning, patch, width, codes
        )
        self.places = Places(width)
        self.trunk = Trunk(
            width,
            out_channels * patch**2,
            depth,
            heads,
            dropout,
            block=_Block,
            branches=3,
            skip=True,
        )
        initialise(self)
        zero(*self.trunk.silent)
        # After all else: what is drawn for that is the same with codes and without.
        self.codes = None
        if informative(codes):
            self.codes = CodeKeys(codes, width, code_depth, heads, depth)

    def forward(
        self, x: Tensor, log_snr: Tensor, cond: Mapping[str, Any] | None = None
    ) -> Tensor | tuple[Tensor, Carry]:
        """Predict.

        Args:
            x: state of unit variance, shape (B, T, C, H, W): the whole history, or the frames that
                follow those in the cache.
            log_snr: float32, shape (B,) or (B, T), in [-20, 20].
            cond: as for `CausalTransformer`, with frames for tokens; the estimate in the shape of
                x, and keys and values in the cache of shape (B, n, N, heads, width / heads).

        Returns:
            Shape (B, T, out_channels, H, W); with "cache", that and the entries of these T frames,
            a tree like the cache.

        Raises:
            ValueError: a shape that does not fit, or a condition the network was not built for; a
                cache of a network that is not causal.
        """
        cond = cond or {}
        n = cached(cond)
        h, embedding = self.inputs(x, log_snr, cond, n)
        rows, columns = (size // self.patch for size in x.shape[-2:])
        h = h + self.places(rows, columns).to(h.dtype)
        past = entries(x, cond, [(rows * columns, *self.head)] * self.trunk.depth)
        seen = sight(x, cond, n, self.window, self.head[1], causal=self.causal)
        told = None if self.codes is None else self.codes(cond, len(x))
        y, _, new = self.trunk(h, embedding, cond.get("dropout"), past, told, **seen)
        frames = paste(y, self.patch, rows)
        return frames if cond.get("cache") is None else (frames, added(x, cond, new))

    def blank(self, x: Tensor) -> Carry:
        """The cache to begin with, of the size it will always have: `memory` frames, none real.

        Args:
            x: a state, shape (B, T, C, H, W).
        """
        count = x.shape[-2] * x.shape[-1] // self.patch**2
        return blank(x, self.memory, [(count, *self.head)] * self.trunk.depth)


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, dropout: float, index: int) -> None:
        super().__init__()
        self.space, self.time = Attention(width, heads), Attention(width, heads)
        self.mlp = perceptron(width)
        self.dropouts = nn.ModuleList(Dropout(dropout, 3 * index + i) for i in range(3))

    def forward(
        self, h: Tensor, modulation: Tensor, keys: Tensor | None, **seen: Unpack[Sight]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        space, time, mlp = (part.chunk(3, -1) for part in modulation.chunk(3, -1))
        y = self.space(modulate(h, *space[:2]).flatten(0, 1)).unflatten(0, h.shape[:2])
        h = torch.addcmul(h, space[2], self.dropouts[0](y, keys))
        y, entry = self.time.attend(modulate(h, *time[:2]), **seen)
        h = torch.addcmul(h, time[2], self.dropouts[1](y, keys))
        y = self.mlp(modulate(h, *mlp[:2]))
        return torch.addcmul(h, mlp[2], self.dropouts[2](y, keys)), entry
