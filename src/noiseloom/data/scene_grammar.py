"""Sentences about scenes, of which each can be checked: what they say, and whether it is so.

A clause is one of

    there is a KIND                       one or more
    there is no KIND
    there is exactly one KIND
    there are exactly two KINDs           up to six
    there are at least two KINDs          up to six
    a KIND is left of a KIND              right of, above, below, next to, in the same row as,
                                          in the same column as: of two things, not one
    a KIND is in the top row              and fourteen other places
    there are more KINDs than KINDs       of two different kinds
    there are as many KINDs as KINDs      likewise; some, and equally many
    every KIND is red                     or small, or a circle, which the kind does not say itself;
                                          there is one, and all are

where a kind is `[small|large] [colour] shape`, and the word "shape" stands for any. A sentence is a
clause, or two that differ with "and" between them. Left, above and so on compare the columns or
rows of a grid alone, so that no sentence is a matter of taste; next to are cells with an edge in
common.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations, product
from types import MappingProxyType
from typing import Literal, Protocol, TypeAlias

from noiseloom.data.scene_things import COLOURS, GRID, MOST, SHAPES, SIZES, Thing

__all__ = [
    "NUMBERS",
    "PLACES",
    "PLURALS",
    "RELATIONS",
    "WORDS",
    "Clause",
    "Comparison",
    "Count",
    "Every",
    "Kind",
    "Place",
    "Relation",
    "clauses",
    "kinds",
    "says",
]

NUMBERS = ("no", "one", "two", "three", "four", "five", "six")
PLURALS = {**{shape: f"{shape}s" for shape in (*SHAPES, "shape")}, "cross": "crosses"}


Things: TypeAlias = Sequence[Thing]


class Clause(Protocol):
    """What a sentence says: its words, and whether they are true of things."""

    @property
    def text(self) -> str:
        """Its words."""

    def holds(self, things: Things) -> bool:
        """Whether it is so."""


def _next_to(a: Thing, b: Thing) -> bool:
    return abs(a.row - b.row) + abs(a.column - b.column) == 1


RELATIONS: Mapping[str, Callable[[Thing, Thing], bool]] = MappingProxyType(
    {
        "left of": lambda a, b: a.column < b.column,
        "right of": lambda a, b: a.column > b.column,
        "above": lambda a, b: a.row < b.row,
        "below": lambda a, b: a.row > b.row,
        "next to": _next_to,
        "in the same row as": lambda a, b: a.row == b.row,
        "in the same column as": lambda a, b: a.column == b.column,
    }
)
"""Whether a thing is so beside another one."""

PLACES: Mapping[str, frozenset[tuple[int, int]]] = MappingProxyType(
    {
        **{
            f"{name} row": frozenset((row, column) for column in range(GRID))
            for row, name in enumerate(("top", "middle", "bottom"))
        },
        **{
            f"{name} column": frozenset((row, column) for row in range(GRID))
            for column, name in enumerate(("left", "middle", "right"))
        },
        "top left corner": frozenset({(0, 0)}),
        "top right corner": frozenset({(0, 2)}),
        "bottom left corner": frozenset({(2, 0)}),
        "bottom right corner": frozenset({(2, 2)}),
        "middle of the top row": frozenset({(0, 1)}),
        "middle of the bottom row": frozenset({(2, 1)}),
        "middle of the left column": frozenset({(1, 0)}),
        "middle of the right column": frozenset({(1, 2)}),
        "centre": frozenset({(1, 1)}),
    }
)
"""The cells of each place."""


@dataclass(frozen=True)
class Kind:
    """Some things by what they look like; "" stands for any.

    Attributes:
        size: of `SIZES`, or any.
        colour: of `COLOURS`, or any.
        shape: of `SHAPES`, or any.
    """

    size: str = ""
    colour: str = ""
    shape: str = ""

    @property
    def one(self) -> str:
        """Its words, of one thing."""
        return " ".join(filter(None, (self.size, self.colour, self.shape or "shape")))

    @property
    def many(self) -> str:
        """Its words, of several."""
        plural = PLURALS[self.shape or "shape"]
        return " ".join(filter(None, (self.size, self.colour, plural)))

    def has(self, thing: Thing) -> bool:
        """Whether a thing is of this kind."""
        return (
            self.size in ("", thing.size)
            and self.colour in ("", thing.colour)
            and self.shape in ("", thing.shape)
        )

    def of(self, things: Things) -> list[Thing]:
        """The things of this kind."""
        return [thing for thing in things if self.has(thing)]


@dataclass(frozen=True)
class Count:
    """How many of a kind there are: `least` to `most`, or any number from `least` on."""

    kind: Kind
    least: int
    most: int | None

    @property
    def text(self) -> str:
        """Its words."""
        if (self.least, self.most) == (1, None):
            return f"there is a {self.kind.one}"
        if self.most == 0:
            return f"there is no {self.kind.one}"
        if self.most == 1:
            return f"there is exactly one {self.kind.one}"
        how = "at least" if self.most is None else "exactly"
        return f"there are {how} {NUMBERS[self.least]} {self.kind.many}"

    def holds(self, things: Things) -> bool:
        """Whether there are so many."""
        count = len(self.kind.of(things))
        return self.least <= count and (self.most is None or count <= self.most)


@dataclass(frozen=True)
class Relation:
    """A thing of one kind stands somewhere beside another thing, of another kind or the same."""

    kind: Kind
    name: str
    other: Kind

    @property
    def text(self) -> str:
        """Its words."""
        return f"a {self.kind.one} is {self.name} a {self.other.one}"

    def holds(self, things: Things) -> bool:
        """Whether there are two such things."""
        related = RELATIONS[self.name]
        return any(
            self.kind.has(a) and self.other.has(b) and related(a, b)
            for a, b in permutations(things, 2)
        )


@dataclass(frozen=True)
class Place:
    """A thing of a kind is in a place."""

    kind: Kind
    name: str

    @property
    def text(self) -> str:
        """Its words."""
        return f"a {self.kind.one} is in the {self.name}"

    def holds(self, things: Things) -> bool:
        """Whether there is one."""
        return any((a.row, a.column) in PLACES[self.name] for a in self.kind.of(things))


@dataclass(frozen=True)
class Comparison:
    """There are more of a kind than of another one, or as many."""

    kind: Kind
    name: Literal["more", "as many"]
    other: Kind

    @property
    def text(self) -> str:
        """Its words."""
        link = "than" if self.name == "more" else "as"
        return f"there are {self.name} {self.kind.many} {link} {self.other.many}"

    def holds(self, things: Things) -> bool:
        """Whether it is so; of nothing there is not as much as of nothing."""
        a, b = len(self.kind.of(things)), len(self.other.of(things))
        return a > b if self.name == "more" else a == b > 0


@dataclass(frozen=True)
class Every:
    """All things of a kind, of which there is one, are of another size, colour or shape too."""

    kind: Kind
    name: str

    @property
    def text(self) -> str:
        """Its words."""
        return f"every {self.kind.one} is {'a ' * (self.name in SHAPES)}{self.name}"

    def holds(self, things: Things) -> bool:
        """Whether all are."""
        found = self.kind.of(things)
        return bool(found) and all(self.name in (a.size, a.colour, a.shape) for a in found)


def kinds() -> Iterator[Kind]:
    """All kinds, 126."""
    for size, colour, shape in product(("", *SIZES), ("", *COLOURS), ("", *SHAPES)):
        yield Kind(size, colour, shape)


def clauses() -> Iterator[Clause]:
    """All clauses, each once."""
    everything = list(kinds())
    for kind in everything:
        yield Count(kind, 1, None)
        for number in range(MOST + 1):
            yield Count(kind, number, number)
        for number in range(2, MOST + 1):
            yield Count(kind, number, None)
        for place in PLACES:
            yield Place(kind, place)
        for name in (*SIZES, *COLOURS, *SHAPES):
            if not says(kind, name):
                yield Every(kind, name)
    for kind, other in product(everything, everything):
        for name in RELATIONS:
            yield Relation(kind, name, other)
        if kind != other:
            yield Comparison(kind, "more", other)
            yield Comparison(kind, "as many", other)


def says(kind: Kind, name: str) -> bool:
    """Whether a kind has a size, colour or shape already, whichever `name` is one of."""
    sort = kind.size if name in SIZES else kind.colour if name in COLOURS else kind.shape
    return bool(sort)


def _words() -> tuple[str, ...]:
    found = {"and", "a", "is", "in", "the", "there", "are", "exactly", "at", "least", "every"}
    found |= {"more", "than", "as", "many", *NUMBERS, *SIZES, *COLOURS, *SHAPES, "shape"}
    found |= {*PLURALS.values(), *" ".join((*RELATIONS, *PLACES)).split()}
    return tuple(sorted(found))


WORDS = _words()
"""All words that sentences have."""
