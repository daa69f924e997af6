"""How codes are used: measures, a bonus that keeps them in use, and a warning where they are not.

Everything here is of q, the encoder's probabilities q(z_i | x) of each latent's k values, shape
(B, m, k). With H for entropies, a latent's information about the data is I(z_i; x) = H(mean q) -
mean H(q): it vanishes where one code is used for all (collapse), and also where all codes are used
at random, which perplexity alone does not show.
"""

import math
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = [
    "CollapseWarning",
    "Restart",
    "UsageBonus",
    "dead_codes",
    "entropy",
    "information",
    "joint_probabilities",
    "mutual_information",
    "perplexity",
]

_TINY = 1e-12
_SETTLED = 150  # updates after which 95 % of a running mean is of the training

_RANDOM = (
    "all are used, at random",
    {
        "penalty": "penalise that (--penalty)",
        "hard": "train by straight-through codes (--hard true)",
    },
)
_FEW = (
    "few are used",
    {
        "bonus": "raise the usage bonus (--bonus)",
        "restart": "restart dead codes (--restart)",
        "temperature": "anneal the temperature",
    },
)
"""What is advised in either case, by the option that does it; the first can always be more."""


def entropy(p: Tensor) -> Tensor:
    """Entropy over the last axis, in nats, with a finite gradient at 0."""
    return -(p * (p + _TINY).log()).sum(-1)


def perplexity(share: Tensor) -> Tensor:
    """Number of codes in use, exp(H): from 1 to k.

    Args:
        share: of each value in a latent's codes, shape (..., k), rows summing to 1.
    """
    return entropy(share).exp()


def dead_codes(share: Tensor, below: float = 0.1) -> Tensor:
    """How many values of a latent have less than `below` of a fair share, 1 / k.

    Args:
        share: shape (..., k).
        below: in [0, 1].
    """
    return (share < below / share.shape[-1]).sum(-1)


def mutual_information(joint: Tensor) -> Tensor:
    """I(z; y) in bits of a table of counts or probabilities, shape (..., k, classes).

    From n samples it is too large by about (k - 1) (classes - 1) / (2 n ln 2).
    """
    joint = joint / joint.sum((-2, -1), keepdim=True)
    total = entropy(joint.sum(-1)) + entropy(joint.sum(-2)) - entropy(joint.flatten(-2))
    return (total / math.log(2)).clamp(min=0)


def information(q: Tensor) -> Tensor:
    """I(z_i; x) of each latent in bits: (H(mean q) - mean H(q)) / ln 2, (B, m, k) to (m,).

    In float64, since the two may be nearly equal.
    """
    q = q.double()
    return (entropy(q.mean(0)) - entropy(q).mean(0)) / math.log(2)


def joint_probabilities(q: Tensor) -> Tensor:
    """Probabilities of all k^m sequences of codes, (B, m, k) to (B, k^m), the first latent slowest.

    Given x the latents are independent, so it is their product.
    """
    whole = q.new_ones(len(q), 1)
    for i in range(q.shape[1]):
        whole = (whole[:, :, None] * q[:, i, None]).flatten(1)
    return whole


