"""A few of the rows that an evaluation judged, to be read beside its figures."""

import csv
import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from noiseloom.data import Palette, TableVocabulary, Vocabulary

__all__ = ["COUNT", "few_rows"]

COUNT = 16
"""Rows that are kept, the first ones."""
_SIDE = 128  # pixels of a picture, at least


def few_rows(words: Vocabulary | None, tokens: Tensor) -> dict[str, bytes]:
    """The first rows as lines, a table, or pictures beside each other, by ending.

    Numbers of intervals are their middles. Breaks within a text are shown as the sign for them, so
    that a line is a row.

    Args:
        words: what tokens mean; of rows that mean nothing nothing is kept.
        tokens: rows, (B, T).
    """
    if words is None:
        return {}
    tokens = tokens[:COUNT].cpu()
    if isinstance(words, Palette):
        return {".samples.png": _beside_each_other(words.pixels(tokens))}
    if isinstance(words, TableVocabulary):
        file = io.StringIO()
        made = csv.writer(file, lineterminator="\n")
        made.writerow(words.names)
        for row in words.decode(tokens):
            made.writerow(c.text(v) for c, v in zip(words.columns, row, strict=True))
        return {".samples.csv": file.getvalue().encode()}
    lines = [
        row.replace("\n", "\u23ce") if isinstance(row, str) else ",".join(map(str, row))
        for row in words.decode(tokens)
    ]
    return {".samples.txt": "".join(f"{line}\n" for line in lines).encode()}


def _beside_each_other(pixels: Tensor) -> bytes:
    """A PNG of pictures (B, C, H, W) of bytes, four in a row, each pixel as a square."""
    times = -(-_SIDE // pixels.shape[-1])
    large = pixels.repeat_interleave(times, -1).repeat_interleave(times, -2)
    rows = [np.concatenate(list(part.movedim(1, -1).numpy()), 1) for part in torch.split(large, 4)]
    wide = [np.pad(row, ((0, 0), (0, rows[0].shape[1] - row.shape[1]), (0, 0))) for row in rows]
    file = io.BytesIO()
    Image.fromarray(np.concatenate(wide).squeeze()).save(file, "PNG")
    return file.getvalue()
