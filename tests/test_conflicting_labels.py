"""One structure with several labels: it is told where they differ most."""

import warnings

import pytest
import torch
from guided import load_run, train_run, write_files

from noiseloom.data.labelled import disagreement
from noiseloom.guide_material import Sources, read_material

ROWS = [
    f"AC{a}{b}GT,{i},0.{i}" for i, (a, b) in enumerate(zip("ACGTACGT", "AACCGGTT", strict=True))
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    files = write_files(tmp_path_factory.mktemp("files"))
    return load_run(
        train_run(files, tmp_path_factory.mktemp("runs") / "run", "masked", "--steps=3")
    )


def read(run, path, *more):
    path.write_text("\n".join(["sequence,y,z", *ROWS, *more]) + "\n")
    return read_material(run, Sources(str(path), columns=("y", "z")), 0.3)


def test_labels_of_one_structure_that_differ_are_told_by_line(run, tmp_path):
    path, (first, *_) = tmp_path / "labels.csv", (row.split(",")[0] for row in ROWS)
    told = (
        r"1 of 8 structures of .*labels.csv have several labels that differ, most at lines 2 and "
        r"11, column 'y': 0 and 5; "
    )
    with pytest.warns(UserWarning, match=told):
        found = read(run, path, f"{first},3,0.0", f"{first},5,0.0")
    assert len(found.learnt) + len(found.held_out) == 10
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(run, path, ROWS[0])


def test_the_largest_difference_is_one_in_deviations():
    keys = ["a", "b", "a", "c", "b", "d", "c"]
    y = torch.tensor([0.0, 10, 1, 5, 10, 3, 5], dtype=torch.float64)
    z = torch.tensor([7.0, 7, 7, 1e-3, 9, 2, 0], dtype=torch.float64)
    found = disagreement(keys, torch.stack((y, z), 1))
    # a differs by 1 of y, whose deviation is 3.8; b by 2 of z, whose is 3.4; c by 0.001.
    assert found is not None
    assert (found.count, found.rows, found.column) == (3, (1, 4), 1)
    assert disagreement(keys[:2], torch.stack((y, z), 1)[:2]) is None
    assert disagreement(["a", "a"], torch.ones(2, 1)) is None
