"""Files of structures with labels: which column is what, and one line for what is wrong."""

import gzip

import pytest
import torch

from noiseloom.data.labelled import label_columns, labels_of, read_cells, text_column


def written(tmp_path, text, name="labels.csv"):
    path = tmp_path / name
    path.write_text(text)
    return read_cells(path)


def test_columns_are_told_by_name_and_by_what_they_hold(tmp_path):
    cells = written(tmp_path, "id,Sequence,fitness\n1,ACD,0.5\n2, EF ,-1e3\n")
    assert text_column(cells, "", ["fitness"]) == "Sequence"
    assert cells.column("Sequence") == ["ACD", "EF"]
    assert label_columns(cells, ["fitness"], ["Sequence"]) == ("fitness",)
    assert labels_of(cells, ["fitness", "id"]).tolist() == [[0.5, 1.0], [-1000.0, 2.0]]
    with pytest.raises(ValueError, match=r"several columns of numbers, id, fitness: say which"):
        label_columns(cells, None, ["Sequence"])
    cells = written(tmp_path, "mutant\ty\nACD\t1\nEF\tNaN\n", "labels.tsv")
    assert text_column(cells, "not there", ["y"]) == "mutant"
    assert label_columns(cells, None, ["mutant"]) == ("y",)
    cells = written(tmp_path, "a,b,y\nx,z,1\n")
    with pytest.raises(ValueError, match=r"which column holds the structures.* a, b, y"):
        text_column(cells, "", ["y"])
    assert text_column(cells, "b", ["y"]) == "b"
    with pytest.raises(ValueError, match="no column of numbers: say"):
        label_columns(cells, None, ["y"])
    cells = written(tmp_path, "smiles,y\nCC,1\nCO,abc\nCN,\nCF,2\n")
    told = r"no column of numbers \(column 'y' has 'abc' in line 3\): say"
    with pytest.raises(ValueError, match=told):
        label_columns(cells, None, ["smiles"])
    cells = written(tmp_path, "a,b,y\nx,z,1\n")
    with pytest.raises(ValueError, match="has no column 'w'; it has a, b, y"):
        label_columns(cells, ["w"], ["a"])
    with pytest.raises(ValueError, match="different ones"):
        label_columns(cells, ["y", "y"], ["a"])


def test_small_effects_on_a_large_offset_keep_their_digits(tmp_path):
    right = [1_000_000 + k / 100 for k in range(55)]
    text = "".join(f"A,{value:.2f}\n" for value in right)
    labels = labels_of(written(tmp_path, "s,y\n" + text), ["y"])
    assert labels[:, 0].tolist() == pytest.approx(right, abs=1e-9, rel=0)
    assert len(labels.unique()) == 55


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("s,y\nA,1\nB,nan\n", "labels.csv, line 3, column 'y': the label is 'nan'"),
        ("s,y\nA,1\n\nB,\n", "labels.csv, line 4, column 'y': the label is missing"),
        ("s,y\nA,inf\n", "labels.csv, line 2, column 'y': the label is 'inf'"),
        ("s,y\nA,x1\n", "labels.csv, line 2, column 'y': the label is 'x1'"),
        ("s,y\nA,3\nB,3\nC,3.0\n", "column 'y': all 3 labels are 3, from line 2 to 4"),
    ],
)
def test_labels_that_are_none_are_named_by_their_line(tmp_path, text, told):
    with pytest.raises(ValueError, match=told):
        labels_of(written(tmp_path, text), ["y"])


def test_files_that_are_no_tables_get_one_line(tmp_path):
    for text, told in (("s,y\n", "no rows"), ("s,y\nA\n", "line 2 has 1 cells"), ("", "is empty")):
        with pytest.raises(ValueError, match=told):
            written(tmp_path, text)
    with pytest.raises(ValueError, match="is no table"):
        written(tmp_path, "x", "labels.txt")
    with gzip.open(tmp_path / "labels.tsv.gz", "wt") as file:
        file.write("s\ty\nA,B\t1\nC\t2\n")
    cells = read_cells(tmp_path / "labels.tsv.gz")
    assert cells.columns == {"s": ["A,B", "C"], "y": ["1", "2"]}
    assert torch.equal(labels_of(cells, ["y"]), torch.tensor([[1.0], [2.0]], dtype=torch.float64))
