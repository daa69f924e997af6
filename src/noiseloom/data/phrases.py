"""Captions as tokens: words, characters or pieces of words, and an end that fills them up."""

import io
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from noiseloom.data.pieces import Pieces

__all__ = ["UNKNOWN", "Phrases", "Units", "caption_words"]

Units = Literal["words", "characters", "pieces"]

UNKNOWN = "\ufffd"
"""The symbol that stands for a word or character that is none of the vocabulary."""

_WORD = r"[^\W_]+(?:['\u2019-][^\W_]+)*"
_WORDS = re.compile(_WORD)
_ALL = re.compile(rf"{_WORD}|[^\w\s]|_")
_UNKNOWN_PIECE = "\u2047"
"""How sentencepiece writes what no piece has, between spaces."""
_CLOSING = re.compile(r" ([.,;:!?%)\]}])")


def caption_words(text: str, marks: bool = False) -> list[str]:
    """The words of a caption, in lower case.

    A word is a run of letters and digits, with single hyphens and apostrophes between them.
    (The scripts of the COCO evaluation cut by the rules of the Penn Treebank instead, where "man's"
    is two words; captions of other words are cut alike.)

    Args:
        text: the caption.
        marks: whether all other characters but spaces are words too; else they are left out.

    Example:
        >>> caption_words("A man's semi-truck, parked.")
        ['a', "man's", 'semi-truck', 'parked']
        >>> caption_words("Parked.", marks=True)
        ['parked', '.']
    """
    return (_ALL if marks else _WORDS).findall(text.lower())


