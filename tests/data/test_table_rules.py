"""Rules between columns: what they say, what of it tokens can tell, and what breaks them."""

import itertools
import operator
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import torch
import yaml
from table_cases import written

from noiseloom import Rng
from noiseloom.data import Tokens, read_table, vocabulary
from noiseloom.data.table_columns import Column
from noiseloom.data.table_dates import number_of
from noiseloom.data.table_rules import comparison
from noiseloom.recipes import RECIPES
from noiseloom.recipes.classes import TokenSplit

SIGNS = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}


def whole(name, *ends, gap=False):
    lows, highs = zip(*ends, strict=True)
    return Column(name, "integer", "integer", (), lows, highs, lows, gap=gap)


@pytest.mark.parametrize("sign", SIGNS)
def test_a_row_of_classes_keeps_what_some_numbers_in_it_do(sign):
    """By brute force over all whole numbers of all pairs of intervals."""
    a = whole("a", (0, 0), (1, 3), (4, 4), (6, 9))
    b = whole("b", (-1, 0), (2, 2), (3, 5), (9, 9), gap=True)
    rule = comparison(f"a {sign} b", (a, b))
    rows = torch.tensor(list(itertools.product(range(4), range(5))))
    for (k, m), kept in zip(rows.tolist(), rule(rows).tolist(), strict=True):
        ours = range(a.lows[k], a.highs[k] + 1)
        theirs = range(b.lows[m], b.highs[m] + 1) if m < 4 else ours
        some = any(SIGNS[sign](x, y) for x in ours for y in theirs)
        assert kept is (some or m == 4)  # what is missing keeps any rule
    values = [np.array([1.0, 2.0, 3.0, np.nan]), np.array([2.0, 2.0, 2.0, 2.0])]
    expected = [SIGNS[sign](x, 2) for x in (1, 2, 3)]
    assert rule.holds(values).tolist() == [*expected, True]
    number = comparison(f"a {sign} 2", (a, b))
    turned = comparison(f"2 {number.sign.translate(str.maketrans('<>', '><'))} a", (a, b))
    alone = torch.tensor([[k, 0] for k in range(4)])
    brute = [any(SIGNS[sign](x, 2) for x in range(a.lows[k], a.highs[k] + 1)) for k in range(4)]
    assert number(alone).tolist() == turned(alone).tolist() == brute


def test_an_interval_of_reals_that_is_open_does_not_reach_its_end():
    x = Column("x", "real", "real", (), (0.0, 1.0), (1.0, 2.0), (0.5, 1.5))
    rows = torch.tensor([[0], [1]])
    assert comparison("x >= 1", (x,))(rows).tolist() == [False, True]
    assert comparison("x == 1", (x,))(rows).tolist() == [False, True]
    assert comparison("x >= 2", (x,))(rows).tolist() == [False, True]  # the last is closed
    assert comparison("x > 2", (x,))(rows).tolist() == [False, False]


def table(path, rows=400, seed=0):
    """Low and high of which low is never above, whole numbers by few and many, days and words."""
    draw, lines = random.Random(seed), ["low,high,few,start,end,word,a<b"]
    for _ in range(rows):
        low, start = draw.gauss(0, 5), draw.randint(0, 2000)
        days = [np.datetime64("2000-01-01") + d for d in (start, start + draw.randint(0, 30))]
        high = "" if draw.random() < 0.1 else f"{low + draw.expovariate(1):.3f}"
        lines.append(f"{low:.3f},{high},{draw.randint(0, 3)},{days[0]},{days[1]},w,{draw.random()}")
    text = "\n".join(lines) + "\n"
    return written(path, text.replace(",w,", ",v,", 200))


RULES = ["low <= high", "few >= 0", "0<=few", "start <= end", "end>= 2000-01-01", "a<b < 1.0"]


