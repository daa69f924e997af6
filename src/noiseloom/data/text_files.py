"""Text out of files, a piece at a time, so that none of them needs to fit into memory."""

import codecs
import contextlib
import gzip
import io
import lzma
import os
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

__all__ = ["CHUNK", "lines_of", "state_of", "texts"]

CHUNK = 1 << 18
"""Bytes that are read at once."""

_PLAIN = (".txt", ".md")
_TAR = (".tar", ".tar.gz", ".tgz", ".tar.xz")
_DAMAGED = (EOFError, OSError, tarfile.TarError, zlib.error, lzma.LZMAError)


def texts(path: Path, suffixes: tuple[str, ...] = _PLAIN) -> Iterator[str]:
    """The text at a path, in pieces of about `CHUNK` characters.

    Lines end as in Python, a mark of byte order is left out, and between files a line ends.

    Args:
        path: a file with one of `suffixes`, or with .gz after it; a folder of such files at any
            depth, by name; or a tar file of them (.tar, .tar.gz, .tgz, .tar.xz), as they lie in it.
            Hidden files are passed over.
        suffixes: of plain files.

    Raises:
        FileNotFoundError: nothing at `path`.
        ValueError: another suffix, no such files, a damaged file, or one that is not UTF-8, by the
            line.
    """
    last = "\n"
    for name, file in _files(path, suffixes):
        for number, text in enumerate(_decoded(file, name)):
            if not number and last != "\n":
                yield "\n"
            yield text
            last = text[-1]


def lines_of(path: Path, suffixes: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """The lines of a file with one of `suffixes`, or with .gz after it, by number from 1."""
    number, rest = 1, ""
    for text in texts(_file(path), suffixes):
        *lines, rest = (rest + text).split("\n")
        for line in lines:
            yield number, line
            number += 1
    if rest:
        yield number, rest


def state_of(path: Path) -> list[tuple[str, int, int]]:
    """What changes when the text at a path does: name, size and time of change of its files."""
    files = _inside(path, _PLAIN) if path.is_dir() else [path]
    return [(str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in files]


def _file(path: Path) -> Path:
    if path.is_dir():
        raise ValueError(f"{path} is a folder, and a file is needed")
    return path


def _inside(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, n) for n in names if _is_plain(n, suffixes)]
    return sorted(found)


def _is_plain(name: str, suffixes: tuple[str, ...]) -> bool:
    return name.lower().endswith(suffixes) and not name.startswith(".")


def _files(path: Path, suffixes: tuple[str, ...]) -> Iterator[tuple[str, BinaryIO]]:
    """The files at a path, opened, with what to call them."""
    if not path.exists():
        raise FileNotFoundError(f"there is no file or folder {path}")
    name = path.name.lower()
    kinds = ", ".join(suffixes)
    if path.is_dir():
        inside = _inside(path, suffixes)
        if not inside:
            raise ValueError(f"{path} holds no {kinds} files")
        for part in inside:
            with _opened(part) as file:
                yield str(part), file
    elif name.endswith(_TAR) and suffixes == _PLAIN:
        count = 0
        with _readable(str(path)), tarfile.open(path, "r|*") as archive:
            for member in archive:
                if member.isfile() and _is_plain(Path(member.name).name, suffixes):
                    count += 1
                    content = archive.extractfile(member)  # None of what is no file alone
                    yield f"{path}, {member.name}", cast(BinaryIO, content)
        if not count:
            raise ValueError(f"{path} holds no {kinds} files")
    elif name.endswith(tuple(f"{suffix}.gz" for suffix in suffixes)):
        with _opened(path) as file, gzip.open(file) as packed:
            yield str(path), cast(BinaryIO, packed)
    elif name.endswith(suffixes):
        with _opened(path) as file:
            yield str(path), file
    else:
        also = ", a folder or a tar file of them" if suffixes == _PLAIN else ""
        raise ValueError(f"{path}: read are {kinds} files, with or without .gz{also}")


def _opened(path: Path) -> BinaryIO:
    with _readable(str(path)):
        return path.open("rb")


def _decoded(file: BinaryIO, name: str) -> Iterator[str]:
    """Its text in pieces, none of them empty."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    ends = io.IncrementalNewlineDecoder(None, translate=True)
    line, last = 1, False
    while not last:
        with _readable(name):
            data = file.read(CHUNK)
        last = not data
        try:
            text = ends.decode(decoder.decode(data, last), last)
        except UnicodeDecodeError as error:
            # What the decoder kept of earlier pieces is a part of a character, without an end.
            line += error.object[: error.start].count(b"\n")
            raise ValueError(
                f"{name}, line {line}: byte {error.object[error.start]:#04x} is not UTF-8; save "
                "the file as UTF-8"
            ) from None
        line += data.count(b"\n")
        if text:
            yield text


@contextlib.contextmanager
def _readable(name: str) -> Iterator[None]:
    """One line for every way in which a file can be damaged."""
    try:
        yield
    except _DAMAGED as error:
        raise ValueError(f"{name} cannot be read: {' '.join(str(error).split())}") from error
