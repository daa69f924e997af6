"""The updates of a run as they would be made, of both its stages, and how long one takes."""

import contextlib
import itertools
import json
import statistics
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from noiseloom import training
from noiseloom.data import Split
from noiseloom.fit_prior import DRAWS, prior_loss
from noiseloom.recipes import Recipe, TwoStages
from noiseloom.recipes.recipe import Parts
from noiseloom.rng import Rng
from noiseloom.training.batches import Data

__all__ = [
    "MEASURED",
    "READ",
    "TURNS",
    "WARM_UP",
    "Timing",
    "in_turns",
    "prior_updates",
    "readings",
    "updates",
]

READ = 250
"""Samples that are read at a time for their codes, where that is timed."""

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
    split, facts, parts = _built(recipe, data)
    loss = recipe.loss(parts, facts)
    yield from _endless(parts.denoiser, loss, split.train, recipe, folder, threads)


def prior_updates(
    recipe: TwoStages, data: str | None, folder: Path, threads: int
) -> Generator[int, None, None]:
    """The updates of a run's second stage, once the codes are read.

    Args:
        recipe: of a run whose prior is trained.
        data: where its data lies.
        folder: for what a run writes, a new one.
        threads: of the CPU.

    Yields:
        How many there have been.
    """
    torch.set_num_threads(threads)
    split, facts, parts = _built(recipe, data)
    key = Rng(recipe.seed).fold("prior")
    with key.fold("initialisation").torch():
        prior = recipe.prior_kind(facts).make()
    rows = torch.arange(min(len(split.train), recipe.prior_batch_size))
    codes = recipe.encoded(parts, facts, split.train, key, rows=rows, draws=DRAWS)
    yield from _endless(prior, prior_loss, codes, recipe.second_stage(recipe), folder, threads)


def readings(recipe: TwoStages, data: str | None, threads: int) -> Generator[int, None, None]:
    """The reading of samples for their codes, `READ` at a time.

    Args:
        recipe: of a run with codes.
        data: where its data lies.
        threads: of the CPU.

    Yields:
        How many times there have been so many.
    """
    split, facts, parts = _built(recipe, data)
    key = Rng(recipe.seed).fold("prior")
    for done in itertools.count():
        torch.set_num_threads(threads)  # other runs had theirs in between
        rows = (torch.arange(READ) + done * READ) % len(split.train)
        recipe.encoded(parts, facts, split.train, key, rows=rows, draws=DRAWS)
        yield done + 1


def _built(recipe: Recipe, data: str | None) -> tuple[Split[Any], dict[str, Any], Parts]:
    split = recipe.load(data)
    facts = json.loads(json.dumps(recipe.settled(recipe.facts(split))))
    with Rng(recipe.seed).fold("initialisation").torch():
        parts = recipe.build(facts)
    parts.denoiser.to("cuda" if torch.cuda.is_available() else "cpu")  # codes are read there, too
    return split, facts, parts


def _endless(
    model: nn.Module,
    loss: training.Loss,
    data: Data,
    options: training.Training,
    folder: Path,
    threads: int,
) -> Generator[int, None, None]:
    endless = replace(options, steps=_NEVER, checkpoint_every=_NEVER)
    loop: Any = training.train(model, loss, data, endless, folder)
    with contextlib.closing(loop):
        for progress in loop:
            yield progress.step
            torch.set_num_threads(threads)  # other runs had theirs in between
