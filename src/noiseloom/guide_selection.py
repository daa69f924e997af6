"""Choosing among configurations of each way to train a guide, by how it does on held-out labels.

The grids are the paper's, as far as they are known: sigma, tau and M of its materials, whose labels
are standardised as ours are (its small molecules have wider ones); the variances of the parameter
prior of its small molecules. Those of the domain-adaptation methods were not published, and are
ours. So are weight decays: the paper's, 1e-8 to 0.5, are added to gradients. Ours shrink weights by
exp(-decay rate updates / 2) where nothing else moves them (by e^-decay in 2,000 updates of rate
1e-3), so that most of the paper's would be none. Of every grid equally many are drawn, and every
guide makes equally many updates on labels; pretraining comes before these, and an ensemble makes
them for each member. A guide of no method has nothing to choose, and is trained once.

What is chosen on shifted labels has seen them: a third set would be needed to say how it does
elsewhere.
"""

import itertools
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from noiseloom.recipes.guide_options import GuideTraining
from noiseloom.rng import Rng

__all__ = [
    "CRITERIA",
    "GRIDS",
    "SEED",
    "Grid",
    "Judge",
    "called",
    "configurations",
    "criterion",
    "grid_of",
    "tried",
]

Judge: TypeAlias = Literal["in-domain", "shifted"]
"""What a configuration is chosen by."""
CRITERIA: dict[Judge, str] = {"in-domain": "nll", "shifted": "nll_shifted"}
"""The figure of a summary that says it, less is better."""

SEED = 1000
"""Added to the seed while configurations are compared: what is kept is trained by other seeds."""

_DECADES = tuple(10.0**power for power in range(-4, 5))
_DECAYS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)

GRIDS: dict[str, dict[str, tuple[Any, ...]]] = {
    "none": {},
    "context": {
        "sigma": (0.01, 0.1, 1.0, 10.0),
        "tau": (0.01, 0.1, 1.0, 10.0),
        "context_size": (16, 64, 256),
        "reference": (None,),
    },
    "weight-decay": {"decay": _DECAYS},
    "ensemble": {"decay": _DECAYS},
    "pretrained": {"decay": _DECAYS},
    "parameter-prior": {"prior_variance": _DECADES},
    "coral": {"weight": _DECADES},
    "adversarial": {"weight": _DECADES},
    "confusion": {"weight": _DECADES},
}
"""Options and their values, for each method."""


@dataclass(frozen=True)
class Grid:
    """The configurations of a method.

    Attributes:
        method: which.
        whole: number of all of them.
        drawn: those that are tried, as changes of options.
    """

    method: str
    whole: int
    drawn: tuple[Mapping[str, Any], ...]

    def describe(self) -> str:
        """One line for people."""
        axes = (f"{k} {', '.join(map(str, v))}" for k, v in GRIDS[self.method].items())
        told = "; ".join(axes) or "nothing to choose"
        return f"{self.method}: {len(self.drawn)} of {self.whole} ({told})"


def grid_of(method: str) -> list[dict[str, Any]]:
    """All configurations of a method; tau is at least 1e-3 sigma, as in the paper."""
    axes = GRIDS[method]
    found = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    return [cell for cell in found if cell.get("tau", 1) >= 1e-3 * cell.get("sigma", 1)]


def configurations(method: str, count: int) -> Grid:
    """Some configurations of a method, drawn without replacement, the same for everyone.

    Each is one whose values were drawn least so far, so that a few of many cover every axis.

    Raises:
        ValueError: more than the grid has, or fewer than one.
    """
    whole = grid_of(method)
    if count < 1 or (GRIDS[method] and count > len(whole)):
        smallest = min(len(grid_of(name)) for name in GRIDS if GRIDS[name])
        raise ValueError(
            f"--configurations must be 1 to {len(whole)} for {method} (the smallest grid has "
            f"{smallest}), got {count}"
        )
    order: list[int] = Rng(0).fold("configurations").permutation(len(whole)).tolist()
    used, drawn = Counter[tuple[str, Any]](), list[int]()
    for _ in range(count if whole[0] else 1):
        left = (i for i in order if i not in drawn)
        chosen = min(left, key=lambda i: sum(used[value] for value in whole[i].items()))
        used.update(whole[chosen].items())
        drawn.append(chosen)
    return Grid(method, len(whole), tuple(whole[i] for i in sorted(drawn)))


def criterion(summary: Mapping[str, float], judge: Judge) -> float:
    """Nats of the labels that configurations are chosen by, less is better; inf for NaN."""
    nats = summary[CRITERIA[judge]]
    return math.inf if math.isnan(nats) else nats


def tried(options: GuideTraining, cell: Mapping[str, Any]) -> GuideTraining:
    """The options of a configuration while it is compared."""
    return replace(options, seed=options.seed + SEED, **cell)


def called(cell: Mapping[str, Any]) -> str:
    """A configuration as the name of a folder."""
    return ",".join(f"{k}={'null' if v is None else f'{v:g}'}" for k, v in cell.items()) or "only"
