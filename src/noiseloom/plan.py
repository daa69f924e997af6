"""Sampling plans: when each token moves, and from where to where.

A plan is rows (t, s): row i moves every token from t_i to s_i <= t_i, and a token with s = t stays.
Consecutive rows need not touch: in `overshoot` the network is told a later time than the state's
own. A row's times obey the law of shapes: () for one time for all, (1, T) for one per token.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from noiseloom.levels import (
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
from noiseloom.plan_rows import PlanRows

__all__ = ["SamplingPlan"]


@dataclass(frozen=True, eq=False)
class SamplingPlan(PlanRows):
    """Rows of moves.

    Args:
        t: times that tokens are at, float64 on the CPU, shape (N, ...): a row's shape after N.
        s: times they move to, same shape, 0 <= s <= t <= 1.

    Example:
        >>> print(SamplingPlan.uniform(4))
        SamplingPlan of 4 rows, from 1 to 0
    """

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
