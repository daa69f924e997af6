"""Tables: what is read of a file, what is refused and where, and what is held out."""

import csv
import gzip
import os
import random
import re
import sys
import threading
import tracemalloc

import pytest
import torch
from table_cases import people, written

from noiseloom.data import Split, read_table
from noiseloom.data.table_cells import read_cells
from noiseloom.data.tables import _MOST
from noiseloom.data.tokens import Tokens


def test_columns_are_taken_for_what_they_are(tmp_path):
    split, vocabulary = read_table(people(tmp_path / "a.csv"))
    assert isinstance(split, Split)
    assert isinstance(split.train, Tokens)
    kinds = {c.name: (c.kind, c.bins, c.type) for c in vocabulary.columns}
    assert kinds == {
        "age": ("integer", 0, "integer"),
        "income": ("integer", 32, "integer"),
        "city": ("categorical", 0, "text"),
        "children": ("integer", 0, "integer"),
        "debt": ("real", 32, "real"),
    }
    assert set(vocabulary.left_out) == {"id", "who"}
    assert "counts the rows" in split.notes[0]
    assert "its first 257 texts are all different" in split.notes[1]
    assert vocabulary.columns[2].values == ("Bonn", "Köln", "a, b; c", 'he said "no"')
    assert (len(split.train), len(split.held_out)) == (360, 40)
    assert split.train.values.dtype == torch.uint8
    assert split.train.sizes == vocabulary.sizes


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("form", ["plain", "bom", "gz", "crlf", "blank lines", "spaces"])
def test_the_form_of_a_file_makes_no_difference(tmp_path, delimiter, form):
    reference = read_table(people(tmp_path / "a.csv"))[0]
    path = people(tmp_path / "b.csv", delimiter=delimiter)
    content = path.read_bytes()
    if form == "bom":
        path.write_bytes(b"\xef\xbb\xbf" + content)
    elif form == "gz":
        path = tmp_path / "b.csv.gz"
        path.write_bytes(gzip.compress(content))
    elif form == "crlf":
        path.write_bytes(content.replace(b"\n", b"\r\n"))
    elif form == "blank lines":
        path.write_bytes(b"\n" + content.replace(b"\n", b"\n\n"))
    elif form == "spaces" and delimiter != "\t":
        path.write_bytes(content.replace(delimiter.encode(), delimiter.encode() + b" "))
    assert read_table(path)[0].fingerprint() == reference.fingerprint()


