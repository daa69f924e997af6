"""Categorical noise: a token keeps its class, or has been drawn anew from a law of its own.

With gamma = alpha^2 / (alpha^2 + sigma^2) the law of a token x_t given x_0 is

    q(x_t | x_0) = gamma [x_t = x_0] + (1 - gamma) pi(x_t)

in continuous time, where pi is a class of its own, the mask (absorbing), uniform, or any law such
as the classes' own frequencies (marginal). A denoiser gives p(x_0 | x_t) for every token. Both that
and x_0 itself enter a move, and the likelihood, through the one vector

    r(j) = q(x_t = j) / q(x_t = y) = gamma w_j + (1 - gamma) pi_j sum_k w_k,
    w_k = p(x_0 = k) / q(x_t = y | x_0 = k)

the ratio of probabilities of being at j and where the token is, y.

J. Austin et al., 2021, arXiv 2107.03006 (discrete diffusion); A. Campbell et al., 2022, 2205.14987
(continuous time); S. Sahoo et al., 2024, 2406.07524, and J. Shi et al., 2024, 2406.04329 (masks);
A. Lou, C. Meng, S. Ermon, 2024, 2310.16834 (ratios); Y. Schiff et al., 2024, 2412.10193 (uniform).
"""

from dataclasses import dataclass, field
from typing import Literal, Self

import torch
from torch import Tensor
from torch.nn import functional

from noiseloom.diffusion import masks, ratios
from noiseloom.diffusion.class_data import as_classes
from noiseloom.diffusion.class_draws import drawn, drawn_alike
from noiseloom.diffusion.gaussian import check_order, where_moved
from noiseloom.diffusion.prediction import Prediction
from noiseloom.noise import LinearGamma, Schedule
from noiseloom.rng import Rng
from noiseloom.schedule import precise, wide
from noiseloom.shapes import align, mean_like

__all__ = ["CategoricalDiffusion"]

_STEP = 1e-4  # of the difference that gives the rate of a schedule


