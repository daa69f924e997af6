"""Vocabularies by name, as a run keeps them."""

from collections.abc import Callable, Mapping
from typing import Any

from noiseloom.data.characters import Characters
from noiseloom.data.palette import Palette
from noiseloom.data.phrases import Phrases
from noiseloom.data.pieces import Pieces
from noiseloom.data.symbols import Numbers, Symbols
from noiseloom.data.table_vocabulary import TableVocabulary
from noiseloom.data.tokens import Vocabulary

__all__ = ["vocabulary"]

_KINDS: dict[str, Callable[[Mapping[str, Any]], Vocabulary]] = {
    "captions": Phrases.of,
    "characters": Characters.of,
    "numbers": Numbers.of,
    "palette": Palette.of,
    "pieces": Pieces.of,
    "symbols": Symbols.of,
    "table": TableVocabulary.from_facts,
}


def vocabulary(facts: Mapping[str, Any]) -> Vocabulary:
    """Make a vocabulary again.

    Args:
        facts: what its method `facts` gave, plain JSON values.

    Raises:
        ValueError: facts of no vocabulary that is known here.
    """
    kind = facts.get("kind")
    if kind not in _KINDS:
        raise ValueError(f"no vocabulary is called {kind!r}: there are {', '.join(sorted(_KINDS))}")
    try:
        return _KINDS[kind](facts)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        what = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else error
        raise ValueError(f"the facts of a vocabulary of {kind} are damaged: {what}") from error