PLAIN = "".join(f"{i % 7},{'xyz'[i % 3]}\n" for i in range(40))


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, "a.csv: the file is empty"),
        ("\n \n", {}, "the file is empty"),
        ("a,b\n", {}, "no rows below the header"),
        ("a,a\n" + PLAIN, {}, "two columns are called 'a'"),
        ("a,\n" + PLAIN, {}, "column 2 has no name"),
        (PLAIN.replace("x", "1").replace("y", "2").replace("z", "3"), {}, "first row has numbers"),
        ("a,b\n" + PLAIN + "1\n", {}, "line 42 has 1 cells, and the header 2"),
        ("a,b\n1,x\n1,2,3\n", {}, "line 3 has 3 cells, and the header 2"),
        ("a,b\n" + PLAIN + "oops,x\n", {}, "line 42, column 'a': 'oops' is no number, and all"),
        ("a,b\n" + PLAIN + "1.5,x\n06000,x\n", {}, "'06000' is no number, as the 0 in front would"),
        (
            "a,b\n06000,x\n" + PLAIN,
            {"schema": {"a": "integer"}},
            "line 2, .*no number, as the 0 in",
        ),
        ("a,b\n" + PLAIN + "1,17\n", {}, "line 42, column 'b': '17' is a number, and text is"),
        ("a,b\n" + PLAIN + "1e999,x\n", {}, "line 42, column 'a': 1e999 is too large"),
        ("a,b\n" + PLAIN + '1,"x\n', {}, 'line 42: a " opens a cell and is never closed'),
        ("a,b\n" + '1,"x\n' + PLAIN, {}, 'line 2: a " opens a cell and is never closed'),
        ("a,b\n" + '"1\n",x\n1,"x\n' + PLAIN, {}, 'line 4: a " opens a cell and is never closed'),
        ("a,b\n" + '1,"x\n' + PLAIN * 999, {}, 'line 2: a " opens a cell and is never closed'),
        ('\na,"b\n' + PLAIN, {}, 'line 2: a " opens a cell and is never closed'),
        ('a,"b c" \n' + PLAIN, {}, """line 1: ',' expected after '"'"""),
        ("a,b\n" + '1,"x\n\nx" \n' + PLAIN, {}, """line 2 to 4: ',' expected after '"'"""),
        ("a;b\n" + "1,5;x\n2,5;y\n" * 9, {}, "line 2, column 'a': '1,5' is a number with a comma"),
        ("a,b\n" + "5,x\n5,y\n" * 9, {}, "column 'a' has one value in all training rows"),
        ("a,b\n" + "?,x\n,y\n" * 9, {}, "column 'a' has one value in all training rows"),
        ("a,b\n1,x\n", {}, "there are 1 rows: both parts need one"),
        ("a,b\n" + PLAIN, {"split_by": "c"}, "no column 'c': there are a, b"),
        ("age,b\n" + PLAIN, {"schema": {"aeg": "real"}}, "no column 'aeg': did you mean 'age'"),
        ("a,b\n" + PLAIN, {"schema": {"b": "real"}}, "line 2, column 'b': 'x' is no number"),
        ("a,b\n.5,x\n" + PLAIN, {"schema": {"a": "integer"}}, "line 2, column 'a': 0.5 is no"),
        ("a,b\n" + PLAIN, {"schema": {"a": {"kind": "integer", "high": 3}}}, "is not in 0 .. 3"),
        ("a,b\n" + PLAIN, {"schema": {"a": "leave_out", "b": "leave_out"}}, "no column is left"),
        ("a,b\n" + "1,x\n1,x\n2,y\n" * 9, {"max_classes": 2, "rare": 99}, "raise rare|lower rare"),
        ("a,b\n" + "".join(f"1,x{i // 2}\n" for i in range(600)), {}, "more than 256 different"),
        ("a,b\n" + PLAIN + "2,\n", {"missing": "refuse"}, "line 42, column 'b': a value is mis"),
    ],
)
def test_what_is_no_table_is_refused_in_a_line(tmp_path, text, options, message):
    with pytest.raises(ValueError, match=message) as error:
        read_table(written(tmp_path / "a.csv", text), **options)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(str(tmp_path / "a.csv"))


def test_other_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a\.csv does not exist"):
        read_table(tmp_path / "a.csv")
    with pytest.raises(ValueError, match="is no table: give a"):
        read_table(written(tmp_path / "a.xlsx", ""))
    with pytest.raises(ValueError, match="no UTF-8 text"):
        read_table(written(tmp_path / "a.csv", "a,b\nÄ,1\n", "latin-1"))
    whole = gzip.compress(b"a,b\n" + PLAIN.encode())
    (tmp_path / "a.csv.gz").write_bytes(whole[:-20])
    with pytest.raises(ValueError, match=r"a\.csv\.gz: "):
        read_table(tmp_path / "a.csv.gz")


@pytest.mark.parametrize("codes", [("10115", "02134"), ("1" * 16, "0" * 16)])
def test_codes_of_one_length_are_text_wherever_they_come_and_one_is_named(tmp_path, codes):
    """They may be digits that could be a number, which is told; codes alone are of any length."""
    for pair in (codes, codes[::-1]):
        text = "zip,b\n" + "".join(f"{pair[i // 30]},{i % 2}\n" for i in range(60))
        split, vocabulary = read_table(written(tmp_path / "a.csv", text))
        assert vocabulary.columns[0].values == tuple(sorted(codes))
        mixed = "10115" in codes
        line = 2 if pair[0] == "02134" else 32
        told = f"column 'zip' has categories; '02134' in line {line} is no number, so that all"
        assert [note.startswith(told) for note in split.notes] == [True] * mixed
    text = "area,b\n" + "".join(f"{('030', '0221')[i // 30]},{i % 2}\n" for i in range(60))
    split, vocabulary = read_table(written(tmp_path / "a.csv", text))
    assert (vocabulary.columns[0].values, split.notes) == (("0221", "030"), ())


