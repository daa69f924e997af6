"""Sequences of varying length as symbols, and rows of numbers of a fixed one."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

__all__ = ["Numbers", "Symbols", "spelt"]

Spelling = Literal["characters", "smiles"]

# An atom in brackets is one symbol, with its charge, hydrogens and handedness: [C@@H], [nH], [O-].
# Written from the grammar of OpenSMILES (C. James et al., 2016), not after another's expression.
_SMILES = re.compile(
    r"\[[^\[\]\s]+\]|Br|Cl|@@|%\d\d|%\(\d{1,5}\)|[BCNOPSFIbcnops*0-9()=#$:/\\.~@+>-]"
)


def spelt(text: str, spelling: Spelling, where: str = "row 1") -> list[str]:
    """Symbols of one sequence.

    Args:
        text: the sequence.
        spelling: "characters": each is a symbol. "smiles": Br, Cl, @@, %12 and atoms in brackets
            are symbols too.
        where: it is, for errors.

    Raises:
        ValueError: a character that begins no symbol of SMILES.
    """
    if spelling == "characters":
        return list(text)
    found = _SMILES.findall(text)
    if sum(map(len, found)) != len(text):
        at = 0
        while (match := _SMILES.match(text, at)) is not None:
            at = match.end()
        raise ValueError(f"{where}: {text[at]!r}, character {at + 1}, begins no symbol of SMILES")
    return found


class Symbols:
    """A vocabulary of sequences that end: K - 1 symbols, and class K - 1 for all after the last.

    Args:
        symbols: K - 1 >= 1 different ones, class k being the k-th.
        length: T >= 1, symbols of the longest sequence.
        spelling: how a text is cut into symbols, as of `spelt`.

    Raises:
        ValueError: no symbols, one twice or empty, or a length below 1.
    """

    def __init__(
        self, symbols: Sequence[str], length: int, spelling: Spelling = "characters"
    ) -> None:
        if not symbols or length < 1:
            raise ValueError(
                f"sequences need a symbol and a length of 1, got {len(symbols)} and {length}"
            )
        if spelling not in ("characters", "smiles"):
            raise ValueError(f"symbols are characters or smiles, got {spelling!r}")
        for number, symbol in enumerate(symbols):
            if symbol in symbols[:number] or spelt(symbol, spelling, repr(symbol)) != [symbol]:
                raise ValueError(f"{symbol!r} is there twice, or is not one symbol")
        self.symbols, self.length, self.spelling = tuple(symbols), length, spelling
        self._classes = {symbol: k for k, symbol in enumerate(symbols)}

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "Symbols":
        """The vocabulary that had these facts."""
        return cls(facts["symbols"], facts["length"], facts["spelling"])

    @property
    def end(self) -> int:
        """The class of what comes after the last symbol."""
        return len(self.symbols)

    @property
    def sizes(self) -> tuple[int, ...]:
        """K, T times."""
        return (len(self.symbols) + 1,) * self.length

    def encode(self, rows: Sequence[str]) -> Tensor:
        """Tokens of sequences, int64, shape (N, T).

        Raises:
            ValueError: a symbol that is none of these, or more than T of them, by the number of the
                row.
        """
        found = []
        for number, row in enumerate(rows, 1):
            classes = self.tokens(row, f"row {number}")
            found.append(classes + [self.end] * (self.length - len(classes)))
        return torch.tensor(found, dtype=torch.int64).reshape(len(rows), self.length)

    def decode(self, tokens: Tensor) -> list[str]:
        """The sequences of tokens (N, T): of each what comes before the first end."""
        found = []
        for row in tokens.tolist():
            count = row.index(self.end) if self.end in row else len(row)
            found.append("".join(self.symbols[k] for k in row[:count]))
        return found

    def tokens(self, text: str, where: str = "row 1") -> list[int]:
        """Tokens of one sequence, without its end.

        Args:
            text: at most T symbols.
            where: it is, for errors.

        Raises:
            ValueError: a symbol that is none of these, or more than T of them.
        """
        symbols = spelt(text, self.spelling, where)
        if len(symbols) > self.length:
            raise ValueError(
                f"{where} has {len(symbols)} symbols, and {self.length} are the most there can be"
            )
        try:
            return [self._classes[symbol] for symbol in symbols]
        except KeyError:
            at = next(i for i, symbol in enumerate(symbols) if symbol not in self._classes)
            raise ValueError(
                f"{where}: {symbols[at]!r}, symbol {at + 1}, is none of the "
                f"{len(self.symbols)} symbols of the vocabulary"
            ) from None

    def facts(self) -> dict[str, Any]:
        """What `vocabulary` makes it of again."""
        return {
            "kind": "symbols",
            "symbols": list(self.symbols),
            "length": self.length,
            "spelling": self.spelling,
        }


class Numbers:
    """A vocabulary of rows that are numbers already.

    Args:
        classes: K >= 1, the numbers being 0 .. K - 1.
        length: T >= 1, numbers of a row.

    Raises:
        ValueError: an argument below 1.
    """

    def __init__(self, classes: int, length: int) -> None:
        if classes < 1 or length < 1:
            raise ValueError(f"classes and length must be at least 1, got {classes} and {length}")
        self.classes, self.length = classes, length

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "Numbers":
        """The vocabulary that had these facts."""
        return cls(facts["classes"], facts["length"])

    @property
    def sizes(self) -> tuple[int, ...]:
        """K, T times."""
        return (self.classes,) * self.length

    def encode(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Tokens of rows of T whole numbers, int64, shape (N, T).

        Raises:
            ValueError: a number that is none of 0 .. K - 1, or not T of them, by the number of the
                row.
        """
        for number, row in enumerate(rows, 1):
            if len(row) != self.length:
                raise ValueError(f"row {number} has {len(row)} numbers instead of {self.length}")
            for value in row:
                if value not in range(self.classes):
                    raise ValueError(
                        f"row {number}: {value!r} is no whole number of 0 .. {self.classes - 1}"
                    )
        found = torch.tensor([[int(value) for value in row] for row in rows], dtype=torch.int64)
        return found.reshape(len(rows), self.length)

    def decode(self, tokens: Tensor) -> list[list[int]]:
        """The numbers of tokens (N, T)."""
        return [[int(value) for value in row] for row in tokens.tolist()]

    def facts(self) -> dict[str, Any]:
        """What `vocabulary` makes it of again."""
        return {"kind": "numbers", "classes": self.classes, "length": self.length}
