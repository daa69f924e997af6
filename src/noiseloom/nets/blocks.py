"""Transformer blocks that nothing modulates, for what has no noise level."""

from torch import Tensor, nn

from noiseloom.nets.attention import Attention
from noiseloom.nets.layers import Dropout, perceptron
from noiseloom.nets.trunk import norm

__all__ = ["Blocks"]


class Blocks(nn.Module):
    """Every token sees every other: (B, T, W) to (B, T, W), of unit variance.

        h <- h + attention(LN(h)),    h <- h + mlp(LN(h)),    at last h <- LN(h)

    Args:
        width: features W of a token.
        depth: number of blocks, >= 0.
        heads: attention heads, a divisor of `width`.
        dropout: rate at the end of both branches of every block.
    """

    def __init__(self, width: int, depth: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.attention = nn.ModuleList(Attention(width, heads) for _ in range(depth))
        self.mlp = nn.ModuleList(perceptron(width) for _ in range(depth))
        self.dropout = nn.ModuleList(Dropout(dropout, i) for i in range(2 * depth))

    def forward(self, h: Tensor, keys: Tensor | None = None) -> Tensor:
        """The last token states, given dropout keys (B,)."""
        for i, (attention, mlp) in enumerate(zip(self.attention, self.mlp, strict=True)):
            h = h + self.dropout[2 * i](attention(norm(h)), keys)
            h = h + self.dropout[2 * i + 1](mlp(norm(h)), keys)
        return norm(h)