@dataclass(frozen=True, eq=False)
class CategoricalDiffusion:
    """Noise on classes 0 .. K - 1, each token of a state (B, ...) by itself.

    States are int64 whatever whole numbers the data are.

    Args:
        num_classes: K >= 2; the mask of an absorbing diffusion is class K besides.
        kind: absorbing, uniform, or marginal.
        schedule: t -> (alpha, sigma); linear in gamma, the log-linear mask, by default.
        probabilities: pi of a marginal diffusion, shape (K,), or (T, K) for tokens (B, T) with a
            law for each place; a class of probability 0 is none there.

    Raises:
        ValueError: fewer than two classes, or probabilities that are none, missing, or too many.
    """

    num_classes: int
    kind: Literal["absorbing", "uniform", "marginal"] = "absorbing"
    schedule: Schedule = field(default_factory=LinearGamma)
    probabilities: Tensor | None = None

    def __post_init__(self) -> None:
        if self.num_classes < 2:
            raise ValueError(f"num_classes must be at least 2, got {self.num_classes}")
        if self.kind not in ("absorbing", "uniform", "marginal"):
            raise ValueError(f"kind must be absorbing, uniform or marginal, got {self.kind!r}")
        pi = self.probabilities
        if (pi is None) != (self.kind != "marginal"):
            raise ValueError("probabilities are those of a marginal diffusion, and of it alone")
        if pi is not None and not (
            pi.shape[-1:] == (self.num_classes,)
            and (pi >= 0).all()
            and torch.allclose(pi.sum(-1), torch.ones(()).to(pi))
        ):
            raise ValueError(
                f"probabilities must be >= 0 and add up to 1 over {self.num_classes} classes, "
                f"got shape {tuple(pi.shape)}"
            )

    @classmethod
    def of_sizes(cls, sizes: tuple[int, ...], schedule: Schedule | None = None) -> Self:
        """Uniform over the classes 0 .. K_c - 1 of each place c."""
        most = max(sizes)
        counts = torch.tensor(sizes)[:, None]
        pi = (torch.arange(most) < counts) / counts
        return cls(most, "marginal", schedule or LinearGamma(), pi)

    @property
    def width(self) -> int:
        """Values of a token: K, and one more for the mask."""
        return self.num_classes + (self.kind == "absorbing")

    def prior(self, shape: tuple[int, ...] | Tensor, rng: Rng) -> Tensor:
        """A state at time 1: masks, or draws of pi.

        Args:
            shape: its shape, or a tensor like it (shape and device).
            rng: key of the draw.
        """
        place = shape.device if isinstance(shape, Tensor) else None
        size = tuple(shape.shape if isinstance(shape, Tensor) else shape)
        empty = torch.empty(size, dtype=torch.int64, device=place)
        return self._anew(empty, rng)

    def corrupt(self, clean: Tensor, t: Tensor, rng: Rng) -> Tensor:
        """A draw of q(x_t | x_0).

        Args:
            clean: x_0, whole numbers in 0 .. K - 1, of which pi has each.
            t: time, a left prefix of its shape.
            rng: key of the draw.

        Raises:
            TypeError: other numbers.
            ValueError: other classes (on the CPU, where a look at them waits for nothing).
        """
        clean = as_classes(clean, self.num_classes, self.probabilities)
        share = self.noise(align(t, clean)).to(torch.float32)
        return self._mixed(clean, share, rng)

    def renoise(self, x: Tensor, t: Tensor, s: Tensor, rng: Rng) -> Tensor:
        """One move up from t to s >= t, a draw of q(x_s | x_t); the identity where s == t.

        A token stays with probability gamma_s / gamma_t.

        Raises:
            ValueError: s < t, as far as the host knows them.
        """
        t, s = align(t, x), align(s, x)
        check_order(t, s, down=False)
        log, before = (functional.logsigmoid(self._log_snr(v)) for v in (s, t))  # of gamma
        share = -torch.expm1(log - before)
        return where_moved(self._mixed(x, share.nan_to_num(0.0).to(torch.float32), rng), x, t, s)

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
        """One move from t to s <= t, a draw of sum_k p(x_0 = k) q(x_s | x_t, x_0 = k).

        Args:
            x: state at t.
            prediction: p(x_0 | x_t) of each token.
            t: time of `x`, a left prefix of its shape.
            s: time to move to.
            rng: key of the draw.
            stochasticity: 0, for Gaussian states: there is no move without a draw here.
            variance: of Gaussian states' noise.

        Raises:
            ValueError: s > t (as far as the host knows), a stochasticity, or no rng.
        """
        if stochasticity:
            raise ValueError("classes are always drawn: leave stochasticity at 0, or use churned")
        if rng is None:
            raise ValueError("a move of classes is a draw: give rng")
        t, s, x = align(t, x), align(s, x), x.long()
        check_order(t, s, down=True)
        if self.kind == "absorbing":
            now, then = self._log_snr(t), self._log_snr(s)
            new = masks.unmasked(x, prediction.mean, now, then, rng)
        else:
            new = drawn(self.moved(x, prediction, t, s), rng)
        return where_moved(new, x, t, s)

    def moved(self, x: Tensor, prediction: Prediction, t: Tensor, s: Tensor) -> Tensor:
        """The law of x_s given x_t: probabilities of every value, shape (*x.shape, width)."""
        now, then, x = *(self._log_snr(align(v, x)) for v in (t, s)), x.long()
        p = precise(prediction.mean)
        if self.kind == "absorbing":
            return masks.moved(p, x, now, then)
        log = functional.logsigmoid(now) - functional.logsigmoid(then)  # of gamma_t / gamma_s
        kept = log.exp().to(p.dtype), (-torch.expm1(log)).to(p.dtype)
        gamma = now.sigmoid().to(p.dtype), then.sigmoid().to(p.dtype)
        noise = (-now).sigmoid().to(p.dtype), (-then).sigmoid().to(p.dtype)
        return ratios.moved(p, x, self._law(p), gamma, noise, kept)

    def evidence(self, x: Tensor, t: Tensor) -> Tensor:
        """What a token says of its own class: ln q(x_t | x_0 = k), shape (*x.shape, K).

        Of a mask it is nothing, 0 for all, and of a class that is seen beside masks everything.
        """
        x = x.long()
        if self.kind == "absorbing":
            return masks.evidence(x, self.num_classes)
        now = self._log_snr(align(t, x))
        gamma, noise = (v.sigmoid().to(torch.float32) for v in (now, -now))
        law = ratios.law_of(self.probabilities, self.num_classes, torch.float32, x.device)
        return ratios.evidence(x, law, gamma, noise, self.num_classes)

    def result(self, prediction: Prediction, x: Tensor, s: Tensor) -> Tensor:
        """The classes of a state at time s: itself where that is 0, else the likeliest."""
        return where_moved(prediction.mean.argmax(-1), x, torch.zeros_like(s), align(s, x))

    def loss(self, prediction: Prediction, clean: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """The integrand of the continuous-time negative ELBO: its mean over t ~ U(0, 1) is one.

        Masks: (u' / u) (-log p(x_0)) of masked tokens, u = 1 - gamma (1 / t for the linear one).
        Otherwise, with beta = u' / gamma and d(j) = log r_0(j) / r(j), r_0 that of x_0 itself,

            beta pi_y sum_{j != y} r_0(j) (exp(-d(j)) - 1 + d(j)),

        where r_0(j) is 0, of a class that pi has not, r(j).

        Args:
            prediction: p(x_0 | x_t), with logits where there are some.
            clean: x_0.
            x: x_t.
            t: its time.

        Returns:
            Nats of a token, averaged over the axes where the aligned time is 1, in its shape.

        References:
            S. Sahoo et al., 2024, arXiv 2406.07524, Eq. 10; Y. Schiff et al., 2024, 2412.10193,
            Eq. 18; A. Lou, C. Meng, S. Ermon, 2024, 2310.16834, Theorem 3.6.
        """
        t, clean, x = align(t, clean), clean.long(), x.long()
        p, share = precise(prediction.mean), self.noise(t)
        if self.kind == "absorbing":
            nats = -self._log_probability(prediction, clean)
            weight = (self.rate(t) / share).nan_to_num(0.0, posinf=0.0).to(nats.dtype)
            return mean_like(torch.where(x == self.num_classes, nats * weight, 0), t)
        # Bounded, so that tokens that are shown, and are not to count, have a finite loss.
        now, law = self._log_snr(t).clamp_max(30), self._law(p)
        gamma, noise = (v.sigmoid().to(p.dtype) for v in (now, -now))
        total = ratios.shortfall(p, clean, x, law, gamma, noise)
        beta = (self.rate(t) / (1 - share).clamp_min(1e-30)).to(p.dtype)
        own = law.at(x)
        nats = beta * own * total
        if isinstance(own, Tensor):  # noise leads to no class that pi has not: nothing is due there
            nats = torch.where(own > 0, nats, 0)
        return mean_like(nats, t)

    def cross_entropy(self, prediction: Prediction, clean: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """The -ln p(x_0), of masks alone where some tokens are masked: `loss` without its weights.

        It has the same optimum. Arguments and result are those of `loss`.
        """
        nats = -self._log_probability(prediction, clean.long())
        if self.kind == "absorbing":
            nats = torch.where(x == self.num_classes, nats, 0)
        return mean_like(nats, align(t, clean))

    def tilt(self, prediction: Prediction, grad: Tensor, x: Tensor, t: Tensor) -> Prediction:
        """The prediction after multiplying p(x_0) by a likelihood that has a factor per token.

        p(x_0 = k) becomes p(x_0 = k) exp(grad_k), normalised: exact where tokens are independent
        given x_t, and in the last row of each token.

        Args:
            prediction: p(x_0 | x_t).
            grad: log-likelihood of every clean class, shape (*x.shape, K).
            x: x_t.
            t: its time.

        Raises:
            ValueError: another shape, or (read on the CPU only) no class that both allow.
        """
        if grad.shape != prediction.mean.shape:
            raise ValueError(
                f"a likelihood of classes needs shape {tuple(prediction.mean.shape)}, a number for "
                f"each clean class, got {tuple(grad.shape)}"
            )
        said = prediction.logits
        logits = precise(prediction.mean).log() if said is None else precise(said).log_softmax(-1)
        logits = logits + grad
        if logits.device.type == "cpu" and (logits == -torch.inf).all(-1).any():
            raise ValueError("a likelihood and a denoiser that leave no class possible")
        return Prediction(logits.softmax(-1), logits)

    def noise(self, t: Tensor) -> Tensor:
        """The share of noise, u = 1 - gamma = sigma^2 / (alpha^2 + sigma^2), in float64."""
        alpha, sigma = self.schedule(wide(t))
        share = sigma * sigma / (alpha * alpha + sigma * sigma)
        return share.masked_fill(t == 0, 0.0)  # as in `_log_snr`

    def rate(self, t: Tensor) -> Tensor:
        """Its rate u' = du / dt, by a difference: exact where it is linear, to 1e-7 elsewhere."""
        t = wide(t)
        low, high = (t - _STEP).clamp_min(0), (t + _STEP).clamp_max(1)
        return (self.noise(high) - self.noise(low)) / (high - low)

    def _log_snr(self, t: Tensor) -> Tensor:
        """Logit of gamma; without end at time 0, where no schedule's rest of noise is left."""
        t = wide(t)
        return self.schedule.log_snr(t).masked_fill(t == 0, torch.inf)

    def _law(self, p: Tensor) -> ratios.Law:
        return ratios.law_of(self.probabilities, self.num_classes, p.dtype, p.device)

    def _log_probability(self, prediction: Prediction, clean: Tensor) -> Tensor:
        if prediction.logits is None:
            return precise(prediction.mean.gather(-1, clean[..., None])[..., 0]).log()
        logits = precise(prediction.logits)
        return logits.gather(-1, clean[..., None])[..., 0] - logits.logsumexp(-1)

    def _mixed(self, x: Tensor, share: Tensor, rng: Rng) -> Tensor:
        """Each token with probability `share` anew."""
        u, x = rng.fold("replaced").uniform(x.shape, device=x.device), x.long()
        return torch.where(u < share, self._anew(x, rng.fold("class")), x)

    def _anew(self, x: Tensor, rng: Rng) -> Tensor:
        """Draws of pi in the shape of x."""
        if self.kind == "absorbing":
            return torch.full_like(x, self.num_classes)
        if self.probabilities is None:
            return rng.integers(self.num_classes, x.shape, x.device)
        law = ratios.law_of(self.probabilities, self.num_classes, torch.float32, x.device).pi
        assert isinstance(law, Tensor)
        return drawn_alike(law, rng.uniform(x.shape, device=x.device))
