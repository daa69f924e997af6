"""How strongly guidance pulls: rules that make a factor of a scale, per sample.

A rule is a function `(scale, pulls, scores, times) -> factors`, all by part (one tensor is the part
""): pulls are what would be added to the scores at factor 1, on their subspaces, scores those of
the unguided model, None for classes. Factors broadcast to the parts.
"""

import math
from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from noiseloom.noise import Schedule
from noiseloom.schedule import wide
from noiseloom.shapes import align

__all__ = ["Rule", "bounded", "clipped", "constant", "decaying", "norm_ratio"]

Parts: TypeAlias = Mapping[str, Tensor]

Rule: TypeAlias = Callable[
    [float, Parts, Mapping[str, Tensor | None], Parts], Mapping[str, Tensor | float]
]
"""From a scale, and what is pulled, to factors."""


def constant(
    scale: float, pulls: Parts, scores: Mapping[str, Tensor | None], times: Parts
) -> Mapping[str, Tensor | float]:
    """The scale."""
    return dict.fromkeys(pulls, scale)


def decaying(base: float = 0.1) -> Rule:
    """Scale base^t: strongest at the end.

    Args:
        base: in (0, 1]: the share that is left at time 1.
    """
    _check(base)
    return lambda scale, pulls, scores, times: {
        name: scale * base ** align(times[name], pull) for name, pull in pulls.items()
    }


def norm_ratio(base: float = 0.1, order: Literal[1, 2] = 1) -> Rule:
    """Scale base^t |score|_p / |pull|_p of each sample: the pull is a share of the score.

    Norms are over all entries of a part, and each part has a ratio of its own. Where nothing pulls
    the factor is 0. MOOD's rule, whose weights are 0.4 to 0.7 and whose p is 1; it also multiplies
    the score by 0.8, which is another model's law, and is not done here.

    Args:
        base: in (0, 1].
        order: p. Of points in space it must be 2: the sum of absolute values changes as they turn,
            and samples would depend on how they lie.

    Raises:
        TypeError: classes, which have no score.

    References:
        S. Lee, J. Jo, S. J. Hwang, 2023, MOOD, arXiv 2206.07632 (released code).
    """
    _check(base)

    def rule(
        scale: float, pulls: Parts, scores: Mapping[str, Tensor | None], times: Parts
    ) -> Mapping[str, Tensor | float]:
        factors: dict[str, Tensor | float] = {}
        for name, pull in pulls.items():
            score = scores.get(name)
            if score is None:
                raise TypeError(
                    "norm_ratio compares a pull with the score, which is not known here: it is for "
                    "numbers, and for PropertyGuided"
                )
            height, length = (
                torch.linalg.vector_norm(v.flatten(1), order, dim=1) for v in (score, pull)
            )
            none = length == 0
            ratio = (height / length.masked_fill(none, 1)).masked_fill(none, 0)
            factors[name] = scale * base ** align(times[name], pull) * _like(ratio, pull)
        return factors

    return rule


def clipped(limit: float, rule: Rule = constant) -> Rule:
    """Another rule's factors, made smaller where a sample's pull is longer than `limit`.

    Its length is the Euclidean norm over all entries of all parts.

    Args:
        limit: > 0; the released sampler of materials has 10.
        rule: the factors before.
    """
    if not 0 < limit < math.inf:
        raise ValueError(f"a limit must be above 0, got {limit}")

    def clip(
        scale: float, pulls: Parts, scores: Mapping[str, Tensor | None], times: Parts
    ) -> Mapping[str, Tensor | float]:
        factors = rule(scale, pulls, scores, times)
        squares = [(factors[n] * pull).square().flatten(1).sum(1) for n, pull in pulls.items()]
        length = torch.stack(squares).sum(0).sqrt()
        share = (limit / length.clamp_min(limit)).clamp_max(1)
        return {n: factors[n] * _like(share, pull) for n, pull in pulls.items()}

    return clip


def bounded(schedules: Mapping[str, Schedule], limit: float = 3.0, rule: Rule = constant) -> Rule:
    """Another rule's factors, made smaller where the estimate of a sample would be moved too far.

        factor sigma^2 / alpha |pull| <= limit sqrt(n)    of each part

    n counts the entries that are pulled at all, which those of padding are not. So it is moved by
    `limit` in the root of the mean square over entries, which is `limit` deviations of data of unit
    deviation: no property that was learnt of such data asks for more. At high noise
    sigma^2 / alpha multiplies whatever a guide is off by, and a sample once thrown out of what the
    guide knows would be pulled on, ever harder.

    Args:
        schedules: of the parts that are bounded, by name: of Gaussian diffusions.
        limit: > 0.
        rule: the factors before.
    """
    if not 0 < limit < math.inf:
        raise ValueError(f"a limit must be above 0, got {limit}")

    def bound(
        scale: float, pulls: Parts, scores: Mapping[str, Tensor | None], times: Parts
    ) -> Mapping[str, Tensor | float]:
        factors = dict(rule(scale, pulls, scores, times))
        for name in pulls.keys() & schedules.keys():
            alpha, sigma = schedules[name](align(times[name], pulls[name]))
            moved = wide(factors[name] * pulls[name]) * (sigma * sigma / alpha.clamp_min(1e-12))
            entries = (moved != 0).flatten(1).sum(1).clamp_min(1)
            most = limit * entries**0.5
            share = most / moved.flatten(1).norm(dim=1).maximum(most)
            factors[name] = factors[name] * _like(share.to(pulls[name]), pulls[name])
        return factors

    return bound


def _check(base: float) -> None:
    if not 0 < base <= 1:
        raise ValueError(f"base must be in (0, 1], got {base}")


def _like(values: Tensor, x: Tensor) -> Tensor:
    """One number for each sample, shape (B, 1, ...)."""
    return values.reshape(-1, *(1,) * (x.ndim - 1))
