"""Redesigning a sequence that is given: which of its tokens may change.

The rule: of every sample so many sites are free, and all others are known (as the gaps of a
template are free and its letters known). Known tokens never move, so a sample differs from its
parent at no more sites than were free, whatever draws it and whatever guides it; it may differ at
fewer, where what is drawn is what was there.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from noiseloom.rng import Rng

__all__ = ["Redesign", "free_sites", "mutations", "sites_of"]


@dataclass(frozen=True)
class Redesign:
    """What is to be redesigned, as people say it.

    Attributes:
        parent: the sequence.
        max_edits: the most sites at which a sample may differ from it; None for all of `sites`.
        sites: which may change, as of `sites_of`; None for all.
        choose: which of them are free in a sample: at random, or rather where a guide sees most to
            gain.

    Raises:
        ValueError: neither a number of edits nor sites, or a number below 1.
    """

    parent: str
    max_edits: int | None = None
    sites: str | None = None
    choose: Literal["random", "guide"] = "random"

    def __post_init__(self) -> None:
        if self.max_edits is None and self.sites is None:
            raise ValueError("a redesign needs --max-edits N, or --sites, or all would be new")
        if self.max_edits is not None and self.max_edits < 1:
            raise ValueError(f"max_edits must be at least 1, got {self.max_edits}")


def free_sites(
    allowed: Tensor,
    count: int,
    rng: Rng,
    *,
    gains: Tensor | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """Choose for each sample which sites are free: min(count, number of those allowed), never more.

    Those with the largest gain + temperature g, g standard Gumbel numbers: draws one after the
    other, without putting back, by weights exp(gain / temperature). Without gains any set is as
    likely as any other.

    Args:
        allowed: which sites may be, bool, shape (B, T).
        count: of free sites, >= 0.
        rng: key of the choice; one key per sample, or one for all.
        gains: what is gained at each site, (T,) or (B, T): as of `guidance.substitution_gains`.
        temperature: in units of the gains, >= 0; 0 takes the largest alone.

    Returns:
        Whether each site is free, bool, shape (B, T).

    Raises:
        ValueError: a number out of range, or gains of another shape or not finite.

    References:
        W. Kool, H. van Hoof, M. Welling, 2019, Stochastic Beams and Where to Find Them, arXiv
        1903.06059, Section 2.3 (the largest Gumbel numbers are such draws).
    """
    if allowed.ndim != 2 or allowed.dtype != torch.bool:
        raise ValueError(f"allowed must be bool of shape (B, T), got {tuple(allowed.shape)}")
    if count < 0 or not 0 <= temperature < math.inf:
        raise ValueError(
            f"free sites need count >= 0 and temperature >= 0, got {count} and {temperature}"
        )
    u = rng.fold("sites").uniform(allowed.shape, torch.float64, allowed.device)
    score = -(-u.log()).log()
    if gains is not None:
        if gains.shape not in (allowed.shape, allowed.shape[1:]) or not gains.isfinite().all():
            raise ValueError(
                f"gains must be finite and of shape {tuple(allowed.shape)} or "
                f"{tuple(allowed.shape[1:])}, got {tuple(gains.shape)}"
            )
        score = gains.to(score) + temperature * score
    score = score.masked_fill(~allowed, -math.inf)
    rank = score.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return (rank < count) & allowed


def sites_of(text: str, length: int) -> Tensor:
    """Sites as people write them, from 1: "39-41,54".

    Args:
        text: numbers, and stretches with both ends, separated by commas.
        length: T, sites there are.

    Returns:
        Which they are, bool, shape (T,).

    Raises:
        ValueError: something else, or a site that there is not.

    Example:
        >>> sites_of("1,3-4", 5)
        tensor([ True, False,  True,  True, False])
    """
    found = torch.zeros(length, dtype=torch.bool)
    for part in text.replace(" ", "").split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        if match is None:
            raise ValueError(f"sites are numbers and stretches, as in 39-41,54, got {part!r}")
        first, last = int(match[1]), int(match[2] or match[1])
        if not 1 <= first <= last <= length:
            raise ValueError(f"there are the sites 1 to {length}, and {part} is none of them")
        found[first - 1 : last] = True
    return found


def mutations(parent: Tensor, rows: Tensor, symbols: Sequence[str]) -> list[list[str]]:
    """By what rows differ from a parent, as people write it: old, site from 1, new.

    Args:
        parent: tokens, shape (T,).
        rows: tokens, shape (N, T).
        symbols: what classes are called.

    Example:
        >>> mutations(torch.tensor([0, 1, 1]), torch.tensor([[0, 1, 0], [1, 0, 1]]), "AC")
        [['C3A'], ['A1C', 'C2A']]
    """
    old = parent.tolist()
    return [
        [
            f"{symbols[a]}{site}{symbols[b]}"
            for site, (a, b) in enumerate(zip(old, row, strict=True), 1)
            if a != b
        ]
        for row in rows.tolist()
    ]
