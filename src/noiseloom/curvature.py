"""How straight a denoiser's probability flow is, and how fast its functions change.

In the EDM picture, y = x / alpha against r = sigma / alpha, the flow of every Gaussian diffusion is

    dy / dr = G(y, r) = (y - D(y, r)) / r,    T = G / |G|,    kappa = |dT / dr| / |G|

with D the denoiser and dT / dr taken along the flow. A path of curvature 0 is made by one step,
however long. The mean of kappa over samples has a heavy tail, for |G| vanishes near points of
symmetry: report the median, or the straightness, chord by arc, which is bounded.

|J_D| and |J_G| are not one claim: of a mixture of Gaussians, told its component, J_D is smaller at
every r, but J_G = (1 - J_D) / r is larger where r is above the spread of the modes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from noiseloom.denoiser import Denoiser
from noiseloom.diffusion import GaussianDiffusion
from noiseloom.plan import SamplingPlan
from noiseloom.rng import Rng
from noiseloom.sampling import Solver, heun, sample
from noiseloom.shapes import Cond

__all__ = ["FlowGeometry", "JacobianSquares", "curvature", "flow_geometry", "jacobian_squares"]


@dataclass(frozen=True)
class JacobianSquares:
    """Squared Frobenius norms of two functions of y = x / alpha.

    Attributes:
        denoiser: |dD / dy|^2, shape (..., B).
        drift: |dG / dy|^2, same shape.
    """

    denoiser: Tensor
    drift: Tensor


@dataclass(frozen=True)
class FlowGeometry:
    """What was measured along trajectories, at the start of N rows of a plan: all, or those asked.

    Attributes:
        ratio: r = sigma / alpha, shape (N,).
        curvature: kappa, shape (N, B); in units of 1 / y.
        jacobian: squared norms of shape (N, B).
        straightness: chord / arc length of the path of y, in (0, 1], shape (B,).
    """

    ratio: Tensor
    curvature: Tensor
    jacobian: JacobianSquares
    straightness: Tensor

    @property
    def median(self) -> Tensor:
        """Median curvature over the samples, shape (N,)."""
        return self.curvature.median(1).values


def curvature(
    denoiser: Denoiser,
    diffusion: GaussianDiffusion,
    x: Tensor,
    t: Tensor,
    *,
    cond: Cond | None = None,
    step: float | None = None,
) -> Tensor:
    """The curvature of the probability flow through given states.

    Exact by one forward-mode derivative: with G' = dG / dr along the flow, kappa = |G' - (T . G')
    T| / |G|^2. Or, with a `step`, by a difference: one Euler step back to r (1 - step), kappa = |T
    - T_back| / |y - y_back|, two calls, for networks without forward derivatives (compiled ones)
    and in enough precision: T is known to about 1e-7 / step in float32. The denoiser is called
    without a carry, so that the field is a function of the state.

    Args:
        denoiser: says x_0 given x_t.
        diffusion: Gaussian.
        x: states, shape (B, ...).
        t: their times, shape () or (B,), where alpha and sigma are not 0.
        cond: conditions, batch first.
        step: share of r, in (0, 1); None for the exact value. (The paper's step is 0.001 in r.)

    Returns:
        kappa, shape (B,), in units of 1 / y: 0 is straight.

    References:
        Y. Xu et al., 2024, DisCo-Diff, arXiv 2407.03300, Appendix F.3.
    """
    if step is not None and not 0 < step < 1:
        raise ValueError(f"step is a share of sigma / alpha in (0, 1), got {step}")
    y, r, drift = _field(denoiser, diffusion, x, t, cond)
    # The plain form of attention is the one that has forward derivatives.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        G = drift(y, r)[0]
        if step is not None:
            back = y - _like(r * step, y) * G
            turn = _unit(G) - _unit(drift(back, r * (1 - step))[0])
            return _norm(turn) / _norm(y - back)
        change = jvp(lambda y, r: drift(y, r)[0], (y, r), (G, torch.ones_like(r)))[1]
        T = _unit(G)
        along = (T * change).flatten(1).sum(1)
        return _norm(change - _like(along, y) * T) / _norm(G).square()


def jacobian_squares(
    denoiser: Denoiser,
    diffusion: GaussianDiffusion,
    x: Tensor,
    t: Tensor,
    rng: Rng,
    *,
    cond: Cond | None = None,
    probes: int | None = 1,
) -> JacobianSquares:
    """Squared Frobenius norms of the Jacobians of denoiser and drift, named apart.

    Args:
        denoiser: says x_0 given x_t; samples must not see one another.
        diffusion: Gaussian.
        x: states, shape (B, ...).
        t: their times, shape () or (B,), where alpha and sigma are not 0.
        rng: key of the probes.
        cond: conditions, batch first.
        probes: random +-1 probes v of Hutchinson's estimate E |v J|^2, unbiased of the squares;
            None for the exact ones, one backward pass per dimension.

    Returns:
        |J_D|^2 and |J_G|^2, each of shape (B,).

    References:
        Y. Xu et al., 2024, DisCo-Diff, arXiv 2407.03300, Appendix F.3 (|J_G|^2, its "complexity").
    """
    if probes is not None and probes < 1:
        raise ValueError(f"probes must be at least 1, got {probes}: None is for exact squares")
    y, r, drift = _field(denoiser, diffusion, x, t, cond)
    count = y[0].numel() if probes is None else probes
    squares_d, squares_g = torch.zeros_like(r), torch.zeros_like(r)
    with torch.enable_grad():
        y = y.detach().requires_grad_()
        mean = drift(y, r)[1]
        for i in range(count):
            if probes is None:
                v = torch.zeros_like(y).flatten(1)
                v[:, i] = 1
                v = v.reshape(y.shape)
            else:
                draw = rng.fold("probe", i).uniform(y.shape, torch.float32, y.device)
                v = torch.where(draw < 0.5, -1.0, 1.0).to(y)
            (row,) = torch.autograd.grad(mean, y, v, retain_graph=i + 1 < count)
            squares_d += _norm(row).square()
            squares_g += (_norm(v - row) / r).square()
    share = 1 if probes is None else count
    return JacobianSquares(squares_d / share, squares_g / share)


def flow_geometry(
    denoiser: Denoiser,
    diffusion: GaussianDiffusion,
    plan: SamplingPlan,
    x: Tensor,
    rng: Rng,
    *,
    cond: Cond | None = None,
    solver: Solver | None = None,
    step: float | None = None,
    probes: int | None = 1,
    at: Sequence[int] | None = None,
) -> FlowGeometry:
    """Curvature, Jacobians and straightness along the paths that a sampler takes.

    Args:
        denoiser: says x_0 given x_t.
        diffusion: Gaussian.
        plan: rows of one time for all that touch, the first where alpha is not 0.
        x: states at the plan's first time, shape (B, ...).
        rng: key of all draws.
        cond: conditions, batch first.
        solver: deterministic; by default `heun`.
        step: as for `curvature`.
        probes: as for `jacobian_squares`.
        at: rows to measure curvature and Jacobians at, in any order, which costs several calls
            each; by default all. What a row has does not depend on the others.

    Raises:
        IndexError: a row that the plan has not.
        ValueError: a plan with times per token, whose flow is no path in one r, with gaps, between
            whose rows the state is at no time of its own, or from alpha = 0.
    """
    if plan.t.ndim != 1:
        raise ValueError(f"a flow's geometry needs one time for all, not a {plan}")
    if not plan.gapless:
        raise ValueError(
            "a flow's geometry needs rows that touch: leave overshoot and restarts out"
        )
    rows = range(len(plan.t))
    places = [rows[i] for i in (rows if at is None else at)]
    alpha, sigma = diffusion.schedule(plan.t)
    _check(alpha, sigma)
    bends, squares = {}, {}
    arc, start, here = torch.zeros(len(x)).to(x), x / alpha[0], x
    steps = sample(denoiser, diffusion, plan, x, cond=cond, rng=rng, solver=solver or heun())
    for t, (i, row) in zip(plan.t, enumerate(steps), strict=True):
        if i in places:
            key = rng.fold("geometry", i)
            bends[i] = curvature(denoiser, diffusion, here, t, cond=cond, step=step)
            squares[i] = jacobian_squares(
                denoiser, diffusion, here, t, key, cond=cond, probes=probes
            )
        end = row.x / diffusion.schedule(row.s)[0]
        arc += _norm(end - here / alpha[i])
        here = row.x
    return FlowGeometry(
        (sigma / alpha).to(x.dtype)[places],
        _rows([bends[i] for i in places], x),
        JacobianSquares(
            _rows([squares[i].denoiser for i in places], x),
            _rows([squares[i].drift for i in places], x),
        ),
        _norm(end - start) / arc,
    )


_Drift = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def _field(
    denoiser: Denoiser, diffusion: GaussianDiffusion, x: Tensor, t: Tensor, cond: Cond | None
) -> tuple[Tensor, Tensor, _Drift]:
    """States y, ratios r of shape (B,), and the function (y, r) -> (G, D)."""
    if t.ndim > 1 or t.shape not in ((), x.shape[:1]):
        raise ValueError(
            f"a time of shape {tuple(t.shape)} for states of shape {tuple(x.shape)}: the flow is a "
            "path in one sigma / alpha, so give one time, or one per sample"
        )
    schedule = diffusion.schedule
    alpha, sigma = schedule(t.to(x.device, torch.promote_types(t.dtype, torch.float32)))
    _check(alpha, sigma)
    r = (sigma / alpha).to(x.dtype).expand(len(x)).contiguous()
    y = x / _like(alpha.to(x.dtype).expand(len(x)), x)

    def drift(y: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
        # One time per sample, never a number of the host's: those have no derivative.
        t = schedule.time(-2 * r.log())
        mean = denoiser(y * _like(schedule(t)[0], y), t, cond)[0].mean
        return (y - mean) / _like(r, y), mean

    return y, r, drift


def _check(alpha: Tensor, sigma: Tensor) -> None:
    if (alpha <= 0).any() or (sigma <= 0).any():
        raise ValueError(
            "x / alpha against sigma / alpha is a picture of times where neither is 0: start below "
            "time 1, and end above 0"
        )


def _rows(values: list[Tensor], x: Tensor) -> Tensor:
    return torch.stack(values) if values else x.new_zeros(0, len(x))


def _like(r: Tensor, y: Tensor) -> Tensor:
    return r.reshape(-1, *(1,) * (y.ndim - 1))


def _norm(y: Tensor) -> Tensor:
    return y.flatten(1).square().sum(1).sqrt()


def _unit(y: Tensor) -> Tensor:
    return y / _like(_norm(y), y)
