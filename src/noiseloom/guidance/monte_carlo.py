"""Monte Carlo guidance: a reward of whole sampled futures instead of one of the estimate.

From the noisy present x_t, R futures x_0 = F(x_t, z_j) are sampled to their ends with the denoiser
itself, each with draws of its own, every token given what was sampled for the others. For draws
that stay what they are, F is a differentiable function of the present, so that

    1 / R sum_j d r(F(x_t, z_j)) / d x_t

is an unbiased estimate of grad E[r(x_0) | x_t] at every R, of variance 1 / R. This is the paper's
guide. It is not the guide of the law p(x_0) exp(r(x_0)), which is

    grad log E[exp r(x_0) | x_t] = E[exp(r) grad r] / E[exp r]:

for Gaussians and a quadratic reward grad E[r] is even equal to the plug-in of `RewardGuided`. The
ratio over R futures, their gradients weighed by softmax(r), tends to it with a bias of order 1 / R.

The released code of the paper samples each token's clean value several times and hands later tokens
only the first: its R futures share one past, and miss the correlation of tokens.

References:
    B. Chen et al., 2024, Diffusion Forcing, arXiv 2407.01392, Section 3.4 and Appendix C.5.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from noiseloom.carry import Carry, repeat
from noiseloom.causality import is_causal, warn_of_bias
from noiseloom.diffusion import GaussianDiffusion, Prediction
from noiseloom.diffusion.gaussian import where_moved
from noiseloom.faults import Faults
from noiseloom.guidance.balance import tilted
from noiseloom.guidance.gradient import (
    Reward,
    check_guide,
    climbed,
    rate,
    remembering,
    since,
)
from noiseloom.plan import SamplingPlan
from noiseloom.rng import Rng, per_sample
from noiseloom.sampling import Solver, ancestral, draws
from noiseloom.shapes import Cond, align

__all__ = ["MonteCarloGuided", "completing"]


class MonteCarloGuided(nn.Module):
    """Moves the estimate to where sampled futures earn a larger reward.

        "mean": mean + sigma^2 / alpha C 1/R sum_j d (scale r_j) / d x_t
        "exp":  mean + sigma^2 / alpha C d log(1/R sum_j exp(scale r_j)) / d x_t

    r_j = r(F(x_t, z_j)), C the noise's covariance operator. A guided step costs one call, and one
    call with R times the batch, with a backward pass, per row of the completion. A call that only
    has a rollout's finished token remembered is a plain one.

    Args:
        denoiser: the inner denoiser, differentiable in x_t; makes the prediction and the futures.
        diffusion: what noise is.
        reward: r, from clean states (B, ...) to shape (B,), called once per future.
        scale: 0 is unguided (one plain call); with "exp", 1 aims at p(x_0) exp(r(x_0)).
        futures: R >= 1. They are a repeated batch, row b becoming rows b R ... (b + 1) R - 1.
            So are conditions, whose first axis is the batch; it is 1 for what is for all.
        plan: how a future is completed. Its times are cut at those of the present, min(., t), so
            that one plan from 1 to 0 serves every step; rows that then move nothing are not run
            (on a GPU, to know which waits once per guided step). A causal denoiser needs an
            autoregressive one, or it is warned of, once. Futures of few rows have the right mean
            and by default too little variance, by order 1 / rows (a quarter of it at 20, on an
            AR(1) process): "exp" feels that. `completing` loses far less of it.
        average: "mean" or "exp", of the futures' rewards.
        solver: how a future moves; by default `ancestral(1)`. It must draw noise: futures of a
            deterministic one are all the same, and a single point is no sample of x_0 given x_t.
        begin: as in `RewardGuided`.
        rounds: as in `RewardGuided`, of the mean reward of futures that are all moved alike: to the
            law of theirs, moved, that is nearest (KL) to theirs times exp(scale r), if that is
            Gaussian. Not with "exp", which knows how r bends and would be told so twice.
        recompute: keep the activations of one row at a time instead of all, for a second forward
            pass.

    Raises:
        TypeError: an rng that is no key.
        ValueError: no rng where there are futures to draw, fewer than one future, rounds with
            "exp", a plan that does not lead every token from 1 to 0 or is of other tokens than the
            state's, a solver without noise, a condition of another batch; and as `RewardGuided`.

    References:
        B. Chen et al., 2024, arXiv 2407.01392, Section 3.4.
    """

    def __init__(
        self,
        denoiser: nn.Module,
        diffusion: GaussianDiffusion,
        reward: Reward,
        scale: float = 1.0,
        *,
        futures: int,
        plan: SamplingPlan,
        average: Literal["mean", "exp"] = "mean",
        solver: Solver | None = None,
        begin: float = 1.0,
        rounds: int = 0,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        if futures < 1:
            raise ValueError(f"Monte Carlo guidance needs one future or more, got {futures}")
        if average not in ("mean", "exp"):
            raise ValueError(f"average must be 'mean' or 'exp', got {average!r}")
        check_guide(scale, begin, rounds)
        if rounds and average == "exp":
            raise ValueError("rounds are of the mean reward: with average='exp', leave rounds at 0")
        try:
            plan.check_whole()
        except ValueError as error:
            raise ValueError(f"the plan that completes futures: {error}") from error
        if solver is not None and not draws(solver):
            raise ValueError(
                "futures need a solver that draws noise, such as ancestral(1): of one that does "
                f"not, as this is, all {futures} of them are the same"
            )
        self.denoiser = denoiser
        self.diffusion = diffusion
        self.reward = reward
        self.scale = scale
        self.futures = futures
        self.plan = plan
        self.average = average
        self.solver = solver or ancestral(1.0)
        self.begin = begin
        self.rounds = rounds
        self.recompute = recompute
        self._watched = plan.joint and is_causal(denoiser)  # until it has been warned of

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        cond: Cond | None = None,
        carry: Carry | None = None,
        rng: Rng | None = None,
    ) -> tuple[Prediction, Carry]:
        """The guided prediction and the inner carry, which the futures start from and leave."""
        if self.scale == 0 or remembering(cond):
            prediction, carry = self.denoiser(x, t, cond, carry, rng)
            return prediction, carry or {}
        if rng is None:
            raise ValueError("Monte Carlo guidance draws futures: give rng")
        faults = Faults(x, self.scale, carry)
        carry = faults.inner
        with torch.enable_grad():
            state = x.detach().requires_grad_()
            ends = self._complete(state, t, cond, carry, rng).unbind(1)

        def gradient(shift: Tensor | float) -> Tensor:
            with torch.enable_grad():
                places = [end + shift for end in ends]
                rewards = torch.stack([rate(self.reward, place) for place in places], 1)
                value = self._worth(rewards)
                grad = climbed(value, rewards, state, places, faults, again=self.rounds > 1)
            return since(self.begin, grad, t)

        def worth(shift: Tensor) -> Tensor:
            rewards = [self.reward(end.detach() + shift) for end in ends]
            return self._worth(torch.stack(rewards, 1))

        with torch.no_grad():
            prediction, carry = self.denoiser(x, t, cond, carry, rng)
        guided = tilted(self.diffusion, prediction, gradient, worth, x, t, self.rounds)
        return guided, faults.onto(carry or {})

    def _worth(self, rewards: Tensor) -> Tensor:
        scaled = self.scale * rewards
        return scaled.mean(1) if self.average == "mean" else scaled.logsumexp(1)

    def _complete(
        self, x: Tensor, t: Tensor, cond: Cond | None, carry: Carry | None, rng: Rng
    ) -> Tensor:
        """Futures, shape (B, R, ...)."""
        batch, R = len(x), self.futures
        rows = self._rows(x, align(t, x))
        given = {
            name: _repeat(value, batch, R, name) if isinstance(value, Tensor) else value
            for name, value in (cond or {}).items()
        }
        carry, memory, rng = repeat(carry or {}, R), None, _futures(rng, x, R)
        x = x.repeat_interleave(R, 0)
        result = x
        for index, row in enumerate(rows):
            now, then = (_repeat(time, batch, R, "time") for time in row)
            args = (self.denoiser, self.diffusion, x, now, then, given, carry, memory)
            draws = rng.fold("step", index)
            if self.recompute:  # draws are functions of their keys: the second pass has the same
                x, prediction, carry, memory = checkpoint(
                    self.solver, *args, draws, use_reentrant=False, preserve_rng_state=False
                )
            else:
                x, prediction, carry, memory = self.solver(*args, draws)
            result = where_moved(prediction.mean, result, align(now, x), align(then, x))
        return result.reshape(batch, R, *x.shape[1:])

    def _rows(self, x: Tensor, now: Tensor) -> list[tuple[Tensor, Tensor]]:
        """The completion's rows, cut at the present, without those that move nothing."""
        try:
            rows = [
                (torch.minimum(align(t, x), now), torch.minimum(align(s, x), now))
                for t, s in self.plan.rows(x)
            ]
        except ValueError as error:
            raise ValueError(f"the plan that completes futures: {error}") from error
        watched = self._watched and x.ndim > 2 and not torch.compiler.is_compiling()

        def tokens(t: Tensor, s: Tensor) -> Tensor:
            """How many move, of the sample of which most do; or only whether any does."""
            moving = s < t
            return (
                moving.expand(x.shape).flatten(2).any(2).sum(1).max() if watched else moving.any()
            )

        moving: list[int] = torch.stack([tokens(*row) for row in rows]).tolist()
        if watched and max(moving) > 1:
            self._watched = False
            warn_of_bias(stacklevel=2)
        return [row for row, moves in zip(rows, moving, strict=True) if moves]


