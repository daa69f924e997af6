"""Time series in memory: a table of numbers, a row per step, and the windows of it."""

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from noiseloom.data.split import Split

__all__ = ["Series", "Table", "beginning", "rolling"]


class Table(NamedTuple):
    """Numbers with named columns.

    Attributes:
        values: float64, shape (N, D), a row per step; finite, or NaN in gaps that were asked for.
        columns: their names.
    """

    values: Tensor
    columns: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Series:
    """All windows of a time series: a data set whose samples are stretches of it.

    Attributes:
        values: float64, shape (N, D).
        columns: names of the D columns.
        window: steps of a sample, 1 .. N.
        first: index of the first row in the whole series.

    Raises:
        ValueError: fewer rows than a window has.
    """

    values: Tensor
    columns: tuple[str, ...]
    window: int
    first: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.window <= len(self.values):
            raise ValueError(
                f"a window of {self.window} steps does not fit a series of {len(self.values)}: "
                "give a longer series, or ask for a shorter horizon or context"
            )

    def __len__(self) -> int:
        return len(self.values) - self.window + 1

    def __getitem__(self, indices: Tensor) -> dict[str, Tensor]:
        """The windows that begin at `indices`: "values" (B, window, D) and "position" (B,)."""
        rows = indices[:, None] + torch.arange(self.window, device=indices.device)
        return {"values": self.values[rows], "position": indices + self.first}

    def to(self, device: torch.device) -> "Series":
        """The same on another device."""
        return Series(self.values.to(device), self.columns, self.window, self.first)

    def tensors(self) -> tuple[Tensor]:
        """The values."""
        return (self.values,)


def beginning(values: Tensor, count: int) -> str:
    """A hash of the first `count` rows, by which the steps of a series are known elsewhere.

    It is published with a model: of one row alone the numbers could be guessed.
    """
    return hashlib.blake2b(values[:count].contiguous().numpy().data, digest_size=8).hexdigest()


def rolling(table: Table, *, context: int, horizon: int, windows: int) -> Split[Series]:
    """Hold out the last `windows` stretches of `horizon` steps, to be forecast one after another.

    Training windows end before the first of them. Samples of the held-out part begin `context`
    steps before what is to be forecast; those numbered 0, horizon, 2 horizon, ... are the protocol.

    Args:
        table: the series.
        context: steps that are known of a sample, >= 1.
        horizon: steps that follow, >= 1.
        windows: how many stretches to hold out, >= 1.

    Raises:
        ValueError: too short a series.
    """
    total, size = len(table.values), context + horizon
    held = windows * horizon
    if total - held < size:
        raise ValueError(
            f"{total} steps are too few: {windows} windows of {horizon} are held out, and training "
            f"needs at least {size} before them; ask for fewer, or a shorter horizon or context"
        )
    cut = total - held
    train = Series(table.values[:cut], table.columns, size)
    return Split(train, Series(table.values[cut - context :], table.columns, size, cut - context))
