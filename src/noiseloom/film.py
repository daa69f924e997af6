"""Films: videos side by side, as one animated picture for a page."""

import io
import itertools
import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

__all__ = ["film", "said"]

_DESCRIPTION = 270  # ImageDescription, of EXIF
_NEAR = 0.97  # of the limit, aimed at: frames that are further apart are larger
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

    It keeps within `limit` by leaving out frames, evenly, as few as it can: those that are shown
    are so until the next one's time. How many they are is in the file (`said`).

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
    shown = len(pages)
    while True:
        places = [i * len(pages) // shown for i in range(shown)]
        found = _encoded(pages, places, fps, quality)
        if len(found) <= limit or shown == 1:
            return found
        shown = max(min(shown - 1, int(shown * _NEAR * limit / len(found))), 1)


def said(found: bytes) -> str:
    """What is to be said of a film: how many of its frames are shown, "" for all.

    Args:
        found: what `film` made.
    """
    with Image.open(io.BytesIO(found)) as image:
        return str(image.getexif().get(_DESCRIPTION, ""))


def _pages(videos: Tensor, columns: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """The frames of all videos on a grid, shape (T, height, width, 3)."""
    rows = -(-len(videos) // columns)
    x = videos.cpu().expand(-1, -1, 3, -1, -1)
    x = functional.pad(x, (0, _GAP, 0, _GAP), value=_GREY)
    x = torch.cat((x, x.new_full((rows * columns - len(x), *x.shape[1:]), int(_GREY))))
    x = x.reshape(rows, columns, *x.shape[1:]).permute(2, 0, 4, 1, 5, 3)
    x = x.flatten(3, 4).flatten(1, 2)[:, :-_GAP, :-_GAP]  # from (T, rows, H, columns, W, 3)
    return np.ascontiguousarray(x.numpy())


def _encoded(pages: list[Image.Image], places: list[int], fps: float, quality: int) -> bytes:
    """Some of the pages as WebP, each until the time of the next."""
    times = [round(1000 * place / fps) for place in (*places, len(pages))]
    about = Image.Exif()
    if len(places) < len(pages):
        about[_DESCRIPTION] = _left(len(places), len(pages))
    buffer = io.BytesIO()
    pages[0].save(
        buffer,
        "WEBP",
        save_all=True,
        append_images=[pages[place] for place in places[1:]],
        duration=[max(b - a, 1) for a, b in itertools.pairwise(times)],
        loop=0,
        quality=quality,
        exif=about,
    )
    return buffer.getvalue()


def _left(shown: int, frames: int) -> str:
    every = -(-frames // shown)
    if shown == -(-frames // every):
        nth = {2: "2nd", 3: "3rd"}.get(every, f"{every}th")
        return f"every {nth} of {frames:,} frames is shown"
    return f"{shown:,} of {frames:,} frames are shown"
