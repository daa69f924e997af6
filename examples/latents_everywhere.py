"""Discrete latents around two systems that share nothing, by the same wrapper and the same loss.

    python examples/latents_everywhere.py    # half a minute

Digits as analog bits, which a self-conditioned U-Net learns by cross-entropy; and as rows of real
numbers with a noise level each, which a transformer learns by squared error. What reads
`cond["codes"]` can have latents: what these are worth is the loss of held-out digits at high noise,
told their own codes, none, or those of another digit.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

import noiseloom as nl
from noiseloom.data import digits
from noiseloom.latents import Latent, latent_loss
from noiseloom.nets import ImageEncoder, SequenceEncoder, Transformer, UNet
from noiseloom.objective import denoising_loss, logit_normal

DIFFUSION = nl.GaussianDiffusion(nl.Cosine())
SMALL = {"width": 32, "depth": 1, "heads": 2}


@dataclass
class System:
    """What a latent is put around, states to learn and held-out ones, and what training needs."""

    denoiser: nn.Module
    encoder: nn.Module
    clean: Tensor
    held_out: Tensor
    options: dict[str, Any] = field(default_factory=dict)
    times: tuple[int, ...] = ()


def bits(m: int, k: int) -> System:
    """Four analog bits a pixel, the log-odds of each, and what was last said of them told again."""
    codec, data = nl.Bits(16, "gray", axis=1), digits()
    options = {"multipliers": (1,), "attention": (False,), "blocks": 1, "self_conditioning": True}
    network = UNet(4, 4, width=24, **options, codes=(m, k), code_depth=0)
    denoiser = nl.SelfConditioned(nl.Preconditioned(network, nl.Cosine(), head=nl.SigmoidHead()))
    states = (codec.encode(part.pixels) for part in (data.train, data.held_out))
    training = {"self_conditioning": 0.5, "cross_entropy": True}
    return System(denoiser, ImageEncoder(4, m, k, patch=2, **SMALL), *states, training)


def rows(m: int, k: int) -> System:
    """Eight tokens of eight pixels, a time for each."""
    codec, data = nl.Scaled(16), digits()
    network = Transformer(8, 8, max_length=8, width=64, depth=2, codes=(m, k), code_depth=0)
    states = (codec.encode(part.pixels)[:, 0] for part in (data.train, data.held_out))
    denoiser = nl.Preconditioned(network, nl.Cosine(), target="v")
    return System(denoiser, SequenceEncoder(8, m, k, **SMALL), *states, times=(8,))


def train(system: System, m: int, k: int, updates: int) -> Latent:
    model = Latent(system.denoiser, system.encoder, m=m, k=k, updates=updates)
    optimiser = torch.optim.Adam(model.parameters(), 5e-3, betas=(0.9, 0.99))
    for step in range(updates):
        rng = nl.Rng(0).fold("step", step)
        clean = system.clean[rng.fold("batch").integers(len(system.clean), (64,))]
        t = logit_normal(rng.fold("time").uniform((64, *system.times)), mean=2.0)
        optimiser.zero_grad()
        latent_loss(model, DIFFUSION, clean, t, None, rng, **system.options).mean().backward()
        optimiser.step()
    return model.eval()


def main(updates: int = 200) -> None:
    print("held-out loss at t = 0.9   own codes        none   another's   codes in use")
    for name, make, (m, k) in (("analog bits", bits, (1, 16)), ("rows", rows, (2, 8))):
        with nl.Rng(0).torch():
            system = make(m, k)
        model, clean = train(system, m, k, updates), system.held_out
        codes, noisy = model.given(model.encode(clean)), torch.tensor(0.9)
        with torch.no_grad():
            losses = [
                denoising_loss(model, DIFFUSION, clean, noisy, told, nl.Rng(1), **system.options)
                for told in ({"codes": codes}, {}, {"codes": codes.roll(1, 0)})
            ]
        used = f"{model.report()['perplexity']:8.1f} of {k}"
        print(f"{name:23}", *(f"{loss.mean():11.3f}" for loss in losses), used)


if __name__ == "__main__":
    main()
