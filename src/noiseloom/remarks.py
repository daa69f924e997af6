"""What must be said with figures, lest they are taken for more than they are."""

from collections.abc import Collection, Iterator, Mapping, Sequence

from noiseloom.glossary import direction
from noiseloom.recipes import Recipe
from noiseloom.terminal import shown

__all__ = ["by_heart", "remarks", "too_few", "unsure"]

GAP = 0.2
"""Of the bits of held-out rows, by which those of training rows may be fewer."""

_LENIENT = {"recall", "density"}
"""Measures that may rate noise above what is real, however many there are."""


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
        >>> by_heart({"bits_per_token": 4.0, "bits_per_token_train": 0.5})
        'rows were learnt by heart: of training rows a token takes 0.5 bits, of held-out ones 4...'
    """
    held, seen = (metrics.get(f"bits_per_token{ending}") for ending in ("", "_train"))
    if held is None or seen is None:
        return ""
    if held - seen <= max(GAP * held, 3 * metrics.get("bits_per_token_se", 0.0)):
        return ""
    return (
        f"rows were learnt by heart: of training rows a token takes {seen:.3g} bits, of held-out "
        f"ones {held:.3g}; fewer updates, more data or --dropout would help"
    )


def unsure(
    means: Sequence[Mapping[str, float]],
    deviations: Sequence[Mapping[str, float]],
    names: Collection[str],
) -> Iterator[str]:
    """Sentences on metrics that one run does not know as well as the spread over seeds suggests.

    Args:
        means: over seeds, of each cell, with standard errors of a run as `NAME_se`.
        deviations: over seeds, of each cell.
        names: of the metrics that are shown.
    """
    for name in names:
        errors = [mean.get(f"{name}_se", 0.0) for mean in means]
        pairs = zip(errors, deviations, strict=True)
        if any(error > 2 * spread.get(name, error) for error, spread in pairs):
            yield (
                f"{name} of a run is known to ± {max(errors):.2g} (which rows are held out, and "
                "draws of a bound), less well than the spread over seeds suggests: states are "
                "judged on the same rows, other rows would move all"
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
        if (direction(name) == "↓" and noised < real) or (direction(name) == "↑" and noised > real):
            found.append(name)
    if not found:
        return ""
    return (
        f"{', '.join(found)} cannot tell good from bad: real rows with noise are better than "
        f"held-out ones; {metrics.get('n', 0):,.0f} rows are too few, or held-out ones are unlike "
        "the others"
    )
