"""Which numbers of an evaluation are metrics, and which stand beside one."""

import json
import math

import pytest

from noiseloom.recipes import BitsDigits
from noiseloom.scores import scores
from noiseloom.table import METRICS, Cell, chosen, rows
from noiseloom.terminal import bare, metrics_rows, number

OURS = {"n": 9.0, "kid": 0.5, "kid_se": 0.1, "kid_held_out": 0.25, "kid_se_held_out": 0.125}
OWN = {"random_walk": 1.0, "four_season": 2.0, "phase_se": 3.0, "in_se_order": 4.0}


def test_a_name_that_only_ends_like_an_anchor_is_a_metric(tmp_path):
    head, lines = metrics_rows(OURS | OWN)
    assert head == ["metric", "samples", "held-out real"]
    assert [line[0] for line in lines] == ["kid ↓", *OWN]
    assert [line[1] for line in lines[1:]] == ["1", "2", "3", "4"]
    assert lines[0][2] == "0.25"

    (tmp_path / "evaluation.json").write_text(json.dumps(OURS | OWN))
    page = scores(tmp_path / "evaluation.json", "run")
    for name in OWN:
        assert f"<th>{name.replace('_', ' ')}" in page
    assert page.count("<tr><th>") == 6  # with the head
    assert "<th>held-out real</th>" in page
    assert "history repeated" not in page

    assert chosen(OWN, METRICS) == list(OWN)
    futures = {"error": 0.3, "error_still": 0.5, "inside_90": 0.8}
    assert set(chosen(futures, METRICS)) == {"error", "inside_90"}
    driving = {"score_multi": 81.0, "score_multi_straight": 80.0, "ms_per_plan_alone": 4.0}
    assert chosen(driving, METRICS) == ["score_multi"]
    assert chosen(OURS | OWN, ["*_walk", "kid*"]) == ["random_walk", "kid"]
    assert chosen(OURS | OWN, ["kid_held_out"]) == ["kid_held_out"]  # by its whole name
    cell = Cell({"td": "0"}, BitsDigits(), [OURS | OWN])
    head, lines = rows([cell], ["kid", "four_season"])
    assert head == ["td", "kid", "four_season", "seeds"]
    assert [line[0] for line in lines] == ["0", "held-out real"]


def test_a_name_with_the_metric_it_is_an_anchor_of_stands_beside_it():
    head, lines = metrics_rows({"random": 1.0, "random_walk": 2.0})
    assert head == ["metric", "samples", "history repeated"]
    assert lines == [["random", "1", "2"]]


def test_anchors_of_a_metric_without_a_value_are_no_metrics(tmp_path):
    """Of samples of which none is valid, no share is unique or novel."""
    found = {"n": 9.0, "valid": 0.0, "valid_se": 0.0, "valid_held_out": 1.0, "valid_noised": 0.5}
    found |= {"novel_held_out": 0.75, "novel_se_held_out": 0.125, "novel_noised": 0.5}
    found |= {"kid_digits_se_held_out": 0.25, "prior_bits_held_out": 4.0}
    head, lines = metrics_rows(found)
    assert head == ["metric", "samples", "held-out real", "real, noised"]
    assert lines[:2] == [["valid ↑", "0 ± 0", "1", "0.5"], ["novel ≈", "-", "0.75", "0.5"]]
    assert [line[:2] for line in lines[2:]] == [
        ["kid_digits ↓", "-"],
        ["prior_bits_held_out ↓", "4"],
    ]
    assert bare(found) == ["n", "valid", "prior_bits_held_out"]
    (tmp_path / "evaluation.json").write_text(json.dumps(found))
    page = scores(tmp_path / "evaluation.json", "run")
    assert page.count("<tr><th>") == 5  # with the head
    assert "held out" not in page.replace("prior_bits_held_out", "")
    assert "<td>&ndash;</td><td>0.75<small>±&nbsp;0.12</small></td><td>0.5</td>" in page


@pytest.mark.parametrize("seeds", [2, 3, 7])
@pytest.mark.parametrize("value", [0.465625, 173.010380622837374, 0.1, 1e9 / 3, -2 / 3e5])
def test_a_spread_of_rounding_is_none(value, seeds):
    """As of sums in another order: a few units in the last of 53 bits."""
    units = math.ulp(value) * math.sqrt(seeds)
    for spread in (units / 2, units, 4 * units):
        assert number(value, spread) == number(value, 0.0) == f"{number(value)} ± 0"
    assert number(1.0, 1e-9) == "1.0000000000 ± 1e-09"  # floats of 32 bits may differ so
    assert number(3e-18, 4e-17) == "3e-18 ± 4e-17"  # and not in 18 digits
