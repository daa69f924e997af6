"""Choosing one of k values: by temperature, by the nucleus, from one uniform number each."""

import torch
from torch import Tensor

__all__ = ["check_choice", "choose"]


def check_choice(temperature: float, top_p: float) -> None:
    """Refuse a temperature or a share that means nothing.

    Raises:
        ValueError: a temperature below 0, or a share that is not in (0, 1].
    """
    if not 0 <= temperature < float("inf"):
        raise ValueError(f"temperature must be a finite number of at least 0, got {temperature}")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p must be in (0, 1], got {top_p}")


def choose(logits: Tensor, u: Tensor, temperature: float = 1.0, top_p: float = 1.0) -> Tensor:
    """One of k values per row, by the inverse of the distribution function.

        p = softmax(logits / temperature), kept on its nucleus: the values of largest p, as few as
        have top_p or more of the mass; the value is the first z with sum_{j <= z} p_j > u sum p

    One number a row decides, so that equal numbers make neighbouring laws choose alike. At
    temperature 0 it is the value of the largest logit, the lowest among equals.

    Args:
        logits: shape (B, k); -inf for what is impossible.
        u: uniform in (0, 1), shape (B,).
        temperature: >= 0; above 1 is flatter.
        top_p: mass of the nucleus, in (0, 1]; 1 keeps all.

    Returns:
        int64, shape (B,).

    References:
        A. Holtzman et al., 2020, arXiv 1904.09751, Section 3.1 (nucleus sampling).
    """
    if temperature == 0:
        return logits.argmax(-1)
    # In float64, where the largest u is below the last sum, and from the largest: 0 / T is 0.
    logits = logits.double()
    p = ((logits - logits.amax(-1, keepdim=True)) / temperature).softmax(-1)
    if top_p < 1:
        largest, order = p.sort(dim=-1, descending=True, stable=True)
        before = largest.cumsum(-1) - largest
        p = torch.zeros_like(p).scatter(-1, order, largest.masked_fill(before >= top_p, 0))
    sums = p.cumsum(-1)
    return torch.searchsorted(sums, u.to(sums)[:, None] * sums[:, -1:], right=True)[:, 0]
