"""Pictures with captions, as they are found on disk, before any picture is read."""

import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

from noiseloom.data.decode import SUFFIXES
from noiseloom.data.folder import HELD_OUT, TRAIN

__all__ = ["Captioned", "Part", "Source", "json_of", "named", "part_of"]

Kind = TypeVar("Kind", dict[str, Any], list[Any])

Part: TypeAlias = Literal["train", "held_out", ""]
"""What a picture is for; "" where nobody said."""


@dataclass
class Captioned:
    """A picture with its captions.

    Attributes:
        name: its file, below the root.
        captions: one or more, without spaces around; "" is for the caller to refuse.
        places: where each of them is.
        groups: pictures with a group in common go to the same part.
        part: "train", "held_out", or "" where it was given none.
    """

    name: str
    captions: list[str] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    groups: set[str] = field(default_factory=set)
    part: Part = ""

    def add(self, caption: str, place: str) -> None:
        """Another caption; white space in a row is one space."""
        self.captions.append(" ".join(caption.split()))
        self.places.append(place)


@dataclass(frozen=True)
class Source:
    """What was found.

    Attributes:
        root: folder or zip file of the pictures.
        files: as of `noiseloom.data.decode.files_in`.
        pictures: with captions, in the order of the files.
        missing: pictures that are spoken of and are not there, where that is an error.
        notes: what was left out, one plain sentence each.
    """

    root: Path
    files: dict[str, tuple[int, int]]
    pictures: list[Captioned]
    missing: list[str]
    notes: list[str]

    def has(self, name: str) -> bool:
        """Whether a file is there, which is then one of `files` if it was not before."""
        if name not in self.files and self.root.is_dir() and (self.root / name).is_file():
            stat = (self.root / name).stat()
            self.files[name] = (stat.st_size, stat.st_mtime_ns)
        return name in self.files


def json_of(text: str, where: str, kind: type[Kind]) -> Kind:
    """The list or dictionary of a JSON text.

    Args:
        text: to read.
        where: it is, for errors.
        kind: what it must be.

    Raises:
        ValueError: it is none.
    """
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where} is no JSON: {error}") from error
    if not isinstance(found, kind):
        raise ValueError(f"{where}: expected a JSON {kind.__name__}, got {type(found).__name__}")
    return found


def named(found: Source, key: Callable[[str], str]) -> dict[str, list[str]]:
    """The pictures of a source, by what `key` makes of their names; others have an empty list."""
    names: dict[str, list[str]] = defaultdict(list)
    for name in found.files:
        if name.lower().endswith(SUFFIXES):
            names[key(name)].append(name)
    return names


def part_of(word: str) -> Part:
    """The part that a folder or a cell means."""
    word = word.strip().lower()
    return "train" if word in TRAIN else "held_out" if word in HELD_OUT else ""
