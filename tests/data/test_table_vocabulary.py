"""Vocabularies of tables: values to classes and back, facts, templates and files."""

import csv
import json
import math

import pytest
import torch
from table_cases import anything, table

from noiseloom.data import TableVocabulary, read_table
from noiseloom.data.table_cells import read_cells
from noiseloom.rng import Rng


@pytest.mark.parametrize("seed", range(8))
def test_encode_inverts_decode(tmp_path, seed):
    """Of all classes, by medians and by draws, typed values, written cells and rows by name."""
    vocabulary = read_table(table(tmp_path / "a.csv", seed), rare=1)[1]
    tokens = anything(vocabulary, 500, seed)
    for rng in (None, Rng(seed), Rng(seed).samples(500)):
        rows = vocabulary.decode(tokens, rng)
        assert torch.equal(vocabulary.encode(rows), tokens)
        cells = [["" if v is None else str(v) for v in row] for row in rows]
        assert torch.equal(vocabulary.encode(cells), tokens)
        named = [dict(zip(vocabulary.names, row, strict=True)) for row in rows]
        assert torch.equal(vocabulary.encode(named), tokens)
        kinds = [{type(v) for v in column} for column in zip(*rows, strict=True)]
        assert kinds == [{int}, {int}, {str, type(None)}, {float, str}, {float}]


@pytest.mark.parametrize("seed", range(4))
def test_decode_inverts_encode_up_to_bins(tmp_path, seed):
    """Exact columns come back, others within the interval, a heap of zeros as zeros."""
    path = table(tmp_path / "a.csv", seed)
    split, vocabulary = read_table(path)
    with path.open(encoding="utf-8") as file:
        original = [[row[n] or None for n in vocabulary.names] for row in csv.DictReader(file)]
    tokens = vocabulary.encode(original)
    assert sorted(tokens.tolist()) == sorted(
        torch.cat([split.train.values, split.held_out.values]).tolist()
    )
    for rows in (vocabulary.decode(tokens), vocabulary.decode(tokens, Rng(seed))):
        for (age, _, city, score, debt), row, classes in zip(
            original, rows, tokens.tolist(), strict=True
        ):
            assert row[0] == int(age)
            assert row[2] == city
            assert row[3] == float(score)
            assert row[4] == 0 or float(debt) != 0
            for c, value in ((1, row[1]), (4, row[4])):
                column = vocabulary.columns[c]
                assert column.lows[classes[c]] <= value <= column.highs[classes[c]]
    assert (tokens[:, 4] == vocabulary.columns[4].lows.index(0)).sum() == sum(
        float(row[4]) == 0 for row in original
    )


def test_draws_are_a_rows_own(tmp_path):
    vocabulary = read_table(table(tmp_path / "a.csv"))[1]
    tokens = anything(vocabulary, 100)
    together = vocabulary.decode(tokens, Rng(3).samples(100))
    assert vocabulary.decode(tokens[40:43], Rng(3).samples(3, start=40)) == together[40:43]
    assert vocabulary.decode(tokens, Rng(4).samples(100)) != together


def test_facts_make_it_again(tmp_path):
    vocabulary = read_table(table(tmp_path / "a.csv"), rare=1)[1]
    facts = json.loads(json.dumps(vocabulary.facts(), allow_nan=False))
    again = TableVocabulary.from_facts(facts)
    assert facts["kind"] == "table"
    assert again == vocabulary
    tokens = anything(vocabulary, 99)
    assert again.decode(tokens, Rng(1)) == vocabulary.decode(tokens, Rng(1))


@pytest.mark.parametrize(
    "damage",
    [
        lambda facts: facts.pop("kind"),
        lambda facts: facts.pop("columns"),
        lambda facts: facts.update(kind="text"),
        lambda facts: facts.update(columns=[]),
        lambda facts: facts.update(columns=[3]),
        lambda facts: facts.update(columns=facts["columns"] * 2),
        lambda facts: facts["columns"][0].pop("lows"),
        lambda facts: facts["columns"][0].update(kind="colour"),
        lambda facts: facts["columns"][0].update(size=3),
        lambda facts: facts["columns"][0]["lows"].reverse(),
        lambda facts: facts["columns"][0]["highs"].append(9e9),
        lambda facts: facts["columns"][2].update(values=["a", "a"]),
        lambda facts: facts["columns"][2].update(values=["a", 3]),
        lambda facts: facts["columns"][2].update(values=[["a"]]),
    ],
)
def test_damaged_facts_are_refused(tmp_path, damage):
    facts = read_table(table(tmp_path / "a.csv"))[1].facts()
    damage(facts)
    with pytest.raises(ValueError, match=r"."):
        TableVocabulary.from_facts(facts)


