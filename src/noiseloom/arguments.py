"""From words to typed options: one flat parser, built from the dataclasses that hold the options.

Values are typed, described and defaulted by jsonargparse; names are checked here, so that whatever
is misspelt, on the command line or in a file, gets the nearest right name. `-` and `_` are the same
in a name, and a switch is on by its name alone: `--flip`, `--flip true`, `--no-flip`.
"""

import difflib
import re
from argparse import SUPPRESS
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import docstring_parser
import yaml
from jsonargparse import ArgumentParser

__all__ = [
    "Arguments",
    "Config",
    "UsageError",
    "nearest",
    "parse",
    "read_config",
    "state_axis",
    "take_many",
    "take_option",
    "value_of",
]

T = TypeVar("T")
_SHORT = {"-h": "--help", "-n": "--n"}
_ELSEWHERE = {"cfg": "guidance", "epochs": "steps", "iterations": "steps"}  # what others call it


class UsageError(ValueError):
    """What was typed cannot be meant."""


@dataclass(frozen=True)
class Arguments:
    """What was typed.

    Attributes:
        values: of every option and positional argument.
        given: names of the options that were given, on the command line or in a file.
        typed: those of them that were on the command line.
    """

    values: dict[str, Any]
    given: frozenset[str]
    typed: frozenset[str]

    def build(self, kind: type[T]) -> T:
        """An object of a dataclass, from the options that are its fields."""
        return kind(**{f.name: self.values[f.name] for f in _fields(kind)})

    def of(self, kind: type) -> dict[str, Any]:
        """Those of a dataclass's options that were given."""
        return {f.name: self.values[f.name] for f in _fields(kind) if f.name in self.given}


@dataclass(frozen=True)
class Config:
    """What a configuration file says.

    Attributes:
        file: which.
        recipe: the recipe it names, if any.
        values: of options.
    """

    file: Path
    recipe: str | None
    values: dict[str, Any]


class _Parser(ArgumentParser):
    def error(self, message: str, ex: Exception | None = None) -> None:  # type: ignore[override]
        missing = re.fullmatch(r"the following arguments are required: (.*)", message)
        if missing:
            message = f"{missing[1].upper()} is missing: {self.usage}"
        raise UsageError(_tidy(message)) from ex


def parse(
    words: Sequence[str],
    kinds: Iterable[type],
    *,
    usage: str,
    summary: str,
    positional: Sequence[str] = (),
    config: Config | None = None,
    of_run: Iterable[type] = (),
) -> Arguments:
    """Parse words into the fields of dataclasses.

    Args:
        words: what was typed.
        kinds: dataclasses, one or more; their fields are the options.
        usage: first line of the help.
        summary: the line below it.
        positional: names of arguments without option; the last may have "..." after it, and is
            then one or more.
        config: what a file says; `words` win.
        of_run: more dataclasses, whose options have a run's own values by default: those that are
            not given have none here (`Arguments.of`). The help has them after the first of `kinds`.

    Raises:
        UsageError: an unknown option, or a value of a wrong type.
    """
    parser = _Parser(prog="noiseloom", usage=usage, description=summary, allow_abbrev=False)
    hints: dict[str, Any] = {}
    for name in positional:
        number: dict[str, Any] = {"nargs": "+"} if name.endswith("...") else {}
        parser.add_argument(name.removesuffix("..."), type=str, help="see above", **number)
    (verb, *more), of_run = kinds, tuple(of_run)
    for kind in (verb, *of_run, *more):
        group = parser.add_argument_group(_documented(kind)[""])
        known = get_type_hints(kind)
        for f in _fields(kind):
            default = f.default if f.default is not MISSING else f.default_factory()
            default = SUPPRESS if kind in of_run else default
            text = _documented(kind).get(f.name, "")
            hints[f.name] = known[f.name]
            group.add_argument(_option(f.name), type=known[f.name], default=default, help=text)
    base, named = None, set()
    if config is not None:
        for name in config.values:
            _check(name, hints, f" in {config.file}")
        base, named = parser.parse_object(config.values), set(config.values)
    words, typed = _normalise(words, hints)
    values = parser.parse_args(words, namespace=base).as_dict()
    return Arguments(values, frozenset(named | typed), frozenset(typed))


def nearest(word: str, names: Iterable[str]) -> str:
    """A question for whoever misspelt a name, gave its initials or a word of it; or nothing."""
    known = {name.lstrip("-"): name for name in names}
    bare = word.lstrip("-")
    near = [name for name in known if name == _ELSEWHERE.get(bare)]
    near += [name for name in known if "-" in name and bare == _initials(name)]
    near += [name for name in known if name.startswith(f"{bare}-")]
    near += [name for name in known if name.endswith(f"-{bare}")]
    # A worse guess than none: churn for horizon (a ratio of 0.5), restarts for start.
    alike = [name for name in known if abs(len(name) - len(bare)) <= 2]
    near += difflib.get_close_matches(bare, alike, 1, 0.75)
    return f": did you mean {known[near[0]]}?" if near else ""


def _initials(name: str) -> str:
    return "".join(word[0] for word in name.split("-"))


def value_of(words: Sequence[str], name: str) -> str | None:
    """The value of an option before there is a parser, or None."""
    for i, word in enumerate(words):
        if word == name and i + 1 < len(words):
            return words[i + 1]
        if word.startswith(f"{name}="):
            return word.split("=", 1)[1]
    return None


