"""Learnt discrete latents: an encoder picks a few codes, and the denoiser is told them.

Y. Xu, G. Corso, T. Jaakkola, A. Vahdat, K. Kreis, 2024, "DisCo-Diff: Enhancing Continuous Diffusion
Models with Discrete Latents", arXiv 2407.03300.

Codes travel as one more condition, `cond["codes"]`, floats of shape (B, m, k): a row is one-hot (or
soft, in training), and a sample of zeros, like an absent key, has the null code. So guidance on the
latents is `ClassifierFree(denoiser, scale, drop=("codes",))`; the paper's cfg is scale - 1.
"""

from noiseloom.latents.bound import latent_bound
from noiseloom.latents.latent import Latent, Splits
from noiseloom.latents.loss import latent_loss
from noiseloom.latents.relaxation import (
    Temperature,
    annealed_temperature,
    constant_temperature,
    drop_codes,
    gumbel_softmax,
    one_hot,
)
from noiseloom.latents.report import code_report, modes_recovered, numbering_note
from noiseloom.latents.usage import (
    CollapseWarning,
    Restart,
    UsageBonus,
    dead_codes,
    entropy,
    information,
    joint_probabilities,
    mutual_information,
    perplexity,
)

__all__ = [
    "CollapseWarning",
    "Latent",
    "Restart",
    "Splits",
    "Temperature",
    "UsageBonus",
    "annealed_temperature",
    "code_report",
    "constant_temperature",
    "dead_codes",
    "drop_codes",
    "entropy",
    "gumbel_softmax",
    "information",
    "joint_probabilities",
    "latent_bound",
    "latent_loss",
    "modes_recovered",
    "mutual_information",
    "numbering_note",
    "one_hot",
    "perplexity",
]
