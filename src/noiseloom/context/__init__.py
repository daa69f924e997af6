"""Guides that doubt themselves outside of their training data: Context-Guided Diffusion.

`Guide` says mean and variance of properties at any noise level, `guide_loss` trains it, and
`ContextRegulariser` is the term that keeps it honest on unlabelled states; `make_regulariser` makes
that, or one of the others that it is compared with.

References:
    L. Klarner, T. Rudner, G. Morris, C. Deane, Y. W. Teh, 2024, Context-Guided Diffusion for
    Out-of-Distribution Molecular and Protein Design, arXiv 2407.11942.
"""

from noiseloom.context.baselines import (
    DeepCoral,
    DomainAdversarial,
    DomainConfusion,
    ParameterPrior,
    Regulariser,
    make_regulariser,
)
from noiseloom.context.covariance import (
    COVARIANCES,
    CovarianceSchedule,
    Kernel,
    constant_covariance,
    linear_covariance,
    noise_covariance,
    sigmoid_covariance,
)
from noiseloom.context.guide import Guide, GuideEnsemble, GuideOutput, Predictor, mixture
from noiseloom.context.losses import Context, draw_context, gaussian_nll, guide_loss, noised
from noiseloom.context.regulariser import ContextRegulariser, context_energy
from noiseloom.context.term import Shown, Term

__all__ = [
    "COVARIANCES",
    "Context",
    "ContextRegulariser",
    "CovarianceSchedule",
    "DeepCoral",
    "DomainAdversarial",
    "DomainConfusion",
    "Guide",
    "GuideEnsemble",
    "GuideOutput",
    "Kernel",
    "ParameterPrior",
    "Predictor",
    "Regulariser",
    "Shown",
    "Term",
    "constant_covariance",
    "context_energy",
    "draw_context",
    "gaussian_nll",
    "guide_loss",
    "linear_covariance",
    "make_regulariser",
    "mixture",
    "noise_covariance",
    "noised",
    "sigmoid_covariance",
]
