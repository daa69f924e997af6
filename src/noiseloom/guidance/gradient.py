"""Guidance by the gradient of a reward through the estimate.

The exact guide of the law p(x_0) exp(r(x_0)) is grad log E[exp r(x_0) | x_t]. Here the expectation
is taken into the reward: grad r(E[x_0 | x_t]), one backward pass. `MonteCarloGuided` does not.

References:
    H. Chung et al., 2023, Diffusion Posterior Sampling, arXiv 2209.14687, Theorem 1 (its bias); B.
    Chen et al., 2024, Diffusion Forcing, arXiv 2407.01392, Algorithm 2, line 10.
"""

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

from noiseloom.carry import Carry, detach
from noiseloom.diffusion import GaussianDiffusion, Prediction
from noiseloom.faults import Faults, waits
from noiseloom.guidance.balance import tilted
from noiseloom.rng import Rng
from noiseloom.shapes import Cond, align

__all__ = [
    "Reward",
    "RewardGuided",
    "check_guide",
    "checked",
    "climbed",
    "rate",
    "remembering",
    "since",
    "slopes",
]

Reward: TypeAlias = Callable[[Tensor], Tensor]
"""From clean states (B, ...) to what each is worth, shape (B,), differentiable."""


class RewardGuided(nn.Module):
    """Moves the estimate to where a reward of it is larger.

        mean = m + scale sigma^2 / alpha C d r(m) / d x_t,  m = m(x_t) the inner mean,

    C being the noise's covariance operator (`GaussianDiffusion.tilt`). One call with a backward
    pass, which keeps nothing: what is returned, the carry too, is detached.

    The plug-in r(E[x_0]) is exact where x_0 is Gaussian given x_t and r linear, and biased
    otherwise. With v the variance of x_0 given x_t, the gradient of r = -(x_0 - g)^2 / (2 w) is too
    large by 1 + v / w: worst at high noise.

    With `rounds`, the gradient is that of the place one comes to (`balance`): exact in that example
    in one round, and where r is a distance, a scale of any size leads to the goal, not beyond it.

    Args:
        denoiser: the inner denoiser, differentiable in x_t.
        diffusion: what noise is.
        reward: r, from estimates of x_0, shape (B, ...), to shape (B,): a log-likelihood, or minus
            a cost over a temperature.
        scale: 1 aims at p(x_0) exp(r(x_0)), 0 is unguided (one plain call).
        begin: time in [0, 1] from which on (downwards) a token is guided. Before it sigma^2 / alpha
            is large (13,000 at t = 1 for a cosine), and multiplies what the derivative of a learned
            network is off by; 0.95 is safe where 1 throws samples far away.
        rounds: of `balance`, each with a backward pass and none with another call; 0 for the
            plug-in. Tokens that `begin` leaves where they are pull others by the plug-in.

    Raises:
        ValueError: a scale or begin out of range, rounds below 0, a reward of another shape,
            without a gradient in the state, or not finite. On a GPU that is noted in the carry, and
            read where it costs one wait: once a plan or a chunk of a rollout (`noiseloom.faults`).
    """

    def __init__(
        self,
        denoiser: nn.Module,
        diffusion: GaussianDiffusion,
        reward: Reward,
        scale: float = 1.0,
        *,
        begin: float = 1.0,
        rounds: int = 0,
    ) -> None:
        super().__init__()
        check_guide(scale, begin, rounds)
        self.denoiser = denoiser
        self.diffusion = diffusion
        self.reward = reward
        self.scale = scale
        self.begin = begin
        self.rounds = rounds

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        cond: Cond | None = None,
        carry: Carry | None = None,
        rng: Rng | None = None,
    ) -> tuple[Prediction, Carry]:
        """The guided prediction and the inner carry, without gradients."""
        if self.scale == 0 or remembering(cond):
            prediction, carry = self.denoiser(x, t, cond, carry, rng)
            return prediction, carry or {}
        faults = Faults(x, self.scale, carry)
        with torch.enable_grad():
            state = x.detach().requires_grad_()
            prediction, carry = self.denoiser(state, t, cond, faults.inner, rng)
        score = None if prediction.score is None else prediction.score.detach()
        plain = Prediction(prediction.mean.detach(), score=score)

        def gradient(shift: Tensor | float) -> Tensor:
            with torch.enable_grad():
                place = prediction.mean + shift
                worth = rate(self.reward, place)[:, None]
                value = self.scale * worth[:, 0]
                grad = climbed(value, worth, state, (place,), faults, again=self.rounds > 1)
            return since(self.begin, grad, t)

        def worth(shift: Tensor) -> Tensor:
            return self.scale * self.reward(plain.mean + shift)

        guided = tilted(self.diffusion, plain, gradient, worth, x, t, self.rounds)
        return guided, faults.onto(detach(carry or {}))


