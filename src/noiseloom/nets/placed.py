"""Maps of their own for every place of a row, around a network that has one for all."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from noiseloom.carry import Carry

__all__ = ["Placed"]


class Placed(nn.Module):
    """A network of rows whose places have nothing in common, as the columns of a table.

        y_i = B_i network(A_1 x_1, ..., A_T x_T)_i + c_i

    Args:
        inner: of W features in and out, such as `Transformer` or `CausalTransformer`. Tokens may be
            vectors (B, T, D), or classes (B, T) that stand for one-hot vectors.
        places: T.
        inputs: features of a token of the state.
        outputs: features of what is predicted of one.
        width: W.
    """

    def __init__(
        self, inner: nn.Module, places: int, inputs: int, outputs: int, width: int
    ) -> None:
        super().__init__()
        self.inner: Any = inner
        self.enter = nn.Parameter(torch.randn(places, inputs, width) / math.sqrt(inputs))
        self.leave = nn.Parameter(torch.randn(places, width, outputs) / math.sqrt(width))
        self.bias = nn.Parameter(torch.zeros(places, outputs))
        self.width = width

    reads_classes = True

    @property
    def causal(self) -> bool:
        """Whether the network is."""
        return bool(self.inner.causal)

    @property
    def memory(self) -> int:
        """Tokens that its cache has to hold."""
        return int(self.inner.memory)

    def blank(self, x: Tensor) -> Carry:
        """Its cache to begin with."""
        size, dtype = (*x.shape[:2], self.width), self.enter.dtype
        cache: Carry = self.inner.blank(x.new_zeros(size, dtype=dtype))
        return cache

    def forward(
        self, x: Tensor, log_snr: Tensor, cond: Mapping[str, Any] | None = None
    ) -> Tensor | tuple[Tensor, Carry]:
        """Predict; conditions are those of the network, an estimate is mapped as the state is."""
        x, cond, place = self._entered(x, cond)
        found = self.inner(x, log_snr, cond)
        y, rest = found if isinstance(found, tuple) else (found, None)
        y = self._left(y, place)
        return y if rest is None else (y, rest)

    def states(
        self, x: Tensor, log_snr: Tensor, cond: Mapping[str, Any] | None = None
    ) -> tuple[Tensor, tuple[Any, Tensor]]:
        """The network's last token states (B, T, W), and what `finish` needs besides."""
        x, cond, place = self._entered(x, cond)
        h, rest = self.inner.states(x, log_snr, cond)
        return h, (rest, place)

    def finish(self, h: Tensor, rest: tuple[Any, Tensor]) -> Tensor:
        """What `forward` returns, of the last token states: each token by itself."""
        inner, place = rest
        return self._left(self.inner.finish(h, inner), place)

    def _entered(
        self, x: Tensor, cond: Mapping[str, Any] | None
    ) -> tuple[Tensor, dict[str, Any], Tensor]:
        """State and conditions as the network sees them, and the place of every token."""
        cond = dict(cond or {})
        place = torch.arange(x.shape[1], device=x.device) + cond.get("position", 0)
        dtype = x.dtype if x.is_floating_point() else self.enter.dtype
        if "estimate" in cond:
            estimate, enter = cond["estimate"].to(dtype), self.enter[place].to(dtype)
            cond["estimate"] = torch.einsum("btd,tdw->btw", estimate, enter)
        if x.is_floating_point():
            h = torch.einsum("btd,tdw->btw", x, self.enter[place].to(dtype))
        else:
            rows = place * self.enter.shape[1] + x
            h = functional.embedding(rows, self.enter.flatten(0, 1))
        return h, cond, place

    def _left(self, y: Tensor, place: Tensor) -> Tensor:
        return torch.einsum("btw,two->bto", y, self.leave[place].to(y.dtype)) + self.bias[place]
