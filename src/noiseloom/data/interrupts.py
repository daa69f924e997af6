"""Ctrl-C, where it must wait, and where what it ends is to be kept."""

import multiprocessing
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["terminable", "uninterrupted"]


@contextmanager
def uninterrupted() -> Iterator[None]:
    """A block that Ctrl-C does not end, nor processes that are started in it.

    Other threads than the main one are never interrupted, and may not say what a signal does.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    usual = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)


@contextmanager
def terminable() -> Iterator[None]:
    """A block that SIGTERM, by which a limit of time is often kept, ends as Ctrl-C does.

    A process of a pool is left as it is: it would go on with what is queued.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or multiprocessing.parent_process() is not None:
        yield
        return
    usual = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, usual)
