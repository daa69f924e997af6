"""Equal parameters: the width at which one kind of state has as many as another."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median_low
from typing import Any

from torch import nn

from noiseloom.recipes import Recipe, TwoStages
from noiseloom.rng import Rng
from noiseloom.table import Cell, text_of

__all__ = ["equal_states", "of_one_size"]


def equal_states(
    cells: Sequence[Cell], facts: Mapping[str, Any]
) -> tuple[list[Cell], dict[str, str]]:
    """Cells that differ in `state` alone, of one size; others, and those of a width, as they are.

    Args:
        cells: of a comparison.
        facts: of the data.

    Returns:
        As many cells, and a sentence for each that was changed, by what the cell is called.
    """
    found, told = list(cells), dict[str, str]()
    groups: dict[frozenset[tuple[str, str]], list[int]] = {}
    for i, cell in enumerate(cells):
        sized = all(
            isinstance(getattr(cell.recipe, name, None), int) for name in ("width", "heads")
        )
        if sized and "state" in cell.options and "width" not in cell.options:
            others = {(name, text) for name, text in cell.options.items() if name != "state"}
            groups.setdefault(frozenset(others), []).append(i)
    for group in groups.values():
        asked: list[Any] = [cells[i].recipe for i in group]
        for i, was, now in zip(group, asked, of_one_size(asked, facts), strict=True):
            if now != was:
                found[i] = Cell(cells[i].options, now)
                prior = ""
                if _prior(now, facts):
                    prior = f", with its prior, of width {now.prior_width}"
                told[text_of(cells[i].options)] = (
                    f"{text_of(cells[i].options)}: width {now.width} for {was.width}, for about as "
                    f"many parameters as the other states{prior}"
                )
    return found, told


def of_one_size(recipes: Sequence[Recipe], facts: Mapping[str, Any]) -> list[Any]:
    """The recipes, each with the `width` at which its parameters are nearest to their median.

    So the order of recipes does not matter, and of states that are alike most keep their width.
    Widths are multiples of two numbers for each head, which rotary positions turn: what is left of
    a difference is the smaller, the wider the networks are. Priors count; they have a quarter of
    all at most, and are made narrower for it, down to a width of 4. A recipe that cannot be built
    is left as it is.

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
    """How many a recipe trains, of an encoder and a prior, too; 0 of one that is none."""
    try:
        return _first_stage(recipe, facts) + _prior(recipe, facts)
    except ValueError:
        return 0


def _first_stage(recipe: Recipe, facts: Mapping[str, Any]) -> int:
    with Rng(recipe.seed).fold("initialisation").torch():
        parts = recipe.build(json.loads(json.dumps(recipe.settled(dict(facts)))))
    return sum(p.numel() for p in parts.denoiser.parameters())


def _prior(recipe: Recipe, facts: Mapping[str, Any]) -> int:
    """Parameters of the prior that a recipe trains; a table, which is counted, has none."""
    if not isinstance(recipe, TwoStages) or not recipe.wants_prior:
        return 0
    with Rng(recipe.seed).fold("initialisation").torch():
        prior = recipe.prior_kind(json.loads(json.dumps(facts))).make()
    return sum(p.numel() for p in prior.parameters()) if isinstance(prior, nn.Module) else 0


def _resized(recipe: Recipe, facts: Mapping[str, Any], target: int) -> Recipe:
    sized: Any = recipe  # of any kind with these options
    if parameters(recipe, facts) == target:
        return recipe
    priors: dict[int | None, int] = {None: 0}
    if _prior(sized, facts):
        widths = [*range(4, sized.prior_width, 4), sized.prior_width]
        counts = {w: _prior(replace(sized, prior_width=w), facts) for w in widths}
        priors = {w: n for w, n in counts.items() if n <= target / 4}
        priors = priors or {widths[0]: counts[widths[0]]}
    step = 2 * sized.heads
    width, found = step, list[tuple[int, int, int | None]]()
    while True:
        first = _first_stage(replace(sized, width=width), facts)
        found += [(abs(first + n - target), width, w) for w, n in priors.items()]
        if first + min(priors.values()) > target:
            break
        width += step
    # As near is near enough, the widest prior of those.
    near = target // 50 if len(priors) > 1 else 0
    _, width, prior = min(found, key=lambda one: (max(one[0], near), -(one[2] or 0), one[0]))
    chosen: Recipe = replace(
        sized, width=width, **({} if prior is None else {"prior_width": prior})
    )
    return chosen
