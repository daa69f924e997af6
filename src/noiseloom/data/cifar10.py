"""CIFAR-10 from its official binary files: 60,000 pictures of 32 x 32 pixels in ten classes.

A. Krizhevsky, 2009, "Learning multiple layers of features from tiny images". A file is a row of
records of 3,073 bytes: the label, then 1,024 bytes each of red, green and blue, row by row.
"""

import hashlib
import os
import tarfile
from pathlib import Path

import numpy as np
import torch

from noiseloom.data.images import Images
from noiseloom.data.split import Split

__all__ = ["cifar10"]

MD5 = "c32a1d4ab5d03f1284b67883e8d87530"  # of cifar-10-binary.tar.gz, on the page of the data set
FOLDER = "cifar-10-batches-bin"
TRAIN = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
TEST = ("test_batch.bin",)
RECORDS = 10_000  # in every file
RECORD = 1 + 3 * 32 * 32


def cifar10(path: str | os.PathLike[str], *, verify: bool = True) -> Split[Images]:
    """Load CIFAR-10: 50,000 pictures to train on and the 10,000 of the test batch held out.

    Args:
        path: `cifar-10-binary.tar.gz`, the folder `cifar-10-batches-bin` that is in it, or the
            folder around that.
        verify: check the MD5 sum of the archive and that every file has 10,000 records.

    Returns:
        Pixels of shape (N, 3, 32, 32) with 256 levels.

    Raises:
        FileNotFoundError: nothing at `path`, or one of the seven files is missing.
        ValueError: another checksum, an unreadable archive, a file that is not a row of records.
    """
    path = Path(path)
    names = (*TRAIN, *TEST, "batches.meta.txt")
    files = _from_folder(path, names) if path.is_dir() else _from_archive(path, names, verify)
    classes = tuple(files["batches.meta.txt"].decode().split())

    def images(names: tuple[str, ...]) -> Images:
        parts = [_records(path, name, files[name], len(classes), verify) for name in names]
        records = torch.from_numpy(np.concatenate(parts))
        pixels = records[:, 1:].reshape(-1, 3, 32, 32).contiguous()
        return Images(pixels, records[:, 0].long(), classes, levels=256)

    return Split(images(TRAIN), images(TEST))


def _from_folder(path: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    folder = path / FOLDER if (path / FOLDER).is_dir() else path
    for name in names:
        if not (folder / name).is_file():
            raise FileNotFoundError(f"CIFAR-10 needs the file {name} in {folder}")
    return {name: (folder / name).read_bytes() for name in names}


def _from_archive(path: Path, names: tuple[str, ...], verify: bool) -> dict[str, bytes]:
    if not path.is_file():
        raise FileNotFoundError(f"no CIFAR-10 archive or folder at {path}")
    if verify:
        with path.open("rb") as file:
            found = hashlib.file_digest(
                file, lambda: hashlib.md5(usedforsecurity=False)
            ).hexdigest()
        if found != MD5:
            raise ValueError(
                f"{path} has the MD5 sum {found}, not {MD5} of cifar-10-binary.tar.gz: get it "
                "again, or set verify=False if it is meant to differ"
            )
    files = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = Path(member.name).name
                if name in names and (content := archive.extractfile(member)):
                    files[name] = content.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ValueError(f"cannot read the archive {path}: {error}") from error
    for name in names:
        if name not in files:
            raise FileNotFoundError(f"CIFAR-10 needs the file {name} in {path}")
    return files


def _records(
    path: Path, name: str, data: bytes, classes: int, verify: bool
) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    count, rest = divmod(len(data), RECORD)
    if rest or not count or (verify and count != RECORDS):
        raise ValueError(
            f"{name} in {path} has {len(data)} bytes, not {RECORDS} records of {RECORD} bytes: "
            "it is cut short or another format"
        )
    records = np.frombuffer(data, np.uint8).reshape(count, RECORD)
    if records[:, 0].max() >= classes:
        raise ValueError(
            f"{name} in {path} has the label {records[:, 0].max()} of {classes} classes"
        )
    return records
