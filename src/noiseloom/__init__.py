"""Diffusion models for discrete, sequential and structured data."""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from noiseloom.public import *  # noqa: F403
else:

    def __getattr__(name: str) -> object:
        """Fetch public names at their first use: PyTorch takes seconds, `noiseloom --help` none."""
        if name == "__all__" or not name.startswith("_"):
            public = import_module("noiseloom.public")
            # Importing `noiseloom.rollout` has put the module where the function should be.
            globals().update({known: getattr(public, known) for known in public.__all__})
            if name == "__all__" or name in public.__all__:
                return getattr(public, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
