"""What the weights of a run mean: where two runs differ in it, one cannot start from the other."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from noiseloom.recipes import Facts, Recipe
from noiseloom.run_folder import read_description

__all__ = ["check_meaning"]

_NAMES = (
    *("network", "state", "code", "head", "target", "patch", "heads", "head_width"),
    *("levels", "channels", "shape"),
)
"""Options and facts that say what a network takes and gives, and how it reads its weights."""


def check_meaning(recipe: Recipe, facts: Facts, run: Path) -> None:
    """Refuse to start from weights that would mean something else, which shapes do not tell.

    Args:
        recipe: what is to be trained.
        facts: of its data.
        run: folder of the weights; without a description nothing is known of them.

    Raises:
        ValueError: an option or a fact differs; the first such one is named.
    """
    if not (run / "recipe.yaml").is_file():
        return
    described = read_description(run)
    old, new = _meaning(described["options"], described["facts"]), _meaning(vars(recipe), facts)
    for name in _NAMES:
        there, here = old.get(name), new.get(name)
        if None not in (there, here) and there != here:
            raise ValueError(
                f"{run} was trained with {name} {there}, not {here}: its weights would mean "
                "something else; keep it as it was"
            )


def _meaning(options: Mapping[str, Any], facts: Facts) -> dict[str, Any]:
    """Options and facts of a model, without those of `_NAMES` that it does not mind."""
    state, network, shape = options.get("state"), options.get("network"), facts.get("shape")
    found = {**options, "levels": facts.get("levels")}
    if isinstance(shape, list | tuple) and shape:
        # Convolutions do not mind the size of a picture, learnt places do.
        fixed = network not in (None, "unet")
        found |= {"shape": list(shape)} if fixed else {"channels": shape[0]}
    idle = ["code"] if state in ("onehot", "pixels") else []
    idle += ["head", "levels"] if state == "pixels" else []
    idle += ["patch"] if network == "unet" else []
    if network == "recurrent" or (network == "unet" and not options.get("attention")):
        idle += ["heads", "head_width"]
    return {name: value for name, value in found.items() if name not in idle}
