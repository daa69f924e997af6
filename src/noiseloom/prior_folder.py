"""The prior of a run, in the folder `prior` of the run's: what lies in it.

    prior.yaml            which kind, for what codes, of what size; under `options` how it is
                          trained; once it is finished, under `likelihoods`, how many bits a
                          sample's codes take it
    codes.safetensors     the codes that it learns, drawn once by the run's averaged encoder
    ema.safetensors       its averaged weights, or its table: what draws
    model.safetensors, metrics.jsonl, state/    of its training, as in a run

A prior that is not finished counts as none. One that is knows nothing of the run's weights: it goes
when these change. What is to take its place lies in `prior.next` until it is finished.
"""

import shlex
import shutil
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

import torch
import yaml

from noiseloom.priors import Prior, PriorKind, check_prior
from noiseloom.recipes import Facts, PriorTraining, Recipe, TwoStages
from noiseloom.run_folder import write_text
from noiseloom.terminal import say
from noiseloom.training import checkpoint

__all__ = [
    "NEXT",
    "PRIOR",
    "awaits_prior",
    "begun_options",
    "load_prior",
    "place_of_new",
    "read_prior",
    "remove_prior",
    "replace_prior",
    "write_prior",
]

PRIOR, NEXT = "prior", "prior.next"
_FILE = "prior.yaml"


def awaits_prior(recipe: Recipe, run: Path) -> bool:
    """Whether a run is to have a prior, and has none that is finished."""
    if not isinstance(recipe, TwoStages) or not recipe.wants_prior:
        return False
    found = read_prior(run)
    return found is None or not found[1]


def read_prior(run: Path, place: str = PRIOR) -> tuple[PriorKind, dict[str, float]] | None:
    """Which prior a run has, and its likelihoods, none before it is finished; or None.

    Args:
        run: the run's folder.
        place: in it, of the prior or of the next one.

    Raises:
        ValueError: its description is damaged.
    """
    found = _read(run, place)
    return None if found is None else found[:2]


def begun_options(run: Path) -> dict[str, Any]:
    """Options of `PriorTraining` of a run's next prior; none if there is no such prior.

    Raises:
        ValueError: its description is damaged.
    """
    found = _read(run, NEXT)
    return {} if found is None else found[2]


def place_of_new(run: Path) -> str:
    """Where a new prior of a run is made: beside one that is there until it is finished."""
    if (run / NEXT / _FILE).is_file():
        return NEXT
    try:
        found = read_prior(run)
    except ValueError:  # what is damaged may have been finished
        return NEXT
    return NEXT if found is not None and found[1] else PRIOR


def write_prior(
    run: Path,
    kind: PriorKind,
    likelihoods: dict[str, float] | None = None,
    *,
    training: PriorTraining | None = None,
    place: str = PRIOR,
) -> None:
    """Describe a prior of a run, and how it is trained; with likelihoods it is finished."""
    found: dict[str, Any] = asdict(kind)
    if training is not None:
        names = [field.name for field in fields(PriorTraining)]
        found["options"] = {name: getattr(training, name) for name in names}
    if likelihoods:
        found["likelihoods"] = likelihoods
    (run / place).mkdir(exist_ok=True)
    write_text(run / place / _FILE, yaml.safe_dump(found, sort_keys=False))


def remove_prior(run: Path, place: str = PRIOR) -> None:
    """Remove a run's prior, its description first: half a prior is none."""
    (run / place / _FILE).unlink(missing_ok=True)
    shutil.rmtree(run / place, ignore_errors=True)


def replace_prior(run: Path) -> None:
    """Put the next prior of a run, which is finished, into its place."""
    old = f".{PRIOR}.old"
    remove_prior(run, old)  # that a kill may have left
    if (run / PRIOR).exists():
        (run / PRIOR).rename(run / old)
    (run / NEXT).rename(run / PRIOR)
    remove_prior(run, old)


def load_prior(
    run: Path, recipe: Recipe, facts: Facts, device: torch.device | str = "cpu"
) -> Prior | None:
    """The prior of a run, ready to draw; None where there is none that is finished.

    A finished one that a kill has kept from its place is spoken of: the run's description may be
    of that already.

    Raises:
        FileNotFoundError: its weights are missing.
        ValueError: it is for other codes or classes than the run's model, or damaged.
    """
    coded = isinstance(recipe, TwoStages) and recipe.coded
    if coded and (finished := _kind_of_finished(run)):
        remedy = f"noiseloom prior {shlex.quote(str(run))}"
        say(f"{run}: another prior ({finished}) is finished, and not in its place yet: {remedy}")
    found = read_prior(run) if coded else None
    if found is None or not found[1]:
        return None
    path = run / PRIOR / "ema.safetensors"
    assert isinstance(recipe, TwoStages)
    classes = recipe.classes_told(facts)
    try:
        prior = found[0].make()
        check_prior(prior, recipe.m, recipe.k, classes)
    except ValueError as error:
        raise ValueError(f"{path.parent}: {error}: noiseloom prior {run} --force") from error
    try:
        checkpoint.restore(prior, path)
    except (ValueError, FileNotFoundError) as error:
        remedy = f"restore it from a copy, or make it again with noiseloom prior {run} --force"
        told = str(error).partition(": restore")[0]
        raise type(error)(f"{told}: {remedy}") from error
    return prior.to(device).eval().requires_grad_(False)


def _kind_of_finished(run: Path) -> str:
    """The kind of a next prior that has only its place to take; nothing if there is none."""
    try:
        found = read_prior(run, NEXT)
    except ValueError:  # a damaged one is begun again, and the run has nothing to do with it
        return ""
    return found[0].kind if found is not None and found[1] else ""


def _read(run: Path, place: str) -> tuple[PriorKind, dict[str, float], dict[str, Any]] | None:
    path = run / place / _FILE
    if not path.is_file():
        return None
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        if found is None:
            raise ValueError("it says nothing")
        _check_names(found)
        likelihoods, options = found.pop("likelihoods", {}), found.pop("options", {})
        if place == NEXT:  # of others they are for the reader
            _check_names(options, PriorTraining)
            try:
                PriorTraining(**options)
            except TypeError as error:
                raise ValueError("options of it are of a wrong type") from error
        _check_names(found, PriorKind)
        return PriorKind(**found), likelihoods, options
    except (yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{path} does not describe a prior ({reason}): make it again with noiseloom prior "
            f"{run} --force"
        ) from error


def _check_names(found: object, kind: type[PriorKind] | type[PriorTraining] | None = None) -> None:
    if not isinstance(found, dict):
        raise ValueError("it is no list of names and their values")
    if kind is None:
        return
    missing = [f.name for f in fields(kind) if f.default is MISSING and f.name not in found]
    if missing:
        raise ValueError(f"it does not say {', '.join(missing)}")
    unknown = found.keys() - {field.name for field in fields(kind)}
    if unknown:
        raise ValueError(f"it says {', '.join(sorted(map(str, unknown)))}, which is not known")
