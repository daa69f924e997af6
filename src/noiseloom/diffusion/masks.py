"""What masks need: a token is hidden or seen, and a move down frees a share of those hidden.

Between log-SNRs a mask goes with probability 1 - u_s / u_t, u = 1 - gamma, and then for a class of
p(x_0 | x_t); what is seen stays. `ratios` is the same of classes that are drawn anew.
"""

import torch
from torch import Tensor
from torch.nn import functional

from noiseloom.diffusion.class_draws import placed
from noiseloom.rng import Rng
from noiseloom.schedule import wide

__all__ = ["evidence", "moved", "unmasked"]


def evidence(x: Tensor, classes: int) -> Tensor:
    """The ln q(x | x_0 = k), shape (*x.shape, K): 0 of a mask, and of one seen for itself alone."""
    hidden = (x == classes)[..., None]
    found = torch.where(hidden, 0.0, -torch.inf).expand(*x.shape, classes).clone()
    return found.scatter_(-1, x.clamp_max(classes - 1)[..., None], 0.0)


def moved(p: Tensor, x: Tensor, now: Tensor, then: Tensor) -> Tensor:
    """The law of x_s given x_t: probabilities of K classes and the mask.

    Args:
        p: of the clean class, shape (*x.shape, K).
        x: x_t.
        now: log-SNR at t, of the shape of x or 1s, or a number.
        then: at s.
    """
    freed = _freed(now, then)
    # With an axis for classes; a number stays one, and on the host.
    freed = (freed[..., None] if freed.ndim else freed).to(p.dtype)
    law = torch.cat((freed * p, (1 - freed) * torch.ones_like(p[..., :1])), -1)
    classes = p.shape[-1]
    hidden = (x == classes)[..., None]
    return torch.where(hidden, law, functional.one_hot(x, classes + 1).to(p))


def unmasked(x: Tensor, p: Tensor, now: Tensor, then: Tensor, rng: Rng) -> Tensor:
    """The draw of `moved`, whose law over K + 1 values need not be written down.

    One uniform number says both whether a mask goes, and for which class. Few go in a row: on the
    CPU, which need not wait to know them, only their classes are looked for.
    """
    freed, mass = _freed(now, then), wide(p).sum(-1)
    u = wide(rng.uniform(x.shape, device=x.device)) * (freed * mass + (1 - freed))
    goes = (x == p.shape[-1]) & (u < freed * mass)
    place = (u / freed.clamp_min(1e-300)).minimum(mass)
    if x.device.type != "cpu":
        return torch.where(goes, placed(p, place), x)
    new = x.clone()
    new[goes] = placed(p[goes], place[goes])
    return new


def _freed(now: Tensor, then: Tensor) -> Tensor:
    """The share of masks that go from log-SNR `now` to `then`."""
    kept = functional.logsigmoid(-then) - functional.logsigmoid(-now)  # ln of u_s / u_t
    return -torch.expm1(kept).nan_to_num(-1.0)
