"""The score that an estimate stands for."""

from torch import Tensor

from noiseloom.diffusion.gaussian import GaussianDiffusion
from noiseloom.diffusion.prediction import Prediction
from noiseloom.diffusion.protocol import Diffusion
from noiseloom.shapes import align

__all__ = ["score_of"]


def score_of(diffusion: Diffusion, prediction: Prediction, x: Tensor, t: Tensor) -> Tensor:
    """The gradient of ln p_t at x_t: (alpha mean - x_t) / sigma^2, by Tweedie's formula.

    On a subspace it lies in it: one entry of a symmetric adjacency has the derivative of the pair.
    Where sigma = 0 there is none, and it is 0. On manifolds it is what the prediction says.

    Args:
        diffusion: what noise is.
        prediction: of x_0 from x_t.
        x: x_t.
        t: its time.

    Raises:
        TypeError: a space without scores: classes.

    References:
        B. Efron, 2011, "Tweedie's formula and selection bias", Eq. 2.8.
    """
    if prediction.score is not None:
        return prediction.score
    if not isinstance(diffusion, GaussianDiffusion):
        raise TypeError(f"{type(diffusion).__name__} has no score")
    alpha, sigma = diffusion.schedule(align(t, x))
    none = sigma <= 0
    # Times may be numbers on the host: what is made of them first costs no copy.
    gain = (sigma * sigma).masked_fill(none, 1).reciprocal().masked_fill(none, 0)
    return gain * (alpha * diffusion.subspace.project(prediction.mean) - x)
