"""What noise is, on one kind of space: one file per kind."""

from noiseloom.diffusion.categorical import CategoricalDiffusion
from noiseloom.diffusion.gaussian import GaussianDiffusion
from noiseloom.diffusion.prediction import Prediction, mixed
from noiseloom.diffusion.product import ProductDiffusion, by_part
from noiseloom.diffusion.protocol import Diffusion
from noiseloom.diffusion.riemannian import RiemannianDiffusion, from_score
from noiseloom.diffusion.score import score_of
from noiseloom.diffusion.subspaces import Subspace, Symmetric, Whole, ZeroCentre

__all__ = [
    "CategoricalDiffusion",
    "Diffusion",
    "GaussianDiffusion",
    "Prediction",
    "ProductDiffusion",
    "RiemannianDiffusion",
    "Subspace",
    "Symmetric",
    "Whole",
    "ZeroCentre",
    "by_part",
    "from_score",
    "mixed",
    "score_of",
]