@pytest.mark.parametrize("rows", [60, 5_000])
@pytest.mark.parametrize(
    ("numbers", "code", "why"),
    [
        (lambda i: 20 + i % 60, "007", "the 0 in front would be lost"),
        (lambda i: 100 + 37 * i, "1234567890123456", "of over 15 digits some are lost"),
        (lambda i: 1000 * (i % 1_000), "012", "the 0 in front would be lost"),
        (lambda i: i % 60 - 9, "01", "the 0 in front would be lost"),
    ],
)
def test_one_code_among_numbers_of_other_lengths_is_named(tmp_path, rows, numbers, code, why):
    cells = [str(numbers(i)) for i in range(rows)]
    text = "a,b\n" + "".join(f"{cell},{i % 2}\n" for i, cell in enumerate([*cells, code]))
    path = written(tmp_path / "a.csv", text)
    told = f"line {rows + 2}, column 'a': '{code}' is no number, as {why}"
    with pytest.raises(ValueError, match=f"{told}.*, and all before it are: mend it, or say in"):
        read_table(path)
    text = "a,b\n" + "".join(f"{cell},{i % 2}\n" for i, cell in enumerate([code, *cells]))
    path = written(tmp_path / "a.csv", text)
    told = rf"line 3, column 'a': '{cells[0]}' is a number, and text is before it \('{code}' in"
    with pytest.raises(ValueError, match=rf"{told} line 2\): if it is a name too, say in the"):
        read_table(path)


@pytest.mark.parametrize("cell", ["1,5", "-1000,5", "1,234", "1,234,567.8", "1.234,5", "12,345."])
def test_a_number_with_a_comma_is_refused_in_quotes_too(tmp_path, cell):
    rows = [f'"{cell}",{i % 2}\n' if i == 3 else f'"word {i % 5}",{i % 2}\n' for i in range(60)]
    path = written(tmp_path / "a.csv", "a,b\n" + "".join(rows))
    told = f"line 5, column 'a': '{cell}' is a number with a comma: write numbers with points alone"
    with pytest.raises(ValueError, match=re.escape(told)):
        read_table(path)
    assert cell in read_table(path, schema={"a": "categorical"}, rare=1)[1].columns[0].values
    path = written(tmp_path / "b.csv", "a,b\n" + "".join([*rows[3:], *rows[:3]]))
    with pytest.raises(ValueError, match=r"line 2, column 'a'.* with a comma"):
        read_table(path)
    for text in ("1,2,3", "1, 5", "12,34,56", "1,5 m"):
        read_table(written(tmp_path / "c.csv", "a,b\n" + "".join(rows).replace(cell, text)), rare=1)


def test_an_empty_line_of_one_column_is_a_missing_cell(tmp_path):
    """But for those at the end of the file, and before the header."""
    cells = ["" if i % 3 == 0 else "xy"[i % 2] for i in range(90)]
    cells[-1] = '""'  # which says that there is one
    path = written(tmp_path / "a.csv", "\na\n" + "\n".join(cells) + "\n\n\n")
    split, vocabulary = read_table(path)
    assert len(split.train) + len(split.held_out) == 90
    assert "31 of 90 rows have missing values, which are a class" in split.notes
    assert vocabulary.columns[0].gap
    with pytest.raises(ValueError, match="line 3, column 'a': a value is missing"):
        read_table(path, missing="refuse")
    rows, places = read_cells(written(tmp_path / "b.csv", "a\nx\n\r\ny\n"), ["a"], [])
    assert (rows, places) == ([["x"], [""], ["y"]], ["line 2", "line 3", "line 4"])


def test_codes_of_other_lengths_are_none_beside_numbers(tmp_path):
    cells = ["10115", "02134", "0221"]
    text = "a,b\n" + "".join(f"{cells[i // 20]},{i % 2}\n" for i in range(60))
    told = "line 42, column 'a': '0221' has 4 digits, and all before it have 5: mend it, or say"
    with pytest.raises(ValueError, match=told):
        read_table(written(tmp_path / "a.csv", text))
    each = "".join(f"{10_000 + i},{i % 2}\n" for i in range(300))
    path = written(tmp_path / "a.csv", f"a,b\n{each}02134,1\n")
    told = "column 'a' is left out: .* all different; '02134' in line 302 is no number"
    assert any(re.match(told, note) for note in read_table(path)[0].notes)
    path = written(tmp_path / "a.csv", f"a,b\n10000,1\n{each}02134,1\n")
    with pytest.raises(ValueError, match=r"more than 256 different.*; '02134' in line 303 is no"):
        read_table(path)


