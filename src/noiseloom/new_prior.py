"""Another prior of a run whose model has codes: in the place of the one that is there, or apart.

A prior that is there, and what is known of its samples, stay until the new one is finished, which
is made beside it (`prior_folder`). With a folder of its own the new one is another run's, with a
copy of the first stage.
"""

import contextlib
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from noiseloom.data import Split
from noiseloom.fit_prior import fit_prior
from noiseloom.prior_folder import (
    NEXT,
    PRIOR,
    begun_options,
    place_of_new,
    read_prior,
    remove_prior,
    replace_prior,
    write_prior,
)
from noiseloom.priors import PriorKind
from noiseloom.recipes import Classes, Facts, TwoStages
from noiseloom.run_folder import (
    claimed,
    describe,
    forget,
    is_free,
    read_description,
    recipe_of,
    same_data,
    write_text,
)
from noiseloom.terminal import say
from noiseloom.training import checkpoint

__all__ = ["make_prior"]

_FIRST = ("model.safetensors", "ema.safetensors", "metrics.jsonl", "ema_snapshots", "state")


def make_prior(
    run: Path,
    changes: dict[str, Any],
    *,
    data: str | None = None,
    force: bool = False,
    out: Path | None = None,
    command: str = "",
) -> dict[str, float]:
    """Make the prior of a run that has none, go on with one, or make another.

    What it is to be becomes a part of the run's description. A prior that is there, and what is
    known of its samples, are removed when the other one is finished.

    Args:
        run: the run's folder.
        changes: options of `PriorTraining` that differ from the run's.
        data: where the data lies; by default where training found it.
        force: replace the prior that is there, or begin again with one that was begun.
        out: folder of another run, with the first stage of this one, which stays as it is.
        command: what was typed, which the description of another run tells.

    Returns:
        The likelihoods of its codes.

    Raises:
        FileExistsError: there is a prior, or the beginning of another, and `force` is off; or there
            is something at `out`.
        ValueError: a run without codes, other data, or a prior that cannot be made; `force` and
            `out`.
    """
    described = read_description(run)
    stored, facts = recipe_of(described), described["facts"]
    if not isinstance(stored, TwoStages) or not stored.coded:
        why = f"it is a run of {stored.name!r}"
        if isinstance(stored, TwoStages):
            why = "it was trained with --m 0"
        if isinstance(stored, Classes):
            why = f"its state is {stored.state}, and codes are of state latent"
        raise ValueError(f"{run} has no codes for a prior to draw: {why}")
    place = PRIOR if out else place_of_new(run)
    begun = None if force or out else read_prior(run, place)
    going_on = begun is not None and place == NEXT
    base = replace(stored, **begun_options(run)) if going_on else stored
    recipe = replace(base, **changes)
    if recipe.prior == "none":
        raise ValueError(f"{run} is to have no prior: name one, --prior autoregressive")
    for name in sorted(changes.keys() & recipe.idle_of_prior):
        if changes[name] != getattr(base, name):
            told = recipe.idle_of_prior[name]
            raise ValueError(f"{name} changes nothing of {told}: leave it out")
    kind = recipe.prior_kind(facts)
    kind.make()  # what cannot be made takes the place of nothing
    kept = {name: described[name] for name in ("data", "command", "init_from")}
    kept["digests"] = described.get("digests") or {}
    kept["copied_from"] = described.get("copied_from")
    if out is not None:
        kept["copied_from"] = {"run": str(run.resolve()), "command": command}
    text = describe(recipe, facts, **kept)
    if out is not None:
        _check_free(out, force)
        split = _data(recipe, data or described["data"], facts, run)
        _begin(run, out, text)
    elif not force:
        _check_place(run, place, begun, other=recipe != base)
    with claimed(out or run), _or_nothing(out or run / NEXT, PRIOR if out else ""):
        if out is None:
            if place == NEXT and begun is None:
                remove_prior(run, NEXT)
                # At once: what is interrupted from here on has been begun, and goes on so.
                write_prior(run, kind, training=recipe, place=NEXT)
            split = _data(recipe, data or described["data"], facts, run)
            if force and place == PRIOR:
                remove_prior(run)
            if place == PRIOR and recipe != stored:
                write_text(run / "recipe.yaml", text)
        found = fit_prior(recipe, out or run, split, place)
        if place == NEXT:
            _change_places(run, text)
    if recipe.unmet_by_prior:
        name = recipe.unmet_by_prior.partition(" ")[0].replace("_", "-")
        say(f"note: {recipe.unmet_by_prior}: draw with --{name} 1")
    elif recipe.codes != "prior":
        say(f"note: samples of this run have codes {recipe.codes}: draw with --codes prior")
    return found


