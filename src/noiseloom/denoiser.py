"""Denoisers: from a network to an estimate of the clean state.

A denoiser is a module `(x, t, cond=None, carry=None, rng=None) -> (prediction, carry)`.
`Preconditioned` makes one from any network `(x, log_snr, cond)`, and is the only place that knows
parameterisations and heads. The network sees the state at unit variance and the log-SNR instead of
the time, so the schedule may change after training.
"""

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from noiseloom.carry import Carry, clone
from noiseloom.diffusion import Prediction, from_score
from noiseloom.manifolds import Manifold
from noiseloom.noise import Schedule
from noiseloom.rng import Rng
from noiseloom.shapes import Cond, align

__all__ = [
    "Clipped",
    "Denoiser",
    "Head",
    "LinearHead",
    "Preconditioned",
    "SigmoidHead",
    "SoftmaxHead",
    "network_clock",
]

LOG_SNR_LIMIT = 20.0
"""Networks never see a log-SNR beyond this: clean context and pure noise are ordinary inputs."""


class Denoiser(Protocol):
    """An estimate of x_0, given x_t and whatever is known."""

    def __call__(
        self,
        x: Tensor,
        t: Tensor,
        cond: Cond | None = None,
        carry: Carry | None = None,
        rng: Rng | None = None,
    ) -> tuple[Prediction, Carry]:
        """The prediction at time t, and what the next call should be given."""


class Head(Protocol):
    """From the network's output to a prediction."""

    def outputs(self, channels: int) -> int:
        """How many outputs the network needs for a state of so many channels."""

    def __call__(self, output: Tensor) -> Prediction:
        """The prediction that an output stands for."""


@dataclass(frozen=True)
class LinearHead:
    """The output is the mean."""

    def outputs(self, channels: int) -> int:
        """As many as the state has."""
        return channels

    def __call__(self, output: Tensor) -> Prediction:
        """Mean = f."""
        return Prediction(output)


@dataclass(frozen=True)
class SigmoidHead:
    """The output is the log-odds of each bit: mean = scale (2 sigmoid(f) - 1) = scale tanh(f / 2).

    Args:
        scale: level b of the bits.

    References:
        T. Chen, R. Zhang, G. Hinton, 2022, arXiv 2208.04202, Appendix B.2.
    """

    scale: float = 1.0

    def outputs(self, channels: int) -> int:
        """As many as the state has."""
        return channels

    def __call__(self, output: Tensor) -> Prediction:
        """Log-odds to mean."""
        return Prediction((output / 2).tanh() * self.scale, output)


@dataclass(frozen=True, eq=False)
class SoftmaxHead:
    """The output is K logits per group of n entries: mean = softmax(f) @ codes.

    Exact for any distribution over the K codes of a group, where a head per bit has to learn
    couplings; the mean never leaves the hull of the valid codes.

    Args:
        codes: the code table, shape (K, n), as a codec's `table`.
        axis: the axis of the state that holds groups of n entries; the network puts the logits of
            the groups, K each, on the same axis.

    References:
        T. Chen, R. Zhang, G. Hinton, 2022, arXiv 2208.04202, Section 3.1.
    """

    codes: Tensor
    axis: int = -1

    def outputs(self, channels: int) -> int:
        """K per group."""
        classes, width = self.codes.shape
        if channels % width:
            raise ValueError(f"{channels} channels do not hold groups of {width} entries")
        return channels // width * classes

    def __call__(self, output: Tensor) -> Prediction:
        """Logits to mean."""
        last = output.movedim(self.axis, -1)
        logits = torch.unflatten(last, -1, (-1, self.codes.shape[0]))
        codes = self.codes.to(logits)
        mean = (logits.softmax(-1) @ codes).flatten(-2).movedim(-1, self.axis)
        return Prediction(mean, logits, codes, self.axis)


