"""Forecasts of series: tokens and back, what a forecast depends on, and the commands."""

import csv
import json
import math
import os
import signal
from dataclasses import replace

import pytest
import torch

import noiseloom
from noiseloom import (
    HistoryGuided,
    Rng,
    SamplingPlan,
    SelfConditioned,
    fractional_history,
    rollout,
    vanilla_history,
)
from noiseloom.cli import main
from noiseloom.data import Table
from noiseloom.figures import fan_chart
from noiseloom.noise import SCHEDULES
from noiseloom.recipes import ForcingSeries
from noiseloom.recipes.series_tokens import with_gaps
from noiseloom.sliding import slide

TINY = {"width": 16, "depth": 1, "heads": 2, "horizon": 4, "context": 3, "sampling_steps": 2}


def series(rows=120, columns=2):
    step = torch.arange(rows, dtype=torch.float64)
    each = [(3 + k) * (step * 2 * math.pi / 6 + k).sin() + 10 * k for k in range(columns)]
    noise = Rng(0).normal((rows, columns)).double()
    return Table(torch.stack(each, 1) + 0.1 * noise, tuple("abcdefgh"[:columns]))


def made(table=None, **options):
    """A recipe, its parts with random outputs, its facts and its data."""
    recipe = ForcingSeries(**{**TINY, **options})
    data = recipe.split(table or series())
    facts = recipe.facts(data)
    with Rng(0).torch():
        parts = recipe.build(facts)
        for parameter in parts.denoiser.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return recipe, parts, facts, data


KINDS = [
    {},
    {"state": "differences"},
    {"network": "recurrent"},
    {"network": "bidirectional"},
    {"plan": "pyramid:1"},
    {"periods": (6.0, 24.0)},
    {"network": "bidirectional", "periods": (6.0, 24.0)},
    {"self_conditioning": 0.5, "state": "differences", "periods": (6.0,)},
    {"restarts": ((3, 2, 0.5, 2.0),)},
    {"restarts": ((3, 2, 0.5, 2.0),), "plan": "pyramid:1"},
]


def forecast(recipe, parts, facts, given, keys):
    *_, last = recipe.draw(parts, facts, given, keys)
    return recipe.decode(parts, last.result, given)


