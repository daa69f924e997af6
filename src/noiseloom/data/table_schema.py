"""What a table's columns are taken for: inferred, or said in a small YAML file.

    sex: categorical
    age: {kind: integer, low: 0, high: 120}
    fare: {kind: real, bins: 16, missing: true}
    class: {kind: categorical, values: [first, second, third], other: true}
    when: {kind: date, format: '%d/%m/%Y'}
    name: leave_out
    country: {kind: leave_out, gaps: true}
    rules: [age >= 0, paid <= fare]

Columns that it does not name are inferred. A list called rules has what rows keep
(`noiseloom.data.table_rules`).
"""

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from noiseloom.data.option_names import said
from noiseloom.data.table_dates import date_like
from noiseloom.data.table_store import Cells

__all__ = ["Defaults", "Wish", "check_names", "read_schema"]

_MAY_HAVE: dict[str, tuple[str, ...]] = {
    "categorical": ("values", "other", "missing"),
    "integer": ("low", "high", "bins", "missing"),
    "real": ("bins", "missing"),
    "date": ("bins", "format", "missing"),
    "leave_out": ("gaps",),
}

_SWITCHES = ("other", "missing", "gaps")


class Wish(NamedTuple):
    """What a person says of a column; None is what is left to be inferred.

    Attributes:
        kind: categorical, integer, real, date or leave_out.
        values: the categories, in their order.
        low: least whole number.
        high: largest whole number.
        bins: how many intervals.
        format: of dates, as of `strftime`; one of `noiseloom.data.table_dates` is found.
        other: whether values that are no categories share a class.
        missing: whether missing values have a class, though none may be missing in training.
        gaps: of what is left out, whether rows without it are left out where missing ones are.
    """

    kind: str
    values: tuple[str | int | float, ...] | None = None
    low: int | None = None
    high: int | None = None
    bins: int | None = None
    format: str | None = None
    other: bool = False
    missing: bool = False
    gaps: bool = False

    @property
    def cells(self) -> Cells:
        """How its cells are to be read: categories as they are written, unless they are numbers."""
        if self.kind == "categorical":
            return "text" if not self.values or isinstance(self.values[0], str) else "number"
        return "date" if self.kind == "date" else "number"


@dataclass(frozen=True)
class Defaults:
    """How columns are made that no schema describes.

    Attributes:
        bins: intervals of numbers.
        whole: whole numbers are classes one by one where the range has at most so many.
        rare: categories in fewer training rows share a class; from 1 on there is one.
        max_classes: the most of a column.

    Raises:
        ValueError: a number that is too small.
    """

    bins: int = 32
    whole: int = 100
    rare: int = 0
    max_classes: int = 256

    def __post_init__(self) -> None:
        for name, least in (("bins", 2), ("whole", 2), ("rare", 0), ("max_classes", 2)):
            if getattr(self, name) < least:
                raise ValueError(
                    f"{said(name)} must be at least {least}, got {getattr(self, name)}"
                )


def read_schema(
    source: str | os.PathLike[str] | Mapping[str, Any] | None,
) -> tuple[dict[str, Wish], tuple[str, ...]]:
    """What a schema says of columns, by name, and its rules.

    Args:
        source: a YAML file, or what is in one, or None for nothing.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no YAML of columns, an unknown kind or setting, a rule that is no text.
    """
    if source is None:
        return {}, ()
    found, called = source, "the schema"
    if not isinstance(source, Mapping):
        path = Path(source).expanduser()
        called = str(path)
        if not path.exists():
            raise FileNotFoundError(f"there is no file {path}")
        try:
            found = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
            raise ValueError(f"{path} is no schema: {' '.join(str(error).split())}") from error
    if not isinstance(found, Mapping):
        raise ValueError(f"{called} must have a line for each column, such as `age: integer`")
    rest, rules = dict(found), list[object]()
    given = rest.get("rules")
    if isinstance(given, list):
        rules = rest.pop("rules")
    elif isinstance(given, str) and re.search("[<>=]", given):
        raise ValueError(f'{called}: rules are a list: write rules: ["{given}"]')
    for rule in rules:
        if not isinstance(rule, str):
            raise ValueError(f"{called}, rules: write the rule {rule!r} in quotes")
    wishes = {_text(name, called): _wish(name, asked, called) for name, asked in rest.items()}
    return wishes, tuple(map(str, rules))


def _text(name: object, called: str) -> str:
    if not isinstance(name, str):
        raise ValueError(f"{called}: write the column {name!r} in quotes")
    return name


def _wish(name: str, asked: object, called: str) -> Wish:
    here = f"{called}, column {name!r}"
    asked = {"kind": asked} if isinstance(asked, str) else asked
    asked = asked if isinstance(asked, Mapping) else {}
    kind = asked.get("kind")
    if kind not in _MAY_HAVE:
        raise ValueError(f"{here}: a kind is one of {', '.join(_MAY_HAVE)}, got {kind!r}")
    rest = {key: value for key, value in asked.items() if key != "kind"}
    for key, value in rest.items():
        if key not in _MAY_HAVE[kind]:
            allowed = ", ".join(_MAY_HAVE[kind])
            raise ValueError(f"{here}: {kind} has {allowed}, not {key!r}")
        if key == "values":
            rest[key] = _values(value, here)
        elif key == "format":
            if "%z" in str(value).lower():
                raise ValueError(
                    f"{here}: format has the offset as all cells have it, such as "
                    f"'%Y-%m-%dT%H:%M:%S+02:00', and not %z or %Z, got {value!r}"
                )
            if not isinstance(value, str) or not date_like(value):
                raise ValueError(
                    f"{here}: format must say where day, month and year are, such as '%d/%m/%Y', "
                    f"got {value!r}"
                )
        elif type(value) is not (bool if key in _SWITCHES else int):
            wanted = "true or false" if key in _SWITCHES else "a whole number"
            raise ValueError(f"{here}: {key} must be {wanted}, got {value!r}")
    if {"low", "high"} & rest.keys() and "bins" in rest:
        raise ValueError(f"{here}: whole numbers have low and high one by one, or bins")
    if rest.get("bins", 2) < 2 or rest.get("low", 0) > rest.get("high", rest.get("low", 0)):
        raise ValueError(f"{here}: bins must be at least 2, and low at most high")
    return Wish(kind, **rest)


def _values(values: object, here: str) -> tuple[str | int | float, ...]:
    if not isinstance(values, list | tuple) or not values:
        raise ValueError(f"{here}: values must be a list, such as [red, green]")
    for value in values:  # YAML reads no and 2020-01-01 as something else
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError(f"{here}: write the value {value!r} in quotes")
    if len(set(values)) < len(values):
        raise ValueError(f"{here}: a value is there twice")
    return tuple(map(str, values)) if any(isinstance(v, str) for v in values) else tuple(values)


def check_names(asked: Iterable[str], names: Iterable[str], called: str = "the table") -> None:
    """Raise where a column that somebody names is not there.

    Raises:
        ValueError: no such column.
    """
    names = list(names)
    for name in asked:
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}"
            raise ValueError(f"{called} has no column {name!r}: {hint}")
