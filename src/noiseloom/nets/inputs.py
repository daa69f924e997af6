"""How a causal network takes its tokens and conditions: the same for all of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from noiseloom.nets.codes import check_told
from noiseloom.nets.conditions import acted, check_tokens, entered, with_actions, with_estimate
from noiseloom.nets.layers import Embedding
from noiseloom.nets.patches import cut

__all__ = ["Inputs"]

_TOLD = ("label", "estimate", "dropout", "mask", "action", "action_mask")
_NAMES = (*_TOLD, "cache", "position", "alone")


class Inputs(nn.Module):
    """Token embeddings W x + A action + b, and the embedding of log-SNR and class.

    An unknown action is a learnt vector instead of A action + b. It is added to the token, or else,
    with `film`, to the second embedding.

    Args:
        in_features: D, features of a token or channels of a frame, without the estimate's.
        width: features W of both embeddings.
        num_classes: K, for class labels 0 .. K - 1 and the null label K.
        action_features: A, features of an action; 0 for a network without.
        self_conditioning: whether it takes an estimate beside the state.
        patch: side of the patches that frames are cut into, in pixels; None for tokens that are
            vectors.
        film: features of the second embedding, where it is to have the action in it, as it must for
            frames; None for W and an action among the tokens.
        codes: (m, k) of the codes that the network reads, which are checked here; None for none.
        beside: names of conditions that the network reads besides, and checks itself.
    """

    def __init__(
        self,
        in_features: int,
        width: int,
        num_classes: int | None,
        action_features: int,
        self_conditioning: bool,
        patch: int | None = None,
        film: int | None = None,
        codes: tuple[int, int] | None = None,
        beside: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.in_features, self.self_conditioning = in_features, self_conditioning
        self.patch, self.film, self.codes = patch, film, codes
        self.names = (*_NAMES, *beside)
        self.embedding = Embedding(width, film or width, num_classes)
        self.token = nn.Linear(in_features * (1 + self_conditioning) * (patch or 1) ** 2, width)
        self.action = nn.Linear(action_features, film or width) if action_features else None
        self.no_action = nn.Parameter(torch.zeros(film or width)) if action_features else None

    def forward(
        self, x: Tensor, log_snr: Tensor, cond: Mapping[str, Any], before: int
    ) -> tuple[Tensor, Tensor]:
        """Check and embed.

        Args:
            x: state of unit variance, shape (B, T, D), or (B, T, D, H, W) with a patch; or classes,
                int64 (B, T), which stand for their one-hot vectors.
            log_snr: float32, shape (B,) or (B, T), in [-20, 20].
            cond: "label" (B,), "estimate" like x or the vectors, "action" (B, T, A), "action_mask"
                (B,) or (B, T), True where the action is known, "codes" (B, m, k), and "mask"
                (B, before + T).
            before: number of tokens in the cache.

        Returns:
            Token embeddings (B, T, W), with a patch (B, T, N, W) for N patches, and the other
            (B, 1, W) or (B, T, W), with `film` instead of W where that is given.

        Raises:
            ValueError: a shape that does not fit, or a condition the network was not built for.
            TypeError: codes that are indices.
        """
        check_told(cond, self.names, len(x), self.codes)
        check_tokens(x, log_snr, cond, self.in_features, patch=self.patch, before=before)
        if self.patch is None:
            h = entered(self.token, x, cond, self.self_conditioning, self.in_features)
        else:
            h = self.token(cut(with_estimate(x, cond, self.self_conditioning, dim=2), self.patch))
        embedding: Tensor = self.embedding(log_snr, cond)
        if log_snr.ndim == 1:
            embedding = embedding[:, None]
        action = acted(self.action, self.no_action, x, cond)
        if action is None:
            return h, embedding
        if self.film is not None:
            return h, embedding + action
        return h + action, embedding

    def inherit(
        self, old: Mapping[str, Tensor], classes: Sequence[int] | None
    ) -> dict[str, Tensor]:
        """Actions that are new say nothing at first. See `noiseloom.training.Heir`."""
        return with_actions(self.action, old)
