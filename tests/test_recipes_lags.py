"""Forecasts that are told what the series was some steps before, at every token."""

import json
from dataclasses import replace
from functools import partial

import pytest
import torch
from test_recipes_series import TINY, forecast, series, write
from test_recipes_series import made as without_lags

import noiseloom
from noiseloom import Rng
from noiseloom.cli import main
from noiseloom.data import Table, rolling
from noiseloom.meaning import check_meaning
from noiseloom.recipes import ForcingSeries
from noiseloom.recipes.series_tokens import with_gaps

LAGS = (6, 10)
KINDS = [
    {},
    {"state": "differences"},
    {"periods": (6.0,)},
    {"network": "recurrent"},
    {"network": "bidirectional", "forcing": "full-sequence"},
    {"forcing": "teacher-forcing"},
]


made = partial(without_lags, lags=LAGS)


def lagged_tokens(recipe, batch, facts):
    """The features of lags, (B, T, lags, D), and which of them are known, (B, T, lags)."""
    told = recipe.told(batch, facts, Rng(0))["action"]
    columns = len(facts["columns"])
    told = told[..., 2 * len(recipe.periods) :].unflatten(-1, (len(LAGS), columns + 1))
    return told[..., :-1], told[..., -1]


@pytest.mark.parametrize("options", KINDS[:3])
def test_a_token_is_told_the_tokens_of_some_steps_before(options):
    recipe, parts, facts, data = made(**options)
    whole = series().values
    for part, rows in ((data.train, [20, 33]), (data.held_out, [0, 5])):
        batch = part[torch.tensor(rows)]
        told, known = lagged_tokens(recipe, batch, facts)
        assert (known == 1).all()
        size = parts.codec.measured(batch["values"])[1]
        for i, row in enumerate(rows):
            first = part.first + row
            for k, lag in enumerate(LAGS):
                steps = first - lag + torch.arange(recipe.lead + recipe.horizon)
                scaled = whole[steps] / size[i]
                if recipe.state == "differences":
                    scaled = scaled.diff(dim=0)
                expected = (scaled - torch.tensor(facts["mean"])) / torch.tensor(facts["std"])
                torch.testing.assert_close(told[i, :, k], expected.float())


@pytest.mark.parametrize("options", KINDS[:2])
def test_what_lies_before_the_beginning_is_told_to_be_unknown(options):
    table = series()
    recipe, _, facts, data = made(table, **options)
    told, known = lagged_tokens(recipe, data.train[torch.arange(len(data.train))], facts)
    tokens = torch.arange(recipe.tokens) + recipe.lead - recipe.known
    step = torch.arange(len(data.train))[:, None] + tokens
    first = 1 if recipe.state == "differences" else 0  # a change takes the step before, too
    for k, lag in enumerate(LAGS):
        assert torch.equal(known[..., k] == 1, step - lag >= first)
    assert not told[known == 0].any()
    assert told.isfinite().all()

    # And so is what is missing.
    table.values[50, 1] = torch.nan
    recipe, _, facts, data = made(Table(with_gaps(table.values), table.columns), gaps="missing")
    told, known = lagged_tokens(recipe, data.train[torch.tensor([52])], facts)
    assert known[0, :, 0].tolist() == [float(52 + i - 6 != 50) for i in range(recipe.tokens)]
    assert told.isfinite().all()


@pytest.mark.parametrize("options", KINDS)
def test_no_token_is_told_of_the_future(options):
    """Of what comes at or after its start a forecast, and every condition of it, knows nothing."""
    table = series()
    recipe, parts, facts, data = made(table, **options)
    row, keys = torch.tensor([4]), Rng(1).samples(2)
    start = data.held_out.first + 4 + recipe.lead
    moved = Table(table.values.clone(), table.columns)
    moved.values[start:] += 100.0
    after = recipe.split(moved)
    told = [recipe.told(part.held_out[row], facts, Rng(0))["action"] for part in (data, after)]
    assert torch.equal(*told)
    drawn = [
        forecast(recipe, parts, facts, recipe.asked(part.held_out, row, 2), keys)
        for part in (data, after)
    ]
    assert torch.equal(*drawn)

    # What was some steps before, and nothing that the tokens themselves are of, changes it.
    moved.values[start - recipe.lead - 1] -= 100.0
    before = recipe.asked(recipe.split(moved).held_out, row, 2)
    assert torch.equal(before["values"], recipe.asked(data.held_out, row, 2)["values"])
    assert not torch.equal(forecast(recipe, parts, facts, before, keys), drawn[0])


