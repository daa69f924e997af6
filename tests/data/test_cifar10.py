import hashlib
import io
import tarfile

import numpy as np
import pytest
import torch

from noiseloom.data import cifar10
from noiseloom.data.cifar10 import FOLDER, RECORD, TEST, TRAIN

CLASSES = [f"class{i}" for i in range(10)]


def _records(seed, count=7):
    records = np.random.default_rng(seed).integers(0, 256, (count, RECORD), np.uint8)
    records[:, 0] = np.arange(count) % 10
    return records


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / FOLDER
    root.mkdir()
    for seed, name in enumerate(TRAIN + TEST):
        (root / name).write_bytes(_records(seed).tobytes())
    (root / "batches.meta.txt").write_text("\n".join(CLASSES) + "\n\n")
    return root


def test_folder_is_read_record_by_record(folder):
    split = cifar10(folder, verify=False)
    assert (len(split.train), len(split.held_out)) == (35, 7)
    assert split.train.classes == tuple(CLASSES)
    assert split.train.labels[7:14].tolist() == list(range(7))
    record = _records(1)[3]
    picture = split.train.pixels[7 + 3]
    assert picture[0, 0, 1] == record[1 + 1]  # red, first row, second column
    assert picture[2, 31, 0] == record[1 + 2048 + 31 * 32]  # blue, last row, first column
    assert torch.equal(cifar10(folder.parent, verify=False).train.pixels, split.train.pixels)


def test_archive_equals_folder_and_is_checked(folder, tmp_path, monkeypatch):
    path = tmp_path / "cifar-10-binary.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, FOLDER)
    with pytest.raises(ValueError, match=r"MD5 sum .* not c32a1d4ab5d03f1284b67883e8d87530"):
        cifar10(path)
    archived = cifar10(path, verify=False)
    assert torch.equal(archived.held_out.pixels, cifar10(folder, verify=False).held_out.pixels)
    digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    monkeypatch.setitem(cifar10.__globals__, "MD5", digest)
    with pytest.raises(ValueError, match=r"not 10000 records"):  # the sum is right now
        cifar10(path)


def test_bad_files_are_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere"):
        cifar10(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"data_batch_1.bin .* not 10000 records"):
        cifar10(folder)
    (folder / TRAIN[2]).write_bytes(_records(2).tobytes()[:-5])
    with pytest.raises(ValueError, match=r"data_batch_3.bin .* cut short"):
        cifar10(folder, verify=False)
    wrong = _records(2)
    wrong[0, 0] = 10
    (folder / TRAIN[2]).write_bytes(wrong.tobytes())
    with pytest.raises(ValueError, match=r"data_batch_3.bin .* label 10 of 10 classes"):
        cifar10(folder, verify=False)
    (folder / TRAIN[2]).unlink()
    with pytest.raises(FileNotFoundError, match=r"data_batch_3.bin"):
        cifar10(folder, verify=False)


def test_bad_archives_are_named(tmp_path):
    path = tmp_path / "a.tar.gz"
    path.write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"cannot read the archive"):
        cifar10(path, verify=False)
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("readme"), io.BytesIO())
    with pytest.raises(FileNotFoundError, match=r"data_batch_1.bin"):
        cifar10(path, verify=False)
