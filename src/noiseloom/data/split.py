"""Data in two parts: one to learn from, and one to judge by."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from torch import Tensor

__all__ = ["Set", "Split"]


class Set(Protocol):
    """A data set in memory: `len` samples, taken by a tensor of indices, and what defines it."""

    def __len__(self) -> int:
        """Number of samples."""

    def __getitem__(self, indices: Tensor, /) -> dict[str, Tensor]:
        """The samples at `indices`, int64, in that order: tensors whose axis 0 is the batch."""

    def tensors(self) -> Iterable[Tensor]:
        """All there is of it, on the CPU, large tensors in pieces if it is to save memory."""


Kind = TypeVar("Kind", bound=Set, covariant=True)


@dataclass(frozen=True, eq=False)
class Split(Generic[Kind]):
    """Samples to learn from and samples to judge by, of one kind.

    Attributes:
        train: to train on.
        held_out: samples that training never sees.
        notes: what loading left out and why, one plain sentence each.
    """

    train: Kind
    held_out: Kind
    notes: tuple[str, ...] = ()

    def fingerprint(self) -> str:
        """A hash of every value, in order, of both parts."""
        found = hashlib.blake2b(digest_size=8)
        parts: tuple[Any, ...] = (self.train, self.held_out)
        for part in parts:
            for tensor in part.tensors():
                found.update(tensor.contiguous().numpy().data)
        return found.hexdigest()
