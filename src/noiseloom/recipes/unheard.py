"""Options of discrete latents that change nothing, by what it is that they change nothing of.

To draw with one of `drawing` is refused, and so is to type one of `training` for a new run; in
grids and files, where some runs make use of it and others do not, it is passed over.
"""

from collections.abc import Iterator, Mapping
from dataclasses import Field, fields
from typing import Any, ClassVar, Protocol

__all__ = ["drawing", "said", "training"]

_DRAWN = ("code_temperature", "code_top_p")
_USE = ("hard", "bonus", "penalty", "fade", "restart")
_HEAT = ("temperature", "temperature_start", "temperature_end")
_HEAT_OF_ROWS = ("relaxation_start", "relaxation_end")  # whose temperature is another one
_MODEL = ("k", "code_drop", "code_depth", "groups")
_MODEL_OF_ROWS = ("m", "latent_base")  # of others m is what says that there are none

_NONE: Mapping[str, object] = {
    "codes": "none",
    "prior": "none",
    "hard": False,
    **dict.fromkeys(("bonus", "penalty", "restart", "code_drop"), 0),
}
"""Values by which an option says that there is no such thing."""


class _Coded(Protocol):
    """What is looked at of a `TwoStages`, which calls this."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def coded(self) -> bool: ...
    @property
    def codes(self) -> str: ...
    @property
    def k(self) -> int: ...
    @property
    def bonus(self) -> float: ...
    @property
    def idle_of_prior(self) -> Mapping[str, str]: ...


def drawing(recipe: _Coded) -> dict[str, str]:
    """Those of drawing (`Recipe.idle`): which options, and what they do not change.

    Args:
        recipe: of the run.
    """
    if not recipe.coded:
        # To say that samples are told none is true.
        names = _DRAWN if recipe.codes == "none" else ("codes", *_DRAWN)
        return dict.fromkeys(names, "a model without codes")
    if recipe.codes != "prior":
        return dict.fromkeys(_DRAWN, f"samples of codes {recipe.codes}")
    return {}


def training(recipe: _Coded) -> Mapping[str, str]:
    """Those of a new run (`Recipe.unheard`), drawing among it; what comes first is what is said.

    Args:
        recipe: of the run.
    """
    known = [field.name for field in fields(recipe)]
    found: dict[str, str] = {}
    for told, names in _rules(recipe, known):
        found = {name: told for name in names if name in known} | found
    return {**drawing(recipe), **recipe.idle_of_prior, **found}


def said(recipe: _Coded) -> set[str]:
    """Options that change nothing of a model without codes, and say no more than that it has none.

    Args:
        recipe: of the run.
    """
    if recipe.coded:
        return set()
    return {name for name, none in _NONE.items() if getattr(recipe, name, None) == none}


def _rules(recipe: _Coded, known: list[str]) -> Iterator[tuple[str, list[str]]]:
    rows = "latent_base" in known
    relaxed = [*_USE, *(_HEAT_OF_ROWS if rows else _HEAT)]
    if not recipe.coded:
        # The encoder of captions is that of their pictures.
        begins = ("prior",) if "encoder" in known else ("prior", "encoder_")
        more = [name for name in known if name.startswith(begins)]
        model = [*_MODEL, *(_MODEL_OF_ROWS if rows else ())]
        yield "a model without codes", [*model, *more, *relaxed]
    elif recipe.k == 1:
        yield "codes of one value, k 1", relaxed
    if not recipe.bonus:
        yield "a bonus of 0", ["fade"]
    if getattr(recipe, "temperature", None) == "constant":
        yield "a constant temperature", ["temperature_end"]
