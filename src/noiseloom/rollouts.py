"""Rollouts: tokens without end from a causal denoiser, each read once after it is finished.

A chunk of tokens is denoised along a plan while the past is read from a cache. Then it is written
into the cache, once, at one fixed level of noise, the *stabilisation*: a model that was trained on
a level per token takes what it made itself, slightly wrong, for what it is. The noise is really
added: tokens that are made smaller and no more, as in released code, shrink the variance of what
follows (`tests/test_forcing_oracle.py`). S steps cost S + 1 reads of a token per branch of
guidance, and memory does not grow.

Caches of our networks have one size from the first token on, and positions are tensors on the
device, so that all calls but the context's have one form, and nothing waits for the device: a
network is compiled once (`compiled`), and making a token can be recorded as one CUDA graph.

The reference is one pass over the whole history with the same noise on it, each token seeing what
its band lets it see: equal to rounding, also after the cache began to forget
(`tests/test_rollout.py`).
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from numbers import Integral
from typing import Any, TypeAlias

import torch
from torch import Tensor

from noiseloom.carry import Carry, write_caches
from noiseloom.causality import memory_of, warn_of_bias
from noiseloom.denoiser import Denoiser
from noiseloom.diffusion import GaussianDiffusion
from noiseloom.faults import faults_of, tell
from noiseloom.plan import SamplingPlan
from noiseloom.replay import Replayed
from noiseloom.rng import Rng, per_sample
from noiseloom.sampling import Solver, final, sample
from noiseloom.shapes import Cond

__all__ = [
    "Finished",
    "TokenCond",
    "along",
    "check_counts",
    "check_start",
    "eagerly",
    "keys_of",
    "rollout",
]

TokenCond: TypeAlias = Cond | Callable[[int, int], Cond]
"""Conditions, the same for all tokens, or a function of the first token's index and their count."""


@dataclass(frozen=True)
class Finished:
    """What a rollout yields: tokens that will not change any more.

    Attributes:
        position: index of the first of them in the whole sequence.
        x: the tokens, shape (B, chunk, ...).
        carry: the caches with these tokens in them, and "position", int64 (B,) on the CPU, the
            index of the token that comes next. Another `rollout` that is given it goes on there.
    """

    position: int
    x: Tensor
    carry: Carry


