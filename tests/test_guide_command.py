"""Guides beside each other: calibration by an exact guide, choices among configurations, tables."""

import csv
import json
import math
import random
import warnings

import pytest
import torch
from guided import GUIDE, train_run, write_files

import noiseloom.guide_trainings
from noiseloom import Rng
from noiseloom.calibrate import LEVELS, RELIABILITY, calibrate, summary
from noiseloom.cli import main
from noiseloom.context import GuideOutput
from noiseloom.data import Tokens
from noiseloom.guide_folder import read_guide
from noiseloom.guide_selection import GRIDS, configurations, criterion, grid_of
from noiseloom.metrics.rows import mean_and_error
from noiseloom.recipes import Sequences
from noiseloom.run import Run

# Calibration, of a guide that knows.

K, T, NOISE = 4, 6, 0.5
WEIGHTS = torch.tensor([1.0, -1.0, 0.5, 2.0])


class Exact:
    """E and Var of y = sum of the tokens' weights + noise, of even tokens under masks."""

    def predict(self, x, t, cond=None):
        hidden = x == K
        known = torch.where(hidden, 0.0, WEIGHTS[x.clamp(max=K - 1)]).sum(1, keepdim=True)
        count = hidden.sum(1, keepdim=True)
        mean = known + count * WEIGHTS.mean()
        variance = count * WEIGHTS.var(correction=0) + NOISE**2
        return GuideOutput(mean, variance, mean)


@pytest.fixture
def exact(tmp_path):
    """A run of even tokens, and labels of 2,000 of them."""
    recipe = Sequences(width=8, depth=1, heads=2)
    words = {"kind": "symbols", "symbols": list("ACG"), "length": T, "spelling": "characters"}
    facts = {"length": T, "sizes": [K] * T, "frequencies": [[1 / K] * K], "vocabulary": words}
    with Rng(0).torch():
        parts = recipe.build(facts)
    rows = Rng(1).integers(K, (2000, T))
    labels = WEIGHTS[rows].sum(1, keepdim=True) + NOISE * Rng(2).normal((2000, 1))
    return Run(tmp_path, recipe, facts, parts), Tokens(rows, (K,) * T), labels


