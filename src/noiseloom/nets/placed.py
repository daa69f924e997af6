"""Maps of their own for every place of a row, around a network that has one for all."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from noiseloom.carry import Carry

__all__ = ["Placed"]


class Placed(nn.Module):
    """A network of rows whose places have nothing in common, as the columns of a table.

        y_i = B_i network(A_1 x_1, ..., A_T x_T)_i + c_i

    Args:
        inner: of W features in and out, such as `Transformer` or `CausalTransformer`.
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
        cache: Carry = self.inner.blank(x.new_zeros(*x.shape[:2], self.width))
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
        enter = self.enter[place].to(x.dtype)
        if "estimate" in cond:
            cond["estimate"] = torch.einsum("btd,tdw->btw", cond["estimate"].to(x.dtype), enter)
        return torch.einsum("btd,tdw->btw", x, enter), cond, place

    def _left(self, y: Tensor, place: Tensor) -> Tensor:
        return torch.einsum("btw,two->bto", y, self.leave[place].to(y.dtype)) + self.bias[place]
