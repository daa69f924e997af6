"""Pictures with captions, as people have them on disk: what is where.

Whatever the kind, what comes out is a list of pictures, each with its captions, where these are
(for errors), whom it must stay together with when some are held out, and the part it was given.
"""

import csv
import io
import posixpath
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from noiseloom.data import caption_sets
from noiseloom.data.captioned import Captioned, Source, named, part_of
from noiseloom.data.decode import files_in, opened

__all__ = ["find_source"]

Texts: TypeAlias = dict[str, Callable[[], str]]
"""Files by name, read when asked for."""

_PICTURE = ("picture", "image", "file", "file_name", "filename", "path")
_CAPTION = ("caption", "text", "sentence")
_COLUMNS = (_PICTURE, _CAPTION, ("split", "part"), ("group",))
_TABLES = (".csv", ".tsv")


def find_source(path: Path, images: Path | None = None) -> Source:
    """Find pictures and captions.

    Args:
        path: a COCO file of captions (.json), a table (.csv or .tsv), or a folder or .zip with
            emoji.json, captions_*.json, the files of NLVR, one table, or .txt files beside
            pictures, whichever of these is there, in this order.
        images: folder or .zip of the pictures, of a COCO file or table that is not beside them.

    Raises:
        FileNotFoundError: nothing at `path` or `images`.
        ValueError: none of these, or one that is damaged, by its line.
    """
    for needed in (path, *([images] if images else [])):
        if not needed.exists():
            raise FileNotFoundError(f"there is no file or folder {needed}")
    suffix = path.suffix.lower()
    if path.is_file() and suffix in (".json", ".csv", ".tsv"):
        root = images or (path.parent.parent if path.parent.name == "annotations" else path.parent)
        whole = {path.name: lambda: _text(path.read_bytes(), path.name)}
    elif path.is_file() and suffix != ".zip":
        raise ValueError(f"{path}: captions are read from a folder, .zip, .json, .csv or .tsv")
    else:
        root, whole = path, {}
        if images is not None:
            raise ValueError(f"images is for a .json, .csv or .tsv file, and {path} is none")
    # The pictures of a table are looked up one by one, wherever it lies.
    alone = bool(whole) and suffix != ".json" and root.is_dir()
    files = {} if alone else files_in(root)
    found = Source(root, files, [], [], [])
    with opened(root) as read:
        known = whole or {
            name: partial(_decoded, read, name)
            for name in files
            if name.lower().endswith((".json", ".csv", ".tsv", ".txt"))
        }
        _read(found, known, path)
    if not found.pictures and not found.missing:
        raise ValueError(
            f"no pictures with captions in {path}: it needs emoji.json, captions_*.json, the files "
            "of NLVR, a .csv table of pictures and captions, or a .txt file beside each picture"
        )
    return found


def _read(found: Source, texts: Texts, path: Path) -> None:
    """Fill in what is there, of the first kind that is."""
    alone = path.is_file() and path.suffix.lower() != ".zip"
    base = {name: posixpath.basename(name) for name in texts}
    emoji = [name for name in texts if base[name] == "emoji.json"]
    coco = [
        name
        for name in texts
        if name.endswith(".json") and (alone or base[name].startswith("captions_"))
    ]
    nlvr = [
        name
        for name in texts
        if PurePosixPath(name).parent.name == PurePosixPath(name).stem and name.endswith(".json")
    ]
    tables = [name for name in texts if name.lower().endswith((".csv", ".tsv"))]
    if emoji:
        for name in emoji:
            caption_sets.emoji(found, name, texts[name]())
    elif coco:
        for name in coco:
            caption_sets.coco(found, name, texts[name]())
    elif nlvr:
        for name in nlvr:
            caption_sets.nlvr(found, name, texts[name]())
    elif tables:
        if len(tables) > 1:
            raise ValueError(f"{path} has several tables: name one of {', '.join(tables)}")
        _table(found, tables[0], texts[tables[0]](), path)
    else:
        _beside(found, texts)


def _decoded(read: Callable[[str], bytes], name: str) -> str:
    return _text(read(name), name)


def _text(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is not UTF-8: save it so ({error})") from error


def _table(found: Source, name: str, text: str, path: Path) -> None:
    """A line for each caption; pictures relative to the table, or below the root."""
    rows = csv.DictReader(
        io.StringIO(text, newline=""), delimiter="\t" if name.lower().endswith(".tsv") else ","
    )
    columns = {(column or "").strip().lower(): column for column in rows.fieldnames or ()}
    names = [next((columns[c] for c in known if c in columns), None) for known in _COLUMNS]
    picture, caption, part, group = names
    if picture is None or caption is None:
        raise ValueError(
            f"{name} needs a column picture (or {', '.join(_PICTURE[1:])}) and a column "
            f"caption (or {', '.join(_CAPTION[1:])}); it has {', '.join(columns)}"
        )
    folder = "" if path.is_file() and path.suffix.lower() != ".zip" else posixpath.dirname(name)
    own: dict[str, Captioned] = {}
    for row in _lines(rows, name):
        where = f"{name}, line {rows.line_num}"
        written = (row[picture] or "").strip().replace("\\", "/")
        file = posixpath.normpath(posixpath.join(folder, written))
        if not found.has(file):
            found.missing.append(f"{where}: there is no picture {written or 'named'}")
            continue
        pair = own.setdefault(file, Captioned(file))
        word = part_of(row[part] or "") if part else ""
        if part and not word:
            raise ValueError(
                f"{where}: {row[part]!r} in the column {part!r} is neither train nor test, val, "
                "validation or held_out"
            )
        if pair.captions and pair.part != word:
            raise ValueError(f"{where}: {written} is in two parts")
        pair.part = word
        pair.groups |= {f"group {row[group]}"} if group else set()
        pair.add(row[caption] or "", where)
    found.pictures.extend(own.values())


def _lines(rows: "csv.DictReader[str]", name: str) -> Iterator[dict[str, str]]:
    """The rows of a table, each of as many cells as there are columns."""
    try:
        for row in rows:
            if None in row or None in row.values():
                raise ValueError(f"{name}, line {rows.line_num}: more or fewer cells than columns")
            yield row
    except csv.Error as error:
        raise ValueError(f"{name}, line {rows.line_num}: {error}") from error


def _beside(found: Source, texts: Texts) -> None:
    """A .txt file beside each picture, a caption on every line that is not blank."""
    pictures = named(found, lambda n: posixpath.splitext(n)[0])
    captioned = 0
    for name, text in texts.items():
        stem, suffix = posixpath.splitext(name)
        for picture in pictures[stem] if suffix.lower() == ".txt" else ():
            top = PurePosixPath(picture).parts[0] if "/" in picture else ""
            pair = Captioned(picture, part=part_of(top))
            for number, line in enumerate(text().splitlines(), 1):
                if line.strip():
                    pair.add(line, f"{name}, line {number}")
            if not pair.captions:
                pair.add("", name)
            found.pictures.append(pair)
            captioned += 1
    bare = sum(map(len, pictures.values())) - captioned
    if captioned and bare:
        found.notes.append(f"{bare} pictures have no .txt file beside them")
