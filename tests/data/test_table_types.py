"""Columns of a .parquet file have, in what is written, the types that they had there."""

import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
import torch

from noiseloom import Rng
from noiseloom.data import read_table
from noiseloom.data.table_vocabulary import TableVocabulary

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

N = 300
DAYS = [date(2020, 1, 1) + timedelta(days=i * i % 997) for i in range(N)]
TIMES = [datetime(2020, 1, 1) + timedelta(seconds=7 * (i * i % 9973)) for i in range(N)]


def table(**columns):
    return pyarrow.table(columns | {"x": [i % 5 for i in range(N)]})


FOUND = table(
    truth=[None if i % 9 == 4 else i % 3 == 0 for i in range(N)],
    day=DAYS,
    few=[DAYS[i % 3] for i in range(N)],
    time=pyarrow.array(TIMES, pyarrow.timestamp("ms")),
    zoned=pyarrow.array([t.replace(tzinfo=UTC) for t in TIMES], pyarrow.timestamp("us", "UTC")),
    text=[str(day) for day in DAYS],
    word=["true" if i % 2 else "false" for i in range(N)],
)


def read_and_written(found, tmp_path):
    """A table that is written from another's rows: of the same types, and read as the same rows."""
    parquet.write_table(found, tmp_path / "a.parquet")
    split, words = read_table(tmp_path / "a.parquet")
    assert TableVocabulary.from_facts(words.facts()) == words
    words.write_rows(tmp_path / "b.parquet", split.train.values, Rng(0))
    written = parquet.read_table(tmp_path / "b.parquet")
    assert written.schema.remove_metadata() == found.schema
    again, _ = read_table(tmp_path / "b.parquet", vocabulary=words)
    rows = sorted(again.train.values.tolist() + again.held_out.values.tolist())
    assert rows == sorted(split.train.values.tolist())
    return written, split, words


def test_truth_values_dates_and_times_are_written_as_they_were(tmp_path):
    written, split, words = read_and_written(FOUND, tmp_path)
    assert set(written["truth"].to_pylist()) == {True, False, None}
    assert set(written["few"].to_pylist()) == set(DAYS[:3])
    assert all(min(TIMES) <= time <= max(TIMES) for time in written["time"].to_pylist())

    words.write_rows(tmp_path / "none.parquet", torch.zeros(0, 8, dtype=torch.int64))
    empty = parquet.read_schema(tmp_path / "none.parquet")
    assert [empty.field(name).type for name in ("truth", "day")] == ["bool", "date32[day]"]
    words.write_rows(tmp_path / "b.csv", split.train.values[:1], Rng(0))
    assert (tmp_path / "b.csv").read_text().startswith("truth,day,few,time,zoned,text,word,x\n")


def test_what_has_a_value_that_is_none_of_the_type_is_text(tmp_path):
    parquet.write_table(FOUND, tmp_path / "a.parquet")
    words = read_table(tmp_path / "a.parquet", rare=1)[1]
    truth = words.columns[0]
    assert truth.values == ("false", "true")
    tokens = torch.zeros(3, 8, dtype=torch.int64)
    tokens[0, 0] = 2  # other
    words.write_rows(tmp_path / "b.parquet", tokens, Rng(0))
    assert parquet.read_table(tmp_path / "b.parquet")["truth"].to_pylist()[:2] == ["other", "false"]


@pytest.mark.parametrize("first", [0, 3])
def test_times_of_whole_seconds_stand_among_others(tmp_path, first):
    times = [TIMES[i] + timedelta(milliseconds=500 * ((i + first) % 4 < 3)) for i in range(N)]
    assert bool(times[0].microsecond) == (first == 0)
    parquet.write_table(
        table(time=pyarrow.array(times, pyarrow.timestamp("ms"))), tmp_path / "a.parquet"
    )
    split, words = read_table(tmp_path / "a.parquet")
    column = words.columns[0]
    assert column.dates == "%Y-%m-%d %H:%M:%S.%f"
    words.write_rows(tmp_path / "b.parquet", split.train.values, Rng(0))
    assert parquet.read_schema(tmp_path / "b.parquet").field("time").type == "timestamp[ms]"
    again, _ = read_table(tmp_path / "b.parquet", vocabulary=words)
    rows = sorted(again.train.values.tolist() + again.held_out.values.tolist())
    assert rows == sorted(split.train.values.tolist())


