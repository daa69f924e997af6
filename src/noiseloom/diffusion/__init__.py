"""What noise is, on one kind of space: one file per kind."""

from noiseloom.diffusion.gaussian import (
    GaussianDiffusion,
    Subspace,
    Symmetric,
    Whole,
    ZeroCentre,
)
from noiseloom.diffusion.prediction import Prediction

__all__ = ["GaussianDiffusion", "Prediction", "Subspace", "Symmetric", "Whole", "ZeroCentre"]
