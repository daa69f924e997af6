"""Self-attention over tokens, the same for sequences, patches and pixels."""

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Attention"]


class Attention(nn.Module):
    """Multi-head self-attention without a mask of time: every token sees every real token.

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
        # (B, T, 3 W) -> three of (B, heads, T, W / heads), all of them views.
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        seen = None if mask is None else mask[:, None, None, :]
        y = functional.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        result: Tensor = self.out(y.transpose(1, 2).flatten(2))
        return result
