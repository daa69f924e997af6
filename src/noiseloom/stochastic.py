"""Noise put back on the way down: churn in every row, Restart over stretches of rows.

Both go up by q(x_s | x_t), which is exact, and come down by any solver, so neither changes a law
that denoiser and steps get right; what they change is the error of those that do not: noise put in
makes the state forget it.

A row that goes up before it goes down is a matter of that row alone: `churned` wraps the solver.
Restart goes through several rows again. Which tokens do so is known to a plan, on the host, and not
to a solver, which sees times on the device and would have to make the inner rows whenever any
token might want them. So it is two halves: `restarts` writes the rows into the plan, where they are
seen, counted and drawn, and leaves gaps, each from where a token has come to up to where it begins
again; `restarted` wraps the solver and fills a gap with noise.
"""

import math

import torch
from torch import Tensor

from noiseloom.diffusion import RiemannianDiffusion
from noiseloom.levels import log_ratios
from noiseloom.plan import SamplingPlan
from noiseloom.sampling import Solver
from noiseloom.schedule import Schedule
from noiseloom.shapes import State, align

__all__ = ["churned", "restarted", "restarts"]


def churned(
    solver: Solver,
    churn: float,
    steps: int,
    *,
    low: float = 0.0,
    high: float = math.inf,
    noise: float = 1.0,
) -> Solver:
    """Before each row, go up: the ratio r = sigma / alpha of a moving token becomes (1 + gamma) r.

    gamma = min(churn / steps, sqrt(2) - 1) where low <= r <= high, else 0. Nothing goes beyond time
    1. The calls of a row stay the solver's own. The solver is given no memory, which would not
    survive the jump: a multistep one is then of first order.

    Args:
        solver: makes the move down.
        churn: S_churn >= 0; 0 is the solver itself.
        steps: N, the rows that take a token from noise to data.
        low: S_min, the least ratio sigma / alpha.
        high: S_max, the largest.
        noise: S_noise > 0, a factor of the noise put in: above 1 it makes up for what a network
            takes away too much, and biases an exact denoiser. Other than 1 in flat spaces only.

    References:
        T. Karras et al., 2022, arXiv 2206.00364, Algorithm 2.
    """
    if not 0 <= churn < math.inf or steps < 1:
        raise ValueError(f"churn needs an amount >= 0 and steps >= 1, got {churn} and {steps}")
    if not (0 <= low <= high and high > 0 and 0 < noise < math.inf):
        raise ValueError(
            f"churn needs 0 <= low <= high, high > 0 and noise > 0, got {low}, {high} and {noise}"
        )
    if churn == 0:
        return solver
    growth = 2 * math.log1p(min(churn / steps, math.sqrt(2) - 1))
    least, most = -2 * math.log(high), -2 * math.log(low) if low else math.inf

    def move(denoiser, diffusion, x, t, s, cond, carry, memory, rng):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        if isinstance(x, dict):
            raise TypeError(f"churned moves one tensor, not the parts {sorted(x)}")
        if noise != 1 and isinstance(diffusion, RiemannianDiffusion):
            raise TypeError(f"on {diffusion.manifold} churn's noise must be 1, got {noise}")
        if noise != 1 and not x.is_floating_point():
            raise TypeError("a factor of the noise is for numbers, and these are classes")
        t, schedule, key = align(t, x), diffusion.schedule, rng.fold("churn")
        now = schedule.log_snr(t)
        inside = (now >= least) & (now <= most) & (align(s, x) < t)
        up = torch.maximum(schedule.time(now - growth).clamp(max=1), t)
        up = torch.where(inside, up, t)
        risen = diffusion.renoise(x, t, up, key)
        if noise != 1:
            risen = risen + (noise - 1) * diffusion.renoise(torch.zeros_like(x), t, up, key)
        x, prediction, carry, _ = solver(denoiser, diffusion, risen, up, s, cond, carry, None, rng)
        return x, prediction, carry, None

    return move


def restarted(solver: Solver) -> Solver:
    """Where a token's row begins above where its last one ended, noise it up to there first.

    For plans with `restarts`, not for those that `overshoot`, whose gaps are meant. It remembers
    where the last row ended and must be outermost: `restarted(churned(heun(), 40, 256))`. As in
    `churned`, the solver has no memory of its own. On a plan without gaps it is that solver.

    The carry is not noised: a self-conditioned denoiser is told in the first row of a round what it
    said in the last of the round before, and so is the last to forget.

    Args:
        solver: makes the moves down.

    References:
        Y. Xu et al., 2023, Restart Sampling, arXiv 2306.14878, Algorithm 1.
    """

    def move(denoiser, diffusion, x, t, s, cond, carry, memory, rng):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        if memory is not None and not _touch(memory, t):
            x = diffusion.renoise(x, memory, t, rng.fold("restart"))
        x, prediction, carry, _ = solver(denoiser, diffusion, x, t, s, cond, carry, None, rng)
        return x, prediction, carry, s

    return move


