"""What the words of the command line name: options of a verb, a recipe, a run."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from noiseloom.arguments import Arguments, Config, UsageError, nearest, parse
from noiseloom.verbs import VERBS

if TYPE_CHECKING:
    from noiseloom.recipes import Recipe

__all__ = ["parse_words", "recipe_named", "source_of"]


def parse_words(
    verb: str,
    words: Sequence[str],
    *kinds: type,
    config: Config | None = None,
    of_run: Iterable[type] = (),
) -> Arguments:
    """What was typed after a verb, as options of some classes, and of others that a run has."""
    about = VERBS[verb]
    return parse(
        words,
        kinds,
        usage=f"noiseloom {about.usage} [--OPTION VALUE ...]",
        summary=about.summary,
        positional=about.positional,
        config=config,
        of_run=of_run,
    )


def recipe_named(name: str) -> "type[Recipe]":
    """The class of a recipe, by its name or its file.

    Raises:
        UsageError: no such recipe.
    """
    from noiseloom.recipes import RECIPES
    from noiseloom.recipes.own import recipe_from_file

    if name.endswith(".py") or os.sep in name:
        return recipe_from_file(Path(name).expanduser())
    if name not in RECIPES:
        near = nearest(name, RECIPES) or f": there are {', '.join(RECIPES)}, or give ./FILE.py"
        raise UsageError(f"unknown recipe {name!r}{near}")
    return RECIPES[name]


def source_of(args: Arguments) -> str:
    """The run that was named; a recipe file that was given is read first."""
    if args.values["recipe"]:
        recipe_named(args.values["recipe"])
    source: str = args.values["run"]
    return source
