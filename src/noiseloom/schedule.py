"""What a schedule is, how its two numbers are cast, combined and remembered, and in what types."""

from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

__all__ = ["Pair", "Schedule", "precise", "unrounded", "wide"]


@runtime_checkable
class Schedule(Protocol):
    """What the core asks of a schedule."""

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Alpha and sigma at time t, in the shape of t."""

    def log_snr(self, t: Tensor) -> Tensor:
        """2 ln(alpha / sigma), decreasing in t; +inf where sigma = 0, -inf where alpha = 0."""

    def time(self, log_snr: Tensor) -> Tensor:
        """The inverse of `log_snr`."""


class Pair:
    """Casting and log-SNR, from a subclass's float64 `_pair`."""

    def _pair(self, t: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Alpha and sigma at time t, in the shape and type of t."""
        alpha, sigma = self._scalar(t)[:2] if _on_host(t) else self._pair(wide(t))
        return alpha.to(t.dtype), sigma.to(t.dtype)

    def log_snr(self, t: Tensor) -> Tensor:
        """2 ln(alpha / sigma)."""
        value = self._scalar(t)[2] if _on_host(t) else _log_snr(*self._pair(wide(t)))
        return value.to(t.dtype)

    def _scalar(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return _remembered(self, float(t))


def _on_host(t: Tensor) -> bool:
    """Whether a time is a number that the host knows, and nothing more."""
    plain = t.ndim == 0 and t.device.type == "cpu" and not t.requires_grad
    return plain and not torch.compiler.is_compiling()


@lru_cache(maxsize=4096)
def _remembered(schedule: Pair, t: float) -> tuple[Tensor, Tensor, Tensor]:
    # A loop asks for the same times at every token and in every batch, and four times a step: with
    # small networks that was a third of a step's work on the host.
    with torch.inference_mode(False):  # so that they may be used outside of it
        alpha, sigma = schedule._pair(torch.tensor(t, dtype=torch.float64))
        return alpha, sigma, _log_snr(alpha, sigma)


def _log_snr(alpha: Tensor, sigma: Tensor) -> Tensor:
    return 2 * (alpha.log() - sigma.log())


def wide(t: Tensor) -> Tensor:
    """In float64, where the device has it."""
    return t if t.device.type == "mps" else t.double()  # Apple's GPUs have no float64


def precise(value: Tensor) -> Tensor:
    """In float32 or better, as moves and losses are, whatever a network runs in."""
    return value.to(torch.promote_types(value.dtype, torch.float32))


def unrounded(x: Tensor) -> AbstractContextManager[object]:
    """Products in the type of what is multiplied, also within somebody's autocast."""
    kind = x.device.type
    known = torch.amp.is_autocast_available(kind)
    return torch.autocast(kind, enabled=False) if known else nullcontext()
