"""The blocks that transformers share, from token embeddings to the output.

Blocks of self-attention and a perceptron, modulated by adaptive layer norm that starts at zero
("adaLN-Zero", W. Peebles, S. Xie, 2023, arXiv:2212.09748, section 3.2). The modulation is computed
per token, so that every token may have its own noise level.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional

from noiseloom.nets.attention import Attention, Sight
from noiseloom.nets.layers import Dropout, perceptron

__all__ = ["Block", "Trunk", "modulate", "norm"]


class Block(nn.Module):
    """Attention and a perceptron, the formula of which is in `Trunk`."""

    def __init__(self, width: int, heads: int, dropout: float, index: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.mlp = perceptron(width)
        self.dropout1, self.dropout2 = Dropout(dropout, 2 * index), Dropout(dropout, 2 * index + 1)

    def forward(
        self,
        h: Tensor,
        modulation: Tensor,
        keys: Tensor | None,
        **sight: Unpack[Sight],
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The next token states, and the keys and values of the tokens."""
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation.chunk(6, -1)
        y, entry = self.attention.attend(modulate(h, shift1, scale1), **sight)
        h = torch.addcmul(h, gate1, self.dropout1(y, keys))
        y = self.dropout2(self.mlp(modulate(h, shift2, scale2)), keys)
        return torch.addcmul(h, gate2, y), entry


class Trunk(nn.Module):
    """Modulated blocks, and the linear output that follows them.

    With modulations (shift, scale, gate) of the condition embedding, each block is

        h <- h + gate_1 attention(LN(h) (1 + scale_1) + shift_1)
        h <- h + gate_2 mlp(LN(h) (1 + scale_2) + shift_2)

    and the output W (LN(h) (1 + scale) + shift), with `skip` W (LN(h) (1 + scale) + shift + gate
    h_0), h_0 the token embeddings. For a start at zero, `zero` what `silent` names.

    Args:
        width: features W inside.
        outputs: features of the output.
        depth: number of blocks.
        heads: attention heads, a divisor of `width`.
        dropout: rate at the end of every branch of every block.
        block: what makes the blocks, called as `Block` is, perhaps with a source besides.
        branches: how many of (shift, scale, gate) a block takes.
        skip: whether the output sees the token embeddings past the blocks.
    """

    def __init__(
        self,
        width: int,
        outputs: int,
        depth: int,
        heads: int,
        dropout: float,
        *,
        block: Callable[[int, int, float, int], nn.Module] = Block,
        branches: int = 2,
        skip: bool = False,
    ) -> None:
        super().__init__()
        self.width, self.depth, self.skip = width, depth, skip
        self.blocks = nn.ModuleList(block(width, heads, dropout, i) for i in range(depth))
        # Three modulations for each branch and two or three for the output: one matrix product.
        self.sizes = [3 * branches * width] * depth + [(2 + skip) * width]
        self.modulation = nn.Linear(width, sum(self.sizes))
        self.output = nn.Linear(width, outputs)

    @property
    def silent(self) -> tuple[nn.Module, nn.Module]:
        """The parts that are zero at initialisation."""
        return self.modulation, self.output

    def forward(
        self,
        h: Tensor,
        embedding: Tensor,
        keys: Tensor | None,
        past: Sequence[dict[str, Tensor] | None] | None = None,
        told: Sequence[Tensor] | None = None,
        source: Tensor | None = None,
        **sight: Unpack[Sight],
    ) -> tuple[Tensor, Tensor, list[dict[str, Tensor]]]:
        """Run the blocks.

        Args:
            h: token embeddings, shape (B, T, W), or (B, T, N, W) for N patches of a frame.
            embedding: what modulates them, shape (B, W) or (B, T, W).
            keys: dropout keys, shape (B,).
            past: for each block, the keys and values of earlier tokens.
            told: for each block, those of tokens beside the sequence, as for `Attention.attend`.
            source: what blocks read that take one (`nets.reading`), shape (B, N, 2 W depth).
            **sight: who sees whom, as for `Attention.attend`.

        Returns:
            The output (B, T, outputs), the last token states (B, T, W), both with an axis N where
            h has one, and for each block the keys and values of the tokens.
        """
        h, rest, entries = self.states(h, embedding, keys, past, told, source, **sight)
        return self.finish(h, rest), h, entries

    def states(
        self,
        h: Tensor,
        embedding: Tensor,
        keys: Tensor | None,
        past: Sequence[dict[str, Tensor] | None] | None = None,
        told: Sequence[Tensor] | None = None,
        source: Tensor | None = None,
        **sight: Unpack[Sight],
    ) -> tuple[Tensor, tuple[Tensor, Tensor], list[dict[str, Tensor]]]:
        """The last token states, what `finish` needs besides, and keys and values."""
        modulation = self.modulation(embedding if embedding.ndim == 3 else embedding[:, None])
        if h.ndim == 4:
            modulation = modulation[:, :, None]
        *parts, last = modulation.split(self.sizes, dim=-1)
        entries, first = [], h
        absent = [None] * self.depth
        each = zip(self.blocks, parts, past or absent, told or absent, strict=True)
        read = {} if source is None else {"source": source}
        for block, part, before, beside in each:
            h, entry = block(h, part, keys, past=before, told=beside, **read, **sight)
            entries.append(entry)
        return h, (last, first), entries

    def finish(self, h: Tensor, rest: tuple[Tensor, Tensor]) -> Tensor:
        """The output of the last token states, token by token."""
        last, first = rest
        shift, scale, *gate = last.split(self.width, dim=-1)  # type: ignore[no-untyped-call]
        y = modulate(h, shift, scale)
        if self.skip:
            y = torch.addcmul(y, gate[0], first)
        output: Tensor = self.output(y)
        return output

    def inherit(
        self, old: Mapping[str, Tensor], classes: Sequence[int] | None
    ) -> dict[str, Tensor]:
        """New blocks come after the old with gates of zero, and the output keeps its modulation.

        See `noiseloom.training.Heir`.
        """
        new = dict(old)
        for name in old.keys() & {"modulation.weight", "modulation.bias"}:
            missing = sum(self.sizes) - len(old[name])
            if missing > 0 and missing % self.sizes[0] == 0:
                blocks, last = old[name][: -self.sizes[-1]], old[name][-self.sizes[-1] :]
                new[name] = torch.cat((blocks, old[name].new_zeros(missing, *last.shape[1:]), last))
        return new


def norm(h: Tensor) -> Tensor:
    """Layer norm over the features, without gain and bias: modulations do that."""
    return functional.layer_norm(h, h.shape[-1:], eps=1e-6)


def modulate(h: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """LN(h) (1 + scale) + shift."""
    return torch.addcmul(shift, norm(h), 1 + scale)
