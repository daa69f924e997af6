"""A world of little scenes, made without files, in which any caption is exactly true or false.

Two to five things stand in cells of a 3 x 3 grid. They have shapes, colours and sizes; sentences
are of the grammar in `noiseloom.data.scene_grammar`, which has 146,457 of one clause, and the pairs
of those. So the share of true captions measures whether what is said is so, which no comparison
with reference texts does. Whether the picture was seen is another question, for "there is a shape"
is true of every scene: it is measured by the share that is true of the picture, less the share of
the same captions that is true of another scene (`caption_report`, true_beyond).

Example:
    >>> from noiseloom.rng import Rng
    >>> scene = random_scene(Rng(0))
    >>> holds(scene, describe(scene, Rng(1)))
    True
    >>> holds(scene, "a picture of a cat") is None
    True
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from noiseloom.data.scene_grammar import (
    PLACES,
    RELATIONS,
    Clause,
    Comparison,
    Count,
    Every,
    Kind,
    Place,
    Relation,
)
from noiseloom.data.scene_picture import draw_things
from noiseloom.data.scene_reading import parse
from noiseloom.data.scene_things import COLOURS, GRID, MOST, SHAPES, SIZES, Thing
from noiseloom.rng import Rng

__all__ = ["Scene", "Thing", "describe", "holds", "random_scene", "random_scenes"]

Item = TypeVar("Item")

_NUMBERS = 64
"""Uniform numbers that a scene or a sentence is made of, at most."""


@dataclass(frozen=True)
class Scene:
    """Things in the cells of a grid.

    Attributes:
        things: one to six, sorted by row and column, one in a cell.

    Raises:
        ValueError: none, more, two in a cell, or another order.
    """

    things: tuple[Thing, ...]

    def __post_init__(self) -> None:
        cells = [(thing.row, thing.column) for thing in self.things]
        if not 1 <= len(cells) <= MOST or cells != sorted(set(cells)):
            raise ValueError(
                f"a scene has 1 to {MOST} things, sorted by row and column, one in a cell; got "
                f"cells {cells}"
            )

    def pixels(self, size: int = 32) -> Tensor:
        """A picture, uint8, shape (3, size, size); other scenes have other pictures.

        Raises:
            ValueError: a size below 24.
        """
        return draw_things(self.things, size)


def holds(scene: Scene, sentence: str) -> bool | None:
    """Whether a sentence is true of a scene, exactly; None if it is none of the grammar.

    Args:
        scene: to look at.
        sentence: in lower case, single spaces between words and no full stop.
    """
    said = parse(sentence)
    return None if said is None else all(clause.holds(scene.things) for clause in said)


def random_scene(rng: Rng, least: int = 2, most: int = 5) -> Scene:
    """Draw a scene.

    The number of things is uniform, and so are their cells. A thing has the shape, and the colour,
    of an earlier one with probability 0.3 each, so that there is something to count.

    Args:
        rng: draws it.
        least: things there are, 1 or more.
        most: things there may be, up to 6.

    Raises:
        ValueError: numbers out of range.
    """
    return _scene(_Draws(rng.uniform((_NUMBERS,)).tolist()), least, most)


def random_scenes(
    count: int, each: int, rng: Rng, least: int = 2, most: int = 5
) -> list[tuple[Scene, tuple[str, ...]]]:
    """Draw different scenes, each with true sentences about it that differ.

    Args:
        count: scenes.
        each: sentences of each, at most: fewer where a scene has given the same ones again.
        rng: draws scenes and sentences; scene i is the same whatever `count` is.
        least: as of `random_scene`.
        most: as of `random_scene`.

    Raises:
        ValueError: numbers out of range, or more scenes than can be found.
    """
    if count < 1 or each < 1:
        raise ValueError(f"count and each must be at least 1, got {count} and {each}")
    found: dict[Scene, tuple[str, ...]] = {}
    begin = 0
    while len(found) < count:
        if begin > 20 * count + 1000:
            raise ValueError(
                f"there are too few scenes of {least} to {most} things: {len(found)} of {count} "
                f"were found in {begin} draws; ask for fewer"
            )
        keys = rng.samples(min(max(count - len(found), 256), 4096), begin)
        assert isinstance(keys.root, Tensor)
        drawn = len(keys.root)
        scenes = keys.fold("scene").uniform((drawn, _NUMBERS)).tolist()
        texts = keys.fold("sentences").uniform((drawn, each, _NUMBERS)).tolist()
        begin += drawn
        for numbers, rows in zip(scenes, texts, strict=True):
            scene = _scene(_Draws(numbers), least, most)
            if scene not in found:
                said = dict.fromkeys(_sentence(scene, _Draws(row)) for row in rows)
                found[scene] = tuple(said)
    return list(found.items())[:count]


def describe(scene: Scene, rng: Rng) -> str:
    """Draw a true sentence about a scene, of one clause or two, half each.

    Clauses are relations (0.4), places (0.15), counts (0.15), comparisons (0.1), of all of a kind
    (0.1), of what is not there (0.05) and of what is (0.05); one that a scene cannot give is of
    what is there.

    Args:
        scene: to speak of.
        rng: draws the sentence.
    """
    return _sentence(scene, _Draws(rng.uniform((_NUMBERS,)).tolist()))


class _Draws:
    """Choices by uniform numbers, one after the other."""

    def __init__(self, numbers: Sequence[float]) -> None:
        self._numbers = iter(numbers)

    def chance(self, probability: float) -> bool:
        return next(self._numbers) < probability

    def number(self, count: int) -> int:
        return min(int(next(self._numbers) * count), count - 1)

    def pick(self, items: Sequence[Item]) -> Item:
        return items[self.number(len(items))]


def _scene(draws: _Draws, least: int, most: int) -> Scene:
    if not 1 <= least <= most <= MOST:
        raise ValueError(f"a scene has 1 to {MOST} things, got {least} to {most}")
    cells = [(row, column) for row in range(GRID) for column in range(GRID)]
    shapes: list[str] = []
    colours: list[str] = []
    things = []
    for _ in range(least + draws.number(most - least + 1)):
        row, column = cells.pop(draws.number(len(cells)))
        for own, words in ((shapes, SHAPES), (colours, COLOURS)):
            again = draws.chance(0.3) and own
            own.append(draws.pick(own if again else words))
        things.append(Thing(row, column, shapes[-1], colours[-1], draws.pick(SIZES)))
    return Scene(tuple(sorted(things)))


def _sentence(scene: Scene, draws: _Draws) -> str:
    first = _clause(scene.things, draws).text
    second = _clause(scene.things, draws).text if draws.chance(0.5) else first
    return first if second == first else f"{first} and {second}"


def _clause(things: Sequence[Thing], draws: _Draws) -> Clause:
    makers = (_relation, _place, _count, _comparison, _every, _absence)
    chosen, below = draws.number(100), 0
    for make, share in zip(makers, (40, 15, 15, 10, 10, 5), strict=True):
        below += share
        if chosen < below:
            clause = make(things, draws)
            if clause is not None:
                return clause
            break
    return Count(_seen(draws.pick(things), draws), 1, None)


def _seen(thing: Thing, draws: _Draws) -> Kind:
    """A kind that a thing is of."""
    return Kind(
        thing.size if draws.chance(0.5) else "",
        thing.colour if draws.chance(0.8) else "",
        thing.shape if draws.chance(0.8) else "",
    )


def _relation(things: Sequence[Thing], draws: _Draws) -> Clause | None:
    if len(things) < 2:
        return None
    a = draws.pick(things)
    b = draws.pick([thing for thing in things if thing != a])
    names = [name for name, related in RELATIONS.items() if related(a, b)]
    return Relation(_seen(a, draws), draws.pick(names), _seen(b, draws))


def _place(things: Sequence[Thing], draws: _Draws) -> Clause:
    thing = draws.pick(things)
    places = [name for name, cells in PLACES.items() if (thing.row, thing.column) in cells]
    return Place(_seen(thing, draws), draws.pick(places))


def _count(things: Sequence[Thing], draws: _Draws) -> Clause:
    kind = _seen(draws.pick(things), draws)
    count = len(kind.of(things))
    if count > 1 and draws.chance(0.3):
        return Count(kind, 2 + draws.number(count - 1), None)
    return Count(kind, count, count)


def _comparison(things: Sequence[Thing], draws: _Draws) -> Clause | None:
    kinds = [_seen(draws.pick(things), draws) for _ in range(2)]
    if kinds[0] == kinds[1]:
        return None
    kinds.sort(key=lambda kind: -len(kind.of(things)))  # stable
    counts = [len(kind.of(things)) for kind in kinds]
    return Comparison(kinds[0], "as many" if counts[0] == counts[1] else "more", kinds[1])


def _every(things: Sequence[Thing], draws: _Draws) -> Clause | None:
    thing = draws.pick(things)
    sort = draws.pick(("size", "colour", "shape"))
    seen = _seen(thing, draws)
    words = {"size": seen.size, "colour": seen.colour, "shape": seen.shape, sort: ""}
    clause = Every(Kind(**words), getattr(thing, sort))
    return clause if clause.holds(things) else None


def _absence(things: Sequence[Thing], draws: _Draws) -> Clause | None:
    kind = Kind("", draws.pick(COLOURS), draws.pick(SHAPES) if draws.chance(0.7) else "")
    return None if kind.of(things) else Count(kind, 0, 0)
