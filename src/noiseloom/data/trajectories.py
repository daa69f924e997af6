"""Trajectories: episodes of observations, actions and rewards, and windows of them to train on."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noiseloom.data.trajectory_files import read_arrays
from noiseloom.data.whole_file import write_whole
from noiseloom.rng import Rng

__all__ = ["Trajectories", "Windows"]

_COLUMNS = ("observations", "actions", "rewards", "goals")


@dataclass(frozen=True, eq=False)
class Trajectories:
    """Episodes, one after the other: in step t, action a_t was taken where o_t was observed.

    Attributes:
        observations: o_t, float32, shape (N, D).
        actions: a_t, float32, shape (N, A); A is 0 where nobody acts.
        rewards: what a_t earned, float32, shape (N,), or None.
        goals: what was aimed at in step t, float32, shape (N, G), or None.
        ends: int64, increasing: how many steps there are up to the end of each episode. What
            follows the last of them is an episode that goes on.
        about: where they come from, in words.

    Raises:
        TypeError: a tensor of another type.
        ValueError: shapes that do not fit, no steps, a number that is not finite, ends that do not
            increase or lie outside.

    Example:
        >>> walk = Trajectories(torch.zeros(5, 2), torch.zeros(5, 1), ends=torch.tensor([3]))
        >>> walk.episodes.tolist()
        [[0, 3], [3, 5]]
    """

    observations: Tensor
    actions: Tensor
    rewards: Tensor | None = None
    goals: Tensor | None = None
    ends: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    about: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not len(self):
            raise ValueError("observations is empty")
        for name, column in self.columns().items():
            if column.dtype != torch.float32:
                raise TypeError(f"{name} must be float32, got {column.dtype}")
            axes = "(N,)" if name == "rewards" else "(N, features)"
            if column.ndim != axes.count(",") + (name != "rewards"):
                raise ValueError(f"{name} must have shape {axes}, got {tuple(column.shape)}")
            if len(column) != len(self):
                raise ValueError(f"{name} has {len(column)} steps, observations {len(self)}")
            finite = column.isfinite().reshape(len(column), -1).all(1)
            if not finite.all():
                step = int((~finite).nonzero()[0])
                raise ValueError(f"{name} has a number that is not finite in step {step}")
        if self.ends.dtype != torch.int64 or self.ends.ndim != 1:
            raise TypeError(f"ends must be int64 of shape (E,), got {self.ends.dtype}")
        places = torch.cat((torch.zeros_like(self.ends[:1]), self.ends))
        if not (places.diff() > 0).all() or int(places.max() if len(places) else 0) > len(self):
            raise ValueError(f"ends must increase within 1 .. {len(self)}, the number of steps")

    def __len__(self) -> int:
        """N, the number of steps."""
        return len(self.observations)

    def columns(self) -> dict[str, Tensor]:
        """What there is per step, by name."""
        values = {name: getattr(self, name) for name in _COLUMNS}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def episodes(self) -> Tensor:
        """First step and end (exclusive) of every episode, int64, shape (E, 2)."""
        stops = self.ends
        if not len(stops) or stops[-1] < len(self):
            stops = torch.cat((stops, stops.new_tensor([len(self)])))
        starts = torch.cat((stops.new_zeros(1), stops[:-1]))
        return torch.stack((starts, stops), 1)

    def select(self, episodes: Sequence[int] | Tensor) -> Self:
        """Some of the episodes, in that order; each of them has ended."""
        bounds = self.episodes[torch.as_tensor(episodes)]
        rows = torch.cat([torch.arange(start, stop) for start, stop in bounds.tolist()])
        columns: dict[str, Any] = {name: values[rows] for name, values in self.columns().items()}
        return replace(self, **columns, ends=bounds.diff(dim=1)[:, 0].cumsum(0))

    def split(self, held_out: float, rng: Rng) -> tuple[Self, Self]:
        """What to train on, and what to judge by, so that no window lies in both.

        Whole episodes are drawn until they have the share of the steps; of a single episode the
        last stretch is held out.

        Args:
            held_out: share of the steps, in (0, 1).
            rng: decides which episodes.
        """
        if not 0 < held_out < 1 or len(self) < 2:
            raise ValueError(
                f"held_out must be between 0 and 1, and there must be two steps or more; got "
                f"held_out={held_out} and {len(self)} steps"
            )
        lengths = self.episodes.diff(dim=1)[:, 0]
        if len(lengths) == 1:
            cut = min(max(round((1 - held_out) * len(self)), 1), len(self) - 1)
            whole = replace(self, ends=torch.tensor([cut, len(self)]))
            return whole.select([0]), whole.select([1])
        order = rng.permutation(len(lengths))
        before = lengths[order].cumsum(0) - lengths[order]
        count = int((before < held_out * len(self)).sum())
        count = min(count, len(lengths) - 1)
        return self.select(order[count:].sort()[0]), self.select(order[:count].sort()[0])

    @classmethod
    def joined(cls, pieces: Sequence[Self]) -> Self:
        """Put pieces of one recording together; an episode may go on from one to the next."""
        first = pieces[0]
        columns: dict[str, Any] = {
            name: torch.cat([piece.columns()[name] for piece in pieces]) for name in first.columns()
        }
        ends, steps = [], 0
        for piece in pieces:
            ends.append(piece.ends + steps)
            steps += len(piece)
        return replace(first, **columns, ends=torch.cat(ends))

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """Read a file of trajectories, a person's own or one that `save` wrote.

        Its arrays are observations (N, D), actions (N, A) and rewards (N,), the flags terminals and
        timeouts (N,) of an episode's last step, or else ends, and goals (N, G). All but the
        observations may be absent. Arrays (E, T, ...) are E episodes of T steps.

        Args:
            path: .npz, .safetensors, .hdf5 or .h5 (D4RL's, or Minari's with a group of arrays for
                each episode), a folder of observations.npy, actions.npy, ..., or one .npy with the
                observations.

        Raises:
            FileNotFoundError: nothing at `path`.
            ImportError: an HDF5 file, without the extra `hdf5`.
            ValueError: a file that cannot be read, or whose numbers make no trajectories.
        """
        path = Path(path).expanduser()
        arrays, about = read_arrays(path)
        about.pop("format", None)
        try:
            return cls(**_columns(arrays), about=about)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from error

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write all of it as one .safetensors file, as a whole or not at all.

        Raises:
            FileExistsError: there is such a file, and no `force`.
            OSError: it cannot be written.
            ValueError: another kind of file.
        """
        tensors = {**self.columns(), "ends": self.ends}
        write_whole(path, tensors, self.about, what="trajectories", force=force)