@pytest.mark.parametrize("unit", ["ms", "us"])
def test_times_of_a_zone_are_read_in_utc_and_keep_it(tmp_path, unit):
    """In Berlin the offset is another one in summer; the moments are the same."""
    kind = pyarrow.timestamp(unit, "Europe/Berlin")
    times = [(TIMES[i] + timedelta(days=3 * i)).replace(tzinfo=UTC) for i in range(N)]
    parquet.write_table(table(time=pyarrow.array(times, kind)), tmp_path / "a.parquet")
    split, words = read_table(tmp_path / "a.parquet")
    column = words.columns[0]
    assert (column.called, column.dates) == ("date, in bins", "%Y-%m-%d %H:%M:%S+00:00")
    words.write_rows(tmp_path / "b.parquet", split.train.values, Rng(0))
    written = parquet.read_table(tmp_path / "b.parquet")
    assert written.schema.field("time").type == kind
    assert all(min(times) <= time <= max(times) for time in written["time"].to_pylist())
    again, _ = read_table(tmp_path / "b.parquet", vocabulary=words)
    rows = sorted(again.train.values.tolist() + again.held_out.values.tolist())
    assert rows == sorted(split.train.values.tolist())


def test_few_times_of_which_some_are_whole_seconds_are_categories_as_they_stand(tmp_path):
    few = [datetime(2020, 1, 1, 5), datetime(2020, 1, 1, 5, 0, 0, 500_000), datetime(2020, 6, 1)]
    times = pyarrow.array([few[i % 3] for i in range(N)], pyarrow.timestamp("us"))
    parquet.write_table(table(time=times), tmp_path / "a.parquet")
    split, words = read_table(tmp_path / "a.parquet")
    assert words.columns[0].values == tuple(sorted(map(str, few)))
    again, _ = read_table(tmp_path / "a.parquet", vocabulary=words)
    assert again.fingerprint() == split.fingerprint()


def test_known_dates_and_whole_numbers_are_written_as_their_columns_have_them(tmp_path):
    """One cell that is written in another way made text, or floats, of a whole column."""
    numbers = [i * i for i in range(N)]
    found = pyarrow.table(
        {"day": DAYS, "time": pyarrow.array(TIMES, "timestamp[ms]"), "n": numbers}
    )
    parquet.write_table(found, tmp_path / "a.parquet")
    split, words = read_table(tmp_path / "a.parquet")
    known = [["2021-2-1", "2020-01-01 7:08:09", "625.0"], ["", "", ""]]
    tokens = split.train.values[:2]
    words.write_rows(tmp_path / "b.parquet", tokens, Rng(0), known=known)
    written = parquet.read_table(tmp_path / "b.parquet")
    assert written.schema.types == [pyarrow.date32(), pyarrow.timestamp("ms"), pyarrow.int64()]
    assert written.to_pylist()[0] == {
        "day": date(2021, 2, 1),
        "time": datetime(2020, 1, 1, 7, 8, 9),
        "n": 625,
    }
    words.write_rows(tmp_path / "b.csv", tokens, Rng(0), known=known)
    line = (tmp_path / "b.csv").read_text().split("\n")[1]
    assert line == "2021-02-01,2020-01-01 07:08:09,625"


def test_columns_of_any_type_can_be_left_out(tmp_path):
    found = table(list=[[i] for i in range(N)], raw=[b"a"] * N)
    parquet.write_table(found, tmp_path / "a.parquet")
    told = r"column 'list' is of list<.*>: a cell must be one value; leave it out \(leave_out="
    with pytest.raises(ValueError, match=told):
        read_table(tmp_path / "a.parquet", leave_out=["raw"])
    split, words = read_table(tmp_path / "a.parquet", leave_out=["list", "raw"])
    assert words.names == ("x",)
    schema = {"list": "leave_out", "raw": "leave_out"}
    assert read_table(tmp_path / "a.parquet", schema=schema)[0].fingerprint() == split.fingerprint()
    again = read_table(tmp_path / "a.parquet", vocabulary=words)[0]
    assert again.fingerprint() == split.fingerprint()
    tokens, known = words.read_template(tmp_path / "a.parquet")
    assert tokens[:, 0].tolist() == found["x"].to_pylist()
    assert known.all()


