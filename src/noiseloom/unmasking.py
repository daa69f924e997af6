"""Orders of unmasking that follow what the denoiser says, for absorbing diffusion.

Remasking needs nothing of its own: noise put back on the way down is `stochastic.churned` and
`restarted`, rows made again are `sampling.resampled`, of classes as of numbers.
"""

import math

import torch

from noiseloom.diffusion import CategoricalDiffusion
from noiseloom.diffusion.class_draws import drawn
from noiseloom.sampling import Solver
from noiseloom.shapes import align

__all__ = ["by_confidence"]


def by_confidence(temperature: float = 0.0) -> Solver:
    """Unmask as many tokens as a row does on average, those first that the denoiser is surest of.

    A class z_i ~ p(x_0) is drawn for every masked token that moves; of them n, the sum of their
    chances to be unmasked, up or down at random, are kept: those of the largest ln p(z_i) +
    temperature g_i s, with g a standard Gumbel number and s the time the row leads to. Each sample
    unmasks by itself.

    **It is not a draw from the model**: early tokens are likelier than they should be, and samples
    have no likelihood. In return few steps disagree less.

    Args:
        temperature: >= 0; 0 is strictly by confidence, infinitely much any order.

    Raises:
        ValueError: a temperature below 0, or a diffusion that is not absorbing.

    References:
        H. Chang et al., 2022, MaskGIT, arXiv 2202.04200, Section 3.2.
    """
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature must be a finite number of at least 0, got {temperature}")

    def move(denoiser, diffusion, x, t, s, cond, carry, memory, rng):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        if not (isinstance(diffusion, CategoricalDiffusion) and diffusion.kind == "absorbing"):
            raise ValueError("tokens are unmasked by confidence in an absorbing diffusion only")
        prediction, carry = denoiser(x, t, cond, carry, rng.fold("denoiser"))
        picked = drawn(prediction.mean, rng.fold("move"))
        moving = (x == diffusion.num_classes) & (align(s, x) < align(t, x))
        chance = 1 - diffusion.moved(x, prediction, t, s)[..., diffusion.num_classes]
        chance = torch.where(moving, chance, 0)
        score = prediction.mean.gather(-1, picked[..., None])[..., 0].log()
        if temperature:
            u = rng.fold("order").uniform(x.shape, device=x.device)
            score = score - temperature * align(s, x) * (-u.log()).log()
        # Tokens that end in this row come first, those that stay never.
        score = score.masked_fill(chance >= 1, math.inf).masked_fill(~moving, -math.inf)
        rank = score.flatten(1).argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        # At random, or rows of many steps would all round to nothing.
        ups = rng.fold("count").uniform((len(x), 1), device=x.device)
        wanted = (chance.flatten(1).double().sum(1, keepdim=True) + ups).floor()
        chosen = (rank < wanted).reshape(x.shape) & moving
        return torch.where(chosen, picked, x), prediction, carry, memory

    return move
