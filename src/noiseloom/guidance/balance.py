"""Where a reward and a Gaussian balance: steps of a guide that do not overshoot."""

from collections.abc import Callable

import torch
from torch import Tensor

from noiseloom.diffusion import GaussianDiffusion, Prediction

__all__ = ["balance", "tilted"]

SMALLEST, HALVINGS = 24, 16
"""A line search looks from 2^-24 of a step to all of it, to 0.03 %; it calls no network."""


def tilted(
    diffusion: GaussianDiffusion,
    prediction: Prediction,
    gradient: Callable[[Tensor | float], Tensor],
    worth: Callable[[Tensor], Tensor],
    x: Tensor,
    t: Tensor,
    rounds: int,
) -> Prediction:
    """The prediction, moved by a reward: by its plug-in, or with rounds, to where both `balance`.

    Args:
        diffusion: what noise is.
        prediction: m, without gradient.
        gradient: d r(m + z) / d x_t of shifts z, shape (B, ...).
        worth: r(m + z), shape (B,), differentiable in z.
        x: x_t.
        t: its time.
        rounds: 0 for the plug-in.
    """
    first = gradient(0.0)
    if not rounds:
        return diffusion.tilt(prediction, first, x, t)

    def step(grad: Tensor) -> Tensor:
        return diffusion.tilt(prediction, grad, x, t).mean - prediction.mean

    shift = balance(worth, lambda shift: step(gradient(shift)), step(first), rounds)
    return Prediction(prediction.mean + shift)


def balance(
    worth: Callable[[Tensor], Tensor],
    pull: Callable[[Tensor], Tensor],
    first: Tensor,
    rounds: int,
) -> Tensor:
    """How far the mean m of x_0 given x_t is moved by a reward r that is taken as it is.

    The plug-in moves m by V grad r(m), V being the covariance of x_0 given x_t. That is right for
    a linear r, and too far where r bends: where it is a distance to a goal at a low temperature, a
    thousand times beyond the goal. The mode of N(z; m, V) exp r(z) is at

        z = m + V grad r(z),

    the gradient being that of the place one comes to. With z = m + V lambda, a round moves lambda
    part of the way to grad r(z), up to the largest r(z) - lambda V lambda / 2 on that line.

    For a linear r the first round takes the plug-in's whole step. For a quadratic one of a single
    direction, -(a x - g)^2 / (2 w), it takes 1 / (1 + a V a / w) of it, to the mean of the law
    p(x_0 | x_t) exp(r(x_0)), if that is Gaussian; more rounds tend to it for other concave rewards.
    Tokens that are not moved, as those of pure noise, are not balanced.

    Args:
        worth: r(m + z), shape (B,), of shifts z (B, ...), differentiable.
        pull: V grad r(m + z) of shifts z, a backward pass of the network.
        first: V grad r(m).
        rounds: number of rounds.

    Returns:
        z - m, each example with lines of its own.

    References:
        M. Frank, P. Wolfe, 1956, "An algorithm for quadratic programming" (of lambda).
    """
    shift, force = torch.zeros_like(first), torch.zeros_like(first)
    one = first.new_ones(len(first), *(1,) * (first.ndim - 1))
    for index in range(rounds):
        to, turn = (pull(shift) if index else first) - shift, _slope(worth, shift) - force

        def rise(s: Tensor, shift: Tensor = shift, to: Tensor = to, left: Tensor = force) -> Tensor:
            """Slope on the line, of r(z) - lambda V lambda / 2."""
            slope = _slope(worth, shift + s * to) - left - s * turn  # noqa: B023
            return (slope * to).flatten(1).sum(1).reshape(one.shape)

        # Parts from 2^-24 to 1 are halved by their logarithm: they may be small, not unsure.
        low, high = -SMALLEST * one, 0 * one
        up, whole = rise(0 * one) >= 0, rise(one) >= 0
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            further = rise(middle.exp2()) > 0
            low, high = torch.where(further, middle, low), torch.where(further, high, middle)
        part = torch.where(whole, 1, low.exp2()) * up
        shift, force = shift + part * to, force + part * turn
    return shift


def _slope(worth: Callable[[Tensor], Tensor], shift: Tensor) -> Tensor:
    with torch.enable_grad():
        shift = shift.detach().requires_grad_()
        value = worth(shift)
        (slope,) = torch.autograd.grad(value.sum(), shift)
    # A place where the reward is not finite is no place to go to: NaN is larger than nothing.
    lost = ~value.detach().isfinite()
    return slope.masked_fill(lost.reshape(-1, *(1,) * (slope.ndim - 1)), torch.nan)
