"""Guides: what a property of the clean state is, with how much doubt, seen from any noise level.

A guide says mean and variance of J properties y given x_t. It is trained on noised states, so that
it can be asked at every step of sampling; `noiseloom.guidance` makes of it what moves samples.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from noiseloom.diffusion import (
    CategoricalDiffusion,
    Diffusion,
    ProductDiffusion,
    RiemannianDiffusion,
    by_part,
)
from noiseloom.preconditioning import LOG_SNR_LIMIT, network_clock
from noiseloom.shapes import Cond, State, Time, align, first_part

__all__ = ["Guide", "GuideEnsemble", "GuideOutput", "Predictor", "mixture", "network_inputs"]

Times = Time | Mapping[str, Time]
"""One time for all of a state, or for a dict one for each part."""


class GuideOutput(NamedTuple):
    """What a guide says of B states.

    Attributes:
        mean: of each of J properties, shape (B, J).
        variance: of each, > 0, shape (B, J).
        embedding: what both are read from, shape (B, F).
    """

    mean: Tensor
    variance: Tensor
    embedding: Tensor

    def rows(self, rows: slice) -> "GuideOutput":
        """What was said of some of the states."""
        return GuideOutput(*(value[rows] for value in self))


class Predictor(Protocol):
    """What guidance asks of a guide."""

    def predict(self, x: State, t: Times, cond: Cond | None = None) -> GuideOutput:
        """Mean and variance of the properties, in the units of the labels."""


class Guide(nn.Module):
    """Mean and variance of J properties, from a network that embeds states.

        e = network(x_t, log-SNR, cond)
        mean = (W e + b)_j,    variance = softplus((W' e + b')_j) + floor

    in standardised units: labels minus the mean, over the deviation, of the training set, which
    `fit` measures and the module keeps. `predict` is in the labels' own units. Both these numbers
    and what `predict` says are float64: 1e8 + 1 and 1e8 + 2 are one number in float32.

    The network is told what a denoiser's is: numbers at unit variance, classes as one-hot vectors
    (`diffusion.width` entries a token), angles as their features; of a product a dict of these and
    a dict of log-SNRs. Classes may be given as one-hot vectors or probabilities, too: that is what
    gradients are taken in. Masks say all that time could, and their log-SNR is told as 0, as it is
    by `ClassDenoiser`.

    Args:
        network: `(x, log_snr, cond) -> embedding`, shape (B, F).
        diffusion: what noise is, of the states that it is asked about.
        features: F.
        targets: J, the number of properties.
        clock: largest |log-SNR| that the network is told.
        floor: least variance, in standardised units.

    References:
        L. Klarner et al., 2024, Context-Guided Diffusion, arXiv 2407.11942 (the two heads; a floor
        that is added instead of cut off at keeps the slope of the softplus).
    """

    centre: Tensor
    deviation: Tensor

    def __init__(
        self,
        network: nn.Module,
        diffusion: Diffusion | ProductDiffusion,
        features: int,
        targets: int = 1,
        *,
        clock: float = LOG_SNR_LIMIT,
        floor: float = 1e-6,
    ) -> None:
        super().__init__()
        self.network = network
        self.diffusion = diffusion
        self.features, self.targets = features, targets
        self.clock, self.floor = clock, floor
        self.heads = nn.Linear(features, 2 * targets)
        self.register_buffer("centre", torch.zeros(targets, dtype=torch.float64))
        self.register_buffer("deviation", torch.ones(targets, dtype=torch.float64))

    def fit(self, labels: Tensor) -> None:
        """Measure mean and deviation of the training set's labels, shape (N, J).

        Raises:
            ValueError: another shape, a label that is not finite (its row is named), or a property
                of one value only.
        """
        self._check(labels)
        if not (finite := labels.isfinite().all(1)).all():
            row = int((~finite).nonzero()[0])
            raise ValueError(f"labels must be finite, got {labels[row].tolist()} in row {row}")
        wide = labels.double()
        same = (wide == wide[:1]).all(0)
        if same.any():
            which = int(same.nonzero()[0])
            value = float(labels[0, which])
            raise ValueError(f"all {len(labels)} labels of property {which} are {value:g}")
        self.centre.copy_(wide.mean(0))
        self.deviation.copy_(wide.std(0, correction=0))

    def standardised(self, labels: Tensor) -> Tensor:
        """Labels (B, J) in the training set's deviations from its mean."""
        self._check(labels)
        scaled = (labels.double() - self.centre) / self.deviation
        return scaled.to(self.heads.weight.dtype)

    def forward(self, x: State, t: Times, cond: Cond | None = None) -> GuideOutput:
        """What is said of states at time t, in standardised units.

        Args:
            x: x_t, as the diffusion has it.
            t: time, a left prefix of its shape; for a product also a dict by part.
            cond: what the network is told besides.

        Raises:
            ValueError: states of another space, or a network that does not embed in (B, F).
        """
        seen, log_snr = self.inputs(x, t)
        embedding = self.network(seen, log_snr, cond)
        batch = len(first_part(seen))
        if not isinstance(embedding, Tensor) or embedding.shape != (batch, self.features):
            got = tuple(embedding.shape) if isinstance(embedding, Tensor) else type(embedding)
            raise ValueError(f"a guide's network says ({batch}, {self.features}), got {got}")
        return self.outputs(embedding)

    def outputs(self, embedding: Tensor) -> GuideOutput:
        """What is read from an embedding, in standardised units."""
        with torch.autocast(embedding.device.type, enabled=False):
            embedding = embedding.to(self.heads.weight.dtype)
            mean, logit = self.heads(embedding).chunk(2, -1)
            return GuideOutput(mean, functional.softplus(logit) + self.floor, embedding)

    def in_units(self, said: GuideOutput) -> GuideOutput:
        """The same in the units of the labels."""
        mean = self.centre + self.deviation * said.mean
        return GuideOutput(mean, self.deviation.square() * said.variance, said.embedding)

    def predict(self, x: State, t: Times, cond: Cond | None = None) -> GuideOutput:
        """What is said of states at time t, in the units of the labels."""
        return self.in_units(self(x, t, cond))

    def inputs(self, x: State, t: Times) -> tuple[State, Any]:
        """What the network is shown of states at time t, and the log-SNR that it is told."""
        dtype = self.heads.weight.dtype
        both = {
            name: network_inputs(own, part, time, dtype, self.clock)
            for name, (own, part, time) in by_part(self.diffusion, x, t).items()
        }
        if "" in both:
            return both[""]
        return {n: pair[0] for n, pair in both.items()}, {n: pair[1] for n, pair in both.items()}

    def _check(self, labels: Tensor) -> None:
        if labels.ndim != 2 or labels.shape[1] != self.targets:
            raise ValueError(
                f"labels of shape {tuple(labels.shape)}: expected (B, {self.targets}), a row for "
                "each state"
            )


