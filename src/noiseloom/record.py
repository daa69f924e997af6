"""Recordings: data from a simulator, kept in a file, also when they are interrupted.

A source is a class of options (`noiseloom.sources.SOURCES`) and a function that yields pieces of a
recording; or, of what can be listed, all of it at once.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol, Self

from noiseloom.data import Clips, Trajectories
from noiseloom.interrupts import terminable, uninterrupted
from noiseloom.rng import Rng
from noiseloom.run_folder import check_file
from noiseloom.sources import BenzenoidSource, DoomSource, MazeSource
from noiseloom.terminal import answer, say

__all__ = ["Recorded", "record", "record_all"]

_EVERY = 2.0  # seconds between two lines


class Recorded(Protocol):
    """A piece of a recording, or all of it."""

    def __len__(self) -> int:
        """Number of steps."""

    @classmethod
    def joined(cls, pieces: Sequence[Self]) -> Self:
        """Pieces that follow each other as one."""

    def save(self, path: Path, *, force: bool) -> None:
        """Write it as a whole or not at all."""


@terminable()
def record(source: object, out: Path, *, steps: int, seed: int, force: bool, as_json: bool) -> None:
    """Record into a file. With Ctrl-C or SIGTERM what has been recorded is written before it stops.

    Of a source that yields parts (Doom: 5,000 steps) only whole ones are written.

    Args:
        source: options of one of `SOURCES`.
        out: the file.
        steps: how many.
        seed: of all draws.
        force: replace the file.
        as_json: answer a program.

    Raises:
        FileExistsError: there is such a file, and no `force`.
        ImportError: the source's extra is missing.
        ValueError: no steps, or a file that is no .safetensors.
    """
    _check(out, force)
    pieces: list[Recorded] = []
    stopped = False
    began = told = time.monotonic()
    try:
        for piece in _SIMULATORS[type(source)](source, steps, seed):
            if not pieces:
                out.parent.mkdir(parents=True, exist_ok=True)  # if that fails, then not at the end
            pieces.append(piece)
            made, now = sum(map(len, pieces)), time.monotonic()
            if made == steps or now - told >= _EVERY:
                told, speed = now, made / (now - began)
                left = f"{(steps - made) / speed:.0f} s left"
                say(f"{made:,} of {steps:,} steps  {speed:,.0f} steps/s  {left}")
    except KeyboardInterrupt:
        if not pieces:
            say("nothing was recorded yet")
            raise
        stopped = True
    with uninterrupted():  # a second signal, or one at the end, would lose all of it
        whole = pieces[0].joined(pieces)
        whole.save(out, force=force)
    result = {"file": str(out), "steps": len(whole), "seed": seed}
    answer(as_json, result, [f"{len(whole):,} steps: {out}"])
    if stopped:
        raise KeyboardInterrupt


def record_all(source: object, out: Path, *, force: bool, as_json: bool) -> None:
    """Write all that there is of a source that can be listed, as a whole or not at all.

    Args:
        source: options of one of `SOURCES`.
        out: the file.
        force: replace the file.
        as_json: answer a program.

    Raises:
        FileExistsError: there is such a file, and no `force`.
        ValueError: a file that is no .safetensors, or what there is not.
    """
    _check(out, force)
    assert isinstance(source, BenzenoidSource)
    from noiseloom.recipes.benzenoid_sets import all_parts
    from noiseloom.recipes.context_benzenoids import ContextBenzenoids

    ContextBenzenoids(rings=source.rings)  # which refuses rings that it has none of
    found = all_parts(source.rings)
    found.save(out, force=force)
    parts = {
        name: {word: len(getattr(folds, word)) for word in ("train", "validation", "test")}
        for name, folds in found.folds.items()
    }
    result = {"file": str(out), "rings": source.rings, "structures": len(found), "splits": parts}
    lines = [
        f"--split {name}: " + ", ".join(f"{word} {count:,}" for word, count in counts.items())
        for name, counts in parts.items()
    ]
    answer(as_json, result, [*lines, f"{len(found):,} benzenoids of {source.rings} rings: {out}"])


def _check(out: Path, force: bool) -> None:
    if out.suffix != ".safetensors":
        raise ValueError(f"{out}: name a file that ends in .safetensors")
    check_file(out, force, "data.safetensors")


def _maze(options: MazeSource, steps: int, seed: int) -> Iterator[Trajectories]:
    from noiseloom.data.maze import Maze
    from noiseloom.data.point_maze import recording

    for piece in recording(Maze(options.maze), steps, Rng(seed), options.stay):
        yield replace(piece, about={**piece.about, "seed": str(seed)})


def _doom(options: DoomSource, steps: int, seed: int) -> Iterator[Clips]:
    from noiseloom.data.doom import recording

    for piece in recording(steps, Rng(seed), **asdict(options)):
        yield replace(piece, about={**piece.about, "seed": str(seed)})


_SIMULATORS: dict[type, Callable[[Any, int, int], Iterator[Recorded]]] = {
    DoomSource: _doom,
    MazeSource: _maze,
}