@pytest.mark.parametrize("options", [{}, {"state": "differences"}, {"context": 1}])
@pytest.mark.parametrize("dead", [False, True])
def test_tokens_say_the_whole_window(options, dead):
    table = series()
    if dead:
        table.values[:, 1] = 0.0  # a column that is nothing yet has no size to be measured by
    recipe, parts, _, data = made(table, **options)
    batch = data.held_out[torch.tensor([0, 4])]
    tokens = recipe.clean(parts, batch)
    assert tokens.shape == (2, recipe.tokens, 2)
    given = {"values": batch["values"][:, : recipe.lead]}
    back = recipe.decode(parts, tokens[:, recipe.known :], given)
    torch.testing.assert_close(back, batch["values"][:, recipe.lead :], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("state", ["values", "differences"])
def test_tokens_are_of_unit_size_whatever_the_units(state):
    small = series()
    large = Table(small.values * torch.tensor([1000.0, 0.01]), small.columns)
    (recipe, parts, facts, data), other = made(small, state=state), made(large, state=state)
    rows = torch.arange(len(data.train))
    tokens = recipe.clean(parts, data.train[rows])
    torch.testing.assert_close(tokens.std((0, 1)), torch.ones(2), rtol=0.05, atol=0)
    same = other[0].clean(other[1], other[3].train[rows])
    torch.testing.assert_close(tokens, same, rtol=1e-4, atol=1e-4)
    assert facts["columns"] == ["a", "b"]


@pytest.mark.filterwarnings("ignore:this plan moves")
@pytest.mark.parametrize("options", KINDS)
def test_a_forecast_follows_what_is_known_and_nothing_else(options):
    recipe, parts, facts, data = made(**options)
    given = recipe.asked(data.held_out, torch.tensor([0, 4]), 3)
    assert len(given["values"]) == 6
    keys = Rng(1).fold("sampling")
    one = forecast(recipe, parts, facts, given, keys.samples(6))
    assert one.shape == (6, 4, 2)
    assert not torch.equal(one[0], one[1])  # paths differ
    alone = {name: rows[4:5] for name, rows in given.items()}
    same = forecast(recipe, parts, facts, alone, keys.samples(1, 4))
    torch.testing.assert_close(same[0], one[4], rtol=1e-4, atol=1e-4)
    moved = {**given, "values": given["values"] + torch.tensor([0.0, 1.0])}
    assert not torch.allclose(forecast(recipe, parts, facts, moved, keys.samples(6)), one)


@pytest.mark.parametrize("options", [{}, {"plan": "autoregressive"}])
def test_restarts_are_made_in_rollouts_and_along_plans(options):
    """As many more calls of the network as their rows are, for every token of the future."""

    def calls(**restarts):
        recipe, parts, facts, data = made(**options, **restarts)
        given = recipe.asked(data.held_out, torch.tensor([0]), 3)
        heard = []
        parts.denoiser.register_forward_hook(lambda *_: heard.append(1))
        forecast(recipe, parts, facts, given, Rng(0).samples(3))
        return len(heard)

    assert calls(restarts=((3, 2, 0.5, 2.0),)) == calls() + 4 * 2 * 2


@pytest.mark.parametrize(
    "options", [{"periods": (6.0,)}, {"periods": (6.0,), "state": "differences"}]
)
def test_the_season_is_told_alike_in_training_and_in_forecasts(options):
    recipe, _, _, data = made(**options)
    row = torch.tensor([7])
    told = recipe.told(data.held_out[row], {}, Rng(0))["action"]
    first = data.held_out.first + 7 + recipe.lead - recipe.known
    angle = 2 * math.pi * (first + torch.arange(recipe.tokens)) / 6
    torch.testing.assert_close(told[0, :, 0], angle.sin(), rtol=0, atol=1e-4)
    torch.testing.assert_close(told[0, :, 1], angle.cos(), rtol=0, atol=1e-4)
    asked = recipe.asked(data.held_out, row, 2)["position"]
    again = recipe.told({"position": asked}, {}, Rng(0))["action"]
    torch.testing.assert_close(again[1], told[0])


def test_a_column_that_begins_with_nothing_is_no_measure_for_the_rest():
    values = 1e6 * (1 + 0.01 * Rng(0).normal((400, 2)).double())
    late = values.clone()
    late[:100, 0] = 0
    facts = [made(Table(v, ("a", "b")))[2] for v in (values, late)]
    for name in ("mean", "std"):
        assert math.isclose(facts[0][name][0], facts[1][name][0], rel_tol=0.5)
        assert facts[0][name][1] == facts[1][name][1]


@pytest.mark.parametrize("network", ["causal", "bidirectional"])
def test_a_model_of_full_sequences_sees_what_is_known_at_the_time_of_what_is_made(network):
    recipe, parts, facts, data = made(forcing="full-sequence", network=network, periods=())
    given, keys = recipe.asked(data.held_out, torch.tensor([0]), 2), Rng(1).samples(2)
    seen = []
    parts.denoiser.register_forward_pre_hook(lambda _, args: seen.append(args[:2]))
    one = forecast(recipe, parts, facts, given, keys)
    assert [time.unique().tolist() for _, time in seen] == [[1.0], [0.5]]
    assert all(x.shape[1] == recipe.tokens for x, _ in seen)
    known = parts.codec.tokens(given["values"])
    steps = slide(
        *(parts.denoiser, parts.diffusion, SamplingPlan.uniform(2), known),
        window=7,
        chunk=4,
        stabilisation=0.02,
        rng=keys,
    )
    assert torch.equal(one, recipe.decode(parts, next(steps).x, given))
    held = replace(recipe, plan="full-sequence")  # the known steps at 0.02, which it never saw
    if network == "bidirectional":
        assert not torch.equal(forecast(held, parts, facts, given, keys), one)
    with pytest.raises(ValueError, match="restarts are not for windows that slide"):
        replace(recipe, restarts=((3, 2, 0.5, 2.0),))


@pytest.mark.parametrize("options", [{}, {"network": "bidirectional"}, {"plan": "autoregressive"}])
def test_a_teacher_forced_model_reads_what_is_known_as_it_is(options):
    """And at the time that is asked for, if one is."""
    recipe, parts, facts, data = made(forcing="teacher-forcing", **options)
    given, keys = recipe.asked(data.held_out, torch.tensor([0]), 2), Rng(1).samples(2)

    def made_by(**changes):
        return forecast(replace(recipe, **changes), parts, facts, given, keys)

    assert torch.equal(made_by(), made_by(stabilisation=0.0, rest=0.0))
    assert not torch.equal(made_by(), made_by(stabilisation=0.02))
    usual = {"forcing": "independent"}
    assert torch.equal(made_by(**usual), made_by(**usual, stabilisation=0.02, rest=0.1))
    assert recipe.whole_plan(None).s[..., : recipe.known].max() == 0
    asked = replace(recipe, stabilisation=0.3).whole_plan(None)
    assert asked.s[..., : recipe.known].unique().tolist() == [0.3]


GAPPED = [
    {},
    {"state": "differences"},
    {"network": "bidirectional", "forcing": "full-sequence"},
    {"forcing": "teacher-forcing"},
    {"forcing": "teacher-forcing", "network": "recurrent", "state": "differences"},
    {"self_conditioning": 0.5, "periods": (6.0,), "schedule": "linear"},
]


@pytest.mark.parametrize("options", GAPPED)
def test_what_is_missing_is_not_trained_on_and_nothing_else_changes(options):
    table, at = series(columns=3), [4, 5, 30, 47, 66]
    full = Table(table.values, table.columns)

    def trained(table, **more):
        """Facts, losses, gradients and a forecast."""
        recipe, parts, facts, data = made(table, **options, **more)
        rows, keys = torch.arange(0, len(data.train), 3), Rng(2)
        loss = recipe.loss(parts, facts)(parts.denoiser, data.train[rows], keys, rows)
        loss.sum().backward()
        grads = [p.grad for p in parts.denoiser.parameters() if p.grad is not None]
        given = recipe.asked(data.held_out, torch.tensor([0]), 2)
        drawn = forecast(recipe, parts, facts, given, Rng(1).samples(2))
        return facts, [loss.detach(), *grads, drawn], recipe, parts, data

    # Where nothing is missing all is what it is for those who do not ask, bit for bit.
    facts, plain, *_ = trained(full)
    asked, same, *_ = trained(full, gaps="missing")
    assert asked == facts
    assert all(map(torch.equal, same, plain))

    # One cell of a step is enough; what stands in the others is of no account at all.
    def gapped(value):
        values = full.values.clone()
        values[at, 0] = value
        values[at, 2] = torch.nan
        return Table(with_gaps(values), full.columns)

    facts, one, recipe, parts, data = trained(gapped(1.0), gaps="missing")
    for value in (-1e6, float("inf")):
        asked, other, *_ = trained(gapped(value), gaps="missing")
        assert asked == facts
        assert all(map(torch.equal, other, one))
    assert not torch.equal(one[0], plain[0])

    # Every token of one of these steps, and of differences the next one, is as if there were none.
    batch = data.train[torch.arange(len(data.train))]
    steps = batch["position"][:, None] + torch.arange(recipe.tokens) + recipe.lead - recipe.known
    gone = torch.isin(steps, torch.tensor(at))
    if recipe.state == "differences":
        gone |= torch.isin(steps - 1, torch.tensor(at))
    real = recipe.real(batch)
    assert torch.equal(real, ~gone)
    seen = []
    parts.denoiser.register_forward_pre_hook(
        lambda _, args, told: seen.append((args, told)), with_kwargs=True
    )
    recipe.loss(parts, facts)(parts.denoiser, batch, Rng(2), torch.arange(len(real)))
    (x, t, *_), _ = seen[-1]
    assert (t[gone] == 1).all()
    noise = parts.diffusion.corrupt(torch.zeros_like(x), t, noise_key(batch))
    assert torch.equal(x[gone], noise[gone])
    if recipe.clean_past:
        (past, _, told, *_), _ = seen[0]
        assert torch.equal(told["mask"][:, : recipe.tokens], real)
        assert not past[gone].any()


def noise_key(batch):
    return Rng(2).each("sample", torch.arange(len(batch["position"]))).fold("noise")


def test_tokens_with_nothing_known_to_measure_them_by_are_missing_too():
    table = series()
    table.values[10:14] = torch.nan
    recipe, *_, data = made(table, gaps="missing")
    batch = data.train[torch.tensor([6, 9, 10, 11])]
    assert recipe.real(batch).tolist() == [
        [True, True, True, True, False, False, False],
        [True, False, False, False, False, True, True],
        [False] * 7,
        [False] * 7,
    ]

    table.values[torch.arange(0, 90, 2), 1] = torch.nan
    with pytest.raises(ValueError, match="hardly any step to train on is without gaps"):
        made(Table(with_gaps(table.values)[:90], table.columns), state="differences", windows=1)


def test_forecasts_are_guided_by_what_is_known():
    recipe, parts, facts, data = made()
    given, keys = recipe.asked(data.held_out, torch.tensor([0]), 3), Rng(1).samples(3)
    plain = forecast(recipe, parts, facts, given, keys)
    none = replace(recipe, history_guidance=1.0, history_level=0.4)
    assert torch.equal(forecast(none, parts, facts, given, keys), plain)
    known = parts.codec.tokens(given["values"])
    for scale, level, terms in (
        (1.5, 0.0, vanilla_history(1.5)),
        (2.0, 0.4, fractional_history(2.0, 0.4)),
    ):
        guided = replace(recipe, history_guidance=scale, history_level=level)
        core = HistoryGuided(parts.denoiser, parts.diffusion, terms)
        plan, options = SamplingPlan.uniform(2), {"memory": 6, "stabilisation": 0.02}
        steps = rollout(core, parts.diffusion, plan, known, rng=keys, **options)
        tokens = torch.cat([next(steps).x for _ in range(4)], 1)
        one = forecast(guided, parts, facts, given, keys)
        assert torch.equal(one, recipe.decode(parts, tokens, given))
        assert not torch.equal(one, plain)


@pytest.mark.parametrize("again", [0.0, 0.5])
def test_along_a_plan_the_window_is_guided_by_its_known_tokens(again):
    options = {"network": "bidirectional", "self_conditioning": again}
    recipe, parts, facts, data = made(**options)
    given, keys = recipe.asked(data.held_out, torch.tensor([0]), 3), Rng(1).samples(3)
    guided = replace(recipe, history_guidance=2.0, history_level=0.4)
    core = parts.denoiser.denoiser if again else parts.denoiser
    terms = fractional_history(2.0, 0.4)
    core = HistoryGuided(core, parts.diffusion, terms, history=range(3))
    inside = replace(parts, denoiser=SelfConditioned(core) if again else core)
    one = forecast(guided, parts, facts, given, keys)
    assert torch.equal(one, forecast(recipe, inside, facts, given, keys))
    assert not torch.equal(one, forecast(recipe, parts, facts, given, keys))


def test_a_joint_plan_on_a_causal_network_is_warned_of():
    recipe, parts, facts, data = made(plan="pyramid:1")
    given = recipe.asked(data.held_out, torch.tensor([0]), 1)
    with pytest.warns(UserWarning, match="moves several tokens together") as told:
        noiseloom.final(recipe.draw(parts, facts, given, Rng(0).samples(1)))
    assert len(told) == 1


def test_names_are_text_and_no_mathematics(tmp_path, monkeypatch):
    chart = fan_chart(torch.ones(3), torch.ones(2), torch.ones(4, 2), "x$y_$ & <b>")
    assert "x$y_$ &amp; &lt;b&gt;" in chart


def test_options_that_do_not_fit():
    for options, told in (
        ({"horizon": 0}, "horizon and windows must be at least 1"),
        ({"periods": (0.0,)}, "periods must be at least 2"),
        ({"stabilisation": 1.0}, "stabilisation is a time"),
        ({"gaps": "fill"}, "gaps must be one of refuse, missing"),
        ({"history_guidance": float("nan")}, "history_guidance must be a number, got nan"),
        ({"history_level": 1.0}, r"history_level is a time in \[0, 1\), got 1"),
        ({"history_guidance": 2.0, "history_level": 0.01}, "or above stabilisation 0.02, got 0.01"),
        ({"history_guidance": 2.0, "forcing": "teacher-forcing"}, "train with forcing independent"),
    ):
        with pytest.raises(ValueError, match=told):
            ForcingSeries(**options)
    recipe, parts, facts, data = made()
    given = recipe.asked(data.held_out, torch.tensor([0]), 1)
    wrong = {**given, "values": given["values"][:, 1:]}
    with pytest.raises(ValueError, match="a forecast follows 3 steps of 2 columns"):
        next(recipe.draw(parts, facts, wrong, Rng(0).samples(1)))
    given["values"][0, 1, 0] = torch.nan
    with pytest.raises(ValueError, match="what a forecast follows has gaps: fill them"):
        next(recipe.draw(parts, facts, given, Rng(0).samples(1)))


def write(path, table):
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["date", *table.columns])
        rows.writerows([f"day {i}", *row] for i, row in enumerate(table.values.tolist()))


