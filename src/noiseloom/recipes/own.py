"""Recipes of one's own: one Python file, which defines one recipe."""

import importlib.util
import sys
from pathlib import Path

from noiseloom.recipes import RECIPES, Recipe

__all__ = ["recipe_from_file"]

_ANSWERS = ("load", "build", "evaluate")


def recipe_from_file(path: Path) -> type[Recipe]:
    """Run a Python file and enter the recipe that it defines among `RECIPES`, for this process.

    Args:
        path: a file with exactly one subclass of `Recipe` that has a `name`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be run, defines no recipe or several, or one that lacks an answer or
            takes the name of ours.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no recipe file {path}")
    module_name = f"recipe_file_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is no Python file: a recipe file ends in .py")
    module = sys.modules[module_name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ValueError(
            f"{path} cannot be run ({type(error).__name__}: {error}); NOISELOOM_TRACEBACK=1 shows "
            "where"
        ) from error
    kinds = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Recipe) and value.__module__ == module_name
    ]
    found = [kind for kind in kinds if hasattr(kind, "name")]
    if len(found) != 1:
        names = ", ".join(kind.__name__ for kind in found)
        nameless = ", ".join(f"{kind.__name__} without one" for kind in kinds)
        raise ValueError(
            f"{path} must define one Recipe with a name, it defines {names or nameless or 'none'}"
        )
    kind = found[0]
    missing = [n for n in ("name", "summary") if not isinstance(getattr(kind, n, None), str)]
    missing += [n for n in _ANSWERS if getattr(kind, n) is getattr(Recipe, n)]
    if missing:
        raise ValueError(f"{path}: recipe {kind.__name__} lacks {', '.join(missing)}")
    known = RECIPES.get(kind.name)
    if known is not None and known.__module__.startswith("noiseloom."):
        raise ValueError(
            f"{path} calls its recipe {kind.name!r}, like one of noiseloom's: rename it"
        )
    RECIPES[kind.name] = kind
    return kind
