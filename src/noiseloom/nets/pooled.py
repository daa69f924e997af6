"""One vector for a row of tokens, read from the last token states of a network."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["PooledStates"]


class PooledStates(nn.Module):
    """An embedding of rows, `(x, log_snr, cond) -> (B, F)`, from what a network makes of them.

        embedding = tanh(W mean over tokens of h + b),    h = network.states(x, log_snr, cond)

    Padded tokens (`cond["mask"]`) do not count. A guide that reads a denoiser's states so can be
    asked about states that were changed (`noiseloom.guidance.HiddenGuided`).

    Args:
        encoder: a network with `states`, as `Transformer`: what a denoiser was trained with, or a
            fresh one.
        width: W, features of a token state.
        features: F.
        learn: whether the encoder is trained, too. Otherwise it stays as it is.

    References:
        N. Gruver et al., 2023, NOS, arXiv 2305.20009, Section 4.1.
    """

    def __init__(
        self, encoder: nn.Module, width: int, features: int, *, learn: bool = False
    ) -> None:
        super().__init__()
        self.encoder: Any = encoder
        self.output = nn.Linear(width, features)
        if not learn:
            encoder.requires_grad_(False)

    def forward(
        self, x: Tensor, log_snr: Tensor, cond: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """The embedding of states; conditions are the encoder's."""
        h, _ = self.encoder.states(x, log_snr, cond)
        return self.pooled(h, cond)

    def pooled(self, h: Tensor, cond: Mapping[str, Tensor] | None = None) -> Tensor:
        """The embedding of token states (B, T, W)."""
        mask = (cond or {}).get("mask")
        if mask is None:
            mean = h.mean(1)
        else:
            share = mask.to(h.dtype)[..., None]
            mean = (h * share).sum(1) / share.sum(1).clamp_min(1)
        embedding: Tensor = torch.tanh(self.output(mean))
        return embedding