class Preconditioned(nn.Module):
    """A denoiser from a network, a schedule, a target and a head.

    With r = sqrt(alpha^2 + sigma^2), y = x / r, and f the network's output at (y, log-SNR):

        x0:  mean = head(f)
        eps: mean = (x - sigma f) / alpha
        v:   mean = (alpha y - sigma f) / r
        edm: mean = (alpha d^2 x / q + sigma d f) / q, q = sqrt(alpha^2 d^2 + sigma^2), d =
             data_std; the network sees x / q
        score: score = f / sigma, mean = exp_x(sigma f), on a manifold, whose features of x (of an
             angle its sine and cosine) the network sees

    Args:
        network: `(x, log_snr, cond) -> output`, or `-> (output, hidden)`. log_snr is float32 of
            shape (B,), or a longer left prefix of the state's shape where the time is finer. Given
            `cond["position"]`, the index of the state's first token, it is called with the carry's
            cache as `cond["cache"]`, and returns `(output, entries)`, which are handed on as "new".
        schedule: t -> (alpha, sigma).
        target: what the network predicts; "eps" needs alpha(1) > 0, "score" a manifold.
        head: how outputs become an estimate; other than linear only with target "x0".
        data_std: d, the standard deviation of the data, used by "edm".
        clock: largest |log-SNR| that the network is told, in (0, 20]: a time beyond is told as the
            nearest that is not. Times that training hardly ever draws (for a cosine |log-SNR| > 10
            one in a hundred, and both ends of a plan) are then ordinary ones.
        manifold: where the states live, for "score".

    References:
        T. Salimans, J. Ho, 2022, arXiv 2202.00512 (v); T. Karras et al., 2022, 2206.00364, Eq. 7
        and Table 1 (edm); D. Kingma et al., 2021, 2107.00630 (log-SNR as the clock).
    """

    def __init__(
        self,
        network: nn.Module,
        schedule: Schedule,
        *,
        target: Literal["x0", "eps", "v", "edm", "score"] = "x0",
        head: Head | None = None,
        data_std: float = 1.0,
        clock: float = LOG_SNR_LIMIT,
        manifold: Manifold | None = None,
    ) -> None:
        super().__init__()
        if not 0 < clock <= LOG_SNR_LIMIT:
            raise ValueError(f"clock must be in (0, {LOG_SNR_LIMIT:g}], got {clock}")
        if target not in ("x0", "eps", "v", "edm", "score"):
            raise ValueError(f"target must be one of x0, eps, v, edm, score, got {target!r}")
        if (target == "score") != (manifold is not None):
            raise ValueError("target 'score' is for a manifold, and on one there is no other")
        if head is not None and not isinstance(head, LinearHead) and target != "x0":
            raise ValueError(f"a cross-entropy head predicts x0, not {target!r}")
        if target == "eps" and float(schedule(torch.ones(()))[0]) == 0:
            raise ValueError(
                f"target 'eps' says nothing about x_0 at t = 1, where alpha = 0 for {schedule}: "
                "use 'x0' or 'v'"
            )
        self.network = network
        self.schedule = schedule
        self.target = target
        self.head = head or LinearHead()
        self.data_std = data_std
        self.clock = clock
        self.manifold = manifold

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        cond: Cond | None = None,
        carry: Carry | None = None,
        rng: Rng | None = None,
    ) -> tuple[Prediction, Carry]:
        """The prediction at time t, a left prefix of the shape of x; the carry passes through."""
        t = align(t, x)
        alpha, sigma = self.schedule(t)
        std = self.data_std if self.target == "edm" else 1.0
        scale = (alpha * alpha * (std * std) + sigma * sigma).rsqrt()
        carry = dict(carry or {})
        write, streams = False, cond is not None and "position" in cond
        if cond is not None and streams:
            if "cache" not in carry:
                blank = getattr(self.network, "blank", None)
                carry["cache"] = blank(x) if blank else {}
            write = cond.get("write", False)
            cond = {**{k: v for k, v in cond.items() if k != "write"}, "cache": carry["cache"]}
        if not x.is_floating_point():  # classes, which have no scale
            dtype, seen = next(self.network.parameters()).dtype, x
        else:
            dtype = x.dtype
            seen = x * scale if self.manifold is None else self.manifold.features(x)
        output = self.network(seen, network_clock(self.schedule, x, t, self.clock), cond)
        output, hidden = output if isinstance(output, tuple) else (output, None)
        # Without gradients the network may be a CUDA graph, which writes its next results where
        # these are. What outlives the call is copied: a mean that is the output itself, a hidden
        # state, and entries, but only when they are to be kept.
        replayed = not torch.is_grad_enabled()
        if streams:
            if write:
                carry["new"] = clone(hidden)
            hidden = None
        # Networks may run in bfloat16 under autocast; everything after them does not.
        with torch.autocast(x.device.type, enabled=False):
            output = output.to(dtype, copy=replayed and self.target == "x0")
            prediction = self._estimate(output, x, alpha, sigma, scale)
        if hidden is not None:
            hidden = hidden.clone() if replayed else hidden
            prediction = Prediction(**{**vars(prediction), "hidden": hidden})
        return prediction, carry

    def _estimate(
        self, f: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor, scale: Tensor
    ) -> Prediction:
        if self.target == "x0":
            return self.head(f)
        if self.manifold is not None:
            return from_score(self.manifold, x, f / sigma.masked_fill(sigma * sigma <= 0, 1), sigma)
        if self.target == "eps":
            return Prediction((x - sigma * f) / alpha)
        if self.target == "v":
            return Prediction((alpha * scale * x - sigma * f) * scale)
        d = self.data_std
        return Prediction((alpha * (d * d) * scale * x + sigma * d * f) * scale)


