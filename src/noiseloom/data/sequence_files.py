"""Sequences out of files: FASTA, SMILES, a string per line, a column of a table, arrays."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from noiseloom.data.text_files import lines_of
from noiseloom.data.whole_file import write_text

__all__ = ["FASTA", "Record", "read_numbers", "read_records", "suffix_of", "write_fasta"]

FASTA = (".fasta", ".fa", ".faa", ".fna")
_WIDTH = 60  # symbols of a line that is written
_SUFFIXES = (*FASTA, ".smi", ".txt", ".csv", ".npy")


class Record(NamedTuple):
    """One sequence of a file.

    Attributes:
        text: the sequence.
        line: where it begins, from 1.
        part: what the column of the split says, or "".
    """

    text: str
    line: int
    part: str = ""


def suffix_of(path: Path) -> str:
    """What kind of file it is, by its name without .gz.

    Raises:
        FileNotFoundError: nothing at `path`.
        ValueError: a suffix of no kind that is read.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    packed = path.name.lower().endswith(".gz")
    if suffix not in _SUFFIXES or (packed and suffix == ".npy") or path.is_dir():
        kinds = ", ".join(_SUFFIXES)
        raise ValueError(f"{path}: sequences are read from {kinds}, all but the last with .gz too")
    return suffix


def read_records(
    path: Path, column: str | None, split: str | None, what: str = "sequence"
) -> tuple[list[Record], str]:
    """The sequences of a file, without empty ones.

    Args:
        path: FASTA: upper case, lines of a record joined. .smi: the first word of a line. .txt: a
            line each, without spaces around. .csv: a column, without spaces around.
        column: of a .csv file, whose first row has names; by default the one called
            smiles or sequence, or the only one.
        split: a column of a .csv file that says which part a row is of.
        what: each is, for errors.

    Returns:
        The sequences and the name of the column, which is "" for other files.

    Raises:
        ValueError: no record, one that is empty (FASTA), no such column, a column of other files, a
            file that cannot be read.
    """
    suffix = suffix_of(path)
    if suffix != ".csv" and (column is not None or split is not None):
        raise ValueError(f"{path} has no columns: column and split are for .csv files")
    found: Iterator[Record]
    if suffix == ".csv":
        names, cells = _table(path)
        column = _column(path, names, column)
        if split is not None and split not in names:
            raise ValueError(f"{path} has no column {split!r}; it has {', '.join(names)}")
        place, other = names.index(column), None if split is None else names.index(split)
        found = (
            Record(row[place].strip(), line, "" if other is None else row[other].strip())
            for line, row in cells
        )
    elif suffix in FASTA:
        found = _fasta(path)
    elif suffix == ".smi":
        found = (Record((s.split() or [""])[0], n) for n, s in lines_of(path, (suffix,)))
    else:
        found = _plain(path)
    records = [record for record in found if record.text]
    if not records:
        raise ValueError(f"{path} holds no {what}")
    return records, column or ""


def read_numbers(path: Path) -> NDArray[np.int64]:
    """The rows of a .npy file of whole numbers from 0, shape (N, T).

    Raises:
        ValueError: an array of another kind or shape, or with numbers below 0.
    """
    try:
        found = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "biu":
        kind = found.dtype if isinstance(found, np.ndarray) else "several arrays"
        raise ValueError(f"{path} holds {kind}, and classes are whole numbers: store integers")
    if found.ndim != 2 or not found.size:
        raise ValueError(f"{path} must have shape (N, T), a sequence a row, got {found.shape}")
    if int(found.min()) < 0 or int(found.max()) >= 2**16:
        what = found.min() if int(found.min()) < 0 else found.max()
        raise ValueError(f"{path} holds {what}: classes are numbered 0 .. K - 1, K at most 65536")
    return found.astype(np.int64)


def write_fasta(path: Path, texts: Sequence[str]) -> int:
    """Write sequences as FASTA, each under `>sample-N`, N its row from 1.

    Args:
        path: of the file, which is replaced.
        texts: upper case, as FASTA is read; an empty one, which it cannot hold, is left out.

    Returns:
        How many were left out.
    """
    lines = []
    for number, text in enumerate(texts, 1):
        parts = [text[at : at + _WIDTH] for at in range(0, len(text), _WIDTH)]
        lines += [f">sample-{number}", *parts] if parts else []
    write_text(path, "\n".join([*lines, ""]))
    return sum(not text for text in texts)


def _plain(path: Path) -> Iterator[Record]:
    for number, line in lines_of(path, (".txt",)):
        if number == 1 and line.startswith(">"):
            raise ValueError(f"{path} begins with '>' as FASTA does: call such a file .fasta")
        yield Record(line.strip(), number)


def _fasta(path: Path) -> Iterator[Record]:
    head, parts = 0, list[str]()
    suffix = suffix_of(path)
    for number, line in [*lines_of(path, (suffix,)), (0, ">")]:  # a last head, for the last record
        if line.startswith(">"):
            if head and not parts:
                raise ValueError(f"{path}, line {head}: a record without a sequence")
            if head:
                yield Record("".join(parts).upper(), head)
            head, parts = number, []
        elif line.strip() and not line.startswith(";"):
            if not head:
                raise ValueError(f"{path}, line {number}: no record begins with '>' before it")
            parts.append("".join(line.split()))


def _table(path: Path) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    reader = csv.reader(line + "\n" for _, line in lines_of(path, (".csv",)))
    try:
        names = [name.strip() for name in next(reader, [])]
    except csv.Error as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if not names:
        raise ValueError(f"{path} is empty")
    if len(names) == 1 and (";" in names[0] or "\t" in names[0]):
        raise ValueError(f"{path} has semicolons or tabs between its cells: write it with commas")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"{path} has two columns {twice[0]!r}: rename one")

    def rows() -> Iterator[tuple[int, list[str]]]:
        try:
            for row in reader:
                if len(row) not in (0, len(names)):
                    raise ValueError(
                        f"{path}, line {reader.line_num}: {len(row)} cells, and {len(names)} names"
                    )
                if row:
                    yield reader.line_num, row
        except csv.Error as error:
            raise ValueError(f"{path}, line {reader.line_num}: {error}") from error

    return names, rows()


def _column(path: Path, names: list[str], column: str | None) -> str:
    usual = [name for name in names if name.lower() in ("smiles", "sequence")]
    if column is None and len(usual) == 1:
        return usual[0]
    if column is None and len(names) == 1:
        return names[0]
    if column not in names:
        asked = "say which column holds the sequences" if column is None else f"no {column!r}"
        raise ValueError(f"{path}: {asked}; there are {', '.join(names)}")
    return column
