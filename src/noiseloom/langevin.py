"""The predictor-corrector: before each move, let the state settle at its level of noise.

A corrector leaves the law at a level what it is, if it takes small steps, and so takes back errors
that the moves before have made; a guided denoiser is guided in both.
"""

import math

import torch
from torch import Tensor

from noiseloom.diffusion import Diffusion, GaussianDiffusion, Prediction, by_part, score_of
from noiseloom.diffusion.gaussian import where_moved
from noiseloom.rng import Rng
from noiseloom.sampling import Solver
from noiseloom.shapes import align

__all__ = ["corrected", "langevin_step"]


def corrected(solver: Solver, snr: float = 0.2, noise: float = 0.8, steps: int = 1) -> Solver:
    """Before each row, Langevin steps at its time t; then the solver moves.

        x <- x + e score(x, t) + noise sqrt(2 e) z,    e = 2 (snr |z| / |score|)^2

    All parts of a state are moved from the same previous one, by one call a step. Norms are each
    sample's own, over the tokens that the row moves, so that samples do not depend on the batch
    they are in (GDSS averages them over it, and for a variance-preserving schedule multiplies e by
    alpha of one small step, about 1). Tokens that the row does not move are not touched.

    Where x is Gaussian of variance v in many dimensions, the stationary variance is v (noise^2 +
    snr^2): GDSS's numbers, the defaults, sharpen, as 0.68 v; noise 1 and a small snr keep the law.

    Args:
        solver: makes the move.
        snr: length of the score's part of a step over that of the noise's (at noise 1), > 0.
        noise: scale_eps >= 0, a factor of the noise.
        steps: at each row, each a call of the denoiser.

    Raises:
        TypeError: in a move, parts that are not of numbers.
        ValueError: a number out of range.

    References:
        Y. Song et al., 2021, arXiv 2011.13456, Algorithms 4 and 5; J. Jo, S. Lee, S. J. Hwang,
        2022, GDSS, arXiv 2202.02514 (the numbers; parts moved together).
    """
    if not (0 < snr < math.inf and 0 <= noise < math.inf) or steps < 0:
        raise ValueError(
            f"a corrector needs snr > 0, noise >= 0 and steps >= 0, got {snr}, {noise} and {steps}"
        )

    def move(denoiser, diffusion, x, t, s, cond, carry, memory, rng):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        for i in range(steps):
            key = rng.fold("corrector", i)
            prediction, carry = denoiser(x, t, cond, carry, key.fold("denoiser"))
            ends, new = by_part(diffusion, x, s), {}
            for name, (own, part, time) in by_part(diffusion, x, t).items():
                said = prediction[name] if name else prediction
                draw = key.fold("noise").fold(name) if name else key.fold("noise")
                new[name] = langevin_step(own, part, said, time, ends[name][2], draw, snr, noise)
            x = new.get("", new)
        return solver(denoiser, diffusion, x, t, s, cond, carry, memory, rng)

    return move


def langevin_step(
    diffusion: Diffusion,
    x: Tensor,
    prediction: Prediction,
    t: Tensor,
    s: Tensor,
    rng: Rng,
    snr: float,
    noise: float,
) -> Tensor:
    """One step, of the tokens that a row moves from t to s; arguments as of `corrected`."""
    if not isinstance(diffusion, GaussianDiffusion):
        raise TypeError(f"a Langevin step moves numbers, not states of {type(diffusion).__name__}")
    t, s = align(t, x), align(s, x)
    z = diffusion.subspace.noise(rng.normal_like(x))
    score = score_of(diffusion, prediction, x, t)
    moves = (s < t).to(x.dtype)
    height, length = (_norm(moves * v) for v in (score, z))
    ratio = (snr * length / height.masked_fill(height == 0, 1)).masked_fill(height == 0, 0)
    step = 2 * ratio * ratio
    return where_moved(x + step * score + noise * (2 * step).sqrt() * z, x, t, s)


def _norm(values: Tensor) -> Tensor:
    """Of every sample, shape (B, 1, ...)."""
    length: Tensor = torch.linalg.vector_norm(values.flatten(1), dim=1)
    return length.reshape(-1, *(1,) * (values.ndim - 1))
