"""What is told of led samples, against the truth where it is known.

Of n samples, of which d are different valid structures:

    valid        share that are structures at all
    distinct     d
    outside      share of the valid ones that the run was not trained on
    measured     share of the d whose true value is known
    best         mean true value of the best 100 of the d; best_of says how many these are, if fewer
    mean         mean true value of all valid samples
    beyond       share of all samples whose true value is better than every label learnt from
    claimed      what the guide says, on average, of the 100 of the d that it holds for the best
    picked       mean true value of these

Best are the lowest where a property is minimised, the highest where it is maximised; where a value
is wanted best, mean and picked are distances from it. What needs a structure, a truth or a guide is
left out where there is none.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["BEST", "Aim", "led_figures"]

BEST = 100
"""Structures that `best`, `claimed` and `picked` are means of."""


@dataclass(frozen=True)
class Aim:
    """What is wanted of a property.

    Attributes:
        name: of the property.
        target: "minimise", "maximise" or a value.
        limit: the best label learnt from, None where a value is wanted.
    """

    name: str
    target: str | float
    limit: float | None = None

    def badness(self, values: Tensor) -> Tensor:
        """Less is better."""
        if isinstance(self.target, float):
            return (values - self.target).abs()
        return values if self.target == "minimise" else -values

    def told(self, values: Tensor) -> float:
        """A mean for people: of values, or of their distances from the one that is wanted."""
        own = values if isinstance(self.target, str) else self.badness(values)
        return float(own.double().mean())


def led_figures(
    keys: Sequence[str],
    aims: Sequence[Aim],
    truths: dict[str, Tensor],
    trained: Collection[str] | None = None,
    order: Tensor | None = None,
    said: dict[str, Tensor] | None = None,
) -> dict[str, float]:
    """The figures above; of several properties their names are put behind those of values.

    Args:
        keys: of all n samples, "" for an invalid one.
        aims: what is wanted.
        truths: by property, float64, shape (n,), NaN where it is not known.
        trained: keys of what the run was trained on, if they are at hand.
        order: of the d different structures, in the order of their first appearance, which are the
            best by the guide, int64, shape (d,); None where no guide is asked.
        said: by property, what it says of these d, shape (d,).
    """
    places = [i for i, key in enumerate(keys) if key]
    first = torch.tensor([*{keys[i]: i for i in reversed(places)}.values()], dtype=torch.int64)
    first = first.sort().values
    found = {"n": float(len(keys)), "valid": len(places) / len(keys), "distinct": float(len(first))}
    if not places:
        for aim in aims:
            if aim.name in truths:  # none is better than what was learnt, and none is best
                ending = f"_{aim.name}" if len(aims) > 1 else ""
                found[f"best_of{ending}"] = 0.0
                found |= {} if aim.limit is None else {f"beyond{ending}": 0.0}
        return found
    if trained is not None:
        found["outside"] = sum(keys[i] not in trained for i in places) / len(places)
    for aim in aims:
        ending = f"_{aim.name}" if len(aims) > 1 else ""
        own = _of_values(truths[aim.name], aim, places, first) if aim.name in truths else {}
        if order is not None and said is not None:
            top = order[:BEST]
            own["claimed"] = aim.told(said[aim.name][top])
            true = truths[aim.name][first[top]] if aim.name in truths else torch.empty(0)
            true = true[true.isfinite()]
            if len(true):
                own["picked"] = aim.told(true)
        found |= {name + ending: value for name, value in own.items()}
    return found


def _of_values(values: Tensor, aim: Aim, places: Sequence[int], first: Tensor) -> dict[str, float]:
    known = values[first].isfinite()
    found = {"measured": float(known.double().mean())}
    if not known.any():
        return found
    different = values[first][known]
    best = different[aim.badness(different).argsort()[:BEST]]
    every = values[torch.tensor(places)]
    found |= {"best": aim.told(best), "best_of": float(len(best))}
    found["mean"] = aim.told(every[every.isfinite()])
    if aim.limit is not None:
        limit = aim.badness(torch.tensor(aim.limit, dtype=torch.float64))
        better = every.isfinite() & (aim.badness(every) < limit)
        found["beyond"] = float(better.sum()) / len(values)
    return found
