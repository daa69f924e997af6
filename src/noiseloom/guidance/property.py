"""Guidance by a guide's opinion of the noisy state: what `RewardGuided` asks of the estimate.

A guide that has learnt p(y | x_t) at every level of noise gives grad ln p(y | x_t) itself, which
is what the conditional law's score has besides, in one pass through it and none back through the
denoiser.

References:
    P. Dhariwal, A. Nichol, 2021, Diffusion Models Beat GANs on Image Synthesis, arXiv 2105.05233,
    Section 4; L. Klarner et al., 2024, Context-Guided Diffusion, arXiv 2407.11942.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from noiseloom.carry import Carry
from noiseloom.context import Predictor
from noiseloom.context.guide import Times
from noiseloom.diffusion import (
    CategoricalDiffusion,
    Diffusion,
    GaussianDiffusion,
    ProductDiffusion,
    by_part,
    score_of,
)
from noiseloom.guidance.acquisition import Acquisition
from noiseloom.guidance.gradient import check_guide, checked, remembering, since, slopes
from noiseloom.guidance.scaling import Rule, constant
from noiseloom.rng import Rng
from noiseloom.shapes import Cond, State

__all__ = ["PropertyGuided", "check_space", "pulled", "uphill"]

_ADVICE = (
    "the guide's gradient is not finite: the samples have run away from what it knows; lower the "
    "scale, or clip the pull (scaling.clipped)"
)


class PropertyGuided(nn.Module):
    """Moves the estimate to where a guide says more of what is asked.

        numbers: mean = m + sigma^2 / alpha C (factor g),    g = grad a(guide(x_t, t))
        classes: p(x_0 = k) ~ p(x_0 = k) exp(factor (g_k - g_y)),  y the token's value now

    through `tilt`, C being the covariance operator of the noise. With a = `log_prob(y)`, a guide
    that says p(y | x_t) exactly, and scale 1, this is the law p(x_0 | y).

    For classes g is the gradient in the token's one-hot vector: what the guide would say if one
    token were k, to first order, and as if tokens were independent. Approximate, twice.

    Each call is one of the denoiser and one of the guide, forward and back. A guide that is too
    sure of itself pulls by 1 / variance, and may throw samples away: `scaling.clipped` limits that.

    Args:
        denoiser: the inner denoiser.
        diffusion: what noise is, in the denoiser and in the guide.
        guide: says mean and variance at noise level t, in evaluation.
        acquisition: what is asked of it, as `acquisition.log_prob(2.5)`.
        scale: w; 0 is unguided (the plain call).
        rule: how the factor is made of it (`scaling`); the scale itself by default.
        parts: names of the parts of a product that are moved; all by default.
        told: names of the conditions that the guide is told, too.
        begin: time in [0, 1] from which on (downwards) a token is guided: the guide's own range.

    Raises:
        ValueError: a guide of another space, unknown parts, a begin out of range; and, in a call,
            an acquisition of another shape or (read on the CPU only) a value or slope that is not
            finite.
    """

    def __init__(
        self,
        denoiser: nn.Module,
        diffusion: Diffusion | ProductDiffusion,
        guide: Predictor,
        acquisition: Acquisition,
        scale: float = 1.0,
        *,
        rule: Rule = constant,
        parts: Sequence[str] | None = None,
        told: Sequence[str] = ("mask",),
        begin: float = 1.0,
    ) -> None:
        super().__init__()
        check_guide(scale, begin)
        check_space(guide, diffusion, parts)
        self.denoiser = denoiser
        self.diffusion = diffusion
        self.guide = guide
        self.acquisition = acquisition
        self.scale = scale
        self.rule = rule
        self.parts = parts
        self.told = told
        self.begin = begin

    def forward(
        self,
        x: State,
        t: Times,
        cond: Cond | None = None,
        carry: Carry | None = None,
        rng: Rng | None = None,
    ) -> tuple[Any, Carry]:
        """The guided prediction (one for each part of a product) and the inner carry."""
        if self.scale == 0 or remembering(cond):
            prediction, carry = self.denoiser(x, t, cond, carry, rng)
            return prediction, carry or {}
        with torch.no_grad():
            prediction, carry = self.denoiser(x, t, cond, carry, rng)
        grads = uphill(
            self.guide, self.acquisition, self.diffusion, x, t, cond, self.parts, self.told
        )
        spaces = by_part(self.diffusion, x, t)
        said = {"": prediction} if "" in spaces else dict(prediction)
        times = {name: spaces[name][2] for name in grads}
        grads = {name: since(self.begin, grad, times[name]) for name, grad in grads.items()}
        pulls = {name: pulled(spaces[name][0], grad) for name, grad in grads.items()}
        scores = {
            name: None
            if isinstance(spaces[name][0], CategoricalDiffusion)
            else score_of(spaces[name][0], said[name], *spaces[name][1:])
            for name in grads
        }
        factors = self.rule(self.scale, pulls, scores, times)
        for name, grad in grads.items():
            own, part, time = spaces[name]
            said[name] = own.tilt(said[name], factors[name] * grad, part, time)
        return said[""] if "" in spaces else said, carry or {}


def uphill(
    guide: Predictor,
    acquisition: Acquisition,
    diffusion: Diffusion | ProductDiffusion,
    x: State,
    t: Tensor | Mapping[str, Tensor],
    cond: Cond | None,
    parts: Sequence[str] | None,
    told: Sequence[str],
) -> dict[str, Tensor]:
    """The gradients of an acquisition function in the parts of x_t.

    Numbers: in the shape of the part. Classes: shape (*x.shape, K), of each clean class, less that
    of the value that the token has.

    Raises:
        ValueError: as in `PropertyGuided`.
    """
    own = by_part(diffusion, x, t)
    moved = list(own) if parts is None else list(parts)
    known = {name: value for name, value in (cond or {}).items() if name in told}
    with torch.enable_grad():
        leaves = {name: part for name, (_, part, _) in own.items()}
        for name in moved:
            space, part, _ = own[name]
            if isinstance(space, CategoricalDiffusion):
                part = functional.one_hot(part, space.width).to(_dtype(guide))
            leaves[name] = part.detach().requires_grad_()
        state: State = leaves.get("", leaves)
        value = checked(acquisition(guide.predict(state, t, known)), next(iter(leaves.values())))
        chosen = [leaves[name] for name in moved]
        grads = dict(zip(moved, slopes(value, chosen, advice=_ADVICE), strict=True))
    for name in moved:
        space, part, _ = own[name]
        if isinstance(space, CategoricalDiffusion):
            here = grads[name].gather(-1, part[..., None])
            grads[name] = grads[name][..., : space.num_classes] - here
    return grads


def pulled(diffusion: Diffusion, grad: Tensor) -> Tensor:
    """What a gradient adds to the score: C grad on a subspace."""
    if isinstance(diffusion, GaussianDiffusion):
        return diffusion.subspace.covariance(grad)
    return grad


def check_space(
    guide: Predictor, diffusion: Diffusion | ProductDiffusion, parts: Sequence[str] | None
) -> None:
    """Whether a guide is of the states that are to be moved, as far as it says so.

    Raises:
        ValueError: it is not, or there are no such parts.
    """
    names = diffusion.parts if isinstance(diffusion, ProductDiffusion) else {}
    if parts is not None and (not parts or set(parts) - set(names)):
        raise ValueError(f"there are no parts {list(parts)} in {sorted(names) or 'one tensor'}")
    own = getattr(guide, "diffusion", None)
    if own is not None and (here := _space(diffusion)) != (there := _space(own)):
        raise ValueError(f"a guide of {there} cannot guide {here}: train one on these states")


def _space(diffusion: Diffusion | ProductDiffusion) -> str:
    """What a space is, in words."""
    if isinstance(diffusion, ProductDiffusion):
        parts = [f"{n}: {_space(own)}" for n, own in sorted(diffusion.parts.items())]
        return f"parts ({', '.join(parts)})"
    if isinstance(diffusion, CategoricalDiffusion):
        return f"{diffusion.kind} classes of {diffusion.num_classes}"
    if isinstance(diffusion, GaussianDiffusion):
        return f"numbers on {type(diffusion.subspace).__name__}"
    return type(diffusion).__name__


def _dtype(guide: object) -> torch.dtype:
    own = next(guide.parameters(), None) if isinstance(guide, nn.Module) else None
    return torch.get_default_dtype() if own is None else own.dtype
