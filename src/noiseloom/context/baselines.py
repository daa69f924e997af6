"""Other regularisers of guides, to be compared with: each a term of the loss, for real.

Weight decay is the optimiser's, an ensemble is `GuideEnsemble`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from noiseloom.context.guide import Guide
from noiseloom.context.regulariser import ContextRegulariser
from noiseloom.context.term import Shown, Term, context_of
from noiseloom.rng import Rng

__all__ = [
    "DeepCoral",
    "DomainAdversarial",
    "DomainConfusion",
    "ParameterPrior",
    "Regulariser",
    "make_regulariser",
]

Regulariser: TypeAlias = Literal[
    "none", "context", "parameter-prior", "coral", "adversarial", "confusion"
]
"""Terms by the name that an option uses."""


@dataclass
class ParameterPrior:
    """weight |theta|^2 / (2 variance) / (samples J): a Gaussian prior of the guide's parameters.

    Args:
        variance: of each parameter, > 0.
        samples: N, size of the labelled training set.
        weight: its factor; 1 is the prior.
    """

    variance: float
    samples: int
    weight: float = 1.0
    needs_context = False

    def __post_init__(self) -> None:
        if not (self.variance > 0 and self.samples > 0):
            raise ValueError(
                f"a prior needs variance > 0 and samples > 0, got {self.variance}, {self.samples}"
            )

    def __call__(self, guide: Guide, labelled: Shown, context: Shown | None) -> Tensor:
        """The term."""
        squares = [p.square().sum() for p in guide.parameters() if p.requires_grad]
        scale = self.weight / (2 * self.variance * self.samples * guide.targets)
        return scale * torch.stack(squares).sum()


@dataclass
class DeepCoral:
    """weight (mean of (m - m')^2 + mean of (C - C')^2): embeddings alike in both domains.

    m and C are mean and covariance (over n - 1) of the embeddings of labelled and of context
    states; the means are over the F and F^2 entries.

    Args:
        weight: its factor.

    References:
        B. Sun, K. Saenko, 2016, Deep CORAL, arXiv 1607.01719, Eq. 1 (the covariances, there over 4
        F^2); the means as in I. Gulrajani, D. Lopez-Paz, 2021, arXiv 2007.01434.
    """

    weight: float = 1.0
    needs_context = True

    def __call__(self, guide: Guide, labelled: Shown, context: Shown | None) -> Tensor:
        """The term."""
        both = labelled.output.embedding, context_of(context).output.embedding
        if min(map(len, both)) < 2:
            raise ValueError(f"a covariance needs two states, got {len(both[0])}, {len(both[1])}")
        mean = both[0].mean(0) - both[1].mean(0)
        gap = _covariance(both[0]) - _covariance(both[1])
        return self.weight * (mean.square().mean() + gap.square().mean())


def _covariance(e: Tensor) -> Tensor:
    off = e - e.mean(0)
    return off.T @ off / (len(e) - 1)


class _Telling(nn.Module):
    """A linear classifier of embeddings: labelled or context."""

    needs_context = True

    def __init__(self, features: int, rng: Rng, weight: float = 1.0) -> None:
        super().__init__()
        with rng.torch():
            self.classifier = nn.Linear(features, 1)
        self.weight = weight

    def _telling(self, labelled: Tensor, context: Tensor) -> Tensor:
        """Its cross-entropy, both domains counting the same, whatever their sizes."""
        first, second = self.classifier(labelled), self.classifier(context)
        return (functional.softplus(-first).mean() + functional.softplus(second).mean()) / 2


class DomainAdversarial(_Telling):
    """Domain-adversarial training: a classifier learns to tell the domains, the features not to be.

    The classifier descends its cross-entropy L; the guide's network ascends weight L, through a
    reversed gradient. The classifier's parameters are this module's: give them to the optimiser.

    Args:
        features: F.
        rng: key of the classifier's weights.
        weight: of the reversed gradient.

    References:
        Y. Ganin et al., 2016, Domain-Adversarial Training of Neural Networks, arXiv 1505.07818, Eq.
        13 to 15.
    """

    def forward(self, guide: Guide, labelled: Shown, context: Shown | None) -> Tensor:
        """The term: the classifier's own loss, in nats."""
        both = labelled.output.embedding, context_of(context).output.embedding
        # As large as e, with a gradient of -weight.
        first, second = (e.detach() + self.weight * (e.detach() - e) for e in both)
        return self._telling(first, second)


class DomainConfusion(_Telling):
    """Domain confusion: a classifier learns to tell, the features to have it say one half.

        L_tell(classifier; features as they are) + weight L_confuse(features; classifier as it is)

    L_confuse is the cross-entropy of what the classifier says with (1/2, 1/2), over both domains.
    The two steps that alternate in the paper are made from one point, in one update. The
    classifier's parameters are this module's: give them to the optimiser.

    Args:
        features: F.
        rng: key of the classifier's weights.
        weight: of the confusion.

    References:
        E. Tzeng et al., 2015, Simultaneous Deep Transfer Across Domains and Tasks, arXiv
        1510.02192, Eq. 3 to 6.
    """

    def forward(self, guide: Guide, labelled: Shown, context: Shown | None) -> Tensor:
        """The term: both losses, in nats."""
        both = labelled.output.embedding, context_of(context).output.embedding
        telling = self._telling(*(e.detach() for e in both))
        weight, bias = (p.detach() for p in self.classifier.parameters())
        said = [functional.linear(e, weight, bias) for e in both]
        unsure = [(functional.softplus(s) + functional.softplus(-s)).mean() / 2 for s in said]
        return telling + self.weight * (unsure[0] + unsure[1]) / 2


def make_regulariser(
    name: Regulariser,
    build: Callable[[], nn.Module],
    features: int,
    samples: int,
    rng: Rng,
    **options: Any,  # noqa: ANN401
) -> Term | None:
    """The term that an option names; what has parameters is a module, to be trained and saved.

    Args:
        name: of it; "none" is None.
        build: makes the guide's network anew, for the context's features.
        features: F, of its embedding.
        samples: N, size of the labelled training set.
        rng: key of random weights.
        **options: others of the term (`sigma`, `tau`, `variance`, `weight`, ...).

    Raises:
        ValueError: another name.
    """
    makers: dict[str, Callable[[], Term | None]] = {
        "none": lambda: None,
        "context": lambda: ContextRegulariser(build, rng, samples=samples, **options),
        "parameter-prior": lambda: ParameterPrior(samples=samples, **options),
        "coral": lambda: DeepCoral(**options),
        "adversarial": lambda: DomainAdversarial(features, rng, **options),
        "confusion": lambda: DomainConfusion(features, rng, **options),
    }
    if name not in makers:
        raise ValueError(f"a regulariser is one of {', '.join(makers)}, got {name!r}")
    return makers[name]()
