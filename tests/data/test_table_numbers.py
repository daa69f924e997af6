"""Numbers of samples look like those of the file, and are drawn evenly among them."""

import csv
import math
import random
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from table_cases import anything, written

from noiseloom.data import TableVocabulary, read_table
from noiseloom.data.table_columns import Column
from noiseloom.data.table_numbers import Writing, counted
from noiseloom.rng import Rng


def price(draw):
    return f"{draw.lognormvariate(3, 2):.2f}"


def rate(draw):
    return str(round(draw.gauss(0, 1), 3))


LOOKS = {
    "cents": (price, r"\d+\.\d\d"),
    "up to three decimals": (rate, r"-?\d+\.\d{1,3}"),
    "no point where none is needed": (
        lambda draw: f"{draw.randint(-900, 900) / 4:g}",
        r"-?\d+(\.\d{1,2})?",
    ),
    "six digits": (
        lambda draw: f"{draw.lognormvariate(0, 1):.6g}",
        r"(?=(0\.0*)?[\d.]{1,7}$)\d+(\.\d+)?",
    ),
    "thousands": (lambda draw: str(1000 * draw.randint(-90, 900)), r"-?\d+000|0"),
    "whole numbers with a point": (lambda draw: f"{draw.randint(0, 10**5)}.0", r"\d+\.0"),
    "categories": (lambda draw: draw.choice(["0.50", "1.00", "12.25"]), r"0\.50|1\.00|12\.25"),
    "exponents": (lambda draw: f"{draw.gauss(0, 1) * 1e-6:.2e}", r"-?\d(\.\d{1,2})?e-\d\d"),
    "tiny": (lambda draw: f"{abs(draw.gauss(0, 1)) * 1e-5:.8f}", r"0\.000\d{5}"),
}


@pytest.mark.parametrize("look", list(LOOKS))
@pytest.mark.parametrize("seed", [0, 1])
def test_what_is_drawn_looks_like_the_file_and_stays_in_its_class(tmp_path, look, seed):
    write, pattern = LOOKS[look]
    draw = random.Random(seed)
    cells = [write(draw) for _ in range(500)]
    text = "w,x\n" + "".join(f"{'ab'[i % 2]},{cell}\n" for i, cell in enumerate(cells))
    vocabulary = read_table(written(tmp_path / "a.csv", text))[1]
    tokens = anything(vocabulary, 3000, seed)
    vocabulary.write_rows(tmp_path / "b.csv", tokens, Rng(seed).samples(3000))
    with (tmp_path / "b.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    assert torch.equal(vocabulary.encode(rows), tokens)
    assert [cell for _, cell in rows if not re.fullmatch(pattern, cell)] == []
    new = {cell for _, cell in rows} - set(cells)
    assert bool(new) == (look != "categories")


def test_every_number_of_an_interval_is_drawn_alike():
    """Open and closed ends, a single number, below 0, where floats are not what they are called."""
    lows, highs = (-0.35, -0.1, 1.15, 1.18, 3.0), (-0.1, 0.2, 1.18, 1.21, 3.0)
    column = Column("x", "real", "real", (), lows, highs, lows, decimals=(0, 2), digits=3)
    drawn = column.decode(np.repeat(np.arange(5), 20_000), Rng(0))
    expected = [
        [k / 100 for k in range(-35, -10)],  # the next begins at its high
        [k / 100 for k in range(-10, 21)],
        [1.15, 1.16, 1.17],
        [1.18, 1.19, 1.2, 1.21],
        [3.0],
    ]
    for i, values in enumerate(expected):
        found, counts = np.unique(drawn[20_000 * i : 20_000 * (i + 1)], return_counts=True)
        assert found.tolist() == values
        chi = ((counts - 20_000 / len(values)) ** 2 / (20_000 / len(values))).sum()
        assert chi < len(values) + 5 * math.sqrt(2 * len(values))


def test_digits_are_no_more_than_the_file_has():
    """0.00123 and 98,700 have three: so has all between, and none leaves its interval."""
    column = Column(
        "x", "real", "real", (), (0.00123, 5.0), (5.0, 98_700.0), (1, 50), decimals=(0, 5), digits=3
    )
    drawn = np.array(column.decode(np.repeat([0, 1], 5_000), Rng(0)))
    assert all(len(f"{x:.10f}".replace(".", "").strip("0")) <= 3 for x in drawn)
    assert 0.00123 <= drawn[:5_000].min() < drawn[:5_000].max() < 5
    assert 5 <= drawn[5_000:].min() < 100 < 90_000 < drawn[5_000:].max() <= 98_700


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1.50", "22.25"], ((2, 2), 4)),
        (["1.5", "-2", "0"], ((0, 1), 2)),
        (["1200", "-35000", "0"], ((0, -2), 5)),
        (["0", "0"], ((), 0)),
        (["0.0", "0"], ((), 0)),
        (["5.", ".25"], ((0, 2), 2)),
        (["1e-7", "2.25"], ((), 3)),
        (["0.30000000000000004"], ((), 0)),
        (["0.0000000000000000001"], ((), 1)),
        ([None, "7.5", None], ((1, 1), 2)),
        ([None], ((), 0)),
    ],
)
def test_how_numbers_are_written(cells, expected):
    writing = Writing()
    for cell in cells:
        writing.missing() if cell is None else writing.add(cell)
    assert writing.of(np.arange(len(cells))) == expected


