"""Training with a time per token: which times, which tokens count, and how much.

Diffusion Forcing trains on independent times. Its two baselines are special cases of times per
token, so that all three are one loss:

    independent     t_1, ..., t_T                 the model of any order of denoising
    full sequence   t, ..., t                     ordinary diffusion of the whole
    teacher forcing 0, ..., 0, t_n, 1, ..., 1     next-token diffusion; token n alone counts

A token that is missing, or padding, is at time 1 and does not count (`missing`).

That trains one token of T. A causal network can be taught all of them in one go, each by the same
loss: its past is read clean in a pass of its own (`TeacherForced`), and the times are independent.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from noiseloom.carry import Carry, write_caches
from noiseloom.denoiser import LOG_SNR_LIMIT
from noiseloom.diffusion import Prediction
from noiseloom.objective import Weight
from noiseloom.rng import Rng
from noiseloom.shapes import Cond

__all__ = [
    "TIMES",
    "TeacherForced",
    "forcing_times",
    "fused_snr_weight",
    "missing",
    "ramp_times",
    "sigmoid_weight",
]

TIMES = ("independent", "full-sequence", "teacher-forcing")
"""The kinds of `forcing_times`."""


def forcing_times(
    kind: str, shape: Sequence[int], rng: Rng, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Times of the tokens of a batch, and which of them count in the loss.

    Args:
        kind: one of `TIMES`. Teacher forcing draws n uniformly from all tokens, so that it trains
            one token of a sequence where the others train T: for networks that see all tokens. For
            causal ones there is `TeacherForced`, with independent times.
        shape: (B, T).
        rng: key of the draws; one key per sample, or one for all.
        device: where the times go.

    Returns:
        Times in [0, 1] and a bool mask, both of shape (B, T).

    Raises:
        ValueError: an unknown kind, or a shape that is not (B, T).

    References:
        B. Chen et al., 2024, Diffusion Forcing, arXiv 2407.01392, Algorithm 1 and Section 4.
    """
    if kind not in TIMES:
        raise ValueError(f"times of tokens must be one of {', '.join(TIMES)}, got {kind!r}")
    if len(shape) != 2:
        raise ValueError(f"times of tokens have a shape (B, T), got {tuple(shape)}")
    batch, tokens = shape
    everything = torch.ones(batch, tokens, dtype=torch.bool, device=device)
    if kind == "independent":
        return rng.uniform((batch, tokens), device=device), everything
    t = rng.uniform((batch, 1), device=device)
    if kind == "full-sequence":
        return t.expand(batch, tokens).contiguous(), everything
    place = torch.arange(tokens, device=device)
    n = rng.fold("token").integers(tokens, (batch, 1), device=device)
    return torch.where(place == n, t, (place > n).to(t.dtype)), place == n


def ramp_times(shape: Sequence[int], rng: Rng, device: torch.device | str = "cpu") -> Tensor:
    """Times that rise from clean on the left to noise on the right, as in the window of a stream.

        t_i = clip((i - a) / r, 0, 1),    ln r ~ U(0, ln T),    a ~ U(-r, T - 1)

    A pyramid of slope u of S steps has r = S / u tokens on the way at a time, so these are the
    windows of pyramids of all slopes, from token by token to all at once. Independent times show
    next to none of them: T of them rise in one of T! draws.

    Args:
        shape: (B, T).
        rng: key of the draws; one key per sample, or one for all.
        device: where the times go.

    Returns:
        Times in [0, 1], shape (B, T); some token of every row is above 0.
    """
    batch, tokens = shape
    r = tokens ** rng.fold("width").uniform((batch, 1), device=device)
    a = rng.fold("place").uniform((batch, 1), device=device) * (tokens - 1 + r) - r
    return ((torch.arange(tokens, device=device) - a) / r).clamp(0, 1)


