"""Which prior, and of what size: plain values, enough to make it again."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from noiseloom.priors.autoregressive import AutoregressivePrior
from noiseloom.priors.bits import BitsPrior
from noiseloom.priors.prior import Prior
from noiseloom.priors.tabular import TabularPrior

__all__ = ["PriorKind"]

_Kind = Literal["tabular", "autoregressive", "bits"]


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

    Raises:
        ValueError: another kind, or a size that is none: they may come from a file.

    Example:
        >>> PriorKind("tabular", 2, 3).make().table.shape
        torch.Size([1, 9])
    """

    kind: _Kind
    m: int
    k: int
    num_classes: int | None = None
    width: int = 128
    depth: int = 4
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.kind not in get_args(_Kind):
            raise ValueError(
                f"kind of a prior must be tabular, autoregressive or bits, got {self.kind!r}"
            )
        for name in ("m", "k", "num_classes", "width", "depth"):
            value = getattr(self, name)
            if name == "num_classes" and value is None:
                continue
            if not isinstance(value, int) or value < 1:
                raise ValueError(
                    f"{name} of a prior must be a whole number of at least 1, got {value!r}"
                )
        if not isinstance(self.dropout, int | float) or not 0 <= self.dropout < 1:
            raise ValueError(f"dropout of a prior must be in [0, 1), got {self.dropout!r}")

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
