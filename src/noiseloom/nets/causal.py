"""A causal transformer, and the cache that lets it read a token once.

What a causal network says of a token depends on that token and on earlier ones, so that finished
tokens need not be read again: the network is called on new tokens, and on what it once made of the
old ones. The cache goes in and comes out, the network keeps nothing:

    y, new = network(x, log_snr, {**cond, "cache": cache, "position": p})

A network that is given a cache (the empty one is {}) returns beside its output what *these* tokens
would add to it. To denoise a token, call and ignore `new`; once it is finished, call again at the
level at which the future shall see it, and keep `carry.append_tokens(cache, new)`. So reading and
writing are one call, a caller cannot write by mistake, and what is kept and for how long is the
caller's business: `network.memory` tokens are enough, `carry.keep_tokens` loses the others. A cache
that is to have one size from the first token on begins as `network.blank(x)` instead of {}. It
obeys the rules of carries: repeat and gather it as one. `Recurrent` has the same contract, and
so have `VideoTransformer` and `VideoUNet`, whose tokens are frames.

Training on a clean past reads all tokens twice: clean, and then noisy with "alone" and the cache of
the clean ones, so that each sees of the noisy ones itself only (`tokens.TeacherForced`).

The reference for any such rollout is one call on the whole history without a cache: the two are
equal to rounding, also after the window has moved (B. Chen et al., 2024, "Diffusion Forcing",
arXiv:2407.01392, for noise levels per token in causal networks).
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from noiseloom.carry import Carry
from noiseloom.nets.code_attention import CodeKeys
from noiseloom.nets.codes import informative
from noiseloom.nets.inputs import Inputs
from noiseloom.nets.layers import initialise, zero
from noiseloom.nets.past import (
    added,
    blank,
    cached,
    check_heads,
    check_window,
    entries,
    sight,
)
from noiseloom.nets.reading import check_source, reading
from noiseloom.nets.trunk import Trunk

__all__ = ["CausalTransformer"]


class CausalTransformer(nn.Module):
    """A transformer `(x, log_snr, cond) -> Tensor` for sequences (B, T, D) that sees the past only.

    Token i attends to tokens i - window + 1 .. i, in each of `depth` blocks (`Trunk`); through all
    of them it sees depth (window - 1) tokens back. Positions are rotary, so that only differences
    count. The output is 0 at initialisation. Codes are of the whole sequence: all tokens read the
    same ones, as those of `Transformer` do, whatever their position, and a cache knows nothing of
    them.

    Args:
        in_features: D, features of a token, without the estimate's.
        out_features: features of the prediction.
        width: features W inside.
        depth: number of blocks.
        heads: attention heads; W / heads is an even number.
        window: number of tokens that a token attends to, itself included.
        num_classes: K, for class labels 0 .. K - 1 and the null label K.
        action_features: A, features of the action that comes with a token; 0 for none.
        self_conditioning: whether it takes an estimate beside the state.
        dropout: rate at the end of both branches of every block.
        codes: (m, k), number of latents and of the codes of each; None for a network without.
        code_depth: number of blocks of attention between codes, before they are read.
        reads: whether every block reads a source (`noiseloom.nets.reading`), all of it.

    Attributes:
        causal: True: no token sees a later one.
        memory: tokens that a cache has to hold, window - 1.

    Example:
        >>> import torch
        >>> net = CausalTransformer(3, 3, width=16, depth=1, heads=2, window=4)
        >>> net(torch.zeros(2, 5, 3), torch.zeros(2, 5)).shape
        torch.Size([2, 5, 3])
    """

    causal = True
    reads_classes = True

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        width: int,
        depth: int,
        heads: int,
        window: int,
        num_classes: int | None = None,
        action_features: int = 0,
        self_conditioning: bool = False,
        dropout: float = 0.0,
        codes: tuple[int, int] | None = None,
        code_depth: int = 2,
        reads: bool = False,
    ) -> None:
        super().__init__()
        check_window(window)
        check_heads(width, heads)
        self.window, self.memory = window, window - 1
        self.head = heads, width // heads
        self.inputs = Inputs(
            in_features,
            width,
            num_classes,
            action_features,
            self_conditioning,
            codes=codes,
            beside=("source",) * reads,
        )
        self.trunk = Trunk(width, out_features, depth, heads, dropout, **reading(reads))
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
            x: state of unit variance, shape (B, T, D): the whole history, or the tokens that
                follow those in the cache; or int64 (B, T), classes 0 .. D - 1 that stand for their
                one-hot vectors.
            log_snr: float32, shape (B,) or (B, T), in [-20, 20].
            cond: "label" (B,), "estimate" like x, "codes" (B, m, k), "dropout" keys (B,), "action"
                (B, T, A), known where "action_mask", bool of shape (B,) or (B, T), is True (absent:
                everywhere);
                "mask", bool of shape (B, n + T), True for a real token, the n cached ones first;
                "cache", {"tokens": [for each block {"keys", "values"}]}, each of shape
                (B, n, heads, W / heads), keys already turned by their position; and "position",
                an int, or int64 of shape () or (B,): the index of the first token of x in the
                whole sequence, needed where n > 0;
                "source" (B, N, 2 W depth), zeros or absent for none;
                "alone", True where the cached tokens are 0 .. T - 1 as those of x, n = T, and
                token i of x sees cached tokens i - window + 1 .. i - 1 and itself.

        Returns:
            Shape (B, T, out_features); with "cache", that and the entries of these T tokens, a
            tree like the cache.

        Raises:
            ValueError: a shape that does not fit, or a condition the network was not built for.
        """
        cond = cond or {}
        n = cached(cond)
        h, embedding = self.inputs(x, log_snr, cond, n)
        x = x if x.is_floating_point() else h
        past = entries(x, cond, [self.head] * self.trunk.depth)
        seen = sight(x, cond, n, self.window, self.head[1])
        told = None if self.codes is None else self.codes(cond, len(x))
        source = check_source(cond, len(x), self.trunk.width, self.trunk.depth)
        y: Tensor
        y, _, new = self.trunk(h, embedding, cond.get("dropout"), past, told, source, **seen)
        return y if cond.get("cache") is None else (y, added(x, cond, new))

    def blank(self, x: Tensor) -> Carry:
        """The cache to begin with, of the size it will always have: `memory` tokens, none real.

        Args:
            x: a state, shape (B, T, D), or (B, T) of classes.
        """
        x = x if x.is_floating_point() else x.to(self.trunk.output.weight.dtype)
        return blank(x, self.memory, [self.head] * self.trunk.depth)
