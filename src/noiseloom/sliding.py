"""Sliding windows: what full-sequence diffusion does beyond its length, the baseline of rollouts.

A model that was trained on one time for all tokens knows no cleaner past. So what is known of a
window is given the window's own time at every step, with a noise of its own, and what the model
says of it is dropped: the replacement method (J. Ho et al., 2022, "Video Diffusion Models",
arXiv:2204.03458, Section 3.1). S steps cost S reads of the whole window for each chunk.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from noiseloom.carry import Carry
from noiseloom.denoiser import Denoiser
from noiseloom.diffusion import GaussianDiffusion, Prediction
from noiseloom.faults import faults_of, tell
from noiseloom.plan import SamplingPlan
from noiseloom.replay import Replayed
from noiseloom.rng import Rng, per_sample
from noiseloom.rollouts import (
    Finished,
    TokenCond,
    check_counts,
    check_start,
    eagerly,
    keys_of,
)
from noiseloom.sampling import Solver, ancestral, final, resampled, sample

__all__ = ["slide"]


def slide(
    denoiser: Denoiser,
    diffusion: GaussianDiffusion,
    plan: SamplingPlan,
    context: Tensor,
    *,
    window: int,
    chunk: int,
    stabilisation: float = 0.0,
    cond: TokenCond | None = None,
    rng: Rng,
    solver: Solver | None = None,
    rounds: int = 1,
    graph: bool = False,
) -> Iterator[Finished]:
    """Continue a sequence by chunks, each denoised at the end of a window of what is known.

    At times t of a row the known tokens are alpha(t_k) x + sigma(t_k) eps, t_k = max(t, t'), eps
    drawn once per token.

    Args:
        denoiser: of any network, causal or not.
        diffusion: what noise is.
        plan: moves the whole window from time 1 to 0: scalar times.
        context: the first tokens, clean, shape (B, n, ...), n >= 0.
        window: tokens of a window; at first there may be fewer.
        chunk: the last of them, which are made, 1 .. window.
        stabilisation: t' in [0, 1).
        cond: as for `rollout`.
        rng: key of all draws; those of a token depend on its index alone.
        solver: how a move is made; by default DDIM.
        rounds: times that a row is made, what is known put in anew each time (`resampled`).
        graph: on a GPU, record what makes a chunk as one CUDA graph.

    Yields:
        One `Finished` per chunk, with an empty carry.

    Raises:
        TypeError: a context of integers, no key, or a count that is not whole.
        ValueError: a chunk or stabilisation out of range, a context that is not finite, a plan
            with a time per token, or one that does not lead from 1 to 0.
    """
    check_counts(window=window, chunk=chunk)
    if not 1 <= chunk <= window or not 0 <= stabilisation < 1:
        raise ValueError(
            "a sliding window needs a chunk of 1 .. window tokens and a stabilisation in [0, 1), "
            f"got {chunk} of {window} and {stabilisation}"
        )
    check_start(plan, context)
    if plan.t.ndim > 1:
        raise ValueError(f"a sliding window has one time for all of its tokens, not {plan}")
    move = solver or ancestral()
    rng = per_sample(rng, context)
    dtype = torch.promote_types(context.dtype, torch.float32)
    times = torch.stack((plan.t, plan.s), -1).to(context.device, dtype)

    @torch.no_grad()
    def make(
        known: Tensor, given: dict[str, Any], keys: Tensor
    ) -> tuple[Tensor, list[dict[str, Tensor]]]:
        n = known.shape[1]
        past, draws = Rng(keys[:, :n]).fold("stabilisation"), Rng(keys[:, n:])
        whole = times[:, None, :].expand(-1, n + chunk, -1).clone()
        whole[:, :n].clamp_(min=stabilisation)

        def replaced(
            denoiser: Denoiser,
            diffusion: GaussianDiffusion,
            x: Tensor,
            t: Tensor,
            *more: Any,  # noqa: ANN401
        ) -> tuple[Tensor, Prediction, Carry, Any]:
            seen = diffusion.corrupt(known, t[:, :n], past)
            return move(denoiser, diffusion, torch.cat((seen, x[:, n:]), 1), t, *more)

        fresh = diffusion.prior(
            known.new_empty(len(known), chunk, *known.shape[2:]), draws.fold("prior")
        )
        steps = sample(
            denoiser,
            diffusion,
            [(row[None, :, 0], row[None, :, 1]) for row in whole],
            torch.cat((known, fresh), 1),
            cond=given,
            rng=Rng(keys).fold("sampling"),
            solver=resampled(replaced, rounds),
        )
        last = final(steps)
        return last.x[:, n:], faults_of(last.carry)

    making = Replayed(make, context.device) if graph else make

    def chunks(known: Tensor, position: int) -> Iterator[Finished]:
        while True:
            known = known[:, max(known.shape[1] - (window - chunk), 0) :]
            first, count = position - known.shape[1], known.shape[1] + chunk
            given = cond(first, count) if callable(cond) else cond
            keys = keys_of(rng, first, count, context)
            # A window that is not full yet is of a form of its own, and made once.
            with eagerly(count < window):
                x, noted = making(known, dict(given or {}), keys)
            tell(noted)
            yield Finished(position, x, {})
            known, position = torch.cat((known, x), 1), position + chunk

    return chunks(context, context.shape[1])
