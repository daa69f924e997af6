"""A grid of options: its cells, and what their runs are called."""

import itertools
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields, replace
from hashlib import blake2b
from typing import Any

from noiseloom.recipes import Recipe

__all__ = ["changes", "combinations", "made", "passed_over", "run_name", "seeded", "trained"]


def combinations(grid: Sequence[str], cells: Sequence[str] = ()) -> list[dict[str, str]]:
    """Every combination of the values in `grid`, then those of each entry of `cells`.

    Args:
        grid: entries NAME=VALUE,VALUE; commas within brackets belong to a value.
        cells: entries that are grids of their own, their words separated by blanks.

    Raises:
        ValueError: an entry without name, or without value, or with one twice.

    Example:
        >>> combinations(["td=0,1"], ["code=gray head=softmax"])
        [{'td': '0'}, {'td': '1'}, {'code': 'gray', 'head': 'softmax'}]
    """
    found = []
    for words in (list(grid), *(entry.split() for entry in cells)):
        axes = {}
        for word in words:
            name, _, text = word.removeprefix("--").partition("=")
            # No comma before the end of a list, nor before whole lists and the end of theirs.
            values = re.split(r",(?![^\[]*\])(?!(?:\[[^\[\]]*\],?)+\])", text)
            if not name or not all(values):
                raise ValueError(f"expected NAME=VALUE,VALUE in the grid, got {word!r}")
            twice = [value for i, value in enumerate(values) if value in values[:i]]
            if twice:
                raise ValueError(f"{twice[0]} is given twice: {word}")
            axes[name.replace("-", "_")] = values
        if axes:
            found += [
                dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())
            ]
    return [cell for i, cell in enumerate(found) if cell not in found[:i]]


def made(kind: type[Recipe], named: Collection[str], options: Mapping[str, Any]) -> Recipe:
    """The recipe of a cell, without those options of all cells that are refused as not its own.

    Args:
        kind: the recipe's class.
        named: options that the cell itself names.
        options: all that were given.

    Raises:
        ValueError: what cannot be made.
    """
    try:
        return kind(**options)
    except ValueError:
        drawn = set(kind.changeable()) - set(named)
        idle = kind(**{k: v for k, v in options.items() if k not in drawn}).idle
        kept = {k: v for k, v in options.items() if k not in drawn or k not in idle}
        return kind(**kept)


def passed_over(
    recipes: Sequence[Recipe],
    cells: Sequence[Collection[str]],
    options: Sequence[Mapping[str, Any]],
    typed: Collection[str],
) -> str:
    """A sentence on the options of all cells that change nothing of some, or "".

    Args:
        recipes: of the cells.
        cells: the options that each of them names.
        options: all that were given for each.
        typed: names of those that are in no file.

    Raises:
        ValueError: one that was typed changes nothing of any cell.
    """
    told: dict[str, list[str]] = {}
    for recipe, named, given in zip(recipes, cells, options, strict=True):
        common = [f for f in fields(recipe) if f.name in given and f.name not in named]
        quiet = {**recipe.unheard, **recipe.idle}
        for name in [f.name for f in common if f.name in quiet and given[f.name] != f.default]:
            if name in recipe.idle or _refused(recipe, name):
                told.setdefault(name, []).append(quiet[name])
    for name in sorted(typed & told.keys()):
        if len(told[name]) == len(recipes):
            whose = " or ".join(dict.fromkeys(told[name]))
            raise ValueError(f"{name} changes nothing of {whose}: leave it out")
    found = [f"{name} (of {', '.join(dict.fromkeys(whys))})" for name, whys in told.items()]
    return f"passed over where they change nothing: {'; '.join(found)}" if found else ""


def _refused(recipe: Recipe, name: str) -> bool:
    """Whether an option may not be typed for a run: of one without codes a prior may be none."""
    try:
        recipe.check_typed([name])
    except ValueError:
        return True
    return False


def seeded(recipe: Recipe, j: int) -> Recipe:
    """The recipe with the j-th seed, from 0: the recipe's own and those after it."""
    return replace(recipe, seed=recipe.seed + j)


def trained(recipe: Recipe, j: int) -> Recipe:
    """The run has the recipe's own sampling options: they are not part of what is trained."""
    drawn = recipe.changeable()
    defaults: dict[str, Any] = {f.name: f.default for f in fields(recipe) if f.name in drawn}
    return replace(seeded(recipe, j), **defaults)


def changes(recipe: Recipe) -> list[str]:
    """The options that differ from the recipe's defaults, but the seed."""
    return [
        f"{f.name}={json.dumps(value, separators=(',', ':'))}".replace('"', "").replace("/", "_")
        for f in fields(recipe)
        if (value := getattr(recipe, f.name)) != f.default and f.name != "seed"
    ]


def run_name(recipe: Recipe) -> str:
    """The options that differ from the recipe's defaults, and the seed."""
    text = ",".join([*changes(recipe), f"seed={recipe.seed}"])
    if len(text) <= 120:
        return text
    return f"{text[:100]}-{blake2b(text.encode(), digest_size=6).hexdigest()}-seed={recipe.seed}"