def _touch(end: State, start: State) -> bool:
    """Whether the host knows that there is no gap."""
    known = isinstance(start, Tensor) and start.ndim == 0 and start.device.type == "cpu"
    return known and bool(end == start)


def restarts(
    plan: SamplingPlan,
    low: float,
    high: float,
    rounds: int,
    rows: int | None = None,
    *,
    schedule: Schedule | None = None,
) -> SamplingPlan:
    """The plan in which each token, come down to `low`, goes `rounds` times from `high` to there.

    The rows of a round lead from `high` through the plan's own times, or so many evenly along
    them; with a schedule they are the paper's, ratios r = sigma / alpha uniform in their 7th root,

        r_i = (r_high^(1/7) + i / rows (r_low^(1/7) - r_high^(1/7)))^7.

    Tokens that come to `low` in one row restart together, while the others stay. Give it to
    `sample` with a solver that is `restarted`; several stretches are as many calls. The paper
    counts points, N_i: `rows` is N_i - 1.

    Args:
        plan: rows that touch.
        low: t_min, a time in [0, 1); the nearest at which a row of the token ends is taken.
        high: t_max, a time in (low, 1]. The times of noise levels are `schedule.time(-2
            sigma.log())`.
        rounds: K >= 0; 0 is the plan itself.
        rows: of each round; by default as many as the plan has in between.
        schedule: whose ratios the rows divide.

    Raises:
        TypeError: rounds or rows are not whole numbers.
        ValueError: a number is out of range, a token has no time near `low` below `high`, or there
            are ratios to divide from a `high` at which no signal is left.

    References:
        Y. Xu et al., 2023, Restart Sampling, arXiv 2306.14878, Algorithm 1.
    """
    if not (isinstance(rounds, int) and isinstance(rows, int | None)):
        raise TypeError(f"restarts need whole rounds and rows, got {rounds} and {rows}")
    if not 0 <= low < high <= 1:
        raise ValueError(f"restarts need times 0 <= low < high <= 1, got {low} and {high}")
    if rounds < 0 or (rows is not None and rows < 1):
        raise ValueError(f"restarts need rounds >= 0 and rows >= 1, got {rounds} and {rows}")
    if rounds == 0:
        return plan
    t, s = plan.t.reshape(len(plan), -1), plan.s.reshape(len(plan), -1)
    after: dict[int, dict[int, Tensor]] = {}  # row: times of each token that restarts after it
    for token in range(t.shape[1]):
        moves = (s[:, token] < t[:, token]).nonzero()[:, 0]
        if len(moves):
            row, times = _stretch(t[moves, token], s[moves, token], low, high)
            after.setdefault(int(moves[row]), {})[token] = times
    begins, ends = [], []
    for row in range(len(plan)):
        begins.append(t[row : row + 1])
        ends.append(s[row : row + 1])
        if again := after.get(row):
            count = rows or max(len(times) - 1 for times in again.values())
            block = s[row].repeat(count + 1, 1)
            for token, times in again.items():
                block[:, token] = _along(times, count, schedule)
            begins += [block[:-1]] * rounds
            ends += [block[1:]] * rounds
    shape = (-1, *plan.t.shape[1:])
    return SamplingPlan(torch.cat(begins).reshape(shape), torch.cat(ends).reshape(shape))


def _stretch(t: Tensor, s: Tensor, low: float, high: float) -> tuple[int, Tensor]:
    """The move that ends nearest to `low`, and the times from `high` down to its end."""
    row = int((s - low).abs().argmin())
    end = s[row]
    if not (s.min() <= low <= t.max() and end < high):
        raise ValueError(
            f"no row between {low:.4g} and {high:.4g} to restart: a token moves from "
            f"{float(t.max()):.4g} to {float(s.min()):.4g}, and ends a row at {float(end):.4g}"
        )
    between = sorted({time for time in t.tolist() if float(end) < time < high}, reverse=True)
    return row, t.new_tensor([high, *between, float(end)])


def _along(times: Tensor, count: int, schedule: Schedule | None) -> Tensor:
    """So many moves evenly along given times, linearly between them; or by ratios of their ends."""
    if schedule is not None:
        first, last = (schedule.log_snr(times[[0, -1]]) / -2).exp().tolist()
        if count > 1 and first == math.inf:
            raise ValueError("there are no levels from time 1, where nothing but noise is left")
        inner = schedule.time(-2 * log_ratios(first, last, count + 1)[1:-1])
        return torch.cat((times[:1], inner.clamp(times[-1], times[0]), times[-1:]))
    place = torch.linspace(0, len(times) - 1, count + 1, dtype=times.dtype)
    low, high = place.floor(), place.ceil()
    return torch.lerp(times[low.long()], times[high.long()], place - low)
