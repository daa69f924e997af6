"""What a diffusion says of discrete data in nats: an upper bound on -ln p(x), of every state.

Of classes it is the continuous-time negative ELBO, with no term besides: at time 0 nothing is
hidden, and time 1 knows nothing. Of codes c(x) in a Gaussian diffusion it has three terms, with
lambda the log-SNR, from lambda_1 at time 1 up to lambda_0,

    KL(q(x_1 | x) || prior) + 1/2 E int exp(lambda) |c(x) - mean(x_t, t)|^2 dlambda
        - E ln p(x | x_0),    p(x = k | x_0) ~ N(x_0; alpha c(k), sigma^2),  token by token.

Any denoiser is a model in this sense, exact or not; overshoot, guidance and sampling by confidence
are not, and have no such number.

D. Kingma et al., 2021, Variational Diffusion Models, arXiv 2107.00630, Eq. 11 to 17.
"""

import math

import torch
from torch import Tensor

from noiseloom.class_denoiser import CodeDenoiser
from noiseloom.denoiser import Denoiser
from noiseloom.diffusion import CategoricalDiffusion, GaussianDiffusion, Prediction, Whole
from noiseloom.rng import Rng
from noiseloom.shapes import Cond

__all__ = ["nats_bound"]


@torch.no_grad()
def nats_bound(
    denoiser: Denoiser,
    diffusion: CategoricalDiffusion | GaussianDiffusion,
    tokens: Tensor,
    rng: Rng,
    *,
    codec: CodeDenoiser | None = None,
    cond: Cond | None = None,
    points: int = 16,
    passes: int = 1,
    log_snr: float = 8.0,
) -> Tensor:
    """An unbiased estimate of the bound of each sequence; its mean over many is what counts.

    Args:
        denoiser: p(x_0 | x_t), or E[x_0 | x_t] for codes.
        diffusion: what noise is; a Gaussian one on the whole space.
        tokens: x, int64, shape (B, T).
        rng: one key per sample (B,), or one.
        codec: the codes, for a Gaussian diffusion: `table` (K, n) and what places lack.
        cond: conditions, batch first.
        points: noise levels of each sample, one in each of so many equal parts of the root of the
            noise share 1 - gamma (classes) or of the log-SNR (codes).
        passes: calls at each level, the last of which counts: 2 for a denoiser that is
            self-conditioned on its estimate.
        log_snr: lambda_0, at which codes are read.

    Returns:
        Nats of a sequence, shape (B,).

    Raises:
        ValueError: a Gaussian diffusion without codes, or on a subspace; one of classes whose
            schedule leaves something at time 1.
    """
    if points < 1 or passes < 1:
        raise ValueError(f"points and passes must be at least 1, got {points} and {passes}")
    if not isinstance(rng.root, Tensor):
        rng = rng.samples(len(tokens), device=tokens.device)
    places = rng.fold("place").uniform((len(tokens),), torch.float64, tokens.device)

    def said(x: Tensor, t: Tensor, i: int) -> Prediction:
        draws = rng.fold("denoiser", i)
        prediction, carry = denoiser(x, t, cond, None, draws)
        for _ in range(passes - 1):
            prediction, carry = denoiser(x, t, cond, carry, draws)
        return prediction

    total = torch.zeros(len(tokens), dtype=torch.float64, device=tokens.device)
    if isinstance(diffusion, CategoricalDiffusion):
        if float(diffusion.noise(torch.ones((), dtype=torch.float64))) < 1 - 1e-6:
            raise ValueError("the bound of classes needs a schedule that ends in noise alone")
        for i in range(points):
            root = (i + places) / points
            share = root.square().clamp(1e-12, 1 - 1e-12)
            t = diffusion.schedule.time(torch.log1p(-share) - share.log())
            x = diffusion.corrupt(tokens, t, rng.fold("noise", i))
            every = t[:, None].expand(tokens.shape)
            nats = diffusion.loss(said(x, t.float(), i), tokens, x, every).double().sum(1)
            # From the mean over times to that over roots of the share: what a token that is hardly
            # ever noised costs then is 1 / share, and would have a variance without end.
            total += nats / diffusion.rate(t) * 2 * root
        return total / points
    space = diffusion.subspace
    if codec is None or not isinstance(space, Whole) or space.mask is not None:
        raise ValueError("the bound of a Gaussian diffusion is of codes on the whole space")
    clean = codec.encode(tokens)
    one = torch.ones((), dtype=torch.float64)
    lowest = max(float(diffusion.schedule.log_snr(one)), -20.0)
    total += 0.5 * math.exp(lowest) * clean.double().square().flatten(1).sum(1)
    span = log_snr - lowest
    for i in range(points):
        level = lowest + span * (i + places) / points
        t = diffusion.schedule.time(level)
        x = diffusion.corrupt(clean, t.to(clean), rng.fold("noise", i))
        error = (said(x, t.to(clean), i).mean - clean).double().square().flatten(1).sum(1)
        total += (
            0.5 * span / points * diffusion.schedule.log_snr(t.to(clean)).double().exp() * error
        )
    last = diffusion.schedule.time(torch.tensor(log_snr, dtype=torch.float64))
    x = diffusion.corrupt(clean, last, rng.fold("read"))
    logits = codec.evidence(x, last).double()
    if codec.absent is not None:
        logits = logits.masked_fill(codec.absent, -torch.inf)
    return total - logits.log_softmax(-1).gather(-1, tokens[..., None])[..., 0].sum(1)
