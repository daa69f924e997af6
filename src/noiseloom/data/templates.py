"""Text and rows of numbers with gaps, for a model to fill."""

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from noiseloom.data.characters import Characters
from noiseloom.data.pieces import Pieces
from noiseloom.data.symbols import Numbers, Symbols
from noiseloom.data.tokens import Vocabulary

__all__ = ["number_templates", "template"]


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


def number_templates(
    known: str | os.PathLike[str], vocabulary: Numbers, *, gap: str = "_"
) -> tuple[Tensor, Tensor]:
    """What is known of rows of numbers with gaps.

    What comes after the last number of a row is unknown, as of text.

    Args:
        known: .npy, whole numbers of shape (N, n) or (n,), n <= T, with -1 for each gap; .csv or
            .txt, a line for each row without a head, its numbers separated by commas, with `gap`,
            -1, ? or nothing for each gap; or such a line itself.
        vocabulary: of numbers 0 .. K - 1, rows of T.
        gap: the character of a gap in lines.

    Returns:
        Tokens, int64, shape (N, T), 0 where unknown, and whether each is known, bool (N, T).

    Raises:
        FileNotFoundError: no such file.
        ValueError: another shape, a number that is none of these, more than T, or no rows, by row.
    """
    text, suffix = str(known), Path(known).suffix.lower()
    if len(gap) != 1 or gap in "0123456789,-":
        raise ValueError(f"a gap between numbers must be one other character, got {gap!r}")
    if suffix in (".npy", ".csv", ".txt"):
        path = Path(known).expanduser()
        if not path.is_file():
            raise FileNotFoundError(f"there is no file {path}")
        try:
            rows = _array(path) if suffix == ".npy" else _lines(path.read_text("utf-8-sig"), gap)
            return _filled(rows, vocabulary)
        except (ValueError, EOFError, OSError) as error:
            raise ValueError(f"{path}: {' '.join(str(error).split())}") from error
    return _filled(_lines(text, gap), vocabulary)


def _array(path: Path) -> list[list[int]]:
    found = np.load(path, allow_pickle=False)
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "biu":
        kind = found.dtype if isinstance(found, np.ndarray) else "several arrays"
        raise ValueError(f"it holds {kind}, and a template whole numbers, with -1 for gaps")
    if found.ndim not in (1, 2) or not found.size:
        raise ValueError(f"a template has shape (N, n), a row for each, got {found.shape}")
    rows: list[list[int]] = np.atleast_2d(found).tolist()
    return rows


def _lines(text: str, gap: str) -> list[list[int]]:
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        cells = [cell.strip() for cell in line.split(",")] if line.strip() else []
        for cell in cells:
            if cell not in ("", "?", gap) and not cell.removeprefix("-").isdecimal():
                raise ValueError(
                    f"line {number}: {cell!r} is no whole number: write 3,{gap},7 with gaps, or "
                    "name a .npy, .csv or .txt file"
                )
        rows += [[-1 if cell in ("", "?", gap) else int(cell) for cell in cells]] if cells else []
    return rows


def _filled(rows: list[list[int]], vocabulary: Numbers) -> tuple[Tensor, Tensor]:
    if not rows:
        raise ValueError("the template has no rows")
    longest, classes = vocabulary.length, vocabulary.classes
    found = torch.full((len(rows), longest), -1, dtype=torch.int64)
    for number, row in enumerate(rows, 1):
        if len(row) > longest:
            raise ValueError(
                f"row {number} of the template has {len(row)} numbers, and {longest} are the most "
                "the model makes"
            )
        for value in row:
            if not -1 <= value < classes:
                raise ValueError(
                    f"row {number} of the template has {value}, and the model's numbers are 0 to "
                    f"{classes - 1}, -1 for a gap"
                )
        found[number - 1, : len(row)] = torch.tensor(row, dtype=torch.int64)
    return found.clamp_min(0), found >= 0