@pytest.mark.parametrize("options", KINDS)
def test_training_sees_of_the_held_out_steps_nothing(options):
    table = series()
    losses = []
    for change in (0.0, 100.0):
        moved = Table(table.values.clone(), table.columns)
        moved.values[len(table.values) - 5 * 4 :] += change
        recipe, parts, facts, data = made(moved, **options)
        rows = torch.arange(len(data.train))
        losses.append(recipe.loss(parts, facts)(parts.denoiser, data.train[rows], Rng(2), rows))
    assert torch.equal(*losses)


def test_without_lags_all_is_what_it_was():
    recipe, _, facts, data = made(lags=())
    old = rolling(series(), context=recipe.lead, horizon=recipe.horizon, windows=recipe.windows)
    assert recipe.told(data.train[torch.arange(3)], facts, Rng(0)) == {}
    assert data.fingerprint() == old.fingerprint()
    assert made()[3].fingerprint() == old.fingerprint()
    assert "lagged" not in data.train[torch.arange(3)]


def test_parameters_grow_by_a_row_of_the_width_for_each_number_told():
    """Width times lags times (columns + 1), a bias, and the vector of an unknown one."""
    wide = series(columns=2).values.repeat(1, 104)[:, :207]
    table = Table(wide, tuple(f"s{k}" for k in range(207)))
    count = [
        sum(p.numel() for p in made(table, lags=lags)[1].denoiser.parameters())
        for lags in ((), LAGS)
    ]
    assert count[1] - count[0] == 16 * (2 * 208 + 2)


def test_lags_that_do_not_fit():
    for options, told in (
        ({"lags": (3, 6)}, r"lags must be at least the horizon, 4 steps, .* got 3"),
        ({"lags": (0,)}, "lags must be at least the horizon"),
        ({"lags": (6, 6)}, "lags must differ"),
    ):
        with pytest.raises(ValueError, match=told):
            ForcingSeries(**TINY, **options)
    # 120 steps, of which 20 are held out, and 3 known before.
    made(lags=(97,))
    with pytest.raises(ValueError, match="lags of 98 steps reach before the first one"):
        made(lags=(98,))
    recipe, parts, facts, data = made()
    given = recipe.asked(data.held_out, torch.tensor([0]), 1)
    for wrong in (given["lagged"][:, :1], given["lagged"][:, :, 1:]):
        with pytest.raises(ValueError, match=r"lagged of shape \(1, 2, 7, 2\), got"):
            next(recipe.draw(parts, facts, {**given, "lagged": wrong}, Rng(0).samples(1)))
    del given["lagged"]
    with pytest.raises(ValueError, match="got none"):
        next(recipe.draw(parts, facts, given, Rng(0).samples(1)))


def test_a_run_keeps_its_lags_and_may_be_given_more(tmp_path):
    recipe, _, facts, _ = made()
    (tmp_path / "recipe.yaml").write_text("")

    def begun(options, own=facts, **old):
        described = {"options": json.loads(json.dumps(vars(replace(recipe, **old))))}
        with pytest.MonkeyPatch.context() as patch:
            told = {**described, "facts": facts}
            patch.setattr("noiseloom.meaning.read_description", lambda _: told)
            check_meaning(replace(recipe, **options), own, tmp_path)

    begun({})
    begun({"lags": (6, 10, 12)})
    begun({"periods": (6.0,)}, periods=(6.0,))
    begun({"lags": LAGS}, lags=())
    for options, old in (
        ({"lags": (10, 6)}, {}),
        ({"lags": (6,)}, {}),
        ({"periods": (6.0, 12.0)}, {"periods": (6.0,)}),  # they stand before the lags
    ):
        with pytest.raises(ValueError, match="its weights would mean something else"):
            begun(options, **old)
    more = {**facts, "columns": [*facts["columns"], "new"]}
    with pytest.raises(ValueError, match="columns"):
        begun({}, more)


