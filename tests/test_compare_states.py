"""Which kind of state suits data: the whole comparison, stopped, and gone on with."""

import json
import re
import shlex
import time

import pytest
import torch
from PIL import Image
from torch import nn

import noiseloom
import noiseloom.budget
import noiseloom.compare
import noiseloom.fit
import noiseloom.judged_cells
from noiseloom.arguments import UsageError, state_axis
from noiseloom.cli import main
from noiseloom.glossary import MEANINGS
from noiseloom.recipes import RECIPES, Tables, palette
from noiseloom.rng import Rng
from noiseloom.table import COSTS, METRICS, Cell, chosen, default_metrics, rows
from noiseloom.tally import Tally
from noiseloom.training.memory import forget_peak
from noiseloom.training.precision import networks

STATES = "masked,uniform,bits,embedding,autoregressive"
TINY = shlex.split(
    "--length 8 --width 16 --depth 1 --heads 2 --batch-size 8 --warmup 2 --samples 24 "
    "--judged 16 --levels 2 --sampling-steps 4 --checkpoint-every 5 --seeds 1"
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("the cat sat on the mat and the dog sat on the log; " * 40)
    return path


@pytest.fixture
def measured(monkeypatch):
    """The runs that were timed, a list each time."""
    asked, original = [], noiseloom.budget._measured

    def spy(recipes, data, jobs, file):
        asked.append([recipe.state for recipe in recipes.values()])
        return original(recipes, data, jobs, file)

    monkeypatch.setattr(noiseloom.budget, "_measured", spy)
    return asked


def test_five_states_at_equal_cost_stopped_and_gone_on_with(
    capsys, tmp_path, monkeypatch, text, measured
) -> None:
    out = tmp_path / "states"
    words = ["compare", "--data", str(text), "--state", STATES, *TINY]
    words += ["--budget", "0.5", "--out", str(out)]

    # Ctrl-C in the middle of the third training.
    show, begun = noiseloom.fit.training.show, []

    def stopped(updates):
        begun.append(1)
        for progress in show(updates):
            yield progress
            if len(begun) == 3 and progress.step >= progress.steps // 2:
                raise KeyboardInterrupt

    monkeypatch.setattr(noiseloom.fit.training, "show", stopped)
    assert main(words) == 130
    told = capsys.readouterr().err
    assert "mine.txt: recipe text" in told
    assert "timing 5 runs in turn: 5 or more updates of each to warm up, then the median of" in told
    assert "go on with: noiseloom compare --data" in told
    assert not (out / "table.json").exists()
    kept = (out / "budget.json").read_bytes()
    steps = [cell["steps"] for cell in json.loads(kept)["cells"].values()]
    assert len(steps) == 5
    for count, state in zip(steps, STATES.split(","), strict=True):
        assert f"state={state}: " in told
        assert f" {count:,} updates in 0.5 s (measured now)" in told

    # It goes on where it was, by the numbers that it was begun with.
    monkeypatch.setattr(noiseloom.fit.training, "show", show)
    assert main(words) == 0
    shown = capsys.readouterr()
    assert measured == [STATES.split(",")]
    assert (out / "budget.json").read_bytes() == kept
    assert "going on after step" in shown.err
    table = json.loads((out / "table.json").read_text())
    assert table["budget"] == 0.5
    assert table["skipped"] == []
    cells = table["cells"]
    assert [cell["options"]["state"] for cell in cells] == STATES.split(",")
    assert [cell["recipe"]["steps"] for cell in cells] == steps
    assert [cell["mean"]["steps"] for cell in cells] == steps
    for cell in cells:
        made = cell["mean"]
        calls = 8 if cell["options"]["state"] == "autoregressive" else 4
        # Rows of masks in which nothing was unmasked do not ask the network again.
        assert 0 < made["network_evaluations"] <= calls
        assert made["network_evaluations"] == calls or cell["options"]["state"] == "masked"
        assert min(made[k] for k in ("parameters", "samples_per_second", "train_seconds")) > 0
        assert made["bits_per_token_se"] > 0
    lines = (out / "table.md").read_text().splitlines()
    # Which has a pace where the budget paid for enough updates, and memory where Linux tells it.
    head = lines[0].replace(" updates_per_second ↑ |", "").replace(" peak_gigabytes ↓ |", "")
    assert head == (
        "| state | bits_per_token ↓ | bits ≈ | bits_reverse ↓ | distinct_3 ≈ | words ↑ | "
        "samples_per_second ↑ | network_evaluations | steps | parameters | train_seconds ↓ | "
        "seeds |"
    )
    assert [line.split(" | ")[0] for line in lines[2:9]] == [
        *(f"| {state}" for state in STATES.split(",")),
        "| held-out real",
        "| real, noised",
    ]
    assert "0.5 s of training a run: " in (out / "table.md").read_text()
    assert (out / "table.md").read_text().count("is of two calls at a level") == 1
    # The networks of these few features differ by their tables and clocks.
    assert "warning: parameters differ by " in shown.err

    # Again nothing is left to do; sampling options share run and timing, and states are added.
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cells"] == cells
    words[words.index(STATES)] = "masked,onehot"
    assert main([*words, "--grid", "sampling_steps=2,4", "--json"]) == 0
    shown = capsys.readouterr()
    assert measured[1:] == [["onehot"]]
    assert "timing 1 run in turn" in shown.err
    more = json.loads(shown.out)["cells"]
    assert [cell["mean"]["steps"] for cell in more[:2]] == [steps[0]] * 2
    assert more[2]["mean"]["steps"] == more[3]["mean"]["steps"]
    assert len(json.loads((out / "budget.json").read_text())["cells"]) == 6


def test_a_budget_that_hardly_pays_for_the_warm_up_says_so(capsys, tmp_path, text) -> None:
    words = ["compare", "--data", str(text), *TINY, "--warmup", "10000", "--budget", "0.2"]
    assert main([*words, "--state", "masked,uniform", "--out", str(tmp_path / "grid")]) == 0
    shown, out = capsys.readouterr(), tmp_path / "grid"
    cells = json.loads((out / "table.json").read_text())["cells"]
    named = ", ".join(f"state={c['options']['state']} ({c['recipe']['steps']:,})" for c in cells)
    note = f"few updates for a learning rate that rises over 10,000 of them: {named}; a larger"
    assert note in shown.err
    assert note in (out / "table.md").read_text()
    assert "0.00667 minutes of training in all, and what judging its runs takes" in shown.err


def test_what_a_table_leaves_open_is_said_on_the_terminal_as_in_its_file(
    capsys, tmp_path, text
) -> None:
    words = ["compare", "--data", str(text), *TINY, "--steps", "3", "--state", "masked,bits"]
    assert main([*words, "--out", str(tmp_path / "a")]) == 0
    assert "two calls" in capsys.readouterr().out
    assert main([*words, "--td", "1", "--out", str(tmp_path / "b")]) == 0
    told = "samples with --td 1 are no draws of the model: they have no bits_per_token"
    assert told in capsys.readouterr().out
    lines = (tmp_path / "b" / "table.md").read_text()
    assert told in lines
    meaning = MEANINGS["distinct"]
    assert f"- distinct_3: {meaning[0]}, {meaning[2]} 3\n" in lines


def test_a_state_whose_prior_cannot_be_made_is_left_out_and_the_others_are_not(
    capsys, tmp_path, text
) -> None:
    words = ["compare", "--data", str(text), *TINY, "--state", "masked,latent", "--budget", "0.1"]
    words += ["--prior", "tabular", "--m", "8", "--k", "64", "--out", str(tmp_path / "grid")]
    assert main([*words, "--json"]) == 0
    shown = capsys.readouterr()
    assert "skipped state=latent: a table of 1 x 64^8 entries is above" in shown.err
    assert "warning: parameters" not in shown.err
    assert [cell["options"]["state"] for cell in json.loads(shown.out)["cells"]] == ["masked"]


def test_a_comparison_that_was_begun_with_what_changes_nothing_goes_on(
    capsys, tmp_path, text, monkeypatch
) -> None:
    words = ["compare", "--data", str(text), *TINY, "--state", "masked,uniform", "--steps", "3"]
    words += ["--code", "gray", "--out", str(tmp_path / "grid")]
    assert main(words) == 2
    assert "code changes nothing of" in capsys.readouterr().err
    with monkeypatch.context() as patched:  # as an earlier version did
        patched.setattr(noiseloom.compare, "passed_over", lambda *_: "")
        assert main(words) == 0
    monkeypatch.setattr(noiseloom.judged_cells, "fit", None)  # nothing is trained
    assert main(words) == 0
    assert "passed over where they change nothing: code" in capsys.readouterr().err


def test_states_get_a_width_of_equal_parameters_unless_one_is_named(capsys, tmp_path, text) -> None:
    words = ["compare", "--data", str(text), *TINY, "--prior-steps", "2", "--width", "64"]
    words += ["--budget", "0.3", "--json", "--out"]
    assert main([*words, str(tmp_path / "grid"), "--state", "masked,latent"]) == 0
    shown = capsys.readouterr()
    told = re.search(r"latent: width (\d+) for 64, for about as many parameters", shown.err)
    masked, latent = json.loads(shown.out)["cells"]
    assert told
    assert latent["recipe"]["width"] == int(told[1]) < 64
    assert told[0] in (tmp_path / "grid" / "table.md").read_text()
    # A prior is among these, has a column, and is in the warning where a difference is left.
    table = (tmp_path / "grid" / "table.md").read_text()
    assert "| parameters | prior_parameters |" in table
    sums = [
        cell["mean"]["parameters"] + cell["mean"].get("prior_parameters", 0)
        for cell in (masked, latent)
    ]
    assert sums[1] == pytest.approx(sums[0], rel=0.1)
    assert latent["mean"]["prior_parameters"] <= sums[0] / 4
    few, many = sorted(zip(sums, ("masked", "latent"), strict=True))
    told = f"warning: parameters with those of priors differ by {many[0] / few[0] - 1:.1%}: "
    told += f"{few[0]:,.0f} of state={few[1]}, {many[0]:,.0f} of state={many[1]}"
    assert (told in table) is (told in shown.err) is (many[0] > 1.05 * few[0])
    before = shown.err.partition("timing")[0]
    assert before.count(told) == shown.err.count(told)  # before anything is timed, and once
    named = ["--cells", "state=masked", "state=latent width=64"]
    assert main([*words, str(tmp_path / "own"), *named]) == 0
    shown = capsys.readouterr()
    assert "for about as many" not in shown.err
    assert json.loads(shown.out)["cells"][1]["recipe"]["width"] == 64


def test_data_that_have_changed_are_told_of_once_before_anything_is_timed(
    capsys, tmp_path, text, measured
) -> None:
    words = ["compare", "--data", str(text), *TINY, "--budget", "0.1", "--out"]
    assert main([*words, str(tmp_path / "grid"), "--state", "masked,uniform"]) == 0
    text.write_text(text.read_text() + "and so on; ")
    capsys.readouterr()
    assert main([*words, str(tmp_path / "grid"), "--state", "masked,uniform,bits"]) == 2
    told = capsys.readouterr().err
    assert told.count("was trained on other data: choose another --out") == 1
    assert "skipped" not in told
    assert measured == [["masked", "uniform"]]
    assert main([*words, str(tmp_path / "twice"), "--state", "masked,masked"]) == 2
    assert "masked is given twice: state=masked,masked" in capsys.readouterr().err


@pytest.mark.parametrize("states", ["masked,uniform", "uniform", "uniform,bits", "bits"])
def test_what_was_timed_on_other_data_is_no_measure(
    capsys, monkeypatch, tmp_path, text, measured, states
) -> None:
    """Stopped after the timing, a comparison has no runs that would tell."""

    def stop(*args):
        raise KeyboardInterrupt

    words = ["compare", "--data", str(text), *TINY, "--budget", "0.1"]
    words += ["--out", str(tmp_path / "grid"), "--state"]
    with monkeypatch.context() as patched:
        patched.setattr(noiseloom.compare, "judge_all", stop)
        assert main([*words, "masked,uniform"]) == 130
    text.write_text(text.read_text() * 20)
    capsys.readouterr()
    assert main([*words, states]) == 2
    told = capsys.readouterr().err
    assert "budget.json was measured on other data: choose another --out" in told.splitlines()[-1]
    assert "an update" not in told
    assert measured == [["masked", "uniform"]]


def test_a_cell_that_cannot_be_timed_is_left_out(capsys, tmp_path, text) -> None:
    words = ["compare", "--data", str(text), "--grid", "width=16,15", *TINY, "--state", "bits"]
    assert main([*words, "--budget", "0.2", "--out", str(tmp_path / "grid"), "--json"]) == 0
    shown = capsys.readouterr()
    assert "skipped width=15: " in shown.err
    assert [c["options"] for c in json.loads(shown.out)["cells"]] == [{"width": "16"}]


@pytest.mark.parametrize("kind", ["table", "sequences"])
def test_tables_and_sequences_show_metrics_of_their_own(capsys, tmp_path, kind) -> None:
    if kind == "table":
        path = tmp_path / "people.csv"
        path.write_text("age,city\n" + "".join(f"{i % 4},{'ab'[i % 2]}\n" for i in range(80)))
        shown = ["bits_per_token ↓", "marginal ↓", "pair ↓", "dependence ↓", "classifier ≈"]
        shown += ["invalid ↓", "closest ≈", "copies ≈"]
    else:
        pytest.importorskip("rdkit")
        path = tmp_path / "molecules.csv"
        path.write_text("smiles\n" + "".join(f"{'C' * (i % 9 + 1)}O\n" for i in range(80)))
        shown = ["bits_per_token ↓", "bits_per_row ↓", "valid ↑", "unique ↑", "novel ≈"]
        shown += ["length ↓", "kmer_1 ↓", "kmer_3 ↓"]
    options = " ".join(TINY).replace("--length 8 ", "").split()
    words = ["compare", "--data", str(path), "--state", "masked", *options, "--steps", "3"]
    words += ["--held-out", "0.4", "--out", str(tmp_path / "grid")]
    assert main(words) == 0
    head = (tmp_path / "grid" / "table.md").read_text().splitlines()[0]
    costs = ["samples_per_second ↑", "network_evaluations", "parameters", "train_seconds ↓"]
    costs += ["peak_gigabytes ↓"] * forget_peak()
    assert head == f"| {' | '.join(['state', *shown, *costs, 'seeds'])} |"
    assert f"recipe {kind}" in capsys.readouterr().err
    # The same figures, alone and on a page.
    (run,) = (tmp_path / "grid" / "runs").iterdir()
    assert main(["evaluate", str(run)]) == 0
    assert "bits_per_token ↓" in capsys.readouterr().out
    assert main(["report", str(run)]) == 0
    page = (run / "report.html").read_text()
    assert "bits per token&nbsp;↓" in page
    assert "held-out real rows, as good as it gets" in page


@pytest.mark.parametrize(
    ("words", "budget"),
    [
        (["text", "--state", "masked,bits"], 60.0),
        (["text", "--state", "masked,bits", "--budget", "9"], 9.0),
        (["text", "--state", "masked,bits", "--steps", "3"], None),
        (["text", "--cells", "state=masked steps=3", "state=bits steps=4"], None),
        (["text", "--grid", "depth=1,2", "--state", "masked"], None),
        (["bits-digits", "--grid", "state=bits,onehot"], None),
    ],
)
def test_kinds_of_state_have_a_budget_unless_updates_are_named(
    monkeypatch, tmp_path, text, words, budget
) -> None:
    asked = []
    monkeypatch.setattr(
        noiseloom.compare, "compare", lambda *args, **options: asked.append(options["budget"])
    )
    assert main(["compare", *words, "--data", str(text), "--out", str(tmp_path / "grid")]) == 0
    assert asked == [budget]


class Colours(nn.Module):
    """Features in place of EfficientNet-Lite0's, which is an extra: the values of all pixels."""

    name, dim = "lite0", 48

    def forward(self, pixels):
        return pixels.float().flatten(1)


def test_pictures_show_metrics_of_pictures(capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(palette, "Lite0Features", Colours)
    monkeypatch.setattr(palette, "photograph_features", Colours)
    folder = tmp_path / "tiles"
    folder.mkdir()
    for i in range(80):
        pixels = Rng(0).fold("tile", i).integers(2, (4, 2)).to(torch.uint8) * 255
        pixels = pixels.repeat_interleave(2, 1)
        Image.fromarray(pixels.numpy()).save(folder / f"{i}.png")
    options = " ".join(TINY).replace("--length 8 ", "").split()
    words = ["compare", "palette", "--data", str(folder), "--state", "masked,autoregressive"]
    words += [*options, "--side", "4", "--steps", "3", "--held-out", "0.4"]
    assert main([*words, "--out", str(tmp_path / "grid")]) == 0
    lines = (tmp_path / "grid" / "table.md").read_text().splitlines()
    head = [name.split(" ")[0] for name in lines[0].split(" | ")[1:]]
    shown = ["bits_per_token", "kid_lite0", "coverage", "nearest", "memorised", "colours"]
    assert head[:7] == [*shown, "neighbours"]
    body = {line.split(" | ")[0][2:]: line.split(" | ") for line in lines[2:6]}
    # Pairs of pixels are fair coins: the share of a colour is off by 0.5 / sqrt(24 * 8), and beside
    # that of all by more. A fifth drawn anew leaves colours as they are and parts neighbours.
    assert float(body["held-out real"][6]) < 5 * 0.5 / (24 * 8) ** 0.5
    assert float(body["real, noised"][7]) > float(body["held-out real"][7])
    run = next((tmp_path / "grid" / "runs").iterdir())
    assert main(["evaluate", str(run)]) == 0
    assert main(["report", str(run)]) == 0
    page = (run / "report.html").read_text()
    assert "held-out real pictures, as good as it gets" in page
    assert "neighbours&nbsp;↓" in page


def test_state_is_short_for_an_axis_of_the_grid() -> None:
    assert state_axis(["--state", "a,b", "--td", "1"], [], []) == (["state=a,b"], ["--td", "1"])
    assert state_axis(["--state=a"], [], []) == (["state=a"], [])
    # One state beside other cells is an option of them all.
    for grid, cells in ((["td=0,1"], []), ([], ["td=0"])):
        assert state_axis(["--state", "a"], grid, cells) == (grid, ["--state", "a"])
    assert state_axis(["--state", "a,b"], ["td=0"], [])[0] == ["state=a,b", "td=0"]
    assert state_axis(["--td", "1"], ["td=0"], []) == (["td=0"], ["--td", "1"])
    with pytest.raises(UsageError, match="states are given twice"):
        state_axis(["--state", "a,b"], ["state=c"], [])


def test_a_table_of_codes_says_by_default_how_they_are_used_and_what_they_gain() -> None:
    said = {
        "energy": 0.1,
        "energy_held_out": 0.0,
        "energy_generated_5": 0.2,
        "modes": 8.0,
        "perplexity": 7.9,
        "dead_codes": 0.0,
        "mutual_information": 2.9,
        "mutual_information_chance": 0.1,
        "information": 3.0,
        "prior_bits_held_out": 3.0,
        "prior_bits_train": 3.0,
        "curvature_1_none": 0.5,
    }
    left_out = {"prior_bits_train", "energy_held_out"}
    assert set(chosen(said, METRICS)) == set(said) - left_out


def test_what_chance_makes_of_codes_is_a_column_of_each_cell() -> None:
    told = {"mutual_information": 1.5, "mutual_information_chance": 0.25}
    recipe = RECIPES["disco-digits"]()
    cells = [Cell({"m": m}, recipe, [told | {"energy": 0.5}]) for m in ("1", "2")]
    head, body = rows(cells, METRICS)
    assert head == ["m", "energy", "mutual_information", "mutual_information_chance", "seeds"]
    assert body == [[m, "0.5", "1.5", "0.25", "1"] for m in ("1", "2")]


def test_columns_by_default_are_few_and_of_the_kind() -> None:
    assert default_metrics(RECIPES["bits-digits"]) is METRICS
    assert default_metrics(Tables)[1:3] == ("marginal", "pair")
    assert default_metrics(Tables)[-len(COSTS) :] == COSTS


def test_calls_are_counted_by_their_rows_and_only_while_watched() -> None:
    model = nn.ModuleDict({"network": nn.Linear(2, 2)})
    tally = Tally(model)
    model["network"](torch.zeros(9, 2))
    with tally.watching():
        model["network"](torch.zeros(3, 2))
        model["network"](input=torch.zeros(5, 2))
    model["network"](torch.zeros(9, 2))
    assert tally.rows == 8
    found = tally.report(4)
    assert found["network_evaluations"] == 2
    assert found["samples_per_second"] == pytest.approx(4 / tally.seconds)


@pytest.mark.parametrize("state", ["masked", "autoregressive"])
def test_the_first_call_of_a_network_is_not_timed(tmp_path, text, state) -> None:
    """A first call of half a second is what makes the first kernels, caches and threads ready."""
    words = ["train", "text", "--data", str(text), "--state", state, "--out", str(tmp_path / "run")]
    assert main([*words, *TINY[:-2], "--steps", "2", "--no-evaluate"]) == 0
    run, calls = noiseloom.load(tmp_path / "run"), []

    def slow(*_: object) -> None:
        calls.append(1)
        time.sleep(0.5 if len(calls) == 1 else 0)

    (network,) = networks(run.denoiser)
    network.register_forward_pre_hook(slow)
    found = run.evaluate(save=False)
    assert found["samples_per_second"] > found["n"] / 0.5
    # Calls of the warm-up are none of the samples'.
    assert found["network_evaluations"] <= (8 if state == "autoregressive" else 4)


def test_calls_of_a_token_and_of_a_row_are_not_held_against_each_other() -> None:
    _, better, text = MEANINGS["network_evaluations"]
    assert better == ""
    assert "not comparable" in text


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_what_is_told_of_the_data_is_told_once(capfd, tmp_path, jobs):
    """By a cell of other options again, as its data are read in another way."""
    path, rows = (
        tmp_path / "mine.csv",
        "".join(f"{i % 9},{i / 7},{'xy'[i % 2]},5\n" for i in range(90)),
    )
    path.write_text("n,r,w,five\n" + rows)
    command = [
        "compare",
        "--data",
        str(path),
        "--steps",
        "2",
        "--constant",
        "leave_out",
        *TINY[2:-2],
    ]
    command += ["--jobs", jobs, "--out", str(tmp_path / "out"), "--seeds", "2"]
    assert main([*command, "--grid", "state=masked,uniform", "bins=4,5"]) == 0
    logs = "".join(log.read_text() for log in (tmp_path / "out").glob("logs/*"))
    told = capfd.readouterr().err
    assert told.count("data: column 'five' is left out") == 1
    assert len(re.findall(r"^n +integer", told, re.M)) == (1 if jobs == "2" else 2)
    assert "column 'five'" not in logs
