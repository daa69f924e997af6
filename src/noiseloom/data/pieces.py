"""Text as pieces of words, by a model of sentencepiece."""

import base64
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Pieces"]


class Pieces:
    """A vocabulary whose classes are the pieces of a trained model, by their ids.

    A model may change text before it cuts it (other forms of characters, spaces in a row), and then
    `decode` gives the changed one. Ends of lines are tokens if the model has a piece or a byte for
    them, and else are like spaces (T. Kudo, J. Richardson, 2018, "SentencePiece: a simple and
    language independent subword tokenizer and detokenizer for neural text processing").

    Args:
        model: content of its `.model` file.

    Raises:
        ImportError: without the extra `text`.
        ValueError: no such model.
    """

    def __init__(self, model: bytes) -> None:
        try:
            from sentencepiece import SentencePieceProcessor
        except ImportError as error:
            raise ImportError(
                "pieces of words need the extra noiseloom[text]: pip install 'noiseloom[text]'"
            ) from error
        self.model = model
        self._made = SentencePieceProcessor()
        try:
            self._made.LoadFromSerializedProto(model)
            self._classes = int(self._made.vocab_size())
        except (RuntimeError, TypeError) as error:
            raise ValueError(
                f"no model of sentencepiece: {' '.join(str(error).split())}"
            ) from error
        self._unknown = self._made.unk_id()
        ends = (self._made.piece_to_id(piece) for piece in ("\n", "<0x0A>"))
        self._end = next((k for k in ends if k != self._unknown), None)

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "Pieces":
        """The vocabulary that had these facts."""
        try:
            return cls(zlib.decompress(base64.b64decode(facts["model"])))
        except zlib.error as error:
            raise ValueError(str(error)) from error

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "Pieces":
        """The vocabulary of a `.model` file.

        Raises:
            FileNotFoundError: no such file.
            ImportError: without the extra `text`.
            ValueError: no model of sentencepiece.
        """
        path = Path(path).expanduser()
        if not path.is_file():
            raise FileNotFoundError(f"there is no file {path}")
        try:
            return cls(path.read_bytes())
        except ValueError as error:
            raise ValueError(f"{path} is {error}") from error

    @property
    def symbols(self) -> tuple[str, ...]:
        """The pieces, in which a space is U+2581."""
        return tuple(self._made.id_to_piece(list(range(self._classes))))

    @property
    def sizes(self) -> tuple[int, ...]:
        """(K,), for text of any length."""
        return (self._classes,)

    def encode(self, rows: Sequence[str]) -> Tensor:
        """Tokens of texts of as many pieces each, int64, shape (N, T).

        Raises:
            ValueError: a character that no piece has, or a row of another number of pieces than the
                first, by the number of the row.
        """
        found = [self.tokens(row, f"row {number}") for number, row in enumerate(rows, 1)]
        for number, row in enumerate(found, 1):
            if len(row) != len(found[0]):
                raise ValueError(
                    f"row {number} has {len(row)} pieces, and row 1 has {len(found[0])}"
                )
        return torch.from_numpy(np.stack(found)) if found else torch.zeros(0, 0, dtype=torch.int64)

    def decode(self, tokens: Tensor) -> list[str]:
        """The texts of tokens (N, T), lines without the space that a first word begins with."""
        return ["\n".join(map(self._made.decode, self._lines(row))) for row in tokens.tolist()]

    def tokens(self, text: str, where: str = "row 1", unknown: bool = False) -> NDArray[np.int64]:
        """Tokens of one text, shape (T,).

        Args:
            text: of any length.
            where: it is, for errors.
            unknown: take characters that no piece has for the piece that stands for them.

        Raises:
            ValueError: a character that no piece has.
        """
        lines = text.split("\n")
        found: list[int] = []
        for number, line in enumerate(self._made.encode(lines)):
            if number and self._end is not None:
                found.append(self._end)
            if not unknown and self._unknown in line:
                piece = self._made.encode(lines[number], out_type=str)[line.index(self._unknown)]
                raise ValueError(f"{where}: {piece!r} is in none of the {self._classes} pieces")
            found += line
        return np.array(found, np.int64)

    @property
    def unknown_class(self) -> int:
        """The piece that stands for characters that no piece has."""
        return int(self._unknown)

    def unknown(self, tokens: NDArray[np.int64]) -> int:
        """How many of the tokens are characters that no piece has."""
        return int((tokens == self._unknown).sum())

    def facts(self) -> dict[str, Any]:
        """What `vocabulary` makes it of again: all of the model, so that no file is needed."""
        packed = base64.b64encode(zlib.compress(self.model, 9)).decode("ascii")
        return {"kind": "pieces", "model": packed}

    def _lines(self, row: list[int]) -> list[list[int]]:
        found: list[list[int]] = [[]]
        for token in row:
            if token == self._end:
                found.append([])
            else:
                found[-1].append(token)
        return found
