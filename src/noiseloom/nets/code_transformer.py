"""A causal transformer over the positions of a discrete code."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from noiseloom.carry import Carry
from noiseloom.nets.layers import initialise, zero
from noiseloom.nets.past import added, cached, entries
from noiseloom.nets.trunk import Trunk

__all__ = ["CodeTransformer"]


class CodeTransformer(nn.Module):
    """Logits of each code z_i given those before it and a class, `(codes, cond) -> Tensor`.

        h_0 = e(label), h_i = e(i - 1, z_{i-1});  logits of z_i = Trunk(h_0 .. h_i), causal

    modulated by SiLU(e(label)). Every position has its own table of embeddings, which says where a
    code stands and what it means there: no two positions share an alphabet, and no other positions
    are needed. The logits are 0 at initialisation.

    With `cond["cache"]` (the empty one is {}) the n tokens in it are not read again, and the output
    is the logits of the codes n, n + 1, ..., and what these tokens add to the cache, as in
    `noiseloom.nets.causal`: there are no others' positions to be told.

    Args:
        m: number of codes, >= 1.
        k: size of each alphabet, >= 1.
        width: features W inside, >= 1.
        depth: number of blocks, >= 1.
        heads: attention heads, a divisor of `width`.
        num_classes: K, for class labels 0 .. K - 1 and the null label K; None for no labels.
        dropout: rate at the end of both branches of every block.

    Raises:
        ValueError: width, depth or heads below 1, or heads that do not divide the width.

    Example:
        >>> import torch
        >>> net = CodeTransformer(3, 5, width=16, depth=1, heads=2)
        >>> net(torch.tensor([[4, 0]])).shape
        torch.Size([1, 3, 5])
    """

    causal = False  # all see all

    def __init__(
        self,
        m: int,
        k: int,
        *,
        width: int,
        depth: int,
        heads: int,
        num_classes: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if min(width, depth, heads) < 1:
            raise ValueError(
                f"width, depth and heads must be above 0, got {width}, {depth} and {heads}"
            )
        self.m, self.k, self.null = m, k, num_classes or 0
        self.head = heads, width // heads
        # The last code is never read. One table, so that none is without gradient at m = 1.
        self.starts = (m - 1) * k
        self.token = nn.Embedding(self.starts + self.null + 1, width)
        self.trunk = Trunk(width, k, depth, heads, dropout)
        initialise(self)
        nn.init.normal_(self.token.weight)  # of unit variance: it is what modulates, too
        zero(*self.trunk.silent)

    def forward(
        self, codes: Tensor, cond: Mapping[str, Any] | None = None
    ) -> Tensor | tuple[Tensor, Carry]:
        """Predict.

        Args:
            codes: z_0 .. z_{c-1}, int64 in 0 .. k - 1, shape (B, c), c < m.
            cond: "label" (B,), in 0 .. K (absent: K); "dropout" keys (B,); "cache", the first
                n <= c tokens, of which the start is one.

        Returns:
            Logits of z_n .. z_c, shape (B, c + 1 - n, k); with "cache", that and the entries of
            these tokens.

        Raises:
            ValueError: codes of another shape, or a cache of another network.
        """
        cond = cond or {}
        if codes.ndim != 2 or codes.shape[1] >= self.m:
            raise ValueError(
                f"codes of shape {tuple(codes.shape)}: expected (B, c) with c at most {self.m - 1}"
            )
        batch, n = len(codes), cached(cond)
        label = cond.get("label")
        start = codes.new_full((batch,), self.null) if label is None else label
        start = (start + self.starts)[:, None]
        steps = torch.arange(codes.shape[1], device=codes.device)
        tokens = torch.cat((start, codes + steps * self.k), 1)[:, n:]
        past = entries(codes, cond, [self.head] * self.trunk.depth)
        seen = None
        if n and tokens.shape[1] > 1:
            seen = steps.new_ones(1, tokens.shape[1], codes.shape[1] + 1).tril(n).bool()
        y: Tensor
        y, _, new = self.trunk(
            self.token(tokens),
            functional.silu(self.token(start)),
            cond.get("dropout"),
            past,
            seen=seen,
            causal=n == 0,
        )
        return y if cond.get("cache") is None else (y, added(codes, cond, new))
