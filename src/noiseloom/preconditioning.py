"""How a state is shown to a network, and what the network's output says of the clean one.

`Preconditioning` is the only place that knows parameterisations and heads. The network sees the
state at unit variance and the log-SNR instead of the time, so the schedule may change after
training.
"""

from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor

from noiseloom.diffusion import Prediction, from_score
from noiseloom.manifolds import Manifold
from noiseloom.noise import Schedule

__all__ = [
    "LOG_SNR_LIMIT",
    "Head",
    "LinearHead",
    "Preconditioning",
    "SigmoidHead",
    "SoftmaxHead",
    "network_clock",
]

LOG_SNR_LIMIT = 20.0
"""Networks never see a log-SNR beyond this: clean context and pure noise are ordinary inputs."""


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


@dataclass(frozen=True, eq=False)
class Preconditioning:
    """From a state to what a network sees, and from its output to an estimate of x_0.

    With r = sqrt(alpha^2 + sigma^2), y = x / r, and f the network's output at (y, log-SNR):

        x0:  mean = head(f)
        eps: mean = (x - sigma f) / alpha
        v:   mean = (alpha y - sigma f) / r
        edm: mean = (alpha d^2 x / q + sigma d f) / q, q = sqrt(alpha^2 d^2 + sigma^2), d =
             data_std; the network sees x / q
        score: score = f / sigma, mean = exp_x(sigma f), on a manifold, whose features of x (of an
             angle its sine and cosine) the network sees

    Args:
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

    schedule: Schedule
    target: Literal["x0", "eps", "v", "edm", "score"] = "x0"
    head: Head = field(default_factory=LinearHead)
    data_std: float = 1.0
    clock: float = LOG_SNR_LIMIT
    manifold: Manifold | None = None

    def __post_init__(self) -> None:
        if not 0 < self.clock <= LOG_SNR_LIMIT:
            raise ValueError(f"clock must be in (0, {LOG_SNR_LIMIT:g}], got {self.clock}")
        if self.target not in ("x0", "eps", "v", "edm", "score"):
            raise ValueError(f"target must be one of x0, eps, v, edm, score, got {self.target!r}")
        if (self.target == "score") != (self.manifold is not None):
            raise ValueError("target 'score' is for a manifold, and on one there is no other")
        if not isinstance(self.head, LinearHead) and self.target != "x0":
            raise ValueError(f"a cross-entropy head predicts x0, not {self.target!r}")
        if self.target == "eps" and float(self.schedule(torch.ones(()))[0]) == 0:
            raise ValueError(
                f"target 'eps' says nothing about x_0 at t = 1, where alpha = 0 for "
                f"{self.schedule}: use 'x0' or 'v'"
            )

    def level(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Alpha, sigma and 1 / q (1 / r) at an aligned time."""
        alpha, sigma = self.schedule(t)
        std = self.data_std if self.target == "edm" else 1.0
        return alpha, sigma, (alpha * alpha * (std * std) + sigma * sigma).rsqrt()

    def seen(self, x: Tensor, level: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """What the network sees of a state; classes, which have no scale, as they are."""
        if not x.is_floating_point():
            return x
        return (x * level[2]).to(x.dtype) if self.manifold is None else self.manifold.features(x)

    def told(self, x: Tensor, t: Tensor) -> Tensor:
        """The log-SNR that the network is told, `network_clock`."""
        return network_clock(self.schedule, x, t, self.clock)

    def estimate(
        self,
        f: Tensor,
        x: Tensor,
        level: tuple[Tensor, Tensor, Tensor],
        dtype: torch.dtype | None = None,
    ) -> Prediction:
        """What an output f says of x_0, in the state's type, or, for classes, in another."""
        # Without gradients the network may be a CUDA graph, which writes its next results where
        # these are: a mean that is the output itself is copied.
        f = f.to(dtype or x.dtype, copy=self.target == "x0" and not torch.is_grad_enabled())
        alpha, sigma, scale = level
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
