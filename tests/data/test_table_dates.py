"""Dates are numbers that are written back as dates; what cannot be told is asked for."""

import random
import re
from datetime import date, datetime, timedelta

import numpy as np
import pytest
import torch
from table_cases import written

from noiseloom import Rng
from noiseloom.data import read_table
from noiseloom.data.table_dates import FORMS, date_of, form_of, number_of, spacing, strides
from noiseloom.data.table_store import date_hint
from noiseloom.data.table_vocabulary import TableVocabulary

START = datetime(2001, 2, 3)


def dates(form, count=600, step=timedelta(days=1), most=2000, seed=0):
    """So many dates, one of them twice."""
    draw = random.Random(seed)
    found = [(START + draw.randrange(most) * step).strftime(form) for _ in range(count - 1)]
    return [*found, found[0]]


def table(path, cells, name="when"):
    lines = [f"{name};x"] + [f"{cell};{i % 5}" for i, cell in enumerate(cells)]
    return written(path, "\n".join(lines) + "\n")


@pytest.mark.parametrize("form", FORMS)
def test_a_form_is_found_and_inverts(form):
    moment = datetime(2024, 11, 23, 21, 45, 59, 123456)
    cell = moment.strftime(form)
    assert form_of(cell) == form
    assert date_of(form, number_of(form, cell)) == cell


@pytest.mark.parametrize(
    ("cell", "form"),
    [
        ("2024-05-01T10:05Z", "%Y-%m-%dT%H:%MZ"),
        ("2024-05-01T10:05:07Z", "%Y-%m-%dT%H:%M:%SZ"),
        ("2024-05-01T10:05:07.629", "%Y-%m-%dT%H:%M:%S.%3f"),
        ("2024-05-01T10:05:07.629Z", "%Y-%m-%dT%H:%M:%S.%3fZ"),
        ("2024-05-01 10:05:07.000629+00:00", "%Y-%m-%d %H:%M:%S.%f+00:00"),
        ("2024-05-01T10:05:07+02:00", "%Y-%m-%dT%H:%M:%S+02:00"),
        ("2024-05-01 10:05:07-03", "%Y-%m-%d %H:%M:%S-03"),
        ("2024-05-01T10:05:07.629-0330", "%Y-%m-%dT%H:%M:%S.%3f-0330"),
    ],
)
def test_times_of_iso_have_milliseconds_and_offsets(cell, form):
    assert form_of(cell) == form
    assert date_of(form, number_of(form, cell)) == cell
    moment = datetime.fromisoformat(cell).replace(tzinfo=None) - datetime(1970, 1, 1)
    unit = timedelta(milliseconds=1) if "%3f" in form else timedelta(seconds=1)
    unit = timedelta(microseconds=1) if "%f" in form else unit
    assert number_of(form, cell) == moment / unit


def test_numbers_are_days_and_seconds_of_the_unix_epoch():
    assert number_of("%Y-%m-%d", "1970-01-02") == 1
    assert number_of("%Y-%m-%d", "2024-05-01") == (date(2024, 5, 1) - date(1970, 1, 1)).days
    assert number_of("%Y-%m-%d", "9999-12-31") == 2_932_896
    assert number_of("%Y-%m-%dT%H:%M:%SZ", "2001-09-09T01:46:40Z") == 10**9
    assert spacing({0, 86_400, 3 * 86_400}) == (0, 86_400)
    assert spacing({-3_600, 7_200, 9_000}) == (0, 1_800)
    assert spacing({-10, 4, 18, 25}) == (4, 7)  # the first Monday of 1970 is its fifth day
    assert spacing({3}) == spacing(set()) == (0, 1)
    assert strides("%Y-%m-%d", 4, 7) == 7
    assert strides("%Y-%m-%d %H:%M", 0, 172_800) == 2
    assert strides("%Y-%m-%d %H:%M", 7_200, 172_800) == 48
    assert strides("%Y-%m-%d %H:%M:%S.%f", 1, 2_000_000) == 2_000_000


@pytest.mark.parametrize(
    "cell",
    [
        "05/01/2024",
        "2024-13-01",
        "2024-5-1",
        "20240501",
        "12",
        "2023-02-29",
        "May 2024",
        "a-b-c-d",
        "2024-05-01T10:05.629Z",
        "2024-05-01Z",
        "2024-05-01T10:05:07+32:00",
    ],
)
def test_what_can_be_read_in_two_ways_or_none_is_no_date(cell):
    assert form_of(cell) == ""


