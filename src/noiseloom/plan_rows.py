"""The rows of a sampling plan: checked, in files, told to a state, and shown.

How plans are made and changed is `plan`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from noiseloom.levels import astray
from noiseloom.plan_file import read_times, write_times
from noiseloom.plan_picture import shaded
from noiseloom.shapes import State, align

__all__ = ["PlanRows"]

FORGIVEN = 0.1
"""The latest time from which a joint last row, such as that of `rest`, is not called joint.

One step costs about the share of noise that is left. With the exact denoiser of an AR(1) process of
correlation 0.8 the largest error of the covariance is 0.105 from time 0.1 where alpha^2 = 1 - t,
and 0.034 on a cosine; from 0.3, 0.5, 0.9 it is 0.303, 0.502, 0.900. A full sequence has 0.397.
"""


@dataclass(frozen=True, eq=False)
class PlanRows:
    """What a `SamplingPlan` is, without its makers.

    Args:
        t: times that tokens are at, float64 on the CPU, shape (N, ...): a row's shape after N.
        s: times they move to, same shape, 0 <= s <= t <= 1.
    """

    t: Tensor
    s: Tensor

    def __post_init__(self) -> None:
        for name in ("t", "s"):
            value = getattr(self, name)
            object.__setattr__(
                self, name, torch.as_tensor(value, dtype=torch.float64, device="cpu")
            )
        if self.t.ndim == 0 or self.t.shape != self.s.shape or not self.t.numel():
            raise ValueError(
                "a plan needs one or more rows of equal shape, each of one time or more, got t of "
                f"shape {tuple(self.t.shape)} and s of shape {tuple(self.s.shape)}"
            )
        wrong = ~((self.s >= 0) & (self.s <= self.t) & (self.t <= 1))  # NaN is wrong too
        if wrong.any():
            place = tuple(wrong.nonzero()[0].tolist())
            raise ValueError(
                f"a plan needs 0 <= s <= t <= 1, got t = {float(self.t[place])}, "
                f"s = {float(self.s[place])} in row {place[0]}"
            )

    @classmethod
    def from_times(cls, times: Tensor) -> Self:
        """The plan through given times, shape (N + 1, ...), row i from times[i] to times[i + 1]."""
        return cls(times[:-1], times[1:])

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """A plan from a file: what `save` wrote, or a CSV table of levels drawn by hand.

        A table has one line per row and one column per token, any numbers >= 0 that never rise down
        a column; the largest is time 1. N + 1 lines make N rows. JSON is {"t": [row, ...], "s":
        [row, ...]}, where a row of a time per token is [[...]], of shape (1, T), as in memory.

        Raises:
            ValueError: the file and its first wrong row are named.
        """
        try:
            return cls(*read_times(Path(path)))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def save(self, path: str | Path) -> None:
        """Write the plan to a .json file, from which it is loaded to the last bit."""
        write_times(Path(path), self.t, self.s)

    def rows(self, x: State) -> Iterator[tuple[Tensor, Tensor]]:
        """The rows as times for a state: scalars stay on the CPU, others move to it at once.

        Raises:
            ValueError: times per token, and a state of several parts, or of other tokens.
        """
        t, s = self.t, self.s
        if t.ndim > 1:
            if isinstance(x, dict):
                raise ValueError(
                    f"the parts {sorted(x)} need a plan each (PartsPlan), not a {self}"
                )
            try:
                align(t[0], x)
            except ValueError as error:
                raise ValueError(
                    f"a {self} does not fit a state of shape {tuple(x.shape)}: its rows have shape "
                    f"{tuple(t.shape[1:])}, and must be a left prefix of the state's shape, each "
                    "entry 1 or equal"
                ) from error
            dtype = torch.promote_types(x.dtype, torch.float32)
            t, s = t.to(x.device, dtype), s.to(x.device, dtype)
        yield from zip(t, s, strict=True)

    def __len__(self) -> int:
        return len(self.t)

    def check_whole(self) -> None:
        """Raise ValueError, which names the first wrong token, if it is not `whole`."""
        if wrong := astray(self.t[0], self.s[-1]):
            raise ValueError(f"{wrong}: a plan leads every token from 1 to 0")

    @property
    def whole(self) -> bool:
        """Whether it leads every token all the way, from time 1 to 0."""
        return not astray(self.t[0], self.s[-1])

    @property
    def gapless(self) -> bool:
        """Whether each row begins where the one before it ends: nothing overshoots or restarts."""
        return torch.equal(self.t[1:], self.s[:-1])

    @property
    def shared(self) -> bool:
        """Whether all tokens are at one time, from the first row to the last."""
        both = torch.stack((self.t, self.s)).reshape(2, len(self), -1)
        return bool((both == both[..., :1]).all())

    @property
    def joint(self) -> bool:
        """Whether a row moves several tokens, which biases the samples of a causal denoiser.

        A last row that takes all from one time, at most 0.1, to their end does not count: it is
        what `rest` costs (`FORGIVEN` says how much).
        """
        if self.t.ndim < 3 or self.t.shape[2] == 1:
            return True
        moving = (self.s != self.t).reshape(*self.t.shape[:3], -1).any(3)
        last = self.t[-1][self.s[-1] != self.t[-1]]
        if len(self) > 1 and len(last) and last[0] <= FORGIVEN and (last == last[0]).all():
            moving = moving[:-1]
        return bool((moving.sum(2) > 1).any())

    def heatmap(self, width: int = 64, height: int = 16) -> str:
        """The plan as a picture: rows are steps, columns tokens, shades the times s moved to.

        Time 1 is dark and 0 blank. Where there are more than fit, some are shown, evenly spaced. A
        plan of scalar times is one column.

        Args:
            width: at most so many columns, >= 1.
            height: at most so many lines, >= 1.
        """
        return "\n".join(shaded(self.s.reshape(len(self), -1), width, height))

    @property
    def extent(self) -> str:
        """Its tokens and ends in words."""
        tokens = f"{self.t[0].numel()} tokens, " if self.t.ndim > 1 else ""
        return f"{tokens}from {_span(self.t[0])} to {_span(self.s[-1])}"

    def __str__(self) -> str:
        between = " of " if self.t.ndim > 1 else ", "
        return f"SamplingPlan of {len(self)} rows{between}{self.extent}"


def _span(times: Tensor) -> str:
    low, high = (f"{float(end):.4g}" for end in times.aminmax())
    return low if low == high else f"{low} .. {high}"