def take_many(words: Sequence[str], name: str) -> tuple[list[str], list[str]]:
    """The words between an option and the next one, and all others."""
    taken: list[str] = []
    rest: list[str] = []
    place = rest
    for word in words:
        if word.startswith("--"):
            place = taken if word.split("=")[0] == name else rest
            if place is taken:
                word = word.removeprefix(name).removeprefix("=")
        if word:
            place.append(word)
    return taken, rest


def take_option(words: Sequence[str], name: str) -> tuple[str | None, list[str]]:
    """The value of an option before there is a parser, and the words without it."""
    rest, value = list(words), value_of(words, name)
    if value is not None:
        place = next(i for i, word in enumerate(rest) if word.split("=")[0] == name)
        del rest[place : place + (1 if "=" in rest[place] else 2)]
    return value, rest


def state_axis(
    words: Sequence[str], grid: Sequence[str], cells: Sequence[str]
) -> tuple[list[str], list[str]]:
    """The grid with what `--state A,B` is short for, and the words without it.

    One state beside other cells is an option of all of them, as any other.

    Raises:
        UsageError: states in the grid besides.
    """
    text = value_of(words, "--state")
    if not text or text.startswith("-") or ("," not in text and (grid or cells)):
        return list(grid), list(words)
    if any(word.removeprefix("--").partition("=")[0] == "state" for word in grid):
        raise UsageError("states are given twice: as --state, and in the grid")
    place = next(i for i, word in enumerate(words) if word.split("=")[0] == "--state")
    rest = list(words)
    del rest[place : place + (1 if "=" in words[place] else 2)]
    return [f"state={text}", *grid], rest


def read_config(path: Path) -> Config:
    """Options from a YAML file, perhaps a run's own `recipe.yaml`, whose facts are passed over.

    Raises:
        FileNotFoundError: there is no such file.
        UsageError: it is not a YAML mapping, or its recipe no name.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no configuration file {path}")
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid YAML in UTF-8: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise UsageError(f"{path} must hold lines like `steps: 1000`")
    recipe = found.pop("recipe", None)
    if not isinstance(recipe, str | None):
        raise UsageError(f"{path}: recipe must be the name of one, got {recipe!r}")
    found.pop("run", None)
    return Config(path, recipe, {name.replace("-", "_"): v for name, v in found.items()})


def _fields(kind: type) -> Sequence[Any]:
    return fields(kind)


def _normalise(words: Sequence[str], hints: dict[str, Any]) -> tuple[list[str], set[str]]:
    """Option names as the parser knows them, a value for every switch; and the names given."""
    result: list[str] = []
    named: set[str] = set()
    words = _with_negatives(words)
    for i, word in enumerate(words):
        word = _SHORT.get(word, word)
        if not re.match(r"--?[A-Za-z]", word):
            result.append(word)
            continue
        text, equals, value = word.partition("=")
        name = text.lstrip("-").replace("-", "_")
        positive = name.removeprefix("no_")
        if name not in hints and positive != name and _is_switch(hints.get(positive)):
            name, equals, value = positive, "=", "false"
        elif name == "help":
            return ["--help"], set()
        else:
            _check(name, hints, "")
        following = words[i + 1] if i + 1 < len(words) else ""
        if _is_switch(hints[name]) and not equals and following not in ("true", "false", "null"):
            equals, value = "=", "true"
        result.append(f"{_option(name)}{equals}{value}")
        named.add(name)
    return result, named


def _with_negatives(words: Sequence[str]) -> list[str]:
    """Words in which `--goal -1,2` is `--goal=-1,2`: the parser takes -1 for a number, not -1,2."""
    result: list[str] = []
    for word in words:
        before = result[-1] if result else ""
        if re.match(r"-[\d.]+,", word) and re.fullmatch(r"--[A-Za-z][\w-]*", before):
            result[-1] = f"{before}={word}"
        else:
            result.append(word)
    return result


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _documented(kind: type) -> dict[str, str]:
    """What docstrings of a class and its bases say: of the class under "", and of fields."""
    texts = [docstring_parser.parse(base.__doc__ or "") for base in reversed(kind.__mro__[:-1])]
    found = {p.arg_name: " ".join((p.description or "").split()) for t in texts for p in t.params}
    return {**found, "": (texts[-1].short_description or kind.__name__).rstrip(".")}


def _is_switch(hint: object) -> bool:
    return hint in (bool, bool | None)


def _check(name: str, hints: dict[str, Any], where: str) -> None:
    if name not in hints:
        near = nearest(_option(name), map(_option, hints))
        raise UsageError(f"unknown option {_option(name)}{where}{near}")


def _tidy(message: str) -> str:
    """The parser's words as one line for people."""
    text = " ".join(message.split())
    text = re.sub(r"<class '(\w+)'>", r"\1", text).replace("typing.", "")
    text = re.sub(r"Literal\[(.*?)\]", lambda m: f"one of {m[1].replace(chr(39), '')}", text)
    text = re.sub(r"^Parser key \"(\w+)\": ", lambda m: f"{_option(m[1])}: ", text)
    for parsers, ours in (
        ("Expected a one", "expected one"),
        ("Expected a int", "expected a whole number"),
        ("Expected a float", "expected a number"),
        ("Expected a tuple", "expected values in brackets, like [1,2]"),
        ("unrecognized arguments:", "unexpected argument"),
    ):
        text = text.replace(parsers, ours)
    # Of a type or nothing, the type alone is told.
    text = re.sub(r"Does not .* Errors: - (.*) - Expected a NoneType .* value: ", r"\1, got ", text)
    return re.sub(r"\. Got value: (.*)$", r", got \1", text)