def test_from_a_file_to_forecasts_in_a_file(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "mine.csv", series())
    words = ["train", "forcing-series", "--data", "mine.csv", "--out", "run", "--steps", "3"]
    words += ["--horizon", "4", "--context", "3", "--windows", "2", "--periods", "[6]"]
    words += ["--samples", "20", "--sampling-steps", "2", "--width", "16", "--depth", "1"]
    train = [*words, "--heads", "2", "--batch-size", "8", "--json"]
    assert main(train) == 0
    result = json.loads(capsys.readouterr().out)
    metrics = result["metrics"]
    for name in ("crps_sum", "crps", "inside_90", "mean_error"):
        assert {name, f"{name}_walk", f"{name}_season", f"{name}_pace"} <= metrics.keys()
    assert metrics["crps_season"] < metrics["crps_walk"]  # a period of 6 steps
    page = (tmp_path / "run" / "report.html").read_text()
    assert page.count("<svg") == 2 + 2 * 3  # plan, loss, and two windows of two columns and the sum
    assert "<th>history repeated</th><th>by season</th><th>a random walk</th>" in page

    assert main(["sample", "run", "-n", "5", "--seed", "2"]) == 0
    said = capsys.readouterr()
    assert "5 paths of 4 steps: run-seed2.csv" in said.out
    lines = said.err.splitlines()  # the plan: what is known is held, then step after step
    assert lines[1:4] == ["   ▒███", "    ███", "    ▒██"]
    with (tmp_path / "run-seed2.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["path"], row["step"]) for row in rows[:5]] == [
        *[("0", str(h)) for h in range(1, 5)],
        ("1", "1"),
    ]
    assert len(rows) == 20
    run = noiseloom.load("run", device="cpu")
    known = series().values[-3:].expand(5, 3, 2)
    drawn = run.samples({"values": known, "position": torch.full((5,), 117)}, seed=2)
    told = torch.tensor([[float(row["a"]), float(row["b"])] for row in rows])
    torch.testing.assert_close(told, drawn.flatten(0, 1).float(), rtol=1e-4, atol=1e-4)

    assert main(["push", "run", "card"]) == 0
    card = (tmp_path / "card" / "README.md").read_text()
    for text in (page.replace("&quot;", '"'), card):
        assert run.recipe.usage in text
    names = {"run": run, "torch": torch}
    exec(run.recipe.usage.replace("DATA", "mine.csv"), names)
    assert names["drawn"].shape == (16, 4, 2)

    # What comes after a longer series is another forecast of the same run.
    write(tmp_path / "longer.csv", series(130))
    assert main(["sample", "run", "-n", "2", "--data", "longer.csv", "--out", "next.csv"]) == 0
    assert main(["evaluate", "run", "--data", "longer.csv"]) == 0
    capsys.readouterr()
    # Without seasons nothing is counted from the first row, and a few rows are enough.
    plain = [word for word in train if word not in ("--periods", "[6]")]
    assert main([*plain[: plain.index("run")], "free", *plain[plain.index("run") + 1 :]]) == 0
    few = Table(series().values[-4:], ("a", "b"))
    write(tmp_path / "few.csv", few)
    assert main(["sample", "free", "-n", "2", "--data", "few.csv", "--out", "few-out.csv"]) == 0
    capsys.readouterr()
    write(tmp_path / "late.csv", Table(series().values[1:], ("a", "b")))
    write(tmp_path / "other.csv", Table(series(columns=3).values, ("a", "b", "c")))
    for words, told_so in (
        (["sample", "run", "--data", "other.csv"], "the run draws series of columns ['a', 'b']"),
        (["sample", "run", "--data", "late.csv"], "do not begin as those of training"),
        (["evaluate", "run", "--data", "late.csv"], "do not begin as those of training"),
        (
            ["train", "forcing-series", "--data", "mine.csv", "--out", "r2", "--periods", "[0.3]"],
            "periods must be at least 2",
        ),
        (
            ["train", "forcing-series", "--data", "mine.csv", "--out", "r2", "--conditional"],
            "forcing-series knows no classes",
        ),
        (["sample", "run", "--label", "1"], "leave --label out"),
        (["sample", "run", "--out", "x.png"], "x.png: forecasts are written as .csv"),
        (["sample", "run", "-n", "5", "--seed", "2"], "replace it with --force"),
        (["evaluate", "run", "--data", "other.csv"], "the run draws series of columns"),
        (["sample", "bits-digits", "--data", "mine.csv"], "leave --data out"),
        (["train", "forcing-series", "--out", "r2"], "forcing-series needs --data FILE.csv"),
        (
            ["train", "forcing-exchange", "--data", "mine.csv", "--out", "r2"],
            "120 steps are too few",
        ),
    ):
        assert main(words) == 2
        assert told_so in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "r2").exists()
    with pytest.raises(ValueError, match="series of columns"):
        replace(run).judge("other.csv", save=False)


