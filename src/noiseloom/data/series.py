"""Time series in memory: a table of numbers, a row per step, and the windows of it."""

import hashlib
from dataclasses import dataclass, replace
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
        lags: steps to look back by, from every step of a window and of the `ahead` that follow.
        ahead: steps after a window that are looked back from, too; at most the least of the lags.
        past: shape (P, D), the rows before `values`, which lags may reach; None for none.

    Raises:
        ValueError: fewer rows than a window has.
    """

    values: Tensor
    columns: tuple[str, ...]
    window: int
    first: int = 0
    lags: tuple[int, ...] = ()
    ahead: int = 0
    past: Tensor | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.window <= len(self.values):
            raise ValueError(
                f"a window of {self.window} steps does not fit a series of {len(self.values)}: "
                "give a longer series, or ask for a shorter horizon or context"
            )

    def __len__(self) -> int:
        return len(self.values) - self.window + 1

    def __getitem__(self, indices: Tensor) -> dict[str, Tensor]:
        """The windows that begin at `indices`: "values" (B, window, D) and "position" (B,).

        With lags there is "lagged", too, (B, lags, window + ahead, D): what was so many steps
        before, NaN before the first row.
        """
        rows = indices[:, None] + torch.arange(self.window, device=indices.device)
        found = {"values": self.values[rows], "position": indices + self.first}
        if self.lags:
            steps = indices[:, None] + torch.arange(self.window + self.ahead, device=indices.device)
            back = torch.tensor(self.lags, device=indices.device)[:, None]
            found["lagged"] = self._rows(steps[:, None] - back)
        return found

    def _rows(self, rows: Tensor) -> Tensor:
        """Rows by number, those of the past below 0; NaN before the first one."""
        there = self.values[rows.clamp(min=0)]
        before = torch.full_like(there, torch.nan)
        if self.past is not None and len(self.past):
            known = (rows >= -len(self.past))[..., None]
            before = torch.where(known, self.past[rows.clamp(-len(self.past), -1)], before)
        return torch.where((rows < 0)[..., None], before, there)

    def to(self, device: torch.device) -> "Series":
        """The same on another device."""
        past = None if self.past is None else self.past.to(device)
        return replace(self, values=self.values.to(device), past=past)

    def tensors(self) -> tuple[Tensor]:
        """The values."""
        return (self.values,)


def beginning(values: Tensor, count: int) -> str:
    """A hash of the first `count` rows, by which the steps of a series are known elsewhere.

    It is published with a model: of one row alone the numbers could be guessed.
    """
    return hashlib.blake2b(values[:count].contiguous().numpy().data, digest_size=8).hexdigest()


def rolling(
    table: Table, *, context: int, horizon: int, windows: int, lags: tuple[int, ...] = ()
) -> Split[Series]:
    """Hold out the last `windows` stretches of `horizon` steps, to be forecast one after another.

    Training windows end before the first of them. Samples of the held-out part begin `context`
    steps before what is to be forecast; those numbered 0, horizon, 2 horizon, ... are the protocol.

    Args:
        table: the series.
        context: steps that are known of a sample, >= 1.
        horizon: steps that follow, >= 1.
        windows: how many stretches to hold out, >= 1.
        lags: steps to look back by, each at least the horizon; what is held out has them all.

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
    if lags and max(lags) > cut - context:
        raise ValueError(
            f"lags of {max(lags)} steps reach before the first one: what is held out begins after "
            f"{cut - context}; ask for less, or give a longer series"
        )
    train = Series(table.values[:cut], table.columns, size, lags=lags)
    past, ahead = table.values[: cut - context], table.values[cut - context :]
    return Split(train, Series(ahead, table.columns, size, cut - context, lags=lags, past=past))
