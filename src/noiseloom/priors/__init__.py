"""Priors over discrete codes: what draws the latents that a denoiser is told.

A prior is a law p(z | label) over codes z, int64 of shape (B, m) in 0 .. k - 1; a label is absent,
or int64 of shape (B,) in 0 .. K - 1, or K for none. It is a module that knows m, k and num_classes:

    log_prob(codes, label)            nats, shape (B,)
    sample(count or labels, rng)      codes; sample i is a function of its own key
    loss(codes, label, rng)           shape (B,), where there is something to train

`TabularPrior` is exact and counts; `AutoregressivePrior` is exact and the paper's; `BitsPrior` is a
diffusion, draws all positions at once, and bounds its likelihood (Y. Xu et al., 2024, DisCo-Diff,
arXiv 2407.03300, Section 3.1, which names the last kind as possible). A `PriorKind` says which, in
plain values; `Codes` are what it learns from.
"""

from noiseloom.priors.autoregressive import AutoregressivePrior
from noiseloom.priors.bits import BitsPrior
from noiseloom.priors.codes import MEASURED, Codes, code_likelihoods, likelihood_note
from noiseloom.priors.kind import PriorKind
from noiseloom.priors.prior import Prior, check_prior
from noiseloom.priors.tabular import TabularPrior

__all__ = [
    "MEASURED",
    "AutoregressivePrior",
    "BitsPrior",
    "Codes",
    "Prior",
    "PriorKind",
    "TabularPrior",
    "check_prior",
    "code_likelihoods",
    "likelihood_note",
]