def _check_free(out: Path, force: bool) -> None:
    if force:
        raise ValueError(
            "--force replaces the prior of a run, --out makes one of another run: leave one of "
            "them out"
        )
    if not is_free(out):
        found = read_prior(out) if (out / "recipe.yaml").is_file() else None
        begun = (out / "recipe.yaml").is_file() and not (found and found[1])
        more = f"go on with noiseloom prior {shlex.quote(str(out))}, or " if begun else ""
        raise FileExistsError(f"{out} exists: {more}choose another --out")


def _check_place(
    run: Path, place: str, begun: tuple[PriorKind, dict[str, float]] | None, *, other: bool
) -> None:
    what = "has begun"
    if begun is None and place == NEXT:
        what, other, begun = "has", True, read_prior(run)
    if begun is not None and other:
        raise FileExistsError(
            f"{run} {what} a prior ({begun[0].kind}): replace it with --force, or give another run "
            "one with --out"
        )


@contextlib.contextmanager
def _or_nothing(folder: Path, stage: str) -> Iterator[None]:
    """Remove a new folder after an error, unless it has a checkpoint of a prior to go on from."""
    try:
        yield
    except Exception:
        if checkpoint.newest(folder / stage / "state") is None:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _data(recipe: TwoStages, path: str | None, facts: Facts, run: Path) -> Split[Any]:
    split = recipe.load(path)
    if not same_data(split, facts):
        raise ValueError(
            f"the data are not those {run} was trained on: name those with --data, their codes "
            "are what its prior learns"
        )
    return split


def _begin(run: Path, out: Path, text: str) -> None:
    """A run with the first stage of another one, made beside its folder: whole or not there."""
    part = out.with_name(f".{out.name}.part")
    copy = part / out.name
    try:
        with claimed(part), _or_no_copy(copy):
            with claimed(run):  # nobody trains it meanwhile
                _copy_first_stage(run, copy)
            write_text(copy / "recipe.yaml", text)
            with claimed(out):  # nor has anybody begun there
                _check_free(out, force=False)
                for left in out.glob(".*.part"):
                    left.unlink()
            if out.is_dir():
                out.rmdir()
            copy.rename(out)
    finally:
        with contextlib.suppress(OSError):  # there is none, or another process is at it
            part.rmdir()


@contextlib.contextmanager
def _or_no_copy(copy: Path) -> Iterator[None]:
    """Half a copy is none: not after a kill, nor after an error or Ctrl-C."""
    shutil.rmtree(copy, ignore_errors=True)
    try:
        yield
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def _copy_first_stage(run: Path, out: Path) -> None:
    """Weights and checkpoints, which nobody writes to, get second names; records are copied."""

    def second(source: str, target: str) -> str:
        checkpoint.place(Path(source), Path(target))
        return target

    out.mkdir()
    for path in (run / name for name in _FIRST):
        if path.is_dir():
            shutil.copytree(path, out / path.name, copy_function=second)
        elif path.suffix == ".safetensors" and path.exists():
            checkpoint.place(path, out / path.name)
        elif path.exists():
            shutil.copyfile(path, out / path.name)


def _change_places(run: Path, text: str) -> None:
    """Put the next prior, which is finished, and its description into place; again after a kill."""
    try:
        old = read_prior(run)
    except ValueError:  # damaged
        old = None
    known = forget(run)
    of = f"{old[0].kind} prior" if old else "old prior"
    say(f"removed with the {of}: {', '.join(known)}" if known else f"removed: the {of}")
    write_text(run / "recipe.yaml", text)
    replace_prior(run)