def test_what_has_no_class_is_named(tmp_path):
    vocabulary = read_table(table(tmp_path / "a.csv"))[1]
    good = vocabulary.decode(anything(vocabulary, 2))
    for c, value, message in [
        (0, 18.5, "row 2, column 'age': '18.5' is no whole number"),
        (0, "old", "row 2, column 'age': 'old' is no finite number"),
        (0, None, "row 2, column 'age': a value is missing"),
        (2, "Rome", "row 2, column 'city': there is no class for 'Rome'"),
        (3, 0.75, "row 2, column 'score': there is no class for 0.75"),
        (4, math.inf, "row 2, column 'debt': 'inf' is no finite number"),
    ]:
        with pytest.raises(ValueError, match=message):
            vocabulary.encode([good[0], [*good[1][:c], value, *good[1][c + 1 :]]])
    with pytest.raises(ValueError, match="row 1 has 4 values, and there are 5 columns"):
        vocabulary.encode([good[0][:4]])
    with pytest.raises(ValueError, match="row 1: the vocabulary has no column 'aeg': did you mean"):
        vocabulary.encode([{"aeg": 3}])
    with pytest.raises(ValueError, match=r"tokens must have shape \(N, 5\), got \(2, 4\)"):
        vocabulary.decode(torch.zeros(2, 4, dtype=torch.int64))
    with pytest.raises(ValueError, match="row 2, column 'age': class 99 of 0 "):
        vocabulary.decode(torch.tensor([[0] * 5, [99, 0, 0, 0, 0]]))
    assert vocabulary.encode([]).shape == (0, 5)
    assert vocabulary.decode(torch.zeros(0, 5, dtype=torch.uint8)) == []


def test_templates_have_gaps(tmp_path):
    vocabulary = read_table(table(tmp_path / "a.csv"))[1]
    path = tmp_path / "gaps.csv"
    path.write_text("city;who;age;debt\nKöln;x;?;0\nNA;y;20;\n;;;\n", encoding="utf-8")
    tokens, known = vocabulary.read_template(path)
    assert known.tolist() == [
        [False, False, True, False, True],
        [True, False, True, False, False],
        [False] * 5,
    ]
    assert (tokens[~known] == 0).all()
    assert vocabulary.decode(tokens)[0][2::2] == ["Köln", 0.0]
    assert vocabulary.decode(tokens)[1][:3:2] == [20, None]
    for text, message in [
        ("city,age\nRome,20\n", r"gaps\.csv: line 2, column 'city': there is no class for 'Rome'"),
        ("city,age\n,NA\n", "line 2, column 'age': a value is missing, and there is no class"),
        ("city,size\n,3\n", "the vocabulary has no column 'size'"),
        ("city,age\n,20,3\n", "line 2 has 3 cells, and the header 2"),
        ("city,age\n", "no rows below the header"),
    ]:
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            vocabulary.read_template(path)


def test_what_is_known_is_written_as_it_was_given(tmp_path):
    """A number in an interval, one beyond all, one of another form; but not that one is missing."""
    vocabulary = read_table(table(tmp_path / "a.csv"), rare=1)[1]
    path, out = tmp_path / "gaps.csv", tmp_path / "b.csv"
    path.write_text("city,income,debt,age\nRome,1234567,?,\nNA,10999999,1e-3,20\n")
    cells, places = read_cells(path, vocabulary.names, vocabulary.left_out)
    assert cells == [["", "1234567", "Rome", "", ""], ["20", "10999999", "NA", "", "1e-3"]]
    assert places == ["line 2", "line 3"]
    tokens, known = vocabulary.read_template(path)
    assert known.tolist() == [[bool(cell) for cell in row] for row in cells]
    vocabulary.write_rows(out, tokens, Rng(0), known=cells)
    with out.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    assert rows[0][1:3] == ["1234567", "Rome"]
    assert rows[1] == ["20", "10999999", "", rows[1][3], "1e-3"]
    assert torch.equal(vocabulary.encode(rows), tokens)


def test_rows_are_written_as_a_table_that_reads_back(tmp_path):
    vocabulary = read_table(table(tmp_path / "a.csv"))[1]
    tokens = anything(vocabulary, 50)
    vocabulary.write_rows(tmp_path / "out" / "b.csv", tokens, Rng(0))
    with (tmp_path / "out" / "b.csv").open(newline="", encoding="utf-8") as file:
        head, *rows = csv.reader(file)
    assert tuple(head) == ("age", "income", "city", "score", "debt")
    assert torch.equal(vocabulary.encode(rows), tokens)
    with pytest.raises(FileExistsError, match="exists"):
        vocabulary.write_rows(tmp_path / "out" / "b.csv", tokens)
    vocabulary.write_rows(tmp_path / "out" / "b.csv", tokens, force=True)


def test_people_can_read_what_it_is(tmp_path):
    lines = read_table(table(tmp_path / "a.csv"))[1].describe().splitlines()
    assert " ".join(lines[0].split()) == "column kind classes examples missing in training rows"
    assert lines[1].split() == ["age", "integer", "43", "18", "..", "60", "0"]
    assert "integer, in bins" in lines[2]
    assert "0.5, 1.5, 12.25" in lines[4]
    assert lines[6].split()[:3] == ["who", "left", "out"]


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer", "diabetes"])
def test_real_tables(tmp_path, name):
    datasets = pytest.importorskip("sklearn.datasets")
    found = getattr(datasets, f"load_{name}")()
    path = tmp_path / "a.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*found.feature_names, "target"])
        for row, target in zip(found.data.tolist(), found.target.tolist(), strict=True):
            writer.writerow([*row, target])
    split, vocabulary = read_table(path, rare=1)
    assert len(split.train) + len(split.held_out) == len(found.data)
    for part in (split.train, split.held_out):
        for rng in (None, Rng(0)):
            rows = vocabulary.decode(part.values, rng)
            assert torch.equal(vocabulary.encode(rows), part.values.long())