def test_a_file_with_gaps_is_trained_on_if_they_are_to_be_missing(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = series()
    holes = Table(table.values.clone(), table.columns)
    holes.values[[9, 40, 41], 0] = torch.nan
    holes.values[70] = torch.nan
    write(tmp_path / "holes.csv", holes)
    train = "train forcing-series --data holes.csv --horizon 4 --context 3 --windows 2 --steps 3"
    train += " --periods [6] --samples 20 --sampling-steps 2 --width 16 --depth 1 --heads 2"
    words = [*train.split(), "--batch-size", "8"]
    assert main([*words, "--out", "run"]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "holes.csv, line 11, column 2: 'nan' is no finite number; fill or remove such" in last
    assert last.endswith("or say --gaps missing, where they are in what is trained on")
    assert main([*words, "--out", "run", "--gaps", "missing", "--json"]) == 0
    said = capsys.readouterr()
    assert "data: 4 of 112 steps to train on have gaps: missing" in said.err.splitlines()
    metrics = json.loads(said.out)["metrics"]
    assert {"crps", "crps_walk", "crps_season"} <= metrics.keys()
    assert main(["sample", "run", "-n", "2", "--out", "next.csv"]) == 0
    guided = ["sample", "run", "-n", "2", "--history-guidance", "2", "--out", "guided.csv"]
    assert main(guided) == 0
    assert main(["evaluate", "run", "--history-guidance", "2", "--history-level", "0.5"]) == 0
    assert (
        tmp_path / "run" / "evaluations" / "history_guidance=2.0,history_level=0.5.json"
    ).is_file()

    # What is forecast, and what that follows, is whole, in training and afterwards.
    late = Table(table.values.clone(), table.columns)
    late.values[109, 1] = torch.nan
    write(tmp_path / "late.csv", late)
    newest = Table(torch.cat((table.values, late.values[107:111])), table.columns)
    write(tmp_path / "newest.csv", newest)
    capsys.readouterr()
    late_words = [word.replace("holes", "late") for word in words]
    for words, told in (
        ([*late_words, "--gaps", "missing", "--out", "r2"], "and step 110 has a gap: fill it, or"),
        (["sample", "run", "--data", "newest.csv", "--out", "x.csv"], "the last 3 rows, and these"),
        (["evaluate", "run", "--data", "newest.csv"], "step 123 has a gap"),
    ):
        assert main(words) == 2
        assert told in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "r2").exists()


@pytest.mark.parametrize("plan", ["auto", "full-sequence"])
@pytest.mark.filterwarnings("default:this plan moves")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_an_interrupted_forecast_has_made_is_kept(tmp_path, capsys, monkeypatch, plan, number):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "mine.csv", series())
    train = "train forcing-series --data mine.csv --horizon 4 --context 3 --windows 2 --steps 2"
    small = "--sampling-steps 2 --width 16 --depth 1 --heads 2 --batch-size 8 --no-evaluate"
    assert main([*train.split(), *small.split(), "--plan", plan, "--out", "run"]) == 0
    assert main(["sample", "run", "-n", "3", "--out", "whole.csv"]) == 0
    draw = ForcingSeries.draw

    def interrupted(*args):
        for i, step in enumerate(draw(*args)):
            if i == 2:
                os.kill(os.getpid(), number)
            yield step
        os.kill(os.getpid(), number)

    monkeypatch.setattr(ForcingSeries, "draw", interrupted)
    capsys.readouterr()
    assert main(["sample", "run", "-n", "3", "--out", "part.csv"]) == 128 + number
    if plan != "auto":  # of two rows of all steps the second had just been made
        assert not (tmp_path / "part.csv").exists()
        return
    assert "3 paths of 2 of 4 steps: part.csv" in capsys.readouterr().err
    whole, part = (
        list(csv.DictReader((tmp_path / f"{name}.csv").read_text().splitlines()))
        for name in ("whole", "part")
    )
    assert part == [row for row in whole if int(row["step"]) <= 2]