@pytest.mark.parametrize(
    ("form", "step"),
    [
        ("%Y-%m-%d", timedelta(days=1)),
        ("%d.%m.%Y", timedelta(days=1)),
        ("%d %b %Y", timedelta(days=1)),
        ("%Y-%m-%d %H:%M:%S", timedelta(hours=1)),
        ("%Y-%m-%dT%H:%M:%SZ", timedelta(seconds=7)),
        ("%Y-%m-%d %H:%M:%S.%f", timedelta(microseconds=12_345_671)),
        ("%Y-%m-%dT%H:%M:%S+02:00", timedelta(hours=1)),
        ("%Y-%m-%d", timedelta(weeks=1)),
        ("%Y-%m-%d %H:%M", timedelta(minutes=15)),
    ],
)
def test_dates_are_bins_of_whole_numbers_that_are_written_back(tmp_path, form, step):
    cells = dates(form, step=step)
    split, words = read_table(table(tmp_path / "a.csv", cells))
    column = words.columns[0]
    assert (column.kind, column.called, column.dates) == ("integer", "date, in bins", form)
    assert column.schema() == {"kind": "date", "format": form, "bins": 32}
    again = TableVocabulary.from_facts(words.facts())
    assert again == words

    rows = words.decode(split.train.values, Rng(0))
    low, high = (
        datetime.strptime(f(cells, key=lambda c: datetime.strptime(c, form)), form)
        for f in (min, max)
    )
    for when, _ in rows:
        moment = datetime.strptime(when, form)
        assert moment.strftime(form) == when
        assert low <= moment <= high
        assert (moment - START) % step == timedelta(0)
    assert torch.equal(words.encode(rows), split.train.values.long())
    words.write_rows(tmp_path / "b.csv", split.train.values, Rng(1))
    assert read_table(tmp_path / "b.csv")[1].columns[0].dates == form
    schema = tmp_path / "schema.yaml"
    words.write_schema(schema)
    same, kept = read_table(tmp_path / "a.csv", schema=schema)
    assert (kept, same.fingerprint()) == (words, split.fingerprint())


def test_days_near_each_other_are_a_class_each(tmp_path):
    split, words = read_table(table(tmp_path / "a.csv", dates("%Y-%m-%d", most=60)))
    assert words.columns[0].exact
    assert words.columns[0].examples.endswith("2001-04-03")
    assert words.decode(split.train.values[:1])[0][0] in dates("%Y-%m-%d", most=60)


def test_few_different_dates_are_categories_as_they_stand(tmp_path):
    cells = dates("%Y-%m-%d", step=timedelta(days=100), most=5)
    column = read_table(table(tmp_path / "a.csv", cells))[1].columns[0]
    assert (column.kind, column.type) == ("categorical", "text")
    assert column.values == tuple(sorted(set(cells)))


@pytest.mark.parametrize("cell", ["2020-01-32", "01/02/2020", "2020-1-1", "soon", "7"])
@pytest.mark.parametrize("most", [5, 2000])
def test_a_column_of_dates_that_changes_half_way_is_named_with_its_line(tmp_path, cell, most):
    cells = dates("%Y-%m-%d", count=300, most=most)
    cells[149] = cell
    told = f"line 151, column 'when': '{cell}' is no date as %Y-%m-%d, and all before it are"
    path = table(tmp_path / "a.csv", cells)
    with pytest.raises(ValueError, match=f"{told}: mend it, or say in the schema that the column"):
        read_table(path)
    if most == 5:
        schema = {"when": {"kind": "categorical", "other": True}}
        column = read_table(path, schema=schema)[1].columns[0]
        assert set(column.values) >= set(cells) - {cell}


def test_dates_with_strokes_are_told_of_where_they_are_categories_or_left_out(tmp_path):
    told = r"if these are dates, say in the schema how: \{kind: date, format: '%d/%m/%Y'\}"
    few = table(tmp_path / "a.csv", dates("%d/%m/%Y", most=5))
    split, words = read_table(few)
    assert words.columns[0].kind == "categorical"
    (note,) = [note for note in split.notes if "dates" in note]
    assert re.fullmatch(f"column 'when' has categories; {told}", note)
    same = read_table(few, schema={"when": "categorical"})[0]
    assert not any("dates" in note for note in same.notes)
    each = [(START + timedelta(days=i)).strftime("%d/%m/%Y") for i in range(60)]
    (note,) = read_table(table(tmp_path / "b.csv", each))[0].notes
    assert re.fullmatch(f"column 'when' is left out: every row has another text; {told}", note)
    each[-1] = each[0]
    with pytest.raises(ValueError, match=f"no training row has it; give rare=1 or more.*; {told}"):
        read_table(table(tmp_path / "c.csv", each))


