"""Guides of one run, trained one after another or side by side."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from noiseloom.commands import load
from noiseloom.fit_guide import fit_guide
from noiseloom.guide_folder import GuideRecord
from noiseloom.guide_material import Material, Sources, read_material
from noiseloom.jobs import in_jobs
from noiseloom.recipes import GuideTraining
from noiseloom.run import Run
from noiseloom.terminal import say

__all__ = ["GuideTask", "file_of_recipe", "guides_made", "hold"]


@dataclass(frozen=True)
class GuideTask:
    """A guide that is to be trained.

    Attributes:
        source: of its run.
        sources: files of structures.
        options: of the training.
        folder: of the guide.
        command: what was typed.
        force: replace a guide that is there.
    """

    source: str
    sources: Sources
    options: GuideTraining
    folder: Path
    command: str
    force: bool


_HELD: dict[tuple[str, Sources, float], tuple[Run, Material]] = {}


def hold(source: str, sources: Sources, held_out: float, run: Run, material: Material) -> None:
    """What was read already is not read again in this process."""
    _HELD.clear()
    _HELD[source, sources, held_out] = run, material


def guides_made(
    tasks: Sequence[GuideTask], jobs: int, logs: Path, run: Run
) -> Iterator[tuple[int, GuideRecord | str]]:
    """Train guides, or take those that are finished; they do not depend on how many jobs there are.

    Args:
        tasks: the guides.
        jobs: trained at a time, each in a process of its own if it is more than one.
        logs: folder for what such processes say.
        run: of all guides.

    Yields:
        Index of a task and its record, or why there is none: one that diverges, or does not fit in
        memory, is not the end of the others.

    Raises:
        FileExistsError: a folder holds something else.
        OSError: a process was killed.
    """
    made = in_jobs(_made, tasks, jobs, logs, file_of_recipe(run))
    for done, (i, found) in enumerate(made, 1):
        if isinstance(found, str):
            say(f"{tasks[i].folder} failed: {found}")
        elif jobs > 1:
            say(f"guide {done} of {len(tasks)} is done: {tasks[i].folder}")
        yield i, found


def file_of_recipe(run: Run) -> str | None:
    """The file of a run's recipe, if it is not this package's: other processes must read it."""
    module = type(run.recipe).__module__
    return None if module.startswith("noiseloom.") else sys.modules[module].__file__


def _made(task: GuideTask) -> GuideRecord | str:
    key = task.source, task.sources, task.options.held_out
    if key not in _HELD:
        run = load(task.source)
        hold(*key, run, read_material(run, task.sources, task.options.held_out))
    run, material = _HELD[key]
    try:
        return fit_guide(
            run,
            task.options,
            task.folder,
            material,
            task.sources,
            command=task.command,
            force=task.force,
        )
    except FileExistsError:  # which is for people to decide
        raise
    except Exception as error:
        kind = "" if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: "
        return kind + " ".join(str(error).split())