@pytest.mark.parametrize("plan", ["auto", "full-sequence"])
@pytest.mark.filterwarnings("ignore:this plan moves")
def test_more_paths_than_a_batch_differ_and_whole_batches_outlive_an_interrupt(
    tmp_path, capsys, monkeypatch, plan
):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "mine.csv", series())
    train = "train forcing-series --data mine.csv --horizon 4 --context 3 --windows 2 --steps 2"
    small = "--sampling-steps 2 --width 16 --depth 1 --heads 2 --batch-size 8 --no-evaluate"
    assert main([*train.split(), *small.split(), "--plan", plan, "--out", "run"]) == 0
    assert main(["sample", "run", "-n", "255", "--out", "all.csv"]) == 0

    def paths(file):
        rows = [line.split(",") for line in (tmp_path / file).read_text().splitlines()[1:]]
        return torch.tensor([[float(cell) for cell in row[2:]] for row in rows]).reshape(-1, 4, 2)

    drawn = paths("all.csv")
    assert len(drawn) == len(drawn.unique(dim=0)) == 255  # no path is another one again
    # A path is what its number says, however many are drawn at a time.
    run = noiseloom.load("run", device="cpu")
    known = {"values": series().values[-3:].expand(255, 3, 2), "position": torch.full((255,), 117)}
    torch.testing.assert_close(drawn, run.samples(known, batch_size=100).float(), rtol=1e-4, atol=0)

    draw, calls = ForcingSeries.draw, []

    def interrupted(*args):
        calls.append(args)
        for step in draw(*args):
            if len(calls) == 2:
                os.kill(os.getpid(), signal.SIGINT)
            yield step

    monkeypatch.setattr(ForcingSeries, "draw", interrupted)
    capsys.readouterr()
    assert main(["sample", "run", "-n", "255", "--out", "part.csv"]) == 128 + signal.SIGINT
    assert "250 paths of 4 of 4 steps: part.csv" in capsys.readouterr().err
    assert torch.equal(paths("part.csv"), drawn[:250])


