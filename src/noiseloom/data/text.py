"""A text of one's own, from any plain files, as windows of tokens."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noiseloom.data.characters import LETTERS, Characters, letters, smallest
from noiseloom.data.option_names import said
from noiseloom.data.pieces import Pieces
from noiseloom.data.split import Split
from noiseloom.data.text_files import CHUNK, state_of, texts
from noiseloom.data.token_file import mapped_tokens
from noiseloom.data.tokens import TokenWindows, Vocabulary
from noiseloom.data.vocabularies import vocabulary as vocabulary_of
from noiseloom.rng import Rng

__all__ = ["read_text"]


def read_text(
    path: str | os.PathLike[str],
    length: int,
    *,
    alphabet: str = "all",
    vocabulary: Vocabulary | None = None,
    held_out: float = 0.1,
    blocks: int | None = None,
    seed: int = 0,
    stride: int = 1,
    cache: str | os.PathLike[str] | None = None,
) -> tuple[Split[TokenWindows], Vocabulary]:
    """Read a text as windows of tokens.

    Windows to train on may overlap; those that are held out follow each other without, so that
    every token of them is judged once. No window has tokens of both parts.

    Args:
        path: a .txt or .md file, or one with .gz after it; a folder of such files, by name; or a
            tar file of them (.tar, .tar.gz, .tgz, .tar.xz).
        length: T >= 1, tokens of a window.
        alphabet: "all": characters are tokens, all that occur; "letters": a to z in lower case, and
            one space for any run of all else, the 27 characters of text8; or a trained model of
            sentencepiece, a .model file (extra `text`), whose pieces are tokens.
        vocabulary: of another text, of characters or pieces, to read this one by instead.
        held_out: share of the text to hold out, in (0, 1).
        blocks: None: the last share is held out; else the text is cut into so many blocks of equal
            length, some of which are drawn.
        seed: decides which.
        stride: tokens from one window to train on to the next, >= 1.
        cache: a folder, for text larger than memory: tokens are written to a file in it, which
            windows are read from, and which is used again while `path` has not changed. It may be
            removed when it is not in use.

    Returns:
        The windows, and what their tokens mean. `Split.notes` says how many characters have no
        piece.

    Raises:
        FileNotFoundError: nothing at `path`, or no such model.
        ImportError: a model of sentencepiece without the extra.
        OSError: tokens cannot be written to `cache`.
        ValueError: a file of another kind, a damaged one or one that is not UTF-8, no text, one
            character only, one that the vocabulary does not have, a part that is shorter than a
            window, an argument out of range.
    """
    path = Path(path).expanduser()
    if not 0 < held_out < 1 or length < 1 or stride < 1:
        raise ValueError(
            f"{said('held_out')} must be between 0 and 1, {said('length')} and stride at least 1, "
            f"got {held_out}, {length} and {stride}"
        )
    if alphabet not in ("all", "letters") and not alphabet.endswith(".model"):
        raise ValueError(f"the alphabet must be all, letters or a .model file, got {alphabet!r}")
    if not path.exists():
        raise FileNotFoundError(f"there is no file or folder {path}")
    known = vocabulary
    if known is None and alphabet.endswith(".model"):
        known = Pieces.read(alphabet)
    if not (known is None or isinstance(known, Characters | Pieces)):
        raise ValueError("text is read by characters or pieces, and this vocabulary is of neither")
    letters_only = alphabet == "letters"
    if cache is None:
        reading = _Reading(path, letters_only, known)
        kind = torch.empty(0, dtype=smallest(reading.classes)).numpy().dtype
        text = torch.from_numpy(np.concatenate([p.astype(kind) for p in reading]))
        facts = reading.facts
    else:
        key = [state_of(path), letters_only, known and known.facts()]

        def encode() -> tuple[int, dict[str, Any], Iterable[NDArray[Any]]]:
            reading = _Reading(path, letters_only, known)
            return reading.classes, reading.facts, reading

        text, facts = mapped_tokens(Path(cache).expanduser(), path.name, key, encode)
    found = known or vocabulary_of(facts["vocabulary"])
    notes = (facts["note"],) if facts["note"] else ()
    classes = found.sizes[0]
    return _split(text, path, length, classes, held_out, blocks, seed, stride, notes), found


class _Reading:
    """The tokens of a text in pieces, by a vocabulary that is given or found first.

    Attributes:
        vocabulary: what they mean.
        facts: the vocabulary's, and a note when all has been read.
    """

    def __init__(self, path: Path, only_letters: bool, known: Characters | Pieces | None) -> None:
        self.path, self.only_letters = path, only_letters
        if known is None:
            known = Characters(LETTERS if only_letters else _occurring(path))
        self.vocabulary = known
        self.classes = known.sizes[0]
        self.facts: dict[str, Any] = {"vocabulary": known.facts(), "note": ""}
        self._state = state_of(path)

    def __iter__(self) -> Iterator[NDArray[Any]]:
        pieces: Iterable[str] = texts(self.path)
        pieces = _folded(pieces) if self.only_letters else pieces
        by_pieces = isinstance(self.vocabulary, Pieces)
        low, high, done, unknown = self.classes, -1, 0, 0
        for piece in _whole_lines(pieces) if by_pieces else pieces:
            if isinstance(self.vocabulary, Pieces):
                tokens: NDArray[Any] = self.vocabulary.tokens(piece, unknown=True)
                unknown += self.vocabulary.unknown(tokens)
            else:
                where = f"{self.path}, after {done} characters" if done else str(self.path)
                tokens = self.vocabulary.tokens(piece, where)
            done += len(piece)
            if len(tokens):
                low, high = min(low, int(tokens.min())), max(high, int(tokens.max()))
                yield tokens
        if low >= high:
            what = "one token only" if low == high else "no text"
            raise ValueError(f"{self.path} holds {what}" + " of letters" * self.only_letters)
        if state_of(self.path) != self._state:
            raise ValueError(f"{self.path} was changed while it was read")
        if unknown:
            self.facts["note"] = (
                f"{unknown} tokens stand for characters that are in none of the pieces"
            )


def _occurring(path: Path) -> str:
    found = Characters.occurring(texts(path))
    if len(found) < 2:
        what = f"one character only, {found!r}" if found else "no text"
        raise ValueError(f"{path} holds {what}")
    return found


def _folded(pieces: Iterable[str]) -> Iterator[str]:
    """Their letters, one space also for a run that goes over from a piece to the next."""
    last = ""
    for piece in pieces:
        folded = letters(piece)
        folded = folded[1:] if last == " " and folded[:1] == " " else folded
        if folded:
            yield folded
            last = folded[-1]


def _whole_lines(pieces: Iterable[str]) -> Iterator[str]:
    """The same text in pieces that end where lines do, or words if a line is longer than a piece.

    The space between such words is left out: the next one is given it as the first of a line.
    """
    rest = ""
    for piece in pieces:
        rest += piece
        cut = rest.rfind("\n") + 1
        if not cut and len(rest) > CHUNK:
            cut = rest.rfind(" ")
            cut = len(rest) if cut < 1 else cut
        if cut:
            yield rest[:cut]
            rest = rest[cut + (rest[cut : cut + 1] == " " and rest[cut - 1] != "\n") :]
    if rest:
        yield rest


def _split(
    text: Tensor, path: Path, length: int, classes: int, held_out: float, blocks: int | None,
    seed: int, stride: int, notes: tuple[str, ...],
) -> Split[TokenWindows]:  # fmt: skip
    total = len(text)
    if blocks is None:
        held = [(total - max(round(held_out * total), 1), total)]
    else:
        if not 2 <= blocks <= total:
            raise ValueError(
                f"{path}: {total} tokens are cut into 2 .. {total} blocks, not {blocks}"
            )
        count = min(max(round(held_out * blocks), 1), blocks - 1)
        drawn = Rng(seed).fold("held out").permutation(blocks)[:count].tolist()
        ends = [total * block // blocks for block in range(blocks + 1)]
        held = _joined([(ends[block], ends[block + 1]) for block in sorted(drawn)])
    edges = [0, *(edge for stretch in held for edge in stretch), total]
    kept = [pair for pair in zip(edges[::2], edges[1::2], strict=True) if pair[0] < pair[1]]
    for what, stretches in (("to train on", kept), ("that is held out", held)):
        longest = max((end - begin for begin, end in stretches), default=0)
        if longest < length:
            raise ValueError(
                f"{path}: the longest stretch {what} has {longest} tokens of {total}, and a window "
                f"{length}: ask for shorter windows, fewer blocks, or another share"
            )
    return Split(
        TokenWindows(text, length, classes, stride, kept),
        TokenWindows(text, length, classes, length, held),
        notes,
    )


def _joined(stretches: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Stretches in order, those that touch as one."""
    found: list[tuple[int, int]] = []
    for begin, end in stretches:
        if found and found[-1][1] == begin:
            begin = found.pop()[0]
        found.append((begin, end))
    return found
