"""Numbers of a person's own from a file, row by row: actions of frames, codes of samples."""

import csv
import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

__all__ = ["read_actions", "read_codes"]


def read_actions(path: str | os.PathLike[str], features: int) -> Tensor:
    """Read actions, float32, shape (N, features).

    Args:
        path: .npy of shape (N, features), or .csv without a head, one line for each of N rows.
        features: numbers of an action, in the order of the recording that a model was trained on.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another kind of file, a wrong shape, no rows, or a number that is not finite.
    """
    found = _rows(path, features, "actions", "frame to make", f"an action has {features}")
    found = found.float()  # what is too large for it is not finite then
    finite = found.isfinite().all(1)
    if not finite.all():
        raise ValueError(f"{path}: row {int(finite.int().argmin()) + 1} is not finite")
    return found


def read_codes(path: str | os.PathLike[str], m: int, k: int) -> Tensor:
    """Read codes, int64, shape (N, m), values 0 .. k - 1.

    Args:
        path: .npy of shape (N, m), or .csv without a head, one line for each of N samples.
        m: number of latents.
        k: number of codes of each.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another kind of file, a wrong shape, no rows, or a number that is no code.
    """
    found = _rows(path, m, "codes", "sample", f"a sample has {_many(m, 'code')}")
    wrong = ~((found >= 0) & (found < k) & (found == found.floor()))  # NaN is wrong too
    if wrong.any():
        row, place = wrong.nonzero()[0].tolist()
        raise ValueError(
            f"{path}: row {row + 1} has {float(found[row, place]):g}, and codes of this run are "
            f"whole numbers 0 to {k - 1}"
        )
    return found.long()


def _rows(path: str | os.PathLike[str], width: int, what: str, of: str, known: str) -> Tensor:
    """The numbers of a file, float64, shape (N, width), N >= 1."""
    path = Path(path).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    if path.suffix not in (".npy", ".csv") or path.is_dir():
        raise ValueError(f"{path}: {what} are read from .npy or .csv")
    try:
        found = _array(path) if path.suffix == ".npy" else _table(path, width, known)
    except (ValueError, EOFError, OSError, csv.Error) as error:
        raise ValueError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    if not found.numel():
        raise ValueError(f"{path} is empty: {what} are a row for each {of}, of {width} numbers")
    if found.ndim != 2 or found.shape[1] != width:
        raise ValueError(
            f"{path}: {what} need shape (N, {width}), a row for each {of}, got {tuple(found.shape)}"
        )
    return found


def _array(path: Path) -> Tensor:
    found = np.load(path, allow_pickle=False)
    if found.dtype.kind not in "biuf":
        raise ValueError(f"it holds {found.dtype}, not real numbers")
    return torch.from_numpy(found.astype(np.float64))


def _table(path: Path, width: int, known: str) -> Tensor:
    rows: list[list[float]] = []
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = csv.reader(file, skipinitialspace=True)
        for cells in lines:
            if not cells:
                continue
            if not rows and all(cell.strip() and not _is_number(cell) for cell in cells):
                # Its names cannot be checked: columns in another order would be taken as they are.
                raise ValueError(
                    f"line {lines.line_num} looks like a header ({', '.join(cells)}), and none is "
                    "expected: leave it out, if its columns are in the run's own order"
                )
            here = f"row {len(rows) + 1}"
            if len(cells) != width:
                raise ValueError(f"{here} has {_many(len(cells), 'number')}, and {known}")
            rows.append([_number(cell, here) for cell in cells])
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, width)


def _many(count: int, thing: str) -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def _number(cell: str, here: str) -> float:
    try:
        return float(cell)
    except ValueError:
        raise ValueError(f"{here}: {cell!r} is not a number") from None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