def test_missing_values_are_a_class_or_no_rows(tmp_path):
    path = people(tmp_path / "a.csv", gaps=0.05)
    schema = {"id": "leave_out", "who": "leave_out"}
    split, vocabulary = read_table(path, schema=schema)
    assert all(column.gap for column in vocabulary.columns)
    total = 0
    for c, column in enumerate(vocabulary.columns):
        missing = (split.train.values[:, c] == column.size - 1).sum().item()
        assert missing == column.gaps > 0
        total += missing
    assert any("have missing values, which are a class" in note for note in split.notes)

    dropped, vocabulary = read_table(path, schema=schema, missing="drop")
    rows = len(dropped.train) + len(dropped.held_out)
    assert any(f"{400 - rows} of 400 rows with missing" in note for note in dropped.notes)
    assert 0 < 400 - rows <= total + 40 * 5
    assert not any(column.gap for column in vocabulary.columns)


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_value_that_only_a_held_out_row_lacks_is_a_class_too(tmp_path, form):
    cells = [(str(i % 9), "abc"[i % 3], "test" if i == 50 else "train") for i in range(90)]
    cells[50] = ("", "", "test")
    if form == "csv":
        text = "".join(",".join(row) + "\n" for row in cells)
        path = written(tmp_path / "a.csv", "n,w,part\n" + text)
    else:
        arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        n, w, part = zip(*cells, strict=True)
        path = tmp_path / "a.parquet"
        columns = {"n": [int(v) if v else None for v in n], "w": [v or None for v in w]}
        parquet.write_table(arrow.table({**columns, "part": list(part)}), path)
    split, vocabulary = read_table(path, split_by="part")
    assert split.held_out.values.tolist() == [[9, 3]]
    assert vocabulary.decode(split.held_out.values) == [[None, None]]
    place = "line 52" if form == "csv" else "row 51"
    with pytest.raises(ValueError, match=f"{place}, column 'n': a value is missing"):
        read_table(path, split_by="part", missing="refuse")
    with pytest.raises(ValueError, match="holds out no row"):
        read_table(path, split_by="part", missing="drop")


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_column_that_changes_type_half_way_is_named_with_its_place(tmp_path, form):
    """In Parquet a column is of one type; of text it is of names, whatever these look like."""
    numbers = [str(i % 9) for i in range(60)] + ["old"] + [str(i % 9) for i in range(60)]
    if form == "csv":
        text = "n,w\n" + "".join(f"{n},{'ab'[i % 2]}\n" for i, n in enumerate(numbers))
        with pytest.raises(ValueError, match="line 62, column 'n': 'old' is no number, and all"):
            read_table(written(tmp_path / "a.csv", text))
        return
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    parquet.write_table(arrow.table({"n": numbers, "w": ["ab"[i % 2] for i in range(121)]}), path)
    vocabulary = read_table(path, rare=1)[1]
    assert vocabulary.columns[0].values == (*map(str, range(9)), "old")
    with pytest.raises(ValueError, match="row 61, column 'n': 'old' is no number"):
        read_table(path, schema={"n": "integer"})


def test_constants_are_left_out_on_request(tmp_path):
    path = written(tmp_path / "a.csv", "a,b,c\n" + "5,x,\n5,y,\n" * 9)
    split, vocabulary = read_table(path, constant="leave_out")
    assert vocabulary.names == ("b",)
    assert [note.split(":")[0] for note in split.notes[-2:]] == [
        "column 'a' is left out",
        "column 'c' is left out",
    ]


def test_held_out_rows_teach_nothing(tmp_path):
    """Whatever the held-out rows say, the classes are the same, and so are the training tokens."""
    draw = random.Random(1)
    train = [
        f"{draw.gauss(0, 1)},{draw.randint(0, 9)},{draw.choice('xyz')},train" for _ in range(99)
    ]
    found = []
    for held in ("0.5,3,x,test", "1e9,-44,y,Validation"):
        lines = ["r,n,w,part", *train[:50], held, *train[50:]]
        path = written(tmp_path / "a.csv", "\n".join(lines))
        split, vocabulary = read_table(path, split_by="part")
        found.append((split.train.values, vocabulary.facts()))
        assert len(split.held_out) == 1
        assert vocabulary.left_out == {"part": "says what is held out"}
    assert torch.equal(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]
    assert sum("nearest class" in note for note in split.notes) == 2  # 1e9 and -44
    assert split.held_out.values[0, 1] == 0  # the least whole number


