"""From a recipe to a trained run in a folder, begun or gone on with."""

import contextlib
import json
import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import torch

from noiseloom import training
from noiseloom.begin import start
from noiseloom.data import Split
from noiseloom.fit_prior import fit_prior
from noiseloom.latents import numbering_note
from noiseloom.prior_folder import NEXT, PRIOR, awaits_prior, remove_prior
from noiseloom.recipes import Facts, Recipe, TwoStages
from noiseloom.run_folder import check_free, claimed, forget, read_description, recipe_of
from noiseloom.table import device
from noiseloom.terminal import say
from noiseloom.training import checkpoint
from noiseloom.training.tracking import Record

__all__ = [
    "MAIN",
    "Options",
    "absolute",
    "all_or_nothing",
    "finished",
    "fit",
    "resumed",
    "use_threads",
]

Options: TypeAlias = Mapping[str, Any]
"""Options of a recipe that were given, by name."""

MAIN = os.environ.get("RANK", "0") == "0"
"""Whether this is the main process of several."""


def resumed(out: Path, options: Options, kind: type[Recipe] | None = None) -> Recipe:
    """The recipe of a run that is to go on; of its options only `steps` may change.

    Raises:
        FileNotFoundError: no run there.
        ValueError: another recipe, or an option that differs from the run's.
    """
    described = read_description(out)
    name, file = described["recipe"], described.get("file")
    if kind is not None and kind.name != name:
        right = f"./{Path(file).name}" if file else name
        raise ValueError(
            f"{out} is a run of recipe {name!r}, and {kind.name!r} was asked for: name {right}, or "
            "another folder"
        )
    stored = recipe_of(described, kind)
    asked = {
        k: _file(v, described["data"] if k in stored.in_data else None) if k in stored.paths else v
        for k, v in options.items()
    }
    changed = {
        k: v for k, v in options.items() if k != "steps" and getattr(stored, k) not in (v, asked[k])
    }
    if changed:
        told = ", ".join(
            f"--{name.replace('_', '-')} {getattr(stored, name)}, not {value}"
            for name, value in changed.items()
        )
        raise ValueError(
            f"{out} was begun with {told}: leave that out (only --steps may change), or train "
            "another run"
        )
    return replace(stored, steps=options.get("steps", stored.steps))


def use_threads(recipe: Recipe) -> None:
    """Give the process the number of CPU threads that a recipe asks for."""
    if recipe.threads:
        torch.set_num_threads(recipe.threads)


def fit(
    recipe: Recipe,
    out: Path,
    *,
    command: str,
    data: str | None = None,
    init_from: str | None = None,
    resume: bool = False,
    judge: bool = False,
    said: set[str] | None = None,
) -> None:
    """Make a run's updates, those that are left, and the prior over its codes if it has some.

    See `train` and `fit_prior`. A new run that fails before its first checkpoint leaves nothing
    behind. What of the data is in `said` is not said again, and all that is said goes there.

    Raises:
        FileExistsError: a new run in a folder that holds something, or another process there.
        ValueError: what cannot be gone on with, or trained; another `init_from` than the run's.
    """
    use_threads(recipe)
    if resume:
        begun = read_description(out)["init_from"]
        if init_from is not None and absolute(init_from) != begun:
            told = f"with --init-from {begun}" if begun else "without --init-from"
            raise ValueError(
                f"{out} was begun {told}, not from {init_from}: leave that out, or train another "
                "run"
            )
    elif MAIN:
        check_free(out)
    with claimed(out) if MAIN else contextlib.nullcontext():
        _fit(recipe, out, command, data, init_from, resume, judge, set() if said is None else said)


def say_data(recipe: Recipe, split: Split[Any], said: set[str]) -> None:
    """Say what people should know of the data, but for what has been said; all of it goes there."""
    for text in (*(f"data: {note}" for note in split.notes), recipe.introduce(split)):
        if text and text not in said:
            say(text)
            said.add(text)


def finished(recipe: Recipe, out: Path) -> bool:
    """Whether a run has made all its updates, and has the prior that it is to have."""
    newest = checkpoint.newest(out / "state")
    made = newest is not None and newest.name == f"step-{recipe.steps:08d}"
    return made and not awaits_prior(recipe, out)


