"""What noise is, on one kind of space: one file per kind."""

from noiseloom.diffusion.categorical import CategoricalDiffusion
from noiseloom.diffusion.gaussian import (
    GaussianDiffusion,
    Subspace,
    Symmetric,
    Whole,
    ZeroCentre,
)
from noiseloom.diffusion.prediction import Prediction
from noiseloom.diffusion.product import ProductDiffusion

__all__ = [
    "CategoricalDiffusion",
    "GaussianDiffusion",
    "Prediction",
    "ProductDiffusion",
    "Subspace",
    "Symmetric",
    "Whole",
    "ZeroCentre",
]
