"""Series: what is read, and that no window of training sees what is held out."""

import gzip
import json
import tarfile

import pytest
import torch

from noiseloom.data import Series, Split, Table, read_series, rolling


def table(rows, columns=2):
    values = torch.arange(rows * columns, dtype=torch.float64).reshape(rows, columns)
    return Table(values, tuple("abcdefgh"[:columns]))


def test_samples_are_stretches_of_the_series():
    series = Series(table(10).values, ("a", "b"), window=4, first=100)
    assert len(series) == 7
    batch = series[torch.tensor([0, 6, 3])]
    assert batch["position"].tolist() == [100, 106, 103]
    for values, start in zip(batch["values"], (0, 6, 3), strict=True):
        assert torch.equal(values, series.values[start : start + 4])
    with pytest.raises(ValueError, match="a window of 11 steps does not fit a series of 10"):
        Series(table(10).values, ("a", "b"), window=11)


@pytest.mark.parametrize(("rows", "context", "horizon", "windows"), [(40, 5, 3, 4), (20, 1, 7, 1)])
def test_the_end_is_held_out_and_forecast_window_by_window(rows, context, horizon, windows):
    whole = table(rows)
    split = rolling(whole, context=context, horizon=horizon, windows=windows)
    seen = split.train[torch.arange(len(split.train))]["values"]
    starts = horizon * torch.arange(windows)
    batch = split.held_out[starts]
    truth = batch["values"][:, context:].reshape(-1, 2)
    assert torch.equal(truth, whole.values[rows - windows * horizon :])  # each step once
    assert seen.max() < truth.min()
    assert torch.equal(seen[-1, -1], whole.values[rows - windows * horizon - 1])  # and no less
    assert torch.equal(batch["values"][:, 0], whole.values[batch["position"]])
    with pytest.raises(ValueError, match="steps are too few"):
        rolling(table(windows * horizon + context), context=context, horizon=horizon, windows=99)


def test_a_fingerprint_is_of_every_value():
    one, two = table(20), table(20)
    assert rolling(one, context=2, horizon=2, windows=2).fingerprint() == (
        rolling(two, context=2, horizon=2, windows=2).fingerprint()
    )
    two.values[-1, -1] += 1e-9
    assert rolling(one, context=2, horizon=2, windows=2).fingerprint() != (
        rolling(two, context=2, horizon=2, windows=2).fingerprint()
    )
    assert isinstance(rolling(one, context=2, horizon=2, windows=2), Split)


@pytest.mark.parametrize(
    ("text", "columns", "header"),
    [
        ("date,x,y\n2020-01-01,1,2\n2020-01-02,3,4\n\n2020-01-03,5,6\n", ("x", "y"), "auto"),
        ("x, y\n1,2\n3,4\n5,6\n", ("x", "y"), "auto"),
        ("1,2\n3,4\n5,6\n", ("0", "1"), "auto"),
        ("2020-01-01,1,2\n2020-01-02,3,4\n2020-01-03,5,6\n", ("0", "1"), "auto"),
        ("70001,70002\n1,2\n3,4\n5,6\n", ("70001", "70002"), "yes"),
        ("\ufeffx,y\n1,2\n3,4\n5,6\n", ("x", "y"), "auto"),
        ("d,x,y\n2020-1-1,1,2\n2020-1-1,3,4\n2020-1-1,5,6\n", ("x", "y"), "auto"),
        # Clocks go back once a year, and not all dates are ISO's.
        ("t,x,y\n2020-10-25T02,1,2\n2020-10-25T01,3,4\n2020-10-25T03,5,6\n", ("x", "y"), "auto"),
        ("t,x,y\n2/1/2020,1,2\n1/1/2020,3,4\n12/1/2019,5,6\n", ("x", "y"), "auto"),
        ("\ufeff1,2\n3,4\n5,6\n", ("0", "1"), "auto"),
    ],
)
def test_csv_files(tmp_path, text, columns, header):
    plain, packed = tmp_path / "x.csv", tmp_path / "x.csv.gz"
    plain.write_text(text)
    with gzip.open(packed, "wt") as file:
        file.write(text)
    for path in (plain, packed):
        found = read_series(path, header)
        assert found.columns == columns
        assert found.values.tolist() == [[1, 2], [3, 4], [5, 6]]


