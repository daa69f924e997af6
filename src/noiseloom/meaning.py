"""What the weights of a run mean: where two runs differ in it, one cannot start from the other."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from noiseloom.recipes import RECIPES, Facts, Recipe
from noiseloom.run_folder import read_description

__all__ = ["check_meaning", "misfit"]

_NAMES = (
    *(
        "network",
        "state",
        "latent_base",
        "code",
        "scale",
        "head",
        "target",
        "patch",
        "heads",
        "head_width",
    ),
    *("levels", "channels", "shape", "periods", "lags", "columns", "encoder_patch"),
    *("encoder", "vocabulary"),
)
"""Options and facts that say what a network takes and gives, and how it reads its weights."""

_SIZES = (
    *("width", "depth", "blocks", "multipliers", "attention", "heads", "head_width"),
    *("self_conditioning", "m", "k", "groups", "code_depth"),
    *("encoder_width", "encoder_depth", "encoder_heads"),
)
"""Options that say which weights a network has; more of some is no obstacle."""


def check_meaning(recipe: Recipe, facts: Facts, run: Path) -> None:
    """Refuse to start from weights that would mean something else, which shapes do not tell.

    Args:
        recipe: what is to be trained.
        facts: of its data.
        run: folder of the weights; without a description nothing is known of them.

    Raises:
        ValueError: an option or a fact differs; the first such one is named. Periods, lags
            and columns of a series may be added at the end, where new weights go.
    """
    if not (run / "recipe.yaml").is_file():
        return
    described = read_description(run)
    options = described["options"]
    old, new = _meaning(options, described["facts"]), _meaning(asdict(recipe), facts)
    # Columns within a token are followed by those of the next step, of the estimate, or of lags,
    # which stand after the periods.
    lagged = bool(options.get("lags"))
    repeated = options.get("stack", 1) != 1 or options.get("self_conditioning") or lagged
    growing = {"lags", *([] if lagged else ["periods"]), *([] if repeated else ["columns"])}
    for name in _NAMES:
        if name not in old or name not in new:
            continue
        there, here = old[name], new[name]
        grows = name in growing and isinstance(there, list) and isinstance(here, list)
        if there == (here[: len(there)] if grows else here):
            continue
        if name == "vocabulary":
            raise ValueError(
                f"{run} was trained with another vocabulary: its tokens mean other words; train on "
                "captions with the same words, or from the beginning"
            )
        raise ValueError(
            f"{run} was trained with {name} {there}, not {here}: its weights would mean something "
            f"else; keep it as it was{', or add to its end' if grows else ''}"
        )


def misfit(reason: str, recipe: Recipe, facts: Facts, run: Path) -> str:
    """Why weights do not fit, by the options that differ where those say it better than a tensor.

    Args:
        reason: what `init_from` says, of tensors.
        recipe: what was to be trained.
        facts: of its data.
        run: folder of the weights; without a description there is only the reason.
    """
    if not (run / "recipe.yaml").is_file():
        return reason
    described = read_description(run)
    name, options, others = described["recipe"], described["options"], described["facts"]
    kind = RECIPES.get(name)
    if kind is not None and kind.shows != recipe.shows:
        return (
            f"{run} was trained by recipe {name}, on {kind.shows}: its weights do not fit recipe "
            f"{recipe.name}, of {recipe.shows}; start from a run of {recipe.name}, or from the "
            "beginning"
        )
    if _classes(options, others) and not _classes(asdict(recipe), facts):
        remedy = "data with classes" if recipe.conditional else "--conditional"
        return (
            f"{run} was trained with classes (--conditional), which this model is not told, so "
            f"that their weights have no place: train with {remedy}, or from the beginning"
        )
    new: dict[str, Any] = json.loads(json.dumps(asdict(recipe)))
    if _codes(options) and not _codes(new):
        return (
            f"{run} was trained with codes (m {options['m']}, k {options.get('k')}), whose weights "
            "have no place in a model that is told none: a run with codes cannot start one "
            "without; train with as many, or from the beginning"
        )
    differ = [name for name in _SIZES if name in options and name in new]
    differ = [name for name in differ if options[name] != new[name]]
    told = [f"recipe {name}, not {recipe.name}"] if name != recipe.name else []
    told += [f"{name} {options[name]}, not {new[name]}" for name in differ]
    return f"{reason} (it was trained with {'; '.join(told)})" if told else reason


def _classes(options: Mapping[str, Any], facts: Facts) -> bool:
    return bool(options.get("conditional")) and len(facts.get("classes") or ()) > 1


def _codes(options: Mapping[str, Any]) -> bool:
    """Whether options are of a model with codes: rows have those of the state latent alone."""
    coded = "code_drop" in options and options.get("state", "latent") == "latent"
    return coded and bool(options.get("m"))


def _meaning(options: Mapping[str, Any], facts: Facts) -> dict[str, Any]:
    """Options and facts of a model, without those of `_NAMES` that it does not mind."""
    state, network, shape = options.get("state"), options.get("network"), facts.get("shape")
    found = {**options, "levels": facts.get("levels"), "columns": facts.get("columns")}
    if isinstance(shape, list | tuple) and len(shape) == 3:
        # Convolutions do not mind the size of a picture, learnt places do.
        fixed = network not in (None, "unet")
        found |= {"shape": list(shape)} if fixed else {"channels": shape[0]}
    words = facts.get("vocabulary")
    # Of captions it is a list of words; of other rows it may grow finer, and is not looked at.
    found["vocabulary"] = None
    if isinstance(words, Mapping) and words.get("kind") == "captions":
        found["vocabulary"] = {**words, "length": None}
    idle = ["code"] if state in ("onehot", "pixels") else []
    idle += ["head", "levels"] if state == "pixels" else []
    idle += ["scale"] if state not in ("bits", "onehot", "pixels") else []
    idle += ["patch"] if network == "unet" else []
    idle += ["latent_base"] if state != "latent" else []
    idle += ["encoder_patch"] if not options.get("m") else []
    if network == "recurrent" or (network == "unet" and not options.get("attention")):
        idle += ["heads", "head_width"]
    # As JSON has it: a tuple of options is a list in a description.
    named = [name for name in _NAMES if found.get(name) is not None and name not in idle]
    plain: dict[str, Any] = json.loads(json.dumps({name: found[name] for name in named}))
    return plain
