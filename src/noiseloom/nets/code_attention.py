"""How networks of pictures and sequences read discrete codes: by attention to their vectors.

The codes are keys and values beside the state's tokens, without a noise level or a place among
them. What is read has weights of zero at initialisation, so that a network which starts from one
without codes begins exactly there, bit for bit (Y. Xu et al., 2024, "DisCo-Diff", arXiv 2407.03300,
section 3.3; that it begins there is our choice).
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from noiseloom.nets.attention import consult
from noiseloom.nets.blocks import Blocks
from noiseloom.nets.codes import CodeEmbedding
from noiseloom.nets.layers import GroupNorm, initialise, zero
from noiseloom.nets.stages import heads

__all__ = ["CodeContext", "CodeKeys", "CodeLayers", "CrossAttention", "check_groups"]


class CodeContext(nn.Module):
    """Vectors of m codes, each in view of the others of its group.

        Blocks(codes @ table + (1 - codes.sum) null + place),    one group at a time

    The place keeps null codes, which are vectors of zeros at first, from the pole of layer norm,
    where gradients are a thousandfold.

    Args:
        codes: (m, k), number of latents and of the codes of each.
        groups: sizes of the groups, which sum to m.
        width: W.
        depth: number of blocks; the paper's network for ImageNet has 6 of width 192.
        count: attention heads, a divisor of `width`.
    """

    def __init__(
        self, codes: tuple[int, int], groups: Sequence[int], width: int, depth: int, count: int
    ) -> None:
        super().__init__()
        self.groups = list(groups)
        self.embedding = CodeEmbedding(*codes, width)
        self.place = nn.Parameter(torch.randn(codes[0], width))
        self.blocks = Blocks(width, depth, count)

    def forward(self, cond: Mapping[str, Any], batch: int) -> list[Tensor]:
        """For each group g the vectors (B, m_g, W) of `cond["codes"]`; see `CodeEmbedding`."""
        parts = (self.embedding(cond, batch) + self.place).split(self.groups, 1)
        return [self.blocks(part) if part.shape[1] else part for part in parts]

    def inherit(
        self, old: Mapping[str, Tensor], classes: Sequence[int] | None
    ) -> dict[str, Tensor]:
        """Refuse more latents or blocks, which are felt at once. See `noiseloom.training.Heir`."""
        mine = self.state_dict()
        if len(old["place"]) != len(self.place) or not mine.keys() <= old.keys():
            raise ValueError(
                "a network that reads codes cannot start as one with other latents or fewer blocks "
                "between them: keep m and code_depth as they were"
            )
        return dict(old)


class CrossAttention(nn.Module):
    """What pixels read of m vectors: x + W_o consult(W_q GN(x), W_kv told), with W_o 0 at first.

    The sum is not divided by sqrt(2) as other sums of a U-Net: it must not be felt where W_o is 0.

    Args:
        channels: C.
        width: W of the vectors.
        count: attention heads, a divisor of C.
    """

    def __init__(self, channels: int, width: int, count: int) -> None:
        super().__init__()
        self.count, self.norm = count, GroupNorm(channels)
        self.query, self.told = nn.Linear(channels, channels), nn.Linear(width, 2 * channels)
        self.out = nn.Linear(channels, channels)
        initialise(self)
        zero(self.out)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        """The next activations, from those (B, C, H, W) and vectors (B, m, W)."""
        q = self.query(self.norm(x).flatten(2).transpose(1, 2))
        q = q.unflatten(-1, (self.count, -1)).transpose(1, 2)
        y = self.out(consult(q, self.told(told)).transpose(1, 2).flatten(2))
        z: Tensor = x + y.transpose(1, 2).view(x.shape)
        return z


class CodeLayers(nn.Module):
    """The layers of a U-Net that read codes: after the first block of each stage, down and up.

    The paper has one after every self-attention, which some stages lack, and high resolutions
    always do. Here every stage reads, since m keys cost the same at each pixel; but once on each
    way, since the convolutions that follow carry on what was read, and so does every skip of the
    stage but the one from before its first block.

    With groups the way down reads nothing, and each stage of the way up its own group alone, the
    coarsest stage the first.

    Args:
        codes: (m, k), number of latents and of the codes of each.
        groups: sizes of the groups, from the coarsest stage to the finest; None for no groups.
        depth: number of blocks between the codes' vectors.
        widths: channels of each stage, the first of which is the width of the codes' vectors.
        head_width: channels per attention head; a stage that has fewer has one head.
        blocks: blocks per stage on the way down, and one less than on the way up.
        middle: blocks between the ways.
    """

    def __init__(
        self,
        codes: tuple[int, int],
        groups: Sequence[int] | None,
        depth: int,
        widths: Sequence[int],
        head_width: int,
        blocks: int,
        middle: int,
    ) -> None:
        super().__init__()
        counts = [heads(width, min(head_width, width)) for width in widths]
        m, last = codes[0], len(widths) - 1
        self.context = CodeContext(codes, groups or (m,), widths[0], depth, counts[0])
        initialise(self)
        self.layers = nn.ModuleDict()
        # For each block of the network, in their order: the layer behind it, and what that reads.
        self.sites: list[tuple[str, int] | None] = []

        def visit(way: str, stage: int, count: int) -> None:
            group = last - stage if groups else 0
            reads = count > 0 and (groups is None or (way == "up" and groups[group] > 0))
            name = f"{way}{stage}"
            if reads:
                self.layers[name] = CrossAttention(widths[stage], widths[0], counts[stage])
            self.sites += [(name, group) if reads else None, *[None] * count][:count]

        for stage in range(last + 1):
            visit("down", stage, blocks)
        self.sites += [None] * middle
        for stage in reversed(range(last + 1)):
            visit("up", stage, blocks + 1)

    def forward(
        self, cond: Mapping[str, Any], batch: int
    ) -> list[Callable[[Tensor], Tensor] | None]:
        """For each block of the network, what comes after it."""
        told = self.context(cond, batch)
        return [
            None if site is None else partial(self.layers[site[0]], told=told[site[1]])
            for site in self.sites
        ]

    def inherit(
        self, old: Mapping[str, Tensor], classes: Sequence[int] | None
    ) -> dict[str, Tensor]:
        """Refuse other sites, which are felt at once. See `noiseloom.training.Heir`."""
        if {name.split(".")[1] for name in old if name.startswith("layers.")} != {*self.layers}:
            raise ValueError(
                "a U-Net that reads codes cannot start as one that reads them elsewhere: keep "
                "code_groups as they were"
            )
        return dict(old)


class CodeKeys(nn.Module):
    """The keys and values of codes in every block of a transformer; values are 0 at first.

    All tokens `consult` them with the queries that they have for each other, so that modulations
    by the log-SNR say how much is read. Codes that were tokens of the same softmax would take a
    share of it, whatever their values: no network without them would be its start.

    Args:
        codes: (m, k), number of latents and of the codes of each.
        width: W of the transformer, and of the codes' vectors.
        depth: number of blocks between the codes' vectors.
        count: attention heads.
        blocks: of the transformer.
    """

    def __init__(
        self, codes: tuple[int, int], width: int, depth: int, count: int, blocks: int
    ) -> None:
        super().__init__()
        self.context = CodeContext(codes, codes[:1], width, depth, count)
        self.told = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(blocks))
        initialise(self)
        for parameter in self.told.parameters():
            nn.init.zeros_(parameter[width:])

    def forward(self, cond: Mapping[str, Any], batch: int) -> list[Tensor]:
        """For each block keys and values side by side, shape (B, m, 2 W)."""
        (told,) = self.context(cond, batch)
        return [layer(told) for layer in self.told]


def check_groups(groups: Sequence[int] | None, codes: tuple[int, int] | None, stages: int) -> None:
    """Refuse groups that are not one for each stage, or do not share out the latents."""
    m = 0 if codes is None else codes[0]
    if groups is not None and (len(groups) != stages or sum(groups) != m or min(groups) < 0):
        raise ValueError(
            f"groups {list(groups)} for {m} latents and {stages} stages: give one size per stage, "
            f"from the coarsest to the finest, {m} in all"
        )
