"""Arrays of a person's own trajectories, from the files that such data come in.

The names are D4RL's: observations, actions, rewards, and the flags terminals and timeouts of an
episode's last step; beside them goals and ends (see `noiseloom.data.Trajectories`). Flags may have
Gymnasium's names, and HDF5 files Minari's layout: a group for each episode.
"""

import contextlib
import difflib
import re
import zipfile
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

__all__ = ["KEYS", "read_arrays"]

Arrays: TypeAlias = dict[str, NDArray[Any]]

KEYS = ("observations", "actions", "rewards", "goals", "ends", "terminals", "timeouts")
"""What is read; all but the observations may be absent."""

_ALSO = {
    "goals": ("infos/goal",),
    "terminals": ("terminations", "terminated"),
    "timeouts": ("truncations", "truncated", "dones", "done"),
}
"""Other names of a key. To overlook a flag would join episodes, and train on jumps."""

_EPISODE = re.compile(r"episode_\d+")


def read_arrays(path: Path) -> tuple[Arrays, dict[str, str]]:
    """Read the arrays that `KEYS` names, and what a file says of itself.

    Args:
        path: .npz, .safetensors, .hdf5 or .h5 with arrays of these names, a folder of
            observations.npy, actions.npy, ..., or one .npy with the observations.

    Raises:
        FileNotFoundError: nothing at `path`.
        ImportError: an HDF5 file, without the extra `hdf5`.
        ValueError: a file of another kind, a damaged one, or one without observations; or a name
            that is nearly one of `KEYS`.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no file or folder {path}")
    kind = "folder" if path.is_dir() else path.suffix.lower()
    if kind not in _READERS:
        raise ValueError(
            f"{path}: trajectories are read from .npz, .npy, .safetensors, .hdf5 or .h5, or from "
            "a folder of .npy files"
        )
    with _readable(path):
        return _READERS[kind](path)


def _of_safetensors(path: Path) -> tuple[Arrays, dict[str, str]]:
    with safe_open(path, "np") as file:
        arrays = _chosen(path, file.keys(), file.get_tensor)
        return arrays, dict(file.metadata() or {})


def _of_npz(path: Path) -> tuple[Arrays, dict[str, str]]:
    with np.load(path, allow_pickle=False) as file:
        return _chosen(path, file.files, lambda name: file[name]), {}


def _of_npy(path: Path) -> tuple[Arrays, dict[str, str]]:
    return {"observations": np.load(path, allow_pickle=False)}, {}


def _of_folder(path: Path) -> tuple[Arrays, dict[str, str]]:
    def load(name: str) -> NDArray[Any]:
        array: NDArray[Any] = np.load(path / f"{name}.npy", allow_pickle=False)
        return array

    return _chosen(path, sorted(file.stem for file in path.glob("*.npy")), load), {}


def _of_hdf5(path: Path) -> tuple[Arrays, dict[str, str]]:
    try:
        import h5py
    except ImportError as error:
        raise ImportError(
            f"{path}: HDF5 files need the extra noiseloom[hdf5]: pip install 'noiseloom[hdf5]'"
        ) from error
    with h5py.File(path, "r") as file:

        def load(name: str) -> NDArray[Any]:
            if isinstance(file[name], h5py.Group):
                parts = ", ".join(file[name])
                raise ValueError(f"{path}: {name} is a group ({parts}), not an array: choose one")
            array: NDArray[Any] = file[name][()]
            return array

        def arrays(group: str) -> Arrays:
            names = [*file[group], *(name for name in _ALSO["goals"] if name in file[group])]
            return _chosen(path, names, lambda name: load(f"{group}/{name}"))

        episodes = sorted(filter(_EPISODE.fullmatch, file), key=lambda name: int(name[8:]))
        return (_joined(path, [arrays(name) for name in episodes]) if episodes else arrays("/")), {}


_READERS: dict[str, Callable[[Path], tuple[Arrays, dict[str, str]]]] = {
    ".safetensors": _of_safetensors,
    ".npz": _of_npz,
    ".npy": _of_npy,
    "folder": _of_folder,
    ".hdf5": _of_hdf5,
    ".h5": _of_hdf5,
}


def _joined(path: Path, episodes: Sequence[Arrays]) -> Arrays:
    """Episodes as Minari keeps them: one more observation than actions, the one they end with."""
    lengths = [len(found.get("actions", found["observations"])) for found in episodes]
    names = [name for name in ("observations", "actions", "rewards") if name in episodes[0]]
    try:
        parts = {name: [found[name] for found in episodes] for name in names}
        if all(len(o) == n + 1 for o, n in zip(parts["observations"], lengths, strict=True)):
            parts["observations"] = [array[:-1] for array in parts["observations"]]
        joined: Arrays = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path}: its episodes do not fit each other: {error}") from error
    return {**joined, "ends": np.cumsum(lengths)}


def _chosen(path: Path, names: Collection[str], load: Callable[[str], NDArray[Any]]) -> Arrays:
    found = {}
    for key in KEYS:
        called = [name for name in (key, *_ALSO.get(key, ())) if name in names]
        if called:
            found[key] = load(called[0])
        elif near := difflib.get_close_matches(key, names, 1, 0.8):
            # A misspelt name would be taken for data without it.
            raise ValueError(f"{path} has no {key!r}, but {near[0]!r}: rename it")
    if "observations" not in found:
        raise ValueError(f"{path} has no 'observations'; it has {', '.join(names) or 'nothing'}")
    return found


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """One line for every way in which a file can be damaged, or hold what only pickle reads."""
    try:
        yield
    except (ImportError, FileNotFoundError):
        raise
    except (SafetensorError, zipfile.BadZipFile, EOFError, OSError, TypeError) as error:
        raise ValueError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    except ValueError as error:
        if str(path) in str(error):
            raise
        raise ValueError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
