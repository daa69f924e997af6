"""The context regulariser: what a guide should say where there are no labels.

    R = -sum_j ln N(mean_j; 0, K) - sum_j ln N(variance_j; v, K)

over M unlabelled states, noised, each at a time of its own, K as in `covariance`: back to the mean
of the labels, with variance v, smoothly as a random network is smooth.

What it does where y ~ x is known on [-1, 1] (tests/test_context_reversion.py): with a large sigma
and a context that covers the data, too, the mean goes on along what the features span, as a linear
extrapolation does: reversion needs a small sigma, or a context apart from the data. And a context
that overlaps the data is in their way: with a large weight the fit there is lost.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from noiseloom.context.covariance import CovarianceSchedule, Kernel, sigmoid_covariance
from noiseloom.context.guide import Guide
from noiseloom.context.term import Shown, context_of
from noiseloom.rng import Rng

__all__ = ["ContextRegulariser", "context_energy", "frozen"]

LEAST_RATIO = 1e-3
"""Of tau to sigma: the authors report that runs below it always fail."""


def context_energy(
    mean: Tensor,
    variance: Tensor,
    kernel: Kernel,
    *,
    mean_target: float = 0.0,
    variance_target: float = 1.0,
) -> Tensor:
    """-sum_j [ln N(mean_j; m, K) + ln N(variance_j; v, K)], a number in float64.

    = (sum of squared distances) / 2 + J (ln det K + M ln 2 pi). The paper's R is the sum of squared
    distances: twice the gradient.

    Args:
        mean: of M context points, shape (M, J).
        variance: likewise.
        kernel: K.
        mean_target: m.
        variance_target: v.

    Raises:
        ValueError: shapes that do not fit.

    References:
        L. Klarner et al., 2024, arXiv 2407.11942, Section 3 (and the released code, for the form).
    """
    if mean.ndim != 2 or mean.shape != variance.shape:
        raise ValueError(
            f"means of shape {tuple(mean.shape)} and variances of shape {tuple(variance.shape)}, "
            "expected the same, (M, J)"
        )
    return kernel.energy(torch.cat((mean - mean_target, variance - variance_target), 1)).sum()


class ContextRegulariser(nn.Module):
    """The term of the loss that makes a guide doubt itself where there are no labels.

        weight (reference / M) R / (samples J)

    In the paper's reading R is one prior for the whole training set, and so is divided by its size,
    as the likelihood is: there is no weight besides. Its small molecules have `reference` 512, its
    materials None (no such factor). R is not proportional to M, except at sigma = 0, where the
    mean of R / M does not depend on M: K is one joint prior of all context points. There, squares
    in the context count reference / (N tau(t)) times those of all labels at unit variance, which
    says what is much: for N = 2,500 and tau = 0.1 it is 1.9 at time 1, and 16 at time 0.

    Features are those of a copy of the guide's network, drawn anew, that is never trained (for a
    guide that reads a denoiser's hidden states, of a network that reads states): its weights are
    buffers, in no optimiser's hands, and are saved with the module, so that a run resumes. Matrices
    that start at zero (outputs, gates) are drawn too: a network that says 0 has no features.
    sigma |h|^2 is the prior variance of what is shared, and so goes with 1 / F for networks with F
    features of unit size.

    Args:
        build: makes the guide's network, `(x, log_snr, cond) -> (B, F)`, anew.
        rng: key of its weights.
        samples: N, size of the labelled training set.
        sigma: covariance scale, >= 0; variance of standardised labels is 1.
        tau: diagonal offset, >= 1e-3 sigma.
        variance: v, the variance target, > 0, in standardised units.
        schedule: of sigma and tau over time.
        weight: lambda.
        reference: context points for which R counts once, or None.

    Raises:
        ValueError: a number out of range.

    References:
        L. Klarner et al., 2024, arXiv 2407.11942, Section 3; means at 0 and variances at v, where
        the released code has those of the random network.
    """

    needs_context = True

    def __init__(
        self,
        build: Callable[[], nn.Module],
        rng: Rng,
        *,
        samples: int,
        sigma: float = 0.1,
        tau: float = 1.0,
        variance: float = 1.0,
        schedule: CovarianceSchedule = sigmoid_covariance,
        weight: float = 1.0,
        reference: int | None = 512,
    ) -> None:
        super().__init__()
        if not (0 <= sigma < math.inf and 0 < tau < math.inf and variance > 0 and samples > 0):
            raise ValueError(
                "the context needs sigma >= 0, tau > 0, variance > 0 and samples > 0, got "
                f"{sigma}, {tau}, {variance} and {samples}"
            )
        if tau < LEAST_RATIO * sigma:
            raise ValueError(
                f"tau / sigma = {tau / sigma:.3g} is below {LEAST_RATIO}, where the covariance is "
                "all but singular: take a larger tau"
            )
        self.random = frozen(build, rng)
        self.samples, self.sigma, self.tau, self.variance = samples, sigma, tau, variance
        self.schedule, self.weight, self.reference = schedule, weight, reference

    def kernel(self, guide: Guide, shown: Shown) -> Kernel:
        """K of states as the guide was shown them."""
        self.random.eval()  # which a training loop that goes through all modules undoes
        with torch.no_grad():
            seen, log_snr = guide.inputs(shown.x, shown.t)
            features = self.random(seen, log_snr, shown.cond)
            shared, alone = self.schedule(shown.t.to(torch.float64))
        return Kernel(features, self.sigma * shared, self.tau * alone)

    def forward(self, guide: Guide, labelled: Shown, context: Shown | None) -> Tensor:
        """The term, with its weight and scale."""
        context = context_of(context)
        said = context.output
        energy = context_energy(
            said.mean, said.variance, self.kernel(guide, context), variance_target=self.variance
        )
        points, targets = said.mean.shape
        share = 1.0 if self.reference is None else self.reference / points
        return self.weight * share / (self.samples * targets) * energy


def frozen(build: Callable[[], nn.Module], rng: Rng) -> nn.Module:
    """A network with random weights that are buffers, in evaluation."""
    with rng.torch():
        network = build().eval()
        for parameter in network.parameters():
            if parameter.ndim > 1 and not parameter.detach().any():
                nn.init.kaiming_uniform_(parameter, a=math.sqrt(5))  # as of nn.Linear
    for module in network.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            delattr(module, name)
            module.register_buffer(name, parameter.detach().clone())
    return network
