"""What classes that are drawn anew from a law pi need, by gathers, and no one-hot vector.

A token y of noise gamma [k = y] + (1 - gamma) pi_y, and a law p of its clean class, have

    w_k = p_k / q(y | k),   S = sum_k w_k,   r(j) = gamma w_j + (1 - gamma) pi_j S,

where q(y | k) is one number for k = y and another for all other k. So r is p but for what is at y,
times a number a token, and pi times another; and r_0, that of a clean class c, is pi times a number
but at y and c.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from noiseloom.schedule import unrounded

__all__ = ["Law", "evidence", "law_of", "moved", "shortfall"]


@dataclass(frozen=True, eq=False)
class Law:
    """A law pi of classes on a device.

    Attributes:
        pi: probabilities, shape (K,) or (T, K); of the uniform law one number.
        inverse: 1 / pi, 0 where pi is.
        none: 1 where pi is 0, and 0 elsewhere; None if it is 0 nowhere.
    """

    pi: Tensor | float
    inverse: Tensor | float
    none: Tensor | None = None

    def at(self, x: Tensor) -> Tensor | float:
        """The pi of classes x, shape (...)."""
        if isinstance(self.pi, float):
            return self.pi
        if self.pi.ndim == 1:
            return self.pi[x]
        every = self.pi.expand(*x.shape, self.pi.shape[-1])
        return every.gather(-1, x[..., None])[..., 0]


def law_of(
    probabilities: Tensor | None, classes: int, dtype: torch.dtype, device: torch.device
) -> Law:
    """The law, uniform over `classes` without `probabilities`; copied to a device once."""
    if probabilities is None:
        return Law(1 / classes, float(classes))
    return _law(probabilities, dtype, device)


@lru_cache(maxsize=32)
def _law(probabilities: Tensor, dtype: torch.dtype, device: torch.device) -> Law:
    with torch.inference_mode(False):  # copied once: a copy would wait for the device
        pi = probabilities.double()
        inverse = torch.where(pi > 0, 1 / pi.masked_fill(pi <= 0, 1), 0)
        none = (pi <= 0).to(device, dtype) if bool((pi <= 0).any()) else None
        return Law(pi.to(device, dtype), inverse.to(device, dtype), none)


def evidence(x: Tensor, law: Law, gamma: Tensor, noise: Tensor, classes: int) -> Tensor:
    """The ln q(x | x_0 = k) of all k, shape (*x.shape, K).

    Args:
        x: classes of a state.
        law: pi.
        gamma: the share that is kept, of the shape of x or 1s.
        noise: 1 - gamma.
        classes: K.
    """
    # Times that the host knows stay there, but for what has the shape of x.
    far = torch.zeros(x.shape, dtype=gamma.dtype, device=x.device) + noise * law.at(x)
    found = far.log()[..., None].expand(*x.shape, classes).clone()
    return found.scatter_(-1, x[..., None], (gamma + far).log()[..., None])


def moved(
    p: Tensor,
    x: Tensor,
    law: Law,
    gamma: tuple[Tensor, Tensor],
    noise: tuple[Tensor, Tensor],
    kept: tuple[Tensor, Tensor],
) -> Tensor:
    """The law of x_s given x_t, sum_k p_k q(x_s | x_t, x_0 = k), shape (*x.shape, K).

    Args:
        p: of the clean class, shape (*x.shape, K).
        x: x_t.
        law: pi.
        gamma: at t and at s.
        noise: 1 - gamma, likewise.
        kept: gamma_t / gamma_s, and 1 less that, which a short step would round off.
    """
    rest, (own,), (far, near) = _parts(p, x[..., None], law.at(x), gamma[0], noise[0])
    every = rest.sum(-1) / far + own / near
    anew = kept[1] * law.at(x)  # the chance to arrive from any other class
    level = noise[1] * every
    found = rest * (gamma[1] * anew / far)[..., None] + law.pi * (anew * level)[..., None]
    here = (kept[0] + anew) * (gamma[1] * own / near + level * law.at(x))
    found = found.scatter(-1, x[..., None], here[..., None])
    return found / found.sum(-1, keepdim=True)


def shortfall(
    p: Tensor, clean: Tensor, x: Tensor, law: Law, gamma: Tensor, noise: Tensor
) -> Tensor:
    """What a prediction falls short, sum over j != y of r - r_0 + r_0 log(r_0 / r).

    With f(e) = e - log(1 + e) >= 0 it is sum_j r_0(j) f(r(j) / r_0(j) - 1), where r_0(j) is noise
    pi_j S_0 for all j but c: near time 1 these ratios are 1 but for terms of gamma, and the loss
    divides by gamma, so that 1 must not be there to be rounded. Where pi_j is 0, and j is not c, it
    is r(j), what the prediction hopes for and cannot be.

    Args:
        p: of the clean class, shape (*x.shape, K), which add up to 1.
        clean: c.
        x: y.
        law: pi.
        gamma: the share that is kept, > 0, of the shape of x or 1s.
        noise: 1 - gamma, > 0.

    Returns:
        >= 0, in the shape of x.
    """
    both = torch.stack((x, clean), -1)
    rest, (own, p_c), (far, near) = _parts(p, both, law.at(x), gamma, noise)
    same = clean == x
    unit = torch.where(same, 1 / near, 1 / far)  # S_0
    others = rest.sum(-1) + torch.where(same, 0, p_c)
    # S / S_0 - 1, and what p_j / pi_j adds to it; a ratio of almost 0 is nothing beside that of c.
    level = torch.where(same, others / far, -own / near) * gamma
    level = level.clamp_min(-1 + 1e-6)
    slope = gamma / (far * unit * noise)
    if isinstance(law.inverse, float):
        excess = torch.addcmul(level[..., None], rest, (slope * law.inverse)[..., None])
    else:
        excess = torch.addcmul(level[..., None], rest * law.inverse, slope[..., None])
    total = _weighed(excess - excess.log1p(), law.pi)
    # At c, where it is not y, r_0 is another: gamma S_0 more.
    pi_c = law.at(clean)
    due = gamma + noise * pi_c  # r_0(c) / S_0
    lacks = (noise * pi_c * level - gamma * (1 - p_c)) / due
    ratio = (noise * pi_c * (others + own * far / near) + gamma * p_c) / due
    high = lacks > -0.5  # below, 1 + lacks has lost digits of the ratio
    log = torch.where(high, lacks.where(high, 0).log1p(), ratio.where(~high, 1).log())
    absent = law.at(x) + (~same).to(p.dtype) * pi_c  # whose ratio is not 1 + level
    total = noise * (total - absent * (level - level.log1p()))
    total = unit * (total + torch.where(same, 0, due * (lacks - log)))
    return total if law.none is None else total + _weighed(rest, law.none) * (gamma / far)


def _parts(
    p: Tensor, places: Tensor, pi: Tensor | float, gamma: Tensor, noise: Tensor
) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, Tensor]]:
    """The p without what is at some places, what is at each, and q(x | k) of other k and of x.

    Of these `pi` is that at x, the first of the places (..., n).
    """
    tiny = torch.finfo(p.dtype).tiny
    # Not the sum less what is there: where that is nearly all, nothing would be left but rounding.
    rest, there = p.scatter(-1, places, 0.0), p.gather(-1, places).unbind(-1)
    far = torch.zeros_like(there[0]) + noise * pi
    return rest, there, (far.clamp_min(tiny), (gamma + far).clamp_min(tiny))


def _weighed(values: Tensor, pi: Tensor | float) -> Tensor:
    """The sum of pi times values over classes."""
    if isinstance(pi, float):
        return values.sum(-1) * pi
    if pi.ndim > 1:
        return (values * pi).sum(-1)
    with unrounded(values):
        return values @ pi
