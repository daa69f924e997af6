"""All benzenoids of a number of rings with the parts of every split, kept in one file.

Enumerating and clustering those of 11 rings takes seconds in every process that asks; reading them
takes none. The file says of every structure which part of each split it is in, so that parts cannot
overlap, and of itself what its content hashes to, so that a damaged one is not believed.

    cells, gaps      of each structure (`noiseloom.data.Benzenoids`)
    split.labels     int8, shape (N,): 0 train, 1 validation, 2 test; so for every split
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from noiseloom.data.benzenoids import Benzenoids
from noiseloom.data.clusters import Folds
from noiseloom.data.whole_file import write_whole

__all__ = ["BenzenoidParts", "read_parts"]

_HOLDS = "benzenoids and their parts"
_PREFIX = "split."


@dataclass(frozen=True, eq=False)
class BenzenoidParts:
    """All benzenoids of a number of rings, and which are for what.

    Attributes:
        whole: the structures.
        folds: their parts, by split.
    """

    whole: Benzenoids
    folds: Mapping[str, Folds]

    def __len__(self) -> int:
        return len(self.whole)

    def save(self, path: Path, *, force: bool = False) -> None:
        """Write them as one .safetensors file, as a whole or not at all.

        Raises:
            FileExistsError: there is such a file, and no `force`.
            OSError: it cannot be written.
            ValueError: another kind of file.
        """
        tensors = {"cells": self.whole.cells, "gaps": self.whole.gaps}
        for name, folds in self.folds.items():
            which = torch.zeros(len(self), dtype=torch.int8)
            which[folds.validation], which[folds.test] = 1, 2
            tensors[_PREFIX + name] = which
        about = {
            "holds": _HOLDS,
            "rings": str(self.whole.cells.shape[1]),
            "digest": _digest(tensors),
        }
        write_whole(path, tensors, about, what=_HOLDS, force=force)


def read_parts(path: str | Path, rings: int) -> BenzenoidParts:
    """Read what `BenzenoidParts.save` has written.

    Args:
        path: the file.
        rings: that its structures must have.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another kind of file, a damaged one, or one of other rings.
    """
    path = Path(path).expanduser()
    anew = f"noiseloom record benzenoids --rings {rings} --out FILE.safetensors"
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}: {anew} writes one")
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is no .safetensors file ({reason}): write it anew, {anew}") from (
            error
        )
    if about.get("holds") != _HOLDS:
        raise ValueError(f"{path} holds something other than {_HOLDS}: {anew} writes them")
    if about.get("digest") != _digest(tensors):
        raise ValueError(f"{path} is damaged, its content is not what was written: {anew}")
    if about.get("rings") != str(rings):
        raise ValueError(
            f"{path} holds benzenoids of {about.get('rings')} rings, not of {rings}: "
            f"--rings {about.get('rings')}, or write others, {anew}"
        )
    cells, gaps = tensors.pop("cells"), tensors.pop("gaps")
    whole = Benzenoids(cells, torch.full((len(cells),), rings), gaps)
    folds = {
        name.removeprefix(_PREFIX): Folds(*((which == k).nonzero()[:, 0] for k in range(3)))
        for name, which in tensors.items()
    }
    return BenzenoidParts(whole, folds)


def _digest(tensors: Mapping[str, Tensor]) -> str:
    found = blake2b(digest_size=16)
    for name, value in sorted(tensors.items()):
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.contiguous().numpy().tobytes())
    return found.hexdigest()
