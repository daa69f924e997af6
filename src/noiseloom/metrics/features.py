"""Feature networks: from pixels to the vectors in which sets of pictures are compared."""

from collections.abc import Callable, MutableMapping
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from noiseloom.progress import tell

__all__ = ["Features", "Remembered", "agreement", "in_batches"]


class Features(Protocol):
    """Anything that maps uint8 pixels (N, C, H, W) to float features (N, dim), without gradient.

    Attributes:
        name: suffix of the metrics computed with it ("digits" makes fd_digits).
        dim: number of features.
    """

    name: str
    dim: int

    def __call__(self, pixels: Tensor, /) -> Tensor:
        """Features, float32, shape (N, dim)."""
        ...


class Remembered:
    """Features that are computed once of a set of pictures, and kept as long as the set is.

    Several measures compare with the same training pictures, whose features take the longest.

    Args:
        features: of pictures that are not changed in place, or are then another set.
    """

    def __init__(self, features: Features) -> None:
        self.features, self.name, self.dim = features, features.name, features.dim
        self.known: MutableMapping[Tensor, tuple[int, Tensor]] = WeakTensorKeyDictionary()

    def __call__(self, pixels: Tensor, /) -> Tensor:
        """What the features are."""
        version, found = self.known.get(pixels, (-1, pixels))
        if version != pixels._version:
            found = self.features(pixels)
            self.known[pixels] = pixels._version, found
        kept: Tensor = found
        return kept


def in_batches(function: Callable[[Tensor], Tensor], pixels: Tensor, size: int = 256) -> Tensor:
    """Apply a function to a few pictures at a time, without gradient.

    Args:
        function: from (n, C, H, W) to (n, ...).
        pixels: uint8, shape (N, C, H, W).
        size: how many at a time.

    Raises:
        TypeError: pixels that are not uint8, such as a decoder's floats.
    """
    if pixels.dtype != torch.uint8 or pixels.ndim != 4:
        raise TypeError(
            f"feature networks take uint8 pixels of shape (N, C, H, W), got {pixels.dtype} of "
            f"shape {tuple(pixels.shape)}"
        )
    found = []
    with torch.no_grad():
        for start in range(0, max(len(pixels), 1), size):
            found.append(function(pixels[start : start + size]))
            tell("features of pictures", start + len(found[-1]), len(pixels))
    return torch.cat(found)


def agreement(logits: Tensor, labels: Tensor) -> float:
    """Share of pictures that a classifier gives the class they were drawn for.

    Args:
        logits: of an independent classifier, shape (N, K).
        labels: int64, shape (N,).
    """
    return float((logits.argmax(1) == labels.to(logits.device)).double().mean())
