"""Independent pieces of work in this process, or in several side by side or by turns."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any, TypeVar

import torch

from noiseloom.interrupts import end_with_parent
from noiseloom.world import world_size

__all__ = ["Aside", "check_jobs", "in_jobs"]

T = TypeVar("T")
R = TypeVar("R")


def in_jobs(
    work: Callable[[T], R],
    tasks: Sequence[T],
    jobs: int,
    logs: Path,
    recipe_file: str | None = None,
) -> Iterator[tuple[int, R]]:
    """Do every task; with several jobs each process keeps to its share of threads and to one GPU.

    Args:
        work: a function of a module.
        tasks: its arguments.
        jobs: how many processes; 1 is this one.
        logs: folder for what each of several processes says, which side by side nobody can read.
        recipe_file: file that defines the recipe, if it is not this package's.

    Yields:
        Index of a task and its result, as they are done.

    Raises:
        ValueError: fewer than one job, or several in one of several processes.
        OSError: a process was killed.
    """
    check_jobs(jobs)
    if jobs == 1:
        for i, task in enumerate(tasks):
            yield i, work(task)
        return
    # A process that is forked could not use a GPU.
    context = multiprocessing.get_context("spawn")
    places: Queue[int] = context.Queue()
    for place in range(jobs):
        places.put(place)
    threads = max(1, torch.get_num_threads() // jobs)
    others = set(multiprocessing.active_children())
    first = (places, _gpus(), threads, str(logs), recipe_file)
    with ProcessPoolExecutor(jobs, context, initializer=_begin, initargs=first) as pool:
        futures = {pool.submit(work, task): i for i, task in enumerate(tasks)}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise OSError(
                f"one of the processes was killed, perhaps for want of memory ({logs} has what it "
                "said): use fewer --jobs; the same command goes on"
            ) from error
        except BaseException:
            # The pool would finish what it has queued: hours of training that nobody waits for.
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
            raise


class Aside(Iterator[T]):
    """What a generator yields, one at a time, made in a process of its own.

    The first is made at once, beside whatever else runs; each of the others when it is asked for,
    while the process does nothing in between. `close` ends it wherever it is.

    Args:
        make: returns the generator; a function of a module, or a partial one.
        place: number of the process, which says its GPU and what its log is called.
        logs: folder for what it says.
        recipe_file: file that defines the recipe, if it is not this package's.

    Raises:
        OSError: by `next`, if the process was killed. An error of the generator comes as it is.
    """

    def __init__(
        self,
        make: Callable[[], Generator[T, None, None]],
        *,
        place: int,
        logs: Path,
        recipe_file: str | None = None,
    ) -> None:
        context = multiprocessing.get_context("spawn")
        places: Queue[int] = context.Queue()
        places.put(place)
        first = (places, _gpus(), torch.get_num_threads(), str(logs), recipe_file)
        self._pool = ProcessPoolExecutor(1, context, initializer=_begin, initargs=first)
        others = set(multiprocessing.active_children())
        self._make = make
        self._made: Future[T] | None = self._pool.submit(_next_of, make)
        self._processes = set(multiprocessing.active_children()) - others

    def __next__(self) -> T:
        made, self._made = self._made or self._pool.submit(_next_of, self._make), None
        try:
            return made.result()
        except BrokenProcessPool as error:
            raise OSError("its process was killed, perhaps for want of memory") from error

    def close(self) -> None:
        """End the process."""
        for process in self._processes:
            process.terminate()
        self._pool.shutdown()


_begun: Generator[Any, None, None] | None = None  # in a process of its own, what it is there for


def _next_of(make: Callable[[], Generator[T, None, None]]) -> T:
    global _begun
    _begun = _begun or make()
    return next(_begun)


def _gpus() -> list[str]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]


def check_jobs(jobs: int) -> None:
    """Raise ValueError if so many processes cannot be started, or not from this one."""
    if jobs < 1:
        raise ValueError(f"--jobs must be at least 1, got {jobs}")
    if world_size() > 1:
        raise ValueError("--jobs starts processes of its own: leave torchrun out")


def _begin(
    places: "Queue[int]", gpus: list[str], threads: int, logs: str, recipe_file: str | None
) -> None:
    """What a process does first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this
    end_with_parent()
    place = places.get()
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[place % len(gpus)]
    torch.set_num_threads(threads)
    # Also what is said below Python.
    Path(logs).mkdir(parents=True, exist_ok=True)
    log = os.open(f"{logs}/{place}.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if recipe_file is not None:
        from noiseloom.recipes.own import recipe_from_file

        recipe_from_file(Path(recipe_file))
