"""Figures of led samples, by hand and by brute force."""

from pathlib import Path

import pytest
import torch

from noiseloom import Rng, guided_table
from noiseloom.guided_cells import Cell, Found
from noiseloom.guided_figures import Aim, led_figures
from noiseloom.guided_table import Row, guided_rows
from noiseloom.recipes import Guiding

NAN = float("nan")
KEYS = ["b", "", "a", "b", "c", "d"]
VALUES = torch.tensor([2.0, NAN, 1.0, 2.0, NAN, 4.0], dtype=torch.float64)


def test_figures_by_hand():
    aim = Aim("y", "minimise", limit=2.0)
    found = led_figures(KEYS, [aim], {"y": VALUES}, {"b", "z"})
    assert found == {
        "n": 6,
        "valid": 5 / 6,
        "distinct": 4,
        "outside": 3 / 5,
        "measured": 3 / 4,
        "best": pytest.approx(7 / 3),
        "best_of": 3,
        "mean": pytest.approx(9 / 4),
        "beyond": pytest.approx(1 / 6),
    }
    up = led_figures(KEYS, [Aim("y", "maximise", limit=2.0)], {"y": VALUES})
    assert up["best"] == found["best"]  # fewer than 100: all of them
    assert up["beyond"] == pytest.approx(1 / 6)
    assert "outside" not in up
    near = led_figures(KEYS, [Aim("y", 2.5)], {"y": VALUES})
    assert near["best"] == pytest.approx((0.5 + 1.5 + 1.5) / 3)
    assert near["mean"] == pytest.approx((0.5 + 1.5 + 0.5 + 1.5) / 4)
    assert "beyond" not in near


@pytest.mark.parametrize("target", ["minimise", "maximise", 0.3])
def test_the_best_hundred_are_of_different_structures(target):
    draws = Rng(0).integers(300, (900,)).tolist()
    worth = Rng(1).normal((300,), torch.float64)
    keys = [f"k{i}" if i else "" for i in draws]
    truths = {"y": torch.where(torch.tensor(draws) > 0, worth[torch.tensor(draws)], NAN)}
    different = [float(worth[i]) for i in set(draws) - {0}]
    if isinstance(target, float):
        best = sorted(abs(v - target) for v in different)[:100]
    else:
        best = sorted(different, reverse=target == "maximise")[:100]
    found = led_figures(keys, [Aim("y", target)], truths)
    assert found["distinct"] == len(different) > 100
    assert found["best_of"] == 100
    assert found["best"] == pytest.approx(sum(best) / 100)


def test_what_a_guide_picks_is_told_beside_what_it_claims():
    # b, a, c, d appear in this order; the guide holds c and b for the best.
    order = torch.tensor([2, 0, 1, 3])
    said = {"y": torch.tensor([-1.0, 5.0, -2.0, 7.0])}
    found = led_figures(KEYS, [Aim("y", "minimise")], {"y": VALUES}, order=order, said=said)
    assert found["claimed"] == pytest.approx(9 / 4)
    assert found["picked"] == pytest.approx(7 / 3)  # nobody knows c
    many = [f"k{i}" for i in range(150)]
    values = torch.arange(150, dtype=torch.float64)
    order = torch.arange(150).flip(0)
    found = led_figures(many, [Aim("y", "minimise")], {"y": values}, None, order, {"y": -values})
    assert found["best"] == pytest.approx(49.5)
    assert found["picked"] == pytest.approx(99.5)
    assert found["claimed"] == pytest.approx(-99.5)


def test_several_properties_and_truths_that_are_not_known():
    aims = [Aim("y", "minimise"), Aim("z", "maximise")]
    found = led_figures(KEYS, aims, {"y": VALUES})
    assert "best_y" in found
    assert not [name for name in found if name.endswith("_z")]
    unknown = led_figures(KEYS, aims[:1], {"y": torch.full((6,), NAN, dtype=torch.float64)})
    assert unknown["measured"] == 0
    assert "best" not in unknown
    assert led_figures(["", ""], aims, {}) == {"n": 2, "valid": 0, "distinct": 0}


def test_nothing_valid_is_nothing_better_than_what_was_learnt():
    truths = {"y": torch.full((2,), NAN, dtype=torch.float64)}
    for aim, found in ((Aim("y", "minimise", 1.0), {"beyond": 0.0}), (Aim("y", 2.0), {})):
        empty = {"n": 2, "valid": 0, "distinct": 0, "best_of": 0, **found}
        assert led_figures(["", ""], [aim], truths) == empty
    both = led_figures(["", ""], [Aim("y", "minimise", 1.0), Aim("z", "maximise", 1.0)], truths)
    assert both["best_of_y"] == both["beyond_y"] == 0
    assert "beyond_z" not in both


def cells(*each, scale=8.0):
    """Rows of unguided cells, a list of figures for each seed."""
    cell = Cell("run", (), "guide", Guiding(scale=scale), 4, 0, None, Path("cell.json"))
    return [(None, seed, Found(cell, figures)) for seed, figures in enumerate(each)]


def test_means_are_over_the_seeds_that_have_a_figure_and_say_how_many():
    whole = {"valid": 0.5, "best": 3.0, "beyond": 0.25}
    rows = guided_rows(cells({"valid": 0.0, "beyond": 0.0}, whole, {**whole, "best": 4.0}))
    (row,) = rows
    assert row.seeds == [0, 1, 2]
    assert row.values["best"] == [None, 3.0, 4.0]
    assert row.intervals["best"][0] == 3.5
    assert row.intervals["beyond"][0] == pytest.approx(1 / 6)
    head, (line,) = guided_table.guided_table(rows, [Aim("y", "minimise", 1.0)], 4)
    told = dict(zip(head, line, strict=True))
    assert told["best 100 ↓"].endswith("(2 of 3)")
    assert "of 3" not in told["beyond ↑"]
    assert row.plain()["values"]["best"][0] is None


def test_charts_compare_the_same_seeds_at_all_scales(monkeypatch):
    """Seed 0 has nothing at scale 8: it is not in the line, at scale 0 either."""
    unguided = Row("", "unguided", 0.0, [0, 1], {"best": [1.0, 2.0]})
    led = Row("", "none", 8.0, [0, 1], {"best": [None, 5.0]})
    drawn = []
    monkeypatch.setattr(guided_table, "curve_chart", lambda x, lines, *a, **m: drawn.append(lines))
    guided_table._chart([unguided, led], "", "best")
    assert drawn == [{"none": [[2.0, 5.0]]}]
