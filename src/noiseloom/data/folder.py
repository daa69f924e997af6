"""Pictures of your own: any folder or zip file, its classes from folder names or from a table."""

import csv
import hashlib
import os
import posixpath
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

import torch

from noiseloom.data.decode import OTHER_SUFFIXES, SUFFIXES, Framing, files_in, opened, read_pictures
from noiseloom.data.images import Images, arcs, stratified
from noiseloom.data.split import Split
from noiseloom.rng import Rng

__all__ = ["image_folder", "tiles"]

TRAIN = {"train", "training"}
HELD_OUT = {"test", "testing", "val", "valid", "validation", "held_out", "heldout", "held-out"}


def image_folder(
    path: str | os.PathLike[str],
    size: int,
    *,
    labels: str | os.PathLike[str] = "folders",
    class_depth: int | None = None,
    split: Literal["auto", "random", "arcs"] = "auto",
    held_out: float = 0.1,
    seed: int = 0,
    skip_bad: bool = False,
    background: tuple[int, int, int] = (255, 255, 255),
) -> Split[Images]:
    """Load a folder or a zip file of pictures as size x size RGB.

    Pictures are turned upright, composited on a colour where transparent, cropped to their central
    square and resized. Of pictures whose resulting pixels are equal only the first is kept,
    training pictures before held-out ones, so that no held-out picture was trained on.
    `Split.notes` says what was left out. The result is cached (`noiseloom.data.decode`).

    Args:
        path: folder or .zip with bmp, gif, jpeg, png or webp pictures at any depth; hidden files
            are passed over, and folders that all pictures share have no meaning.
        size: side of the result, in pixels.
        labels: "folders": the class is the path of the folder; or a CSV file with the columns
            `file` (relative to `path`) and `label`, in `path` or else on the disk: then only the
            pictures it lists are loaded.
        class_depth: how many levels of folders make the class: from the top, or from the picture
            upwards if negative; None is all of them.
        split: "auto": where there is a top folder named train or training and another named test,
            val, validation or held_out, they are the split and what lies beside them is left out;
            else a share of every class is drawn. "random": such folders are thrown together first.
            "arcs": so too, and of every class a contiguous range by file name is held out, for
            frames of turntables and films (`noiseloom.data.images.arcs`).
        held_out: share to hold out when drawn, in (0, 1).
        seed: decides which pictures are drawn.
        skip_bad: leave out pictures that cannot be read, instead of raising.
        background: colour (red, green, blue), each 0 .. 255, behind transparent pixels.

    Raises:
        FileNotFoundError: nothing at `path`, no such CSV file, or a row of it names no file.
        ValueError: no pictures, fewer than two different ones, a picture that cannot be read, a CSV
            file without the two columns, an option out of range.
    """
    if size < 1 or not 0 < held_out < 1 or class_depth == 0:
        raise ValueError(
            "size must be at least 1, held_out between 0 and 1 and class_depth not 0, got "
            f"size={size}, held_out={held_out}, class_depth={class_depth}"
        )
    if len(background) != 3 or not all(c in range(256) for c in background):
        raise ValueError(f"background must be three whole numbers 0 .. 255, got {background}")
    if split not in ("auto", "random", "arcs"):
        raise ValueError(f"split must be 'auto', 'random' or 'arcs', got {split!r}")
    root = Path(path)
    files = files_in(root)
    table = None if labels == "folders" else _read_table(labels, root, files)
    names = [n for n in files if n.lower().endswith(SUFFIXES)] if table is None else sorted(table)
    if not names:
        raise ValueError(f"no pictures ({', '.join(s[1:] for s in SUFFIXES)}) in {root}")

    notes = []
    others = [n for n in files if n.lower().endswith(OTHER_SUFFIXES)]
    if others and table is None:
        kinds = ", ".join(sorted({PurePosixPath(n).suffix.lower()[1:] for n in others}))
        notes.append(f"{len(others)} pictures are of formats that are not read ({kinds})")
    folders = _folders(names)
    tops = {folder[0].lower() for folder in folders if folder}
    given = bool(tops & TRAIN and tops & HELD_OUT)
    held = [given and bool(f) and f[0].lower() in HELD_OUT for f in folders]
    if given:
        rows = [i for i, f in enumerate(folders) if f and f[0].lower() in TRAIN | HELD_OUT]
        if len(rows) < len(names):
            notes.append(f"{len(names) - len(rows)} pictures lie beside the train and test folders")
        rows.sort(key=lambda i: held[i])  # stable: training pictures first
        names, held = [names[i] for i in rows], [held[i] for i in rows]
        folders = [folders[i][1:] for i in rows]

    pixels, rows = read_pictures(root, files, names, Framing(size, background), skip_bad)
    if len(rows) < len(names):
        bad = min(set(range(len(names))) - set(rows))
        notes.append(f"{len(names) - len(rows)} pictures cannot be read, the first is {names[bad]}")
    first: dict[bytes, int] = {}
    for row, picture in enumerate(pixels.numpy()):
        first.setdefault(hashlib.blake2b(picture.tobytes()).digest(), row)
    if len(first) < len(rows):
        notes.append(f"{len(rows) - len(first)} pictures equal an earlier one")
    unique = list(first.values())
    rows = [rows[i] for i in unique]
    if len(rows) < 2:
        raise ValueError(f"{root} has {len(rows)} usable pictures, at least 2 are needed")

    if table is None:
        top = (
            slice(class_depth)
            if class_depth is None or class_depth > 0
            else slice(class_depth, None)
        )
        words = ["/".join(folders[i][top]) or root.stem for i in rows]
        deepest = max(len(folders[i]) for i in rows)
        if class_depth is not None and abs(class_depth) > deepest:
            deep = f"no picture lies in more than {deepest}" if deepest else "there are none"
            notes.append(f"class_depth is {class_depth} folders, and {deep}")
    else:
        words = [table[names[i]] for i in rows]
    classes = sorted(set(words), key=lambda w: (int(w), w) if w.isdecimal() else (10**18, w))
    number = {word: i for i, word in enumerate(classes)}
    images = Images(
        pixels[unique], torch.tensor([number[word] for word in words]), tuple(classes), levels=256
    )

    if given and split == "auto":
        mask = torch.tensor([held[i] for i in rows])
        if mask.all() or not mask.any():
            raise ValueError(f"the train or the test folder of {root} has no picture of its own")
        train, out = (~mask).nonzero()[:, 0], mask.nonzero()[:, 0]
    else:
        count = min(max(round(held_out * len(rows)), 1), len(rows) - 1)
        rng = Rng(seed).fold("held out")
        if split == "arcs":
            train, out = arcs(images.labels, [names[i] for i in rows], count, rng)
        else:
            train, out = stratified(images.labels, count, rng)
    return Split(images.select(train), images.select(out), tuple(notes))