@dataclass(frozen=True)
class UsageBonus:
    """What a loss is lowered by where codes tell samples apart, in nats, summed over latents.

        marginal  max(0, 1 - p / fade)  H(mean q)  -  conditional  p  mean H(q),

    p the share of training that is done, the means over samples whose codes were not dropped. The
    first term has all codes used while they find what they stand for, and then fades; the second
    has each sample decide for one, where by the first alone pairs of modes may share pairs of
    codes, half and half at random. On eight Gaussians they do not: the first alone is better
    (docs/results.md). At p = fade / (1 + fade) and equal weights it is a bonus on I(z; x). Neither
    is in the paper.

    Args:
        marginal: weight of the first term, >= 0.
        conditional: weight of the second, >= 0.
        fade: share of training at which the first has gone, > 0.
    """

    marginal: float = 0.3
    conditional: float = 0.3
    fade: float = 0.7

    def __post_init__(self) -> None:
        if not (self.marginal >= 0 and self.conditional >= 0 and self.fade > 0):
            raise ValueError(f"a bonus has weights >= 0 and fade > 0, got {self}")

    def __call__(self, q: Tensor, kept: Tensor, progress: Tensor) -> Tensor:
        """The bonus of each sample; the mean over the batch is what is meant.

        Means over samples are over those given, as a batch norm's are: on many devices, or with
        accumulation, over each part by itself. Where all were dropped there is no bonus.

        Args:
            q: shape (B, m, k).
            kept: bool (B,): samples whose codes were dropped do not count, and get no gradient.
            progress: p, a scalar.

        Returns:
            Shape (B,).
        """
        counted = kept.to(q.dtype)
        counted = counted / counted.sum().clamp(min=1)
        share = torch.einsum("b,bmk->mk", counted, q)
        spread = self.marginal * (1 - progress / self.fade).clamp(min=0) * entropy(share).sum()
        doubt = self.conditional * progress * entropy(q).sum(-1)
        # Times the batch, so that the mean over it is the mean over what counts.
        return spread - len(q) * counted * doubt


@dataclass(frozen=True)
class Restart:
    """When a code that is hardly used begins again, as half of its latent's most used one.

    Args:
        below: a code is dead with less than this of a fair share, 1 / k; in (0, 1].
        every: updates between two looks, >= 1. At most one code of a latent restarts at each.
        until: share of training after which none does.
    """

    below: float = 0.1
    every: int = 50
    until: float = 0.7

    def __post_init__(self) -> None:
        if not 0 < self.below <= 1 or self.every < 1:
            raise ValueError(
                "a restart needs 0 < below <= 1 and every >= 1, got "
                f"below {self.below}, every {self.every}"
            )


class CollapseWarning:
    """A tracker that warns of a latent whose codes say next to nothing: early, and at the end.

    A latent with one code for all needs other advice than one with all codes at random, which no
    bonus on their use will change: it is at its largest.

    Trainings under 150 updates end before the running means say anything.

    Args:
        updates: of the training, after the last of which it warns even if it has before.
        k: number of codes of a latent.
        after: updates before which nothing is said but at the end: at first no code means anything.
        bits: information of the least informative latent that is too little.
        tried: what the training has on already, of penalty, hard, bonus, restart and temperature
            (annealed): that is not advised.
        dropped: the codes of all samples are dropped, against which nothing else helps.
    """

    def __init__(
        self,
        updates: int,
        k: int,
        *,
        after: int = 1000,
        bits: float = 0.05,
        tried: Collection[str] = (),
        dropped: bool = False,
    ) -> None:
        self.updates, self.k, self.after, self.bits = updates, k, after, bits
        self.tried, self.dropped, self.warned = tried, dropped, False

    def write(self, records: Sequence[Mapping[str, float]]) -> None:
        """Look at the records of some updates."""
        for record in records:
            told = self.told(record)
            if told and (not self.warned or record["step"] == self.updates):
                self.warned = True
                warnings.warn(told, stacklevel=2)

    def told(self, record: Mapping[str, float]) -> str:
        """What there is to warn of at an update, by its record alone; "" where there is nothing."""
        step, least = int(record["step"]), record.get("least_information", math.inf)
        due = step >= self.after or step == self.updates >= _SETTLED
        if not (due and least < self.bits):
            return ""
        used = record["least_informed_perplexity"]
        return (
            f"codes have collapsed: at step {step} of {self.updates} a latent tells "
            f"{least:.2g} bits about the data, with a perplexity of {used:.3g} of {self.k}; "
            + self._advice(random=2 * used > 1 + self.k)
        )

    def close(self) -> None:
        """Nothing is open."""

    def _advice(self, *, random: bool) -> str:
        if self.dropped:
            return "those of all samples are dropped: lower --code-drop"
        case, ways = _RANDOM if random else _FEW
        left = [way for name, way in ways.items() if name not in self.tried]
        more = f"the usual means are on already: raise --{next(iter(ways))}"
        return f"{case}: {', or '.join(left) or more}"
