"""Diffusion models for discrete, sequential and structured data."""

from noiseloom.conditioning import SelfConditioned, SelfGuided
from noiseloom.denoiser import Clipped, LinearHead, Preconditioned, SigmoidHead, SoftmaxHead
from noiseloom.diffusion import GaussianDiffusion, Prediction, Symmetric, Whole, ZeroCentre
from noiseloom.encodings import Bits, OneHot, Scaled, Standardised
from noiseloom.guidance import ClassifierFree
from noiseloom.likelihood import flow_log_likelihood
from noiseloom.noise import (
    DDPM,
    EDM,
    Cosine,
    LinearGamma,
    RectifiedFlow,
    ScaledCosine,
    Sigmoid,
)
from noiseloom.objective import denoising_loss
from noiseloom.plan import SamplingPlan
from noiseloom.rng import Rng
from noiseloom.sampling import Step, ancestral, dpm_solver_pp_2m, final, heun, sample

__all__ = [
    "DDPM",
    "EDM",
    "Bits",
    "ClassifierFree",
    "Clipped",
    "Cosine",
    "GaussianDiffusion",
    "LinearGamma",
    "LinearHead",
    "OneHot",
    "Preconditioned",
    "Prediction",
    "RectifiedFlow",
    "Rng",
    "SamplingPlan",
    "Scaled",
    "ScaledCosine",
    "SelfConditioned",
    "SelfGuided",
    "Sigmoid",
    "SigmoidHead",
    "SoftmaxHead",
    "Standardised",
    "Step",
    "Symmetric",
    "Whole",
    "ZeroCentre",
    "ancestral",
    "denoising_loss",
    "dpm_solver_pp_2m",
    "final",
    "flow_log_likelihood",
    "heun",
    "sample",
]

__version__ = "0.1.0"