def test_a_season_is_learnt(tmp_path):
    write(tmp_path / "mine.csv", series(600))
    words = ["train", "forcing-series", "--data", str(tmp_path / "mine.csv")]
    words += ["--out", str(tmp_path / "run"), "--horizon", "6", "--steps", "600"]
    assert main([*words, "--samples", "50", "--sampling-steps", "20"]) == 0
    metrics = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert metrics["crps"] < 0.35 * metrics["crps_walk"]
    assert 0.75 < metrics["inside_90"] < 0.99


def test_what_is_published_of_the_data_cannot_be_guessed_row_by_row():
    table = series()
    assert "first" not in made(table)[2]  # nothing is counted from the first row
    facts = made(table, periods=(6.0,))[2]
    table.values[2, 1] += 1e-9  # the third of three rows
    assert made(table, periods=(6.0,))[2]["first"] != facts["first"]


def test_a_plan_is_of_the_steps_that_are_forecast():
    """Its shape is there, whatever is known before: three steps here, of a window of seven."""
    recipe, known = ForcingSeries(**TINY, plan="trapezoid:1"), range(3)
    plan = recipe.whole_plan(None)
    own, rest = plan.s[:, 0, 3:], 0.1
    assert torch.equal(own, own.flip(1))
    assert own[0].tolist() == [0.5, 1, 1, 0.5]  # which began with the last step alone
    assert own[:-1].max(0).values.tolist() == [0.5, 1, 1, 0.5]
    assert (plan.s[..., known] == 0.02).all()
    assert (plan.s[-2, 0, 3:] == rest).all()
    chunks = replace(recipe, plan="chunked:3").whole_plan(None).s[:, 0, 3:]
    assert (chunks[0] < 1).tolist() == [True, True, True, False]  # not the 3 of a chunk of the past


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"network": "bidirectional"},
        {"plan": "autoregressive"},
        {"plan": "full-sequence"},
        {"plan": "pyramid:1"},
        {"plan": "autoregressive", "td": 1.0},
        {"plan": "autoregressive", "rest": 0.0},
        {"plan": "full-sequence", "restarts": ((3, 2, 0.5, 2.0),), "sampling_steps": 8},
        {"restarts": ((3, 2, 0.5, 2.0),), "sampling_steps": 8},
    ],
)
def test_plans_without_a_middle_are_those_of_the_whole_window_bit_for_bit(options):
    """So no figure of the default plans has changed."""
    recipe = ForcingSeries(**{**TINY, **options})
    schedule = SCHEDULES[recipe.schedule]
    own = replace(recipe, rest=recipe.read_at) if recipe.rolls else recipe
    before, now = own.make_plan(schedule), recipe.whole_plan(schedule)
    before = before.hold(range(recipe.known), recipe.read_at)
    assert torch.equal(now.t, before.t)
    assert torch.equal(now.s, before.s)


