"""Equal measured cost: as many updates of each run as a person's budget of training time pays for.

Before anything is trained, an update of every run is timed by the loop that trains it, all of them
in turn, so that whatever else the machine does hits all alike, and the median is taken; so all are
in memory at once. On a GPU each has a process of its own, as it has where it is trained: compiled
networks and recorded graphs that share a process are slower than they are alone. The number of
updates that this makes is fixed from then on: it is kept in a file, and a comparison that goes on
reads it there. What is trained depends on no clock after that.

A run of two stages has one budget: its prior gets a quarter of it at most, reading samples for
their codes among it, and the first stage what is left. A table, which is counted, is of so many
samples as can be read in that quarter.
"""

import bisect
import contextlib
import json
import math
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from noiseloom.fit import absolute
from noiseloom.jobs import Aside
from noiseloom.pace import (
    MEASURED,
    READ,
    WARM_UP,
    Timing,
    in_turns,
    prior_updates,
    readings,
    updates,
)
from noiseloom.recipes import Recipe, TwoStages
from noiseloom.run_folder import same_data, write_text
from noiseloom.table import device
from noiseloom.terminal import say

__all__ = ["SHARE", "STATES", "check_budget", "updates_within"]

SHARE = 0.25
"""Of the budget of a run of two stages, at most: what its prior takes."""
STATES = 60.0
"""Seconds of training of each kind of state, where nobody says how long or how many updates."""
_PRIOR, _CODES = "the prior of ", "the codes of "
_COUNTS = ("steps", "prior_steps", "prior_samples")


def check_budget(seconds: float) -> None:
    """Raise ValueError if it is no time to train for."""
    if not 0 < seconds < math.inf:
        raise ValueError(f"--budget must be seconds above 0, got {seconds:g}")


def updates_within(
    seconds: float,
    recipes: Mapping[str, Recipe],
    file: Path,
    *,
    titles: Mapping[str, str],
    data: str | None,
    jobs: int,
    recipe_file: str | None = None,
) -> dict[str, dict[str, Any] | Exception]:
    """How many updates of each run a budget pays for: measured once, and kept in a file.

        updates = floor((budget - those of a prior) / seconds of one)

    Args:
        seconds: the budget, > 0.
        recipes: runs by name.
        file: where the numbers are kept; runs that are there already are not measured again.
        titles: of each, what people call it.
        data: where the data lies.
        jobs: runs that will share the CPU's threads.
        recipe_file: file that defines the recipe, if it is not this package's.

    Returns:
        Of each the options that say its updates, `steps` and of a run of two stages `prior_steps`,
        or `prior_samples` of a table that has not the time for all; or what is wrong with it.

    Raises:
        ValueError: the file is of another budget or device, or damaged.
        FileExistsError: it is of other data.
    """
    check_budget(seconds)
    kept = _read(file)
    if kept and kept["budget"] != seconds:
        raise ValueError(
            f"{file.parent} was begun with --budget {kept['budget']:g}: give the same, or choose "
            "another --out"
        )
    origin = {"data": absolute(data), "bytes": _bytes(data)}  # also where other runs are asked for
    if any(kept.get(what, value) != value for what, value in origin.items()):
        raise FileExistsError(f"{file} was measured on other data: choose another --out")
    known = kept.get("cells", {})
    new = {name: recipe for name, recipe in recipes.items() if name not in known}
    told = next((n for n in recipes if "fingerprint" in known.get(n, {})), None)  # as all others
    if told is not None and not same_data(recipes[told].load(data), known[told]):
        raise FileExistsError(f"{file} was measured on other data: choose another --out")
    failed: dict[str, Exception] = {}
    if new:
        here = {"device": device(), "torch": torch.__version__}
        for what, value in here.items() if kept else ():
            if kept[what] != value:
                raise ValueError(
                    f"{file} was measured with {kept[what]}, and this is {value}: runs that are "
                    "added would not cost as much; choose another --out"
                )
        kept = kept or {"budget": seconds, **here, **origin, "cells": {}}
        timings = _measured(new, data, jobs, recipe_file)
        for name, recipe in new.items():
            try:
                split = recipe.load(data)
                kept["cells"][name] = {
                    **_afforded(seconds, recipe, name, timings, len(split.train)),
                    "threads": _threads(recipe, jobs),
                    "fingerprint": split.fingerprint(),
                }
            except Exception as error:  # of timing, too
                failed[name] = error
        if len(failed) < len(new):
            file.parent.mkdir(parents=True, exist_ok=True)
            write_text(file, json.dumps(kept, indent=1) + "\n")
    for name in recipes:
        if name in kept["cells"]:
            one = kept["cells"][name]
            source = "measured now" if name in new else f"as in {file.name}"
            prior = f" and {one['prior_steps']:,} of its prior" if "prior_steps" in one else ""
            if "read" in one:
                prior += f", with {one['read']:,} samples read for its codes,"
            say(
                f"{titles[name]}: {one['seconds']:.3g} s an update, {one['steps']:,} updates"
                f"{prior} in {seconds:g} s ({source})"
            )
    return {
        name: failed.get(name)
        or {key: kept["cells"][name][key] for key in _COUNTS if key in kept["cells"][name]}
        for name in recipes
    }