@pytest.mark.parametrize(
    ("days", "told"),
    [
        ([7 * (i % 90) for i in range(300)], "has bins"),
        ([i % 9 for i in range(300)], "has whole numbers"),
        ([31 * (i % 9) for i in range(300)], "has categories"),
        (list(range(20)), "is left out: it counts the rows"),
    ],
)
def test_dates_without_marks_are_told_of(tmp_path, days, told):
    cells = [(START + timedelta(days=day)).strftime("%Y%m%d") for day in days]
    path = table(tmp_path / "a.csv", cells)
    how = "if these are dates, say in the schema how: {kind: date, format: '%Y%m%d'}"
    assert [note for note in read_table(path)[0].notes if "dates" in note] == [
        f"column 'when' {told}; {how}"
    ]
    schema = {"when": {"kind": "date", "format": "%Y%m%d"}}
    split, words = read_table(path, schema=schema)
    assert not any("dates" in note for note in split.notes)
    assert {row[0] for row in words.decode(split.train.values, Rng(0))} <= set(cells)
    schema = {"when": {"kind": "integer", "bins": 4}}
    assert not any("dates" in note for note in read_table(path, schema=schema)[0].notes)
    for wrong in ("20240230", "20241301", "18240101", "2024010"):
        split, _ = read_table(table(tmp_path / "b.csv", [*cells, wrong]), rare=1)
        assert not any("dates" in note for note in split.notes)


def test_a_schema_says_what_strokes_mean(tmp_path):
    path = table(tmp_path / "a.csv", dates("%d/%m/%Y"))
    with pytest.raises(ValueError, match=r"more than 256.*\{kind: date, format: '%d/%m/%Y'\}"):
        read_table(path)
    with pytest.raises(ValueError, match=r"line 2, column 'when': the form of '.*' cannot be told"):
        read_table(path, schema={"when": "date"})
    split, words = read_table(path, schema={"when": {"kind": "date", "format": "%d/%m/%Y"}})
    assert words.columns[0].called == "date, in bins"
    assert torch.equal(words.encode(words.decode(split.train.values)), split.train.values.long())
    with pytest.raises(ValueError, match="is no date as %m/%d/%Y has it"):
        read_table(path, schema={"when": {"kind": "date", "format": "%m/%d/%Y"}})
    for wrong in ("%d", "day", 3):
        with pytest.raises(ValueError, match="format must say where day, month and year are"):
            read_table(path, schema={"when": {"kind": "date", "format": wrong}})


def test_missing_dates_are_a_class_and_templates_know_dates(tmp_path):
    cells = ["", *dates("%Y-%m-%d"), ""]
    words = read_table(table(tmp_path / "a.csv", cells))[1]
    assert words.columns[0].gap
    (tmp_path / "known.csv").write_text("when,x\n2003-01-01,\n?,2\n")
    tokens, known = words.read_template(tmp_path / "known.csv")
    assert known.tolist() == [[True, False], [False, True]]
    low, high = words.columns[0].lows, words.columns[0].highs
    day, k = (date(2003, 1, 1) - date(1970, 1, 1)).days, int(tokens[0, 0])
    assert low[k] <= day <= high[k]
    (tmp_path / "known.csv").write_text("when,x\n2040-01-01,\n")
    with pytest.raises(ValueError, match=r"'when': 2040-01-01 is beyond 2001-.* \.\. 2006-"):
        words.read_template(tmp_path / "known.csv")
    other = table(tmp_path / "b.csv", ["2003-01-01", "yesterday"])
    with pytest.raises(ValueError, match="line 3, column 'when': 'yesterday' is no date as"):
        read_table(other, vocabulary=words)