def test_a_file_is_a_plan_of_the_forecast_or_of_the_window(tmp_path):
    recipe, file = ForcingSeries(**TINY), tmp_path / "plan.csv"
    for rows in ("2,2,2,2\n0,1,2,2\n0,0,0,0\n", "2,2,2,2,2,2,2\n2,1,0,0,1,2,2\n0,0,0,0,0,0,0\n"):
        file.write_text(rows)
        plan = replace(recipe, plan=str(file)).whole_plan(None)
        assert plan.s[:, 0, 3:].tolist() == [[0, 0.5, 1, 1], [0, 0, 0, 0]]
        assert (plan.s[..., :3] == 0.02).all()
        resting = replace(recipe, plan=str(file), rest=0.1).whole_plan(None)
        assert resting.s[:, 0, 3:].tolist() == [[0.1, 0.5, 1, 1], [0.1] * 4, [0] * 4]
    file.write_text("2,2,2\n0,0,0\n")
    with pytest.raises(ValueError, match="than of 4 tokens that are drawn, or of all 7: Sampling"):
        replace(recipe, plan=str(file)).whole_plan(None)


@pytest.mark.parametrize(
    ("options", "idle"),
    [
        ({}, {"rest", "history_level"}),
        ({"forcing": "full-sequence"}, {"rest", "history_level"}),
        ({"plan": "autoregressive"}, {"history_level"}),
        ({"network": "bidirectional", "history_guidance": 2.0}, set()),
    ],
)
def test_what_changes_nothing_of_a_forecast_is_known(options, idle):
    recipe, parts, facts, data = made(**options)
    assert set(recipe.idle) == idle
    given = recipe.asked(data.held_out, torch.arange(2), 2)

    def drawn(**changes):
        *_, last = replace(recipe, **changes).draw(parts, facts, given, Rng(1).samples(4))
        return last.result

    for name, value in (("rest", 0.05), ("history_level", 0.3)):
        assert torch.equal(drawn(**{name: value}), drawn()) == (name in idle)


