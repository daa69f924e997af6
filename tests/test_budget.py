"""Budgets: what is timed, in which order, what it comes to, and what is refused."""

import json
from dataclasses import replace
from itertools import islice

import pytest
import torch

import noiseloom.budget
from noiseloom.budget import updates_within
from noiseloom.cli import main
from noiseloom.costs import short_note, steady_rate, unequal_note
from noiseloom.pace import MEASURED, READ, WARM_UP, Timing, in_turns, prior_updates, readings
from noiseloom.recipes import BitsDigits
from noiseloom.recipes.disco_mixture import DiscoMixture
from noiseloom.table import Cell, arrowed, markdown, rows

TITLES = {"slow": "code=gray", "fast": "code=binary"}
RECIPES = {"slow": BitsDigits(code="gray"), "fast": BitsDigits()}


class Clock:
    """A clock that only work moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def loop(clock, seconds, said, name, each=1, first=0.0, hiccup=None):
    """Updates of so many seconds each, the first ones slower, with a hiccup in one turn."""
    made = 0
    while True:
        turn = made // each
        clock.now += seconds * each + (first if turn == 0 else 0)
        clock.now += 100.0 if turn == hiccup else 0
        made += each
        said.append(name)
        yield made


def test_loops_are_timed_in_turn_after_a_warm_up_by_the_median() -> None:
    clock, said = Clock(), list[str]()
    found = in_turns(
        {
            "slow": loop(clock, 0.5, said, "slow", first=60.0),
            "fast": loop(clock, 0.125, said, "fast", hiccup=WARM_UP + 3),
        },
        clock,
    )
    assert found == {
        "slow": Timing(0.5, WARM_UP, MEASURED),
        "fast": Timing(0.125, WARM_UP, MEASURED),
    }
    assert said == ["slow", "fast"] * (WARM_UP + MEASURED)


def test_where_many_updates_are_one_turn_there_are_several_turns() -> None:
    clock = Clock()
    found = in_turns({"gpu": loop(clock, 0.25, [], "gpu", each=50, first=99.0)}, clock)
    assert found == {"gpu": Timing(0.25, 50, 250)}


def test_a_loop_that_breaks_is_reported_and_the_others_are_timed() -> None:
    clock = Clock()

    def broken():
        yield 1
        raise RuntimeError("out of memory")

    found = in_turns({"a": broken(), "b": loop(clock, 1.0, [], "b")}, clock)
    assert str(found["a"]) == "out of memory"
    assert found["b"] == Timing(1.0, WARM_UP, MEASURED)


@pytest.fixture
def timed(monkeypatch):
    """What is timed, a second an update of the slow run and half of it of others."""
    asked = []

    def measured(recipes, data, jobs, file):
        asked.append(list(recipes))
        return {name: Timing(1.0 if name == "slow" else 0.5, 5, 20) for name in recipes}

    monkeypatch.setattr(noiseloom.budget, "_measured", measured)
    return asked


def within(seconds, recipes, tmp_path):
    titles = dict.fromkeys(recipes, "x") | TITLES
    file = tmp_path / "grid" / "budget.json"
    return updates_within(seconds, recipes, file, titles=titles, data=None, jobs=1)


def test_the_numbers_are_kept_and_never_measured_again(capsys, tmp_path, timed) -> None:
    assert within(10.5, RECIPES, tmp_path) == {"slow": {"steps": 10}, "fast": {"steps": 21}}
    told = capsys.readouterr().err
    assert "code=gray: 1 s an update, 10 updates in 10.5 s (measured now)" in told
    file = tmp_path / "grid" / "budget.json"
    kept = json.loads(file.read_text())
    assert kept["budget"] == 10.5
    assert kept["torch"] == torch.__version__
    assert kept["device"]
    assert kept["cells"]["fast"] == {
        "seconds": 0.5,
        "warm_up": 5,
        "updates": 20,
        "threads": replace(RECIPES["fast"]).threads or torch.get_num_threads(),
        "steps": 21,
        "fingerprint": BitsDigits().load(None).fingerprint(),
    }
    before = file.read_bytes()
    assert within(10.5, RECIPES, tmp_path) == {"slow": {"steps": 10}, "fast": {"steps": 21}}
    assert "(as in budget.json)" in capsys.readouterr().err
    assert file.read_bytes() == before
    # A larger grid measures what is new.
    assert within(10.5, {**RECIPES, "new": BitsDigits()}, tmp_path)["new"] == {"steps": 21}
    assert timed == [["slow", "fast"], ["new"]]


def test_a_prior_has_a_quarter_at_most_and_the_first_stage_the_rest(
    capsys, tmp_path, monkeypatch
) -> None:
    coded = DiscoMixture(prior="autoregressive", prior_steps=100, prior_batch_size=50)

    def measured(recipes, data, jobs, file):
        prior = (
            {"the prior of coded": Timing(0.2, 5, 20)}
            if recipes["coded"].prior != "tabular"
            else {}
        )
        return {"coded": Timing(0.5, 5, 20), "the codes of coded": Timing(0.25, 5, 20), **prior}

    monkeypatch.setattr(noiseloom.budget, "_measured", measured)
    # An update reads 50 samples of the 8,000, a fifth of what takes 0.25 s: 100 of them take 25 s,
    # which is less than a quarter of 200 s, and more than one of 20.
    paid = within(200.0, {"coded": coded}, tmp_path)
    assert paid == {"coded": {"steps": 350, "prior_steps": 100}}
    told = "350 updates and 100 of its prior, with 5,000 samples read for its codes, in 200 s"
    assert told in capsys.readouterr().err
    assert within(20.0, {"coded": coded}, tmp_path / "b") == {
        "coded": {"steps": 30, "prior_steps": 20}
    }
    found = within(0.9, {"coded": coded}, tmp_path / "c")["coded"]
    assert "a quarter of a budget of 0.9 s does not pay for one update of the prior" in str(found)
    assert "which takes 0.25 s (0.05 s of it reading)" in str(found)
    kept = json.loads((tmp_path / "b" / "grid" / "budget.json").read_text())["cells"]["coded"]
    assert (kept["prior_steps"], kept["prior_seconds"], kept["steps"]) == (20, 5.0, 30)
    # No sample is read twice: 160 updates of 50 read all 8,000 in 8 s, and 400 as well.
    long = replace(coded, prior_steps=400)
    paid = within(1000.0, {"coded": long}, tmp_path / "d")["coded"]
    assert paid == {"prior_steps": 400, "steps": int((1000 - 400 * 0.2 - 8) / 0.5)}
    # A table is counted, of all of them where a quarter pays for that, 8 s: 1 ms a sample.
    table = replace(coded, prior="tabular")
    assert within(40.0, {"coded": table}, tmp_path / "e") == {"coded": {"steps": 64}}
    told = "0.5 s an update, 64 updates, with 8,000 samples read for its codes, in 40 s"
    assert told in capsys.readouterr().err
    assert within(20.0, {"coded": table}, tmp_path / "f") == {
        "coded": {"steps": 30, "prior_samples": 5000}
    }
    found = within(0.003, {"coded": table}, tmp_path / "g")["coded"]
    assert "a quarter of a budget of 0.003 s does not pay for one sample of codes" in str(found)
    found = within(0.6, {"coded": table}, tmp_path / "h")["coded"]
    told = "does not pay for one update, which takes 0.5 s beside 0.15 s of a prior"
    assert told in str(found)


def test_a_prior_and_the_reading_of_its_codes_are_timed_apart(tmp_path, monkeypatch) -> None:
    recipe = DiscoMixture(m=2, k=4, prior="autoregressive", prior_batch_size=8, width=8)
    read = []
    inner = DiscoMixture.encoded

    def encoded(self, parts, facts, data, rng, *, rows=None, draws=1):
        read.append(len(rows))
        return inner(self, parts, facts, data, rng, rows=rows, draws=draws)

    monkeypatch.setattr(DiscoMixture, "encoded", encoded)
    assert list(islice(prior_updates(recipe, None, tmp_path, 1), 3)) == [1, 2, 3]
    assert read == [8]
    assert list(islice(readings(recipe, None, 1), 3)) == [1, 2, 3]
    assert read[1:] == [READ] * 3


def test_what_cannot_be_equal_is_refused(tmp_path, timed, monkeypatch) -> None:
    found = within(0.75, RECIPES, tmp_path)
    assert found["fast"] == {"steps": 1}
    assert "does not pay for one update, which takes 1 s" in str(found["slow"])
    with pytest.raises(ValueError, match=r"was begun with --budget 0\.75: give the same"):
        within(2.0, RECIPES, tmp_path)
    monkeypatch.setattr(noiseloom.budget, "device", lambda: "another machine")
    assert within(0.75, {"fast": RECIPES["fast"]}, tmp_path) == {"fast": {"steps": 1}}
    with pytest.raises(ValueError, match="this is another machine: runs that are added"):
        within(0.75, {"new": BitsDigits()}, tmp_path)
    file = tmp_path / "grid" / "budget.json"
    for text in ("{", "[]", '{"budget": 0.75}'):
        file.write_text(text)
        with pytest.raises(ValueError, match=r"budget\.json is damaged"):
            within(0.75, RECIPES, tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [("steps", -5), ("steps", 0), ("steps", 2.5), ("prior_steps", 0), ("seconds", -1.0)],
)
def test_numbers_that_cannot_be_measured_are_damage(capsys, tmp_path, timed, name, value) -> None:
    within(10.5, RECIPES, tmp_path)
    file = tmp_path / "grid" / "budget.json"
    kept = json.loads(file.read_text())
    kept["cells"]["fast"][name] = value
    file.write_text(json.dumps(kept))
    capsys.readouterr()
    with pytest.raises(ValueError, match=rf"budget\.json is damaged \(fast: {name} {value}\)"):
        within(10.5, RECIPES, tmp_path)
    assert not capsys.readouterr().err


def test_numbers_of_another_path_are_refused_whatever_is_asked_for(tmp_path, timed) -> None:
    within(10.5, {"fast": RECIPES["fast"]}, tmp_path)
    file = tmp_path / "grid" / "budget.json"
    kept = json.loads(file.read_text())
    assert (kept["data"], kept["bytes"]) == (None, None)
    file.write_text(json.dumps(kept | {"data": "/elsewhere/a.txt"}))
    with pytest.raises(FileExistsError, match="was measured on other data"):
        within(10.5, {"slow": RECIPES["slow"]}, tmp_path)
    assert timed == [["fast"]]


def test_numbers_without_a_fingerprint_are_taken(tmp_path, timed) -> None:
    within(10.5, RECIPES, tmp_path)
    file = tmp_path / "grid" / "budget.json"
    kept = json.loads(file.read_text())
    for one in kept["cells"].values():
        del one["fingerprint"]
    del kept["data"], kept["bytes"]
    file.write_text(json.dumps(kept))
    assert within(10.5, RECIPES, tmp_path) == {"slow": {"steps": 10}, "fast": {"steps": 21}}
    assert timed == [["slow", "fast"]]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--budget", "0"], "--budget must be seconds above 0, got 0"),
        (["--budget", "-3"], "--budget must be seconds above 0, got -3"),
        (["--budget", "nan"], "--budget: expected a number, got nan"),
        (["--budget", "inf"], "--budget: expected a number, got inf"),
        (["--budget", "soon"], "--budget: expected a number, got soon"),
        (["--budget", "5", "--steps", "9"], "leave --steps out"),
        (["--budget", "5", "--grid", "steps=1,2"], "leave them out of the grid"),
        (["--budget", "5", "--jobs", "0"], "--jobs must be at least 1"),
        (["--grid", "budget=1,2"], "budget is no option of the recipe"),
    ],
)
def test_nonsense_is_refused_in_one_line_before_anything_is_timed(
    capsys, tmp_path, timed, words, told
) -> None:
    grid = [] if "--grid" in words else ["--grid", "code=gray"]
    out = tmp_path / "grid"
    assert main(["compare", "bits-digits", "--out", str(out), *grid, *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
    assert not out.exists()
    assert not timed


def test_a_comparison_with_a_budget_goes_on_with_it_only(capsys, tmp_path, timed) -> None:
    within(4.0, RECIPES, tmp_path)
    capsys.readouterr()
    words = ["compare", "bits-digits", "--out", str(tmp_path / "grid"), "--grid", "code=gray"]
    assert main(words) == 2
    assert "was begun with --budget: give it again" in capsys.readouterr().err


def test_why_some_trainings_have_no_pace_is_told() -> None:
    def rate(updates: int) -> float | None:
        return steady_rate([0.5 * i for i in range(updates)])

    assert (rate(150), rate(151)) == (None, 2.0)
    told = short_note([rate(127), rate(252)])
    assert told is not None
    assert told.startswith("updates_per_second is known of trainings of more than 150 updates:")
    for rates in ([], [2.0], [None, None], [2.0, 3.0]):
        assert short_note(rates) is None


def test_parameters_that_differ_are_told() -> None:
    assert unequal_note({}) is None
    assert unequal_note({"a": 100.0, "b": 105.0}) is None
    told = "warning: parameters differ by 6.0%: 100 of a, 106 of c"
    assert unequal_note({"a": 100.0, "b": 103.0, "c": 106.0}) == told
    told = "warning: parameters with those of priors differ by 40.0%: 100 of a, 140 of b"
    assert unequal_note({"a": 100.0, "b": 140.0}, " with those of priors") == told


def test_with_one_seed_the_spread_is_the_standard_error() -> None:
    made = {"kid": 1.0, "kid_se": 0.25, "steps": 12_345.0}
    one = Cell({"loss_kind": "l2"}, BitsDigits(), [made])
    head, lines = rows([one], ["kid", "steps"])
    assert lines == [["l2", "1.00 ± 0.25", "12,345", "1"]]
    # An option may have the name of a metric, and has no direction.
    assert arrowed(head, [one]) == ["loss_kind", "kid ↓", "steps", "seeds"]
    two = Cell(one.options, one.recipe, [made, made | {"kid": 2.0}])
    assert rows([two], ["kid"])[1] == [["l2", "1.50 ± 0.71", "2"]]
    table = {"skipped": [], "steps": [3, 4], "seeds": [0], "budget": 9.0, "notes": ["note"]}
    table |= {"device": "d", "noiseloom": "n", "git": None, "command": "c"}
    text = markdown(head, lines, table)
    assert "\nnote\n" in text
    assert "One seed, ± standard error, 9 s of training a run: 3 or 4 steps, d," in text


def test_the_pace_of_a_training_is_that_once_it_runs() -> None:
    seconds, now = [], 0.0
    for update in range(1, 402):
        now += 0.25
        now += 60.0 if update == 1 else 0.0  # compiled
        now += 7.0 if update == 200 else 0.0  # a checkpoint
        seconds.append(now)
    assert steady_rate(seconds) == pytest.approx(4)
    assert steady_rate(seconds[:151]) == pytest.approx(4)
    assert steady_rate(seconds[:150]) is None
    assert steady_rate([]) is None
    # Of a GPU the host knows when every fiftieth is done, and before that when they were asked for.
    waited = [12.5 * (i // 50) + 0.01 * (i % 50) for i in range(401)]
    assert steady_rate(waited) == pytest.approx(4)
