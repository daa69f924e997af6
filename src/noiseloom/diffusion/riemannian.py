"""Noise on a curved space: x_t is a draw of the heat kernel around x_0, at sigma(t).

There is no origin to shrink to, so alpha = 1, and no mean to predict, so the network says sigma
times the score of p_t. A move is a geodesic along it,

    x_s = exp_x(sigma_t (sigma_t - sigma_s k) score + eta sigma_s sqrt(1 - rho^2) z),
    rho = sigma_s / sigma_t, k = sqrt(1 - eta^2 (1 - rho^2)),

which is the Gaussian family of moves (`gaussian`) where the space looks flat: the probability flow
at eta = 0, the geodesic random walk at eta = 1. Both reach the law in the limit of many steps.
"""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from noiseloom.diffusion.gaussian import check_order, where_moved
from noiseloom.diffusion.prediction import Prediction
from noiseloom.manifolds import Manifold, Torus
from noiseloom.noise import EDM, Schedule
from noiseloom.rng import Rng
from noiseloom.shapes import align, mean_like

__all__ = ["RiemannianDiffusion", "from_score"]


@dataclass(frozen=True)
class RiemannianDiffusion:
    """Diffusion by the heat kernel of a compact manifold.

    The default ends at sigma(1) = 9, where on the torus the density of each angle is uniform to one
    part in 2e17, and no float64 tells it from the prior.

    Args:
        manifold: the space.
        schedule: t -> (1, sigma); variance exploding.

    Raises:
        ValueError: alpha is not 1, or sigma(1) is so small that p_1 differs from the uniform prior
            by more than rounding in float32, 2^-24.

    References:
        V. De Bortoli et al., 2022, Riemannian Score-Based Generative Modelling, arXiv 2202.02763.
    """

    manifold: Manifold = field(default_factory=Torus)
    schedule: Schedule = field(default_factory=lambda: EDM(9.0, 3.0))

    def __post_init__(self) -> None:
        alpha, sigma = self.schedule(torch.linspace(0, 1, 11, dtype=torch.float64))
        if not (alpha == 1).all():
            raise ValueError(
                f"a curved space has no origin to shrink to, and needs alpha = 1: {self.schedule} "
                "does not have it, EDM does"
            )
        if not (left := self.manifold.remnant(float(sigma[-1]))) <= 2**-24:
            raise ValueError(
                f"at time 1 the law must be uniform to 6e-8, but sigma(1) = {float(sigma[-1]):.4g} "
                f"leaves {left:.1e}: end at a larger one"
            )

    def prior(self, shape: tuple[int, ...] | Tensor, rng: Rng) -> Tensor:
        """A state at time 1, uniform.

        Args:
            shape: its shape, or a tensor like it (shape, type and device).
            rng: key of the draw.
        """
        like = shape if isinstance(shape, Tensor) else torch.empty(shape)
        return self.manifold.uniform(like, rng)

    def corrupt(self, clean: Tensor, t: Tensor, rng: Rng) -> Tensor:
        """A draw of q(x_t | x_0), the heat kernel around x_0.

        Args:
            clean: x_0.
            t: time, a left prefix of its shape.
            rng: key of the draw.
        """
        return self.manifold.heat(clean, self._sigma(t, clean), rng)

    def reverse(
        self,
        x: Tensor,
        prediction: Prediction,
        t: Tensor,
        s: Tensor,
        rng: Rng | None = None,
        *,
        stochasticity: float = 0.0,
        variance: Literal["small", "large"] = "small",
    ) -> Tensor:
        """One move from t to s <= t; the identity, bit for bit, where s == t.

        Args:
            x: state at t.
            prediction: with the score of p_t at x.
            t: time of `x`, a left prefix of its shape.
            s: time to move to, s <= t.
            rng: key of the draw; not needed at stochasticity 0.
            stochasticity: eta in [0, 1]: 0 is the probability flow, 1 the geodesic random walk.
            variance: of the noise added: "small" is sigma_s^2 (1 - rho^2), and none in a move to
                time 0; "large" is sigma_t^2 (1 - rho^2), the paper's.

        Raises:
            ValueError: s > t (read on the CPU only, where that costs no wait), a stochasticity out
                of range, noise to draw without a key, or a prediction without a score.

        References:
            V. De Bortoli et al., 2022, arXiv 2202.02763, Algorithm 1.
        """
        if not 0 <= stochasticity <= 1:
            raise ValueError(f"stochasticity must be in [0, 1], got {stochasticity}")
        t, s = align(t, x), align(s, x)
        check_order(t, s, down=True)
        sigma_t, sigma_s = self.schedule(t)[1], self.schedule(s)[1]
        score = _score(prediction)
        if stochasticity == 0:
            move = sigma_t * (sigma_t - sigma_s) * score
            return where_moved(self.manifold.exp(x, move), x, t, s)
        if rng is None:
            raise ValueError(f"stochasticity {stochasticity} draws noise: give rng")
        rho = sigma_s / sigma_t.masked_fill(sigma_t <= 0, 1)
        fresh = (1 - rho) * (1 + rho)
        kept = (1 - stochasticity**2 * fresh).clamp_min(0).sqrt()
        spread = (sigma_s if variance == "small" else sigma_t) * fresh.clamp_min(0).sqrt()
        move = sigma_t * (sigma_t - sigma_s * kept) * score
        noise = stochasticity * spread * self.manifold.noise(x, rng)
        return where_moved(self.manifold.exp(x, move + noise), x, t, s)

    def renoise(self, x: Tensor, t: Tensor, s: Tensor, rng: Rng) -> Tensor:
        """One move up from t to s >= t, a draw of q(x_s | x_t); the identity where s == t.

        Heat of sigma^2 = sigma_s^2 - sigma_t^2, exactly: heat kernels are a semigroup.

        Raises:
            ValueError: s < t, as far as the host knows them.
        """
        t, s = align(t, x), align(s, x)
        check_order(t, s, down=False)
        sigma_t, sigma_s = self.schedule(t)[1], self.schedule(s)[1]
        spread = ((sigma_s - sigma_t).clamp_min(0) * (sigma_s + sigma_t)).sqrt()
        return where_moved(self.manifold.heat(x, spread, rng), x, t, s)

    def result(self, prediction: Prediction, x: Tensor, s: Tensor) -> Tensor:
        """What a state at time s is decoded from: the estimate."""
        return prediction.mean

    def loss(self, prediction: Prediction, clean: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """Denoising score matching, sigma^2 |score - grad_x ln p(x_t | x_0)|^2.

        Its optimum is the score of p_t, where it is not 0 but the spread of the single scores.

        Args:
            prediction: with the score at x_t.
            clean: x_0.
            x: x_t.
            t: its time.

        Returns:
            Squares, averaged over the axes where the aligned time is 1, in its shape.

        References:
            P. Vincent, 2011, "A connection between score matching and denoising autoencoders", Eq.
            11; V. De Bortoli et al., 2022, arXiv 2202.02763, Section 3.3.
        """
        sigma = self._sigma(t, x)
        off = sigma * (_score(prediction) - self.manifold.score(clean, x, sigma))
        return mean_like(off.square(), align(t, x))

    def tilt(self, prediction: Prediction, grad: Tensor, x: Tensor, t: Tensor) -> Prediction:
        """The prediction after multiplying p_t by a likelihood: score + the tangent part of grad.

        Args:
            prediction: with the score at x_t.
            grad: gradient of the log-likelihood in x_t, in its shape.
            x: x_t.
            t: its time.
        """
        score = _score(prediction) + self.manifold.project(x, grad)
        return from_score(self.manifold, x, score, self._sigma(t, x))

    def _sigma(self, t: Tensor, x: Tensor) -> Tensor:
        return self.schedule(align(t, x))[1]


def from_score(manifold: Manifold, x: Tensor, score: Tensor, sigma: Tensor) -> Prediction:
    """A score, with the mean that it stands for: exp_x(sigma^2 score), approximate.

    It is Tweedie's formula where sigma is so small that the space looks flat; at large sigma the
    mean of a point says nothing, as there is none on a curved space.

    Args:
        manifold: the space.
        x: x_t.
        score: of p_t at x.
        sigma: noise level, aligned with x.
    """
    return Prediction(manifold.exp(x, sigma * sigma * score), score=score)


def _score(prediction: Prediction) -> Tensor:
    if prediction.score is None:
        raise ValueError(
            "a curved space needs the score, and this prediction has only a mean: use a denoiser "
            "of target 'score', and no wrapper that combines means"
        )
    return prediction.score
