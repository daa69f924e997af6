"""What models of rows of tokens are put together from, besides what the core has."""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from noiseloom.data import Landscape, Split, Tokens, Vocabulary
from noiseloom.metrics.rows import mean_and_error
from noiseloom.plan import SamplingPlan
from noiseloom.recipes.recipe import Facts
from noiseloom.shapes import Cond

__all__ = [
    "AsTheyAre",
    "LandscapeSplit",
    "Rows",
    "TokenSplit",
    "end_of",
    "held_plan",
    "mean_bits",
    "no_ends",
]


@dataclass(frozen=True, eq=False)
class TokenSplit(Split[Any]):
    """Rows of tokens in two parts, and what they mean.

    Attributes:
        vocabulary: of both.
    """

    vocabulary: Vocabulary | None = None


@dataclass(frozen=True, eq=False)
class LandscapeSplit(TokenSplit):
    """Rows of tokens of low and of high value, and what is truly known of all rows.

    Attributes:
        truth: what any row is worth.
        validation: more rows of the kind trained on, to choose guides by, if there are.
    """

    truth: Landscape | None = None
    validation: Tokens | None = None

    @property
    def landscape(self) -> Landscape:
        """The truth, which there always is."""
        assert self.truth is not None
        return self.truth


@dataclass(frozen=True)
class Rows:
    """What the autoregressive state yields: rows, finished.

    Attributes:
        result: tokens (B, T).
        told: what the model was told of them.
    """

    result: Tensor
    told: Cond = field(default_factory=dict)


def mean_bits(nats: Tensor, tokens: Tensor, end: int | None = None) -> tuple[float, float]:
    """Bits per token of rows, sum_i b_i / sum_i c_i, and its standard error, as of a ratio.

    Args:
        nats: of whole rows, (N,); b_i bits.
        tokens: the rows, (N, T).
        end: the class that ends sequences and fills their rows up, which counts once in a row: a
            row of l symbols has c_i = min(l + 1, T) tokens. Without it c_i = T.
    """
    length = tokens.shape[1]
    counts = torch.full((len(tokens),), float(length), dtype=torch.float64)
    if end is not None:
        counts = ((tokens != end).cumprod(1).sum(1) + 1).clamp(max=length).double().to(nats.device)
    share = counts / counts.mean()
    bits = nats / counts.mean() / math.log(2)
    return mean_and_error(bits + bits.mean() * (1 - share))


def end_of(facts: Facts) -> int | None:
    """The class after which there is no other in a row, of data whose rows end."""
    words = facts.get("vocabulary", {})
    return max(facts["sizes"]) - 1 if words.get("kind") in ("symbols", "captions") else None


def no_ends(
    facts: Facts, tokens: Tensor, known: Tensor, least: Tensor | None = None
) -> Tensor | None:
    """Of sequences, where a row cannot have ended: before its last known symbol; bool (B, T, K).

    Nor before it has `least` symbols, int64 (B,), if that is given.
    """
    if facts.get("vocabulary", {}).get("kind") != "symbols":
        return None
    end, places = max(facts["sizes"]) - 1, torch.arange(tokens.shape[1], device=tokens.device)
    last = torch.where(known & (tokens != end), places, -1).amax(1, keepdim=True)
    if least is not None:
        last = torch.maximum(last, least[:, None].to(last.device))
    absent = torch.zeros(*tokens.shape, end + 1, dtype=torch.bool, device=tokens.device)
    absent[..., end] = places < last
    return absent


def held_plan(plan: SamplingPlan, held: Tensor) -> SamplingPlan:
    """The plan for rows (B, T) with tokens of each that are known, at time 0 from the start."""
    t, s = (torch.where(held, 0, v.reshape(len(v), 1, -1)).contiguous() for v in (plan.t, plan.s))
    return SamplingPlan(t, s)


class AsTheyAre:
    """The codec of states that are classes."""

    def encode(self, data: Tensor) -> Tensor:
        """The classes."""
        return data

    def decode(self, state: Tensor) -> Tensor:
        """The classes."""
        return state
