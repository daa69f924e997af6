"""Sampling: a loop over the rows of a plan, and the solvers that make one move.

A solver is a function

    (denoiser, diffusion, x, t, s, cond, carry, memory, rng) -> (x, prediction, carry, memory)

`memory` is its own: None before the first row. Solvers never see the plan, work per token, and
leave a token with s = t as it is, bit for bit. What a denoiser says is kept as `Step.result`: per
token, the mean of the last row that moved it, which is what Bit Diffusion decodes (not the state).
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeAlias, TypeVar

import torch
from torch import Tensor

from noiseloom.carry import Carry
from noiseloom.causality import warn_if_biased
from noiseloom.denoiser import Denoiser
from noiseloom.diffusion import Diffusion, Prediction, ProductDiffusion, RiemannianDiffusion
from noiseloom.diffusion.gaussian import where_moved
from noiseloom.faults import faults_of, tell
from noiseloom.plan import SamplingPlan
from noiseloom.plan_parts import PartsPlan
from noiseloom.rng import Rng
from noiseloom.shapes import Cond, align, map_state, part_times

__all__ = [
    "Solver",
    "Step",
    "ancestral",
    "dpm_solver_pp_2m",
    "draws",
    "final",
    "heun",
    "resampled",
    "sample",
]

Solver: TypeAlias = Callable[..., tuple[Any, Any, Carry, Any]]
"""One move of every token from t to s."""

S = TypeVar("S", Tensor, dict[str, Tensor])
"""A state: a tensor, or its parts by name."""


@dataclass(frozen=True)
class Step(Generic[S]):
    """What the loop yields after each row.

    Attributes:
        index: the row, from 0.
        t: times the row started from.
        s: times it moved to.
        x: the state after it.
        prediction: what the denoiser said in it, a `Prediction`, or one for each part by name.
        result: per token, what the last row that moved it says: the mean; of classes the state at
            time 0, before that the likeliest.
        carry: what the next call will be given.
    """

    index: int
    t: S
    s: S
    x: S
    prediction: Any
    result: S
    carry: Carry


def sample(
    denoiser: Denoiser,
    diffusion: Diffusion | ProductDiffusion,
    plan: SamplingPlan | PartsPlan | Iterable[tuple[S, S]],
    x: S,
    *,
    cond: Cond | None = None,
    carry: Carry | None = None,
    rng: Rng,
    solver: Solver | None = None,
) -> Iterator[Step[S]]:
    """Move a state along a plan.

    Args:
        denoiser: says x_0 given x_t.
        diffusion: what noise is.
        plan: rows of moves, as a plan, or as its `rows` are where many states share one.
        x: the state at the plan's first times, as `diffusion.prior` draws it: a tensor, or for a
            `ProductDiffusion` tensors by name. The denoiser is then given states and times by name,
            and says a `Prediction` for each.
        cond: conditions by name.
        carry: of an earlier call, or None.
        rng: key of all draws; one key per sample (`Rng.samples`) makes each sample's draws
            independent of the batch it is in.
        solver: how a move is made; by default DDIM, `ancestral(0)`. Parts are moved by `ancestral`
            and by `resampled` of it.

    Yields:
        One `Step` per row. Nothing is computed before it is asked for.

    Raises:
        ValueError: after the last row of a plan, what a guide has noted on a GPU.

    Warns:
        UserWarning: a plan that moves several tokens together, and a network that is `causal`.
    """
    warn_if_biased(denoiser, plan, x, stacklevel=2)
    return _steps(denoiser, diffusion, plan, x, cond, carry, rng, solver or ancestral())


@torch.no_grad()
def _steps(
    denoiser: Denoiser,
    diffusion: Diffusion | ProductDiffusion,
    plan: SamplingPlan | PartsPlan | Iterable[tuple[S, S]],
    x: S,
    cond: Cond | None,
    carry: Carry | None,
    rng: Rng,
    solver: Solver,
) -> Iterator[Step[S]]:
    carry, memory, result = dict(carry or {}), None, x
    noise: Any = diffusion
    rows: Any = plan.rows(x) if isinstance(plan, SamplingPlan | PartsPlan) else plan
    for index, (t, s) in enumerate(rows):
        if isinstance(x, dict):
            t, s = part_times(t, x), part_times(s, x)
        x, prediction, carry, memory = solver(
            denoiser, diffusion, x, t, s, cond, carry, memory, rng.fold("step", index)
        )
        result = map_state(_decided, noise.result(prediction, x, s), result, t, s)
        yield Step(index, t, s, x, prediction, result, carry)
    if isinstance(plan, SamplingPlan | PartsPlan):  # rows may be part of a recording
        tell(faults_of(carry))


def _decided(mean: Tensor, result: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """Per token, the mean of the last row that moved it."""
    return where_moved(mean, result, align(t, result), align(s, result))


def final(steps: Iterator[Step[S]]) -> Step[S]:
    """Run a sampling loop to its end and return the last step."""
    return deque(steps, maxlen=1)[0]


def draws(solver: Solver) -> bool:
    """Whether a solver's moves have noise of their own, as all have that do not say otherwise.

    A solver says it by an attribute, `draws`; `heun`, `dpm_solver_pp_2m` and `ancestral(0)` have
    False. With these a present has one future.
    """
    return bool(getattr(solver, "draws", True))


def ancestral(stochasticity: float = 0.0, variance: Literal["small", "large"] = "small") -> Solver:
    """DDIM (stochasticity 0) to DDPM (stochasticity 1), first order; each diffusion has its own.

    Args:
        stochasticity: eta in [0, 1].
        variance: of DDPM's noise: "small" (the posterior's) or "large" (the paper's default).

    References:
        J. Song, C. Meng, S. Ermon, 2021, arXiv 2010.02502, Eq. 12; J. Ho, A. Jain, P. Abbeel, 2020,
        2006.11239, Algorithm 2.
    """
    if not 0 <= stochasticity <= 1:
        raise ValueError(f"stochasticity must be in [0, 1], got {stochasticity}")
    if variance not in ("small", "large"):
        raise ValueError(f"variance must be 'small' or 'large', got {variance!r}")

    def move(denoiser, diffusion, x, t, s, cond, carry, memory, rng):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        prediction, carry = denoiser(x, t, cond, carry, rng.fold("denoiser"))
        x = diffusion.reverse(
            x, prediction, t, s, rng.fold("move"), stochasticity=stochasticity, variance=variance
        )
        return x, prediction, carry, memory

    vars(move)["draws"] = stochasticity > 0
    return move


def heun(data_std: float = 1.0) -> Solver:
    """The trapezoidal rule for the probability flow, second order, two calls per row.

    In the angle phi = atan2(sigma, d alpha) and y = x / sqrt(d^2 alpha^2 + sigma^2), the flow of
    every schedule is dy / dphi = cos(phi) eps - sin(phi) x_0 / d, which is regular at both ends.
    d = inf is the rule in y = x / alpha and r = sigma / alpha, EDM's, where dy / dr = eps; a row
    from alpha = 0 is then of first order. A scalar row that ends at 0 is a first-order move with
    one call, so N rows cost 2 N - 1 calls.

    Which d is best is a matter of the law. On Gaussian mixtures about 0 the angle, at d near their
    deviation, is 2 to 10 times as accurate as d = inf; told the component, d = inf is better than
    that, and d near the component's own better still at few steps (tests/test_disco_oracle.py).

    Args:
        data_std: d > 0.

    References:
        T. Karras et al., 2022, arXiv 2206.00364, Algorithm 1.
    """
    if not data_std > 0:
        raise ValueError(f"heun needs a data_std > 0, got {data_std}")
    d, straight = data_std, data_std == math.inf

    def place(alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        if straight:
            return sigma / alpha, alpha
        return torch.atan2(sigma, d * alpha), (d * d * alpha * alpha + sigma * sigma).sqrt()

    def slope(x: Tensor, mean: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        eps = (x - alpha * mean) / sigma.masked_fill(sigma <= 0, 1)
        if straight:
            return eps
        scale = (d * d * alpha * alpha + sigma * sigma).rsqrt()
        return (d * alpha * eps - sigma * mean / d) * scale

    def move(denoiser, diffusion, x, t, s, cond, carry, memory, rng):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        _check_flat(diffusion, x, "heun")
        first, carry = denoiser(x, t, cond, carry, rng.fold("denoiser"))
        end = diffusion.reverse(x, first, t, s)
        if s.ndim == 0 and s.device.type == "cpu" and s == 0:
            return end, first, carry, memory
        t, s = align(t, x), align(s, x)
        (alpha_t, sigma_t), (alpha_s, sigma_s) = diffusion.schedule(t), diffusion.schedule(s)
        (phi_t, radius_t), (phi_s, radius_s) = place(alpha_t, sigma_t), place(alpha_s, sigma_s)
        turn = phi_s - phi_t
        v_t = slope(x, diffusion.result(first, x, t), alpha_t, sigma_t)
        guess = (x / radius_t + turn * v_t) * radius_s
        second, carry = denoiser(guess, s, cond, carry, rng.fold("corrector"))
        v_s = slope(guess, diffusion.result(second, guess, s), alpha_s, sigma_s)
        new = (x / radius_t + turn * (v_t + v_s) / 2) * radius_s
        # A move to time 0 is the first-order one: v is 0 / 0 there.
        new = where_moved(new, end, s, torch.zeros_like(s))
        if straight:
            new = torch.where(alpha_t > 0, new, end)
        return where_moved(new, x, t, s), first, carry, memory

    vars(move)["draws"] = False
    return move


def dpm_solver_pp_2m() -> Solver:
    """DPM-Solver++ of order 2, multistep: one call per row, memory per token.

    With lambda = log-SNR / 2, h = lambda_s - lambda_t and h' the token's previous step,

        x_s = sigma_s / sigma_t x - alpha_s (exp(-h) - 1) (m + h / (2 h') (m - m')).

    A token's first move, and a move to time 0, are first order; a token that stays keeps its memory
    m', lambda'.

    References:
        C. Lu et al., 2022, arXiv 2211.01095, Algorithm 2.
    """

    def move(denoiser, diffusion, x, t, s, cond, carry, memory, rng):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        _check_flat(diffusion, x, "dpm_solver_pp_2m")
        prediction, carry = denoiser(x, t, cond, carry, rng.fold("denoiser"))
        mean, before, after = prediction.mean, align(t, x), align(s, x)
        now, then = diffusion.schedule.log_snr(before), diffusion.schedule.log_snr(after)
        # A token without memory has its last step infinitely long ago: its slope is 0.
        old_mean, old = memory or (mean, torch.full_like(now, -torch.inf))
        ratio = ((then - now) / (2 * (now - old))).nan_to_num(0.0, 0.0, 0.0)
        ratio = ratio.masked_fill(after == 0, 0)
        corrected = Prediction(mean + ratio * (mean - old_mean))
        memory = (
            where_moved(mean, old_mean, before, after),
            where_moved(now, old, before, after),
        )
        return diffusion.reverse(x, corrected, t, s), prediction, carry, memory

    vars(move)["draws"] = False
    return move


def resampled(solver: Solver, rounds: int) -> Solver:
    """Make every row `rounds` times: down from t to s, up again by q(x_t | x_s), and down.

    Where denoiser and steps are exact this changes no law. Where tokens move beside others that
    stay, or that disagree with them, each round lets them settle with the rest at one level. A
    token that stays is not touched. The calls of a row multiply by `rounds`.

    Args:
        solver: makes the moves down.
        rounds: k >= 1; 1 is the solver itself.

    References:
        A. Lugmayr et al., 2022, RePaint, arXiv 2201.09865, Algorithm 1, with a jump length of 1;
        B. Chen et al., 2024, Diffusion Forcing, arXiv 2407.01392, Appendix B.5.
    """
    if rounds < 1:
        raise ValueError(f"a row is made at least once, got {rounds} rounds")

    def move(denoiser, diffusion, x, t, s, cond, carry, memory, rng):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        for i in range(rounds - 1):
            key = rng.fold("round", i)
            lower, _, carry, _ = solver(denoiser, diffusion, x, t, s, cond, carry, memory, key)
            x = diffusion.renoise(lower, s, t, key.fold("up"))
        return solver(denoiser, diffusion, x, t, s, cond, carry, memory, rng)

    vars(move)["draws"] = rounds > 1 or draws(solver)
    return move


def _check_flat(diffusion: object, x: Tensor | dict[str, Tensor], solver: str) -> None:
    if isinstance(x, dict):
        raise TypeError(f"{solver} moves one tensor, not the parts {sorted(x)}: use ancestral")
    if isinstance(diffusion, RiemannianDiffusion):
        space = diffusion.manifold
        raise TypeError(f"{solver} moves on lines, which {space} has not: use ancestral")
    if not x.is_floating_point():
        raise TypeError(f"{solver} moves numbers, and classes are drawn: use ancestral")