def test_a_split_by_other_words_needs_one_that_is_held_out(tmp_path):
    path = written(tmp_path / "a.csv", "a,b,y\n" + PLAIN.replace("\n", ",2019\n") + "1,x,2020\n")
    with pytest.raises(ValueError, match="'2019', which is neither train nor test"):
        read_table(path, split_by="y")
    split, _ = read_table(path, split_by="y", held_out_value="2020")
    assert (len(split.train), len(split.held_out)) == (40, 1)
    with pytest.raises(ValueError, match="holds out no row"):
        read_table(path, split_by="y", held_out_value="2021")


def test_the_seed_draws_the_rows(tmp_path):
    path = people(tmp_path / "a.csv")
    prints = {read_table(path, seed=seed, held_out=0.3)[0].fingerprint() for seed in (0, 0, 1)}
    assert len(prints) == 2
    assert len(read_table(path, held_out=0.3)[0].held_out) == 120


def test_a_category_of_held_out_rows_alone_is_named_or_other(tmp_path):
    text = "a,b,part\n" + PLAIN.replace("\n", ",train\n") + "1,w,test\n2,x,test\n"
    path = written(tmp_path / "a.csv", text)
    with pytest.raises(ValueError, match="line 42, column 'b': there is no class for 'w': no tr"):
        read_table(path, split_by="part")
    for options in ({"rare": 1}, {"schema": {"b": {"kind": "categorical", "other": True}}}):
        split, vocabulary = read_table(path, split_by="part", **options)
        assert vocabulary.decode(split.held_out.values) == [[1, "other"], [2, "x"]]
        assert vocabulary.sizes[1] == 4
    gap = written(tmp_path / "b.csv", text.replace("1,w", "1,"))
    for schema in (None, {"b": {"kind": "categorical", "missing": True}}):
        split, vocabulary = read_table(gap, split_by="part", schema=schema)
        assert vocabulary.decode(split.held_out.values)[0] == [1, None]


def test_a_word_that_the_schema_lacks_is_told_so_wherever_it_is(tmp_path):
    rows = "".join(f"{i % 7},{('Bonn', 'York')[i % 2]},train\n" for i in range(40))
    schema = {"b": {"kind": "categorical", "values": ["Bonn", "Ulm"]}}
    for text in (rows, rows.replace("York", "Bonn") + "1,York,test\n"):
        path = written(tmp_path / "a.csv", "a,b,part\n" + text + "2,Bonn,test\n")
        with pytest.raises(ValueError, match="no class for 'York': the schema has none; give"):
            read_table(path, split_by="part", schema=schema)
    path = written(tmp_path / "a.csv", "a,b\n" + rows.replace(",train", ""))
    for seed in range(9):  # whichever row is drawn
        with pytest.raises(ValueError, match="the schema has none"):
            read_table(path, schema=schema, seed=seed)


@pytest.mark.parametrize(("count", "told"), [(2, "1 other column is"), (3, "2 other columns are")])
def test_other_columns_that_are_refused_are_counted(tmp_path, count, told):
    names = "abc"[:count]
    rows = (",".join("5" * count) + "\n") * 9
    path = written(tmp_path / "a.csv", ",".join(names) + "\n" + rows)
    with pytest.raises(ValueError, match=f"; {told} refused too: 'b'"):
        read_table(path)


def test_a_number_without_a_class_is_named_with_all_its_digits(tmp_path):
    rows = "".join(f"{(20240101, 20190304)[i % 2]},{i % 3},train\n" for i in range(40))
    path = written(tmp_path / "a.csv", "a,b,part\n" + rows + "20240230,1,test\n")
    with pytest.raises(ValueError, match="there is no class for '20240230': no training row"):
        read_table(path, split_by="part")


def test_rare_categories_share_a_class(tmp_path):
    words = [f"w{i}" for i in range(300)] + ["a", "b"] * 200
    random.Random(0).shuffle(words)
    path = written(
        tmp_path / "a.csv", "n,w\n" + "".join(f"{i % 5},{w}\n" for i, w in enumerate(words))
    )
    split, vocabulary = read_table(path, rare=2)
    assert vocabulary.columns[1].values == ("a", "b")
    counts = torch.bincount(split.train.values[:, 1].long())
    assert 250 < counts[2] < 300
    # Where there is a word "other", rare ones are it.
    path.write_text(path.read_text().replace(",b\n", ",other\n"))
    split, vocabulary = read_table(path, rare=2)
    assert (vocabulary.columns[1].values, vocabulary.sizes[1]) == (("a", "other"), 2)
    assert torch.bincount(split.train.values[:, 1].long())[1] == counts[1] + counts[2]
    assert len(words) < _MOST


