"""What must be said with figures, lest they are taken for more than they are."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from noiseloom.glossary import direction
from noiseloom.recipes import Recipe
from noiseloom.terminal import shown

__all__ = ["by_heart", "remarks", "too_few", "unsure"]

GAP = 0.2
"""Of the bits of held-out rows, by which those of training rows may be fewer."""
_FREE = 6  # seeds beyond the first of each cell

_LENIENT = {"recall", "density"}
"""Measures that may rate noise above what is real, however many there are."""
_LESS = {"classifier"}
"""Measures of which held-out rows have less than noise, though less is not better."""


def remarks(recipe: Recipe, metrics: Mapping[str, float]) -> list[str]:
    """The caveat of a recipe, and of rows which metrics do not tell.

    Args:
        recipe: of the run.
        metrics: its evaluation.
    """
    few = too_few(metrics) if recipe.shows == "rows" else ""
    return [told for told in (recipe.caveat, by_heart(metrics), few) if told]


def by_heart(metrics: Mapping[str, float]) -> str:
    """A sentence where training rows cost a model far fewer bits than held-out ones; "" elsewhere.

    Args:
        metrics: an evaluation.

    Example:
        >>> by_heart({"bits_per_token": 4.0, "bits_per_token_seen": 0.5})
        'of training rows a token takes 0.5 bits, of held-out ones 4: rows were learnt by heart ...'
    """
    held, seen = (metrics.get(f"bits_per_token{ending}") for ending in ("", "_seen"))
    if held is None or seen is None:
        return ""
    errors = (metrics.get(f"bits_per_token{ending}", 0.0) for ending in ("_se", "_seen_se"))
    if held - seen <= max(GAP * held, 3 * math.hypot(*errors)):
        return ""
    return (
        f"of training rows a token takes {seen:.3g} bits, of held-out ones {held:.3g}: rows were "
        "learnt by heart (fewer updates, more data or --dropout would help), or held-out ones are "
        "unlike the others"
    )


def unsure(cells: Sequence[Mapping[str, Any]]) -> str:
    """A sentence where runs know their bits per token less well than seeds agree; "" elsewhere.

    Both are pooled over cells, and few seeds in all may agree by chance.

    Args:
        cells: the number of seeds of each (n), and over them means and deviations; means have the
            standard error of a run.
    """
    name = "bits_per_token"
    known = [
        c for c in cells if c["n"] > 1 and name in c["deviation"] and f"{name}_se" in c["mean"]
    ]
    free = sum(cell["n"] - 1 for cell in known)
    if free < _FREE:
        return ""
    spread = sum((c["n"] - 1) * c["deviation"][name] ** 2 for c in known) / free
    error = sum(c["mean"][f"{name}_se"] ** 2 for c in known) / len(known)
    if error <= 4 * spread:
        return ""
    return (
        f"{name} of a run is known to ± {math.sqrt(error):.2g}, and seeds agree to ± "
        f"{math.sqrt(spread):.2g}: all are judged on the same held-out rows, and others would move "
        "all states"
    )


def too_few(metrics: Mapping[str, float], names: Collection[str] | None = None) -> str:
    """A sentence that names metrics whose anchors are the wrong way round; "" of none.

    Where real rows with noise are better than held-out ones without, a metric does not tell good
    samples from bad ones: of a few rows chance is more than what is wrong with them. Nor does it
    where held-out rows are others than those trained on, as of a later time: then so are samples
    that follow these, however many rows there are.

    Args:
        metrics: an evaluation.
        names: of the metrics that are shown; by default all.

    Example:
        >>> too_few({"n": 64, "pair": 0.2, "pair_held_out": 0.3, "pair_noised": 0.25})
        'pair cannot tell good from bad: real rows with noise are better than held-out ones; ...'
    """
    found = []
    for name in shown(metrics) if names is None else names:
        real, noised = (metrics.get(f"{name}{ending}") for ending in ("_held_out", "_noised"))
        if real is None or noised is None or name in _LENIENT:
            continue
        falls = direction(name) == "↓" or name in _LESS
        if (falls and noised < real) or (direction(name) == "↑" and noised > real):
            found.append(name)
    if not found:
        return ""
    return (
        f"{', '.join(found)} cannot tell good from bad: real rows with noise are better than "
        f"held-out ones; {metrics.get('n', 0):,.0f} rows are too few, or held-out ones are unlike "
        "the others"
    )
