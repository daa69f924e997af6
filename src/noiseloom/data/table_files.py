"""A table from a file, opened and read row by row."""

import csv
import gzip
import io
import itertools
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import IO, Any, NamedTuple

import numpy as np

from noiseloom.data.option_names import said
from noiseloom.data.table_columns import NUMBER
from noiseloom.data.table_numbers import is_code

__all__ = ["ENDINGS", "ColumnError", "Rows", "opened", "pyarrow_for"]

ENDINGS = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet")
"""Of the files that are tables."""
_PLAIN = ("double", "string")  # which cells are of in a .parquet file that is written


class ColumnError(ValueError):
    """A column that cannot be taken for anything, or has a value without a class.

    Args:
        message: what is wrong.
        schema: what all columns are taken for, as `TableVocabulary.schema` has it; those that
            cannot be taken are left out.
        why: what is wrong with columns, by name.
    """

    def __init__(self, message: str, schema: Mapping[str, Any], why: Mapping[str, str]) -> None:
        super().__init__(message)
        self.schema, self.why = dict(schema), dict(why)


class Rows(NamedTuple):
    """A table that is open.

    Attributes:
        names: of its columns.
        rows: where in the file a row is, and its cells.
        unit: what "where" counts, line or row.
        words: columns that the file itself says are text.
        types: of columns, where the file has them and they are neither floats nor text.
        notes: what people should know of how it was read, once it is.
    """

    names: tuple[str, ...]
    rows: Iterator[tuple[int, list[str]]]
    unit: str = "line"
    words: frozenset[str] = frozenset()
    types: Mapping[str, str] = MappingProxyType({})
    notes: Sequence[str] = ()

    def check(self, place: int, cells: Sequence[str]) -> None:
        """Raise where a row has another length than the header.

        Raises:
            ValueError: so.
        """
        if len(cells) != len(self.names):
            raise ValueError(
                f"{self.unit} {place} has {len(cells)} cells, and the header {len(self.names)}"
            )


@contextmanager
def opened(path: Path, wanted: Callable[[str], bool] = lambda name: True) -> Iterator[Rows]:
    """Open a table, .csv, .tsv, either with .gz too, or .parquet; errors become one line.

    Args:
        path: of the file.
        wanted: whether a column is; of a .parquet file the others are not read, be they of any
            type, and their cells are empty.

    Raises:
        FileNotFoundError: no such file.
        ImportError: a .parquet file, without the extra `parquet`.
        ValueError: another kind of file, a damaged or empty one, one without a header of different
            names, or whatever is wrong with its rows.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    if path.is_dir() or not path.name.lower().endswith(ENDINGS):
        raise ValueError(f"{path} is no table: give a .csv, .tsv, .csv.gz or .parquet file")
    try:
        with (
            _binary(path) as file,
            io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text,  # not of Parquet
        ):
            table = (
                _parquet(file, path, wanted) if path.suffix.lower() == ".parquet" else _csv(text)
            )
            _check_names(table.names)
            yield table
    except ColumnError as error:
        raise ColumnError(f"{path}: {error}", error.schema, error.why) from error
    except (csv.Error, EOFError, OSError, ValueError, zlib.error) as error:
        if isinstance(error, UnicodeDecodeError):
            raise ValueError(f"{path} is no UTF-8 text: save it in that encoding") from error
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from error


def _binary(path: Path) -> IO[bytes]:
    opener: Any = gzip.open if path.suffix.lower() == ".gz" else open
    file: IO[bytes] = opener(path, "rb")
    return file


def _csv(text: IO[str]) -> Rows:
    head = list(itertools.islice(text, 50))
    if not "".join(head).strip():
        raise ValueError("the file is empty")
    delimiter = max(",;\t", key=lambda mark: _fits(head, mark))
    read = _lines(itertools.chain(head, text), delimiter)
    names = next(row for _, row in read if any(map(str.strip, row)))

    def rows() -> Iterator[tuple[int, list[str]]]:
        empty = list[int]()  # lines, which are cells if a column is alone, but for the last
        for line, row in read:
            if row:
                yield from ((at, [""]) for at in empty)
                empty.clear()
                yield line, row
            elif len(names) == 1:
                empty.append(line)

    return Rows(tuple(name.strip() for name in names), rows())


def _lines(text: Iterable[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Rows with their last lines; what is none is an error that names its first."""
    # Strict: a quote that is never closed would make one cell of the rest of the file.
    reader = csv.reader(text, delimiter=delimiter, skipinitialspace=True, strict=True)
    first = 1
    try:
        for row in reader:
            yield reader.line_num, row
            first = reader.line_num + 1
    except csv.Error as error:
        many = reader.line_num > first
        if str(error) == "unexpected end of data" or (many and "larger than" in str(error)):
            raise ValueError(f'line {first}: a " opens a cell and is never closed') from error
        last = f" to {reader.line_num}" * many
        raise ValueError(f"line {first}{last}: {error}") from error