def check_guide(scale: float, begin: float, rounds: int = 0) -> None:
    """Refuse options that a guide could not mean.

    Raises:
        ValueError: one of them is out of range.
    """
    if not math.isfinite(scale):
        raise ValueError(f"the scale of guidance is a number, got {scale}")
    if not 0 <= begin <= 1:
        raise ValueError(f"begin must be a time in [0, 1], got {begin}")
    if rounds < 0:
        raise ValueError(f"rounds must be at least 0, got {rounds}")


def remembering(cond: Cond | None) -> bool:
    """Whether a call has a finished token read into a cache, and nothing decided (`rollout`)."""
    return bool(cond and cond.get("write"))


def rate(reward: Reward, x: Tensor) -> Tensor:
    """The rewards of clean states, shape (B,), after a look at their form.

    Raises:
        ValueError: as in `RewardGuided`.
    """
    return formed(reward(x), x)


def formed(value: Tensor, x: Tensor) -> Tensor:
    """What a reward says of states x, if it is of the right form.

    Raises:
        ValueError: another shape than (B,), or no gradient.
    """
    if not isinstance(value, Tensor) or value.shape != x.shape[:1]:
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"a reward is one number per example, shape ({len(x)},), got {got}")
    if not value.requires_grad:
        raise ValueError(
            "the reward has no gradient in the state: compute it in torch, outside no_grad, by "
            "operations that have one"
        )
    return value


def checked(value: Tensor, x: Tensor) -> Tensor:
    """What a guide says of states x, if it may.

    Raises:
        ValueError: another shape, no gradient, or not finite, as far as the host knows it.
    """
    formed(value, x)
    if waits(value) and not (finite := value.isfinite()).all():
        first = int((~finite).nonzero()[0])
        if not x[first].isfinite().all():
            raise ValueError(
                f"what is to be rewarded of example {first} is not finite: guidance has thrown it "
                "too far, so lower its scale, or begin it later"
            )
        wrong = float(value[first].detach())
        raise ValueError(f"guidance needs finite rewards, got {wrong} for example {first}")
    return value


def climbed(
    value: Tensor,
    rewards: Tensor,
    x: Tensor,
    estimates: Sequence[Tensor],
    faults: Faults,
    *,
    again: bool = False,
) -> Tensor:
    """The gradient in x_t of values of shape (B,), each a function of its own row.

    Args:
        value: what is climbed.
        rewards: what it is made of, shape (B, R).
        x: x_t.
        estimates: R clean states that were rewarded; their own gradients come with that of x_t.
        faults: takes note of what is not finite.
        again: keep what the gradient passes through for another one.

    Raises:
        ValueError: something is not finite, where the host knows it; elsewhere it is noted.
    """
    leaves = (x, *estimates)
    grad, *pulls = torch.autograd.grad(
        value.sum(), leaves, retain_graph=again, materialize_grads=True
    )
    faults.note(estimates, rewards, grad, pulls)
    return grad


def slopes(
    value: Tensor, leaves: Sequence[Tensor], *, again: bool = False, advice: str
) -> tuple[Tensor, ...]:
    """The gradients in several tensors of values of shape (B,), each a function of its own row.

    Args:
        value: shape (B,).
        leaves: the tensors.
        again: keep what the gradients pass through for other ones.
        advice: what is said where they are not finite, as far as the host knows it.

    Raises:
        ValueError: they are not.
    """
    total = value.sum()
    grads = torch.autograd.grad(total, leaves, retain_graph=again, materialize_grads=True)
    if any(waits(grad) and not grad.isfinite().all() for grad in grads):
        raise ValueError(advice)
    return grads


def since(begin: float, grad: Tensor, t: Tensor) -> Tensor:
    """A gradient without the tokens that are at a later (noisier) time than `begin`."""
    return grad if begin >= 1 else torch.where(align(t, grad) > begin, 0, grad)