class Clipped(nn.Module):
    """Keeps the mean within [-limit, limit].

    For bits the limit is their level: the decoded signs stay, but the noise that solvers derive
    from the mean, and the next self-conditioning input, are the clipped one's.

    Args:
        denoiser: the denoiser to clip.
        limit: > 0.

    References:
        T. Chen, R. Zhang, G. Hinton, 2022, arXiv 2208.04202 (the released code's x0 clipping).
    """

    def __init__(self, denoiser: nn.Module, limit: float) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.limit = limit

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        cond: Cond | None = None,
        carry: Carry | None = None,
        rng: Rng | None = None,
    ) -> tuple[Prediction, Carry]:
        """The inner prediction with its mean clipped."""
        prediction, carry = self.denoiser(x, t, cond, carry, rng)
        fields: dict[str, Any] = vars(prediction)
        mean = prediction.mean.clamp(-self.limit, self.limit)
        return Prediction(**{**fields, "mean": mean}), carry


def network_clock(schedule: Schedule, x: Tensor, t: Tensor, limit: float = LOG_SNR_LIMIT) -> Tensor:
    """The log-SNR that a network is told: one layout per kind of time, contiguous, on its device.

    Args:
        schedule: t -> (alpha, sigma).
        x: state, shape (B, ...).
        t: aligned time.
        limit: largest |log-SNR|.

    Returns:
        float32, shape (B,), or a longer left prefix of the state's shape where the time is finer.
    """
    log_snr = schedule.log_snr(t).clamp(-limit, limit)
    known = t.ndim == 0 and t.device.type == "cpu" and not log_snr.requires_grad
    if known and not torch.compiler.is_compiling():
        # A fill: what the host knows costs no copy to the device.
        return torch.full(x.shape[:1], float(log_snr), dtype=torch.float32, device=x.device)
    axes = 1 + max((i for i, size in enumerate(t.shape) if size != 1), default=0)
    if t.ndim:
        log_snr = log_snr.reshape(t.shape[:axes])
    return torch.zeros(x.shape[:axes], device=x.device) + log_snr.to(torch.float32)
