"""How arguments of readers are called in errors: as in Python, or as options of a command."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["as_options", "said"]

_OPTIONS = ContextVar("_OPTIONS", default=False)


@contextmanager
def as_options() -> Iterator[None]:
    """Call arguments as the command line has them, within."""
    token = _OPTIONS.set(True)
    try:
        yield
    finally:
        _OPTIONS.reset(token)


def said(name: str, value: object = None, option: str | None = None) -> str:
    """An argument, perhaps with a value, as the person who is told would write it.

    Args:
        name: in Python.
        value: of it; several are separated by commas on the command line.
        option: the field of recipes that it comes from, where that has another name.

    Example:
        >>> said("rare", 1), said("split_by", option="split")
        ('rare=1', 'split_by')
        >>> with as_options():
        ...     said("rare", 1), said("split_by", option="split")
        ('--rare 1', '--split')
    """
    if not _OPTIONS.get():
        return name if value is None else f"{name}={value!r}"
    word = f"--{(option or name).replace('_', '-')}"
    if isinstance(value, list | tuple):
        value = ",".join(map(str, value))
    return word if value is None else f"{word} {value}"
