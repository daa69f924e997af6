"""Plans in files: JSON comes back to the last bit, tables drawn by hand are read or refused."""

import json

import pytest
import torch
from oracles import F64

from noiseloom.noise import Cosine
from noiseloom.plan import SamplingPlan
from noiseloom.plan_parts import PartsPlan
from noiseloom.rng import Rng


def same(one, other):
    return torch.equal(one.t, other.t) and torch.equal(one.s, other.s)


def test_json_comes_back_to_the_last_bit(tmp_path):
    rng = Rng(0)
    wild = rng.uniform((9, 2, 3), F64).sort(0, descending=True).values
    for i, plan in enumerate(
        (
            SamplingPlan.uniform(7),
            SamplingPlan.karras(11, Cosine()).overshoot(0.3),
            SamplingPlan.pyramid(5, 4, 1.5).overshoot(1),
            SamplingPlan.from_times(wild),
        )
    ):
        path = tmp_path / f"{i}.json"
        plan.save(path)
        assert same(SamplingPlan.load(path), plan)
        assert same(SamplingPlan.load(str(path)), plan)
        assert json.loads(path.read_text())["t"] == plan.t.tolist()


def test_a_table_of_levels_is_a_plan(tmp_path):
    path = tmp_path / "drawn.csv"
    path.write_text("4,4\n2,4\n0, 1\n\n0,0\n")
    plan = SamplingPlan.load(path)
    assert plan.t.tolist() == [[[1, 1]], [[0.5, 1]], [[0, 0.25]]]
    assert plan.s.tolist() == [[[0.5, 1]], [[0, 0.25]], [[0, 0]]]
    path.write_text("\ufeff0,1.5\r\n0,0.75\r\n", encoding="utf-8")  # as a spreadsheet writes it
    plan = SamplingPlan.load(path)
    assert (plan.t.tolist(), plan.s.tolist()) == ([[[0, 1]]], [[[0, 0.5]]])
    pyramid = SamplingPlan.pyramid(7, 5, 2)
    rows = torch.cat((pyramid.t, pyramid.s[-1:]))[:, 0] * 7
    path = tmp_path / "PYRAMID.CSV"
    path.write_text("\n".join(",".join(f"{v:.0f}" for v in row) for row in rows.tolist()))
    torch.testing.assert_close(SamplingPlan.load(path).t, pyramid.t, rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3,3\n2,two\n0,0\n", "row 2: 'two' is not a number"),
        ("3,3\n2,\n0,0\n", "row 2: '' is not a number"),
        ("3,3\n\n2,2,2\n", "row 2: 3 tokens, but row 1 has 2"),
        ("3,3\n2,2\n1,2.5\n", "row 3: token 1 rises from 2 to 2.5"),
        ("3,3\n2,-1\n", "row 2: token 1 is at -1"),
        ("3,nan\n2,1\n", "row 1: token 1 is at nan"),
        ("inf,3\n2,1\n", "row 1: token 0 is at inf"),
        ("0,0\n0,0\n", "row 1: all tokens are at 0"),
        ("3,3\n", "two or more rows"),
        ("", "two or more rows"),
    ],
)
def test_a_wrong_table_is_refused_in_one_line(tmp_path, text, message):
    path = tmp_path / "drawn.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        SamplingPlan.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[1, 2]", "needs rows 't' and 's'"),
        ('{"t": [1.0]}', "needs rows 't' and 's'"),
        ('{"t": [1.0], "s": 0.0}', "needs rows 't' and 's'"),
        ('{"t": [1, 0.5], "s": [0.5, 0.7]}', "0 <= s <= t <= 1.*row 1"),
        ('{"t": [[[1, 1]], [[1]]], "s": [[[1, 1]], [[1]]]}', "row 1 of 't'"),
        ('{"t": [1, 1, 1], "s": [0, 0, "x"]}', "row 2 of 's'"),
        ('{"t": [1, null], "s": [0, 0]}', "row 1 of 't'"),
        ('{"t": [1, NaN], "s": [0, 0]}', "0 <= s <= t <= 1.*row 1"),
        ('{"t": [], "s": []}', "one or more rows"),
        ('{"t": [1, 1], "s": [0]}', "equal shape"),
        ('{"t": [[[]], [[]]], "s": [[[]], [[]]]}', r"each of one time or more, got t of"),
    ],
)
def test_wrong_json_is_refused_in_one_line(tmp_path, text, message):
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        SamplingPlan.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_text_is_no_plan(tmp_path):
    for name, kind in (("p.csv", SamplingPlan), ("p.json", SamplingPlan), ("q.json", PartsPlan)):
        path = tmp_path / name
        path.write_bytes(b"\xff\xfe1")
        with pytest.raises(ValueError, match="it is no plan: a plan is text") as caught:
            kind.load(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "codec" not in str(caught.value)


def test_other_files_are_refused(tmp_path):
    plan = SamplingPlan.uniform(3)
    for name in ("plan.csv", "plan.pt", "plan"):
        with pytest.raises(ValueError, match=r"\.json"):
            plan.save(tmp_path / name)
    with pytest.raises(ValueError, match=r"\.json or \.csv"):
        SamplingPlan.load(tmp_path / "plan.txt")
    with pytest.raises(FileNotFoundError):
        SamplingPlan.load(tmp_path / "none.json")
