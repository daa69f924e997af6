"""Sequences of one's own (proteins, molecules, strings, rows of numbers) as tokens."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from noiseloom.data.characters import smallest
from noiseloom.data.folder import HELD_OUT, TRAIN
from noiseloom.data.option_names import said
from noiseloom.data.sequence_files import Record, read_numbers, read_records, suffix_of
from noiseloom.data.split import Split
from noiseloom.data.symbols import Numbers, Spelling, Symbols, spelt
from noiseloom.data.tokens import Tokens, Vocabulary
from noiseloom.rng import Rng

__all__ = ["read_sequences"]

_AT_ONCE = 1 << 16
"""Rows that are held as int64 at a time."""


def read_sequences(
    path: str | os.PathLike[str],
    *,
    column: str | None = None,
    spelling: Literal["auto", "characters", "smiles"] = "auto",
    length: int | None = None,
    longer: Literal["refuse", "drop"] = "refuse",
    vocabulary: Vocabulary | None = None,
    held_out: float = 0.1,
    split: str | None = None,
    seed: int = 0,
) -> tuple[Split[Tokens], Symbols | Numbers]:
    """Read sequences of varying length, or rows of numbers, as tokens.

    A sequence is its symbols and then, up to the longest, the class "end", so that a model decides
    how long it is. Of equal sequences the first is kept, one to train on before one that is held
    out, so that none is in both parts; two ways to write one molecule are not equal here.

    Args:
        path: FASTA (.fasta, .fa, .faa, .fna), read as upper case; .smi, the first word of a line;
            .txt, a sequence a line; .csv, a column; any of these with .gz after it; or .npy, whole
            numbers 0 .. K - 1 of shape (N, T), which have no end.
        column: of a .csv file, whose first row has names; by default the one called smiles or
            sequence, or the only one.
        spelling: "characters": each is a symbol; "smiles": symbols of SMILES (`spelt`); "auto":
            those for .smi and for a column called smiles.
        length: T >= 1, symbols of the longest sequence; by default that of the file.
        longer: "refuse" a file with longer ones, or "drop" them, which `Split.notes` says.
        vocabulary: of other sequences, to read these by instead; its length and spelling count.
        held_out: share to hold out, in (0, 1).
        split: a column of a .csv file that says train, or test, val, validation or held_out,
            instead of the share.
        seed: decides which sequences are held out.

    Returns:
        The rows, and what their tokens mean.

    Raises:
        FileNotFoundError: nothing at `path`.
        ValueError: a file of another kind, a damaged one, one that is not UTF-8 or without
            sequences; fewer than two different ones, or one symbol only; a symbol that SMILES or
            the vocabulary do not have; a sequence that is too long; no such column; an argument
            out of range.
    """
    path = Path(path).expanduser()
    if not 0 < held_out < 1 or (length is not None and length < 1):
        raise ValueError(
            f"{said('held_out')} must be between 0 and 1 and {said('length', option='longest')} at "
            f"least 1, got {held_out} and {length}"
        )
    if spelling not in ("auto", "characters", "smiles") or longer not in ("refuse", "drop"):
        raise ValueError(
            "spelling must be auto, characters or smiles, and longer refuse or drop, got "
            f"{spelling!r} and {longer!r}"
        )
    if suffix_of(path) == ".npy":
        if column is not None or split is not None or length is not None:
            raise ValueError(f"{path}: column, split and length are not for arrays")
        return _of_numbers(path, vocabulary, held_out, seed)
    if not (vocabulary is None or isinstance(vocabulary, Symbols)):
        raise ValueError(f"{path} holds sequences, and the vocabulary is not of symbols")

    records, name = read_records(path, column, split)
    if vocabulary is not None:
        spelling, length = vocabulary.spelling, vocabulary.length
    elif spelling == "auto":
        is_smiles = suffix_of(path) == ".smi" or name.lower() == "smiles"
        spelling = "smiles" if is_smiles else "characters"
    held = [_is_held_out(record, path, split) for record in records] if split else None
    rows, notes = _different(records, held)
    records = [records[row] for row in rows]
    cut = _cutter(path, spelling)
    records, rows, longest = _short(path, records, rows, cut, length, longer, notes)
    if vocabulary is None:
        vocabulary = Symbols(_occurring(path, records, cut), length or longest, spelling)
    else:
        for record in records:
            vocabulary.tokens(record.text, f"{path}, line {record.line}")
    if len(records) < 2:
        raise ValueError(f"{path} has {len(records)} usable sequences, at least 2 are needed")
    texts = [record.text for record in records]
    kind = smallest(vocabulary.sizes[0])
    values = torch.cat(
        [
            vocabulary.encode(texts[begin : begin + _AT_ONCE]).to(kind)
            for begin in range(0, len(texts), _AT_ONCE)
        ]
    )
    flags = None if held is None else [held[row] for row in rows]
    return _parts(path, values, vocabulary.sizes, held_out, seed, flags, notes), vocabulary


def _of_numbers(
    path: Path, vocabulary: Vocabulary | None, held_out: float, seed: int
) -> tuple[Split[Tokens], Numbers]:
    values = torch.from_numpy(read_numbers(path))
    if vocabulary is None:
        if values.amin() == values.amax():
            raise ValueError(f"{path} holds one value only, {int(values[0, 0])}")
        vocabulary = Numbers(int(values.amax()) + 1, values.shape[1])
    if not isinstance(vocabulary, Numbers):
        raise ValueError(f"{path} holds rows of numbers, and the vocabulary is not")
    if values.shape[1] != vocabulary.length or int(values.amax()) >= vocabulary.classes:
        raise ValueError(
            f"{path} has rows of {values.shape[1]} numbers up to {int(values.amax())}, and the "
            f"vocabulary rows of {vocabulary.length} up to {vocabulary.classes - 1}"
        )
    first: dict[bytes, int] = {}
    for row, value in enumerate(values.numpy()):
        first.setdefault(value.tobytes(), row)
    notes = _equal(len(values) - len(first))
    if len(first) < 2:
        raise ValueError(f"{path} has 1 usable sequence, at least 2 are needed")
    values = values[list(first.values())].to(smallest(vocabulary.classes))
    return _parts(path, values, vocabulary.sizes, held_out, seed, None, notes), vocabulary


def _is_held_out(record: Record, path: Path, split: str) -> bool:
    if record.part.lower() not in TRAIN | HELD_OUT:
        raise ValueError(
            f"{path}, line {record.line}: {record.part!r} in the column {split!r} is neither train "
            "nor test, val, validation or held_out"
        )
    return record.part.lower() in HELD_OUT


def _equal(count: int) -> list[str]:
    return [f"{count} sequences equal another one"] if count else []


def _different(records: list[Record], held: list[bool] | None) -> tuple[list[int], list[str]]:
    """Of equal sequences the first row, one to train on before one that is held out."""
    first: dict[str, int] = {}
    order = sorted(range(len(records)), key=lambda row: held is not None and held[row])
    for row in order:
        first.setdefault(records[row].text, row)
    return sorted(first.values()), _equal(len(records) - len(first))


def _cutter(path: Path, spelling: Spelling) -> Callable[[Record], list[str]]:
    def cut(record: Record) -> list[str]:
        try:
            return spelt(record.text, spelling, f"{path}, line {record.line}")
        except ValueError as error:
            if record.line > 1:
                raise
            raise ValueError(f"{error}: if this line is a header, remove it") from error

    return cut


def _short(
    path: Path,
    records: list[Record],
    rows: list[int],
    cut: Callable[[Record], list[str]],
    length: int | None,
    longer: str,
    notes: list[str],
) -> tuple[list[Record], list[int], int]:
    """The records of at most `length` symbols, their rows, and the most symbols of one."""
    counts = [len(cut(record)) for record in records]
    kept = [i for i, count in enumerate(counts) if length is None or count <= length]
    if len(kept) < len(records):
        bad = next(i for i, count in enumerate(counts) if length is not None and count > length)
        if longer == "refuse":
            raise ValueError(
                f"{path}, line {records[bad].line}: a sequence of {counts[bad]} symbols, and "
                f"{said('length', option='longest')} is {length}: raise it, or leave longer ones "
                f"out with {said('longer', 'drop')}"
            )
        notes.append(f"{len(records) - len(kept)} sequences have more than {length} symbols")
    longest = max((counts[i] for i in kept), default=1)
    return [records[i] for i in kept], [rows[i] for i in kept], longest


def _occurring(path: Path, records: list[Record], cut: Callable[[Record], list[str]]) -> list[str]:
    found: set[str] = set()
    for record in records:
        found.update(cut(record))
    if len(found) < 2:
        what = f"one symbol only, {min(found)!r}" if found else "no usable sequence"
        raise ValueError(f"{path} holds {what}")
    return sorted(found)


def _parts(
    path: Path,
    values: Tensor,
    sizes: tuple[int, ...],
    held_out: float,
    seed: int,
    held: Sequence[bool] | None,
    notes: list[str],
) -> Split[Tokens]:
    if held is None:
        count = min(max(round(held_out * len(values)), 1), len(values) - 1)
        mask = torch.zeros(len(values), dtype=torch.bool)
        mask[Rng(seed).fold("held out").permutation(len(values))[:count]] = True
    else:
        mask = torch.tensor(held)
        if mask.all() or not mask.any():
            raise ValueError(
                f"{path}: one of the parts that its column names has no sequence of its own"
            )
    return Split(Tokens(values[~mask], sizes), Tokens(values[mask], sizes), tuple(notes))
