"""Gaussian noise: x_t = alpha x_0 + sigma eps.

Everything about one move is in two coefficients of `reverse`. With rho = alpha_t sigma_s / (alpha_s
sigma_t) = exp((logSNR_t - logSNR_s) / 2), which is 1 where s = t and 0 where alpha_t or sigma_s is,
the posterior q(x_s | x_t, x_0) and the whole family between it and the deterministic map is

    x_s = alpha_s x_0 + sigma_s sqrt(1 - eta^2 (1 - rho^2)) eps + eta sigma_s sqrt(1 - rho^2) z

with eps = (x_t - alpha_t x_0) / sigma_t: DDIM at eta = 0, DDPM at eta = 1 (J. Song, C. Meng, S.
Ermon, 2021, arXiv 2010.02502, Eq. 12 and 16, written without cancellation and for any schedule).
"""

from dataclasses import dataclass, field, replace
from typing import Literal, Self

import torch
from torch import Tensor
from torch.nn import functional

from noiseloom.diffusion.prediction import Prediction
from noiseloom.diffusion.subspaces import Subspace, Whole
from noiseloom.noise import Cosine, Schedule
from noiseloom.rng import Rng
from noiseloom.shapes import align, mean_like

__all__ = ["GaussianDiffusion", "check_order", "where_moved"]


