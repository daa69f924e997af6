"""Which prior, and of what size: plain values, enough to make it again."""

import math
from dataclasses import dataclass
from typing import Literal

from noiseloom.priors.autoregressive import AutoregressivePrior
from noiseloom.priors.bits import BitsPrior
from noiseloom.priors.prior import Prior
from noiseloom.priors.tabular import TabularPrior

__all__ = ["PriorKind"]


@dataclass(frozen=True)
class PriorKind:
    """A kind of prior and its size; of a table only the first four count.

    Attributes:
        kind: tabular, autoregressive or bits.
        m: number of positions.
        k: number of values of each.
        num_classes: K, or None for a prior without labels.
        width: features of the transformer; it has gcd(width, 4) heads.
        depth: number of its blocks.
        dropout: rate in it.

    Example:
        >>> PriorKind("tabular", 2, 3).make().table.shape
        torch.Size([1, 9])
    """

    kind: Literal["tabular", "autoregressive", "bits"]
    m: int
    k: int
    num_classes: int | None = None
    width: int = 128
    depth: int = 4
    dropout: float = 0.1

    def make(self) -> Prior:
        """The untrained prior, drawn from PyTorch's generators, which the caller seeds.

        Raises:
            ValueError: a size that cannot be made.
        """
        if self.kind == "tabular":
            return TabularPrior(self.m, self.k, self.num_classes)
        made = AutoregressivePrior if self.kind == "autoregressive" else BitsPrior
        return made(
            self.m,
            self.k,
            self.width,
            self.depth,
            math.gcd(self.width, 4),
            num_classes=self.num_classes,
            dropout=self.dropout,
        )
