"""Text with gaps, for a model to fill."""

import torch
from torch import Tensor

from noiseloom.data.characters import Characters
from noiseloom.data.pieces import Pieces
from noiseloom.data.symbols import Symbols
from noiseloom.data.tokens import Vocabulary

__all__ = ["template"]


def template(
    text: str,
    vocabulary: Vocabulary,
    *,
    gap: str = "_",
    length: int | None = None,
    ends: bool = False,
) -> tuple[Tensor, Tensor]:
    """What is known of a text with gaps.

    Args:
        text: characters or symbols of the vocabulary, and a gap for each token that is to be made.
            What is between gaps is cut by itself: no gap lies within a symbol of SMILES, or
            within a word if tokens are pieces.
        vocabulary: of text or sequences.
        gap: the character that stands for one unknown token, which the vocabulary must not have.
        length: T, tokens of the model; that of the vocabulary, or else of the template, by default.
        ends: whether a sequence is known to end where the template does; else the rest is unknown,
            as it always is of text. Tokens of gaps may be ends in either case.

    Returns:
        Tokens, int64, shape (T,), which are 0 where unknown, and whether each is known, bool (T,).

    Raises:
        ValueError: a gap that is not one character, or one of the vocabulary; more than T tokens;
            an unknown character; a vocabulary that is not of text or sequences; ends of a text.
    """
    if not isinstance(vocabulary, Characters | Pieces | Symbols):
        raise ValueError("templates are of text or sequences, and this vocabulary is of neither")
    own = vocabulary.characters if isinstance(vocabulary, Characters) else vocabulary.symbols
    if len(gap) != 1:
        raise ValueError(f"a gap must be one character, got {gap!r}")
    if any(gap in symbol for symbol in own):
        raise ValueError(f"the vocabulary has {gap!r} itself: write gaps with another character")
    if ends and not isinstance(vocabulary, Symbols):
        raise ValueError("text has no end: ends=True is for sequences")

    found: list[int] = []
    known: list[bool] = []
    for number, part in enumerate(text.split(gap)):
        if number:
            found.append(0)
            known.append(False)
        where = f"the template after gap {number}" if number else "the template"
        tokens = [int(token) for token in vocabulary.tokens(part, where)]
        found += tokens
        known += [True] * len(tokens)
    if isinstance(vocabulary, Symbols):
        length = vocabulary.length if length is None else length
    rest = (len(found) if length is None else length) - len(found)
    if rest < 0:
        raise ValueError(
            f"the template has {len(found)} tokens, and {length} are the most the model makes"
        )
    fill = vocabulary.end if isinstance(vocabulary, Symbols) and ends else 0
    return (
        torch.tensor(found + [fill] * rest, dtype=torch.int64),
        torch.tensor(known + [ends] * rest, dtype=torch.bool),
    )
