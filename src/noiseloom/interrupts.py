"""What ends processes: Ctrl-C, SIGTERM and their parent's end; where they wait, what they leave."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["deferred", "end_with_parent", "sheltered", "terminable", "uninterrupted"]

_BOTH = signal.SIGINT, signal.SIGTERM
_heard: list[int] = []  # signals that a block of `terminable` was sent


@contextmanager
def uninterrupted() -> Iterator[None]:
    """A block that neither Ctrl-C nor SIGTERM ends, nor processes that are started in it.

    Other threads than the main one are never interrupted, and may not say what a signal does.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    usual = [signal.signal(number, signal.SIG_IGN) for number in _BOTH]
    try:
        yield
    finally:
        for number, handler in zip(_BOTH, usual, strict=True):
            signal.signal(number, handler)


@contextmanager
def deferred() -> Iterator[list[int]]:
    """A block at whose end Ctrl-C or SIGTERM comes; meanwhile it is in the list that is yielded.

    A second one comes at once, in the middle. Other threads than the main one are never
    interrupted. It is not for a block with a `yield` of a generator, which others may run beside.
    """
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    usual = {number: signal.getsignal(number) for number in _BOTH}
    usual = {n: handler for n, handler in usual.items() if handler not in (None, signal.SIG_IGN)}

    def restore() -> None:
        for number, handler in usual.items():
            signal.signal(number, handler)

    def hear(number: int, frame: FrameType | None) -> None:
        came.append(number)
        if len(came) > 1:
            restore()
            signal.raise_signal(number)

    try:
        for number in usual:
            signal.signal(number, hear)
        yield came
    finally:
        restore()
    if came:
        signal.raise_signal(came[0])


@contextmanager
def sheltered() -> Iterator[None]:
    """A block after which Ctrl-C and SIGTERM come; to processes started in it they never do.

    It is for one that takes a while to start and is ended otherwise; where signals cannot wait
    (Windows), it does nothing. In another thread than the main one, which signals interrupt, it is
    for the processes alone.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    came: list[int] = []
    try:
        with contextlib.ExitStack() as stack:
            if threading.current_thread() is threading.main_thread():
                # A mask is one thread's: what another one is sent is handled here all the same.
                for number in _BOTH:
                    usual = signal.getsignal(number)
                    if usual not in (None, signal.SIG_IGN):
                        stack.callback(signal.signal, number, usual)
                        signal.signal(number, lambda number, _: came.append(number))
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
            stack.callback(signal.pthread_sigmask, signal.SIG_SETMASK, mask)
            signal.pthread_sigmask(signal.SIG_BLOCK, _BOTH)
            yield
    finally:
        for heard in came:
            signal.raise_signal(heard)


@contextmanager
def terminable() -> Iterator[None]:
    """A block that SIGTERM, by which a limit of time is often kept, ends as Ctrl-C does.

    A KeyboardInterrupt that a signal raises in it has the number as its `signal`; another one that
    leaves it, in place of what was caught there, that of the first. A SIGTERM that is ignored stays
    ignored. A process of a pool is left as it is: it would go on with what is queued.
    """
    main = threading.current_thread() is threading.main_thread()
    outer = any(signal.getsignal(number) is _hear for number in _BOTH)
    if not main or outer or multiprocessing.parent_process() is not None:
        yield
        return
    _heard.clear()
    try:
        with contextlib.ExitStack() as stack:
            for number in _BOTH:
                usual = signal.getsignal(number)
                ends = number == signal.SIGTERM and usual not in (None, signal.SIG_IGN)
                if ends or usual is signal.default_int_handler:
                    stack.callback(signal.signal, number, usual)
                    signal.signal(number, _hear)
            yield
    except KeyboardInterrupt as stop:
        if _heard:
            vars(stop).setdefault("signal", _heard[0])
        raise


def end_with_parent(first: Callable[[], object] = lambda: None) -> None:
    """Let this process end once its parent has, which, killed, would leave it working for nobody.

    Args:
        first: what to do before, in another thread than the main one.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        try:
            first()
        finally:
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _hear(number: int, frame: FrameType | None) -> None:
    _heard.append(number)
    stop = KeyboardInterrupt()
    vars(stop)["signal"] = number
    raise stop