def test_numbers_of_an_interval_are_counted():
    lows, highs = np.array([0.1, 0.5, 100.0, 2.0**60]), np.array([0.3, 0.7, 450.0, 2.0**61])
    closed = np.array([False, True, True, True])
    assert [v.tolist()[:3] for v in counted(lows, highs, closed, 1)] == [[1, 5, 1000], [2, 3, 3501]]
    assert [v.tolist()[2] for v in counted(lows, highs, closed, -2)] == [1, 4]
    assert counted(lows, highs, closed, 1)[1][3] == 0  # floats there have no tenths


def test_thousands_that_are_counted_have_the_density_they_are_drawn_with():
    column = Column(
        "n", "integer", "integer", (), (0, 5000), (4999, 9000), (0, 5000), decimals=(0, -3)
    )
    vocabulary = TableVocabulary((column, column.__class__("w", "categorical", "text", ("a",))))
    nats = vocabulary.log_widths(torch.tensor([[0, 0], [1, 0]]))[:, 0]
    torch.testing.assert_close(nats, torch.tensor([5.0, 5.0]).double().log())
    drawn = column.decode(np.repeat([0, 1], 1000), Rng(0))
    assert set(drawn) == set(range(0, 9001, 1000))


def test_floats_of_32_bits_are_not_written_as_64(tmp_path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    draw = random.Random(0)
    numbers = [round(draw.gauss(0, 1), 2) if i % 9 else None for i in range(301)]
    found = {}
    for kind in ("float32", "float64"):
        path = tmp_path / f"{kind}.parquet"
        columns = {
            "x": arrow.array(numbers, getattr(arrow, kind)()),
            "w": arrow.array(["ab"[i % 2] for i in range(301)]),
        }
        parquet.write_table(arrow.table(columns), path)
        split, vocabulary = read_table(path)
        column = vocabulary.columns[0]
        found[kind] = split.fingerprint(), replace(column, arrow="")
        told = "float" if kind == "float32" else ""
        assert (column.decimals, column.arrow) == ((1, 2), told)
    assert found["float32"] == found["float64"]


def test_runs_that_know_no_decimals_draw_as_ever(tmp_path):
    text = "w,x\n" + "".join(f"{'ab'[i % 2]},{i * 0.37 % 9:.2f}\n" for i in range(400))
    column = read_table(written(tmp_path / "a.csv", text))[1].columns[1]
    facts = {k: v for k, v in column.facts().items() if k not in ("decimals", "digits")}
    old = Column.from_facts(facts)
    drawn = old.decode(np.zeros(50, dtype=np.int64), Rng(0))
    assert any(round(value, 2) != value for value in drawn)
    assert all(old.lows[0] <= value <= old.highs[0] for value in drawn)
    with pytest.raises(ValueError, match="decimals"):
        Column.from_facts({**facts, "decimals": [2]})
