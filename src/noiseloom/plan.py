"""Sampling plans: when each token moves, and from where to where.

A plan is rows (t, s): row i moves every token from t_i to s_i <= t_i, and a token with s = t stays.
Consecutive rows need not touch: in `overshoot` the network is told a later time than the state's
own. A row's times obey the law of shapes: () for one time for all, (1, T) for one per token.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from noiseloom.levels import (
    astray,
    check_steps,
    checked_levels,
    chunks,
    further,
    grid,
    log_ratios,
    placed,
    ramp,
    staircase,
    whole,
)
from noiseloom.noise import Schedule
from noiseloom.plan_file import read_times, write_times
from noiseloom.plan_picture import shaded
from noiseloom.shapes import State, align

__all__ = ["SamplingPlan"]

FORGIVEN = 0.1
"""The latest time from which a joint last row, such as that of `rest`, is not called joint.

One step costs about the share of noise that is left. With the exact denoiser of an AR(1) process of
correlation 0.8 the largest error of the covariance is 0.105 from time 0.1 where alpha^2 = 1 - t,
and 0.034 on a cosine; from 0.3, 0.5, 0.9 it is 0.303, 0.502, 0.900. A full sequence has 0.397.
"""


@dataclass(frozen=True, eq=False)
class SamplingPlan:
    """Rows of moves.

    Args:
        t: times that tokens are at, float64 on the CPU, shape (N, ...): a row's shape after N.
        s: times they move to, same shape, 0 <= s <= t <= 1.

    Example:
        >>> print(SamplingPlan.uniform(4))
        SamplingPlan of 4 rows, from 1 to 0
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
    def uniform(cls, steps: int) -> Self:
        """Equal steps from 1 to 0: t_i = 1 - i / N."""
        return cls.from_times(grid(steps).flip(0))

    @classmethod
    def karras(
        cls,
        steps: int,
        schedule: Schedule,
        *,
        sigma_min: float = 0.002,
        sigma_max: float = 80.0,
        rho: float = 7.0,
    ) -> Self:
        """Noise-to-signal ratios uniform in their rho-th root, then 0.

        sigma_i = (sigma_max^(1/rho) + i / (N - 1) (sigma_min^(1/rho) - sigma_max^(1/rho)))^rho for
        sigma / alpha. The first time is 1 whatever the schedule's own end is.

        Args:
            steps: N >= 2.
            schedule: turns ratios into times.
            sigma_min: last ratio before 0, > 0.
            sigma_max: first ratio, > sigma_min.
            rho: exponent, > 0.

        References:
            T. Karras et al., 2022, arXiv 2206.00364, Eq. 5.
        """
        steps = check_steps(steps)
        if steps < 2 or not 0 < sigma_min < sigma_max or rho <= 0:
            raise ValueError("karras needs steps >= 2, 0 < sigma_min < sigma_max and rho > 0")
        logs = log_ratios(sigma_max, sigma_min, steps, rho)
        times = schedule.time(-2 * logs).clamp(0, 1)
        times[0] = 1.0
        return cls.from_times(torch.cat((times, times.new_zeros(1))))

    @classmethod
    def from_levels(
        cls, levels: Tensor | Sequence[Sequence[int]], steps: int, *, times: Tensor | None = None
    ) -> Self:
        """The plan of a scheduling matrix: row m moves token t from level M[m, t] to M[m + 1, t].

        Args:
            levels: M, integers of shape (rows + 1, T) in 0 (clean) to S (noise), never rising.
            steps: S.
            times: of levels 0 to S, increasing from 0 to 1; by default level / S.

        Raises:
            ValueError: the first row and token that break the rules are named.

        References:
            B. Chen et al., 2024, Diffusion Forcing, arXiv 2407.01392, Algorithm 2.
        """
        steps = check_steps(steps)
        levels = checked_levels(levels, steps)
        return cls.from_times(grid(steps, times)[levels][:, None])  # (rows + 1, 1, T)

    @classmethod
    def full_sequence(cls, steps: int, tokens: int, *, times: Tensor | None = None) -> Self:
        """All tokens together, one time each: M[m, t] = S - m, in S rows."""
        delays = [0] * whole(tokens, "number of tokens")
        return cls.from_levels(staircase(steps, delays), steps, times=times)

    @classmethod
    def pyramid(cls, steps: int, tokens: int, slope: float, *, times: Tensor | None = None) -> Self:
        """Later tokens start later: M[m, t] = clip(S + int(t u) - m, 0, S).

        S + int((T - 1) u) rows. u = 0 is `full_sequence` and u = S `autoregressive`, as is more. A
        strictly causal denoiser samples without bias only when autoregressive: with the exact one
        of an AR(1) process, of correlation 0.8, u = 1 is off by 0.40 however many the steps.

        Args:
            steps: S, per token.
            tokens: T.
            slope: u >= 0, in steps per token.
            times: of levels, as in `from_levels`.

        References:
            B. Chen et al., 2024, arXiv 2407.01392, Eq. B.1 (u = 1).
        """
        return cls.from_levels(staircase(steps, ramp(steps, tokens, slope)), steps, times=times)

    @classmethod
    def autoregressive(cls, steps: int, tokens: int, *, times: Tensor | None = None) -> Self:
        """Token after token, in S T rows: `pyramid` with u = S."""
        return cls.pyramid(steps, tokens, steps, times=times)

    @classmethod
    def trapezoid(
        cls, steps: int, tokens: int, slope: float, *, times: Tensor | None = None
    ) -> Self:
        """From both ends inwards: a pyramid in the distance to the nearer end.

        M[m, t] = clip(S + int(d u) - m, 0, S), d = min(t, T - 1 - t). The released code of
        Diffusion Forcing is not symmetric, and takes a middle one of evenly many tokens for clean.
        """
        tokens = whole(tokens, "number of tokens")
        delays = ramp(steps, (tokens + 1) // 2, slope)
        delays += delays[: tokens // 2][::-1]
        return cls.from_levels(staircase(steps, delays), steps, times=times)

    @classmethod
    def chunked(
        cls, steps: int, tokens: int, chunk: int, slope: float = 0, *, times: Tensor | None = None
    ) -> Self:
        """Chunk after chunk of tokens, each a pyramid; the last may be shorter.

        While a chunk moves, earlier tokens are at 0 and later ones at 1.

        Args:
            steps: S, per token.
            tokens: T.
            chunk: tokens per chunk, >= 1.
            slope: u >= 0 within a chunk, in steps per token.
            times: of levels, as in `from_levels`.
        """
        delays = chunks(steps, tokens, chunk, slope)
        return cls.from_levels(staircase(steps, delays), steps, times=times)

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

    def hold(self, tokens: int | Sequence[int] | Tensor, at: float = 0.0) -> "SamplingPlan":
        """Keep some tokens where they are: context. Rows in which nothing else moves are dropped.

        Args:
            tokens: indices, or a mask of shape (T,).
            at: the time they stay at; 0 is clean.

        Raises:
            ValueError: no time per token, no such token, or nothing left to move.
        """
        if self.t.ndim != 3:
            raise ValueError("hold needs a plan with a time per token, such as full_sequence")
        asked = torch.as_tensor(tokens)
        if asked.is_floating_point() and asked.numel():  # which would be cut to whole numbers
            raise ValueError(f"tokens to hold are indices or a mask, got {tokens}")
        t, s = self.t.clone(), self.s.clone()
        try:
            t[..., tokens] = s[..., tokens] = at
        except IndexError as error:
            raise ValueError(f"a plan of {t.shape[-1]} tokens cannot hold {tokens}") from error
        moving = (s != t).flatten(1).any(1)
        if not moving.any():
            raise ValueError("hold leaves no token to move")
        return SamplingPlan(t[moving], s[moving])

    def among(self, tokens: int, places: Sequence[int], at: float = 0.0) -> "SamplingPlan":
        """The plan of some tokens of a longer sequence, whose others are context and stay.

        A plan that is made for what is to be drawn, and put among what is known, has its shape
        there. `hold` cuts a plan of the whole: of a trapezoid it leaves one flank.

        Args:
            tokens: T, of the longer sequence.
            places: index in it of every token of this plan, in the plan's order.
            at: the time at which the others stay; 0 is clean.

        Raises:
            ValueError: no time per token, or places that do not fit.

        Example:
            >>> print(SamplingPlan.trapezoid(2, 3, 1).among(5, [2, 3, 4]).t[0].tolist())
            [[0.0, 0.0, 1.0, 1.0, 1.0]]
        """
        t, s = (placed(times, tokens, places, at) for times in (self.t, self.s))
        return SamplingPlan(t, s)

    def rest(self, at: float) -> "SamplingPlan":
        """Let tokens that are done wait at a small time, until one last row takes all to their end.

        A network that is told log-SNRs beyond those that random times showed it (a `clock` of 20)
        does not know a context that is told clean: on digits, row by row, coverage is then 0.18
        with finished rows at 0, and 0.52 with rows that wait at 0.1. Told 10 at most, which is the
        default there, it is 0.52 with either, so nothing is gained (docs/results.md).

        That last row is one step, however many the others: with the exact denoiser of an AR(1)
        process of correlation 0.8, 400 steps of a cosine, the largest error of the covariance is
        0.007 without rest, 0.034 at 0.1 and 0.106 at 0.2. More rows there would mend most of it,
        and make the digits no better: coverage 0.531 by one, 0.523 by a token's own two.

        Args:
            at: the time, in [0, 1); 0 changes nothing.
        """
        if not 0 <= at < 1:
            raise ValueError(f"tokens rest at a time in [0, 1), got {at}")
        held = (self.s == self.t).all(0)
        floor = torch.full_like(self.s[0], at).masked_fill(held, 0.0)
        t, s = torch.maximum(self.t, floor), torch.maximum(self.s, floor)
        moving = (s != t).reshape(len(self), -1).any(1)
        if torch.equal(s, self.s) or not moving.any():
            return self
        return SamplingPlan(torch.cat((t[moving], s[-1:])), torch.cat((s[moving], self.s[-1:])))

    def check_whole(self) -> None:
        """Raise ValueError, which names the first wrong token, if it is not `whole`."""
        if wrong := astray(self.t[0], self.s[-1]):
            raise ValueError(f"{wrong}: a plan leads every token from 1 to 0")

    def overshoot(self, steps: float) -> "SamplingPlan":
        """Asymmetric time intervals: move further than the clock of the next row says.

        A moving token's target is lowered by `steps` of its own later steps (linearly between
        them), never below the token's last target; on the uniform plan s_i = max(1 - (i + 1 + d) /
        N, 0). This sharpens the distribution: the velocity is scaled by 1 + d, however many steps
        are taken, so with a perfect denoiser any d > 0 is a bias. It helps where low temperature
        helps.

        Args:
            steps: d >= 0, in **steps**, not in time.

        References:
            T. Chen, R. Zhang, G. Hinton, 2022, arXiv 2208.04202, Algorithm 2 and Section 2 (td).
        """
        if not 0 <= steps < math.inf:
            raise ValueError(f"overshoot needs a number of steps >= 0, got {steps}")
        if steps == 0:
            return self
        return SamplingPlan(self.t, further(self.t, self.s, steps))

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

    @property
    def gapless(self) -> bool:
        """Whether each row begins where the one before it ends: nothing overshoots or restarts."""
        return torch.equal(self.t[1:], self.s[:-1])

    @property
    def whole(self) -> bool:
        """Whether it leads every token all the way, from time 1 to 0."""
        return not astray(self.t[0], self.s[-1])

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