def test_rows_that_keep_rules_have_tokens_that_do(tmp_path):
    path = table(tmp_path / "a.csv")
    split, words = read_table(path, schema={"rules": RULES})
    both = torch.cat([split.train.values, split.held_out.values])
    for rule in words.comparisons():
        assert rule(split.train.values).all(), rule.text
        assert rule(both[:0]).shape == (0,)
    plain = read_table(path)
    assert plain[0].fingerprint() == split.fingerprint()
    assert "rules" not in plain[1].facts()
    again = vocabulary(words.facts())
    assert (again, again.rules) == (words, tuple(RULES))
    words.write_schema(tmp_path / "s.yaml")
    assert yaml.safe_load((tmp_path / "s.yaml").read_text())["rules"] == RULES
    assert read_table(path, schema=tmp_path / "s.yaml")[1] == words


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("low > high", r"line \d+, rule 'low > high': 'low' is -?[\d.]+ and 'high' is -?[\d.]+ \("),
        ("few <= 2", r"line \d+, rule 'few <= 2': 'few' is 3 \(\d+ of 360 training rows break it"),
        ("start > 2004-05-01", r"'start' is 200\d-\d\d-\d\d \("),
        ("low <= hihg", "must be a column, one of < <= > >= == != and another column"),
        ("low + 1 <= high", "must be a column"),
        ("low", "must be a column"),
        ("low < low", "must be a column"),
        ("low <= __import__('os').system('true')", "must be a column"),
        ("word == 1", "column 'word' has text, and rules compare numbers"),
        ("start < low", "one column has dates, and the other numbers"),
        ("start < 3", "'3' is neither a column nor a date as 'start' has them"),
        (3, "write the rule 3 in quotes"),
    ],
)
def test_rules_that_are_none_or_are_broken_are_refused(tmp_path, rule, message):
    with pytest.raises(ValueError, match=message) as error:
        read_table(table(tmp_path / "a.csv"), schema={"rules": [rule]})
    assert "\n" not in str(error.value)


def test_one_rule_is_a_list_too(tmp_path):
    with pytest.raises(ValueError, match=r'rules are a list: write rules: \["low <= high"\]'):
        read_table(table(tmp_path / "a.csv"), schema={"rules": "low <= high"})


def test_a_column_may_be_called_rules_where_there_are_none(tmp_path):
    path = written(
        tmp_path / "a.csv", "rules,b\n" + "".join(f"{i % 5},{i % 3}\n" for i in range(60))
    )
    words = read_table(path, schema={"rules": "integer"})[1]
    assert words.names == ("rules", "b")
    with pytest.raises(ValueError, match="a column is called 'rules'"):
        type(words)(words.columns, {}, ("b >= 0",))


def test_an_evaluation_counts_rows_that_break_rules(tmp_path):
    split, words = read_table(table(tmp_path / "a.csv"), schema={"rules": ["low <= high"]})
    low, high = words.columns[:2]
    # The lowest interval of high lies below the highest of low: three of four such rows.
    good, bad = split.train.values[:1].clone(), split.train.values[:1].clone()
    good[0, 0], good[0, 1] = 0, high.size - 2  # after which comes what is missing
    bad[0, 0], bad[0, 1] = low.size - 1, 0
    drawn = torch.cat([good, bad, bad, bad]).repeat(10, 1)
    data = TokenSplit(Tokens(split.train.values, words.sizes), split.held_out, (), words)
    found = RECIPES["table"](samples=40).evaluate(lambda given: drawn, data, Rng(0))
    assert found["invalid"] == pytest.approx(0.75)
    assert found["invalid_held_out"] == 0


def test_a_rule_on_few_different_dates_says_that_the_schema_has_to_name_them(tmp_path):
    lines = ["day,word", *(f"2020-0{1 + i % 4}-01,{'uv'[i % 2]}" for i in range(100))]
    path = written(tmp_path / "a.csv", "\n".join(lines) + "\n")
    rules = ["day < 2021-01-01"]
    told = "'day' has text.*: its dates are categories, as they are few; write day: date in the"
    with pytest.raises(ValueError, match=told):
        read_table(path, schema={"rules": rules})
    words = read_table(path, schema={"rules": rules, "day": "date"})[1]
    assert words.rules == tuple(rules)
    with pytest.raises(ValueError, match=r"'word' has text, and rules compare numbers or dates$"):
        read_table(path, schema={"rules": ["word < 2021-01-01"]})


