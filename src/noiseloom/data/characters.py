"""Text as characters: a class for each that occurs."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["LETTERS", "Characters", "letters", "smallest"]

LETTERS = " abcdefghijklmnopqrstuvwxyz"
"""The 27 characters of text8 (M. Mahoney, 2006, "About the test data")."""

_FOLDED = np.full(256, ord(" "), np.uint8)
_FOLDED[ord("a") : ord("z") + 1] = range(ord("a"), ord("z") + 1)
_FOLDED[ord("A") : ord("Z") + 1] = range(ord("a"), ord("z") + 1)


class Characters:
    """A vocabulary whose classes are characters, in their order.

    Args:
        characters: K >= 1 different ones; class k is the k-th.

    Raises:
        ValueError: none, or one twice.
    """

    def __init__(self, characters: str) -> None:
        if not characters:
            raise ValueError("a vocabulary needs at least one character")
        twice = sorted(c for c in set(characters) if characters.count(c) > 1)
        if twice:
            raise ValueError(f"the characters of a vocabulary must differ, got {twice[0]!r} twice")
        self.characters = characters
        self._codes = _points(characters)
        self._order = np.argsort(self._codes)
        self._sorted = self._codes[self._order]

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "Characters":
        """The vocabulary that had these facts."""
        return cls(facts["characters"])

    @property
    def sizes(self) -> tuple[int, ...]:
        """(K,), for text of any length."""
        return (len(self.characters),)

    def encode(self, rows: Sequence[str]) -> Tensor:
        """Tokens of texts of equal length, int64, shape (N, T).

        Raises:
            ValueError: a character that is none of these, or a row of another length than the
                first, by the number of the row.
        """
        if not rows:
            return torch.zeros(0, 0, dtype=torch.int64)
        for number, row in enumerate(rows, 1):
            if len(row) != len(rows[0]):
                raise ValueError(
                    f"row {number} has {len(row)} characters, and row 1 has {len(rows[0])}"
                )
        found = [self.tokens(row, f"row {number}") for number, row in enumerate(rows, 1)]
        return torch.from_numpy(np.stack(found).astype(np.int64))

    def decode(self, tokens: Tensor) -> list[str]:
        """The texts of tokens (N, T)."""
        points = self._codes[tokens.cpu().numpy()]
        return [row.tobytes().decode("utf-32-le", "surrogatepass") for row in points]

    def tokens(self, text: str, where: str = "row 1") -> NDArray[np.intp]:
        """Tokens of one text, shape (T,).

        Args:
            text: of any length.
            where: it is, for errors.

        Raises:
            ValueError: a character that is none of these.
        """
        points = _points(text)
        places = np.searchsorted(self._sorted, points).clip(max=len(self._sorted) - 1)
        wrong = (self._sorted[places] != points).nonzero()[0]
        if len(wrong):
            at = int(wrong[0])
            raise ValueError(
                f"{where}: {text[at]!r}, character {at + 1}, is none of the "
                f"{len(self.characters)} characters of the vocabulary"
            )
        found: NDArray[np.intp] = self._order[places]
        return found

    def folded(self, text: str) -> str:
        """A text as files were read: where all characters are those of text8, by `letters`."""
        return letters(text) if self.characters == LETTERS else text

    def facts(self) -> dict[str, Any]:
        """What `vocabulary` makes it of again."""
        return {"kind": "characters", "characters": self.characters}

    @staticmethod
    def occurring(texts: Iterable[str]) -> str:
        """All characters of some texts, by code point."""
        found: set[str] = set()
        for text in texts:
            found.update(text)
        return "".join(sorted(found))


def letters(text: str) -> str:
    """Text as text8 has it: a to z in lower case, and one space for any run of all else."""
    found = _FOLDED[np.frombuffer(text.encode("ascii", "replace"), np.uint8)]
    space = found == ord(" ")
    again = space[1:] & space[:-1]
    kept = found[np.append(True, ~again)[: len(found)]]
    return str(kept.tobytes(), "ascii")


def smallest(classes: int) -> torch.dtype:
    """The smallest integers for which 0 .. classes - 1 and all of PyTorch's functions are there."""
    return torch.uint8 if classes <= 2**8 else torch.int16 if classes <= 2**15 else torch.int32


def _points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