class Windows:
    """Stretches of equal length, none of which crosses the end of an episode.

    Samples are gathered when asked for: a batch {"observations", "actions", ...} of what there is,
    each with axes (batch, length, ...).

    Args:
        trajectories: where they are taken from.
        length: L, steps of a window.
        stride: steps from one window's start to the next.
        least: episodes of fewer than L steps give windows too, which begin where so many steps are
            left, and end with padding, the last step again; None for no such windows. Where there
            are some, a batch says of all which steps are "real", bool (batch, length).

    Raises:
        ValueError: `length`, `stride` or `least` below 1, or no episode has enough steps.

    Example:
        >>> places = torch.arange(5.0)[:, None]
        >>> walk = Trajectories(places, torch.zeros(5, 0), ends=torch.tensor([3]))
        >>> Windows(walk, length=2)[torch.tensor([2])]["observations"][0, :, 0].tolist()
        [3.0, 4.0]
    """

    def __init__(
        self, trajectories: Trajectories, length: int, stride: int = 1, least: int | None = None
    ) -> None:
        if min(length, stride, 1 if least is None else least) < 1:
            raise ValueError(
                f"length, stride and least must be at least 1, got {length}, {stride} and {least}"
            )
        bounds = trajectories.episodes
        self.length = length
        self.columns = trajectories.columns()
        firsts, stops = [], []
        for a, b in bounds.tolist():
            needed = length if least is None or b - a >= length else least
            firsts.append(torch.arange(a, max(b - needed + 1, a), stride))
            stops.append(torch.full_like(firsts[-1], b))
        self.firsts = torch.cat(firsts)
        stop = torch.cat(stops)
        padded = bool((self.firsts + length > stop).any())
        self.stops: Tensor | None = stop if padded else None
        if not len(self.firsts):
            longest = int(bounds.diff(dim=1).max())
            raise ValueError(
                f"no episode has {length if least is None else least} steps, the longest has "
                f"{longest}: take shorter windows"
            )

    def __len__(self) -> int:
        return len(self.firsts)

    def __getitem__(self, indices: Tensor) -> dict[str, Tensor]:
        """The windows at `indices`, in that order."""
        steps = torch.arange(self.length, device=self.firsts.device)
        rows = self.firsts[indices][:, None] + steps
        if self.stops is None:
            return {name: column[rows] for name, column in self.columns.items()}
        stop = self.stops[indices][:, None]
        there = torch.minimum(rows, stop - 1)
        return {n: column[there] for n, column in self.columns.items()} | {"real": rows < stop}

    def to(self, device: torch.device | str) -> Self:
        """The same windows, with all trajectories on a device."""
        moved = object.__new__(type(self))
        moved.length = self.length
        moved.columns = {name: column.to(device) for name, column in self.columns.items()}
        moved.firsts = self.firsts.to(device)
        moved.stops = None if self.stops is None else self.stops.to(device)
        return moved

    def tensors(self) -> tuple[Tensor, ...]:
        """Everything that defines the windows, for a fingerprint."""
        nothing = torch.empty(0)
        columns = [self.columns.get(name, nothing) for name in _COLUMNS]
        stops = () if self.stops is None else (self.stops,)
        return (*columns, self.firsts, torch.tensor([self.length]), *stops)


