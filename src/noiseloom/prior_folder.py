"""The prior of a run, in the folder `prior` of the run's: what lies in it.

    prior.yaml            which kind, for what codes, of what size; once it is finished, under
                          `likelihoods`, how many bits a sample's codes take it
    codes.safetensors     the codes that it learns, drawn once by the run's averaged encoder
    ema.safetensors       its averaged weights, or its table: what draws
    model.safetensors, metrics.jsonl, state/    of its training, as in a run

A prior that is not finished counts as none. One that is knows nothing of the run's weights: it goes
when these change.
"""

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import yaml

from noiseloom.priors import Prior, PriorKind, check_prior
from noiseloom.recipes import Facts, Recipe, TwoStages
from noiseloom.run_folder import write_text
from noiseloom.training import checkpoint

__all__ = [
    "PRIOR",
    "awaits_prior",
    "load_prior",
    "read_prior",
    "remove_prior",
    "write_prior",
]

PRIOR = "prior"
_FILE = "prior.yaml"


def awaits_prior(recipe: Recipe, run: Path) -> bool:
    """Whether a run is to have a prior, and has none that is finished."""
    if not isinstance(recipe, TwoStages) or not recipe.wants_prior:
        return False
    found = read_prior(run)
    return found is None or not found[1]


def read_prior(run: Path) -> tuple[PriorKind, dict[str, float]] | None:
    """Which prior a run has, and its likelihoods, none before it is finished; or None.

    Raises:
        ValueError: its description is damaged.
    """
    path = run / PRIOR / _FILE
    if not path.is_file():
        return None
    try:
        found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        likelihoods = found.pop("likelihoods", {})
        return PriorKind(**found), likelihoods
    except (yaml.YAMLError, AttributeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{path} does not describe a prior ({reason}): make it again with noiseloom prior "
            f"{run} --force"
        ) from error


def write_prior(run: Path, kind: PriorKind, likelihoods: dict[str, float] | None = None) -> None:
    """Describe the prior of a run; with likelihoods it is finished."""
    found = asdict(kind) | ({"likelihoods": likelihoods} if likelihoods else {})
    (run / PRIOR).mkdir(exist_ok=True)
    write_text(run / PRIOR / _FILE, yaml.safe_dump(found, sort_keys=False))


def remove_prior(run: Path) -> None:
    """Remove a run's prior, its description first: half a prior is none."""
    (run / PRIOR / _FILE).unlink(missing_ok=True)
    shutil.rmtree(run / PRIOR, ignore_errors=True)


def load_prior(
    run: Path, recipe: Recipe, facts: Facts, device: torch.device | str = "cpu"
) -> Prior | None:
    """The prior of a run, ready to draw; None where there is none that is finished.

    Raises:
        FileNotFoundError: its weights are missing.
        ValueError: it is for other codes or classes than the run's model, or damaged.
    """
    found = read_prior(run) if isinstance(recipe, TwoStages) and recipe.coded else None
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
    checkpoint.restore(prior, path)
    return prior.to(device).eval().requires_grad_(False)
