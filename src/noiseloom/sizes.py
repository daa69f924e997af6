"""Equal parameters: the width at which one kind of state has as many as another."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median_low
from typing import Any

from noiseloom.recipes import Recipe
from noiseloom.rng import Rng

__all__ = ["of_one_size"]


def of_one_size(recipes: Sequence[Recipe], facts: Mapping[str, Any]) -> list[Any]:
    """The recipes, each with the `width` at which its parameters are nearest to their median.

    So the order of recipes does not matter, and of states that are alike most keep their width.
    Widths are multiples of two numbers for each head, which rotary positions turn: what is left of
    a difference is the smaller, the wider the networks are. A recipe that cannot be built is left
    as it is.

    Args:
        recipes: of runs on the same data, with a transformer of a width and heads.
        facts: of the data.

    Returns:
        As many recipes.
    """
    counts = [parameters(recipe, facts) for recipe in recipes]
    target = median_low([count for count in counts if count] or [0])
    return [
        _resized(recipe, facts, target) if count else recipe
        for recipe, count in zip(recipes, counts, strict=True)
    ]


def parameters(recipe: Recipe, facts: Mapping[str, Any]) -> int:
    """How many a recipe trains at once, those of an encoder among them; 0 of one that is none."""
    try:
        with Rng(recipe.seed).fold("initialisation").torch():
            parts = recipe.build(json.loads(json.dumps(facts)))
    except ValueError:
        return 0
    return sum(p.numel() for p in parts.denoiser.parameters())


def _resized(given: Any, facts: Mapping[str, Any], target: int) -> Any:  # noqa: ANN401
    step = 2 * given.heads
    if parameters(given, facts) == target:
        return given
    width, below = step, 0
    while (count := parameters(replace(given, width=width), facts)) <= target:
        width, below = width + step, count
    if below and target - below <= count - target:
        width -= step
    return replace(given, width=width)