def rollout(
    denoiser: Denoiser,
    diffusion: GaussianDiffusion,
    plan: SamplingPlan,
    context: Tensor,
    *,
    memory: int | None = None,
    chunk: int = 1,
    stabilisation: float = 0.02,
    cond: TokenCond | None = None,
    carry: Carry | None = None,
    position: int | None = None,
    rng: Rng,
    solver: Solver | None = None,
    graph: bool = False,
) -> Iterator[Finished]:
    """Continue a sequence, chunk after chunk, for as long as the caller asks for more.

    A finished token x is seen by later ones as alpha(t') x + sigma(t') eps, told as level t', eps
    drawn once. A self-conditioned denoiser is given its last estimate of x beside it (nothing for
    the context). Whoever stops asking has every token that was yielded.

    Only what is read from the cache is stabilised. Tokens of one chunk read each other as the plan
    has them, at their own times: one that is finished before its chunk is read at time 0, as it is,
    until the chunk is written. `SamplingPlan.rest` lets it wait at a small time.

    Args:
        denoiser: of a causal network that keeps a cache (`nets.CausalTransformer`,
            `nets.Recurrent`), in wrappers or not; each branch of guidance has its own cache.
        diffusion: what noise is.
        plan: moves one chunk from time 1 to 0: scalar times, or (1, chunk).
        context: the first tokens, or those that came after the ones of `carry`, as what a robot has
            seen: clean, shape (B, n, ...), n >= 0. It may be longer than the network's window, and
            is read in one pass, each token seeing what it would see in a pass over all of history:
            of `CausalTransformer` the last depth (window - 1) tokens count for the next one.
        memory: number of tokens that the caches keep, at least the network's `memory`, which is
            taken by default.
        chunk: tokens denoised at a time. More than one need an autoregressive plan, or the
            samples are biased, however many steps are taken.
        stabilisation: t' in [0, 1).
        cond: conditions of all tokens, or a function `(first, count) -> cond`, called when those
            tokens are asked for: so an action may depend on what was yielded (`along` is one). A
            "mask" covers the cached tokens too, shape (B, network.memory + count), whatever it
            says of those that have not been.
        carry: of an earlier rollout, which is gone on with.
        position: index of the first token of the context, or, without context, of the first one
            to be made; by default where `carry` goes on, or 0.
        rng: key of all draws; the draws of a token depend on its index, not on chunks.
        solver: how a move is made; by default DDIM.
        graph: on a GPU, record what makes a chunk, all steps and branches and the writing, as one
            CUDA graph, and replay it for all later ones. The host then does nothing per step, which
            at small batches is most of the time. Conditions may change in their numbers alone, and
            guidance must not wait for the device, as `MonteCarloGuided` does. Beside it, networks
            are compiled with `compiled(denoiser, graphs=False)`.

    Yields:
        One `Finished` per chunk.

    Raises:
        TypeError: a context of integers, no key, or a count that is not whole.
        ValueError: a stabilisation, memory or chunk out of range, a network that is not causal, a
            plan that does not fit or does not lead from 1 to 0, a context or actions that are not
            finite (as far as the host knows them), a position that is not where the carry goes on,
            a graph without a GPU; after a chunk, what a guide has noted on a GPU.

    References:
        B. Chen et al., 2024, Diffusion Forcing, arXiv 2407.01392, Algorithm 2 and Appendix C.4.
    """
    check_counts(memory=memory, chunk=chunk, position=position)
    if not 0 <= stabilisation < 1:
        raise ValueError(f"stabilisation is a time in [0, 1), got {stabilisation}")
    if chunk < 1 or (position or 0) < 0 or (memory is not None and memory < 0):
        raise ValueError(
            "a rollout needs memory >= 0, chunk >= 1 and position >= 0, got "
            f"{memory}, {chunk} and {position or 0}"
        )
    carry = dict(carry or {})
    begin = _where(carry.pop("position", None), position, bool(carry))
    kept = memory_of(denoiser, memory)
    check_start(plan, context)
    row = tuple(plan.t.shape[1:])
    if row and (len(row) == 1 or row[1] not in (1, chunk)):  # one axis is that of samples
        raise ValueError(
            f"a plan with rows of shape {row} does not fit chunks of {chunk}: times are scalar, or "
            f"(1, {chunk})"
        )
    if chunk > 1 and plan.joint:
        warn_of_bias(stacklevel=2)
    rng = per_sample(rng, context)
    empty = context.new_empty((len(context), chunk, *context.shape[2:]))
    rows = list(plan.rows(empty))
    level = torch.tensor(stabilisation, dtype=torch.float64)

    @torch.no_grad()
    def write(x: Tensor, carry: Carry, given: dict[str, Any], draws: Rng) -> Carry:
        seen = diffusion.corrupt(x, level.to(x.dtype), draws.fold("stabilisation"))
        given = {**given, "write": True}
        _, carry = denoiser(seen, level.to(x.dtype), given, carry, draws.fold("write"))
        return write_caches(carry, kept)

    @torch.no_grad()
    def make(
        given: dict[str, Any], carry: Carry, keys: Tensor
    ) -> tuple[Tensor, Carry, list[dict[str, Tensor]]]:
        draws = Rng(keys)
        noise = diffusion.prior(empty, draws.fold("prior"))
        steps = sample(
            denoiser,
            diffusion,
            rows,
            noise,
            cond=given,
            carry=carry,
            rng=draws.fold("sampling"),
            solver=solver,
        )
        last = final(steps)
        return last.x, write(last.x, last.carry, given, draws), faults_of(last.carry)

    making = Replayed(make, context.device) if graph else make

    def chunks(carry: Carry, start: int) -> Iterator[Finished]:
        if count := context.shape[1]:
            given, keys = _given(cond, start, count, context), keys_of(rng, start, count, context)
            with eagerly():
                carry = write(context, carry, given, Rng(keys))
            start += count
        while True:
            given, keys = _given(cond, start, chunk, context), keys_of(rng, start, chunk, context)
            x, carry, noted = making(given, carry, keys)
            tell(noted)
            then = torch.full((len(context),), start + chunk)
            yield Finished(start, x, {**carry, "position": then})
            start += chunk

    return chunks(carry, begin)