def completing(variance: Literal["small", "large"] = "large") -> Solver:
    """How a future moves: `ancestral(1, variance)`, but without noise in a token's last row.

    This is DDPM's algorithm to the letter. Of data of unit variance a row of the large variance
    leaves the right one, where the small one, which takes the estimate for the truth, loses some in
    each row: of an AR(1) process of 17 tokens and correlation 0.8 or 0.95, futures from noise or
    from time 0.6 have these shares of their variance (tests/test_guidance_futures.py):

        full sequence, 4, 8, 16 rows     large 0.62 .. 0.75  0.82 .. 0.93  0.91 .. 0.99
                                         small 0.31 .. 0.39  0.48 .. 0.60  0.67 .. 0.76
        pyramid 1, 8 steps, 23 rows      large 0.91 .. 1.03  small 0.49 .. 0.62
        autoregressive, 4, 8, 64, 128 r. large 0.70 .. 0.96  1.07 .. 1.15
                                         small 0.23 .. 0.40  0.43 .. 0.58

    A last row of noise would be no more than that: later tokens would take it for what is certain.

    References:
        J. Ho, A. Jain, P. Abbeel, 2020, arXiv 2006.11239, Algorithm 2 and Section 3.2.
    """
    inner = ancestral(1.0, variance)

    def move(denoiser, diffusion, x, t, s, cond, carry, memory, rng):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        new, prediction, carry, memory = inner(
            denoiser, diffusion, x, t, s, cond, carry, memory, rng
        )
        end, there = align(s, x), align(t, x)
        mean = diffusion.result(prediction, x, there)
        return torch.where((end == 0) & (there > 0), mean, new), prediction, carry, memory

    return move


def _repeat(value: Tensor, batch: int, times: int, name: str) -> Tensor:
    """What has an entry per example is repeated like the examples; the rest is for all of them."""
    if value.ndim == 0:
        return value
    if len(value) not in (1, batch):
        raise ValueError(
            f"futures are repeated examples, {batch} of them, and the first axis of {name!r} of "
            f"shape {tuple(value.shape)} is another: give what is for all as (1, ...)"
        )
    return value.repeat_interleave(times, 0) if len(value) == batch else value


def _futures(rng: Rng, x: Tensor, count: int) -> Rng:
    """A key per future of each example, in the order of a repeated batch."""
    keys = per_sample(rng, x).each("future", torch.arange(count, device=x.device)).key
    assert isinstance(keys, Tensor)  # (B, R), or (B, T, R) where tokens have keys
    return Rng(keys.movedim(-1, 1).flatten(0, 1))
