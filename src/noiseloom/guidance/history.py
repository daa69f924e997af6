"""History guidance: how much, which part and which detail of the past a future follows.

A denoiser with a time per token knows a past that is masked (time 1), or blurred (a time between),
as well as a clean one. Differences of what it says about the same noisy future point to where a
part of the past leads, and can be weighed like the differences of classifier-free guidance:

    s = s_0 + sum_i w_i (s_i - s_0).

s_i is the score where the tokens H_i of the history are shown at time k_i, the others as noise; s_0
the one where all are. As every branch sees the same future x_t, and the score is (alpha mean - x_t)
/ sigma^2, means compose as scores do.

References:
    K. Song et al., 2025, History-Guided Video Diffusion, arXiv 2502.06764, Eq. 6 and Appendix A.4.
    The released code composes the solver's states instead: the same for DDIM, and for it alone.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from noiseloom.carry import Carry, caches
from noiseloom.diffusion import GaussianDiffusion, Prediction, mixed
from noiseloom.guidance.gradient import remembering
from noiseloom.rng import Rng
from noiseloom.shapes import Cond, align

__all__ = [
    "HistoryGuided",
    "HistoryTerm",
    "fractional_history",
    "temporal_history",
    "vanilla_history",
]

_OWNER = "history_guided"
_NEGLIGIBLE = 1e-9  # weights that cancel leave rounding errors


@dataclass(frozen=True)
class HistoryTerm:
    """One term w (s(H, k) - s_0) of history guidance.

    Attributes:
        weight: w.
        tokens: H, indices of tokens of the history; None is all of it.
        level: k in [0, 1], the time they are shown at: 0 as they are, 1 not at all.
    """

    weight: float
    tokens: tuple[int, ...] | None = None
    level: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and 0 <= self.level <= 1):
            raise ValueError(f"a term needs a finite weight and a level in [0, 1], got {self}")


def vanilla_history(scale: float) -> tuple[HistoryTerm, ...]:
    """All of the history, s_0 + scale (s_H - s_0): 1 is conditional, 0 unconditional."""
    return (HistoryTerm(scale),)


def temporal_history(
    subsets: Iterable[Sequence[int]], weights: Sequence[float]
) -> tuple[HistoryTerm, ...]:
    """Several parts of the history, such as a long and a short one.

    Args:
        subsets: the parts H_i, indices of tokens.
        weights: w_i, one per part.
    """
    parts = [tuple(tokens) for tokens in subsets]
    if len(parts) != len(weights):
        raise ValueError(f"{len(parts)} subsets need as many weights, got {len(weights)}")
    return tuple(HistoryTerm(w, tokens) for w, tokens in zip(weights, parts, strict=True))


def fractional_history(scale: float, level: float) -> tuple[HistoryTerm, ...]:
    """Guided by the low frequencies of the history, s_H + (scale - 1) (s_(H, level) - s_0).

    Noise on the history hides its weak modes: to a Gaussian, those of variance S are shown by S /
    (S + sigma^2 / alpha^2). The paper's Eq. 6 has scale in place of scale - 1; its Appendix
    A.4 and code are as here, so that 1 is conditional.

    Args:
        scale: of the guidance.
        level: k in [0, 1], time of the noise on the history.
    """
    return HistoryTerm(1.0), HistoryTerm(scale - 1, level=level)


class HistoryGuided(nn.Module):
    """Composes what a denoiser says under several views of the history.

        mean = sum_i w_i m_i + (1 - sum_i w_i) m_0

    on the tokens that are not history; those are returned as they are. One call per branch, each
    with a carry of its own: equal views are merged and weights of zero dropped, so that a scale of
    1 is one plain call. Vanilla guidance costs 2 calls, fractional 3, temporal one per part and one
    more unless its weights add up to 1. The noise over the history is the same in all branches. A
    shared self-conditioning estimate says nothing of what a view hides or blurs.

    The history is either in the window, held by the plan (`plan.hold(range(4))`) at 0 or a
    stabilised level, with noise drawn at each call; or, in a `rollout`, all that is finished. There
    each branch has a cache of its own, into which a finished token is read as the branch shows it:
    at max(t', k), or as noise told as time 1, drawn once. What it says of such a token is what its
    least noisy branch says.

    Args:
        denoiser: the inner denoiser, trained with a time per token.
        diffusion: what noise is.
        terms: as `vanilla_history`, `temporal_history` or `fractional_history` make them; terms of
            several can be joined.
        history: the history's tokens on axis 1 of the state (B, T, ...): their indices, >= 0, or
            for states that grow, such as the first windows of `slide`, a slice: slice(-2) is all
            tokens but the last two. None for what a `rollout` has finished, all of it: terms that
            show a part are refused, as later tokens have read the others.

    Raises:
        ValueError: a term shows a token that is not history; a state without one of them, a time
            that is not per token, a rollout with tokens given as history or another call without,
            or noise to draw without rng.

    References:
        K. Song et al., 2025, arXiv 2502.06764, Eq. 6 and Appendix A.4.
    """

    def __init__(
        self,
        denoiser: nn.Module,
        diffusion: GaussianDiffusion,
        terms: Iterable[HistoryTerm],
        *,
        history: Sequence[int] | slice | None = None,
    ) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.diffusion = diffusion
        self.terms = tuple(terms)
        self.history = history
        if history is None:
            if any(term.tokens for term in self.terms):
                raise ValueError(
                    "a rollout's history is shown as a whole, since later tokens have read all of "
                    "it: leave the terms' tokens out, or say which tokens of a window are history"
                )
        elif not isinstance(history, slice):
            self.history = tuple(sorted(set(history)))
            if self.history and self.history[0] < 0:
                raise ValueError(f"tokens count from 0, got {self.history[0]} as history")
            _merge(self.terms, self.history)  # what is wrong with them is said now

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        cond: Cond | None = None,
        carry: Carry | None = None,
        rng: Rng | None = None,
    ) -> tuple[Prediction, Carry]:
        """The guided prediction and the carries of the branches."""
        t, streams = align(t, x), "position" in (cond or {})
        if streams != (self.history is None):
            raise ValueError(
                "a rollout's history is what its caches hold: leave history out"
                if streams
                else "which tokens are history? Give their indices, or a slice"
            )
        history = tuple(range(x.shape[1])) if streams else self._tokens(x, t)
        others = dict(carry or {})
        own = dict(others.pop(_OWNER, {}))
        said: list[tuple[float, float, Prediction]] = []
        for index, (tokens, level, weight) in enumerate(_merge(self.terms, history)):
            name = str(index)
            view = x, t, cond, own.get(name)
            if not streams:
                view = *self._show(x, t, cond, history, tokens, level, rng), own.get(name)
            elif remembering(cond) and (t < level).any():  # a scalar, known to the host
                view = *self._blur(x, t, cond, level, rng), caches(own.get(name) or {})
            prediction, own[name] = self.denoiser(*view, rng)
            said.append((level, weight, prediction))
        carry = {**others, _OWNER: own}
        if len(said) == 1 or remembering(cond):
            return min(said, key=lambda view: view[0])[2], carry
        if not x.is_floating_point():
            return mixed(x, [(weight, prediction) for _, weight, prediction in said]), carry
        mean = torch.stack([weight * prediction.mean for _, weight, prediction in said]).sum(0)
        return Prediction(mean if streams else torch.where(_mask(history, x), x, mean)), carry

    def _tokens(self, x: Tensor, t: Tensor) -> tuple[int, ...]:
        """The tokens of a window that are history."""
        history = self.history
        if isinstance(history, slice):
            history = range(x.shape[1])[history]
        if history and (t.ndim < 2 or t.shape[1] == 1 or history[-1] >= t.shape[1]):
            raise ValueError(
                f"tokens up to {history[-1]} are history, and a time of shape "
                f"{tuple(t.shape)} does not say theirs: use a plan with a time per token, and hold"
            )
        return tuple(history or ())

    def _show(
        self,
        x: Tensor,
        t: Tensor,
        cond: Cond | None,
        history: tuple[int, ...],
        tokens: tuple[int, ...],
        level: float,
        rng: Rng | None,
    ) -> tuple[Tensor, Tensor, Cond | None]:
        """A window, its times and what is told, these tokens at a level, others as noise."""
        if tokens == history and (level == 0 or not tokens):
            return x, t, cond
        draws, shown = _key(rng), _mask(tokens, x)
        hidden = _mask(history, x) & ~shown
        s = torch.where(shown, t.clamp_min(level), t)
        seen = torch.where(
            hidden, self.diffusion.prior(x, draws), self.diffusion.renoise(x, t, s, draws)
        )
        return seen, s.masked_fill(hidden, 1.0), _without_estimate(cond, hidden | (s > t))

    def _blur(
        self, x: Tensor, t: Tensor, cond: Cond | None, level: float, rng: Rng | None
    ) -> tuple[Tensor, Tensor, Cond | None]:
        """Finished tokens at a level > t; at 1 they are noise alone, whatever the schedule."""
        draws, s = _key(rng), t.clamp_min(level)
        blurred = level < 1
        seen = self.diffusion.renoise(x, t, s, draws) if blurred else self.diffusion.prior(x, draws)
        changed = torch.zeros_like(x, dtype=torch.bool) | (s > t)  # t may be on the host, x not
        return seen, s, _without_estimate(cond, changed)


def _key(rng: Rng | None) -> Rng:
    if rng is None:
        raise ValueError("history guidance draws noise over the history: give rng")
    return rng.fold("history")


def _without_estimate(cond: Cond | None, changed: Tensor) -> Cond | None:
    """What is told, without an estimate where it would say what the view does not."""
    if not cond or cond.get("estimate") is None:
        return cond
    estimate = cond["estimate"]  # of classes it has an axis more than they have
    return {**cond, "estimate": estimate.masked_fill(align(changed.float(), estimate).bool(), 0)}


def _merge(
    terms: Iterable[HistoryTerm], history: tuple[int, ...]
) -> tuple[tuple[tuple[int, ...], float, float], ...]:
    """Branches (tokens, level, weight), the one without history first; weights add up to 1."""
    nothing: tuple[tuple[int, ...], float] = ((), 1.0)
    weights = {nothing: 1.0}
    for term in terms:
        tokens = history if term.tokens is None else tuple(sorted(set(term.tokens)))
        if strangers := set(tokens) - set(history):
            raise ValueError(f"a term shows token {min(strangers)}, which is not history {history}")
        view = (tokens, term.level) if tokens and term.level < 1 else nothing
        weights[view] = weights.get(view, 0.0) + term.weight
        weights[nothing] -= term.weight
    return tuple((*view, w) for view, w in weights.items() if abs(w) > _NEGLIGIBLE)


def _mask(tokens: tuple[int, ...], x: Tensor) -> Tensor:
    """Where axis 1 is one of these tokens, aligned with the state."""
    # Filled in place: a list would be copied to the device.
    mask = torch.zeros(x.shape[1], dtype=torch.bool, device=x.device)
    for token in tokens:
        mask[token] = True
    return mask.reshape(1, -1, *(1,) * (x.ndim - 2))
