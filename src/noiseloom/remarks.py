"""What must be said with figures, lest they are taken for more than they are."""

from collections.abc import Collection, Mapping

from noiseloom.glossary import direction
from noiseloom.recipes import Recipe
from noiseloom.terminal import shown

__all__ = ["remarks", "too_few"]

_LENIENT = {"recall", "density"}
"""Measures that may rate noise above what is real, however many there are."""


def remarks(recipe: Recipe, metrics: Mapping[str, float]) -> list[str]:
    """The caveat of a recipe, and of rows which metrics do not tell.

    Args:
        recipe: of the run.
        metrics: its evaluation.
    """
    few = too_few(metrics) if recipe.shows == "rows" else ""
    return [told for told in (recipe.caveat, few) if told]


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
        if (direction(name) == "↓" and noised < real) or (direction(name) == "↑" and noised > real):
            found.append(name)
    if not found:
        return ""
    return (
        f"{', '.join(found)} cannot tell good from bad: real rows with noise are better than "
        f"held-out ones; {metrics.get('n', 0):,.0f} rows are too few, or held-out ones are unlike "
        "the others"
    )