def _fits(head: Sequence[str], mark: str) -> tuple[bool, int]:
    """How well a mark separates the first lines: into equally many cells each, and into many."""
    try:
        widths = [
            len(row) for row in csv.reader(head, delimiter=mark, skipinitialspace=True) if row
        ]
    except csv.Error:
        return False, 0
    return len(set(widths)) == 1 and widths[0] > 1, widths[0]


def pyarrow_for(path: Path) -> ModuleType:
    """PyArrow, of which Parquet files are read and written.

    Raises:
        ImportError: it is not installed; names the file and the extra.
    """
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(
            f"{path}: Parquet files need the extra noiseloom[parquet]: "
            "pip install 'noiseloom[parquet]'"
        ) from error
    found: ModuleType = pyarrow
    return found


def _parquet(file: IO[bytes], path: Path, wanted: Callable[[str], bool]) -> Rows:
    pyarrow = pyarrow_for(path)
    found = pyarrow.parquet.ParquetFile(file)
    words, types, texts = set(), dict[str, str](), list[Callable[[object], str]]()
    names, notes = tuple(found.schema_arrow.names), list[str]()
    chosen = [name for name in names if wanted(name)]
    for column in found.schema_arrow:
        kind = column.type
        if column.name not in chosen:
            texts.append(_text)
            continue
        if str(kind) not in _PLAIN:
            types[column.name] = str(kind)
        if pyarrow.types.is_dictionary(kind):
            kind = kind.value_type
        if pyarrow.types.is_nested(kind) or pyarrow.types.is_binary(kind):
            raise ValueError(
                f"column {column.name!r} is of {kind}: a cell must be one value; leave it out "
                f"({said('leave_out', [column.name])})"
            )
        # Numbers are told from their text as in any file; what the file calls text stays so. Those
        # of 32 and 16 bits are written in as few digits as tell them apart, 0.1 as 0.1.
        whole = kind in (pyarrow.int64(), pyarrow.uint64())
        parts = found.iter_batches(65536, columns=[column.name]) if whole else ()
        if str(kind) in ("string", "large_string", "string_view") or _long(parts, pyarrow):
            words.add(column.name)
        single, half = pyarrow.types.is_float32(kind), pyarrow.types.is_float16(kind)
        texts.append(_short(np.float32 if single else np.float16) if single or half else _text)

    def rows() -> Iterator[list[str]]:
        for batch in found.iter_batches(4096, columns=chosen if len(chosen) < len(names) else None):
            given = dict(zip(batch.schema.names, batch.columns, strict=True))
            columns = [
                _values(given[name], name, pyarrow, notes) if name in given else [None] * len(batch)
                for name in names
            ]
            for row in zip(*columns, strict=True):
                yield [text(value) for text, value in zip(texts, row, strict=True)]

    return Rows(names, enumerate(rows(), 1), "row", frozenset(words), types=types, notes=notes)


def _long(parts: Iterable[Any], pyarrow: ModuleType) -> bool:
    """Whether a column of whole numbers has some of more digits than floats have: all are words."""
    ends = [pyarrow.compute.min_max(part.columns[0]).as_py().values() for part in parts]
    return any(is_code(str(abs(end))) for pair in ends for end in pair if end is not None)


def _values(array: object, name: str, pyarrow: ModuleType, notes: list[str]) -> list[object]:
    """Cells as Python has them, whose times have no nanoseconds: these are cut off, with a note."""
    column: Any = array
    kind, coarse = column.type, None
    if pyarrow.types.is_timestamp(kind) and kind.unit == "ns":
        coarse = pyarrow.timestamp("us", kind.tz)
    elif pyarrow.types.is_time64(kind):
        coarse = pyarrow.time64("us")
    if coarse is not None:
        try:
            column = column.cast(coarse)
        except ValueError:  # it would lose some
            column = column.cast(coarse, safe=False)
            note = f"column {name!r} has nanoseconds, which are cut off: microseconds are left"
            notes += [note] * (note not in notes)
    found: list[object] = column.to_pylist()
    return found


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime) and value.tzinfo:  # a zone has two offsets in a year
        return str(value.astimezone(UTC))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _short(kind: type[np.floating[Any]]) -> Callable[[Any], str]:
    return lambda value: "" if value is None else str(kind(value))


def _check_names(names: Sequence[str]) -> None:
    if "" in names:
        raise ValueError(
            f"column {names.index('') + 1} has no name in the header: name it or leave it out"
        )
    twice = [name for i, name in enumerate(names) if name in names[:i]]
    if twice:
        raise ValueError(f"two columns are called {twice[0]!r}")
    if all(map(NUMBER.fullmatch, names)):
        raise ValueError(
            f"the first row has numbers ({', '.join(names[:3])}), and names of columns are expected"
        )