def network_inputs(
    diffusion: Diffusion, x: Tensor, t: Tensor, dtype: torch.dtype, clock: float = LOG_SNR_LIMIT
) -> tuple[Tensor, Tensor]:
    """What a guide's network is shown of one tensor, and told of its time.

    Raises:
        ValueError: classes that are neither whole numbers nor vectors of `width` entries, or
            whole numbers where the space has none.
    """
    if isinstance(diffusion, CategoricalDiffusion):
        told = torch.zeros(len(x), device=x.device)
        if diffusion.kind != "absorbing":
            told = network_clock(diffusion.schedule, x, align(t, x), clock)
        if not x.is_floating_point():
            return functional.one_hot(x, diffusion.width).to(dtype), told
        if x.shape[-1] != diffusion.width:
            raise ValueError(
                f"this guide is of classes, as whole numbers or vectors of {diffusion.width} "
                f"entries, and was given numbers of shape {tuple(x.shape)}"
            )
        return x.to(dtype), told
    if not x.is_floating_point():
        raise ValueError(f"this guide is of numbers, and was given {x.dtype}")
    t = align(t, x)
    told = network_clock(diffusion.schedule, x, t, clock)
    if isinstance(diffusion, RiemannianDiffusion):
        return diffusion.manifold.features(x).to(dtype), told
    alpha, sigma = diffusion.schedule(t)
    return (x * (alpha * alpha + sigma * sigma).rsqrt()).to(dtype), told


def mixture(said: Sequence[GuideOutput]) -> GuideOutput:
    """Mean and variance of the equal mixture of what several guides say.

    mean = avg mean_i, variance = avg variance_i + avg (mean_i - mean)^2; embeddings side by side.
    """
    means, variances = (torch.stack([s[i] for s in said]) for i in range(2))
    mean = means.mean(0)
    variance = variances.mean(0) + (means - mean).square().mean(0)
    return GuideOutput(mean, variance, torch.cat([s.embedding for s in said], -1))


class GuideEnsemble(nn.Module):
    """A deep ensemble: guides that start from different weights, and say the mixture of all.

    Args:
        members: guides of the same properties.

    References:
        B. Lakshminarayanan, A. Pritzel, C. Blundell, 2017, arXiv 1612.01474, Section 2.4.
    """

    def __init__(self, members: Sequence[Guide]) -> None:
        super().__init__()
        if not members or len({m.targets for m in members}) > 1:
            raise ValueError("an ensemble needs one guide or more, of the same properties")
        self.members = nn.ModuleList(members)
        self.targets = members[0].targets

    @property
    def guides(self) -> list[Guide]:
        """The members."""
        return cast("list[Guide]", list(self.members))

    @property
    def diffusion(self) -> Diffusion | ProductDiffusion:
        """What noise is."""
        return self.guides[0].diffusion

    def fit(self, labels: Tensor) -> None:
        """Measure the training set's labels, for all members."""
        for guide in self.guides:
            guide.fit(labels)

    def forward(self, x: State, t: Times, cond: Cond | None = None) -> GuideOutput:
        """The mixture in standardised units."""
        return mixture([guide(x, t, cond) for guide in self.guides])

    def predict(self, x: State, t: Times, cond: Cond | None = None) -> GuideOutput:
        """The mixture in the units of the labels."""
        return mixture([guide.predict(x, t, cond) for guide in self.guides])