def _fit(
    recipe: Recipe,
    out: Path,
    command: str,
    data: str | None,
    init_from: str | None,
    resume: bool,
    judge: bool,
    said: set[str],
) -> None:
    described = read_description(out) if resume else {}
    newest = checkpoint.newest(out / "state") if resume else None
    made = int(newest.name.removeprefix("step-")) if newest else 0
    if made > recipe.steps:
        raise ValueError(f"{out} has made {made} steps already: --steps must be more than that")
    if newest:
        checkpoint.load(newest)  # what is damaged must not take the place of what is not
    if newest and MAIN:  # killed just after a checkpoint, it may not have put its weights in place
        checkpoint.publish(newest, out)
    if resume and finished(recipe, out):
        more = "--steps N" if recipe.decay == "constant" else f"a new run with --init-from {out}"
        say(f"{out} is finished: it has made its {made} steps (for more, {more})")
        return
    if resume and recipe.decay == "cosine" and recipe.steps != described["options"]["steps"]:
        say("the learning rate falls over all steps: it goes on as that of the longer run")
    if resume:
        data, command = absolute(data) or described["data"], described["command"]
        init_from = described["init_from"]
    else:
        data, init_from = absolute(data), absolute(init_from)
        recipe = _with_files(recipe, data)
    split = recipe.load(data)
    if not isinstance(split, Split):
        raise TypeError(
            f"load of recipe {recipe.name!r} must return a noiseloom.data.Split, not "
            f"{type(split).__name__}"
        )
    if MAIN:
        say_data(recipe, split, said)
    if judge:
        _check(recipe, resume)
    facts = json.loads(json.dumps({**recipe.facts(split), "fingerprint": split.fingerprint()}))
    if resume and _learnt(facts) != _learnt(described["facts"]):
        raise ValueError(
            f"the data are not those {out} was trained on: with others, held-out samples would "
            "become training ones; train another run, with --init-from to start from its weights"
        )
    facts = described["facts"] if resume else json.loads(json.dumps(recipe.settled(facts)))
    if isinstance(recipe, TwoStages) and recipe.wants_prior:
        recipe.prior_kind(facts).make()  # what cannot be made is refused before the first stage
    if made < recipe.steps:
        with contextlib.nullcontext() if resume else all_or_nothing(out):
            _first_stage(recipe, facts, out, split, data, command, init_from, resume, made)
    if isinstance(recipe, TwoStages) and awaits_prior(recipe, out):
        fit_prior(recipe, out, split)


def _learnt(facts: Facts) -> Facts:
    """Facts of the data alone, but for why columns are left out: a written schema has its own."""
    found = {name: value for name, value in facts.items() if name != "derived"}
    words = facts.get("vocabulary")
    if isinstance(words, Mapping):
        found["vocabulary"] = {name: v for name, v in words.items() if name != "left_out"}
    return found


def _check(recipe: Recipe, resume: bool) -> None:
    try:
        recipe.check()
    except ValueError as error:
        if not resume:
            raise
        raise ValueError(
            f"{error}; of a run that was begun only --steps may change: go on with --no-evaluate"
        ) from None


def _first_stage(
    recipe: Recipe,
    facts: Facts,
    out: Path,
    split: Split[Any],
    data: str | None,
    command: str,
    init_from: str | None,
    resume: bool,
    made: int,
) -> None:
    parts = start(
        recipe, facts, out, data=data, command=command, init_from=init_from, resume=resume
    )
    if MAIN:
        count = sum(p.numel() for p in parts.denoiser.parameters())
        begun = f"going on after step {made}" if made else "training"
        size = f"{count:,} parameters, {len(split.train):,} samples"
        say(f"{begun}: {recipe.name}, {size}, on {device()}")
        if isinstance(recipe, TwoStages) and recipe.coded:
            note = numbering_note(recipe.m, recipe.k, len(split.train))
            if note:
                say(f"note: {note}")
    board = training.TensorBoard.installed()
    trackers: list[training.Tracker] = [_Outdated(out)]
    trackers += recipe.trackers()
    trackers += [training.TensorBoard(out / "tensorboard")] if board else []
    loss = recipe.loss(parts, facts)
    updates = training.train(
        parts.denoiser, loss, split.train, recipe, out, resume=resume, trackers=trackers
    )
    for _ in training.show(updates):
        pass


class _Outdated:
    """Removes what is of other weights once there are updates: all that is known, and the prior."""

    def __init__(self, out: Path) -> None:
        self.out = out

    def write(self, records: Sequence[Record]) -> None:
        forget(self.out)
        for place in (PRIOR, NEXT):
            remove_prior(self.out, place)

    def close(self) -> None:
        pass


def absolute(path: str | None) -> str | None:
    """A path that means the same from any folder; other names are left as they are."""
    return str(Path(path).expanduser().resolve()) if path and Path(path).exists() else path


def _file(value: str, data: str | None) -> str:
    """An option that names a file: from any folder the same, or as it lies within `data`."""
    if not Path(value).suffix or _holds(data, value) or not Path(value).is_file():
        return value  # a name, perhaps that of a folder that happens to be there
    path, root = Path(value).resolve(), Path(data or ".").resolve()
    return path.relative_to(root).as_posix() if data and root in path.parents else str(path)


def _holds(data: str | None, name: str) -> bool:
    """Whether a folder or zip file of data has a file of that name, which then comes first."""
    if not data or Path(name).is_absolute():
        return False
    if Path(data).is_dir() or not zipfile.is_zipfile(data):
        return (Path(data) / name).is_file()
    try:
        with zipfile.ZipFile(data) as archive:
            return name in archive.namelist()
    except zipfile.BadZipFile:  # which loading says better
        return False


def _with_files(recipe: Recipe, data: str | None) -> Recipe:
    """A recipe whose files mean the same from any folder."""
    changes: dict[str, Any] = {
        k: _file(getattr(recipe, k), data if k in recipe.in_data else None) for k in recipe.paths
    }
    return replace(recipe, **changes)


@contextlib.contextmanager
def all_or_nothing(out: Path) -> Iterator[None]:
    """Remove a new folder after an error, unless there is a checkpoint of a stage to go on from."""
    try:
        yield
    except Exception:
        stages = [out / "state", *out.glob("*/state")]
        if MAIN and all(checkpoint.newest(stage) is None for stage in stages):
            shutil.rmtree(out, ignore_errors=True)
        raise
