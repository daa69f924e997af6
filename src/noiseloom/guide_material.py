"""What a guide is made of: labelled structures in two parts, context, and others to judge it by."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from noiseloom.data.labelled import disagreement
from noiseloom.guide_folder import guidable
from noiseloom.recipes import Labelled, keys_of
from noiseloom.rng import Rng
from noiseloom.run import Run
from noiseloom.training import Data

__all__ = ["JUDGING", "Material", "Picked", "Sources", "read_material"]

JUDGING = "shifted", "test"
"""Sources of labels that are judged by alone."""
_LEAST = 4
"""Different labelled structures: two to learn from, and two to judge by."""


@dataclass(frozen=True)
class Sources:
    """Files that a guide is made of, or words for what a recipe has itself.

    Attributes:
        labels: structures with labels; "" until the recipe's own are filled in.
        context: structures without.
        shifted: structures with labels, to judge by, of another domain.
        columns: that hold labels; None for the only one of numbers.
        test: others to judge by, that nothing is chosen by.
    """

    labels: str = ""
    context: str | None = None
    shifted: str | None = None
    columns: tuple[str, ...] | None = None
    test: str | None = None

    def plain(self) -> dict[str, Any]:
        """As values that a file can hold, with full paths."""
        paths = {n: getattr(self, n) for n in ("labels", "context", *JUDGING)}
        found: dict[str, Any] = {
            name: _whole(path) if path else None for name, path in paths.items()
        }
        return found | {"columns": list(self.columns) if self.columns else None}

    def completed(self, run: Run) -> "Sources":
        """With what the run's recipe has itself in place of files that were not named.

        Of other labels than its own it has none to judge by.

        Raises:
            ValueError: no labels.
        """
        own = dict(guidable(run).own_sources)
        if self.labels and self.labels != own.get("labels"):
            own = {name: path for name, path in own.items() if name not in JUDGING}
        rest: dict[str, Any] = {n: getattr(self, n) or own.get(n) for n in ("context", *JUDGING)}
        found = replace(self, labels=self.labels or own.get("labels", ""), **rest)
        if not found.labels:
            raise ValueError("guide needs --labels FILE: structures and numbers")
        return found


@dataclass(frozen=True, eq=False)
class Picked:
    """Some of the samples of a data set.

    Attributes:
        data: all.
        rows: int64, which.
    """

    data: Data
    rows: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, indices: Tensor) -> dict[str, Tensor]:
        """The samples at `indices`, in that order."""
        return self.data[self.rows[indices]]


@dataclass(frozen=True, eq=False)
class Material:
    """What was read.

    Attributes:
        learnt: to learn from.
        held_out: of the same file, to judge by.
        context: unlabelled structures, or None.
        judging: others to judge by, under "shifted" and "test".
        keys: of the structures "learnt" and "held_out".
        counts: how many there are of each; `shared` of the context that are labelled, too, and of
            each set to judge by, `shared_shifted`, and `unlabelled_shifted` in the context.
        digests: of what the files hold.
    """

    learnt: Labelled
    held_out: Labelled
    context: Data | None
    judging: dict[str, Labelled]
    keys: dict[str, list[str]]
    counts: dict[str, int]
    digests: dict[str, str]


def read_material(run: Run, sources: Sources, held_out: float) -> Material:
    """Read and part what a guide of a run is made of.

    Equal structures stay in one part. Which are held out depends on the file and the share alone.

    Args:
        run: of a recipe that can be guided.
        sources: the files.
        held_out: share of the labelled structures.

    Warns:
        UserWarning: structures of the context, or shifted ones, that are labelled, too; structures
            with several labels that differ.

    Raises:
        FileNotFoundError: no such file.
        ValueError: what cannot be read, with its line; too few different structures; labels of one
            value, or too far from those learnt; invalid structures; other properties in the shifted
            file.
    """
    recipe, facts = guidable(run), run.facts
    whole = recipe.labelled(sources.labels, facts, sources.columns)
    keys = _keys(run, whole, sources.labels)
    _warn_of_disagreement(keys, whole, sources.labels)
    held = _held(keys, held_out, sources.labels)
    places = [torch.tensor([i for i, h in enumerate(held) if h == flag]) for flag in (False, True)]
    learnt, rest = (_part(whole, rows) for rows in places)
    for j, name in enumerate(learnt.names):
        if (learnt.labels[:, j] == learnt.labels[0, j]).all():
            raise ValueError(
                f"{sources.labels}, column {name!r}: all labels but those held out are "
                f"{float(learnt.labels[0, j]):g}: there is nothing to learn"
            )
    _check_labels(learnt, learnt, sources.labels)
    _check_labels(rest, learnt, sources.labels)
    known, unlabelled = set(keys), set[str]()
    context, digests = None, {"labels": _digest(keys, whole.labels)}
    counts = {"learnt": len(learnt), "held_out": len(rest), "context": 0, "shared": 0}
    if sources.context is not None:
        context = recipe.unlabelled(sources.context, facts)
        if not len(context):
            raise ValueError(f"{sources.context} holds no structure")
        found = keys_of(recipe, run.parts, facts, context)
        unlabelled, digests["context"] = set(found), _digest(found)
        shared = len(known & unlabelled)
        counts |= {"context": len(context), "shared": shared}
        if shared:
            warnings.warn(
                f"{shared:,} of {len(unlabelled):,} structures of {sources.context} are "
                f"labelled in {sources.labels}, too: there the regulariser is in the way of the "
                "labels, and with a large weight the fit is lost; take them out, or keep --weight "
                "low",
                stacklevel=2,
            )
    judging = dict[str, Labelled]()
    for name in JUDGING:
        path = getattr(sources, name)
        if path is None:
            continue
        own = recipe.labelled(path, facts, whole.names)
        _check_labels(own, learnt, path)
        others = _keys(run, own, path)
        judging[name], digests[name] = own, _digest(others, own.labels)
        shared = len(known & set(others))
        counts |= {name: len(own), f"shared_{name}": shared}
        counts[f"unlabelled_{name}"] = len(unlabelled & set(others))
        if shared:
            warnings.warn(
                f"{shared:,} of {len(set(others)):,} structures of {path} are "
                f"labelled in {sources.labels}, too: the guide is judged by what it has learnt, "
                f"and the {name} figures are too good; take them out",
                stacklevel=2,
            )
    parted = {
        name: [keys[i] for i in rows.tolist()]
        for name, rows in zip(("learnt", "held_out"), places, strict=True)
    }
    return Material(learnt, rest, context, judging, parted, counts, digests)


def _whole(path: str) -> str:
    """A full path; a word that is no file as it is."""
    found = Path(path).expanduser()
    return str(found.resolve()) if found.exists() else path


def _keys(run: Run, labelled: Labelled, path: str) -> list[str]:
    found = keys_of(run.recipe, run.parts, run.facts, labelled.rows)
    for row, key in enumerate(found):
        if not key:
            raise ValueError(f"{labelled.place(path, row)}: the structure is not valid")
    return found


def _check_labels(labelled: Labelled, learnt: Labelled, path: str) -> None:
    """Refuse labels that are no float32 in the units that the guide counts in."""
    known, labels = learnt.labels.double(), labelled.labels.double()
    deviation = known.std(0, correction=0)
    scaled = ((labels - known.mean(0)) / deviation).float()
    # Not finite ones first: one that is learnt spoils the units of all others.
    for good in (labels.isfinite(), scaled.isfinite() & (deviation * deviation > 0)):
        if good.all():
            continue
        row, j = (int(i) for i in (~good).nonzero()[0])
        raise ValueError(
            f"{labelled.place(path, row)}, column {labelled.names[j]!r}: the label is "
            f"{float(labels[row, j]):g}, beyond float32 in deviations ({float(deviation[j]):.3g}) "
            "of the labels learnt from: leave the row out, or count in another unit"
        )


def _warn_of_disagreement(keys: Sequence[str], labelled: Labelled, path: str) -> None:
    found = disagreement(keys, labelled.labels)
    if found is None:
        return
    first, second = (f"{float(labelled.labels[row, found.column]):g}" for row in found.rows)
    lines = [str(labelled.lines[row]) for row in found.rows] if labelled.lines else []
    told = f"lines {' and '.join(lines)}, " if lines else ""
    warnings.warn(
        f"{found.count:,} of {len(set(keys)):,} structures of {path} have several labels that "
        f"differ, most at {told}column {labelled.names[found.column]!r}: {first} and {second}; of "
        "rows that are one structure to the run the guide learns the mean",
        stacklevel=3,
    )


def _held(keys: Sequence[str], share: float, path: str) -> list[bool]:
    """Which structures are held out, equal ones together."""
    different = list(dict.fromkeys(keys))
    if len(different) < _LEAST:
        raise ValueError(
            f"{path} has {len(different)} different structures, and at least {_LEAST} are needed"
        )
    count = min(max(round(share * len(different)), 2), len(different) - 2)
    order = Rng(0).fold("held out").permutation(len(different))
    chosen = {different[i] for i in order[:count].tolist()}
    return [key in chosen for key in keys]


def _part(whole: Labelled, rows: Tensor) -> Labelled:
    lines = tuple(whole.lines[i] for i in rows.tolist()) if whole.lines else ()
    return Labelled(Picked(whole.rows, rows), whole.labels[rows], whole.names, lines)


def _digest(keys: Sequence[str], labels: Tensor | None = None) -> str:
    found = blake2b("\n".join(keys).encode(), digest_size=8)
    if labels is not None:
        # As float32, by which earlier guides know theirs; whole where that takes digits away.
        rough = labels.float()
        short = any(
            len(a.unique()) < len(b.unique()) for a, b in zip(rough.T, labels.T, strict=True)
        )
        found.update((labels if short else rough).contiguous().numpy().tobytes())
    return found.hexdigest()