def test_from_a_file_with_lags_to_forecasts_in_a_file(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "mine.csv", series())
    words = "train forcing-series --data mine.csv --out run --steps 3 --horizon 4 --context 3"
    words += " --windows 2 --lags [6,12] --samples 20 --sampling-steps 2 --width 16 --depth 1"
    words += " --heads 2 --batch-size 8 --json"
    assert main(words.split()) == 0
    assert {"crps", "crps_walk"} <= json.loads(capsys.readouterr().out)["metrics"].keys()
    assert main(["sample", "run", "-n", "5", "--seed", "2"]) == 0
    said = (tmp_path / "run-seed2.csv").read_text().splitlines()
    told = torch.tensor([[float(cell) for cell in line.split(",")[2:]] for line in said[1:]])
    run = noiseloom.load("run", device="cpu")
    values = series().values
    steps = 117 + torch.arange(7) - torch.tensor([[6], [12]])
    given = {"values": values[-3:], "position": torch.tensor(117), "lagged": values[steps]}
    given = {name: part.expand(5, *part.shape) for name, part in given.items()}
    drawn = run.samples(given, seed=2).flatten(0, 1).float()
    torch.testing.assert_close(told, drawn, rtol=1e-4, atol=1e-4)

    # One's own series, from another beginning: all that is counted is how far back a step lies.
    write(tmp_path / "late.csv", Table(values[-15:], ("a", "b")))
    assert main(["sample", "run", "-n", "5", "--seed", "2", "--data", "late.csv"]) == 2
    capsys.readouterr()
    again = ["sample", "run", "-n", "5", "--seed", "2", "--data", "late.csv", "--out", "late-5.csv"]
    assert main(again) == 0
    assert (tmp_path / "late-5.csv").read_text() == (tmp_path / "run-seed2.csv").read_text()
    capsys.readouterr()
    write(tmp_path / "few.csv", Table(values[-14:], ("a", "b")))
    write(tmp_path / "short.csv", Table(values[-22:], ("a", "b")))
    train = ["train", "forcing-series", "--data", "mine.csv", "--out", "r2"]
    for words, said in (
        (["sample", "run", "--data", "few.csv"], "few.csv has 14 rows, and a forecast takes 15"),
        (["evaluate", "run", "--data", "short.csv"], "reach before the first one"),
        (
            [*train, "--horizon", "4", "--lags", "[2]"],
            "lags must be at least the horizon, 4 steps, to be known when it is drawn, got 2",
        ),
    ):
        assert main(words) == 2
        assert said in capsys.readouterr().err.splitlines()[-1]


def test_gaps_are_filled_in_with_lags(capsys, tmp_path, monkeypatch):
    """Every step is told the one so many before in the file, unknown before its first row."""
    monkeypatch.chdir(tmp_path)
    table = series()
    write(tmp_path / "mine.csv", table)
    words = "train forcing-series --data mine.csv --out run --steps 3 --horizon 4 --context 3"
    words += " --windows 2 --lags [6,12] --sampling-steps 2 --width 16 --depth 1 --heads 2"
    words += " --batch-size 8 --network bidirectional --no-evaluate"
    assert main(words.split()) == 0
    run = noiseloom.load("run", device="cpu")
    draw, heard = ForcingSeries.draw, []
    monkeypatch.setattr(ForcingSeries, "draw", lambda *a: heard.append(a[3]) or draw(*a))
    for rows, first in (
        (40, 27),
        (20, 7),
        (14, 7),
        (9, 2),
        (6, 0),
    ):  # of the 2nd and 3rd the lag of 12
        gaps = table.values[:rows].clone()
        gaps[[first + 3, min(first + 5, rows - 1)]] = torch.nan
        known = gaps.isfinite().all(1)[first : first + 7]
        write(tmp_path / "gaps.csv", Table(gaps, table.columns))
        capsys.readouterr()
        assert main(["sample", "run", "--known", "gaps.csv", "-n", "3", "--out", "f.csv"]) == 0
        lines = (tmp_path / "f.csv").read_text().splitlines()[1:]
        told = torch.tensor([[float(cell) for cell in line.split(",")[2:]] for line in lines])

        steps = first + torch.arange(7) - torch.tensor([[6], [12]])
        lagged = table.values[steps.clamp(min=0)].masked_fill((steps < 0)[..., None], torch.nan)
        given = {"values": gaps[first : first + 7], "known": known, "lagged": lagged}
        given["position"] = torch.tensor(first)
        given = {name: part.expand(3, *part.shape) for name, part in given.items()}
        assert heard[-1].keys() == given.keys()
        for name, part in given.items():
            torch.testing.assert_close(heard[-1][name], part, rtol=0, atol=1e-12, equal_nan=True)
        drawn = run.samples(given).flatten(0, 1).float()
        torch.testing.assert_close(told, drawn, rtol=1e-4, atol=1e-4)
        (tmp_path / "f.csv").unlink()
    for wrong in (given["lagged"][:, :1], None):
        given["lagged"] = wrong
        part = {name: value for name, value in given.items() if value is not None}
        with pytest.raises(ValueError, match=r"takes lagged of shape \(3, 2, 7, 2\), got"):
            run.samples(part)
