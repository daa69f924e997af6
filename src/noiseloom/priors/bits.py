"""A prior that is itself a diffusion: over the analog bits of the codes."""

import math

import torch
from torch import Tensor

from noiseloom.conditioning import SelfConditioned
from noiseloom.denoiser import Preconditioned, SoftmaxHead
from noiseloom.diffusion import GaussianDiffusion
from noiseloom.encodings import Bits
from noiseloom.nets import Transformer
from noiseloom.objective import denoising_loss, drop_condition, uniform_times
from noiseloom.plan import SamplingPlan
from noiseloom.priors.prior import Prior, keys
from noiseloom.rng import Rng
from noiseloom.sampling import ancestral, final, sample
from noiseloom.shapes import Cond

__all__ = ["BitsPrior"]

_KEY = Rng(0)
_NOISY, _CLEAN = -12.0, 6.0
"""Log-SNR at the ends of the bound: there is nothing left of a bit, and no doubt about it."""


class BitsPrior(Prior):
    """Self-conditioned analog bits: a code is m tokens of n = ceil(log2 k) bits, all drawn at once.

    A transformer says a softmax over the k values of each position given the noisy bits of all,
    x_t = alpha b(z) + sigma eps; its mean b is the denoiser. Signs that spell none of the k values
    are given the nearest (`Bits`).

    Args:
        m: number of positions.
        k: number of values of each.
        width: features of the transformer.
        depth: number of its blocks.
        heads: attention heads, a divisor of `width`.
        num_classes: K, or None for a prior without labels.
        dropout: rate in the transformer.
        label_drop: share of the labels that training replaces by the null label.
        steps: DDPM steps of sampling, >= 1.

    References:
        T. Chen, R. Zhang, G. Hinton, 2022, Analog Bits, arXiv 2208.04202, Algorithms 1 and 2.
    """

    def __init__(
        self,
        m: int,
        k: int,
        width: int = 256,
        depth: int = 6,
        heads: int = 4,
        num_classes: int | None = None,
        dropout: float = 0.0,
        label_drop: float = 0.1,
        steps: int = 50,
    ) -> None:
        super().__init__(m, k, num_classes)
        if not 0 <= label_drop <= 1:
            raise ValueError(f"label_drop must be in [0, 1], got {label_drop}")
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        self.label_drop, self.steps = label_drop, steps
        self.codec = Bits(k)
        self.diffusion = GaussianDiffusion()
        network = Transformer(
            self.codec.width,
            k,
            max_length=m,
            width=width,
            depth=depth,
            heads=heads,
            num_classes=num_classes,
            self_conditioning=True,
            dropout=dropout,
        )
        head = SoftmaxHead(self.codec.table)
        self.denoiser = SelfConditioned(Preconditioned(network, self.diffusion.schedule, head=head))

    def loss(
        self, codes: Tensor, label: Tensor | None, rng: Rng, rows: Tensor | None = None
    ) -> Tensor:
        """The cross-entropy of each code given its noisy bits, labels dropped.

        Args:
            codes: shape (B, m).
            label: shape (B,), or None.
            rng: one key, or one per sample.
            rows: places of the samples in the global batch, by default 0 .. B - 1: every other one
                takes self-conditioning's first pass.

        Returns:
            Nats per position at a time drawn uniformly, shape (B,).
        """
        codes = self.checked(codes)
        rng = keys(rng, len(codes), codes.device)
        if label is not None:
            label = self.labels(label, len(codes), codes.device)
            label = drop_condition(label, self.null, self.label_drop, rng.fold("label"))
        return denoising_loss(
            self.denoiser,
            self.diffusion,
            self.codec.encode(codes),
            uniform_times(codes.shape[:1], rng.fold("time"), codes.device),
            self._cond(label, codes),
            rng,
            rows=rows,
            self_conditioning=0.5,
            cross_entropy=True,
        )

    @torch.no_grad()
    def log_prob(
        self, codes: Tensor, label: Tensor | None = None, rng: Rng = _KEY, draws: int = 64
    ) -> Tensor:
        """An estimate of a lower bound of the log-probability, not the log-probability.

        With x_0 = b(z), mean(x_t) the denoiser's estimate, l = log-SNR, and p(z | x_t) the product
        of its softmaxes, ln p(z) is at least

            - KL(q(x_t | x_0), N(0, 1)) at l = -12  +  E ln p(z | x_t) at l = 6
            - 1/2 integral of exp(l) E |x_0 - mean(x_t)|^2 dl from -12 to 6

        for the law that the limit of many steps without self-conditioning samples. The integral is
        estimated at `draws` levels per code, one in each of as many equal parts; by default with
        one fixed key. For the exact denoiser the bound is tight. The estimate of one code is off by
        a nat or two, of 10,000 codes' mean by about 0.02: it is for means.

        Args:
            codes: shape (B, m).
            label: shape (B,), in 0 .. K; absent means K for all.
            rng: one key, or one per sample.
            draws: number of levels, >= 1.

        Returns:
            Nats, shape (B,).

        References:
            D. Kingma et al., 2021, Variational Diffusion Models, arXiv 2107.00630, Eq. 18.
        """
        codes = self.checked(codes)
        if draws < 1:
            raise ValueError(f"draws must be at least 1, got {draws}")
        cond = self._cond(label, codes)
        clean = self.codec.encode(codes)
        rng = keys(rng, len(codes), codes.device)
        bits, span = self.m * self.codec.width, (_CLEAN - _NOISY) / draws
        # A bit +-1 is N(+-alpha, sigma^2) with alpha^2 + sigma^2 = 1: its KL is -ln sigma.
        nats = clean.new_full((len(clean),), 0.5 * bits * math.log1p(math.exp(_NOISY)))
        for i in range(draws):
            key = rng.fold("draw", i)
            level = _NOISY + (i + key.fold("level").uniform(codes.shape[:1])) * span
            mean, _ = self._guess(clean, level, cond, key)
            error = (clean - mean).square().sum((1, 2))
            nats += 0.5 * span * level.exp() * error
        _, log_p = self._guess(clean, torch.full_like(nats, _CLEAN), cond, rng.fold("end"))
        nats -= log_p.gather(-1, codes[..., None])[..., 0].sum(1)
        return -nats

    @torch.no_grad()
    def sample(
        self, count: int | Tensor, rng: Rng, *, temperature: float = 1.0, top_p: float = 1.0
    ) -> Tensor:
        """Draw all positions at once, in `steps` DDPM steps.

        Args:
            count: number of samples, or their labels (B,).
            rng: one key, or one per sample.
            temperature: 1: a diffusion has no factors to sharpen.
            top_p: 1.

        Returns:
            int64, shape (B, m).

        Raises:
            ValueError: another temperature or top_p, or a label or number of keys that is wrong.
        """
        if temperature != 1 or top_p != 1:
            raise ValueError(
                f"temperature {temperature} and top_p {top_p} for a prior by diffusion, which has "
                "neither: leave them at 1, or use an autoregressive prior"
            )
        place = next(self.parameters())
        label, rng = self.wanted(count, rng, place.device)
        like = place.new_empty(len(label), self.m, self.codec.width)
        x = self.diffusion.prior(like, rng.fold("prior"))
        cond = None if self.num_classes is None else {"label": label}
        plan = SamplingPlan.uniform(self.steps)
        steps = sample(
            self.denoiser, self.diffusion, plan, x, cond=cond, rng=rng, solver=ancestral(1.0)
        )
        return self.codec.decode(final(steps).result)

    def _cond(self, label: Tensor | None, codes: Tensor) -> Cond | None:
        label = self.labels(label, len(codes), codes.device)
        return None if self.num_classes is None else {"label": label}

    def _guess(
        self, clean: Tensor, level: Tensor, cond: Cond | None, rng: Rng
    ) -> tuple[Tensor, Tensor]:
        """The estimate of the bits, and of the values' log-probabilities, at a log-SNR (B,)."""
        t = self.diffusion.schedule.time(level)
        x = self.diffusion.corrupt(clean, t, rng.fold("noise"))
        prediction, _ = self.denoiser(x, t, cond)
        return prediction.mean, prediction.logits[:, :, 0].log_softmax(-1)
