"""The public names: `import noiseloom` offers each of them."""

from noiseloom.beam import beam_search
from noiseloom.bound import nats_bound
from noiseloom.class_denoiser import ClassDenoiser, CodeDenoiser, Remembering
from noiseloom.conditioning import SelfConditioned, SelfGuided
from noiseloom.context import (
    Context,
    ContextRegulariser,
    Guide,
    GuideEnsemble,
    GuideOutput,
    draw_context,
    guide_loss,
    make_regulariser,
)
from noiseloom.curvature import flow_geometry, jacobian_squares
from noiseloom.denoiser import (
    Clipped,
    LinearHead,
    Preconditioned,
    PreconditionedParts,
    SigmoidHead,
    SoftmaxHead,
)
from noiseloom.diffusion import (
    CategoricalDiffusion,
    GaussianDiffusion,
    Prediction,
    ProductDiffusion,
    RiemannianDiffusion,
    Symmetric,
    Whole,
    ZeroCentre,
)
from noiseloom.encodings import Bits, OneHot, Scaled, Standardised
from noiseloom.guidance import (
    ClassifierFree,
    HiddenGuided,
    HistoryGuided,
    HistoryTerm,
    MonteCarloGuided,
    PropertyGuided,
    RewardGuided,
    acquisition,
    best_of,
    fractional_history,
    hidden_guided,
    nudged,
    scaling,
    state_value,
    substitution_gains,
    temporal_history,
    vanilla_history,
)
from noiseloom.guide_folder import load_guide
from noiseloom.information import information_schedule
from noiseloom.langevin import corrected
from noiseloom.latents import Latent, latent_bound, latent_loss
from noiseloom.likelihood import flow_log_likelihood
from noiseloom.loading import load
from noiseloom.manifolds import Torus
from noiseloom.next_token import NextToken, Writing
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
from noiseloom.plan_parts import PartsPlan
from noiseloom.preconditioning import Preconditioning
from noiseloom.priors import AutoregressivePrior, BitsPrior, TabularPrior
from noiseloom.publish import push
from noiseloom.recipes import Facts, Guidable, GuideTraining, Guiding, Labelled, Parts, Recipe
from noiseloom.redesign import free_sites
from noiseloom.rng import Rng
from noiseloom.rollouts import Finished, along, rollout
from noiseloom.run import Run
from noiseloom.sampling import (
    Step,
    ancestral,
    dpm_solver_pp_2m,
    final,
    heun,
    resampled,
    sample,
)
from noiseloom.sliding import slide
from noiseloom.steering import steered
from noiseloom.stochastic import churned, restarted, restarts
from noiseloom.streaming import stream
from noiseloom.terminal import save_picture
from noiseloom.tokens import forcing_times, fused_snr_weight, ramp_times, sigmoid_weight
from noiseloom.training.precision import compiled
from noiseloom.unmasking import by_confidence

__all__ = [
    "DDPM",
    "EDM",
    "AutoregressivePrior",
    "Bits",
    "BitsPrior",
    "CategoricalDiffusion",
    "ClassDenoiser",
    "ClassifierFree",
    "Clipped",
    "CodeDenoiser",
    "Context",
    "ContextRegulariser",
    "Cosine",
    "Facts",
    "Finished",
    "GaussianDiffusion",
    "Guidable",
    "Guide",
    "GuideEnsemble",
    "GuideOutput",
    "GuideTraining",
    "Guiding",
    "HiddenGuided",
    "HistoryGuided",
    "HistoryTerm",
    "Labelled",
    "Latent",
    "LinearGamma",
    "LinearHead",
    "MonteCarloGuided",
    "NextToken",
    "OneHot",
    "Parts",
    "PartsPlan",
    "Preconditioned",
    "PreconditionedParts",
    "Preconditioning",
    "Prediction",
    "ProductDiffusion",
    "PropertyGuided",
    "Recipe",
    "RectifiedFlow",
    "Remembering",
    "RewardGuided",
    "RiemannianDiffusion",
    "Rng",
    "Run",
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
    "TabularPrior",
    "Torus",
    "Whole",
    "Writing",
    "ZeroCentre",
    "acquisition",
    "along",
    "ancestral",
    "beam_search",
    "best_of",
    "by_confidence",
    "churned",
    "compiled",
    "corrected",
    "denoising_loss",
    "dpm_solver_pp_2m",
    "draw_context",
    "final",
    "flow_geometry",
    "flow_log_likelihood",
    "forcing_times",
    "fractional_history",
    "free_sites",
    "fused_snr_weight",
    "guide_loss",
    "heun",
    "hidden_guided",
    "information_schedule",
    "jacobian_squares",
    "latent_bound",
    "latent_loss",
    "load",
    "load_guide",
    "make_regulariser",
    "nats_bound",
    "nudged",
    "push",
    "ramp_times",
    "resampled",
    "restarted",
    "restarts",
    "rollout",
    "sample",
    "save_picture",
    "scaling",
    "sigmoid_weight",
    "slide",
    "state_value",
    "steered",
    "stream",
    "substitution_gains",
    "temporal_history",
    "vanilla_history",
]