@pytest.mark.parametrize("trained", [[], ["--rest", "0.2"]])
def test_a_plan_from_a_file_is_run_as_it_is_written(tmp_path, capsys, monkeypatch, trained):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "mine.csv", series())
    train = "train forcing-series --data mine.csv --horizon 4 --context 3 --windows 2 --steps 2"
    small = "--sampling-steps 2 --width 16 --depth 1 --heads 2 --batch-size 8 --no-evaluate"
    assert main([*train.split(), *small.split(), *trained, "--out", "run"]) == 0
    (tmp_path / "plan.csv").write_text("1,1,1,1\n0,1,1,1\n0,0,1,1\n0,0,0,1\n0,0,0,0\n")
    words = ["sample", "run", "-n", "2", "--force", "--out", "out.csv"]
    for more, told in (([], "of 4 rows"), (["--rest", "0.1"], "of 5 rows")):
        capsys.readouterr()
        assert main([*words, "--plan", "plan.csv", *more]) == 0
        assert f"SamplingPlan {told}" in capsys.readouterr().err
    # Other plans rest as they did: 2 rows of each of 4 steps, and a last one.
    if not trained:  # that of 0.2 is warned of
        assert main([*words, "--plan", "autoregressive"]) == 0
        assert "SamplingPlan of 9 rows" in capsys.readouterr().err
    run = noiseloom.load("run", device="cpu")
    assert run.with_options(plan="plan.csv").recipe.resting == 0
    assert run.with_options(plan="plan.csv", rest=0.1).recipe.resting == 0.1
    # What the file put aside is the run's again with another plan, unless a rest is asked for.
    filed, usual = run.with_options(plan="plan.csv"), run.recipe.rest
    assert filed.with_options(sampling_steps=3).recipe.resting == 0
    assert filed.with_options(plan="./plan.csv").recipe.resting == 0
    for one in (filed, filed.with_options(sampling_steps=3), filed.with_options(plan="./plan.csv")):
        assert one.with_options(plan="autoregressive").recipe.rest == usual
        assert one.with_options(plan="autoregressive", rest=0.3).recipe.rest == 0.3
        assert one.with_options(rest=0.3).recipe.resting == 0.3
        own = one.with_options(rest=0.3).with_options(plan="autoregressive")
        assert own.recipe.rest == 0.3
