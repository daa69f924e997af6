"""What a diffusion with discrete latents says of discrete data in nats: what the codes cost too.

An encoder sees the row: what its codes say of it is free for the denoiser, and must be paid for by
the prior, which does not. For any encoder q, denoiser and prior,

    -ln p(x) <= E_{z ~ q(z | x)} [ bound(x | z) - ln p(z) ] - H(q(z | x)),

and for the encoder's surest codes z(x), which are a law of their own without entropy,

    -ln p(x) <= bound(x | z(x)) - ln p(z(x)).

With an exact denoiser and prior the first is too large by KL(q(z | x) || p(z | x)), and the second
by -ln p(z(x) | x).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from noiseloom.bound import nats_bound
from noiseloom.denoiser import Denoiser
from noiseloom.diffusion import CategoricalDiffusion, GaussianDiffusion
from noiseloom.latents.relaxation import one_hot, perturbed
from noiseloom.latents.usage import entropy
from noiseloom.rng import Rng, per_sample

__all__ = ["latent_bound"]


@torch.no_grad()
def latent_bound(
    denoiser: Denoiser,
    diffusion: CategoricalDiffusion | GaussianDiffusion,
    tokens: Tensor,
    rng: Rng,
    *,
    logits: Tensor,
    log_prior: Callable[[Tensor], Tensor],
    surest: bool = False,
    **options: Any,  # noqa: ANN401
) -> tuple[Tensor, Tensor]:
    """An unbiased estimate of the bound of each sequence, in two parts; the bound is their sum.

        bound(x | z),   -ln p(z) - H(q(z | x)),   z one draw of q;   or with z(x) and H = 0

    Args:
        denoiser: p(x_0 | x_t, z), or E[x_0 | x_t, z] for codes of classes; reads `cond["codes"]`.
        diffusion: what noise is.
        tokens: x, int64, shape (B, T).
        rng: one key per sample (B,), or one.
        logits: of q(z | x), shape (B, m, k): what the encoder says of these x.
        log_prior: int64 codes (B, m) to ln p(z), nats, shape (B,), or a lower bound of it.
        surest: z(x), the likeliest code of each latent, instead of a draw.
        **options: others of `nats_bound` (codec, points, passes, each, log_snr).

    Returns:
        Nats given the codes, as `nats_bound` has them, and nats of the codes, float64, shape (B,).

    References:
        D. Kingma, M. Welling, 2013, arXiv 1312.6114, Eq. 3.
    """
    rng = per_sample(rng, tokens)
    logits = logits.double()
    # One draw for all noise levels: z is a part of what the row is, not of its noise.
    z = (logits if surest else perturbed(logits, rng.fold("codes"))).argmax(-1)
    cond = {"codes": one_hot(z, logits.shape[-1])}
    told = nats_bound(denoiser, diffusion, tokens, rng, cond=cond, **options)
    paid = -log_prior(z).double()
    return told, paid if surest else paid - entropy(logits.softmax(-1)).sum(-1)
