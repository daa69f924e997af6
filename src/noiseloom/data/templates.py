"""Text, rows of numbers, pictures and series with gaps, for a model to fill."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from noiseloom.data.characters import Characters
from noiseloom.data.pieces import Pieces
from noiseloom.data.series_files import read_series
from noiseloom.data.symbols import Numbers, Symbols
from noiseloom.data.tokens import Vocabulary, spread

__all__ = [
    "check_known",
    "number_templates",
    "picture_templates",
    "series_template",
    "template",
    "which_template",
]

TIMES = 4
"""How often each of several templates is drawn, by default."""


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
            within a word if tokens are pieces. Of a text that was read as letters it is read so.
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
        part = vocabulary.folded(part) if isinstance(vocabulary, Characters) else part
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


def picture_templates(
    path: str | os.PathLike[str], shape: Sequence[int], levels: int
) -> tuple[Tensor, Tensor]:
    """What is known of pictures, row by row.

    Args:
        path: .npy, levels 0 .. levels - 1 of one picture or of several, NaN where unknown; or a
            picture file, whose pixels are unknown where it is transparent and else of the nearest
            level.
        shape: (C, H, W) of the pictures; of one channel the first axis may be left out.
        levels: number of values that a pixel can take, at most 256.

    Returns:
        Pixels, uint8, shape (N, C, H, W), 0 where unknown, and whether each row is known, bool
        (N, H).

    Raises:
        FileNotFoundError: no such file.
        ValueError: another shape, a pixel that is no level, a row that is known in part, a picture
            of which all or nothing is known.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        found = _npy(path) if path.suffix.lower() == ".npy" else _picture(path, shape[0], levels)
        wanted = [shape, shape[1:]] if shape[0] == 1 else [shape]
        if not found.size or not any(
            list(found.shape[-len(own) :]) == [*own] and found.ndim <= len(own) + 1
            for own in wanted
        ):
            raise ValueError(f"pictures here have shape {tuple(shape)}, got shape {found.shape}")
        pixels = torch.from_numpy(found.astype(np.float64)).reshape(-1, *shape)
        return _known_rows(pixels, levels)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from error


def series_template(
    path: str | os.PathLike[str],
    columns: Sequence[str],
    lead: int,
    horizon: int,
    header: Literal["auto", "yes", "no"] = "auto",
) -> tuple[Tensor, Tensor, int]:
    """What is known of a series, step by step.

    Args:
        path: a file as `read_series` takes it, with cells that are empty or NaN in all columns of
            a step to be filled in.
        columns: names of the columns.
        lead: steps that have to be known before the first gap.
        horizon: steps from the first gap to the last, at most.
        header: as of `read_series`.

    Returns:
        All values, float64, shape (N, D), NaN where unknown; whether each step is known, bool (N,);
        and the place of the first of the lead + horizon steps, or all, among which the gaps are.

    Raises:
        FileNotFoundError: no such file.
        ValueError: other columns, a step that is known in part, gaps too early or too far apart,
            all or nothing known, and what `read_series` refuses.
    """
    table = read_series(Path(path), header, like=columns)
    if list(table.columns) != list(columns):
        raise ValueError(
            f"{path} has columns {list(table.columns)}, and the run fills in {list(columns)}"
        )
    known = table.values.isfinite().all(1)
    try:
        check_known(known, "step")
        gaps = (~known).nonzero()[:, 0]
        first, span = int(gaps[0]), int(gaps[-1] - gaps[0]) + 1
        if first < lead:
            raise ValueError(
                f"its first gap is at step {first + 1}, and {lead} steps before it have to be "
                "known: by their size the others are measured"
            )
        if span > horizon:
            raise ValueError(
                f"there are {span} steps from its first gap to its last, and the horizon of "
                f"{horizon} is the most that is filled in at a time: give the file in parts"
            )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    start = min(first - lead, len(known) - lead - horizon)
    return table.values, known, max(start, 0)


def which_template(templates: int, count: int | None, source: str) -> Tensor:
    """Which template each sample is of, int64, shape (N,): one after the other, evenly.

    Args:
        templates: how many there are.
        count: N; by default `TIMES` for each.
        source: where they are, for people.

    Raises:
        ValueError: fewer samples than templates.
    """
    number = TIMES * templates if count is None else count
    if number < templates:
        raise ValueError(
            f"{source} has {templates:,} templates, and -n is {number:,}: some would not be drawn. "
            "Raise -n, or give fewer of them"
        )
    return spread(templates, number)


def check_known(known: Tensor, token: str) -> None:
    """Raise ValueError if nothing is known, or nothing left to be filled in."""
    if known.all():
        raise ValueError(f"nothing is unknown: write nan in each {token} that is to be filled in")
    if not known.any():
        raise ValueError("nothing is known of it: leave --known out")


def _loaded(path: Path) -> object:
    """An array, or several that are in one file."""
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:  # what it says advises to unpickle
        raise ValueError("it is no whole .npy file of numbers") from error


def _npy(path: Path) -> "np.ndarray":
    found = _loaded(path)
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "biuf":
        raise ValueError("it holds no numbers")
    return found


def _picture(path: Path, channels: int, levels: int) -> "np.ndarray":
    """Levels (C, H, W) of a file, NaN where it is transparent."""
    with Image.open(path) as file:
        found = np.asarray(file.convert("LA" if channels == 1 else "RGBA")).astype(np.float64)
    pixels = np.rint(found[..., :-1] * ((levels - 1) / 255))
    return np.moveaxis(np.where(found[..., -1:] > 127, pixels, np.nan), -1, 0)


def _known_rows(pixels: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    there = ~pixels.isnan()
    known = there.all(3).all(1)  # (N, H)
    wrong = there & ((pixels != pixels.round()) | (pixels < 0) | (pixels >= levels))
    for number, (picture, asked) in enumerate(zip(pixels, known, strict=True), 1):
        if wrong[number - 1].any():
            row = int(wrong[number - 1].nonzero()[0, 1])
            bad = picture[wrong[number - 1]][0]
            raise ValueError(
                f"row {row + 1} of picture {number} has {float(bad):g}, and pixels are whole "
                f"numbers 0 to {levels - 1}, NaN where unknown"
            )
        part = there[number - 1].any(2).any(0) & ~asked
        if part.any():
            raise ValueError(
                f"row {int(part.int().argmax()) + 1} of picture {number} is known in part, and a "
                "row is known or drawn as a whole: make all of it unknown, or nothing"
            )
        if asked.all() or not asked.any():
            left = "unknown: there is nothing to draw" if asked.all() else "known: leave it out"
            raise ValueError(f"nothing of picture {number} is {left}")
    return pixels.nan_to_num(0).to(torch.uint8), known


def _array(path: Path) -> list[list[int]]:
    found = _loaded(path)
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
