"""From logits to codes: the Gumbel-Softmax relaxation, its temperature, and codes left out.

Codes are floats of shape (B, m, k): m latents, each a row over k values. A row is one-hot where a
code is given, soft where it is learnt, and zero where the sample's codes were dropped.
"""

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from noiseloom.rng import Rng

__all__ = [
    "Temperature",
    "annealed_temperature",
    "constant_temperature",
    "drop_codes",
    "gumbel_softmax",
    "one_hot",
    "perturbed",
]

Temperature: TypeAlias = Callable[[Tensor], Tensor]
"""From the share of training that is done, in [0, 1], to the temperature, > 0."""


def gumbel_softmax(
    logits: Tensor, temperature: float | Tensor, rng: Rng, *, hard: bool = False
) -> Tensor:
    """A relaxed draw of codes: softmax((logits + g) / temperature), g ~ Gumbel(0, 1).

    g = -ln(-ln u). The largest entry is distributed as softmax(logits) at **every** temperature:
    a low one makes the rows nearly one-hot, not the choice greedy.

    Args:
        logits: shape (B, ..., k), floating point; half precision is computed in float32.
        temperature: tau > 0.
        rng: one key per sample, or one for all.
        hard: straight-through: the value is exactly one-hot, the gradient that of the soft row.

    Returns:
        In the shape and type of `logits`; rows sum to 1.

    Raises:
        ValueError: a temperature that is not above 0 (of tensors looked for on the CPU, where that
            costs no wait).

    References:
        E. Jang, S. Gu, B. Poole, 2017, arXiv 1611.01144, Section 2; C. Maddison, A. Mnih, Y. Teh,
        2017, 1611.00712. Y. Xu et al., 2024, 2407.03300, Appendix D.2 (temperature 1).
    """
    known = not isinstance(temperature, Tensor) or temperature.device.type == "cpu"
    if known and not bool(torch.as_tensor(temperature > 0).all()):
        raise ValueError(f"a temperature must be above 0, got {temperature}")
    soft = (perturbed(logits, rng) / temperature).softmax(-1).to(logits.dtype)
    if not hard:
        return soft
    # Grouped so that what is added to the one-hot row is exactly 0.
    return one_hot(soft.argmax(-1), soft.shape[-1], soft.dtype) + (soft - soft.detach())


def perturbed(logits: Tensor, rng: Rng) -> Tensor:
    """Logits + Gumbel noise, in float32 or better: the place of the largest is a draw."""
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    u = rng.uniform(wide.shape, wide.dtype, wide.device)
    return wide - (-u.log()).log()


def one_hot(indices: Tensor, k: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Codes of indices: shape (..., m), values 0 .. k - 1, to (..., m, k).

    Raises:
        TypeError: they are not integers.
        ValueError: an index out of range (looked for on the CPU, where that costs no wait).
    """
    if indices.is_floating_point():
        raise TypeError(f"codes must be integers, got {indices.dtype}")
    if indices.device.type == "cpu" and indices.numel():
        low, high = int(indices.min()), int(indices.max())
        if low < 0 or high >= k:
            raise ValueError(f"codes must be in 0 .. {k - 1}, got values from {low} to {high}")
    return functional.one_hot(indices.long(), k).to(dtype)


def drop_codes(codes: Tensor, rate: float, rng: Rng) -> tuple[Tensor, Tensor]:
    """Codes with those of a share `rate` of the samples replaced by the null code, all together.

    Args:
        codes: shape (B, m, k).
        rate: in [0, 1].
        rng: one key per sample, or one for all.

    Returns:
        The codes, zero where dropped, which then have no gradient; and bool (B,), True where kept.

    References:
        Y. Xu et al., 2024, arXiv 2407.03300, Section 3.1 (rate 0.1).
    """
    kept = rng.uniform(codes.shape[:1], device=codes.device) >= rate
    return torch.where(kept[:, None, None], codes, 0), kept


def constant_temperature(value: float = 1.0) -> Temperature:
    """The same temperature throughout, as in the paper."""
    _positive(value)
    return lambda progress: torch.full_like(progress, value)


def annealed_temperature(start: float = 3.0, end: float = 0.3, share: float = 0.7) -> Temperature:
    """Exponential annealing: start (end / start)^min(progress / share, 1).

    Args:
        start: temperature at first.
        end: temperature from `share` on.
        share: of training, in (0, 1].
    """
    _positive(start, end)
    if not 0 < share <= 1:
        raise ValueError(f"share must be in (0, 1], got {share}")
    return lambda progress: start * (end / start) ** (progress / share).clamp(max=1)


def _positive(*values: float) -> None:
    for value in values:
        if not 0 < value < math.inf:
            raise ValueError(f"a temperature must be above 0 and finite, got {value}")