@pytest.mark.parametrize("zone", [None, "UTC"])
def test_nanoseconds_are_cut_off_and_said(tmp_path, zone):
    micro = [int((t - datetime(1970, 1, 1)).total_seconds() * 10**6) + 7 for t in TIMES]
    told = "column 'time' has nanoseconds, which are cut off: microseconds are left"
    splits = []
    for nano in (0, 123):
        times = [1000 * m + nano for m in micro]
        column = pyarrow.array(times, pyarrow.timestamp("ns", zone))
        parquet.write_table(table(time=column), tmp_path / "a.parquet")
        split, words = read_table(tmp_path / "a.parquet")
        assert (told in split.notes) == (nano > 0)
        again = read_table(tmp_path / "a.parquet", vocabulary=words)[0]
        assert (told in again.notes) == (nano > 0)
        splits.append(split)
    assert splits[0].fingerprint() == splits[1].fingerprint()


def test_numbers_and_words_keep_their_types(tmp_path):
    """Of every width, decimals and coded columns too; floats of 32 bits where they are read so."""
    many = [i * i for i in range(N)]
    word = pyarrow.dictionary(pyarrow.int8(), pyarrow.string())
    found = table(
        byte=pyarrow.array([i % 7 - 3 for i in range(N)], pyarrow.int8()),
        short=pyarrow.array([n % 30_011 for n in many], pyarrow.uint16()),
        long=pyarrow.array([None if i == 5 else n for i, n in enumerate(many)], pyarrow.uint64()),
        price=pyarrow.array([Decimal(n) / 100 for n in many], pyarrow.decimal128(10, 2)),
        few=pyarrow.array([[0.1, 2.5, 1e30][i % 3] for i in range(N)], pyarrow.float32()),
        cents=pyarrow.array([n % 9973 / 100 for n in many], pyarrow.float32()),
        half=pyarrow.array([i % 3 / 2 for i in range(N)], pyarrow.float16()),
        word=pyarrow.array(["ab"[i % 2] for i in range(N)]).cast(word),
        text=pyarrow.array(["cde"[i % 3] for i in range(N)], pyarrow.large_string()),
    )
    read_and_written(found, tmp_path)


def test_floats_that_are_drawn_between_others_are_written_to_the_last_digit(tmp_path):
    draw = random.Random(0)
    floats = pyarrow.array([draw.gauss(0, 1) for _ in range(N)], pyarrow.float32())
    parquet.write_table(table(real=floats), tmp_path / "a.parquet")
    split, words = read_table(tmp_path / "a.parquet")
    for name, rng in (("drawn", Rng(0)), ("medians", None)):
        words.write_rows(tmp_path / f"{name}.parquet", split.train.values, rng)
        again, _ = read_table(tmp_path / f"{name}.parquet", vocabulary=words)
        rows = sorted(again.train.values.tolist() + again.held_out.values.tolist())
        assert rows == sorted(split.train.values.tolist())
    kinds = [parquet.read_schema(tmp_path / f"{n}.parquet")[0].type for n in ("drawn", "medians")]
    assert kinds == [pyarrow.float64(), pyarrow.float32()]


@pytest.mark.parametrize("kind", [pyarrow.int64(), pyarrow.uint64()])
def test_whole_numbers_that_floats_would_round_keep_their_type(tmp_path, kind):
    large = [2**53 + 1, 2**53 + 3, 2**62 + 1]
    values = [large[i % 3] if i % 7 else [i % 2, None][i % 3 == 0] for i in range(N)]
    found = table(k=pyarrow.array(values, kind))
    written, _, words = read_and_written(found, tmp_path)
    assert set(written["k"].to_pylist()) == set(values)
    assert words.columns[1].arrow == ""  # the cells of x tell
    # Negative ones as well.
    below = [-(2**53) - 1 if i % 2 else None if i % 3 else 7 for i in range(N)]
    if kind == pyarrow.int64():
        (again := tmp_path / "again").mkdir()
        written, _, _ = read_and_written(table(k=pyarrow.array(below, kind)), again)
        assert set(written["k"].to_pylist()) == set(below)
