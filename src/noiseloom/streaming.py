"""Streams: tokens without end from a denoiser that sees all of a window, given out once certain.

The window's tokens stand on a ramp of times, clean on the left and noise on the right, and every
row lowers all of them: a pyramid plan that never ends. What has come down to time 0 is given out
and stays for a while, as what the others are made beside; then the window moves on, and noise
enters on the right. So each token is made in the sight of later ones, which rollouts' are not, and
a network needs no cache and no causal mask: on such a one joint plans would be biased.

Where the window cuts nothing off that matters, a stream is `sample` along the pyramid over the
whole length, draw by draw (`tests/test_streaming.py`).
"""

import math
from collections.abc import Callable, Iterator
from numbers import Real

import torch
from torch import Tensor

from noiseloom.carry import Carry, slide_tokens
from noiseloom.causality import is_causal
from noiseloom.denoiser import Denoiser
from noiseloom.diffusion import CategoricalDiffusion, GaussianDiffusion
from noiseloom.plan import SamplingPlan
from noiseloom.rng import Rng, per_sample
from noiseloom.rollouts import Finished, TokenCond, check_counts, check_start, keys_of
from noiseloom.sampling import Solver, ancestral

__all__ = ["stream"]


def stream(
    denoiser: Denoiser,
    diffusion: GaussianDiffusion | CategoricalDiffusion,
    plan: SamplingPlan,
    context: Tensor,
    *,
    window: int,
    slope: float,
    stabilisation: float = 0.0,
    settle: Callable[[Tensor], Tensor] | None = None,
    cond: TokenCond | None = None,
    position: int = 0,
    rng: Rng,
    solver: Solver | None = None,
) -> Iterator[Finished]:
    """Continue a sequence token by token, each denoised beside those that follow it.

    Token i begins at row int(i u) and takes the plan's S rows. So ceil(S / u) tokens move at a
    time, and W - ceil(S / u) finished ones are seen beside them. A token costs u calls of the
    network and W u token-forwards; the first one is there after S calls. Whoever stops asking has
    every token that was yielded, and nothing grows with their number.

    Args:
        denoiser: of a network that sees all of a window, trained with a time per token; best with
            some rows like these windows (`tokens.ramp_times`).
        diffusion: what noise is, of numbers or of classes.
        plan: of one token, from time 1 to 0: S scalar rows, which may overshoot.
        context: the first tokens, clean, shape (B, n, ...), n >= 0; the last of them are seen.
        window: W, tokens that the network sees at a time.
        slope: u > 0, in rows per token; S or more is token by token.
        stabilisation: time in [0, 1) that finished tokens are noised to, once, and told.
        settle: what a finished token becomes before it is yielded and seen: of codes the nearest
            one, since an estimate between two is what training does not show at time 0.
        cond: as for `rollout`; asked for a window's W tokens.
        position: index of the context's first token.
        rng: key of all draws; those of a token depend on its index alone.
        solver: how a move is made; by default DDIM. It may keep no memory between rows.

    Yields:
        `Finished` tokens, with an empty carry; one at a time unless u < 1.

    Raises:
        TypeError: a context of integers where states are numbers, or the reverse; no key, a count
            that is not whole or a slope that is no number; a solver with a memory (when it is first
            called).
        ValueError: a slope, window, stabilisation or position out of range, a plan that is not
            scalar or does not lead from 1 to 0, a causal denoiser, a context that is not finite or
            has no such classes, a carry that is not of the window's tokens.

    References:
        B. Chen et al., 2024, Diffusion Forcing, arXiv 2407.01392, Eq. B.1 (the pyramid); D. Ruhe
        et al., 2024, Rolling Diffusion Models, 2402.09470, Section 3 (a window that moves on it).
    """
    steps = len(plan)
    _check(denoiser, diffusion, plan, context)
    check_counts(window=window, position=position)
    if not isinstance(slope, Real):
        raise TypeError(f"a stream needs a slope > 0 in rows per token, got {slope!r}")
    if not slope > 0:
        raise ValueError(f"a stream needs a slope > 0 in rows per token, got {slope}")
    slope = min(slope, steps)
    moving = math.ceil(steps / slope)
    if window <= moving:
        raise ValueError(
            f"{steps} rows at slope {slope:g} move {moving} tokens at a time, which with what they "
            f"are made beside do not fit a window of {window}: take fewer rows, or a larger slope"
        )
    if not 0 <= stabilisation < 1 or position < 0:
        raise ValueError(
            "a stream needs a stabilisation in [0, 1) and a position >= 0, got "
            f"{stabilisation} and {position}"
        )
    kept, move = window - moving, solver or ancestral()
    rng = per_sample(rng, context)
    dtype = torch.promote_types(context.dtype, torch.float32)
    level = torch.tensor(stabilisation, dtype=dtype)
    # By the number of rows that a token has taken: before its first at 1, after its last at rest.
    start, end = plan.t.new_ones(1), plan.t.new_full((1,), stabilisation)
    times = torch.stack((torch.cat((start, plan.t, end)), torch.cat((start, plan.s, end))))

    def finished(x: Tensor, draws: Rng) -> Tensor:
        return diffusion.corrupt(x, level, draws.fold("stabilisation")) if stabilisation else x

    def entering(keys: Tensor) -> Tensor:
        like = context.new_empty((*keys.shape, *context.shape[2:]))
        return diffusion.prior(like, Rng(keys).fold("prior"))

    @torch.no_grad()
    def tokens() -> Iterator[Finished]:
        done = position + context.shape[1]  # the first token that is not finished
        first = max(done - kept, position)
        keys = keys_of(rng, first, window, context)
        n = done - first
        known = finished(context[:, context.shape[1] - n :], Rng(keys[:, :n]))
        x, carry, row = torch.cat((known, entering(keys[:, n:])), 1), Carry(), int(done * slope)
        while True:
            taken = row - (torch.arange(first, first + window).double() * slope).long()
            taken[: done - first] = steps
            t, s = times[:, taken.clamp(-1, steps) + 1][:, None].to(x.device, dtype)
            given = cond(first, window) if callable(cond) else cond
            draws = Rng(keys).fold("sampling").fold("step", row)
            x, prediction, carry, memory = move(
                denoiser, diffusion, x, t, s, dict(given or {}), carry, None, draws
            )
            if memory is not None:
                raise TypeError(
                    "a stream's window moves, and what a solver remembers does not: use one that "
                    "remembers nothing, such as ancestral(), which DDIM is"
                )
            row += 1
            if count := int((taken == steps - 1).sum()):
                a, b = done - first, done - first + count
                made = diffusion.result(prediction, x, s)[:, a:b]
                made = made if settle is None else settle(made)
                x = torch.cat((x[:, :a], finished(made, Rng(keys[:, a:b])), x[:, b:]), 1)
                done += count
                yield Finished(done - count, made, {})
            if gone := max(done - kept - first, 0):
                first += gone
                keys = keys_of(rng, first, window, context)
                x = torch.cat((x[:, gone:], entering(keys[:, window - gone :])), 1)
                carry = slide_tokens(carry, gone, window)

    return tokens()


def _check(denoiser: Denoiser, diffusion: object, plan: SamplingPlan, context: Tensor) -> None:
    if plan.t.ndim != 1:
        raise ValueError(f"a stream's plan is that of one token, in scalar times, not a {plan}")
    if is_causal(denoiser):
        raise ValueError(
            "a stream moves tokens together, which on a causal denoiser is biased: use rollout"
        )
    if isinstance(diffusion, CategoricalDiffusion):
        plan.check_whole()
        _check_classes(diffusion, context)
    else:
        check_start(plan, context)


def _check_classes(diffusion: CategoricalDiffusion, context: Tensor) -> None:
    if context.is_floating_point():
        raise TypeError(f"a context of classes is of integers, not {context.dtype}")
    low, high = map(int, context.aminmax()) if context.numel() else (0, 0)
    if not 0 <= low <= high < diffusion.num_classes:
        raise ValueError(
            f"a context's classes are 0 .. {diffusion.num_classes - 1}, got {low} to {high}"
        )
