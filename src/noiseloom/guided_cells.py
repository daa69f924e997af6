"""Cells of a table of guides: samples of one guide at one scale and seed, judged and kept.

A cell's file is named after what decides it, and holds that: weights of run and guide, how they
lead, how many samples of which seed are drawn. So what is there is never drawn again, whatever
differs is another cell, and guides that two choices have made alike share theirs. By which version
and commit it was judged does not decide, but is kept in it, for the table to say.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from noiseloom.commands import load
from noiseloom.found_guides import GuideFolder
from noiseloom.guide_folder import GuideRecord, foreign_labels, guidable
from noiseloom.guided_drawing import led_samples
from noiseloom.guided_figures import Aim, led_figures
from noiseloom.ranking import keys_of_data, said_of
from noiseloom.recipes import Guiding, keys_of
from noiseloom.run import Run
from noiseloom.run_folder import digest, write_text
from noiseloom.steering import aim_of, load_guides
from noiseloom.table import source as made_with

__all__ = [
    "Cell",
    "Found",
    "aims_of",
    "by_today",
    "check_truth",
    "forget",
    "judged",
    "kept",
    "place",
]

_BATCH = 512


@dataclass(frozen=True)
class Cell:
    """What is to be drawn and judged.

    Attributes:
        source: the run.
        changes: its sampling options that differ, by name.
        guide: folder of the guide; of an unguided cell one that says what is wanted.
        options: how it leads; at scale 0 it does not.
        n: number of samples.
        seed: of the draws.
        truth: a table of labels that are true, or None for what the recipe knows of its own.
        file: where it is kept.
    """

    source: str
    changes: tuple[tuple[str, Any], ...]
    guide: str
    options: Guiding
    n: int
    seed: int
    truth: str | None
    file: Path


@dataclass(frozen=True)
class Found:
    """What became of a cell.

    Attributes:
        cell: which.
        figures: of it.
        failed: why there are none.
        by: version and commit that it was judged by, as `by_today` says them; "" if not known.
    """

    cell: Cell
    figures: dict[str, float]
    failed: str = ""
    by: str = ""


def aims_of(records: Sequence[GuideRecord], options: Guiding) -> list[Aim]:
    """What is wanted of each property, but of those that do not matter.

    Raises:
        ValueError: not one target for each property.
    """
    aim_of(records, options)  # which refuses what cannot be asked
    names = [name for record in records for name in record.names]
    best = {
        word: [value for record in records for value in record.labels[key]]
        for word, key in (("minimise", "lowest"), ("maximise", "highest"))
    }
    return [
        Aim(name, target, best[target][i] if isinstance(target, str) else None)
        for i, (name, target) in enumerate(zip(names, options.targets(), strict=True))
        if target is not None
    ]


def place(root: Path, run: Run, guide: GuideFolder, name: str, cell: Cell) -> Cell:
    """A cell with its file, `cells/NAME-HASH.json` of a folder, by all that decides it."""
    options = run.recipe.changeable()
    decides = {
        "run": _weights(run.folder),
        "guide": _weights(guide.folder) if cell.options.scale else None,
        "guiding": asdict(cell.options),
        "noisiest": guide.record.options.noisiest,
        "labels": {key: list(v) for key, v in guide.record.labels.items()},
        "sampling": {k: getattr(run.recipe, k) for k in options if k != "samples"},
        "n": cell.n,
        "seed": cell.seed,
        "truth": digest(cell.truth) or cell.truth if cell.truth else None,
    }
    if cell.truth is None and foreign_labels(run, [guide.record]):
        decides["truth"] = ""  # cells of old had what the recipe knows of another label
    text = json.dumps(decides, sort_keys=True, default=str)
    ending = blake2b(text.encode(), digest_size=5).hexdigest()
    return replace(cell, file=root / "cells" / f"{name}-{ending}.json")


def _weights(folder: Path) -> str:
    return digest(str(folder / "ema.safetensors"))


def kept(cell: Cell) -> Found | None:
    """What was found before, or None.

    Raises:
        ValueError: a damaged file.
    """
    if not cell.file.is_file():
        return None
    try:
        told = json.loads(cell.file.read_text(encoding="utf-8"))
        figures: dict[str, float] = told["found"]
        by: str = told.get("by", "")  # cells of old have none
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{cell.file} is damaged: remove it, and it is made again") from error
    return Found(cell, figures, by=by)


def by_today() -> str:
    """The version and the commit of this package, in words."""
    told = made_with()
    return f"noiseloom {told['noiseloom']} ({told['git'] or 'no commit'})"


def judged(cells: Sequence[Cell]) -> list[Found]:
    """Draw and judge cells of one guide and keep each as it is done; work for a process."""
    found, today = [], by_today()
    for cell in cells:
        try:
            there = kept(cell)
            if there is None:
                there = Found(cell, _judge(cell), by=today)
                told = {**asdict(cell), "file": cell.file.name, "by": today}
                told["found"] = there.figures
                cell.file.parent.mkdir(parents=True, exist_ok=True)
                write_text(cell.file, json.dumps(told, indent=1, default=str) + "\n")
            found.append(there)
        except Exception as error:  # a scale that throws samples out is not the end of the others
            kind = "" if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: "
            found.append(Found(cell, {}, kind + " ".join(str(error).split())))
    return found


@lru_cache(maxsize=1)
def _run(source: str, changes: tuple[tuple[str, Any], ...]) -> tuple[Run, set[str] | None]:
    run = load(source)
    trained = keys_of_data(run, held_out=False)
    return run.with_options(**dict(changes)), trained


@lru_cache(maxsize=1)
def _known(source: str, truth: str, names: tuple[str, ...]) -> dict[str, list[float]]:
    """True labels of a table, by key."""
    run = load(source)
    labelled = guidable(run).labelled(truth, run.facts, names)
    keys = keys_of(run.recipe, run.parts, run.facts, labelled.rows)
    return dict(zip(keys, labelled.labels.double().tolist(), strict=True))


def check_truth(source: str, truth: str, names: tuple[str, ...]) -> int:
    """How many structures a table of true labels has; forgets what was read before.

    Raises:
        FileNotFoundError: no such file.
        ValueError: what cannot be read.
    """
    _known.cache_clear()
    return len(_known(source, truth, names))


def forget() -> None:
    """Read runs anew: they may have changed since another command of this process."""
    _run.cache_clear()
    _known.cache_clear()


def _judge(cell: Cell) -> dict[str, float]:
    run, trained = _run(cell.source, cell.changes)
    guide, records = load_guides(run, cell.guide)
    recipe, aims = guidable(run), aims_of(records, cell.options)
    given = {"row": torch.arange(cell.n)}
    data = led_samples(run, guide, records, cell.options, given, cell.seed, _BATCH)
    keys = recipe.keys(run.parts, run.facts, data)
    names = tuple(name for record in records for name in record.names)
    truths: dict[str, Tensor] = {}
    if cell.truth is not None:
        truths = _looked_up(keys, _known(cell.source, cell.truth, names), names)
    elif not foreign_labels(run, records):
        truths = recipe.true_values(run.parts, run.facts, data)
    order, said = None, None
    first = torch.tensor([*{k: i for i, k in reversed([*enumerate(keys)]) if k}.values()])
    if cell.options.scale and len(first):
        told = said_of(run, guide, data[first.sort().values])
        order = aim_of(records, cell.options)(told).argsort(descending=True, stable=True)
        said = {name: told.mean[:, i].double() for i, name in enumerate(names)}
    return led_figures(keys, aims, truths, trained, order, said)


def _looked_up(
    keys: Sequence[str], known: Mapping[str, list[float]], names: Sequence[str]
) -> dict[str, Tensor]:
    nothing = [float("nan")] * len(names)
    rows = torch.tensor([known.get(key, nothing) for key in keys], dtype=torch.float64)
    return {name: rows[:, i] for i, name in enumerate(names)}
