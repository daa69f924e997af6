"""Equal parameters: the width at which one kind of state has as many as another."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from noiseloom.costs import ALIKE
from noiseloom.recipes import Recipe
from noiseloom.rng import Rng

__all__ = ["of_one_size"]


def of_one_size(recipes: Sequence[Recipe], facts: Mapping[str, Any]) -> list[Any]:
    """The recipes, with another `width` where one has over 5 % more or fewer parameters.

    Those of the first count. Widths are multiples of two numbers for each head, which rotary
    positions turn, and the nearest in parameters is taken: what is left of a difference is the
    smaller, the wider the networks are. A recipe that cannot be built is left as it is.

    Args:
        recipes: of runs on the same data, with a transformer of a width and heads.
        facts: of the data.

    Returns:
        As many recipes.
    """
    target = parameters(recipes[0], facts)
    return [_resized(recipe, facts, target) if target else recipe for recipe in recipes]


def parameters(recipe: Recipe, facts: Mapping[str, Any]) -> int:
    """How many a recipe trains at once, those of an encoder among them; 0 of one that is none."""
    try:
        with Rng(recipe.seed).fold("initialisation").torch():
            parts = recipe.build(json.loads(json.dumps(facts)))
    except ValueError:
        return 0
    return sum(p.numel() for p in parts.denoiser.parameters())


def _resized(given: Any, facts: Mapping[str, Any], target: int) -> Any:  # noqa: ANN401
    now = parameters(given, facts)
    if not now or abs(now / target - 1) <= ALIKE:
        return given
    step = 2 * given.heads
    width, below = step, 0
    while (count := parameters(replace(given, width=width), facts)) <= target:
        width, below = width + step, count
    if below and target - below <= count - target:
        width -= step
    return replace(given, width=width)
