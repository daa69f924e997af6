"""All benzenoids of a number of rings, in the parts of a split, and what is told of drawn ones.

They are enumerated and clustered when they are first asked for, or read from a file that has them
(`keep_at`, `benzenoid_file`): both are the same.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from noiseloom.data.annulation import turn_counts
from noiseloom.data.benzenoids import Benzenoids, benzenoids
from noiseloom.data.clusters import Folds, cluster_folds, label_folds, random_folds, tanimoto
from noiseloom.data.labelled import read_cells, text_column
from noiseloom.data.lattice_fit import Structures
from noiseloom.recipes.benzenoid_file import BenzenoidParts, read_parts
from noiseloom.rng import Rng

__all__ = [
    "CLUSTERED",
    "WORDS",
    "Splitting",
    "all_parts",
    "distances",
    "drawn_report",
    "everything",
    "from_file",
    "keep_at",
    "part",
    "rows_of",
]

Splitting: TypeAlias = Literal["auto", "cluster", "random", "labels"]

CLUSTERED = 8
"""Rings from which on the clusters are large enough to be split by."""

WORDS = ("train", "validation", "test", "others", "all")
"""The parts: others are validation and test."""

_BEST = 100
_CHUNK = 2000


_PLACES: dict[int, Path] = {}


def keep_at(path: str | None, rings: int) -> None:
    """Take those of so many rings from a file from now on, or from none: it is read when needed."""
    if path is None:
        _PLACES.pop(rings, None)
    else:
        _PLACES[rings] = Path(path).expanduser().resolve()


def everything(rings: int) -> Benzenoids:
    """All of so many rings."""
    found = _read(rings)
    return _enumerated(rings) if found is None else found.whole


def places(rings: int) -> dict[str, int]:
    """Where in `everything` the structure of a key is."""
    return _numbered(everything(rings))


def folds(rings: int, split: Splitting) -> Folds:
    """Which of `everything` are for what; the same in every process.

    Auto is by clusters where there are enough structures for that, otherwise by labels. A random
    split has the sizes of that.
    """
    if split == "auto":
        split = "cluster" if rings >= CLUSTERED else "labels"
    found = _read(rings)
    if found is None:
        return _parted(rings, split)
    if split not in found.folds:
        raise ValueError(
            f"{_PLACES[rings]} has no parts of --split {split}: write it anew, noiseloom record "
            f"benzenoids --rings {rings} --out FILE.safetensors"
        )
    return found.folds[split]


def all_parts(rings: int) -> BenzenoidParts:
    """All of so many rings, enumerated anew, with the parts of every split that they have."""
    names = [name for name in get_args(Splitting) if name != "auto"]
    if rings < CLUSTERED:
        names.remove("cluster")
    return BenzenoidParts(_enumerated(rings), {name: _parted(rings, name) for name in names})


def _read(rings: int) -> BenzenoidParts | None:
    path = _PLACES.get(rings)
    if path is None:
        return None
    at = path.stat() if path.is_file() else None
    return _file(path, rings, (at.st_mtime_ns, at.st_size) if at else None)


@lru_cache(maxsize=4)
def _file(path: Path, rings: int, written: tuple[int, int] | None) -> BenzenoidParts:
    """What a file holds, as long as it is the one that was `written` then."""
    return read_parts(path, rings)


@lru_cache(maxsize=4)
def _enumerated(rings: int) -> Benzenoids:
    return benzenoids(rings)


@lru_cache(maxsize=4)
def _numbered(whole: Benzenoids) -> dict[str, int]:
    return {key: i for i, key in enumerate(whole.keys)}


@lru_cache(maxsize=8)
def _parted(rings: int, split: Splitting) -> Folds:
    whole, rng = _enumerated(rings), Rng(0).fold("benzenoids")
    if split == "labels":
        return label_folds(whole.gaps, rng, best="low")
    if split == "cluster":
        return cluster_folds(turn_counts(whole.cells.long()), rng)
    like = _parted(rings, "cluster" if rings >= CLUSTERED else "labels")
    return random_folds((len(like.train), len(like.validation), len(like.test)), rng)


def part(rings: int, split: Splitting, word: str) -> Benzenoids:
    """A part, by its name, one of `WORDS`."""
    whole = everything(rings)
    if word == "all":
        return whole
    found = folds(rings, split)
    if word == "others":
        return whole.select(torch.cat((found.validation, found.test)).sort().values)
    chosen: Tensor = getattr(found, word)
    return whole.select(chosen)


def rows_of(keys: Sequence[str], rings: int) -> Tensor:
    """Where in `everything` the structures of some keys are, int64, -1 for none such."""
    known = places(rings)
    return torch.tensor([known.get(key, -1) for key in keys], dtype=torch.int64)


def from_file(path: str, rings: int, labels: Sequence[str]) -> tuple[Benzenoids, str]:
    """The structures of a table, a row each, and the column of their keys.

    Args:
        path: of the table.
        rings: that they must have.
        labels: columns that hold labels.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no such column, or a key of no benzenoid of so many rings, by its line.
    """
    cells = read_cells(path)
    column = text_column(cells, "structure", labels)
    rows = rows_of(cells.column(column), rings)
    for row in (rows < 0).nonzero()[:1, 0].tolist():
        raise ValueError(
            f"{cells.where(row)}: {cells.column(column)[row]!r} is no key of a benzenoid of "
            f"{rings} rings; noiseloom sample writes keys, as data.keys does"
        )
    return everything(rings).select(rows), column


def distances(made: Sequence[str], known: Sequence[str], rings: int) -> Tensor:
    """1 - Tanimoto similarity of turn counts to the nearest known one, float64, shape (N,)."""
    cells = everything(rings).cells.long()
    ours, theirs = (turn_counts(cells[rows_of(keys, rings)]) for keys in (made, known))
    nearest = [tanimoto(some, theirs).amax(1) for some in torch.split(ours, _CHUNK)]
    return 1 - torch.cat(nearest)


def drawn_report(found: Structures, rings: int, split: Splitting) -> dict[str, float]:
    """What is told of drawn structures, beside those that are not for training.

    Args:
        found: what the points were taken for.
        rings: of each.
        split: of the run.

    Returns:
        valid: share that are benzenoids; distinct: how many different ones; novel: share of these
        that is not in the training part; outside: the same of all valid ones; gap and gap_best:
        mean true gap of the valid ones, and of the 100 different ones of the smallest gaps;
        gap_held_out and gap_best_held_out of what was held out, and gap_train of what was not. What
        is of valid ones is left out where there are none.
    """
    held, train = part(rings, split, "others"), part(rings, split, "train")
    report = {
        "valid": float(found.valid.double().mean()),
        "distinct": 0.0,
        "gap_held_out": float(held.gaps.mean()),
        "gap_best_held_out": _best(held.gaps),
        "gap_train": float(train.gaps.mean()),
        "gap_best_train": _best(train.gaps),
        "n": float(len(found)),
    }
    keys = [key for key in found.keys if key]
    if not keys:
        return report
    rows, known = rows_of(keys, rings), folds(rings, split).train
    different = torch.tensor(sorted(set(rows.tolist())))
    gaps = everything(rings).gaps
    return report | {
        "distinct": float(len(different)),
        "novel": float((~torch.isin(different, known)).double().mean()),
        "outside": float((~torch.isin(rows, known)).double().mean()),
        "gap": float(gaps[rows].mean()),
        "gap_best": _best(gaps[different]),
    }


def _best(gaps: Tensor) -> float:
    return float(gaps.sort().values[:_BEST].mean())
