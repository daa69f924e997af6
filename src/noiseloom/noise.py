"""Schedules: how much signal and how much noise a state holds at time t.

A schedule maps t in [0, 1] to (alpha, sigma) in x_t = alpha x_0 + sigma eps. The one constraint is
that log-SNR = 2 ln(alpha / sigma) decreases. Nothing promises alpha^2 + sigma^2 = 1 (variance
preserving), nor that the ends are exactly clean or exactly noise: each docstring says by how much
not.

Neither alpha nor sigma loses digits near its zero: they are made from sines, `expm1` and products,
never as 1 - x, in float64 (where the device has it), and rounded once.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from noiseloom.schedule import Pair, Schedule, wide

__all__ = [
    "DDPM",
    "EDM",
    "SCHEDULES",
    "Cosine",
    "LinearGamma",
    "RectifiedFlow",
    "ScaledCosine",
    "Schedule",
    "Sigmoid",
]


class _GammaPair(Pair):
    """Variance-preserving schedules given by the odds gamma : 1 - gamma, up to a common factor."""

    clip: float

    def __post_init__(self) -> None:
        if not 0 <= self.clip < 1:
            raise ValueError(f"clip must be in [0, 1), got {self.clip}")

    def _odds(self, t: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def _pair(self, t: Tensor) -> tuple[Tensor, Tensor]:
        signal, noise = self._odds(t)
        total = signal + noise
        gamma, rest = signal / total, noise / total
        low = gamma < self.clip
        return (
            gamma.masked_fill(low, self.clip).sqrt(),
            rest.masked_fill(low, 1 - self.clip).sqrt(),
        )


@dataclass(frozen=True)
class Cosine(Pair):
    """The cosine of Bit Diffusion: alpha = cos(theta), sigma = sin(theta).

    theta(t) = (t + ns) / (1 + ds) * pi / 2. At the ends sigma(0) = 3.14e-4 and alpha(1) = 7.85e-5.

    Args:
        ns: offset of the clean end.
        ds: offset of the noisy end.

    References:
        T. Chen, R. Zhang, G. Hinton, 2022, Analog Bits, arXiv 2208.04202, Algorithm 4.
    """

    ns: float = 2e-4
    ds: float = 2.5e-4

    def _pair(self, t: Tensor) -> tuple[Tensor, Tensor]:
        scale = math.pi / 2 / (1 + self.ds)
        # cos(theta) as the sine of what is missing to pi / 2: exact digits where it vanishes.
        return (scale * ((1 - t) + (self.ds - self.ns))).sin(), (scale * (t + self.ns)).sin()

    def time(self, log_snr: Tensor) -> Tensor:
        """Time t = (1 + ds) theta 2 / pi - ns with theta = atan(exp(-log_snr / 2))."""
        theta = (wide(log_snr) * -0.5).exp().atan()
        return (theta * (2 / math.pi * (1 + self.ds)) - self.ns).to(log_snr.dtype)


@dataclass(frozen=True)
class ScaledCosine(_GammaPair):
    """The cosine with a start, an end and a temperature, scaled to meet both ends.

    gamma = [cos(u)^(2 tau) - y_e] / [y_s - y_e], u = ((end - start) t + start) pi / 2, y_s and y_e
    the power at the two ends; gamma is at least `clip`. sigma(0) = 0, alpha(1) = sqrt(clip).

    Args:
        start: in [0, 1).
        end: in (start, 1].
        tau: exponent, > 0.
        clip: smallest gamma, in [0, 1).

    References:
        T. Chen, 2023, On the Importance of Noise Scheduling, arXiv 2301.10972, Algorithm 1.
    """

    start: float = 0.0
    end: float = 1.0
    tau: float = 1.0
    clip: float = 1e-9

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (0 <= self.start < self.end <= 1 and self.tau > 0):
            raise ValueError(f"a cosine needs 0 <= start < end <= 1 and tau > 0, got {self}")

    def _odds(self, t: Tensor) -> tuple[Tensor, Tensor]:
        half = math.pi / 2
        start, end, span = self.start * half, self.end * half, (self.end - self.start) * half
        cos_u = (half * (1 - self.end) + span * (1 - t)).sin()

        def log_ratio(other: float, distance: Tensor) -> Tensor:  # ln(cos u / cos other)
            change = -2 * (other + distance / 2).sin() * (distance / 2).sin() / math.cos(other)
            return torch.log1p(change.clamp_min(-1))  # rounding may pass -1 where cos u = 0

        noise = -(math.cos(start) ** (2 * self.tau)) * torch.expm1(
            2 * self.tau * log_ratio(start, span * t)
        )
        if self.end == 1:
            return cos_u ** (2 * self.tau), noise
        above = torch.expm1(2 * self.tau * log_ratio(end, -span * (1 - t)))
        return math.cos(end) ** (2 * self.tau) * above, noise

    def time(self, log_snr: Tensor) -> Tensor:
        """Solve gamma(t) = sigmoid(log_snr) for t."""
        gamma, rest = wide(log_snr).sigmoid(), wide(-log_snr).sigmoid()
        y_s = math.cos(self.start * math.pi / 2) ** (2 * self.tau)
        y_e = math.cos(self.end * math.pi / 2) ** (2 * self.tau) if self.end < 1 else 0.0
        power = (gamma * y_s + rest * y_e).clamp(0, 1) ** (1 / self.tau)
        if self.start == 0:
            # Digits of u near its zero: 1 - power = 1 - (1 - rest (1 - y_e))^(1 / tau).
            loss = -torch.expm1(torch.log1p((-rest * (1 - y_e)).clamp_min(-1 + 1e-16)) / self.tau)
        else:
            loss = 1 - power
        u = torch.atan2(loss.sqrt(), power.sqrt())
        t = (u * (2 / math.pi) - self.start) / (self.end - self.start)
        return t.clamp(0, 1).to(log_snr.dtype)


@dataclass(frozen=True)
class Sigmoid(_GammaPair):
    """The sigmoid schedule, scaled to meet both ends.

    gamma = [s(e') - s(v')] / [s(e') - s(s')] with s the logistic function, v = (end - start) t +
    start and primes for division by tau. sigma(0) = 0, alpha(1) = sqrt(clip).

    Args:
        start: logit of the clean end.
        end: logit of the noisy end, > start.
        tau: temperature, > 0.
        clip: smallest gamma, in [0, 1).

    References:
        T. Chen, 2023, arXiv 2301.10972, Algorithm 1; A. Jabri, D. Fleet, T. Chen, 2022, 2212.11972.
    """

    start: float = -3.0
    end: float = 3.0
    tau: float = 1.0
    clip: float = 1e-9

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.start < self.end and self.tau > 0):
            raise ValueError(f"a sigmoid needs start < end and tau > 0, got {self}")

    def _odds(self, t: Tensor) -> tuple[Tensor, Tensor]:
        # s(a) - s(b) = sinh((a - b) / 2) / (2 cosh(a / 2) cosh(b / 2)): a difference without one.
        start, end = self.start / (2 * self.tau), self.end / (2 * self.tau)
        signal = ((end - start) * (1 - t)).sinh() * math.cosh(start)
        return signal, ((end - start) * t).sinh() * math.cosh(end)

    def time(self, log_snr: Tensor) -> Tensor:
        """Solve tanh(v' / 2) = (1 - gamma) tanh(e' / 2) + gamma tanh(s' / 2) for t."""
        start, end = self.start / (2 * self.tau), self.end / (2 * self.tau)
        gamma, rest = wide(log_snr).sigmoid(), wide(-log_snr).sigmoid()
        v = (rest * math.tanh(end) + gamma * math.tanh(start)).atanh()
        return ((v - start) / (end - start)).clamp(0, 1).to(log_snr.dtype)


@dataclass(frozen=True)
class LinearGamma(_GammaPair):
    """gamma = 1 - t, at least `clip`: alpha = sqrt(1 - t), sigma = sqrt(t).

    Not the linear-beta schedule (`DDPM`). On categorical data it is the log-linear mask.

    References:
        T. Chen, 2023, arXiv 2301.10972 ("simple linear").
    """

    clip: float = 1e-9

    def _odds(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return 1 - t, t

    def time(self, log_snr: Tensor) -> Tensor:
        """Time t = sigmoid(-log_snr)."""
        return wide(-log_snr).sigmoid().to(log_snr.dtype)


@dataclass(frozen=True)
class DDPM(Pair):
    """Linear beta in continuous time: ln gamma = -beta_min t - (beta_max - beta_min) t^2 / 2.

    The limit of 1,000 discrete steps from 1e-4 to 0.02. sigma(0) = 0, alpha(1) = 6.6e-3.

    Args:
        beta_min: rate at t = 0, > 0.
        beta_max: rate at t = 1, >= beta_min.

    References:
        J. Ho, A. Jain, P. Abbeel, 2020, arXiv 2006.11239; Y. Song et al., 2021, 2011.13456, Eq. 33.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.beta_min <= self.beta_max:
            raise ValueError(f"linear beta needs 0 < beta_min <= beta_max, got {self}")

    def _pair(self, t: Tensor) -> tuple[Tensor, Tensor]:
        log_gamma = -t * (self.beta_min + (self.beta_max - self.beta_min) / 2 * t)
        return (log_gamma / 2).exp(), (-torch.expm1(log_gamma)).sqrt()

    def time(self, log_snr: Tensor) -> Tensor:
        """Positive root of (beta_max - beta_min) t^2 / 2 + beta_min t = softplus(-log_snr)."""
        loss = torch.nn.functional.softplus(wide(-log_snr))
        root = (self.beta_min**2 + 2 * (self.beta_max - self.beta_min) * loss).sqrt()
        return (2 * loss / (self.beta_min + root)).to(log_snr.dtype)


@dataclass(frozen=True)
class EDM(Pair):
    """Variance exploding: alpha = 1, sigma = sigma_max t^rho.

    Noise levels uniform in sigma^(1 / rho), as in EDM, are uniform times, and t = 0 is exactly
    clean: EDM's sigma_min belongs to the plan (`SamplingPlan.karras`).

    Args:
        sigma_max: noise level at t = 1, > 0.
        rho: exponent, > 0.

    References:
        T. Karras et al., 2022, arXiv 2206.00364, Eq. 5.
    """

    sigma_max: float = 80.0
    rho: float = 7.0

    def __post_init__(self) -> None:
        if not (self.sigma_max > 0 and self.rho > 0):
            raise ValueError(f"EDM needs sigma_max > 0 and rho > 0, got {self}")

    def _pair(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(t), self.sigma_max * t**self.rho

    def time(self, log_snr: Tensor) -> Tensor:
        """Time t = (sigma / sigma_max)^(1 / rho), sigma = exp(-log_snr / 2)."""
        log_sigma = -wide(log_snr) / 2
        return ((log_sigma - math.log(self.sigma_max)) / self.rho).exp().to(log_snr.dtype)


@dataclass(frozen=True)
class RectifiedFlow(Pair):
    """The straight line: alpha = 1 - t, sigma = t. Both ends are exact.

    References:
        X. Liu, C. Gong, Q. Liu, 2022, arXiv 2209.03003; Y. Lipman et al., 2022, 2210.02747.
    """

    def _pair(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return 1 - t, t

    def time(self, log_snr: Tensor) -> Tensor:
        """Time t = sigmoid(-log_snr / 2)."""
        return (wide(log_snr) / -2).sigmoid().to(log_snr.dtype)


SCHEDULES: dict[str, Schedule] = {
    "cosine": Cosine(),
    "scaled-cosine": ScaledCosine(),
    "sigmoid": Sigmoid(),
    "linear": LinearGamma(),
    "ddpm": DDPM(),
    "edm": EDM(),
    "rectified-flow": RectifiedFlow(),
}
"""Schedules by the name that a recipe's options use, with their default parameters."""
