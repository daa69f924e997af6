"""Independent pieces of work in this process, or in several side by side."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.queues import Queue
from pathlib import Path
from typing import TypeVar

import torch

from noiseloom.interrupts import end_with_parent
from noiseloom.world import world_size

__all__ = ["check_jobs", "in_jobs"]

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
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]
    threads = max(1, torch.get_num_threads() // jobs)
    others = set(multiprocessing.active_children())
    with ProcessPoolExecutor(
        jobs, context, initializer=_begin, initargs=(places, gpus, threads, str(logs), recipe_file)
    ) as pool:
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
