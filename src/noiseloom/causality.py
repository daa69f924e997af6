"""Causal denoisers: what they say of themselves, and a warning of plans they sample with a bias.

A network that sees no later token than its own says so by an attribute, `causal = True` (False is
one that sees all), and one that keeps a cache by `memory`, the tokens that it has to hold. Wrappers
say nothing: these are looked for in a denoiser, and in every sub-module that is called `network`.
"""

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from noiseloom.plan import SamplingPlan
from noiseloom.plan_parts import PartsPlan
from noiseloom.shapes import State

__all__ = [
    "is_causal",
    "memory_of",
    "said",
    "warn_if_biased",
    "warn_of_bias",
    "warn_of_known_after",
]


def said(denoiser: Any, name: str) -> list[Any]:  # noqa: ANN401
    """What a denoiser and its networks say of themselves.

    Args:
        denoiser: in wrappers or not; a plain function says nothing.
        name: of the attribute.
    """
    modules = denoiser.named_modules() if isinstance(denoiser, nn.Module) else ()
    inner = [m for n, m in modules if n.rpartition(".")[2] == "network"]
    return [getattr(m, name) for m in (denoiser, *inner) if hasattr(m, name)]


def is_causal(denoiser: Any) -> bool:  # noqa: ANN401
    """Whether it sees no later token than its own."""
    return any(causal is True for causal in said(denoiser, "causal"))


def memory_of(denoiser: Any, given: int | None = None) -> int:  # noqa: ANN401
    """The tokens that the caches of a rollout keep: `memory` of the networks, or more.

    Args:
        denoiser: in wrappers or not.
        given: what was asked for, if something was.

    Raises:
        ValueError: less than a network needs, one that is not causal, or nothing to go by.
    """
    found = [memory for memory in said(denoiser, "memory") if isinstance(memory, int)]
    if any(causal is False for causal in said(denoiser, "causal")):
        raise ValueError(
            "a rollout needs a causal network that keeps a cache, such as nets.CausalTransformer, "
            "and this one sees all tokens"
        )
    if given is None and not found:
        raise ValueError(
            "a rollout needs a causal network that keeps a cache, such as nets.CausalTransformer: "
            "this one has no `memory`, so say how many tokens its cache has to hold (memory=)"
        )
    least = max(found, default=0)
    if given is not None and given < least:
        raise ValueError(f"this network's cache has to hold {least} tokens, got memory {given}")
    return least if given is None else given


def warn_if_biased(denoiser: Any, plan: Any, x: State, stacklevel: int) -> None:  # noqa: ANN401
    """Warn of a plan that moves several tokens of a state together, if the denoiser is causal.

    Args:
        denoiser: in wrappers or not.
        plan: rows by themselves are their maker's affair; of a plan of parts that of each counts.
        x: the state; axis 1 are its tokens, or those of each part.
        stacklevel: 1 is the caller's own line.
    """
    if torch.compiler.is_compiling():
        return
    if isinstance(plan, PartsPlan) and isinstance(x, dict):
        pairs = [(plan.plans[name], part) for name, part in x.items() if name in plan.plans]
    elif isinstance(plan, SamplingPlan) and not isinstance(x, dict):
        pairs = [(plan, x)]
    else:
        return
    if any(_together(own, part) for own, part in pairs) and is_causal(denoiser):
        warn_of_bias(stacklevel + 1)


def _together(plan: SamplingPlan, x: Tensor) -> bool:
    """Whether it moves several tokens of x in a row, and in any."""
    sequence = x.ndim > 2 or (x.ndim == 2 and not x.is_floating_point())
    still = torch.equal(plan.t, plan.s)
    return sequence and x.shape[1] > 1 and plan.joint and not still


def warn_of_bias(stacklevel: int) -> None:
    """Say why a joint plan is wrong for a causal denoiser, and by how much.

    Args:
        stacklevel: 1 is the caller's own line.
    """
    warnings.warn(
        "this plan moves several tokens together, and a causal denoiser sees no later token than "
        "its own: such samples are biased, however many the steps (with the exact denoiser of an "
        "AR(1) process the covariance is off by 0.40 for full-sequence and a pyramid of slope 1, "
        "by 0.003 for autoregressive): use an autoregressive plan",
        stacklevel=stacklevel + 1,
    )


def warn_of_known_after(stacklevel: int, remedy: str = "--network bidirectional") -> None:
    """Say that what is known after a gap does not act on what a causal denoiser puts there.

    The figures are those of a step between two known ones in an AR(1) process of correlation r:
    variance 1 - r^2 given the one before, and (1 - r^2) / (1 + r^2) given both.

    Args:
        stacklevel: 1 is the caller's own line.
        remedy: the option to train with instead.
    """
    warnings.warn(
        "a causal network sees no later token than its own, so what is known after a gap does not "
        "act on what fills it (in an AR(1) process of correlation 0.8 a token between two known "
        "ones is drawn with variance 0.36 instead of 0.22, as if nothing followed): train with "
        f"{remedy}",
        stacklevel=stacklevel + 1,
    )