class Phrases:
    """A vocabulary of captions, which end: class K - 1 is all that comes after the last token.

    The end is a class as any other: it is encoded, trained on and drawn, so that a model decides
    how long a caption is. A caption of T tokens has none.

    Args:
        units: what tokens are: "words" as of `caption_words` with marks, "characters", or "pieces"
            of a model of sentencepiece.
        symbols: the different words or characters, class k being the k-th; of pieces nothing.
        length: T >= 1, tokens of the longest caption.
        unknown: whether class 0, whose symbol is `UNKNOWN` and not among `symbols`, stands for all
            other words or characters. Pieces have their own.
        pieces: the model of sentencepiece.

    Raises:
        ValueError: no symbols, one twice or of several units, a length below 1, or pieces without
            a model.
    """

    def __init__(
        self,
        units: Units,
        symbols: Sequence[str],
        length: int,
        *,
        unknown: bool = False,
        pieces: Pieces | None = None,
    ) -> None:
        if units not in ("words", "characters", "pieces"):
            raise ValueError(f"tokens are words, characters or pieces, got {units!r}")
        if (units == "pieces") != (pieces is not None) or bool(symbols) != (pieces is None):
            raise ValueError(f"{units} need {'a model' if units == 'pieces' else 'symbols'} alone")
        if length < 1:
            raise ValueError(f"captions need a length of 1 or more, got {length}")
        self.units, self.length, self.pieces = units, length, pieces
        if pieces is None:
            counts = Counter(symbols)
            for symbol, count in counts.items():
                if count > 1 or self._cut(symbol) != [symbol]:
                    raise ValueError(f"{symbol!r} is there twice, or is not one of {units}")
            self.symbols = (*([UNKNOWN] if unknown else []), *symbols)
        else:
            self.symbols = pieces.symbols
        self.unknown = unknown if pieces is None else True
        self._classes = {symbol: k for k, symbol in enumerate(self.symbols)}

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "Phrases":
        """The vocabulary that had these facts."""
        if facts["units"] == "pieces":
            return cls("pieces", (), facts["length"], pieces=Pieces.of(facts))
        return cls(facts["units"], facts["symbols"], facts["length"], unknown=facts["unknown"])

    @classmethod
    def fit(
        cls, captions: Sequence[str], units: Units, length: int, classes: int | None = None
    ) -> "Phrases":
        """A vocabulary for captions like these, with a class for what is in none of them.

        Words and characters are those that occur, the most frequent first; pieces are learnt (a
        unigram model of sentencepiece, which keeps upper case and covers all characters).

        Args:
            captions: to train on.
            units: what tokens are.
            length: T >= 1, tokens of the longest caption.
            classes: K at most, with the end: rarer words or characters become unknown. Of pieces
                it is K itself, where the captions have as many. By default all words and
                characters that occur, and 32,768 pieces, which 15 bits can tell apart.

        Raises:
            ImportError: pieces without the extra `text`.
            ValueError: no captions, or so few classes that nothing can be told.
        """
        most = (32_768 if units == "pieces" else 1 << 62) if classes is None else classes
        if not captions or most < 3:
            raise ValueError(
                f"a vocabulary needs captions and 3 classes or more, got {len(captions)} and {most}"
            )
        if units == "pieces":
            return cls("pieces", (), length, pieces=Pieces(_learnt(captions, most - 1)))
        cut = (lambda text: caption_words(text, marks=True)) if units == "words" else list
        counts = Counter(symbol for text in captions for symbol in cut(text))
        counts.pop(UNKNOWN, None)
        kept = sorted(counts, key=lambda symbol: (-counts[symbol], symbol))[: most - 2]
        return cls(units, kept, length, unknown=True)

    @property
    def end(self) -> int:
        """The class of what comes after the last token, K - 1."""
        return len(self.symbols)

    @property
    def sizes(self) -> tuple[int, ...]:
        """K, T times."""
        return (len(self.symbols) + 1,) * self.length

    def encode(self, rows: Sequence[str]) -> Tensor:
        """Tokens of captions, int64, shape (N, T).

        Raises:
            ValueError: a caption without a token, of more than T, or with a word or character that
                is none of the vocabulary where none stands for those, by the number of the row.
        """
        found = torch.full((len(rows), self.length), self.end)
        for number, row in enumerate(rows, 1):
            classes = self.tokens(row, f"row {number}")
            found[number - 1, : len(classes)] = torch.tensor(classes)
        return found

    def decode(self, tokens: Tensor) -> list[str]:
        """The captions of tokens (N, T): of each what comes before the first end.

        Raises:
            ValueError: a token that is no class.
        """
        found = []
        for row in self._before_end(tokens):
            if self.pieces is not None:
                text = self.pieces.decode(torch.tensor([row], dtype=torch.int64))[0]
                found.append(" ".join(text.split()))  # what is unknown has spaces of its own
            elif self.units == "characters":
                found.append("".join(self.symbols[k] for k in row))
            else:
                found.append(_CLOSING.sub(r"\1", " ".join(self.symbols[k] for k in row)))
        return found

    def words(self, tokens: Tensor) -> list[list[tuple[str, int, int]]]:
        """The words of tokens (N, T) and the tokens each is of: (word, first, last + 1).

        Of characters and pieces, words are what lies between spaces; a space belongs to the word
        after it. What no piece has is a word of its own; spaces alone are none.
        """
        return [self._parted(row) for row in self._before_end(tokens)]

    def tokens(self, text: str, where: str = "row 1", truncate: bool = False) -> list[int]:
        """Tokens of one caption, without its end.

        Args:
            text: the caption.
            where: it is, for errors.
            truncate: take the first T tokens of a longer one.

        Raises:
            ValueError: what `encode` refuses.
        """
        found = self._all(text, where)
        if not found:
            raise ValueError(f"{where}: the caption is empty")
        if len(found) > self.length and not truncate:
            raise ValueError(
                f"{where}: a caption of {len(found)} {self.units}, and {self.length} is the most "
                "there can be: raise length, or cut longer ones with truncate"
            )
        return found[: self.length]

    def of_length(self, length: int) -> "Phrases":
        """The same tokens, for captions of another length."""
        own = () if self.pieces is not None else self.symbols[int(self.unknown) :]
        unknown = self.unknown and self.pieces is None
        return Phrases(self.units, own, length, unknown=unknown, pieces=self.pieces)

    def is_longer(self, text: str) -> bool:
        """Whether a caption has more than T tokens."""
        return len(self._all(text)) > self.length

    def is_unknown(self, tokens: Tensor) -> Tensor:
        """Which tokens stand for what is none of the vocabulary, bool, of the same shape."""
        if self.pieces is not None:
            return tokens == self.pieces.unknown_class
        return (tokens == 0) & self.unknown

    def facts(self) -> dict[str, Any]:
        """What `vocabulary` makes it of again."""
        facts: dict[str, Any] = {"kind": "captions", "units": self.units, "length": self.length}
        if self.pieces is not None:
            return facts | {"model": self.pieces.facts()["model"]}
        symbols = list(self.symbols[int(self.unknown) :])
        return facts | {"symbols": symbols, "unknown": self.unknown}

    def _all(self, text: str, where: str = "row 1") -> list[int]:
        """Tokens of a caption, however many."""
        found: list[int]
        if self.pieces is not None:
            found = [int(k) for k in self.pieces.tokens(text, where, unknown=True)]
        else:
            symbols = self._cut(text)
            found = [self._classes.get(symbol, 0 if self.unknown else -1) for symbol in symbols]
            if -1 in found:
                kind = self.units[:-1]
                raise ValueError(
                    f"{where}: {symbols[found.index(-1)]!r}, {kind} {found.index(-1) + 1}, is none "
                    f"of the {len(self.symbols)} {self.units} of the vocabulary"
                )
        return found

    def _cut(self, text: str) -> list[str]:
        return caption_words(text, marks=True) if self.units == "words" else list(text)

    def _before_end(self, tokens: Tensor) -> list[list[int]]:
        if tokens.numel() and not (int(tokens.min()) >= 0 and int(tokens.max()) <= self.end):
            raise ValueError(
                f"tokens of captions are 0 .. {self.end}, got {int(tokens.min())} to "
                f"{int(tokens.max())}"
            )
        rows = tokens.tolist()
        return [row[: row.index(self.end) if self.end in row else len(row)] for row in rows]

    def _parted(self, row: list[int]) -> list[tuple[str, int, int]]:
        space = {"characters": " ", "pieces": "\u2581"}.get(self.units)
        stranger = self.pieces.unknown_class if self.pieces is not None else None
        found: list[tuple[str, int, int]] = []
        for at, token in enumerate(row):
            symbol = _UNKNOWN_PIECE if token == stranger else self.symbols[token]
            apart = stranger in row[max(at - 1, 0) : at + 1] and found[-1:] != [(space, at - 1, at)]
            if found and space is not None and not apart and not symbol.startswith(space):
                word, begin, _ = found.pop()
                found.append((word + symbol, begin, at + 1))
            else:
                found.append((symbol, at, at + 1))
        if space is None:
            return found
        bare = ((word.replace(space, ""), begin, end) for word, begin, end in found)
        return [word for word in bare if word[0]]


def _learnt(captions: Iterable[str], classes: int) -> bytes:
    """A model of at most so many pieces."""
    try:
        from sentencepiece import SentencePieceTrainer
    except ImportError as error:
        raise ImportError(
            "pieces of words need the extra noiseloom[text]: pip install 'noiseloom[text]'"
        ) from error
    made = io.BytesIO()
    try:
        SentencePieceTrainer.train(
            sentence_iterator=iter(captions), model_writer=made, vocab_size=classes,
            hard_vocab_limit=False, character_coverage=1.0, unk_id=0, bos_id=-1, eos_id=-1,
            pad_id=-1, num_threads=1, minloglevel=2,
        )  # fmt: skip
    except (RuntimeError, OSError) as error:
        raise ValueError(
            f"sentencepiece cannot learn {classes} pieces of these captions: "
            f"{' '.join(str(error).split())}"
        ) from error
    return made.getvalue()
