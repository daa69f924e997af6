"""Actions of a person's own from a file: a row of numbers for each frame that is to be made."""

import csv
import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

__all__ = ["read_actions"]


def read_actions(path: str | os.PathLike[str], features: int) -> Tensor:
    """Read actions, float32, shape (N, features).

    Args:
        path: .npy of shape (N, features), or .csv without a head, one line for each of N rows.
        features: numbers of an action, in the order of the recording that a model was trained on.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another kind of file, a wrong shape, no rows, or a number that is not finite.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    if path.suffix not in (".npy", ".csv") or path.is_dir():
        raise ValueError(f"{path}: actions are read from .npy or .csv")
    try:
        found = _array(path) if path.suffix == ".npy" else _table(path, features)
    except (ValueError, EOFError, OSError, csv.Error) as error:
        raise ValueError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    if found.ndim != 2 or found.shape[1] != features or not len(found):
        raise ValueError(
            f"{path}: actions need shape (N, {features}), a row for each frame to make, got "
            f"{tuple(found.shape)}"
        )
    finite = found.isfinite().all(1)
    if not finite.all():
        raise ValueError(f"{path}: row {int(finite.int().argmin()) + 1} is not finite")
    return found


def _array(path: Path) -> Tensor:
    found = np.load(path, allow_pickle=False)
    if found.dtype.kind not in "biuf":
        raise ValueError(f"it holds {found.dtype}, not real numbers")
    with np.errstate(over="ignore"):  # what is too large for float32 is not finite then
        return torch.from_numpy(found.astype(np.float32))


def _table(path: Path, features: int) -> Tensor:
    rows: list[list[float]] = []
    with path.open(newline="", encoding="utf-8-sig") as file:
        for cells in csv.reader(file, skipinitialspace=True):
            if not cells:
                continue
            here = f"row {len(rows) + 1}"
            if len(cells) != features:
                raise ValueError(f"{here} has {len(cells)} numbers, and an action has {features}")
            rows.append([_number(cell, here) for cell in cells])
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, features).float()


def _number(cell: str, here: str) -> float:
    try:
        return float(cell)
    except ValueError:
        raise ValueError(f"{here}: {cell!r} is not a number") from None
