"""Attention of tokens to each other, and to what they are told besides."""

from typing import TypedDict

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Attention", "Sight", "consult", "rotation"]


class Sight(TypedDict, total=False):
    """Who sees whom: arguments of `Attention.attend` that are the same in every block."""

    seen: Tensor | None
    causal: bool
    turn: Tensor | None


class Attention(nn.Module):
    """Multi-head self-attention: every token sees every real token, unless it is told otherwise.

        softmax(q k^T / sqrt(width / heads)) v, then a linear map

    Args:
        width: features W of a token.
        heads: number of heads, a divisor of W.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"width {width} cannot be divided among {heads} heads")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend.

        Args:
            x: tokens, shape (B, T, W). A channels-last picture is a free view of this form.
            mask: bool, shape (B, T), True where a token is real; others are not attended to.
        """
        return self.attend(x, None if mask is None else mask[:, None])[0]

    def attend(
        self,
        x: Tensor,
        seen: Tensor | None = None,
        *,
        causal: bool = False,
        turn: Tensor | None = None,
        past: dict[str, Tensor] | None = None,
        told: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Attend to these tokens, and to others whose keys and values are known.

        Args:
            x: tokens, shape (B, T, W); or (B, T, N, W), N sequences side by side, each of which
                attends to itself alone: patches of frames over time.
            seen: bool, shape (B or 1, T or 1, n + T): whether a token sees another.
            causal: a token sees itself and those before it; instead of `seen`, without `past`.
            turn: `rotation` of the positions of the tokens.
            past: "keys" (rotated) and "values" of n tokens before, (B, n, heads, W / heads) or
                (B, n, N, heads, W / heads) each.
            told: keys and values, side by side, (B, m, 2 W), of m tokens without a position, which
                all of x `consult`; what they find is added to what they see in each other.

        Returns:
            The shape of x, and the "keys" and "values" of the T tokens, for a later `past`.
        """
        # (B, T, 3 W) -> three of (B, T, heads, W / heads), all of them views.
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(-3)
        asked = q
        if turn is not None:
            q, k = _rotate(q, turn), _rotate(k, turn)
        entry = {"keys": k, "values": v}
        if past is not None:
            k, v = torch.cat((past["keys"], k), 1), torch.cat((past["values"], v), 1)
        # Sequences side by side are like more heads: axes are merged, and nothing changes places.
        q, k, v = (z.flatten(2, -2).transpose(1, 2) for z in (q, k, v))
        y = functional.scaled_dot_product_attention(
            q, k, v, attn_mask=None if seen is None else seen[:, None], is_causal=causal
        )
        y = y.transpose(1, 2).reshape(x.shape)
        if told is not None:
            # Queries that were turned would say that what stands beside all tokens is at token 0.
            found = consult(asked.flatten(1, -3).transpose(1, 2), told)
            y = y + found.transpose(1, 2).reshape(x.shape)
        result: Tensor = self.out(y)
        return result, entry


def consult(q: Tensor, told: Tensor) -> Tensor:
    """Attention to m tokens that stand beside the sequence, or to nothing.

        sum_i exp(q k_i / sqrt(d)) v_i / (1 + sum_i exp(q k_i / sqrt(d)))

    The 1 is a key of zeros with a value of zeros: a token can look away, and what one token alone
    says is not said everywhere alike. Where all values are 0 so is the result, exactly.

    Args:
        q: queries, shape (B, heads, T, d).
        told: keys and values side by side, shape (B, m, 2 heads d).

    Returns:
        Shape (B, heads, T, d).

    References:
        Y. Xu et al., 2024, DisCo-Diff, arXiv 2407.03300: that a key for nothing may be needed where
        codes hurt fine detail is a guess of the authors.
    """
    pairs = functional.pad(told, (0, 0, 0, 1)).reshape(len(q), -1, 2, q.shape[1], q.shape[3])
    k, v = (z.transpose(1, 2) for z in pairs.unbind(2))
    return functional.scaled_dot_product_attention(q, k, v)


def rotation(positions: Tensor, width: int, dtype: torch.dtype) -> Tensor:
    """Rotary positions: features i and i + width / 2 of token p turn by p 10,000^(-2 i / width).

    Products of turned queries and keys depend on differences of positions alone. Angles are
    computed in float64: in float32, positions of a long rollout would lose what tells them apart.

    Args:
        positions: integers, shape (B or 1, T).
        width: features of a head, even.
        dtype: type of the result.

    Returns:
        Cosines and sines, shape (2, B or 1, T, 1, width / 2).

    References:
        J. Su et al., 2021, RoFormer, arXiv 2104.09864, Eq. 15.
    """
    exponents = torch.arange(0, width, 2, dtype=torch.float64, device=positions.device) / -width
    angles = positions[..., None, None] * 10_000.0**exponents
    return torch.stack((angles.cos(), angles.sin())).to(dtype)


def _rotate(x: Tensor, turn: Tensor) -> Tensor:
    cos, sin = turn.reshape(*turn.shape[:3], *(1,) * (x.ndim - 3), -1)
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), -1).to(x.dtype)
