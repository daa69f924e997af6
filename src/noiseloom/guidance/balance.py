"""Where a reward and a Gaussian balance: steps of a guide that do not overshoot."""

from collections.abc import Callable

import torch
from torch import Tensor

from noiseloom.diffusion import GaussianDiffusion, Prediction

__all__ = ["balance", "tilted"]

SMALLEST, HALVINGS = 64, 18
"""A line search looks from 2^-64 of a step to all of it, to 0.02 %; it calls no network."""


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

    nowhere = Prediction(torch.zeros_like(prediction.mean))

    def step(grad: Tensor) -> Tensor:
        return diffusion.tilt(nowhere, grad, x, t).mean

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
    thousand times beyond the goal. The mode of N(m + z; m, V) exp r(m + z), which is the proximal
    point of -r in the metric of V, is at

        z = V grad r(m + z),

    the gradient being that of the place one comes to. With z = V lambda, a round moves lambda part
    of the way to grad r(m + z), up to the largest r(m + z) - lambda V lambda / 2 on that line (of a
    concave r; of another, to a place where that stops rising).

    For a linear r the first round takes the plug-in's whole step. For a quadratic one of a single
    direction, -(a x - g)^2 / (2 w), it takes 1 / (1 + a V a / w) of it, to the mean of the law
    p(x_0 | x_t) exp(r(x_0)), if that is Gaussian. For other concave rewards, more rounds tend to
    the mode.

    Tokens that are not moved, as those of pure noise, stay at m: what they earn does not bend, and
    how they pull others is taken as it is. A reward of such tokens alone is the plug-in's.

    Args:
        worth: r(m + z), shape (B,), of shifts z (B, ...), differentiable.
        pull: V grad r(m + z) of shifts z, a backward pass of the network.
        first: V grad r(m).
        rounds: number of rounds.

    Returns:
        z, each example with lines of its own.

    References:
        K. Bredies, D. Lorenz, P. Maass, 2009, "A generalized conditional gradient method and its
        connection to an iterative shrinkage method" (rounds: only r is made linear).
    """
    shift = force = torch.zeros_like(first)
    for index in range(rounds):
        to, turn = (pull(shift) if index else first) - shift, _slope(worth, shift) - force
        part = _part(worth, shift, to, force, turn)
        shift, force = shift + part * to, force + part * turn
    return shift


def _part(
    worth: Callable[[Tensor], Tensor], shift: Tensor, to: Tensor, force: Tensor, turn: Tensor
) -> Tensor:
    """How much of a step to take, in [0, 1], shape (B, 1, ...)."""

    def rise(s: Tensor | float) -> Tensor:
        """Slope on the line, of r(m + z) - lambda V lambda / 2."""
        return _dot(_slope(worth, shift + s * to) - force - s * turn, to)

    start = _dot(turn, to)  # rise(0)
    # Parts from 2^-64 to 1 are halved by their logarithm: they may be small, not unsure.
    low, high = torch.full_like(start, -SMALLEST), torch.zeros_like(start)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        further = rise(middle.exp2()) > 0
        low, high = torch.where(further, middle, low), torch.where(further, high, middle)
    return torch.where(rise(1.0) >= 0, 1, low.exp2()) * (start >= 0)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Of every example, shape (B, 1, ...)."""
    return (a * b).reshape(len(a), -1).sum(1).reshape(-1, *(1,) * (a.ndim - 1))


def _slope(worth: Callable[[Tensor], Tensor], shift: Tensor) -> Tensor:
    with torch.enable_grad():
        shift = shift.detach().requires_grad_()
        value = worth(shift)
        (slope,) = torch.autograd.grad(value.sum(), shift, materialize_grads=True)
    # A place where the reward is not finite is no place to go to: NaN is never larger than 0.
    lost = ~value.detach().isfinite()
    return slope.masked_fill(lost.reshape(-1, *(1,) * (slope.ndim - 1)), torch.nan)
