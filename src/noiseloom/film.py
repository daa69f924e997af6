"""Films: videos side by side, as one animated picture for a page."""

import io
import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

__all__ = ["film"]

_GAP = 2  # pixels between two videos
_GREY = 128.0


def film(
    videos: Tensor,
    *,
    fps: float = 10,
    columns: int | None = None,
    quality: int = 75,
    limit: int = 2_000_000,
) -> bytes:
    """An animated WebP that runs again and again.

    It keeps within `limit` by leaving out frames: each k-th is shown, for the time of k, with the
    least k that size and limit suggest.

    Args:
        videos: uint8, shape (V, T, C, H, W) with C = 3 or 1, or (T, C, H, W) for one.
        fps: frames of the videos a second.
        columns: videos in a row; by default as many as make the grid a square, or nearly.
        quality: of the pictures, 0 .. 100 (lossy WebP).
        limit: size that is aimed at, in bytes; a single frame may exceed it.

    Returns:
        The bytes of a file.

    Raises:
        TypeError: videos that are not uint8.
        ValueError: another shape, or numbers outside their ranges.

    Example:
        >>> film(torch.zeros(4, 3, 8, 8, dtype=torch.uint8))[8:12]
        b'WEBP'
    """
    if videos.dtype != torch.uint8:
        raise TypeError(f"a film is made of uint8 pixels, got {videos.dtype}")
    if videos.ndim == 4:
        videos = videos[None]
    if videos.ndim != 5 or videos.shape[2] not in (1, 3) or not videos.numel():
        raise ValueError(
            f"videos must have axes (V, T, C, H, W), C = 1 or 3, got shape {tuple(videos.shape)}"
        )
    columns = math.ceil(len(videos) ** 0.5) if columns is None else columns
    if columns < 1 or fps <= 0 or not 0 <= quality <= 100 or limit < 1:
        raise ValueError(
            "columns and limit must be at least 1, fps above 0 and quality in 0 .. 100, got "
            f"{columns=}, {limit=}, {fps=}, {quality=}"
        )
    pages = [Image.fromarray(page) for page in _pages(videos, min(columns, len(videos)))]
    every = 1
    while True:
        shown = pages[::every]
        found = _encoded(shown, round(1000 * every / fps), quality)
        if len(found) <= limit or len(shown) == 1:
            return found
        every = max(every + 1, math.ceil(every * len(found) / limit))


def _pages(videos: Tensor, columns: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """The frames of all videos on a grid, shape (T, height, width, 3)."""
    rows = -(-len(videos) // columns)
    x = videos.cpu().expand(-1, -1, 3, -1, -1)
    x = functional.pad(x, (0, _GAP, 0, _GAP), value=_GREY)
    x = torch.cat((x, x.new_full((rows * columns - len(x), *x.shape[1:]), int(_GREY))))
    x = x.reshape(rows, columns, *x.shape[1:]).permute(2, 0, 4, 1, 5, 3)
    x = x.flatten(3, 4).flatten(1, 2)[:, :-_GAP, :-_GAP]  # from (T, rows, H, columns, W, 3)
    return np.ascontiguousarray(x.numpy())


def _encoded(pages: list[Image.Image], milliseconds: int, quality: int) -> bytes:
    buffer = io.BytesIO()
    pages[0].save(
        buffer,
        "WEBP",
        save_all=True,
        append_images=pages[1:],
        duration=max(milliseconds, 1),
        loop=0,
        quality=quality,
    )
    return buffer.getvalue()
