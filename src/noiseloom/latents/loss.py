"""What trains a denoiser together with the encoder of its latents."""

from typing import Any

import torch
from torch import Tensor, nn

from noiseloom.diffusion import Diffusion
from noiseloom.latents.latent import Latent
from noiseloom.latents.relaxation import drop_codes, gumbel_softmax
from noiseloom.objective import denoising_loss
from noiseloom.rng import Rng
from noiseloom.shapes import Cond

__all__ = ["latent_loss"]


def latent_loss(
    model: nn.Module,
    diffusion: Diffusion,
    clean: Tensor,
    t: Tensor,
    cond: Cond | None,
    rng: Rng,
    *,
    rows: Tensor | None = None,
    labels: Tensor | None = None,
    **options: Any,  # noqa: ANN401
) -> Tensor:
    """The denoising loss given codes of the clean state, less the bonus on their use.

    1. logits = encoder(x_0). 2. Codes are drawn and dropped, once for the whole step: the first
    pass of self-conditioning, which is without gradient, is told the same ones as the second. 3.
    `denoising_loss`, whose gradient reaches the encoder through the codes of the second pass. What
    is drawn for time, noise and dropout is what `denoising_loss` alone would draw.

    In training mode the model counts the call; in evaluation mode nothing changes it.

    Args:
        model: a `Latent`.
        diffusion: what noise is.
        clean: x_0, shape (B, ...): numbers, or classes (int64), as the encoder reads them.
        t: time, as for `denoising_loss`.
        cond: other conditions.
        rng: one key per sample, or one for all.
        rows: global positions of the samples, int64 on the CPU; by default 0 .. B - 1.
        labels: int64, shape (B,): classes to compare codes with, for the record only.
        **options: others of `denoising_loss` (self_conditioning, weight, counted, cross_entropy).

    Returns:
        Shape (B,).

    Raises:
        TypeError: the model is no `Latent`.

    References:
        Y. Xu et al., 2024, arXiv 2407.03300, Eq. 3 and Algorithm 1.
    """
    if not isinstance(model, Latent):
        raise TypeError(f"latent_loss trains a Latent, not a {type(model).__name__}")
    if not isinstance(rng.root, Tensor):
        rows = torch.arange(len(clean)) if rows is None else rows
        rng = rng.each("sample", rows.to(clean.device, non_blocking=True))
    if model.training:
        model.begin()
    draws = {"dropout": rng.fold("encoder").fold("dropout").key}
    progress, logits = model.progress, model.logits(clean, draws)
    codes = gumbel_softmax(logits, model.temperature(progress), rng.fold("codes"), hard=model.hard)
    codes, kept = drop_codes(codes, model.drop, rng.fold("code drop"))
    given = {**(cond or {}), "codes": codes}
    loss = denoising_loss(model, diffusion, clean, t, given, rng, rows=rows, **options)
    q = logits.softmax(-1)
    if model.bonus is not None:
        loss = loss - model.bonus(q, kept, progress)
    if model.training:
        model.end(q, labels)
    return loss
