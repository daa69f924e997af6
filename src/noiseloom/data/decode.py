"""From files to pixels: finding, decoding and caching the pictures of a folder or a zip file."""

import io
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from noiseloom.data.cache import cached, keep, recall

__all__ = [
    "OTHER_SUFFIXES",
    "SUFFIXES",
    "Framing",
    "decode",
    "files_in",
    "opened",
    "read_picture",
    "read_pictures",
]

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")
OTHER_SUFFIXES = (".avif", ".heic", ".heif", ".jp2", ".psd", ".svg", ".tif", ".tiff")
"""Pictures that are passed over, which is worth a note."""

# Part of every cache key: raise it when the same file and framing give other pixels.
_FORMAT = 1
_BLOCK = 256
"""Pictures that are decoded before they are put together."""


@dataclass(frozen=True)
class Framing:
    """How a picture of any size becomes RGB of one size.

    Attributes:
        size: side of the result, in pixels, or its height and width.
        background: colour (red, green, blue), each 0 .. 255, that shows through transparency.
        fit: how a picture of another shape is made to fit: "crop" to its central part, "pad" what
            is missing with the background, or "stretch".
    """

    size: int | tuple[int, int]
    background: tuple[int, int, int] = (255, 255, 255)
    fit: Literal["crop", "pad", "stretch"] = "crop"

    @property
    def height_width(self) -> tuple[int, int]:
        """Of the result, in pixels."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size


def files_in(root: Path) -> dict[str, tuple[int, int]]:
    """All files of a folder or a zip file, without hidden ones.

    Returns:
        From name (relative, with "/") to what changes when the file does: its size, and its time of
        change in nanoseconds (in a zip file its checksum). Sorted by name.

    Raises:
        FileNotFoundError: there is nothing at `root`.
        ValueError: `root` is a file, but not a zip file.
    """
    if root.is_dir():
        found = {}
        for folder, inner, names in os.walk(root, followlinks=True):
            inner[:] = [name for name in inner if not _is_above(Path(folder, name), root)]
            for path in (Path(folder, name) for name in names):
                if path.is_file():
                    stat = path.stat()
                    found[path.relative_to(root).as_posix()] = (stat.st_size, stat.st_mtime_ns)
    elif root.exists():
        with _zip(root) as archive:
            found = {i.filename: (i.file_size, i.CRC) for i in archive.infolist() if not i.is_dir()}
    else:
        raise FileNotFoundError(f"no folder or zip file at {root}")
    hidden = (".", "__MACOSX")
    visible = (n for n in found if not any(part.startswith(hidden) for part in n.split("/")))
    return {name: found[name] for name in sorted(visible)}


@contextmanager
def opened(root: Path) -> Iterator[Callable[[str], bytes]]:
    """A function that reads one file of a folder or a zip file by its name."""
    if root.is_dir():
        yield lambda name: (root / name).read_bytes()
    else:
        with _zip(root) as archive:
            yield archive.read


def decode(data: bytes, framing: Framing) -> Tensor:
    """Decode one picture: upright, composited, cropped or padded to the shape asked for, resized.

    Lanczos resampling with its support widened to the reduction, so that shrinking averages
    instead of skipping pixels. Of an animation, the first frame. 16-bit grey is divided by 257.

    Returns:
        uint8, shape (3, height, width).
    """
    height, width = framing.height_width
    with Image.open(io.BytesIO(data)) as file:
        file.draft(None, (4 * width, 4 * height))  # JPEG: decode little more than needed
        image: Image.Image = ImageOps.exif_transpose(file)
    if image.mode.startswith("I"):
        image = Image.fromarray((np.array(image) // 257).astype(np.uint8))
    if image.has_transparency_data:
        below = Image.new("RGBA", image.size, (*framing.background, 255))
        image = Image.alpha_composite(below, image.convert("RGBA"))
    image = image.convert("RGB")
    if framing.fit == "crop":
        w, h = image.size
        # Without fractions where shapes agree: a square of a square is all of it.
        w, h = min(w, h * width // height), min(h, w * height // width)
        left, top = (image.width - w) // 2, (image.height - h) // 2
        # Cropped first: the kernel would see past the edges of a `box` given to `resize`.
        image = image.crop((left, top, left + max(w, 1), top + max(h, 1)))
    elif framing.fit == "pad":
        scale = min(width / image.width, height / image.height)
        w, h = (max(round(scale * side), 1) for side in image.size)
        whole = Image.new("RGB", (width, height), framing.background)
        whole.paste(
            image.resize((w, h), Image.Resampling.LANCZOS), ((width - w) // 2, (height - h) // 2)
        )
        image = whole
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def read_picture(path: Path, framing: Framing) -> Tensor:
    """Decode one file, uint8, shape (3, height, width).

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no picture, a damaged one, or a folder.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder: name the pictures in it, as {path}/*.png does")
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        return decode(path.read_bytes(), framing)
    except MemoryError:
        raise
    except Exception as error:  # Pillow's readers raise anything on a broken file
        raise ValueError(f"cannot read the picture {path} ({_reason(error)})") from error


def read_pictures(
    root: Path,
    files: dict[str, tuple[int, int]],
    names: Sequence[str],
    framing: Framing,
    skip_bad: bool,
) -> tuple[Tensor, list[int]]:
    """Decode many pictures, or take them from the cache if nothing changed since.

    The cache is one file per state of the data, in `$NOISELOOM_CACHE` or `~/.cache/noiseloom`;
    deleting it costs nothing but time, and where it cannot be written there is none.

    Args:
        root: folder or zip file.
        files: what `files_in` found there.
        names: which of them to decode.
        framing: how.
        skip_bad: leave out files that cannot be decoded.

    Returns:
        Pixels, uint8 (n, 3, height, width), and the positions in `names` they belong to.

    Raises:
        ValueError: a picture cannot be decoded; it is named.
    """
    # A zip's checksums identify its content wherever it lies; sizes and times of files do not.
    place = str(root.resolve()) if root.is_dir() else ""
    state = [(name, *files[name]) for name in names]
    how: list[Any] = [framing.size, framing.background, skip_bad]
    how += [framing.fit] if framing.fit != "crop" else []  # caches of before have no such word
    file = cached([_FORMAT, place, *how, state])
    if stored := recall(file, "pixels", "rows"):
        return stored[0], stored[1].tolist()

    with opened(root) as read, ThreadPoolExecutor() as pool:

        def one(name: str) -> Tensor | None:
            try:
                return decode(read(name), framing)
            except MemoryError:
                raise
            except Exception as error:  # Pillow's readers raise anything on a broken file
                if skip_bad:
                    return None
                raise ValueError(
                    f"cannot read the picture {name} in {root} ({_reason(error)}): mend or remove "
                    "it, or leave such files out with --skip-bad (skip_bad=True)"
                ) from error

        # Each goes to its place soon: all of them may be most of what memory there is.
        pixels = torch.empty((len(names), 3, *framing.height_width), dtype=torch.uint8)
        rows: list[int] = []
        for first in range(0, len(names), _BLOCK):
            for row, picture in enumerate(pool.map(one, names[first : first + _BLOCK]), first):
                if picture is not None:
                    pixels[len(rows)] = picture
                    rows.append(row)
    pixels = pixels[: len(rows)]
    keep(file, {"pixels": pixels, "rows": torch.tensor(rows, dtype=torch.int64)})
    if stored := recall(file, "pixels"):  # of the file, in memory only as far as it is read
        pixels = stored[0]
    return pixels, rows


def _reason(error: Exception) -> str:
    """Why a picture cannot be read, in one line."""
    known = isinstance(error, UnidentifiedImageError)
    return "unknown format" if known else " ".join(str(error).split())


def _is_above(folder: Path, root: Path) -> bool:
    """Whether a folder is, by a link, one of those on the way to it from `root`."""
    way = folder.parents[: len(folder.relative_to(root).parts)]
    return any(folder.samefile(above) for above in way)


def _zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is neither a folder nor a readable zip file") from error