@pytest.mark.parametrize("whole", [0, 1, 149, 599])
@pytest.mark.parametrize("zone", ["", "Z", "+02:00"])
@pytest.mark.parametrize("unit", ["milliseconds", "microseconds"])
def test_parts_of_a_second_may_come_late_in_a_column(tmp_path, whole, zone, unit):
    """Python writes no parts where these are 0, be it in the first row or in many."""
    draw = random.Random(0)
    size = timedelta(**{unit: 1})
    moments = [START + draw.randrange(10**7) * timedelta(seconds=1) for _ in range(600)]
    moments[whole:] = [moment + draw.randrange(1, 1000) * size for moment in moments[whole:]]
    cells = [m.isoformat(timespec=unit if m.microsecond else "seconds") + zone for m in moments]
    split, words = read_table(table(tmp_path / "a.csv", cells))
    part = "%3f" if unit == "milliseconds" else "%f"
    assert words.columns[0].dates == f"%Y-%m-%dT%H:%M:%S.{part}{zone}"
    column = words.columns[0]
    low, high = (
        number_of(column.dates, column.typed(end)) for end in (column.lows[0], column.highs[-1])
    )
    tokens = words.encode([{"when": cell, "x": i % 5} for i, cell in enumerate(cells)])
    seen = sorted(split.train.values.tolist() + split.held_out.values.tolist())
    assert sorted(tokens.tolist()) == seen
    assert low >= (min(moments) - datetime(1970, 1, 1)) / size
    assert high <= (max(moments) - datetime(1970, 1, 1)) / size
    rows = words.decode(split.train.values, Rng(0))
    assert torch.equal(words.encode(rows), split.train.values.long())
    schema = {"when": {"kind": "date", "format": "%Y-%m-%dT%H:%M:%SZ"}}
    with pytest.raises(ValueError, match="is no date as %Y-%m-%dT%H:%M:%SZ has it"):
        read_table(table(tmp_path / "a.csv", cells), schema=schema)


def test_parts_of_a_second_may_come_in_a_later_part_of_a_file(tmp_path):
    moments = [START + timedelta(seconds=i * i % 99_991) for i in range(9_000)]
    moments[8_500] += timedelta(microseconds=250_000)
    cells = [moment.isoformat() for moment in moments]
    cells[77] = ""
    split, words = read_table(table(tmp_path / "a.csv", cells))
    column = words.columns[0]
    assert (column.dates, column.step) == ("%Y-%m-%dT%H:%M:%S.%f", 250_000)
    tokens = words.encode([[cell, i % 5] for i, cell in enumerate(cells)])
    seen = sorted(split.train.values.tolist() + split.held_out.values.tolist())
    assert sorted(tokens.tolist()) == seen


def test_a_schema_has_an_offset_as_cells_have_it(tmp_path):
    cells = dates("%d/%m/%Y %H:%M+0200", step=timedelta(hours=1))
    path = table(tmp_path / "a.csv", cells)
    schema = {"when": {"kind": "date", "format": "%d/%m/%Y %H:%M%z"}}
    told = r"format has the offset as all cells have it, such as '%Y-%m-%dT%H:%M:%S\+02:00'"
    with pytest.raises(ValueError, match=told):
        read_table(path, schema=schema)
    schema["when"]["format"] = "%d/%m/%Y %H:%M+0200"
    assert read_table(path, schema=schema)[1].columns[0].called == "date, in bins"


@pytest.mark.parametrize("kind", ["text", "day", "time"])
def test_dates_of_parquet(tmp_path, kind):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    form = "%Y-%m-%d %H:%M:%S" if kind == "time" else "%Y-%m-%d"
    cells = dates(form)
    moments = [datetime.strptime(cell, form) for cell in cells]
    values = {"text": cells, "day": [m.date() for m in moments], "time": np.array(moments, "M8[s]")}
    found = pyarrow.table({"when": values[kind], "x": [i % 5 for i in range(len(cells))]})
    parquet.write_table(found, tmp_path / "a.parquet")
    split, words = read_table(tmp_path / "a.parquet")
    assert words.columns[0].dates == form
    assert split.fingerprint() == read_table(table(tmp_path / "a.csv", cells))[0].fingerprint()


@pytest.mark.parametrize(
    ("cell", "form"),
    [
        ("08/04/2021", "%d/%m/%Y"),
        ("8-4-2021", "%d-%m-%Y"),
        ("08/04/2021 14:00", "%d/%m/%Y %H:%M"),
        ("08/04/2021 14:00:59", "%d/%m/%Y %H:%M:%S"),
    ],
)
def test_what_a_date_is_to_be_told_as_is_its_own_form(cell, form):
    assert date_hint(cell).endswith(f"{{kind: date, format: '{form}'}}")
    assert datetime.strptime(cell, form).year == 2021
    assert date_hint("of 08/04/2021") == ""