def _afforded(
    seconds: float,
    recipe: Recipe,
    name: str,
    timings: Mapping[str, Timing | Exception],
    samples: int,
) -> dict[str, Any]:
    """What is kept of a run: its timings, and how many updates they make."""
    first, prior, codes = (timings.get(what + name) for what in ("", _PRIOR, _CODES))
    for timing in (first, prior, codes):
        if isinstance(timing, Exception):
            raise timing
    assert isinstance(first, Timing)
    told: dict[str, Any] = {}
    left = seconds
    if isinstance(codes, Timing):
        assert isinstance(recipe, TwoStages)
        one = prior.seconds if isinstance(prior, Timing) else 0.0
        told = _of_prior(seconds, recipe, samples, one, codes.seconds / READ)
        left -= told["prior_seconds"]
    if left < first.seconds:
        beside = f" beside {told['prior_seconds']:.2g} s of a prior" if told else ""
        raise ValueError(
            f"a budget of {seconds:g} s does not pay for one update, which takes "
            f"{first.seconds:.2g} s{beside}"
        )
    return {**asdict(first), **told, "steps": int(left / first.seconds)}


def _of_prior(
    seconds: float, recipe: TwoStages, samples: int, one: float, reading: float
) -> dict[str, Any]:
    """What is kept of the second stage of a run: options, samples that are read, and seconds.

    Args:
        seconds: the budget.
        recipe: of the run.
        samples: to learn from.
        one: seconds of an update of the prior; 0 of one that is counted.
        reading: seconds of reading a sample for its codes.
    """
    share = SHARE * seconds
    size = recipe.prior_batch_size if one else 1
    most = recipe.prior_steps if one else min(samples, recipe.prior_samples)

    def cost(count: int) -> float:
        """Of so many updates, or samples of a table: each that is used is read once."""
        return count * one + min(samples, count * size) * reading

    count = most
    if cost(most) > share:
        count = bisect.bisect_right(range(1, most + 1), share, key=cost)
        if not count:
            first = "update of the prior, whose codes are read" if one else "sample of codes"
            raise ValueError(
                f"a quarter of a budget of {seconds:g} s does not pay for one {first}, which "
                f"takes {cost(1):.2g} s ({min(samples, size) * reading:.2g} s of it reading)"
            )
    told = {"read": min(samples, count * size), "prior_seconds": cost(count)}
    if one:
        return {"prior_steps": count, **told}
    return {"prior_samples": count, **told} if count < most else told


def _measured(
    recipes: Mapping[str, Recipe], data: str | None, jobs: int, recipe_file: str | None
) -> dict[str, Timing | Exception]:
    say(
        f"timing {len(recipes)} run{'s' * (len(recipes) > 1)} in turn: {WARM_UP} or more updates "
        f"of each to warm up, then the median of {MEASURED} or more"
    )
    before, apart = torch.get_num_threads(), _apart()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        stack.callback(torch.set_num_threads, before)
        made: dict[str, Callable[[], Generator[int, None, None]]] = {}
        for i, (name, recipe) in enumerate(recipes.items()):
            place, threads = Path(folder) / str(i), _threads(recipe, jobs)
            made[name] = partial(updates, recipe, data, place, threads)
            if isinstance(recipe, TwoStages) and recipe.wants_prior:
                made[_CODES + name] = partial(readings, recipe, data, threads)
                if recipe.prior != "tabular":  # which is counted
                    prior = partial(prior_updates, recipe, data, place / "prior", threads)
                    made[_PRIOR + name] = prior
        loops: dict[str, Iterator[int]] = {}
        for i, (name, make) in enumerate(made.items()):
            logs = Path(folder) / "logs"
            loop = Aside(make, place=i, logs=logs, recipe_file=recipe_file) if apart else make()
            loops[name] = stack.enter_context(contextlib.closing(loop))
        return in_turns(loops)


def _apart() -> bool:
    """Whether each run is timed in a process of its own."""
    return torch.cuda.is_available()


def _bytes(data: str | None) -> int | None:
    """The size of a file, or nothing of a folder and of what is no file."""
    return Path(data).stat().st_size if data and Path(data).is_file() else None


def _threads(recipe: Recipe, jobs: int) -> int:
    return recipe.threads or max(1, torch.get_num_threads() // jobs)


def _read(file: Path) -> dict[str, Any]:
    """What the file says, or nothing where there is none."""
    if not file.is_file():
        return {}
    try:
        found: dict[str, Any] = json.loads(file.read_text())
        float(found["budget"]), str(found["device"]), str(found["torch"])
        for title, one in found["cells"].items():
            counts = {"steps": one["steps"]} | {n: one[n] for n in _COUNTS if n in one}
            wrong = [n for n, count in counts.items() if type(count) is not int or count < 1]
            wrong += ["seconds"] * (not 0 < one["seconds"] < math.inf)
            if wrong:
                raise ValueError(f"{title}: {wrong[0]} {one[wrong[0]]}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{file} is damaged ({error}): choose another --out, or remove it to measure again"
        ) from error
    return found
