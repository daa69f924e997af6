"""What a diffusion says of discrete data in nats: an upper bound on -ln p(x), of every state.

Of classes it is the continuous-time negative ELBO, with no term besides: at time 0 nothing is
hidden, and time 1 knows nothing. Of codes c(x) in a Gaussian diffusion it has three terms, with
lambda the log-SNR, from lambda_1 at time 1 up to lambda_0,

    KL(q(x_1 | x) || prior) + 1/2 E int exp(lambda) |c(x) - mean(x_t, t)|^2 dlambda
        - E ln p(x | x_0),    p(x = k | x_0) ~ N(x_0; alpha c(k), sigma^2),  token by token.

Any denoiser is a model in this sense, exact or not; overshoot, guidance and sampling by confidence
are not, and have no such number. Nor has a self-conditioned denoiser with the estimates that it is
handed from step to step when samples are drawn: what it says then depends on the whole way, not on
x_t and t alone. What has one is its two calls at one level, the second told what the first said, as
it is trained (`passes`): the model `SelfGuided(denoiser, 1)`, which can be drawn from as that. Its
first call alone has one too.

D. Kingma et al., 2021, Variational Diffusion Models, arXiv 2107.00630, Eq. 11 to 17.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from noiseloom.class_denoiser import CodeDenoiser
from noiseloom.denoiser import Denoiser
from noiseloom.diffusion import CategoricalDiffusion, GaussianDiffusion, Prediction, Whole
from noiseloom.noise import Schedule
from noiseloom.rng import Rng, per_sample
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
    each: bool = False,
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
            noise share 1 - gamma (classes), or of a law of log-SNRs that is half even and half that
            of the schedule's times (codes), where most is lost if it is an `information_schedule`.
        passes: calls at each level, each told what that before it said, the last of which counts: 2
            for a denoiser that is self-conditioned on its estimate.
        each: whether the bounds of all passes are returned, that of every call being the last.
        log_snr: lambda_0, at which codes are read.

    Returns:
        Nats of a sequence, shape (B,), or (passes, B).

    Raises:
        ValueError: a Gaussian diffusion without codes, or on a subspace; one of classes whose
            schedule leaves something at time 1; codes that are read at more noise than there is.
    """
    if points < 1 or passes < 1:
        raise ValueError(f"points and passes must be at least 1, got {points} and {passes}")
    rng = per_sample(rng, tokens)
    places = rng.fold("place").uniform((len(tokens),), torch.float64, tokens.device)

    def said(x: Tensor, t: Tensor, i: int) -> list[Prediction]:
        draws, carry, found = rng.fold("denoiser", i), None, []
        for _ in range(passes):
            prediction, carry = denoiser(x, t, cond, carry, draws)
            found.append(prediction)
        return found if each else found[-1:]

    size = (passes if each else 1, len(tokens))
    total = torch.zeros(size, dtype=torch.float64, device=tokens.device)
    if isinstance(diffusion, CategoricalDiffusion):
        if float(diffusion.noise(torch.ones((), dtype=torch.float64))) < 1 - 1e-6:
            raise ValueError("the bound of classes needs a schedule that ends in noise alone")
        for i in range(points):
            root = (i + places) / points
            share = root.square().clamp(1e-12, 1 - 1e-12)
            t = diffusion.schedule.time(torch.log1p(-share) - share.log())
            x = diffusion.corrupt(tokens, t, rng.fold("noise", i))
            every = t[:, None].expand(tokens.shape)
            losses = [diffusion.loss(p, tokens, x, every) for p in said(x, t.float(), i)]
            nats = torch.stack(losses).double().sum(2)
            # From the mean over times to that over roots of the share: what a token that is hardly
            # ever noised costs then is 1 / share, and would have a variance without end.
            total += nats / diffusion.rate(t) * 2 * root
        return total / points if each else total[0] / points
    space = diffusion.subspace
    if codec is None or not isinstance(space, Whole) or space.mask is not None:
        raise ValueError("the bound of a Gaussian diffusion is of codes on the whole space")
    clean = codec.encode(tokens)
    one = torch.ones((), dtype=torch.float64)
    lowest = max(float(diffusion.schedule.log_snr(one)), -20.0)
    if log_snr <= lowest:
        raise ValueError(
            f"log_snr {log_snr:g} is below {lowest:.4g}, which the schedule leaves at time 1: "
            "codes are read above it"
        )
    total += 0.5 * math.exp(lowest) * clean.double().square().flatten(1).sum(1)
    pick = _levels(diffusion.schedule, lowest, log_snr, tokens.device)
    for i in range(points):
        level, density = pick((i + places) / points)
        t = diffusion.schedule.time(level)
        x = diffusion.corrupt(clean, t.to(clean), rng.fold("noise", i))
        means = torch.stack([p.mean for p in said(x, t.to(clean), i)])
        error = (means - clean).double().square().flatten(2).sum(2)
        weight = diffusion.schedule.log_snr(t.to(clean)).double().exp() / density
        total += 0.5 * weight * error / points
    last = diffusion.schedule.time(torch.tensor(log_snr, dtype=torch.float64))
    x = diffusion.corrupt(clean, last, rng.fold("read"))
    logits = codec.evidence(x, last).double()
    if codec.absent is not None:
        logits = logits.masked_fill(codec.absent, -torch.inf)
    total -= logits.log_softmax(-1).gather(-1, tokens[..., None])[..., 0].sum(1)
    return total if each else total[0]


def _levels(
    schedule: Schedule, lowest: float, highest: float, device: torch.device
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """From places in [0, 1] to log-SNRs, and the density that they are then drawn with.

    Piecewise even, so that the density is exact whatever the schedule.
    """
    levels = torch.linspace(highest, lowest, 257, dtype=torch.float64)
    times, even = schedule.time(levels), torch.linspace(0, 1, 257, dtype=torch.float64)
    shares = even / 2 + (times - times[0]) / (times[-1] - times[0]) / 2
    levels, shares = levels.to(device), shares.to(device)

    def pick(place: Tensor) -> tuple[Tensor, Tensor]:
        right = torch.searchsorted(shares, place).clamp(1, len(shares) - 1)
        left = right - 1
        part = shares[right] - shares[left]
        level = torch.lerp(levels[left], levels[right], (place - shares[left]) / part)
        return level, part / (levels[left] - levels[right])

    return pick