def tiles(
    path: str | os.PathLike[str], *, held_out: float = 0.1, seed: int = 0, skip_bad: bool = False
) -> Split[Images]:
    """Load the 32 x 32 pixel-art tiles of Dungeon Crawl Stone Soup on black, 8 classes.

    The class of a tile is its top folder: dngn (the dungeon), effect, gui, item, misc, mon
    (monsters), player, UNUSED.

    Args:
        path: folder or zip file of the release (github.com/crawl/tiles, Nov-2015; CC0).
        held_out: share to hold out, in (0, 1).
        seed: decides which tiles are held out.
        skip_bad: leave out tiles that cannot be read, instead of raising.
    """
    return image_folder(
        path, 32, class_depth=1, held_out=held_out, seed=seed, skip_bad=skip_bad,
        split="random", background=(0, 0, 0),
    )  # fmt: skip


def _folders(names: Sequence[str]) -> list[tuple[str, ...]]:
    """The folders of each file, below those that all files share."""
    shared = posixpath.commonpath([posixpath.dirname(name) for name in names])
    depth = len(PurePosixPath(shared).parts)
    return [PurePosixPath(name).parts[depth:-1] for name in names]


def _read_table(
    path: str | os.PathLike[str], root: Path, files: dict[str, tuple[int, int]]
) -> dict[str, str]:
    """From file name to label, read from a CSV file on the disk or, failing that, inside `root`."""
    inside = Path(path).as_posix()
    if inside in files:
        with opened(root) as read:
            data = read(inside)
    elif Path(path).is_file():
        data = Path(path).read_bytes()
    else:
        raise FileNotFoundError(f"no file of labels at {path}, neither in {root} nor on the disk")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: save it so ({error})") from error
    rows = csv.DictReader(text.splitlines())
    if not {"file", "label"} <= set(rows.fieldnames or ()):
        raise ValueError(f"{path} needs the columns file,label; it has {rows.fieldnames}")
    table: dict[str, str] = {}
    for row in rows:
        name = posixpath.normpath((row["file"] or "").strip().replace("\\", "/"))
        if name not in files:
            raise FileNotFoundError(f"{path}, line {rows.line_num}: no file {name} in {root}")
        if name in table or not row["label"]:
            raise ValueError(f"{path}, line {rows.line_num}: {name} needs one label, in one row")
        table[name] = row["label"].strip()
    return table
