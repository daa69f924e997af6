"""Sets of pictures in memory, and the honest ways to hold some of them out."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from noiseloom.rng import Rng

__all__ = ["Images", "arcs", "stratified"]


@dataclass(frozen=True, eq=False)
class Images:
    """A set of pictures with one class each.

    Attributes:
        pixels: uint8, shape (N, C, H, W), values 0 .. levels - 1.
        labels: int64, shape (N,), values 0 .. len(classes) - 1.
        classes: names of the classes; one name where there is nothing to tell apart.
        levels: number of values a pixel can take: 256, or 16 for the digits.

    Raises:
        TypeError: pixels or labels of another type.
        ValueError: shapes that do not fit, no pictures, a pixel or label out of range.
    """

    pixels: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    levels: int = 256

    def __post_init__(self) -> None:
        if self.pixels.dtype != torch.uint8 or self.labels.dtype != torch.int64:
            raise TypeError(
                f"pictures need uint8 pixels and int64 labels, got {self.pixels.dtype} "
                f"and {self.labels.dtype}"
            )
        if self.pixels.ndim != 4 or self.labels.shape != self.pixels.shape[:1] or not len(self):
            raise ValueError(
                "pictures need pixels of shape (N, C, H, W) and labels of shape (N,) with N >= 1, "
                f"got {tuple(self.pixels.shape)} and {tuple(self.labels.shape)}"
            )
        if int(self.pixels.max()) >= self.levels:
            raise ValueError(f"pixel {int(self.pixels.max())} is not below levels={self.levels}")
        low, high = int(self.labels.min()), int(self.labels.max())
        if low < 0 or high >= len(self.classes):
            raise ValueError(f"labels {low} .. {high} do not fit {len(self.classes)} classes")

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, indices: Tensor) -> dict[str, Tensor]:
        """The pictures at `indices`, in that order, as a batch {"pixels", "label"}."""
        return {"pixels": self.pixels[indices], "label": self.labels[indices]}

    def tensors(self) -> tuple[Tensor, Tensor]:
        """Pixels and labels."""
        return self.pixels, self.labels

    def select(self, indices: Tensor | Sequence[int]) -> "Images":
        """The pictures at `indices`, in that order, as a set of their own."""
        rows = torch.as_tensor(indices)
        return Images(self.pixels[rows], self.labels[rows], self.classes, self.levels)


def stratified(labels: Tensor, count: int, rng: Rng) -> tuple[Tensor, Tensor]:
    """Hold out `count` rows such that every class gives its share, to within one.

    Rows are shuffled and then sorted by class; entries floor((2 i + 1) N / (2 count)) of that
    order are held out.

    Args:
        labels: int64, shape (N,).
        count: how many rows to hold out, 1 .. N - 1.
        rng: decides which.

    Returns:
        The remaining and the held-out rows, each int64 and increasing.
    """
    total = len(labels)
    if not 0 < count < total:
        raise ValueError(f"cannot hold out {count} of {total} pictures: both parts need one")
    order = rng.permutation(total)
    order = order[torch.argsort(labels[order], stable=True)]
    held = torch.zeros(total, dtype=torch.bool)
    held[order[(2 * torch.arange(count) + 1) * total // (2 * count)]] = True
    rows = torch.arange(total)
    return rows[~held], rows[held]


def arcs(labels: Tensor, names: Sequence[str], count: int, rng: Rng) -> tuple[Tensor, Tensor]:
    """Hold out a contiguous range of each class, in the order of file names.

    For frames of turntables and films, whose neighbours are all but equal: of frames that are held
    out one by one every neighbour is trained on. Here only the two ends of a range have one, and
    the frames between them none (where a turn is full and begins or ends with the range, the frame
    that closes the circle is one more). Numbers in names are ordered by value: 9 before 10.

    Args:
        labels: int64, shape (N,).
        names: of the N files.
        count: how many rows to hold out, 1 .. N - 1; each class gives its share, as `stratified`
            has it.
        rng: decides where the ranges begin.

    Returns:
        The remaining and the held-out rows, each int64 and increasing.
    """
    shares = torch.bincount(labels[stratified(labels, count, rng)[1]]).tolist()
    held = torch.zeros(len(labels), dtype=torch.bool)
    for kind, share in enumerate(shares):
        own = (labels == kind).nonzero()[:, 0].tolist()
        own.sort(key=lambda row: _natural(names[row]))
        first = int(rng.fold("arc", kind).integers(len(own) - share + 1, (1,))) if own else 0
        held[own[first : first + share]] = True
    rows = torch.arange(len(labels))
    return rows[~held], rows[held]


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that orders numbers within names by value."""
    return [
        (int(part or 0), "") if i % 2 else (0, part)
        for i, part in enumerate(re.split(r"(\d+)", name))
    ]
