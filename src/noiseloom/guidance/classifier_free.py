"""Classifier-free guidance.

References:
    J. Ho, T. Salimans, 2022, Classifier-Free Diffusion Guidance, arXiv 2207.12598, Algorithm 2.
"""

from torch import Tensor, nn

from noiseloom.carry import Carry
from noiseloom.diffusion import Prediction, mixed
from noiseloom.rng import Rng
from noiseloom.shapes import Cond

__all__ = ["ClassifierFree"]

_OWNER = "classifier_free"


class ClassifierFree(nn.Module):
    """Moves the estimate away from what it would be without some conditions.

    mean = u + scale (c - u), of classes ln p likewise (`mixed`), c with all conditions and u
    without those in `drop`: two calls, each with a carry of its own. At scale 1 and 0 only the call
    that counts is made.

    Args:
        denoiser: the inner denoiser, trained with the conditions in `drop` absent at times.
        scale: 1 is conditional, 0 unconditional. The paper's (and Bit Diffusion's) weight w is
            scale - 1.
        drop: the conditions to leave out. Never the self-conditioning estimate: both branches are
            given the same.

    References:
        J. Ho, T. Salimans, 2022, arXiv 2207.12598, Eq. 6.
    """

    def __init__(
        self, denoiser: nn.Module, scale: float, *, drop: tuple[str, ...] = ("label",)
    ) -> None:
        super().__init__()
        if "estimate" in drop or "hidden" in drop:
            raise ValueError("guidance never drops self-conditioning: use SelfGuided for that")
        self.denoiser = denoiser
        self.scale = scale
        self.drop = drop

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        cond: Cond | None = None,
        carry: Carry | None = None,
        rng: Rng | None = None,
    ) -> tuple[Prediction, Carry]:
        """The guided prediction and the carries of the branches."""
        others = dict(carry or {})
        own = dict(others.pop(_OWNER, {}))
        null = {k: v for k, v in (cond or {}).items() if k not in self.drop}
        if self.scale == 1:
            with_, own["with"] = self.denoiser(x, t, cond, own.get("with"), rng)
            return with_, {**others, _OWNER: own}
        without, own["without"] = self.denoiser(x, t, null, own.get("without"), rng)
        if self.scale == 0:
            return without, {**others, _OWNER: own}
        with_, own["with"] = self.denoiser(x, t, cond, own.get("with"), rng)
        carry = {**others, _OWNER: own}
        if not x.is_floating_point():
            return mixed(x, ((self.scale, with_), (1 - self.scale, without))), carry
        return Prediction(without.mean + self.scale * (with_.mean - without.mean)), carry
