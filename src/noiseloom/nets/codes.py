"""Discrete codes at the two ends: a table that tells a network of them, a head that picks them."""

from collections.abc import Mapping
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from noiseloom.nets.conditions import check_names
from noiseloom.rng import Rng

__all__ = ["CodeEmbedding", "CodeHead"]


class CodeEmbedding(nn.Module):
    """One vector for each of m codes: codes @ table + (1 - codes.sum) null.

    One formula for a hard code (a row of the table), a soft one (a mean of rows) and a dropped one
    (all zeros: null).

    Args:
        m: number of latents.
        k: number of codes of each.
        width: W.
    """

    def __init__(self, m: int, k: int, width: int) -> None:
        super().__init__()
        self.m, self.k = m, k
        self.table = nn.Parameter(torch.randn(m, k, width))
        self.null = nn.Parameter(torch.zeros(m, width))

    def forward(self, cond: Mapping[str, Any], batch: int) -> Tensor:
        """Embed.

        Args:
            cond: "codes", float (B, m, k), rows on the simplex, or zero; absent means null for all.
            batch: B.

        Returns:
            Shape (B, m, W).

        Raises:
            ValueError: codes of another shape.
            TypeError: codes that are indices.
        """
        codes = cond.get("codes")
        if codes is None:
            return self.null.expand(batch, -1, -1)
        check_codes(codes, batch, self.m, self.k)
        codes = codes.to(self.table.dtype)
        absent = 1 - codes.sum(-1, keepdim=True)
        known: Tensor = torch.einsum("bmk,mkw->bmw", codes, self.table)
        known = known + absent * self.null
        return known

    @torch.no_grad()
    def split_code(self, dead: Tensor, source: Tensor, where: Tensor, rng: Rng) -> None:
        """A code that begins again means what its source does. See `noiseloom.latents.Splits`."""
        rows = torch.arange(self.m, device=dead.device)
        new = torch.where(where[:, None], self.table[rows, source], self.table[rows, dead])
        self.table[rows, dead] = new


class CodeHead(nn.Module):
    """Logits of m codes, a linear map for each: (B, W) or (B, m, W) to (B, m, k).

    Args:
        width: W.
        m: number of latents.
        k: number of codes of each.
    """

    def __init__(self, width: int, m: int, k: int) -> None:
        super().__init__()
        self.m = m
        self.weight = nn.Parameter(torch.empty(m, k, width).uniform_(-1, 1) * width**-0.5)
        self.bias = nn.Parameter(torch.zeros(m, k))

    def forward(self, h: Tensor) -> Tensor:
        """Logits of features."""
        if h.ndim == 2:
            h = h[:, None].expand(-1, self.m, -1)
        return torch.einsum("bmw,mkw->bmk", h, self.weight) + self.bias

    @torch.no_grad()
    def split_code(self, dead: Tensor, source: Tensor, where: Tensor, rng: Rng) -> None:
        """Two codes share what one had, with a tenth of noise between them (`Splits`)."""
        rows = torch.arange(self.m, device=dead.device)
        old, new = self.weight[rows, dead], self.weight[rows, source]
        noise = rng.normal((1, *new.shape), new.dtype, new.device)[0]
        new = new + 0.1 * new.std(-1, keepdim=True) * noise
        self.weight[rows, dead] = torch.where(where[:, None], new, old)
        bias = torch.where(where, self.bias[rows, source], self.bias[rows, dead])
        self.bias[rows, dead] = bias


def informative(codes: tuple[int, int] | None) -> TypeGuard[tuple[int, int]]:
    """Whether m latents of k codes each can say anything."""
    return codes is not None and codes[0] > 0 and codes[1] > 1


def check_told(
    cond: Mapping[str, Any], known: tuple[str, ...], batch: int, codes: tuple[int, int] | None
) -> None:
    """Refuse conditions that a network does not read, and codes that it cannot read.

    Args:
        cond: conditions by name.
        known: the names that the network reads, without "codes".
        batch: B.
        codes: (m, k), None for a network that takes none.

    Raises:
        ValueError: a name that is not known, or codes of another shape than (B, m, k).
        TypeError: codes that are indices.
    """
    check_names(cond, known if codes is None else (*known, "codes"))
    if codes is not None and "codes" in cond:
        check_codes(cond["codes"], batch, *codes)


def check_codes(codes: Tensor, batch: int, m: int, k: int) -> None:
    """Refuse codes that are not (B, m, k), or are indices."""
    if not codes.is_floating_point():
        raise TypeError(
            f"codes of type {codes.dtype}: a network takes one-hot rows (noiseloom.latents.one_hot)"
        )
    if codes.shape != (batch, m, k):
        raise ValueError(
            f"codes of shape {tuple(codes.shape)} for a network of m {m}, k {k}: "
            f"expected {(batch, m, k)}"
        )