def missing(t: Tensor, counted: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens that are not there: at time 1, where nothing is known, and out of the loss.

    Args:
        t: times, shape (B, T).
        counted: bool, shape (B, T).
        real: bool, shape (B, T), False for tokens that are missing or padding.

    Returns:
        Times and mask with those tokens at 1 and False.
    """
    return torch.where(real, t, 1), counted & real


class TeacherForced(nn.Module):
    """What a causal denoiser says of noisy tokens, each after a clean past: T predictions at once.

    The clean tokens are read at time 0 with an empty cache, and what they leave is the past of the
    noisy ones, of which each sees itself alone (`nets.past.alone`). Of token n that is, to
    rounding, the prediction at times 0, ..., 0, t_n, with gradients through both passes.

    Args:
        denoiser: `Preconditioned` of a network that keeps a cache, self-conditioned or not. Clean
            tokens have the estimates of the noisy ones beside them.

    References:
        B. Chen et al., 2024, Diffusion Forcing, arXiv 2407.01392, released code (gt_cond_prob = 1).
    """

    def __init__(self, denoiser: nn.Module) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        cond: Cond | None = None,
        carry: Carry | None = None,
        rng: Rng | None = None,
    ) -> tuple[Prediction, Carry]:
        """The prediction for every token of x, after the clean tokens `cond["past"]`, like x."""
        given: dict[str, Any] = {**(cond or {}), "position": 0}
        past, own = given.pop("past"), dict(carry or {})
        clean = torch.zeros((), dtype=torch.float64)  # known to the host: no copy to the device
        _, read = self.denoiser(past, clean, {**given, "write": True}, {**own, "cache": {}}, rng)
        if "mask" in given:
            given["mask"] = torch.cat((given["mask"], given["mask"]), 1)
        own |= write_caches(read)
        prediction, own = self.denoiser(x, t, {**given, "alone": True}, own, rng)
        return prediction, {owner: tree for owner, tree in own.items() if owner != "cache"}


def sigmoid_weight(bias: float = -1.0) -> Weight:
    """sigmoid(b - log-SNR) on the squared error of eps, so SNR times that on x_0's.

    Args:
        bias: b.

    References:
        E. Hoogeboom et al., 2024, Simpler Diffusion, arXiv 2410.19324; K. Song et al., 2025,
        2502.06764 (b = -1).
    """
    # SNR sigmoid(b - l) = e^b sigmoid(l - b): no overflow at either end.
    return lambda log_snr: math.exp(bias) * torch.sigmoid(log_snr - bias)


def fused_snr_weight(
    decay: float,
    cap: float = 5.0,
    *,
    target: Literal["x0", "eps", "v"] = "v",
    variant: Literal["code", "paper"] = "code",
    clean_past: bool = False,
) -> Weight:
    """Min-SNR for sequences: a clean past counts as signal.

    With C = cap, s = SNR / C, s' = min(s, 1), gamma = decay, the running mean B_1 = s'_1, B_t =
    gamma B_{t-1} + (1 - gamma) s'_t, its past H_t = B_{t-1}, H_1 = 0, and g = gamma ("code") or 1
    ("paper"),

        f_t = 1 - (1 - g H_t) (1 - s_t),    f'_t = 1 - (1 - g H_t) (1 - s'_t),

    the weights of the squared errors are C f' of x_0, f' / f of eps and C f' / (C f + 1) of v. The
    loss here is x_0's: those of eps and v come times SNR and SNR + 1. For the first token, and in
    the code's variant for gamma = 0, all are min-SNR.

    The paper's formula lacks the code's second factor gamma, and says nothing of the first token,
    which is as in the code here.

    Args:
        decay: gamma in [0, 1). The paper's video models have 0.96 and 0.8, to the power of the
            frames in a token.
        cap: C > 0.
        target: whose error is weighted: the network's target, as published.
        variant: of the formula.
        clean_past: H_t = 1 from the second token on, whatever the times: that of `TeacherForced`.

    Returns:
        A weight of log-SNR with tokens as axis 1.

    References:
        B. Chen et al., 2024, arXiv 2407.01392, Appendix B.1, and the released code.
    """
    if not (0 <= decay < 1 and cap > 0):
        raise ValueError(f"decay must be in [0, 1) and cap > 0, got {decay} and {cap}")
    if target not in ("x0", "eps", "v") or variant not in ("code", "paper"):
        raise ValueError(f"no fused SNR for target {target!r} and variant {variant!r}")

    def weight(log_snr: Tensor) -> Tensor:
        if log_snr.ndim < 2:
            raise ValueError("fused SNR needs a time per token, (B, T)")
        snr = log_snr.clamp(max=LOG_SNR_LIMIT).exp()
        s, capped = snr / cap, (snr / cap).clamp(max=1)
        place = torch.arange(s.shape[1], device=s.device)
        if clean_past:
            past = (place > 0).to(s.dtype).reshape(-1, *(1,) * (s.ndim - 2)).expand_as(s)
        else:
            # The recursion written out: T launches of a kernel are more than a small update has.
            age, share = place[:, None] - place - 1, s.new_full(place.shape, 1 - decay)
            share[:1] = 1
            share = torch.where(age >= 0, share * decay ** age.clamp(min=0).to(s.dtype), 0)
            past = (share.reshape(*age.shape, *(1,) * (s.ndim - 2)) * capped[:, None]).sum(2)
        known = (decay if variant == "code" else 1.0) * past
        # 1 - (1 - known) (1 - s), which would lose the digits of a small s.
        f, f_capped = s + known * (1 - s), capped + known * (1 - capped)
        if target == "x0":
            return cap * f_capped
        if target == "eps":
            return snr * f_capped / f.clamp(min=torch.finfo(f.dtype).tiny)
        return (snr + 1) * cap * f_capped / (cap * f + 1)

    return weight
