"""Discrete data as tokens: whole numbers in rows, every position with classes of its own.

Text, tables and sequences differ in how a line of a file becomes a row, which a `Vocabulary` knows;
what is learnt from the rows is the same for all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, Protocol

import torch
from torch import Tensor

__all__ = ["TokenWindows", "Tokens", "Vocabulary", "evenly", "spread"]


class Vocabulary(Protocol):
    """What tokens mean: rows of a file to whole numbers and back."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Classes of each position, K_1, ..., K_T; one number for text, where all are alike."""

    def encode(self, rows: Sequence[Any]) -> Tensor:
        """Tokens of rows, int64, shape (N, T).

        Raises:
            ValueError: a row that cannot be written in these classes, by its number, from 1.
        """

    def decode(self, tokens: Tensor) -> list[Any]:
        """Rows of tokens (N, T), such as `encode` takes."""

    def facts(self) -> dict[str, Any]:
        """Plain JSON values from which `noiseloom.data.vocabulary` makes it again."""


@dataclass(frozen=True, eq=False)
class Tokens:
    """Rows of tokens.

    Attributes:
        values: integers of any type, shape (N, T), column c in 0 .. sizes[c] - 1.
        sizes: K_1, ..., K_T.

    Raises:
        ValueError: a shape or a class that does not fit.
    """

    values: Tensor
    sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.shape[1] != len(self.sizes):
            raise ValueError(
                f"tokens must have shape (N, {len(self.sizes)}), got {tuple(self.values.shape)}"
            )
        if self.values.device.type == "cpu" and len(self.values):
            low, high = self.values.amin(0), self.values.amax(0)
            wrong = ((low < 0) | (high >= torch.tensor(self.sizes))).nonzero()[:, 0]
            if len(wrong):
                c = int(wrong[0])
                raise ValueError(
                    f"column {c} has classes 0 .. {self.sizes[c] - 1}, got values from "
                    f"{int(low[c])} to {int(high[c])}"
                )

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, indices: Tensor) -> dict[str, Tensor]:
        """The rows at `indices`, in that order: {"tokens" (b, T) int64}."""
        return {"tokens": self.values[indices].long()}

    def to(self, device: torch.device | str) -> "Tokens":
        """The same rows on a device."""
        return Tokens(self.values.to(device), self.sizes)

    def tensors(self) -> tuple[Tensor, ...]:
        """Rows and numbers of classes."""
        return self.values, torch.tensor(self.sizes)


class TokenWindows:
    """Stretches of equal length of a long text, cut when asked for.

    Args:
        text: integers of any type, shape (L,), 0 .. classes - 1; it may be a file that is mapped
            into memory.
        length: T, tokens of a window.
        classes: K.
        stride: tokens from one window's start to the next.
        parts: (begin, end) of the parts of the text that this is, which no window crosses and
            outside of which it reads nothing; all of it by default.

    Raises:
        ValueError: `length` or `stride` below 1, parts that are not of the text or that are all
            shorter than a window.
    """

    def __init__(
        self,
        text: Tensor,
        length: int,
        classes: int,
        stride: int = 1,
        parts: Sequence[tuple[int, int]] | None = None,
    ) -> None:
        if length < 1 or stride < 1:
            raise ValueError(f"length and stride must be at least 1, got {length} and {stride}")
        self.parts = ((0, len(text)),) if parts is None else tuple(parts)
        if any(not 0 <= begin <= end <= len(text) for begin, end in self.parts):
            raise ValueError(f"parts of a text of {len(text)} tokens end there, got {self.parts}")
        longest = max((end - begin for begin, end in self.parts), default=0)
        if longest < length:
            raise ValueError(f"a text of {longest} tokens has no window of {length}")
        self.text, self.length, self.stride = text, length, stride
        self.sizes = (classes,) * length
        counts = [max((end - begin - length) // stride + 1, 0) for begin, end in self.parts]
        self._count = sum(counts)  # on the host: to ask a device would wait for it
        # Windows of earlier parts, and where the first window of a part would begin if it were one.
        self._before = torch.tensor([0, *counts]).cumsum(0).to(text.device)
        begins = torch.tensor([begin for begin, _ in self.parts], device=text.device)
        self._origin = begins - self._before[:-1] * stride

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, indices: Tensor) -> dict[str, Tensor]:
        """The windows at `indices`, in that order: {"tokens" (b, T) int64}."""
        steps = torch.arange(self.length, device=indices.device)
        part = torch.searchsorted(self._before, indices, right=True) - 1
        rows = (self._origin[part] + indices * self.stride)[:, None] + steps
        return {"tokens": self.text[rows].long()}

    def to(self, device: torch.device | str) -> "TokenWindows":
        """The same windows, with the parts of the text on a device, and no others."""
        if torch.device(device) == self.text.device:
            return self  # a mapped file stays one
        own = [self.text[begin:end].to(device) for begin, end in self.parts]
        ends = [0, *accumulate(map(len, own))]
        parts = list(pairwise(ends))
        return TokenWindows(torch.cat(own), self.length, self.sizes[0], self.stride, parts)

    def running(self, most: int) -> Tensor:
        """The text of all parts, (L,), every token once; of one longer than `most` a part of it.

        That part is windows evenly over the text that do not overlap, shape (M, T), M T <= `most`
        and M >= 1.
        """
        if sum(end - begin for begin, end in self.parts) <= most:
            return torch.cat([self.text[begin:end] for begin, end in self.parts])
        apart = TokenWindows(self.text, self.length, self.sizes[0], self.length, self.parts)
        return apart[evenly(len(apart), max(most // self.length, 1))]["tokens"]

    def tensors(self) -> tuple[Tensor, ...]:
        """The parts of the text, and the window."""
        facts = torch.tensor([self.length, self.stride, self.sizes[0]])
        return *(self.text[begin:end] for begin, end in self.parts), facts


def evenly(count: int, most: int) -> Tensor:
    """At most so many different places evenly over 0 .. count - 1, int64: floats end at 2^24."""
    return spread(count, min(count, most))


def spread(count: int, number: int) -> Tensor:
    """So many places evenly over 0 .. count - 1, several times each where there are fewer."""
    return torch.arange(number) * count // max(number, 1)


def halved(captions: Sequence[str], half: str) -> Tensor:
    """Rows of "both" halves, or of the "first" or "second", int64, in their order.

    Rows of one caption stay together: what keeps the first nearer to a half is in it.
    """
    together: dict[str, list[int]] = {}
    for row, caption in enumerate(captions):
        together.setdefault(caption, []).append(row)
    parts: dict[str, list[int]] = {"first": [], "second": []}
    for rows in together.values():
        fits = 2 * len(parts["first"]) + len(rows) <= len(captions)
        parts["first" if fits else "second"] += rows
    chosen = parts.get(half, range(len(captions)))
    return torch.tensor(sorted(chosen), dtype=torch.int64)
