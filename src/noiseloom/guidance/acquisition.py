"""What to ask of a guide: acquisition functions of its mean and variance, to be climbed.

Each maker returns a function from `GuideOutput`, in the units of the labels, to a number per state,
shape (B,); `PropertyGuided` and `nudged` climb it. With `minimise`, small values of the property
are wanted: then `lcb` is the optimistic bound and `ucb` the careful one.

With mean mu and variance s, grad ln N(y; mu, s) = (y - mu) / s grad mu + ((y - mu)^2 / s^2 - 1 / s)
/ 2 grad s: a guide that doubts itself pulls less.
"""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from noiseloom.context import GuideOutput

__all__ = ["Acquisition", "improvement", "lcb", "log_prob", "mean", "ucb", "weighted"]

Acquisition: TypeAlias = Callable[[GuideOutput], Tensor]
"""From what a guide says to what each state is worth, shape (B,)."""


def mean(*, index: int = 0, minimise: bool = False) -> Acquisition:
    """mu: the property itself, whatever the doubt.

    Args:
        index: which of the guide's properties.
        minimise: whether small values are wanted.
    """
    return _signed(lambda mu, s: mu, index, minimise)


def lcb(kappa: float = 1.0, *, index: int = 0, minimise: bool = False) -> Acquisition:
    """The lower confidence bound, mu - kappa sqrt(s).

    The released sampler of materials minimises it with kappa 1.

    Args:
        kappa: deviations, >= 0.
        index: which of the guide's properties.
        minimise: whether small values are wanted.
    """
    return _bound(-kappa, kappa, index, minimise)


def ucb(kappa: float = 1.0, *, index: int = 0, minimise: bool = False) -> Acquisition:
    """The upper confidence bound, mu + kappa sqrt(s).

    Args:
        kappa: deviations, >= 0.
        index: which of the guide's properties.
        minimise: whether small values are wanted.
    """
    return _bound(kappa, kappa, index, minimise)


def log_prob(target: float, *, index: int = 0, minimise: bool = False) -> Acquisition:
    """Ln N(y; mu, s): how likely a value y is, which is what Bayes' rule asks for.

    Args:
        target: y, in the units of the labels.
        index: which of the guide's properties.
        minimise: whether the value is to be avoided.
    """
    if not math.isfinite(target):
        raise ValueError(f"a target is a finite number, got {target}")

    def value(mu: Tensor, s: Tensor) -> Tensor:
        return -(s.log() + (target - mu).square() / s + math.log(2 * math.pi)) / 2

    return _signed(value, index, minimise)


def improvement(best: float, *, index: int = 0, minimise: bool = False) -> Acquisition:
    """Ln P(y > best), or ln P(y < best) to minimise: the log-probability of improvement.

    ln Phi((mu - best) / sqrt(s)), which keeps value and slope where the probability is 0 in
    floating point.

    Args:
        best: the value to be better than, in the units of the labels.
        index: which of the guide's properties.
        minimise: whether smaller values are better.
    """
    sign = -1.0 if minimise else 1.0
    return _signed(lambda mu, s: log_ndtr(sign * (mu - best) * s.rsqrt()), index)


def weighted(*terms: tuple[float, Acquisition]) -> Acquisition:
    """sum_k w_k a_k: several aims at once; of log-probabilities at weight 1, that all are met.

    Args:
        terms: weights and acquisition functions. Each is in the units of its own property.

    Raises:
        ValueError: there are none.
    """
    if not terms:
        raise ValueError("weighted needs one acquisition function or more")
    return lambda said: torch.stack([weight * aim(said) for weight, aim in terms]).sum(0)


def log_ndtr(z: Tensor) -> Tensor:
    """Ln Phi(z), as PyTorch's, with its slope phi(z) / Phi(z) = sqrt(2 / pi) / erfcx(-z / sqrt(2)).

    PyTorch's own is exp(-ln Phi - z^2 / 2), the difference of two large numbers: in float32 it is
    4 % off at z = -1,000, 6 times too large at -10,000, and next to nothing at -100,000.
    """
    function: Any = _LogNdtr
    found: Tensor = function.apply(z)
    return found


class _LogNdtr(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(z)
        found: Tensor = torch.special.log_ndtr(z)
        return found

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:  # noqa: ANN401
        (z,) = ctx.saved_tensors
        slope: Tensor = math.sqrt(2 / math.pi) / torch.special.erfcx(-z / math.sqrt(2))
        return grads[0] * slope


def _bound(side: float, kappa: float, index: int, minimise: bool) -> Acquisition:
    if not 0 <= kappa < math.inf:
        raise ValueError(f"a confidence bound needs kappa >= 0, got {kappa}")
    return _signed(lambda mu, s: mu + side * s.sqrt(), index, minimise)


def _signed(
    value: Callable[[Tensor, Tensor], Tensor], index: int, minimise: bool = False
) -> Acquisition:
    def aim(said: GuideOutput) -> Tensor:
        count = said.mean.shape[-1]
        if not -count <= index < count:
            raise ValueError(f"there is no property {index} of a guide of {count}")
        found = value(said.mean[:, index], said.variance[:, index])
        return -found if minimise else found

    return aim
