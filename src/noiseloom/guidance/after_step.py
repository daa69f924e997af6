"""Guidance after each move, of the state itself: no tilt, and so a wrapper of a solver.

References:
    T. Weiss et al., 2023, Guided diffusion for inverse molecular design, Nature Computational
    Science 3 (GaUDI).
"""

from collections.abc import Sequence

from torch import Tensor

from noiseloom.context import Predictor
from noiseloom.diffusion import Diffusion, GaussianDiffusion, by_part
from noiseloom.diffusion.gaussian import where_moved
from noiseloom.guidance.acquisition import Acquisition
from noiseloom.guidance.gradient import check_guide, since
from noiseloom.guidance.property import pulled, uphill
from noiseloom.guidance.scaling import Rule, clipped
from noiseloom.sampling import Solver
from noiseloom.shapes import State, align

__all__ = ["deviation", "nudged"]


def nudged(
    solver: Solver,
    guide: Predictor,
    acquisition: Acquisition,
    scale: float = 1.0,
    *,
    rule: Rule | None = None,
    parts: Sequence[str] | None = None,
    told: Sequence[str] = ("mask",),
    begin: float = 1.0,
) -> Solver:
    """After each move to s, climb what a guide says of the state there.

        x_s <- x_s + deviation(t, s) factor C grad a(guide(x_s, s))

    with the posterior's deviation, sigma_s sqrt(1 - rho^2), that of the noise which DDPM adds. It
    is the deviation, not the variance, so that many steps of it do not tend to the law of a known
    likelihood, as `PropertyGuided` does: with twice the steps the pull is about sqrt(2) as strong.
    By default a step is at most 10 deviations long. Nothing is added in a move to time 0. One call
    of the guide a row, forward and back.

    The guide is told the level of the state that it sees, s; the released code tells it t.

    Args:
        solver: makes the move.
        guide: says mean and variance, in evaluation.
        acquisition: what is asked of it.
        scale: w; 0 is the solver itself.
        rule: how the factor is made of it; by default `clipped(10)`.
        parts: of a product, those that are moved; all by default. Classes are not.
        told: names of the conditions that the guide is told, too.
        begin: time from which on (downwards) a token is moved.

    Raises:
        ValueError: a begin out of range.
        TypeError: in a move, parts that are not of numbers.
    """
    check_guide(scale, begin)
    if scale == 0:
        return solver
    factor_of = clipped(10.0) if rule is None else rule

    def move(denoiser, diffusion, x, t, s, cond, carry, memory, rng):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        x, prediction, carry, memory = solver(
            denoiser, diffusion, x, t, s, cond, carry, memory, rng
        )
        if _at_0(s):
            return x, prediction, carry, memory
        before, after = by_part(diffusion, x, t), by_part(diffusion, x, s)
        for name in before if parts is None else parts:
            if not isinstance(space := before[name][0], GaussianDiffusion):
                which, kind = f"part {name!r}" if name else "this state", type(space).__name__
                raise TypeError(f"nudged moves numbers, and {which} is of {kind}: name other parts")
        grads = uphill(guide, acquisition, diffusion, x, s, cond, parts, told)
        times = {name: after[name][2] for name in grads}
        pulls = {
            name: pulled(before[name][0], since(begin, grad, times[name]))
            for name, grad in grads.items()
        }
        factors = factor_of(scale, pulls, {}, times)
        new = {name: part for name, (_, part, _) in after.items()}
        for name, pull in pulls.items():
            own, part, then = after[name]
            now, then = align(before[name][2], part), align(then, part)
            step = deviation(own, now, then) * (factors[name] * pull)
            new[name] = where_moved(part + step, part, now, then)
        return new.get("", new), prediction, carry, memory

    return move


def deviation(diffusion: Diffusion, t: Tensor, s: Tensor) -> Tensor:
    """sigma_s sqrt(1 - rho^2), the standard deviation of q(x_s | x_t, x_0); aligned times."""
    schedule = diffusion.schedule
    fresh = -(schedule.log_snr(t) - schedule.log_snr(s)).expm1().nan_to_num(0.0)
    return schedule(s)[1] * fresh.clamp_min(0).sqrt()


def _at_0(s: State) -> bool:
    """Whether the host knows that a row ends at time 0, all of it."""
    times = s.values() if isinstance(s, dict) else [s]
    return all(t.ndim == 0 and t.device.type == "cpu" and bool(t == 0) for t in times)