def _columns(arrays: dict[str, NDArray[Any]]) -> dict[str, Tensor]:
    """Columns and ends, as `Trajectories` has them, from what a file has."""
    shape = arrays["observations"].shape
    if not 1 <= len(shape) <= 3:
        raise ValueError(f"observations must have shape (N, D) or (E, T, D), got {shape}")
    lead = shape[:1] if len(shape) < 3 else shape[:2]
    rows = {name: _rows(name, array, lead) for name, array in arrays.items() if name != "ends"}
    columns = {name: rows[name] for name in _COLUMNS if name in rows}
    columns.setdefault("actions", torch.zeros(math.prod(lead), 0))
    if "rewards" in columns:
        columns["rewards"] = columns["rewards"][:, 0]
    if "ends" in arrays:
        columns["ends"] = torch.from_numpy(arrays["ends"].astype(np.int64))
        return columns
    last = torch.zeros(lead, dtype=torch.bool)
    last[..., -1:] = len(lead) == 2
    for name in ("terminals", "timeouts"):
        if name in rows:
            last |= rows[name][:, 0].bool().reshape(lead)
    columns["ends"] = last.flatten().nonzero()[:, 0] + 1
    return columns


def _rows(name: str, array: NDArray[Any], lead: tuple[int, ...]) -> Tensor:
    """An array with leading axes (N,) or (E, T) as float32, one row per step."""
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must be real numbers, got {array.dtype}")
    rest = array.shape[len(lead) :]
    single = name in ("rewards", "terminals", "timeouts")
    if array.shape[: len(lead)] != lead or (single and math.prod(rest) != 1):
        steps = f"{lead[0]} steps" if len(lead) == 1 else f"{lead[0]} episodes of {lead[1]} steps"
        what = "one number for each of" if single else "a row for each of"
        raise ValueError(f"{name} must have {what} the {steps}, got shape {array.shape}")
    with np.errstate(over="ignore"):  # what becomes infinite is told by its step
        values = array.astype(np.float32)
    return torch.from_numpy(values.reshape(math.prod(lead), math.prod(rest)))
