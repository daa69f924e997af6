"""Likelihoods: the exact density that a denoiser's probability flow defines.

In the angle phi = atan2(sigma, alpha) and y = x / sqrt(alpha^2 + sigma^2), the flow of any Gaussian
diffusion is dy / dphi = v(y, phi) with v = cos(phi) eps - sin(phi) x_0, so

    ln p(y_0) = ln N(y_1; 0, 1) + integral of div v dphi from phi_0 to phi_1.
"""

import math

import torch
from torch import Tensor

from noiseloom.denoiser import Denoiser
from noiseloom.diffusion import GaussianDiffusion, Whole
from noiseloom.rng import Rng
from noiseloom.shapes import Cond

__all__ = ["flow_log_likelihood"]


def flow_log_likelihood(
    denoiser: Denoiser,
    diffusion: GaussianDiffusion,
    x: Tensor,
    rng: Rng,
    *,
    cond: Cond | None = None,
    start: float = 1e-3,
    steps: int = 50,
    probes: int | None = 1,
) -> Tensor:
    """The log-density of states at a small time under the probability flow.

    Fourth-order Runge-Kutta in phi. The density is that of x_t at t = `start`: for discrete data
    smoothed by its noise, not a bound on a probability. The denoiser is called without a carry, so
    that the field is a function of the state.

    Args:
        denoiser: says x_0 given x_t.
        diffusion: Gaussian, on the whole space.
        x: states at time `start`, shape (B, ...).
        rng: key of the probes.
        cond: conditions, batch first.
        start: time in (0, 1), where sigma > 0.
        steps: Runge-Kutta steps, four calls each.
        probes: random +-1 probes of Hutchinson's estimate of the divergence, unbiased; None for
            the exact trace, one backward pass per dimension.

    Returns:
        Nats, shape (B,).

    References:
        Y. Song et al., 2021, arXiv 2011.13456, Appendix D.2; W. Grathwohl et al., 2019, 1810.01367.
    """
    space = diffusion.subspace
    if not isinstance(space, Whole) or space.mask is not None:
        raise ValueError("the flow's likelihood is of the whole space, not of a subspace")
    schedule = diffusion.schedule
    ends = torch.tensor([start, 1.0], dtype=torch.float64)
    alpha, sigma = schedule(ends)
    phi_0, phi_1 = torch.atan2(sigma, alpha).tolist()
    radius_0 = float((alpha[0] ** 2 + sigma[0] ** 2).sqrt())
    dims = x[0].numel()
    signs = None
    if probes is not None:
        draws = [rng.fold("probe", i).uniform(x.shape, x.dtype, x.device) for i in range(probes)]
        signs = [torch.where(u < 0.5, -1.0, 1.0).to(x) for u in draws]

    def field(y: Tensor, phi: float) -> tuple[Tensor, Tensor]:
        phi = min(phi, phi_1)  # rounding would step over pi / 2
        cos, sin = math.cos(phi), math.sin(phi)
        t = schedule.time(torch.tensor(2 * (math.log(cos) - math.log(sin)), dtype=torch.float64))
        alpha, sigma = schedule(t)
        radius = float((alpha**2 + sigma**2).sqrt())
        with torch.enable_grad():
            y = y.detach().requires_grad_()
            mean = denoiser(y * radius, t, cond)[0].mean
            v = cos * (y - cos * mean) / sin - sin * mean
            return v.detach(), _divergence(v, y, signs)

    width = (phi_1 - phi_0) / steps
    y, change = x / radius_0, x.new_zeros(len(x))
    for i in range(steps):
        phi = phi_0 + i * width
        k1, d1 = field(y, phi)
        k2, d2 = field(y + width / 2 * k1, phi + width / 2)
        k3, d3 = field(y + width / 2 * k2, phi + width / 2)
        k4, d4 = field(y + width * k3, phi + width)
        y = y + width / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        change = change + width / 6 * (d1 + 2 * d2 + 2 * d3 + d4)
    prior = -0.5 * (y.square().flatten(1).sum(1) + dims * math.log(2 * math.pi))
    return prior + change - dims * math.log(radius_0)


def _divergence(v: Tensor, y: Tensor, signs: list[Tensor] | None) -> Tensor:
    """Trace of dv / dy, shape (B,), by probes or exactly."""
    if signs is None:
        flat = v.flatten(1)
        total = flat.new_zeros(len(flat))
        for i in range(flat.shape[1]):
            (row,) = torch.autograd.grad(flat[:, i].sum(), y, retain_graph=True)
            total = total + row.flatten(1)[:, i]
        return total
    total = v.new_zeros(len(v))
    for i, sign in enumerate(signs):
        keep = i + 1 < len(signs)
        (row,) = torch.autograd.grad(v, y, sign, retain_graph=keep)
        total = total + (row * sign).flatten(1).sum(1)
    return total / len(signs)
