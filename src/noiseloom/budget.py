"""Equal measured cost: as many updates of each run as a person's budget of training time pays for.

Before anything is trained, an update of every run is timed by the loop that trains it, all of them
in turn in one process, so that whatever else the machine does hits all alike, and the median is
taken; so all are in memory at once. The number of updates that this makes is fixed from then on: it
is kept in a file, and a comparison that goes on reads it there. What is trained depends on no clock
after that.
"""

import contextlib
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from noiseloom import training
from noiseloom.recipes import Recipe
from noiseloom.rng import Rng
from noiseloom.run_folder import write_text
from noiseloom.table import device
from noiseloom.terminal import say

__all__ = [
    "MEASURED",
    "TURNS",
    "WARM_UP",
    "Timing",
    "check_budget",
    "in_turns",
    "updates",
    "updates_within",
]

WARM_UP = 5
"""Updates of every run that are not counted, at least: compilation and first allocations."""
MEASURED = 20
"""Updates of every run whose time is taken, at least."""
TURNS = 5
"""Turns they are made in, at least: on a GPU, where 50 are one turn, there are more updates."""
_NEVER = 10**9  # updates; where the timed loop would end, or save


@dataclass(frozen=True)
class Timing:
    """How long an update of a run takes.

    Attributes:
        seconds: of one, the median over turns.
        warm_up: updates before.
        updates: that were timed.
    """

    seconds: float
    warm_up: int
    updates: int


def check_budget(seconds: float) -> None:
    """Raise ValueError if it is no time to train for."""
    if not 0 < seconds < math.inf:
        raise ValueError(f"--budget must be seconds above 0, got {seconds:g}")


def in_turns(
    loops: Mapping[str, Iterator[int]], clock: Callable[[], float] = time.perf_counter
) -> dict[str, Timing | Exception]:
    """Time an update of each of several loops: all in turn, first to warm up, then to count.

    Args:
        loops: iterators that make updates, and yield how many they have made so far.
        clock: seconds.

    Returns:
        Of each its timing, or the error that ended it.
    """
    found: dict[str, Timing | Exception] = {}
    made, first = dict.fromkeys(loops, 0), dict[str, int]()
    each: dict[str, list[float]] = {name: [] for name in loops}
    while names := [name for name in loops if name not in found]:
        for name in names:
            began = clock()
            try:
                count = next(loops[name])
            except Exception as error:  # a run that does not fit is not the end of the others
                found[name] = error
                continue
            took = clock() - began
            if name in first:
                each[name].append(took / (count - made[name]))
            elif count >= WARM_UP:
                first[name] = count
            made[name] = count
            timed = count - first.get(name, count)
            if timed >= MEASURED and len(each[name]) >= TURNS:
                found[name] = Timing(statistics.median(each[name]), first[name], timed)
    return found


def updates_within(
    seconds: float,
    recipes: Mapping[str, Recipe],
    file: Path,
    *,
    titles: Mapping[str, str],
    data: str | None,
    jobs: int,
) -> dict[str, int | Exception]:
    """How many updates of each run a budget pays for: measured once, and kept in a file.

        updates = floor(budget / seconds of one)

    Args:
        seconds: the budget, > 0.
        recipes: runs by name.
        file: where the numbers are kept; runs that are there already are not measured again.
        titles: of each, what people call it.
        data: where the data lies.
        jobs: runs that will share the CPU's threads.

    Returns:
        Of each its updates, or what is wrong with it.

    Raises:
        ValueError: the file is of another budget, device, or kind.
    """
    check_budget(seconds)
    kept = _read(file)
    if kept and kept["budget"] != seconds:
        raise ValueError(
            f"{file.parent} was begun with --budget {kept['budget']:g}: give the same, or choose "
            "another --out"
        )
    new = {name: recipe for name, recipe in recipes.items() if name not in kept.get("cells", {})}
    failed: dict[str, Exception] = {}
    if new:
        here = {"device": device(), "torch": torch.__version__}
        for what, value in here.items() if kept else ():
            if kept[what] != value:
                raise ValueError(
                    f"{file} was measured with {kept[what]}, and this is {value}: runs that are "
                    "added would not cost as much; choose another --out"
                )
        kept = kept or {"budget": seconds, **here, "cells": {}}
        for name, timing in _measured(new, data, jobs).items():
            if isinstance(timing, Exception):
                failed[name] = timing
            elif seconds < timing.seconds:
                failed[name] = ValueError(
                    f"a budget of {seconds:g} s does not pay for one update, which takes "
                    f"{timing.seconds:.2g} s"
                )
            else:
                kept["cells"][name] = {
                    **asdict(timing),
                    "threads": _threads(new[name], jobs),
                    "steps": int(seconds / timing.seconds),
                }
        if len(failed) < len(new):
            file.parent.mkdir(parents=True, exist_ok=True)
            write_text(file, json.dumps(kept, indent=1) + "\n")
    for name in recipes:
        if name in kept["cells"]:
            one = kept["cells"][name]
            source = "measured now" if name in new else f"as in {file.name}"
            say(
                f"{titles[name]}: {one['seconds']:.3g} s an update, {one['steps']:,} updates in "
                f"{seconds:g} s ({source})"
            )
    return {name: failed.get(name) or int(kept["cells"][name]["steps"]) for name in recipes}


def _measured(
    recipes: Mapping[str, Recipe], data: str | None, jobs: int
) -> dict[str, Timing | Exception]:
    say(
        f"timing {len(recipes)} run{'s' * (len(recipes) > 1)} in turn: {WARM_UP} or more updates "
        f"of each to warm up, then the median of {MEASURED} or more"
    )
    before = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        stack.callback(torch.set_num_threads, before)
        loops = {}
        for i, (name, recipe) in enumerate(recipes.items()):
            loop = updates(recipe, data, Path(folder) / str(i), _threads(recipe, jobs))
            loops[name] = stack.enter_context(contextlib.closing(loop))
        found = in_turns(loops)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return found


def updates(
    recipe: Recipe, data: str | None, folder: Path, threads: int
) -> Generator[int, None, None]:
    """The updates of a run as they would be made, without an end and without checkpoints.

    Args:
        recipe: of the run.
        data: where its data lies.
        folder: for what a run writes, a new one.
        threads: of the CPU.

    Yields:
        How many there have been.
    """
    torch.set_num_threads(threads)
    split = recipe.load(data)
    facts = json.loads(json.dumps(recipe.facts(split)))
    with Rng(recipe.seed).fold("initialisation").torch():
        parts = recipe.build(facts)
    endless = replace(recipe, steps=_NEVER, checkpoint_every=_NEVER)
    loss = recipe.loss(parts, facts)
    loop: Any = training.train(parts.denoiser, loss, split.train, endless, folder)
    with contextlib.closing(loop):
        for progress in loop:
            yield progress.step
            torch.set_num_threads(threads)  # other runs had theirs in between


def _threads(recipe: Recipe, jobs: int) -> int:
    return recipe.threads or max(1, torch.get_num_threads() // jobs)


def _read(file: Path) -> dict[str, Any]:
    """What the file says, or nothing where there is none."""
    if not file.is_file():
        return {}
    try:
        found: dict[str, Any] = json.loads(file.read_text())
        float(found["budget"]), str(found["device"]), str(found["torch"])
        for one in found["cells"].values():
            int(one["steps"]), float(one["seconds"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{file} is damaged ({error}): choose another --out, or remove it to measure again"
        ) from error
    return found