def test_rules_compare_weeks_with_days_between_them(tmp_path):
    """Saturdays are the last before the first of January 2005, which is one of them itself."""
    days = [np.datetime64("2003-01-04") + 7 * (37 * i % 104) for i in range(400)]
    assert max(days) == np.datetime64("2004-12-25")
    lines = ["day,next", *(f"{day},{day + 7}" for day in days)]
    path = written(tmp_path / "a.csv", "\n".join(lines) + "\n")
    rules = ["day < 2004-12-26", "day < 2004-12-28", "day >= 2003-01-04", "day < next"]
    split, words = read_table(path, schema={"rules": rules, "day": "date", "next": "date"})
    assert all(rule(split.train.values).all() for rule in words.comparisons())
    assert words.columns[0].step == 7
    for rule in ("day < 2004-12-25", "day <= 2004-12-24"):
        schema = {"rules": [rule], "day": "date", "next": "date"}
        with pytest.raises(ValueError, match="training rows break it"):
            read_table(path, schema=schema)


def moments(name, form):
    """A column of a class for each minute from 10:00 to 12:00 UTC by a clock, of a second each."""
    zone = datetime.fromisoformat(f"2024-03-01T00:00{form[-6:]}").tzinfo
    day = datetime(2024, 3, 1, 10, tzinfo=UTC)
    cells = [(day + timedelta(minutes=m)).astimezone(zone).replace(tzinfo=None) for m in range(121)]
    numbers = tuple(number_of(form, moment.strftime(form)) for moment in cells)
    return Column(name, "integer", "integer", (), numbers, numbers, numbers, dates=form, step=1)


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize("parts", ["", ".%f"])
def test_times_of_different_offsets_are_compared_as_instants(sign, parts):
    forms = [f"%Y-%m-%dT%H:%M:%S{parts}+02:00", "%Y-%m-%d %H:%M-05:30"]
    columns = tuple(moments(name, form) for name, form in zip("ab", forms, strict=True))
    rule = comparison(f"a {sign} b", columns)
    rows = torch.tensor(list(itertools.product(range(121), range(121))))
    expected = [SIGNS[sign](k, m) for k, m in rows.tolist()]  # class k is k minutes past 10 UTC
    assert rule(rows).tolist() == expected
    values = [np.array(c.lows, dtype=float)[rows[:, i]] for i, c in enumerate(columns)]
    assert rule.holds(values).tolist() == expected
    cell = f"2024-03-01T13:00:00{'.000000' if parts else ''}+02:00"
    at_eleven = comparison(f"a {sign} {cell}", columns)(rows)
    assert at_eleven.tolist() == [SIGNS[sign](k, 60) for k, _ in rows.tolist()]


@pytest.mark.parametrize("zone", ["Z", "+00:00", "+0000", "+00"])
def test_a_file_with_two_offsets_keeps_a_rule_by_the_instant(tmp_path, zone):
    minutes = [f"{i % 60:02}:{i * 7 % 60:02}" for i in range(200)]
    lines = [f"2024-03-01T12:{m}+02:00,2024-03-01T11:{m}{zone}\n" for m in minutes]
    path = written(tmp_path / "a.csv", "a,b\n" + "".join(lines))
    split, words = read_table(path, schema={"a": "date", "b": "date", "rules": ["a < b"]})
    assert words.comparisons()[0](split.train.values).all()
    with pytest.raises(ValueError, match="180 of 180 training rows break it"):
        read_table(path, schema={"a": "date", "b": "date", "rules": ["a >= b"]})


@pytest.mark.parametrize("form", ["%Y-%m-%d %H:%M", "%Y-%m-%d"])
def test_times_with_an_offset_are_not_compared_with_those_without(form):
    bare = Column("b", "integer", "integer", (), (0, 9), (0, 9), (0, 9), dates=form, step=1)
    zoned = moments("a", "%Y-%m-%d %H:%M+02:00")
    for rule in ("a < b", "b < a"):
        with pytest.raises(ValueError, match="'a' has an offset from UTC, and 'b' none") as error:
            comparison(rule, (zoned, bare))
        assert "\n" not in str(error.value)
    assert comparison("b < c", (bare, replace(bare, name="c")))
