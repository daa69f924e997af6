"""How far something slow is, for whoever listens.

What is slow lies deep in measures and bounds, which know nothing of terminals: they tell, and a
command that has begun them hears.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeAlias

__all__ = ["Listener", "heard_by", "tell"]

Listener: TypeAlias = Callable[[str, int, int], None]
"""Told what is done, how much of it is, and how much there is to do."""

_LISTENER: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    """A block in which `tell` calls the listener, and no other."""
    before = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(before)


def tell(what: str, done: int, total: int) -> None:
    """Say how far one is, to the listener if there is one.

    Args:
        what: is counted, in words.
        done: how many are.
        total: how many there will be.
    """
    listener = _LISTENER.get()
    if listener is not None:
        listener(what, done, total)