def test_an_exact_guide_is_calibrated_at_every_level(exact):
    run, rows, labels = exact
    spread = float(labels.std(correction=0))
    found = calibrate(run, Exact(), {"held_out": (rows, labels)}, ("y",), (spread,))
    told = found["sets"]["held_out"]["properties"]["y"]
    assert found["levels"] == pytest.approx([i / (LEVELS - 1) for i in range(LEVELS)])
    assert found["sets"]["held_out"]["n"] == 2000
    # At time 0 y is Gaussian with the noise's deviation, at 1 what all labels are.
    for level, variance in ((0, NOISE**2), (-1, NOISE**2 + T * float(WEIGHTS.var(correction=0)))):
        square = told["rmse"][level] ** 2
        assert square == pytest.approx(variance, rel=5 * (2 / 2000) ** 0.5)
        right = 0.5 * math.log(2 * math.pi * math.e * variance / spread**2)
        assert told["nll"][level] == pytest.approx(right, abs=5 * told["nll_se"][level])
        assert told["deviation"][level] == pytest.approx(variance**0.5, rel=1e-5)
    error = torch.tensor([(p * (1 - p) / 2000) ** 0.5 for p in RELIABILITY])
    shares = torch.tensor(told["reliability"])
    assert ((shares[0] - torch.tensor(RELIABILITY)).abs() < 4 * error).all()
    assert told["spearman"][0] > 0.95
    assert told["spearman"][-1] == 0  # the same is said of all
    # Less and less is known.
    assert told["nll"] == sorted(told["nll"])
    for p in (50, 80, 90, 95):
        assert told[f"inside_{p}"][0] == pytest.approx(told["reliability"][0][p // 5 - 1])


def test_a_guide_that_is_too_sure_covers_too_little_and_context_has_no_labels(exact):
    run, rows, labels = exact

    class Sure(Exact):
        def predict(self, *given):
            said = super().predict(*given)
            return said._replace(variance=said.variance / 4)

    sets = {"held_out": (rows, labels), "context": (rows, None)}
    found = calibrate(run, Sure(), sets, ("y",), (2.0,), noisiest=0.5)
    assert found["levels"][-1] == 0.5
    told = found["sets"]["held_out"]["properties"]["y"]
    narrow = float(torch.erf(torch.erfinv(torch.tensor(0.9)) / 2))
    error = (narrow * (1 - narrow) / 2000) ** 0.5
    assert told["inside_90"][0] == pytest.approx(narrow, abs=4 * error)
    context = found["sets"]["context"]["properties"]["y"]
    assert set(context) == {"mean", "spread", "deviation"}
    assert context["mean"] == told["mean"]
    short = summary(found, (1.0,), (2.0,))
    right = sum((m - 1.0) / 2.0 for m in context["mean"]) / LEVELS
    assert short["mean_context"] == pytest.approx(right)
    assert short["rmse"] == pytest.approx(sum(told["rmse"]) / LEVELS / 2.0)
    assert short["nll"] == pytest.approx(sum(told["nll"]) / LEVELS)


def test_what_is_said_is_told_by_its_mean_its_spread_and_the_root_of_its_mean_variance(exact):
    run, rows, _ = exact

    class Skewed:
        def predict(self, x, t, cond=None):
            mean = (x == 0).sum(1, keepdim=True).double().exp()  # of which the median is e
            return GuideOutput(mean, 1 + mean.square(), mean)

    found = calibrate(run, Skewed(), {"context": (rows, None)}, ("y",), (1.0,))
    told = found["sets"]["context"]["properties"]["y"]
    said = (rows[torch.arange(2000)]["tokens"] == 0).sum(1).double().exp()
    assert told["mean"][0] == pytest.approx(float(said.mean()))
    assert told["spread"][0] == pytest.approx(float(said.var(correction=0).sqrt()))
    assert told["deviation"][0] == pytest.approx(float((1 + said.square()).mean().sqrt()))
    assert [told[key][-1] for key in ("mean", "spread", "deviation")] == pytest.approx(
        [1, 0, 2**0.5]
    )  # all are masks
    right = sum(told["deviation"]) / LEVELS / 4.0
    assert summary(found, (0.0,), (4.0,))["deviation_context"] == pytest.approx(right)


# Grids.


def test_grids_have_the_published_sizes_and_decays_that_act():
    sizes = {method: len(grid_of(method)) for method in GRIDS}
    assert sizes["context"] == 48
    assert sizes["weight-decay"] == sizes["ensemble"] == sizes["pretrained"] == 9
    assert sizes["parameter-prior"] == 9
    assert sizes["none"] == 1
    # Where nothing else moves a weight 2,000 updates of AdamW at rate 1e-3 leave e^-decay of it.
    left = [math.exp(-decay) for decay in GRIDS["weight-decay"]["decay"]]
    assert left == sorted(left, reverse=True)
    assert 0.98 < left[0] < 0.995
    assert left[-1] < 1e-40
    for method in GRIDS:
        some = configurations(method, 3).drawn
        assert len(some) == (3 if GRIDS[method] else 1)
        assert all(cell in grid_of(method) for cell in some)
        assert len({str(cell) for cell in some}) == len(some)
        assert some == configurations(method, 3).drawn
    for count in (6, 9):  # a few of many have every value of every axis, as evenly as can be
        some = configurations("context", count).drawn
        for axis, values in GRIDS["context"].items():
            often = [sum(cell[axis] == value for cell in some) for value in values]
            assert max(often) - min(often) <= 1, axis
    assert criterion({"nll": math.nan}, "in-domain") == math.inf
    with pytest.raises(ValueError, match=r"1 to 9 for coral \(the smallest grid has 9\), got 10"):
        configurations("coral", 10)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp("files"))


def test_a_choice_is_made_by_the_labels_that_were_named_and_trained_again(
    files, tmp_path, capsys, monkeypatch
):
    folder = train_run(files, tmp_path / "run", "masked", "--steps", "5")
    out = tmp_path / "chosen"
    words = ["guide", str(folder), "--labels", str(files / "labels.csv"), "--columns", "a"]
    words += ["--context", str(files / "context.fasta"), "--shifted", str(files / "shifted.csv")]
    words += ["--method", "none,context,weight-decay", "--configurations", "2", "--seeds", "2"]
    words += ["--select", "shifted", "--out", str(out), *GUIDE, "--steps", "25", "--json"]
    capsys.readouterr()
    assert main(words) == 0
    told = capsys.readouterr()
    result = json.loads(told.out)
    assert "grid of context: 2 of 48 (sigma 0.01, 0.1, 1.0, 10.0; tau" in told.err
    kept = json.loads((out / "selection.json").read_text())
    assert kept["select"] == "shifted"
    for method, count in (("none", 1), ("context", 2), ("weight-decay", 2)):
        tried = kept["grids"][method]["tried"]
        assert len(tried) == count
        assert kept["grids"][method]["steps"] == 25
        best = min(tried, key=lambda trial: trial["nll_shifted"])
        assert kept["chosen"][method] == {"options": best["options"], "nll": best["nll_shifted"]}
        for seed in range(2):
            record = read_guide(out / f"{method}-{seed}")
            assert record.finished
            assert record.options.seed == seed
            assert {n: getattr(record.options, n) for n in best["options"]} == best["options"]
            assert result["guides"][method][seed]["nll"] == record.summary["nll"]
        seeds = {read_guide(path).options.seed for path in (out / "selection" / method).iterdir()}
        assert seeds == {1000}
    assert json.loads((out / "table.json").read_text())["guides"] == result["guides"]
    # What is there is not made again.
    monkeypatch.setattr("noiseloom.fit_guide.train_guide", None)
    assert main([word for word in words if word != "--json"]) == 0
    table = capsys.readouterr().out
    assert "nats, shifted, chosen by" in table
    assert "nats, chosen by" not in table
    assert "options were chosen by nats of the shifted labels" in table
    assert result["select"] == "shifted"
    assert "weight-decay" in table
    assert "±" in table
    words[words.index("--seeds") + 1] = "1"
    for name in ("sigma", "context-size", "reference", "decay"):
        assert main([*words, f"--{name}", "1"]) == 2
        assert f"--{name} is chosen by --configurations" in capsys.readouterr().err


def test_a_configuration_that_fails_is_not_the_end_of_the_others(
    files, tmp_path, capsys, monkeypatch
):
    folder = train_run(files, tmp_path / "run", "masked", "--steps", "5")
    inner, calls = noiseloom.guide_trainings.fit_guide, []

    def first_fails(*given, **more):
        calls.append(given[1].decay)
        if len(calls) == 1:
            raise ValueError("the loss is nan at step 3")
        return inner(*given, **more)

    monkeypatch.setattr("noiseloom.guide_trainings.fit_guide", first_fails)
    out = tmp_path / "chosen"
    words = ["guide", str(folder), "--labels", str(files / "labels.csv"), "--columns", "a"]
    words += ["--method", "weight-decay", "--configurations", "2", "--out", str(out), *GUIDE]
    assert main([*words, "--steps", "5"]) == 0
    assert "failed: the loss is nan at step 3" in capsys.readouterr().err
    kept = json.loads((out / "selection.json").read_text())
    assert kept["grids"]["weight-decay"]["tried"][0]["failed"]
    assert kept["chosen"]["weight-decay"]["options"]["decay"] == calls[1]
    assert read_guide(out / "weight-decay-0").options.decay == calls[1]


# Tables.


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Rows of words, whole and real numbers; the label knows two of the columns."""
    folder, draw = tmp_path_factory.mktemp("table"), random.Random(0)
    rows = [
        (draw.randint(0, 4), draw.choice(["red", "green, dark", ""]), f"{draw.gauss(0, 1):.3f}")
        for _ in range(500)
    ]
    with open(folder / "table.csv", "w", newline="") as file:
        csv.writer(file).writerows([("age", "colour", "gain"), *rows])
    labels = [(*row, row[0] + 2 * (row[1] == "red"), row[0]) for row in rows[:300]]
    with open(folder / "labels.csv", "w", newline="") as file:
        csv.writer(file).writerows([("age", "colour", "gain", "worth", "other"), *labels])
    return folder


@pytest.mark.parametrize("state", ["masked", "bits"])
def test_rows_of_a_table_are_guided_by_a_label_column(table, tmp_path, state, capsys):
    run, out = tmp_path / "run", tmp_path / "hits.csv"
    words = ["--data", str(table / "table.csv"), "--out", str(run), "--state", state, "--bins", "4"]
    words += ["--width", "32", "--depth", "1", "--heads", "2", "--steps", "150", "--no-evaluate"]
    assert main(["train", "table", *words, "--learning-rate", "4e-3"]) == 0
    words = ["guide", str(run), "--labels", str(table / "labels.csv"), "--columns", "worth"]
    words += ["--method", "context", "--context", str(table / "table.csv"), *GUIDE]
    words += ["--weight", "0.05"]
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert main(words) == 0
    assert "warning: 60 of 60 structures of " in capsys.readouterr().err
    guide = run / "guides" / "context-0"

    def worth(scale):
        options = ["--target", "maximise", "--scale", str(scale), "-n", "150", "--force"]
        sample = ["sample", str(run), "--guide", str(guide), "--out", str(out), *options]
        assert main(sample) == 0
        with open(out, newline="") as file:
            rows = list(csv.DictReader(file))
        values = [int(row["age"]) + 2 * (row["colour"] == "red") for row in rows]
        times = torch.tensor([int(row["times"]) for row in rows])
        return torch.tensor(values).double().repeat_interleave(times), rows

    (free, _), (led, rows) = worth(0), worth(4)
    (a, da), (b, db) = mean_and_error(free), mean_and_error(led)
    assert b - a > 5 * (da * da + db * db) ** 0.5
    assert list(rows[0]) == [
        *("age", "colour", "gain", "prediction_worth", "deviation_worth"),
        *("distance", "new", "times"),
    ]
    known = {row["distance"] for row in rows}
    assert known <= {"0", "1", "2", "3"}
    for row in rows:
        assert row["new"] == "no" or int(row["distance"]) > 0
    if state == "masked":
        hidden = run / "guides" / "hidden"
        words += ["--reads", "denoiser", "--out", str(hidden)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert main(words) == 0
        words = ["sample", str(run), "--guide", str(hidden), "--target", "2", "--way", "hidden"]
        assert main([*words, "-n", "5", "--out", str(out), "--force"]) == 0
    capsys.readouterr()


def test_tables_that_are_wrong_get_one_line(table, tmp_path, capsys):
    run = tmp_path / "run"
    words = ["--data", str(table / "table.csv"), "--out", str(run), "--bins", "4", "--steps", "2"]
    words += ["--width", "8", "--depth", "1", "--heads", "2", "--no-evaluate"]
    assert main(["train", "table", *words]) == 0
    for text, told in (
        (
            "age,colour,gain,y\n1,red,0.5,1\n2,blue,1,2\n",
            "line 3, column 'colour': there is no class for 'blue'",
        ),
        ("age,colour,gain,y\n1,red,0.5,1\n2,red,x,2\n", "line 3, column 'gain': 'x' is no finite"),
        ("age,gain,y\n1,0.5,1\n", "has no column 'colour'; it has age, gain, y"),
        ("age,colour,gain\n1,red,0.5\n", "no column of numbers: say which are labels"),
    ):
        (tmp_path / "labels.csv").write_text(text)
        words = ["guide", str(run), "--labels", str(tmp_path / "labels.csv"), "--method", "none"]
        assert main(words) == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert "labels.csv" in line
        assert told in line, line
