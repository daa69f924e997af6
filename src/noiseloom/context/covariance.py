"""The covariance of what a guide should say of unlabelled inputs, before any label is seen.

    K_ij = sqrt(sigma_i sigma_j) h_i . h_j + delta_ij tau_i

h_i are features of input i under a random network, so that inputs which such a network cannot tell
apart go together; sigma is the variance that they share, tau that of each alone. Both depend on the
time of the input. K is a constant of the training: no gradient passes through it.
"""

import math
from collections.abc import Callable
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from noiseloom.noise import Schedule
from noiseloom.schedule import wide

__all__ = [
    "COVARIANCES",
    "CovarianceSchedule",
    "Kernel",
    "constant_covariance",
    "linear_covariance",
    "noise_covariance",
    "sigmoid_covariance",
]

CovarianceSchedule: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From times in [0, 1] to what sigma and tau are multiplied by, in the shape of the times."""


def sigmoid_covariance(t: Tensor) -> tuple[Tensor, Tensor]:
    """sigma: logistic(7 (1/2 - t)) + 0.1, tau: logistic(7 (t - 1/2)) + 0.1; they add up to 1.2.

    Noisy inputs are left more to themselves. The released code's.

    References:
        L. Klarner et al., 2024, Context-Guided Diffusion, arXiv 2407.11942.
    """
    return (7 * (0.5 - t)).sigmoid() + 0.1, (7 * (t - 0.5)).sigmoid() + 0.1


def linear_covariance(t: Tensor) -> tuple[Tensor, Tensor]:
    """sigma: 1.1 - t, tau: t + 0.1: the straight line between nearly the same ends."""
    return 1.1 - t, t + 0.1


def constant_covariance(t: Tensor) -> tuple[Tensor, Tensor]:
    """1 and 1."""
    return torch.ones_like(t), torch.ones_like(t)


def noise_covariance(*schedules: Schedule) -> CovarianceSchedule:
    """sigma: 1.1 - u, tau: u + 0.1, by the share of noise, u = sigma^2 / (alpha^2 + sigma^2).

    What the sigmoid approximates, for schedules whose times are not spread as the paper's are.

    Args:
        schedules: of the states; of several parts each has its own, and u is their mean.
    """

    def covariance(t: Tensor) -> tuple[Tensor, Tensor]:
        shares = [(-schedule.log_snr(t)).sigmoid() for schedule in schedules]
        return linear_covariance(torch.stack(shares).mean(0))

    return covariance


COVARIANCES: dict[str, CovarianceSchedule] = {
    "sigmoid": sigmoid_covariance,
    "linear": linear_covariance,
    "constant": constant_covariance,
}
"""Schedules by the name that an option uses."""


class Kernel:
    """K = S^1/2 h h^T S^1/2 + T, factored once: Mahalanobis distances and the log-determinant.

    Computed in float64 (float32 where the device has none). Cholesky's factor of K costs M^3 / 3,
    Woodbury's identity M F^2: by default the smaller size M or F decides.

    Args:
        features: h, shape (M, F); gradients stop here.
        sigma: variance of what is shared, shape (M,), >= 0.
        tau: variance of each alone, shape (M,), >= 0, and > 0 for Woodbury's identity.
        method: "cholesky", "woodbury", or "auto".

    Raises:
        ValueError: shapes that do not fit, numbers that are not finite, or a singular K.

    Example:
        >>> h = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
        >>> kernel = Kernel(h, torch.full((3,), 2.0), torch.full((3,), 0.5))
        >>> kernel.distance(torch.tensor([0.5, -1.0, 2.0]))
        tensor(4.9308, dtype=torch.float64)
    """

    @torch.no_grad()
    def __init__(
        self,
        features: Tensor,
        sigma: Tensor,
        tau: Tensor,
        method: Literal["auto", "cholesky", "woodbury"] = "auto",
    ) -> None:
        if method not in ("auto", "cholesky", "woodbury"):
            raise ValueError(f"method must be auto, cholesky or woodbury, got {method!r}")
        if features.ndim != 2 or not sigma.shape == tau.shape == features.shape[:1]:
            raise ValueError(
                f"features of shape {tuple(features.shape)}, sigma of {tuple(sigma.shape)} and tau "
                f"of {tuple(tau.shape)}: expected (M, F), (M,) and (M,)"
            )
        if not features.numel():
            raise ValueError(f"no context: features of shape {tuple(features.shape)}")
        self.size = len(features)
        sigma, self.tau = wide(sigma), wide(tau)
        self.root = wide(features) * sigma.sqrt()[:, None]  # (M, F)
        self.woodbury = method == "woodbury" or (method == "auto" and features.shape[1] < self.size)
        if self.woodbury:
            inner = torch.eye(features.shape[1]).to(self.root)
            matrix = inner + self.root.T @ (self.root / self.tau[:, None])
        else:
            matrix = self.root @ self.root.T + self.tau.diag()
        self.factor, failed = torch.linalg.cholesky_ex(matrix)
        # One question to the device: NaN, and negative variances, end here too.
        if not ((failed == 0) & self.factor.isfinite().all() & (self.tau >= 0).all()):
            raise ValueError(_why(features, sigma, self.tau))

    def distance(self, residual: Tensor) -> Tensor:
        """Squared Mahalanobis distances r^T K^-1 r.

        Args:
            residual: r, shape (M,), or (M, J) for J of them.

        Returns:
            Shape () or (J,), in float64; differentiable in r.

        Raises:
            ValueError: a residual of another size.
        """
        if residual.ndim not in (1, 2) or len(residual) != self.size:
            raise ValueError(
                f"a residual of shape {tuple(residual.shape)} for {self.size} context points: "
                f"expected ({self.size},) or ({self.size}, J)"
            )
        r = wide(residual).reshape(self.size, -1)
        if self.woodbury:
            # min_w |r - U w|^2_{T^-1} + |w|^2 is the same number, without a difference of squares.
            scaled = self.tau[:, None].rsqrt()
            w = torch.cholesky_solve(self.root.T @ (r * scaled * scaled), self.factor)
            total = ((r - self.root @ w) * scaled).square().sum(0) + w.square().sum(0)
        else:
            white = torch.linalg.solve_triangular(self.factor, r, upper=False)
            total = white.square().sum(0)
        return total[0] if residual.ndim == 1 else total

    def log_det(self) -> Tensor:
        """Ln det K, a number in float64."""
        log: Tensor = 2 * self.factor.diagonal().log().sum()
        return log + self.tau.log().sum() if self.woodbury else log

    def energy(self, residual: Tensor) -> Tensor:
        """-ln N(r; 0, K) = (r^T K^-1 r + ln det K + M ln 2 pi) / 2, in the shape of `distance`."""
        constant = self.log_det() + self.size * math.log(2 * math.pi)
        return (self.distance(residual) + constant) / 2


def _why(features: Tensor, sigma: Tensor, tau: Tensor) -> str:
    """Why a kernel has no factor."""
    for name, value in (("features", features), ("sigma", sigma), ("tau", tau)):
        if not value.isfinite().all():
            return f"the context's {name} are not finite: has the guide's network diverged?"
    if (sigma < 0).any() or (tau < 0).any():
        return f"variances must be >= 0, got sigma {float(sigma.min())}, tau {float(tau.min())}"
    return (
        f"the context's covariance of {len(features)} points is singular: tau is as small as "
        f"{float(tau.min()):.3g} beside sigma {float(sigma.max()):.3g}; take a larger tau"
    )