def test_gluonts_layout_takes_the_longest_of_each_series(tmp_path):
    lines = [
        json.dumps({"start": "1990-01-01", "target": [d + t / 10 for t in range(n)]})
        for n in (3, 5)
        for d in (1, 2)
    ]
    (tmp_path / "set" / "test").mkdir(parents=True)
    (tmp_path / "set" / "test" / "test.json").write_text("\n".join(lines))
    with tarfile.open(tmp_path / "set.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "set", "set")
    for path in (tmp_path / "set", tmp_path / "set.tar.gz"):
        values = read_series(path).values
        assert values.shape == (5, 2)
        torch.testing.assert_close(values[-1], torch.tensor([1.4, 2.4], dtype=torch.float64))


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("x.csv", "", "is empty"),
        ("x.csv", "a,b\n", "no rows of numbers"),
        ("x.csv", "a,b,a \n1,2,3\n4,5,6\n", "2 columns of .* are called 'a': give each a name"),
        ("x.csv", "a,b\n1,2\n3\n", "line 3: 1 cells, and 2 before"),
        ("x.csv", "a,b\n1,2\n3,\n", "line 3, column 2: an empty cell is no finite number"),
        ("x.csv", "a,b\n1,2\n3,nan\n", "line 3, column 2: 'nan' is no finite number"),
        ("x.csv", "a,b\n1,2\n3,x\n", "line 3, column 2: 'x' is no finite number"),
        ("x.csv", "a,b\n,2\n3,4\n", "line 2, column 1: an empty cell is no finite number"),
        ("x.csv", "a,b\nNA,2\n3,4\n", "line 2, column 1: 'NA' is no finite number"),
        ("x.csv", "1,2\n,2\n3,4\n", "line 2, column 1: an empty cell is no finite number"),
        ("x.csv", ",a\n" + "".join(f"{i},{i * i}\n" for i in range(12)), "grows by 1 in every row"),
        ("x.csv", "70001,70002\n1,2\n3,4\n5,6\n", "names that are numbers: say --header yes"),
        ("x.csv", "date;x\n2020-01-01;1,5\n2020-01-02;2,5\n", "has semicolons between its cells"),
        ("x.csv", "x\ty\n1\t2\n3\t4\n", "has tabs between its cells"),
        ("x.csv", "d,x\n2020-01-02,1\n2020-01-01,2\n", "begins with its newest row .2020-01-02"),
        ("x.csv", "at,x\n" + "Rome,1\nOslo,2\n" * 3, "says the same in many rows .'Rome'"),
        ("x.txt", "1,2\n", "is no time series"),
        ("x.csv.gz", "no gzip", "cannot be read"),
        ("x.tar.gz", "no tar", "cannot be read"),
    ],
)
def test_what_is_no_series_is_refused(tmp_path, name, text, told):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ValueError, match=told):
        read_series(path)


GAPPED = """
,,
date,x,y
2020-01-01,1,2

2020-01-02,NA,4
,,
2020-01-04,5,
2020-01-05,nan,8
2020-01-06,9,-
2020-01-07,11,12
,,
"""


def test_gaps_are_read_where_they_are_asked_for(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(GAPPED)
    found = read_series(path, gaps=True)
    assert found.columns == ("x", "y")
    nan = float("nan")
    expected = [[1, 2], [nan, 4], [nan, nan], [5, nan], [nan, 8], [9, nan], [11, 12]]
    torch.testing.assert_close(found.values, torch.tensor(expected).double(), equal_nan=True)
    with pytest.raises(ValueError, match=r"line 6, column 2: 'NA' is no .*, or say --gaps missing"):
        read_series(path)
    # A row of gaps is a step, and without it time would jump.
    path.write_text("1,2\n3,4\n,\n7,8\n,\n")
    assert read_series(path, gaps=True).values.isnan().any(1).tolist() == [
        False,
        False,
        True,
        False,
    ]
    with pytest.raises(ValueError, match="line 3, column 1: an empty cell is no finite number"):
        read_series(path)
    for text, told in (
        ("a,b\n1,2\n3,x\n", r"line 3, column 2: 'x' is .* rows or columns$"),
        ("a,b\n1,2\n3,inf\n", r"line 3, column 2: 'inf' is .* rows or columns$"),
        ("a,b\n1,\n3,\n", "column 'b' of .* has no numbers: remove it"),
        ("70001,70002\n1,2\n3,\n5,6\n", "names that are numbers: say --header yes"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=told):
            read_series(path, gaps=True)
    (tmp_path / "test").mkdir()
    file = tmp_path / "test" / "test.json"
    file.write_text('{"target": [1.0, NaN, 3.0]}')
    assert read_series(tmp_path, gaps=True).values.isnan()[:, 0].tolist() == [False, True, False]
    with pytest.raises(ValueError, match="not finite: fill or remove them, or say --gaps missing"):
        read_series(tmp_path)
    file.write_text('{"target": [1.0, NaN, Infinity]}')
    with pytest.raises(ValueError, match=r"not finite: fill or remove them$"):
        read_series(tmp_path, gaps=True)


def test_damaged_archives_are_named(tmp_path):
    content = bytearray(gzip.compress("".join(f"{i},{i * i % 7}\n" for i in range(400)).encode()))
    content[60:64] = b"\xff\xff\xff\xff"
    (tmp_path / "x.csv.gz").write_bytes(content)
    with pytest.raises(ValueError, match=r"x.csv.gz cannot be read|x.csv.gz, line"):
        read_series(tmp_path / "x.csv.gz")


def test_a_target_of_gluonts_is_one_series(tmp_path):
    (tmp_path / "test").mkdir()
    for target in ([[1.0, 2.0], [3.0, 4.0]], 5.0):
        (tmp_path / "test" / "test.json").write_text(json.dumps({"target": target}))
        with pytest.raises(ValueError, match="line 1: a target is one list of numbers"):
            read_series(tmp_path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_series(tmp_path / "none.csv")
    with pytest.raises(ValueError, match="holds 0 files"):
        read_series(tmp_path)
