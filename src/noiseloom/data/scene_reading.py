"""Sentences about scenes, read: from words to what they say."""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Literal

from noiseloom.data.scene_grammar import (
    NUMBERS,
    PLACES,
    PLURALS,
    RELATIONS,
    Clause,
    Comparison,
    Count,
    Every,
    Kind,
    Place,
    Relation,
    says,
)
from noiseloom.data.scene_things import COLOURS, SHAPES, SIZES

__all__ = ["parse"]


def _any(words: Sequence[str]) -> str:
    return f"({'|'.join(words)})"


_LOOKS = rf"(?:{_any(SIZES)} )?(?:{_any(COLOURS)} )?"
_ONE = _LOOKS + _any((*SHAPES, "shape"))
_MANY = _LOOKS + _any(tuple(PLURALS.values()))
_SINGULAR = {plural: shape for shape, plural in PLURALS.items()}
_FORMS: tuple[tuple[re.Pattern[str], Callable[..., Clause | None]], ...] = tuple(
    (re.compile(pattern), make)
    for pattern, make in (
        (f"there is a {_ONE}", lambda *k: Count(_kind(*k), 1, None)),
        (f"there is no {_ONE}", lambda *k: Count(_kind(*k), 0, 0)),
        (f"there is exactly one {_ONE}", lambda *k: Count(_kind(*k), 1, 1)),
        (
            f"there are exactly {_any(NUMBERS[2:])} {_MANY}",
            lambda n, *k: Count(_kind(*k), NUMBERS.index(n), NUMBERS.index(n)),
        ),
        (
            f"there are at least {_any(NUMBERS[2:])} {_MANY}",
            lambda n, *k: Count(_kind(*k), NUMBERS.index(n), None),
        ),
        (
            f"a {_ONE} is {_any(tuple(RELATIONS))} a {_ONE}",
            lambda a, b, c, name, *k: Relation(_kind(a, b, c), name, _kind(*k)),
        ),
        (
            f"a {_ONE} is in the {_any(tuple(PLACES))}",
            lambda a, b, c, name: Place(_kind(a, b, c), name),
        ),
        (f"there are more {_MANY} than {_MANY}", lambda *k: _compared("more", *k)),
        (f"there are as many {_MANY} as {_MANY}", lambda *k: _compared("as many", *k)),
        (f"every {_ONE} is {_any((*SIZES, *COLOURS))}", lambda *k: _every(*k)),
        (f"every {_ONE} is a {_any(SHAPES)}", lambda *k: _every(*k)),
    )
)


def _kind(size: str | None, colour: str | None, shape: str) -> Kind:
    shape = _SINGULAR.get(shape, shape)
    return Kind(size or "", colour or "", "" if shape == "shape" else shape)


def _compared(name: Literal["more", "as many"], *words: str) -> Clause | None:
    kind, other = _kind(*words[:3]), _kind(*words[3:])
    return None if kind == other else Comparison(kind, name, other)


def _every(size: str | None, colour: str | None, shape: str, name: str) -> Clause | None:
    kind = _kind(size, colour, shape)
    return None if says(kind, name) else Every(kind, name)


@lru_cache(maxsize=1 << 16)
def parse(sentence: str) -> tuple[Clause, ...] | None:
    """The clauses of a sentence, one or two; None if it is none of the grammar."""
    texts = sentence.split(" and ")
    found = [clause for text in texts if (clause := _clause(text)) is not None]
    if len(found) < len(texts) or len(texts) > 2 or len(set(texts)) < len(texts):
        return None
    return tuple(found)


def _clause(text: str) -> Clause | None:
    for pattern, make in _FORMS:
        match = pattern.fullmatch(text)
        if match is not None:
            return make(*match.groups())
    return None