def test_a_file_is_read_in_one_pass(tmp_path):
    """A pipe gives its bytes once."""
    reference = read_table(people(tmp_path / "a.csv", rows=9_000))[0]
    content = (tmp_path / "a.csv").read_bytes()
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(content,))
    writer.start()
    found = read_table(pipe)[0]
    writer.join()
    assert found.fingerprint() == reference.fingerprint()


def test_rows_are_not_kept(tmp_path):
    """A row more takes 8 bytes for its line, and 4 or 8 a cell, twice while an array grows; cells
    of text would take 50 each and more."""
    peaks, sizes = [], (10_000, 40_000)
    for rows in sizes:
        path = people(tmp_path / "a.csv", rows=rows)
        tracemalloc.start()
        split, _ = read_table(path)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert split.train.values.dtype == torch.uint8
    a_row = (peaks[1] - peaks[0]) / (sizes[1] - sizes[0])
    assert a_row < 20 * 6


def test_parquet_needs_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"pip install 'noiseloom\[parquet\]'"):
        read_table(written(tmp_path / "a.parquet", "x"))


def test_parquet_is_the_same_table(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    draw = random.Random(0)
    columns = {
        "n": [draw.randint(0, 9) for _ in range(5_000)],
        "r": [draw.gauss(0, 1) for _ in range(5_000)],
        "w": [draw.choice(["1", "2", None]) for _ in range(5_000)],
        "t": [draw.random() < 0.5 for _ in range(5_000)],
    }
    parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet", row_group_size=700)
    split, vocabulary = read_table(tmp_path / "a.parquet", held_out=0.2)
    assert [c.type for c in vocabulary.columns] == ["integer", "real", "text", "text"]
    assert vocabulary.columns[2].values == ("1", "2")  # text, as the file says
    rows = list(zip(*columns.values(), strict=True))
    lines = [f"{n},{r!r},{w or ''},{str(t).lower()}\n" for n, r, w, t in rows]
    path = written(tmp_path / "a.csv", "n,r,w,t\n" + "".join(lines))
    same, _ = read_table(path, held_out=0.2, schema=vocabulary.schema())
    assert same.fingerprint() == split.fingerprint()
    parquet.write_table(pyarrow.table({"a": [[1], [2]]}), tmp_path / "b.parquet")
    with pytest.raises(ValueError, match="column 'a' is of list"):
        read_table(tmp_path / "b.parquet")
    with pytest.raises(ValueError, match=r"c\.parquet: "):
        read_table(written(tmp_path / "c.parquet", "not one"))


def rewritten(path, other, rows, columns=None, more=()):
    """Some rows of a table in a file of its own, perhaps with other columns, in another order."""
    with path.open(newline="", encoding="utf-8") as file:
        head, *body = csv.reader(file)
    head, body = [*head, *(name for name, _ in more)], [[*r, *(v for _, v in more)] for r in body]
    places = [head.index(name) for name in columns or head]
    with other.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([[row[i] for i in places] for row in [head, *body[rows]]])
    return other


@pytest.mark.parametrize("options", [{}, {"missing": "drop"}, {"rare": 3}, {"split_by": "part"}])
def test_a_file_is_the_same_by_its_own_vocabulary(tmp_path, options):
    path = people(tmp_path / "a.csv", gaps=0.02)
    parts = ["part", "same", *(["test", "train", "train"][i % 3] for i in range(400))]
    lines = path.read_text(encoding="utf-8").splitlines()
    # `same` says nothing once rows without it have been dropped, and is left out.
    lines = [f"{line},same,part" if i == 0 else line for i, line in enumerate(lines)]
    lines[1:] = [
        f"{line},{'' if i % 50 == 0 else 'x'},{p}"
        for i, (line, p) in enumerate(zip(lines[1:], parts[2:], strict=True))
    ]
    written(path, "\n".join(lines) + "\n")
    options = {"constant": "leave_out", **options}
    split, vocabulary = read_table(path, schema={"who": "leave_out"}, **options)
    again, same = read_table(path, vocabulary=vocabulary, **options)
    assert again.fingerprint() == split.fingerprint()
    assert same is vocabulary


def test_another_file_is_read_by_the_columns_of_a_vocabulary(tmp_path):
    path = people(tmp_path / "a.csv")
    vocabulary = read_table(path)[1]
    names = ["colour", "debt", "city", "age", "children", "income"]
    other = rewritten(path, tmp_path / "b.csv", slice(40, 60), names, [("colour", "red")])
    split, _ = read_table(other, vocabulary=vocabulary, held_out=0.25)
    assert split.notes == ("columns that the model does not have are passed over: colour",)
    assert (len(split.train), len(split.held_out)) == (15, 5)
    assert split.train.sizes == vocabulary.sizes
    with other.open(newline="", encoding="utf-8") as file:
        rows = [{n: r[n] for n in vocabulary.names} for r in csv.DictReader(file)]
    expected = sorted(vocabulary.encode(rows).tolist())
    found = torch.cat([split.train.values, split.held_out.values]).tolist()
    assert sorted(found) == expected


OWN = "age,city,gain\n" + "".join(
    f"{i % 9},{'abc'[i % 3]},{0.25 * (i * 7 % 40)}\n" for i in range(80)
)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("age,city\n1,a\n2,b\n", {}, "b.csv: the table has no column 'gain': there are age, city"),
        ("Age,city,gain\n1,a,1\n", {}, "no column 'age': did you mean 'Age'"),
        ("age,city,gain\n1,a,1\n2,Rome,1\n", {}, "line 3, column 'city': there is no class for"),
        ("age,city,gain\n1,a,1\n2,Rome,1\n", {}, "for 'Rome': there are a, b, c"),
        ("age,city,gain\n1,7,1\n2,a,1\n", {}, "line 2, column 'city': there is no class for '7'"),
        ("age,city,gain\n1,a,1\nold,a,1\n", {}, "line 3, column 'age': 'old' is no finite number"),
        ("age,city,gain\n1,a,1\n1.5,a,1\n", {}, "line 3, column 'age': '1.5' is no whole number"),
        ("age;city;gain\n1;a;1\n1;a;1,5\n", {}, "line 3, column 'gain': '1,5' is no finite"),
        ("age,city,gain\n1,a,1\n1,,1\n", {}, "line 3, column 'city': a value is missing, and "),
        ("age,city,gain\n1,a,1\n,a,1\n", {"missing": "refuse"}, "line 3, column 'age': a value"),
        ("age,city,gain\n,a,1\n", {"missing": "drop"}, "no rows below the header: all 1 have"),
        ("age,city,gain\n1,a,1\n", {}, "there are 1 rows: both parts need one"),
        ("age,city,gain\n1,a\n", {}, "line 2 has 2 cells, and the header 3"),
        ("age,city,gain\n", {}, "there are no rows below the header"),
    ],
)
def test_what_does_not_fit_a_vocabulary_is_one_line(tmp_path, text, options, message):
    vocabulary = read_table(written(tmp_path / "a.csv", OWN))[1]
    other = written(tmp_path / "b.csv", text)
    with pytest.raises(ValueError, match=message) as error:
        read_table(other, vocabulary=vocabulary, **options)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(str(other))


def test_a_line_is_named_beyond_the_first_thousands(tmp_path):
    vocabulary = read_table(written(tmp_path / "a.csv", OWN))[1]
    text = "age,city,gain\n" + "1,a,1\n" * 9_000 + "1,Rome,1\n"
    with pytest.raises(ValueError, match="line 9002, column 'city'"):
        read_table(written(tmp_path / "b.csv", text), vocabulary=vocabulary)


def test_numbers_beyond_a_vocabulary_are_in_the_nearest_class_and_counted(tmp_path):
    vocabulary = read_table(written(tmp_path / "a.csv", OWN))[1]
    text = "age,city,gain\n" + "99,a,1\n" * 3 + "1,a,1\n" * 5
    split, _ = read_table(written(tmp_path / "b.csv", text), vocabulary=vocabulary)
    assert "'age': 3 numbers are beyond" in split.notes[0]
    ages = torch.cat([split.train.values, split.held_out.values])[:, 0]
    assert sorted(ages.tolist()) == [1] * 5 + [8] * 3
