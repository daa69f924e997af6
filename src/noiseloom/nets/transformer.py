"""Diffusion transformers: for sequences with a time per token, and for pictures in patches.

Both are bidirectional; `noiseloom.nets.causal` has the ones that see the past only.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from noiseloom.nets.attention import rotation
from noiseloom.nets.code_attention import CodeKeys
from noiseloom.nets.codes import check_told, informative
from noiseloom.nets.conditions import acted, check_tokens, entered, with_actions
from noiseloom.nets.layers import Embedding, initialise, zero
from noiseloom.nets.past import check_heads
from noiseloom.nets.patches import cut, paste
from noiseloom.nets.reading import check_source, reading
from noiseloom.nets.trunk import Trunk, norm

__all__ = ["DiT", "Transformer"]

_NAMES = ("label", "estimate", "dropout", "hidden", "mask")


class Transformer(nn.Module):
    """A bidirectional transformer `(x, log_snr, cond) -> Tensor` for sequences (B, T, D).

    Token embeddings with learnt positions, then a `Trunk` modulated by log-SNR and class. The
    output is 0 at initialisation, and so is every gate.

    With `hidden_conditioning` it returns the final token states beside the output, and adds a
    zero-initialised projection of LN(cond["hidden"]) to the token embeddings: self-conditioning on
    the network's own state (A. Jabri, D. Fleet, T. Chen, 2022, arXiv:2212.11972, section 2.3).

    All tokens attend to codes, too, by a softmax of its own whose values are 0 at initialisation: a
    network that starts from one without codes begins exactly there
    (`noiseloom.nets.code_attention.CodeKeys`). Codes that say nothing (m = 0 or k = 1) have no path
    at all.

    Args:
        in_features: D, features of a token, without the estimate's.
        out_features: features of the prediction.
        max_length: the longest sequence.
        width: features W inside.
        depth: number of blocks.
        heads: attention heads, a divisor of `width`.
        num_classes: K, for class labels 0 .. K - 1 and the null label K.
        self_conditioning: whether it takes an estimate beside the state.
        dropout: rate at the end of both branches of every block.
        hidden_conditioning: whether it takes and returns hidden states.
        codes: (m, k), number of latents and of the codes of each; None for a network without.
        code_depth: number of blocks of attention between codes, before they are read.
        rotary: positions turn queries and keys besides, as those of `CausalTransformer` do, so that
            what is alike at all places need not be learnt at each; W / heads must be even.
        action_features: A, features of the action that comes with a token; 0 for none.
        reads: whether every block reads a source (`noiseloom.nets.reading`).
        estimate_features: E, features of the estimate; by default D.

    Example:
        >>> import torch
        >>> net = Transformer(3, 3, max_length=8, width=16, depth=1, heads=2)
        >>> net(torch.zeros(2, 5, 3), torch.zeros(2, 5)).shape
        torch.Size([2, 5, 3])
    """

    causal = False  # all see all
    reads_classes = True

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        max_length: int,
        width: int = 256,
        depth: int = 6,
        heads: int = 4,
        num_classes: int | None = None,
        self_conditioning: bool = False,
        dropout: float = 0.0,
        hidden_conditioning: bool = False,
        codes: tuple[int, int] | None = None,
        code_depth: int = 2,
        rotary: bool = False,
        action_features: int = 0,
        reads: bool = False,
        estimate_features: int | None = None,
    ) -> None:
        super().__init__()
        if rotary:
            check_heads(width, heads)
        self.head_width = width // heads
        self.in_features, self.width, self.known = in_features, width, codes
        self.max_length, self.self_conditioning = max_length, self_conditioning
        self.embedding = Embedding(width, width, num_classes)
        self.estimate_features = estimate_features or in_features
        self.input = nn.Linear(in_features + self.estimate_features * self_conditioning, width)
        self.position, self.rotary = nn.Embedding(max_length, width), rotary
        self.hidden = nn.Linear(width, width, bias=False) if hidden_conditioning else None
        self.trunk = Trunk(width, out_features, depth, heads, dropout, **reading(reads))
        told = ("action", "action_mask") if action_features else ()
        self.names = (*_NAMES, *told, *["source"] * reads)
        initialise(self)
        zero(*self.trunk.silent)
        if self.hidden is not None:
            zero(self.hidden)
        # After all else: what is drawn for that is the same with codes and without.
        self.codes = None
        if informative(codes):
            self.codes = CodeKeys(codes, width, code_depth, heads, depth)
        self.action = nn.Linear(action_features, width) if action_features else None
        self.no_action = nn.Parameter(torch.zeros(width)) if action_features else None
        if self.action is not None:
            initialise(self.action)

    def forward(
        self, x: Tensor, log_snr: Tensor, cond: Mapping[str, Tensor] | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Predict.

        Args:
            x: state of unit variance, shape (B, T, D), T <= max_length; or int64 (B, T), classes
                0 .. D - 1 that stand for their one-hot vectors.
            log_snr: float32, shape (B,) or (B, T), in [-20, 20].
            cond: "label" (B,), "estimate" (B, T, E), "codes" (B, m, k), "dropout" keys (B,),
                "hidden" (B, T, W), "source" (B, N, 2 W depth), zeros or absent for none, and
                "mask", bool of shape (B, T), True for a real token: padding is not attended to, and
                the output there means nothing; "action" (B, T, A), known where "action_mask", bool
                of shape (B,) or (B, T), is True (absent: everywhere).

        Returns:
            Shape (B, T, out_features); with `hidden_conditioning`, that and the token states
            (B, T, W).

        Raises:
            ValueError: a shape that does not fit, or a condition the network was not built for.
        """
        return self.finish(*self.states(x, log_snr, cond))

    def states(
        self, x: Tensor, log_snr: Tensor, cond: Mapping[str, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The last token states (B, T, W), and what `finish` needs besides.

        `finish(*states(x, log_snr, cond))` is `forward`; in between the states may be changed
        (`noiseloom.guidance.HiddenGuided`).
        """
        cond = cond or {}
        self._check(x, log_snr, cond)
        action = acted(
            self.action, self.no_action, x, cond
        )  # says how to build one that takes them
        check_told(cond, self.names, len(x), self.known)
        source = check_source(cond, len(x), self.width, self.trunk.depth)
        keys, mask, hidden = cond.get("dropout"), cond.get("mask"), cond.get("hidden")

        sizes = self.in_features, self.estimate_features
        h = entered(self.input, x, cond, self.self_conditioning, *sizes)
        h, turn = h + self.position.weight[: x.shape[1]], None
        if action is not None:
            h = h + action
        if self.rotary:
            places = torch.arange(x.shape[1], device=x.device)[None]
            dtype = torch.promote_types(self.position.weight.dtype, torch.float32)
            turn = rotation(places, self.head_width, dtype)
        if self.hidden is not None and hidden is not None:
            h = h + self.hidden(norm(hidden))

        seen = None if mask is None else mask[:, None]
        told = None if self.codes is None else self.codes(cond, len(x))
        embedding = self.embedding(log_snr, cond)
        h, rest, _ = self.trunk.states(
            h, embedding, keys, told=told, source=source, seen=seen, turn=turn
        )
        return h, rest

    def inherit(
        self, old: Mapping[str, Tensor], classes: Sequence[int] | None
    ) -> dict[str, Tensor]:
        """Actions that are new say nothing at first. See `noiseloom.training.Heir`."""
        return with_actions(self.action, old)

    def finish(self, h: Tensor, rest: tuple[Tensor, Tensor]) -> Tensor | tuple[Tensor, Tensor]:
        """What `forward` returns, of the last token states: each token by itself."""
        y = self.trunk.finish(h, rest)
        return y if self.hidden is None else (y, h)

    def _check(self, x: Tensor, log_snr: Tensor, cond: Mapping[str, Tensor]) -> None:
        check_tokens(x, log_snr, cond, self.in_features, longest=self.max_length)
        tokens, hidden = tuple(x.shape[:2]), cond.get("hidden")
        if hidden is None:
            return
        if self.hidden is None:
            raise ValueError(
                f"hidden states of shape {tuple(hidden.shape)} for a network without them: build "
                "it with hidden_conditioning=True"
            )
        if hidden.shape != (*tokens, self.width):
            raise ValueError(
                f"hidden states of shape {tuple(hidden.shape)} for a state of shape "
                f"{tuple(x.shape)}: expected {(*tokens, self.width)}"
            )


class DiT(nn.Module):
    """A diffusion transformer for pictures: `Transformer` over square patches.

    Args:
        in_channels: C, channels of the state, without the estimate's.
        out_channels: channels of the prediction.
        size: height and width of the pictures, multiples of `patch`.
        patch: side of a patch, in pixels.
        **options: others of `Transformer` (width, depth, heads, num_classes, ...).

    Raises:
        ValueError: a size that `patch` does not divide.

    Example:
        >>> import torch
        >>> net = DiT(4, 4, size=(8, 8), patch=2, width=16, depth=1, heads=2)
        >>> net(torch.zeros(2, 4, 8, 8), torch.zeros(2)).shape
        torch.Size([2, 4, 8, 8])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        size: tuple[int, int],
        patch: int = 2,
        **options: Any,  # noqa: ANN401
    ) -> None:
        super().__init__()
        if size[0] % patch or size[1] % patch:
            raise ValueError(
                f"pictures of {size[0]} x {size[1]} pixels cannot be divided into patches of "
                f"{patch} x {patch}"
            )
        self.in_channels, self.size, self.patch = in_channels, tuple(size), patch
        self.grid = size[0] // patch, size[1] // patch
        self.tokens = Transformer(
            in_channels * patch**2,
            out_channels * patch**2,
            max_length=self.grid[0] * self.grid[1],
            **options,
        )

    def forward(
        self, x: Tensor, log_snr: Tensor, cond: Mapping[str, Tensor] | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Predict.

        Args:
            x: state of unit variance, shape (B, C, *size).
            log_snr: float32, shape (B,), in [-20, 20].
            cond: as for `Transformer`, the estimate in the shape of `x`, tokens being patches in
                reading order.

        Returns:
            Shape (B, out_channels, *size); with `hidden_conditioning`, that and the patch states.

        Raises:
            ValueError: a shape that does not fit, or a condition the network was not built for.
        """
        cond = cond or {}
        expected = (self.in_channels, *self.size)
        if x.ndim != 4 or tuple(x.shape[1:]) != expected:
            raise ValueError(
                f"a state of shape {tuple(x.shape)}: expected (B, {', '.join(map(str, expected))})"
            )
        if log_snr.shape != x.shape[:1]:
            raise ValueError(
                f"a log-SNR of shape {tuple(log_snr.shape)} for a state of shape "
                f"{tuple(x.shape)}: expected ({x.shape[0]},)"
            )
        estimate = cond.get("estimate")
        if estimate is not None:
            if estimate.shape != x.shape:
                raise ValueError(
                    f"an estimate of shape {tuple(estimate.shape)} for a state of shape "
                    f"{tuple(x.shape)}: the two must be equal"
                )
            cond = {**cond, "estimate": cut(estimate, self.patch)}
        y = self.tokens(cut(x, self.patch), log_snr, cond)
        if isinstance(y, Tensor):
            return paste(y, self.patch, self.grid[0])
        return paste(y[0], self.patch, self.grid[0]), y[1]

    def inherit(
        self, old: Mapping[str, Tensor], classes: Sequence[int] | None
    ) -> dict[str, Tensor]:
        """Refuse another number of patches: their places are learnt, and counted row by row.

        See `noiseloom.training.Heir`.
        """
        table, count = old.get("tokens.position.weight"), self.tokens.max_length
        if table is not None and len(table) != count:
            raise ValueError(
                f"a transformer of {count} patches cannot start as one of {len(table)}, whose "
                "places are others: keep size and patch as they were"
            )
        return dict(old)
