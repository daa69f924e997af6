"""What was made of a person's files and would take long to make again, kept between processes.

One file for each state of the data, in `$NOISELOOM_CACHE` or `~/.cache/noiseloom`: deleting it
costs nothing but time, and where it cannot be written there is none.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

__all__ = ["cached", "keep", "recall"]


def cached(key: Sequence[Any]) -> Path:
    """Where what belongs to a key, of plain JSON values, is kept if it is."""
    digest = hashlib.blake2b(json.dumps(list(key)).encode(), digest_size=16).hexdigest()
    folder = Path(os.environ.get("NOISELOOM_CACHE") or Path("~/.cache/noiseloom").expanduser())
    return folder / f"{digest}.safetensors"


def recall(path: Path, *names: str) -> tuple[Tensor, ...] | None:
    """The tensors of these names, or None where they are not kept."""
    try:
        stored = load_file(path)
        return tuple(stored[name] for name in names)
    except (OSError, SafetensorError, KeyError):
        return None


def keep(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write all or nothing, and nothing where the cache cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            save_file(tensors, Path(scratch, path.name))
            Path(scratch, path.name).replace(path)
    except (OSError, SafetensorError):
        pass