def along(cond: Cond | None = None, **sequences: Tensor) -> Callable[[int, int], Cond]:
    """Conditions of which every token has its own, for `rollout`.

    Args:
        cond: those that are the same for all tokens.
        sequences: by name ("action"), shape (B, N, ...), from token 0 on.

    Returns:
        `(first, count) -> cond`; it raises ValueError where a sequence is too short.

    Example:
        >>> along(action=torch.arange(5.0)[None])(3, 2)["action"].tolist()
        [[3.0, 4.0]]
    """

    def given(first: int, count: int) -> Cond:
        for name, values in sequences.items():
            if values.shape[1] < first + count:
                raise ValueError(
                    f"{name} is given for {values.shape[1]} tokens, and token {first + count - 1} "
                    "(from 0 on) is to be made: give a longer sequence, or ask for fewer tokens"
                )
        own = {name: values[:, first : first + count] for name, values in sequences.items()}
        return {**(cond or {}), **own}

    return given


def check_counts(**counts: int | None) -> None:
    """Raise TypeError for a number of tokens that is not whole; None is for a default."""
    for name, count in counts.items():
        if not isinstance(count, Integral | None):
            raise TypeError(f"{name} is a number of tokens, got {count!r}")


def check_start(plan: SamplingPlan, context: Tensor) -> None:
    """Refuse what would come out as noise: a context that is no signal, a plan that is cut short.

    Raises:
        TypeError: a context of integers.
        ValueError: one that is not finite, or a plan that does not lead from 1 to 0.
    """
    if not context.is_floating_point():
        raise TypeError(f"a context is an encoded state, floating point, not {context.dtype}")
    if context.device.type == "cpu" and not context.isfinite().all():  # elsewhere it is a wait
        raise ValueError("the context holds numbers that are not finite")
    if not plan.whole:
        raise ValueError(f"tokens are made by a plan that leads from 1 to 0, not a {plan}")


def _where(told: Tensor | None, position: int | None, going_on: bool) -> int:
    """The index of the first token, of a carry that says it, or of what is asked for."""
    if told is None:
        if going_on and position is None:
            raise ValueError(
                "this carry does not say how many tokens it has seen: give position, the index of "
                "the next one"
            )
        return position or 0
    begin, *others = sorted(set(told.tolist()))
    if others or position not in (None, begin):
        asked = f"its rows are at {[begin, *others]}" if others else f"got position {position}"
        raise ValueError(
            f"the carry of a rollout goes on at token {begin}, and {asked}: leave position out, "
            "and go on with rows that have come equally far"
        )
    return int(begin)


def _given(cond: TokenCond | None, first: int, count: int, x: Tensor) -> dict[str, Any]:
    found = cond(first, count) if callable(cond) else cond
    action, partly = (found or {}).get("action"), "action_mask" in (found or {})
    if (
        isinstance(action, Tensor)
        and action.device.type == "cpu"
        and not partly
        and not action.isfinite().all()
    ):
        raise ValueError(f"actions of tokens from {first} on hold numbers that are not finite")
    # A tensor, since compiled code is of one number; made by a fill, which waits for nothing.
    position = torch.full((), first, dtype=torch.int64, device=x.device)
    return {**(found or {}), "position": position}


def keys_of(rng: Rng, first: int, count: int, x: Tensor) -> Tensor:
    """Keys of tokens, shape (B, count), on the device of `x`: functions of their index alone."""
    keys = rng.each("token", torch.arange(first, first + count, device=x.device)).key
    assert isinstance(keys, Tensor)  # one per sample and token
    return keys


def eagerly(rare: bool = True) -> contextlib.AbstractContextManager[Any]:
    """One call of another length is not worth compiling for; nothing to do where nothing was."""
    if not rare or "torch._dynamo" not in sys.modules:
        return contextlib.nullcontext()
    stance: contextlib.AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return stance