@dataclass(frozen=True)
class GaussianDiffusion:
    """Gaussian diffusion on a vector space or a linear subspace of one.

    What a denoiser says is projected on the subspace, of which the posterior mean is a point: so
    every move stays in it, whatever the network and its head are.

    Args:
        schedule: t -> (alpha, sigma).
        subspace: where the noise lives.

    References:
        D. Kingma et al., 2021, Variational Diffusion Models, arXiv 2107.00630, Section 3.
    """

    schedule: Schedule = field(default_factory=Cosine)
    subspace: Subspace = field(default_factory=Whole)

    def on(self, mask: Tensor) -> Self:
        """The same diffusion of a batch of which some nodes are padding.

        Args:
            mask: bool, shape (B, N) or (1, N), True for a real node; on the state's device.
        """
        return replace(self, subspace=self.subspace.on(mask))

    def prior(self, shape: tuple[int, ...] | Tensor, rng: Rng) -> Tensor:
        """A state at time 1: sigma(1) times noise.

        Args:
            shape: its shape, or a tensor like it (shape, type and device).
            rng: key of the draw.
        """
        like = shape if isinstance(shape, Tensor) else torch.empty(shape)
        _, sigma = self.schedule(torch.ones((), dtype=like.dtype))
        return self.subspace.noise(rng.normal_like(like)) * sigma

    def corrupt(self, clean: Tensor, t: Tensor, rng: Rng) -> Tensor:
        """A draw of q(x_t | x_0): alpha x_0 + sigma noise.

        Args:
            clean: x_0, a floating-point state.
            t: time, a left prefix of its shape.
            rng: key of the draw.

        Raises:
            ValueError: x_0 is not in the subspace (read on the CPU only).
        """
        self.subspace.require(clean)
        alpha, sigma = self.schedule(self._align(t, clean))
        return alpha * clean + sigma * self.subspace.noise(rng.normal_like(clean))

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
            prediction: the estimate of x_0.
            t: time of `x`, a left prefix of its shape.
            s: time to move to, s <= t.
            rng: key of the draw; not needed at stochasticity 0.
            stochasticity: eta in [0, 1]: 0 is DDIM, 1 is DDPM.
            variance: of the noise added: "small" is the posterior's, sigma_s^2 (1 - rho^2);
                "large" is sigma_t^2 (1 - rho^2), the paper's default at stochasticity 1.

        Raises:
            ValueError: s > t (read on the CPU only, where that costs no wait), a stochasticity out
                of range, or noise to draw without a key.
        """
        if not 0 <= stochasticity <= 1:
            raise ValueError(f"stochasticity must be in [0, 1], got {stochasticity}")
        t, s = self._align(t, x), self._align(s, x)
        check_order(t, s, down=True)
        alpha_t, sigma_t = self.schedule(t)
        alpha_s, sigma_s = self.schedule(s)
        mean = self.subspace.project(prediction.mean)
        eps = (x - alpha_t * mean) / sigma_t.masked_fill(sigma_t <= 0, 1)
        if stochasticity == 0:
            return where_moved(alpha_s * mean + sigma_s * eps, x, t, s)
        if rng is None:
            raise ValueError(f"stochasticity {stochasticity} draws noise: give rng")
        # 1 - rho^2; -inf - (-inf) at two times without signal is a token that stays.
        fresh = -torch.expm1(self.schedule.log_snr(t) - self.schedule.log_snr(s)).nan_to_num(0.0)
        noise = self.subspace.noise(rng.normal_like(x))
        spread = sigma_s if variance == "small" else sigma_t
        kept = (1 - stochasticity**2 * fresh).clamp_min(0).sqrt()
        new = alpha_s * mean + sigma_s * kept * eps + stochasticity * spread * fresh.sqrt() * noise
        return where_moved(new, x, t, s)

    def renoise(self, x: Tensor, t: Tensor, s: Tensor, rng: Rng) -> Tensor:
        """One move up from t to s >= t, a draw of q(x_s | x_t); the identity where s == t.

        x_s = (alpha_s / alpha_t) x_t + sqrt(sigma_s^2 - (alpha_s / alpha_t)^2 sigma_t^2) z.

        Raises:
            ValueError: s < t, as far as the host knows them.
        """
        t, s = self._align(t, x), self._align(s, x)
        check_order(t, s, down=False)
        alpha_t, sigma_t = self.schedule(t)
        alpha_s, sigma_s = self.schedule(s)
        ratio = alpha_s / alpha_t.masked_fill(alpha_t <= 0, 1)
        spread = (sigma_s - ratio * sigma_t).clamp_min(0) * (sigma_s + ratio * sigma_t)
        new = ratio * x + spread.sqrt() * self.subspace.noise(rng.normal_like(x))
        return where_moved(new, x, t, s)

    def result(self, prediction: Prediction, x: Tensor, s: Tensor) -> Tensor:
        """What a state at time s is decoded from: the estimate, a point of the subspace."""
        return self.subspace.project(prediction.mean)

    def loss(self, prediction: Prediction, clean: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """Squared error of the mean, or cross-entropy where the prediction has logits.

        Sigmoid logits f: log(1 + exp(-f)) for a positive entry of x_0, log(1 + exp(f)) for another.
        Softmax logits: -log softmax at the class whose code is nearest to x_0, given to each entry
        of its group. All have the same optimum, the posterior mean.

        Args:
            prediction: of x_0 from x_t.
            clean: x_0.
            x: x_t (not used by these losses).
            t: its time.

        Returns:
            Nats or squares, averaged over the axes where the aligned time is 1, in its shape.
            Entries that the subspace has not (padding, the diagonal) are not counted.
        """
        t, held = self._align(t, clean), self.subspace.held(clean)
        if prediction.logits is None:
            return mean_like((prediction.mean - clean).square(), t, held)
        logits = prediction.logits.to(clean.dtype)
        if prediction.codes is None:
            per_entry = functional.softplus(torch.where(clean > 0, -logits, logits))
            return mean_like(per_entry, t, held)
        codes, axis = prediction.codes.to(clean.dtype), prediction.axis
        last = clean.movedim(axis, -1)
        groups = torch.unflatten(last, -1, (-1, codes.shape[1]))
        # Of all |x - c|^2, less what is the same for all codes; these may be of several norms.
        label = (groups @ codes.T - codes.square().sum(1) / 2).argmax(-1)
        nats = torch.logsumexp(logits, -1) - logits.gather(-1, label[..., None])[..., 0]
        per_entry = nats[..., None].expand(groups.shape).flatten(-2).movedim(-1, axis)
        return mean_like(per_entry, t, held)

    def tilt(self, prediction: Prediction, grad: Tensor, x: Tensor, t: Tensor) -> Prediction:
        """The prediction after multiplying p_t by a likelihood.

        mean + (sigma^2 / alpha) C grad; unchanged where alpha = 0.

        Args:
            prediction: of x_0 from x_t.
            grad: gradient of the log-likelihood in x_t, in its shape.
            x: x_t.
            t: its time.
        """
        alpha, sigma = self.schedule(self._align(t, x))
        none = alpha <= 0
        gain = (sigma * sigma / alpha.masked_fill(none, 1)).masked_fill(none, 0)
        mean = self.subspace.project(prediction.mean)
        return Prediction(mean + gain * self.subspace.covariance(grad))

    def _align(self, t: Tensor, x: Tensor) -> Tensor:
        t = align(t, x)
        self.subspace.check(t)
        return t


def check_order(t: Tensor, s: Tensor, *, down: bool) -> None:
    """Whether a move goes the way it should, as far as the host knows its times."""
    if not t.device.type == s.device.type == "cpu" or torch.compiler.is_compiling():
        return
    wrong = ~(s <= t if down else s >= t)  # NaN is wrong too
    if wrong.any():
        start, end = (float(v.expand_as(wrong)[wrong][0]) for v in (t, s))
        sign = "<=" if down else ">="
        raise ValueError(f"a move needs s {sign} t, got t = {start:.6g} and s = {end:.6g}")


def where_moved(new: Tensor, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """`new` where an aligned time moves, `x` bit for bit where it stays."""
    if t.ndim == s.ndim == 0 and t.device.type == "cpu":  # a fact already known to the host
        return x if bool(s == t) else new
    return torch.where(s == t, x, new)
