"""Self-conditioning: a denoiser that sees what it said last.

A wrapper around any denoiser whose network reads `cond["estimate"]` (the previous mean) or
`cond["hidden"]` (the previous hidden state). What it said travels in the carry, so that every
solver, guidance and rollout works with it unchanged. Training's first pass is in `objective`.

Order matters. `SelfConditioned(ClassifierFree(d, ...))` is Bit Diffusion's: one estimate, made from
the guided output, is given to both branches. Hidden states belong to a branch:
`ClassifierFree(SelfConditioned(d, kind="hidden"), ...)`.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from noiseloom.carry import Carry
from noiseloom.diffusion import Prediction, mixed
from noiseloom.rng import Rng
from noiseloom.shapes import Cond, State, map_state

__all__ = ["SelfConditioned", "SelfGuided", "inside"]

_OWNER = "self_conditioning"


class SelfConditioned(nn.Module):
    """Gives a denoiser its own previous output.

    The estimate is x~ = m x~ + (1 - m) clip(mean), zero before the first call (the null condition).

    Args:
        denoiser: the inner denoiser; reads `cond[kind]`.
        kind: "estimate", the mean, in the state's shape (by name, if that has parts); "hidden",
            the network's hidden state.
        momentum: m in [0, 1); 0 is the default of the paper.
        limit: clip the estimate to [-limit, limit]; the level of the bits, or None.

    References:
        T. Chen, R. Zhang, G. Hinton, 2022, arXiv 2208.04202, Section 2 and Algorithm 5 (momentum);
        A. Jabri, D. Fleet, T. Chen, 2022, 2212.11972, Section 3.2 (hidden).
    """

    def __init__(
        self,
        denoiser: nn.Module,
        *,
        kind: Literal["estimate", "hidden"] = "estimate",
        momentum: float = 0.0,
        limit: float | None = None,
    ) -> None:
        super().__init__()
        if kind not in ("estimate", "hidden"):
            raise ValueError(f"kind must be 'estimate' or 'hidden', got {kind!r}")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {momentum}")
        self.denoiser = denoiser
        self.kind = kind
        self.momentum = momentum
        self.limit = limit

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        cond: Cond | None = None,
        carry: Carry | None = None,
        rng: Rng | None = None,
    ) -> tuple[Prediction, Carry]:
        """The prediction given the carry's estimate; the new estimate is in the new carry."""
        inner = dict(carry or {})
        known = inner.pop(_OWNER, {}).get(self.kind)
        if known is None and self.kind == "estimate":
            known = map_state(torch.zeros_like, x)
        given: dict[str, Any] = dict(cond or {})
        if known is not None:
            given[self.kind] = known
        prediction, inner = self.denoiser(x, t, given, inner, rng)
        value = self._value(prediction)
        if self.momentum:
            before = map_state(torch.zeros_like, value) if known is None else known
            value = map_state(self._blended, value, before)
        return prediction, {**inner, _OWNER: {self.kind: value}}

    def _blended(self, value: Tensor, before: Tensor) -> Tensor:
        # Before the first call there is none; that of classes has an axis more than they have.
        before = before if before.shape == value.shape else torch.zeros_like(value)
        return torch.lerp(value, before, self.momentum)

    def _value(self, prediction: Prediction | dict[str, Prediction]) -> State:
        if isinstance(prediction, dict):
            if self.kind == "hidden":
                raise ValueError("parts have no hidden state in common: use kind='estimate'")
            return {name: self._clipped(part.mean) for name, part in prediction.items()}
        if self.kind == "hidden":
            if prediction.hidden is None:
                raise ValueError(
                    "there is no hidden state to hand on: build the network with hidden "
                    "conditioning, and wrap guidance around SelfConditioned, not inside it, since "
                    "each branch has a hidden state of its own"
                )
            return prediction.hidden
        return self._clipped(prediction.mean)

    def _clipped(self, mean: Tensor) -> Tensor:
        return mean if self.limit is None else mean.clamp(-self.limit, self.limit)


def inside(trained: nn.Module, guide: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """A trained denoiser with guidance inside of its self-conditioning on the estimate, if any.

    Inside of self-guidance, too, which hands one on from its first call to its second; around one
    that hands on a hidden state, of which each branch has its own.
    """
    if isinstance(trained, SelfGuided):
        return SelfGuided(guide(trained.denoiser), trained.scale, limit=trained.limit)
    if not isinstance(trained, SelfConditioned) or trained.kind == "hidden":
        return guide(trained)
    core = guide(trained.denoiser)
    return SelfConditioned(core, momentum=trained.momentum, limit=trained.limit)


class SelfGuided(nn.Module):
    """Guides a self-conditioned denoiser with itself, in two calls per step.

    mean = u + scale (c - u) with u = f(x, estimate = 0) and c = f(x, estimate = u).

    Args:
        denoiser: the inner denoiser; reads `cond["estimate"]`.
        scale: 1 is the conditional output, 0 the unconditional one. The paper's good weights are 3
            to 5; its algorithm's body could not be read, so whether its weight is this scale or
            scale - 1 is open.
        limit: clip u to [-limit, limit] before it is given back, or None.

    References:
        T. Chen, R. Zhang, G. Hinton, 2022, arXiv 2208.04202, Algorithm 6.
    """

    def __init__(self, denoiser: nn.Module, scale: float, *, limit: float | None = None) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.scale = scale
        self.limit = limit

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        cond: Cond | None = None,
        carry: Carry | None = None,
        rng: Rng | None = None,
    ) -> tuple[Prediction, Carry]:
        """The guided prediction, and the carries of the two calls."""
        others = dict(carry or {})
        own = dict(others.pop("self_guided", {}))
        null = {**(cond or {}), "estimate": torch.zeros_like(x)}
        first, own["first"] = self.denoiser(x, t, null, own.get("first"), rng)
        estimate = first.mean if self.limit is None else first.mean.clamp(-self.limit, self.limit)
        known = {**(cond or {}), "estimate": estimate}
        second, own["second"] = self.denoiser(x, t, known, own.get("second"), rng)
        carry = {**others, "self_guided": own}
        if self.scale == 1:
            return second, carry
        if not x.is_floating_point():
            return mixed(x, ((self.scale, second), (1 - self.scale, first))), carry
        return Prediction(torch.lerp(first.mean, second.mean, self.scale)), carry
