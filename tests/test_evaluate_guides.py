"""Guides beside each other at several scales: figures, what is kept, jobs, refusals, the page."""

import csv
import json
import re
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from guided import GUIDE, train_guide, train_run, write_files

import noiseloom
import noiseloom.guided_cells
from noiseloom.cli import main
from noiseloom.data import benzenoids
from noiseloom.found_guides import guides_in
from noiseloom.guide_folder import load_guide
from noiseloom.metrics import mean_interval
from noiseloom.recipes import ContextBenzenoids
from noiseloom.steering import steered

TOOLS = Path(__file__).parents[1] / "tools"
CLI = [sys.executable, "-c", "import sys; from noiseloom.cli import main; sys.exit(main())"]
PROTEINS = ["--letters", "6", "--length", "10", "--motifs", "2", "--motif-length", "3"]
PROTEINS += ["--banned", "0", "--pool", "1000", "--width", "16", "--depth", "1", "--heads", "2"]
PROTEINS += ["--steps", "120", "--sampling-steps", "6", "--learning-rate", "4e-3", "--no-evaluate"]
SAMPLES = 60


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Proteins whose every value is known, two methods chosen by either kind of labels."""
    folder = tmp_path_factory.mktemp("runs") / "motifs"
    train = ["train", "context-proteins", "--data", "ehrlich", "--out", str(folder)]
    assert main([*train, *PROTEINS]) == 0
    words = ["guide", str(folder), "--labels", "ehrlich", "--shifted", "ehrlich:high", *GUIDE]
    words += ["--steps", "60", "--method", "none,weight-decay", "--configurations", "1"]
    for judge in ("in-domain", "shifted"):
        out = folder / "guides" / judge
        more = ["--select", judge, "--seeds", "2", "--out", str(out)]
        trials = ["--trials", str(folder / "guides" / "in-domain" / "selection")]
        assert main([*words, *more, *(trials if judge == "shifted" else [])]) == 0
    return folder


def words_of(run, *more):
    words = ["evaluate", str(run), "--guide", str(run / "guides"), "--target", "maximise"]
    return [*words, "--scales", "0,8", "--samples", str(SAMPLES), *more]


@pytest.fixture(scope="module")
def table(run):
    assert main(words_of(run)) == 0
    return json.loads((run / "guided" / "table.json").read_text())


def cells(out):
    return {path.name: path.stat().st_mtime_ns for path in (out / "cells").iterdir()}


def test_rows_are_means_over_seeds_of_what_is_truly_so(run, table):
    rows = {(r["select"], r["method"], r["scale"]): r for r in table["rows"]}
    assert list(rows) == [
        ("", "unguided", 0),
        ("in-domain", "none", 8),
        ("in-domain", "weight-decay", 8),
        ("shifted", "none", 8),
        ("shifted", "weight-decay", 8),
    ]
    own = noiseloom.load(run, device="cpu")
    f, given = own.recipe.function, {"row": torch.arange(SAMPLES)}
    split = own.recipe.load("ehrlich")
    trained = {tuple(row) for row in split.train.values.tolist()}
    highest = float(f.value(split.train.values.long()).max())
    for (select, method, scale), row in rows.items():
        assert row["n"] == 2
        assert row["seeds"] == [0, 1]
        for i in range(2):
            led = own
            if scale:
                folder = run / "guides" / select / f"{method}-{i}"
                led = steered(own, folder, target="maximise", scale=scale)
            drawn = led.samples(given, seed=i)
            valid = drawn[f.valid(drawn)]
            different = torch.unique(valid, dim=0)
            values = f.value(different).sort(descending=True).values
            found = {name: values_[i] for name, values_ in row["values"].items()}
            assert found["valid"] == pytest.approx(len(valid) / SAMPLES)
            assert found["distinct"] == len(different)
            assert found["best"] == pytest.approx(float(values[:100].mean()))
            assert found["mean"] == pytest.approx(float(f.value(valid).mean()))
            new = [tuple(sample) not in trained for sample in valid.tolist()]
            assert found["outside"] == pytest.approx(sum(new) / len(new))
            better = (f.value(valid) > _learnt(run, select, method, i, highest)).sum()
            assert found["beyond"] == pytest.approx(float(better) / SAMPLES)
        for name, values in row["values"].items():
            mean, half = mean_interval(values)
            assert row["mean"][name] == pytest.approx(mean)
            assert row["interval_95"][name] == pytest.approx(half)
            spread = statistics.stdev(values)
            assert half == pytest.approx(12.7062 * spread / 2**0.5, rel=1e-4, abs=1e-12)
    assert table["failed"] == {}
    assert "claimed" in rows["shifted", "none", 8]["mean"]
    assert "claimed" not in rows["", "unguided", 0]["mean"]


def _learnt(run, select, method, seed, highest):
    """The best label that a guide learnt from, a part of the labels."""
    if select == "":
        select, method = "in-domain", "none"
    name = f"{select}/{method}-{seed}"  # among the run's own
    (guide,) = guides_in([name], noiseloom.load(run, device="cpu"))
    assert guide.record.labels["highest"][0] <= highest + 1e-6
    return guide.record.labels["highest"][0]


@pytest.mark.parametrize("target", ["maximise", "minimise"])
def test_claimed_and_picked_are_of_those_that_the_guide_holds_for_the_best(
    run, target, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("noiseloom.guided_figures.BEST", 5)
    words = ["evaluate", str(run), "--guide", "shifted/none-0", "--target", target, "--json"]
    words += ["--scales", "8", "--samples", str(SAMPLES), "--out", str(tmp_path / "out")]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"][0]["mean"]
    own, folder = noiseloom.load(run, device="cpu"), run / "guides/shifted/none-0"
    drawn = steered(own, folder, target=target, scale=8.0).samples(
        {"row": torch.arange(SAMPLES)}, seed=0
    )
    f, (guide, _) = own.recipe.function, load_guide(folder, own)
    different = torch.unique(drawn[f.valid(drawn)], dim=0)
    said = guide.predict(different, torch.zeros(len(different))).mean[:, 0].double()
    top = said.argsort(descending=target == "maximise")[:5]
    assert len(different) > 10
    assert found["claimed"] == pytest.approx(float(said[top].mean()), rel=1e-5)
    assert found["picked"] == pytest.approx(float(f.value(different[top]).mean()))


def test_the_page_and_the_table_for_documents(run, table):
    out = run / "guided"
    text = (out / "table.md").read_text()
    assert (
        "| chosen by | method | scale | best 100 ↑ | distinct of 60 ↑ | outside ↑ | valid ↑ |"
        in text
    )
    assert "half widths of their 95 % intervals" in text
    assert "cells have fewer than 100 different structures" in text
    page = (out / "guided.html").read_text()
    assert page.count("<svg") >= 6
    assert "Chosen by shifted labels" in page
    assert "weight-decay" in page


def test_what_is_there_is_not_drawn_again_and_what_differs_is(run, table, monkeypatch, capsys):
    out = run / "guided"
    before = cells(out)
    assert len(before) == 2 + 2 * 2  # both choices have chosen alike
    drawn, inner = [], noiseloom.guided_cells.led_samples

    def counted(run_, guide, records, options, *more):
        drawn.append(options.scale)
        return inner(run_, guide, records, options, *more)

    monkeypatch.setattr("noiseloom.guided_cells.led_samples", counted)
    assert main(words_of(run)) == 0
    assert not drawn
    assert cells(out) == before
    assert "6 of 6 cells are there" in capsys.readouterr().err
    again = json.loads((out / "table.json").read_text())
    assert again["rows"] == table["rows"]
    (gone,) = out.glob("cells/weight-decay-0-scale8-*.json")
    gone.unlink()  # which is not asked for now
    some = str(run / "guides" / "shifted" / "none-0")
    words = ["evaluate", str(run), "--guide", some, "--target", "maximise", "--scales", "0,4,8"]
    assert main([*words, "--samples", str(SAMPLES), "--json"]) == 0
    assert drawn == [4.0]
    told = json.loads(capsys.readouterr().out)
    assert [(r["method"], r["scale"], r["n"]) for r in told["rows"]] == [
        ("unguided", 0, 1),
        ("none", 4, 1),
        ("none", 8, 1),
    ]
    assert told["rows"][1]["interval_95"]["valid"] is None
    drawn.clear()
    assert main([*words, "--samples", str(SAMPLES), "--seed", "5", "--scales", "8"]) == 0
    assert main([*words, "--samples", "30", "--scales", "8"]) == 0
    assert main([*words, "--samples", "30", "--scales", "8", "--rule", "decay"]) == 0
    assert main([*words, "--samples", "30", "--scales", "8", "--sampling-steps", "3"]) == 0
    assert drawn == [8.0] * 4
    assert main(words_of(run)) == 0  # the table of the module again


def test_cells_of_another_version_are_named_below_the_table(run, table, tmp_path, monkeypatch):
    out = tmp_path / "older"
    assert main(words_of(run, "--out", str(out))) == 0
    today = f"noiseloom {table['noiseloom']} ({table['git'] or 'no commit'})"
    assert {json.loads(p.read_text())["by"] for p in out.glob("cells/*.json")} == {today}
    assert not any("judged by" in note for note in table["notes"])
    (bare,) = out.glob("cells/none-0-scale8-*.json")
    told = json.loads(bare.read_text())
    del told["by"]  # as cells were kept before
    bare.write_text(json.dumps(told))
    (new,) = out.glob("cells/weight-decay-1-scale8-*.json")
    new.unlink()
    monkeypatch.setattr("noiseloom.table._commit", lambda: "another")
    assert main(words_of(run, "--out", str(out))) == 0
    again = json.loads((out / "table.json").read_text())
    assert again["rows"] == table["rows"]
    (old, nameless) = [note for note in again["notes"] if "judged by" in note]
    assert f"judged by {today}: " in old
    assert "unguided-0-scale0-" in old
    assert new.stem not in old
    assert bare.stem not in old
    assert f"judged by a version that did not say its name: {bare.stem};" in nameless
    assert old in (out / "table.md").read_text()
    assert json.loads(new.read_text())["by"].endswith("(another)")


def test_processes_find_what_one_finds(run, table, tmp_path):
    out = tmp_path / "two"
    assert main(words_of(run, "--jobs", "2", "--out", str(out))) == 0
    assert json.loads((out / "table.json").read_text())["rows"] == table["rows"]
    assert "training" not in "".join(p.read_text() for p in (out / "logs").iterdir())


def test_ctrl_c_keeps_what_is_done(run, table, tmp_path):
    out = tmp_path / "cut"
    words = words_of(run, "--out", str(out), "--samples", "400", "--sampling-steps", "40")
    process = subprocess.Popen(
        [*CLI, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    end = time.monotonic() + 120
    while not list(out.glob("cells/*.json")) and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert "go on with: noiseloom evaluate" in told
    assert "Traceback" not in told
    assert 1 <= len(cells(out)) < 6
    assert not (out / "table.json").exists()


def test_a_cell_that_fails_is_told_and_tried_again(run, tmp_path, monkeypatch, capsys):
    inner = noiseloom.guided_cells.led_samples

    def fails(run_, guide, records, options, *more):
        if options.scale == 8:
            raise ValueError("the estimates of 3 of 60 rows are not finite")
        return inner(run_, guide, records, options, *more)

    monkeypatch.setattr("noiseloom.guided_cells.led_samples", fails)
    out = tmp_path / "some"
    words = [*words_of(run, "--out", str(out)), "--guide", str(run / "guides/shifted/none-0")]
    assert main(words) == 0
    told = capsys.readouterr().out
    assert "failed: none-0-scale8" in told
    assert "0, 1 failed" in told
    assert main([*words, "--scales", "8"]) == 2
    assert "no cell can be judged: seed 0: the estimates of 3" in capsys.readouterr().err
    monkeypatch.undo()
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["failed"] == {}


def test_what_cannot_be_is_one_line(run, table, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.txt").write_text("mine")
    guides = str(run / "guides")
    base = ["evaluate", str(run)]
    led = [*base, "--guide", guides, "--target", "maximise"]
    for words, told in (
        ([*base, "--scale", "3"], "--scale needs --guide FOLDER"),
        ([*base, "--jobs", "3"], "--jobs needs --guide FOLDER"),
        ([*base, "--guide", guides], "--guide needs --target"),
        ([*led, "--scale", "2"], "guides are judged at several scales: give --scales"),
        ([*led, "--scales", "a"], "--scales are numbers of at least 0"),
        ([*led, "--scales=-1,2"], "--scales are numbers of at least 0"),
        ([*led, "--data", "x"], "--data is not for guides"),
        ([*led, "--samples", "0"], "--samples must be at least 1, got 0"),
        ([*led, "--jobs", "0"], "--jobs must be at least 1"),
        ([*led, "--way", "nudge"], "this run has classes"),
        ([*led, "--guide", str(tmp_path)], "no finished guide in"),
        ([*led, "--out", str(tmp_path / "mine")], "holds a.txt, no part of such a table"),
        ([*led, "--truth", str(tmp_path / "no.csv")], "no.csv"),
    ):
        capsys.readouterr()
        assert main(words) == 2, words
        error = capsys.readouterr().err.strip()
        assert told in error
        assert len(error.splitlines()) == 1
    out = tmp_path / "damaged"
    shutil.copytree(run / "guided", out)
    for path in out.glob("cells/none-0-*.json"):
        path.write_text(path.read_text()[:20])
    assert main(words_of(run, "--out", str(out))) == 2
    assert re.search(r"none-0-.*\.json is damaged: remove it", capsys.readouterr().err)


def test_a_table_of_true_labels_stands_for_a_truth_and_guides_need_none(tmp_path, capsys):
    """Of one's own sequences nobody knows anything but what a table says."""
    files = write_files(tmp_path)
    run = train_run(files, tmp_path / "run", "masked", "--steps", "60")
    train_guide(run, files, "--steps", "30")
    words = ["evaluate", str(run), "--guide", str(run / "guides"), "--target", "maximise"]
    words += ["--scales", "0,2", "--samples", "200", "--json"]
    assert main(words) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert "nothing is known of what the samples are truly worth" in told["notes"]
    assert "best" not in told["rows"][0]["mean"]
    assert told["rows"][1]["mean"]["claimed"] > 0
    shifted = files / "shifted.csv"
    with shifted.open(newline="") as file:
        known = {row["sequence"]: int(row["a"]) for row in csv.DictReader(file)}
    assert main([*words, "--truth", str(shifted)]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    own = noiseloom.load(run, device="cpu")
    drawn = own.samples({"row": torch.arange(200)}, seed=0)
    keys = set(own.recipe.keys(own.parts, own.facts, drawn))
    there = sorted((known[key] for key in keys & set(known)), reverse=True)[:100]
    row = told["rows"][0]["mean"]
    assert row["measured"] == pytest.approx(len(keys & set(known)) / len(keys))
    assert row["best_of"] == len(there) > 0
    assert row["best"] == pytest.approx(sum(there) / len(there))


def test_outside_are_all_that_the_run_was_not_trained_on_held_out_ones_too(tmp_path, capsys):
    files = write_files(tmp_path)
    run = train_run(files, tmp_path / "run", "masked", "--steps", "60")
    train_guide(run, files, "--steps", "5")
    words = ["evaluate", str(run), "--guide", "none-0", "--target", "maximise", "--scales", "0,1"]
    capsys.readouterr()
    assert main([*words, "--samples", "400", "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"][0]["mean"]
    own = noiseloom.load(run, device="cpu")
    split = own.recipe.load(str(files / "train.txt"))
    trained, held_out = (
        {tuple(row) for row in part.values.tolist()} for part in (split.train, split.held_out)
    )
    drawn = [tuple(row) for row in own.samples({"row": torch.arange(400)}, seed=0).tolist()]
    assert any(row in held_out - trained for row in drawn)
    assert found["outside"] == pytest.approx(sum(row not in trained for row in drawn) / 400)


def test_guides_of_other_options_are_rows_of_their_own_and_of_other_properties_refused(
    tmp_path, capsys
):
    files = write_files(tmp_path)
    run = train_run(files, tmp_path / "run", "masked", "--steps", "20")
    for decay in ("0.1", "0.5"):
        out = str(run / "guides" / f"decay{decay}")
        more = ["--decay", decay, "--steps", "10", "--out", out]
        train_guide(run, files, *more, method="weight-decay")
    words = ["evaluate", str(run), "--guide", str(run / "guides"), "--target", "maximise"]
    words += ["--scales", "1", "--samples", "20", "--json"]
    capsys.readouterr()
    assert main(words) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [r["method"] for r in told["rows"]] == [
        "weight-decay decay=0.1",
        "weight-decay decay=0.5",
    ]
    train_guide(run, files, "--steps", "10", "--out", str(run / "guides" / "c"), columns="c")
    capsys.readouterr()
    assert main(words) == 2
    assert "guides beside each other are of one property" in capsys.readouterr().err


def test_the_agenda_of_the_table_can_be_typed(monkeypatch, tmp_path):
    """Every command is taken, and reads what a command before it, that it waits for, has made."""
    jobs = yaml.safe_load((TOOLS / "guides.yaml").read_text())
    ancestors, made, called = {}, {}, []
    for name in (
        "commands.train",
        "commands.evaluate",
        "record.record_all",
        "guide_command.guide",
        "evaluate_guides.evaluate_guides",
    ):
        call = f"noiseloom.{name}"
        monkeypatch.setattr(call, lambda *a, _name=name, **m: called.append((_name, a, m)))
    for job in jobs:
        waits = set(job.get("after", ()))
        ancestors[job["name"]] = waits.union(*(ancestors[name] for name in waits))
        words = shlex.split(job["run"].format(out=tmp_path))
        assert main(words) == 0, job["name"]
        for word in (part for typed in words for part in typed.split(",")):
            place = word.removesuffix("/selection")
            if place in made and place != _out(words):
                assert made[place] in ancestors[job["name"]], (job["name"], place)
            elif place.startswith(str(tmp_path)) and not place.startswith(str(tmp_path / "data")):
                assert word == _out(words), (job["name"], word)
        made.setdefault(_out(words), job["name"])
    assert len(called) == len(jobs)
    (last,) = [m for j, (n, a, m) in zip(jobs, called, strict=True) if j["name"] == "table-all"]
    assert last["n"] == 512


def _out(words):
    return words[words.index("--out") + 1] if "--out" in words else None


def test_guides_of_two_properties(tmp_path, capsys):
    files = write_files(tmp_path)
    run = train_run(files, tmp_path / "run", "masked", "--steps", "60")
    train_guide(run, files, "--steps", "30", columns="a,c")
    words = ["evaluate", str(run), "--guide", "none-0", "--scales", "0,2", "--samples", "100"]
    words += ["--truth", str(files / "labels.csv"), "--json", "--target"]
    capsys.readouterr()
    found = {}
    for target in ("maximise,minimise", "maximise,any", "any,2"):
        assert main([*words, target]) == 0
        told = json.loads(capsys.readouterr().out.splitlines()[-1])
        found[target] = told["rows"][0]["mean"]
    assert main([word for word in [*words, "maximise,minimise"] if word != "--json"]) == 0
    head = capsys.readouterr().out.splitlines()[0]
    assert re.search(r"best 100 a ↑ +best 100 c ↓ +distinct of 100 ↑", head)
    both = found["maximise,minimise"]
    assert both["best_a"] == found["maximise,any"]["best"]
    with (files / "labels.csv").open(newline="") as file:
        known = {row["sequence"]: (int(row["a"]), int(row["c"])) for row in csv.DictReader(file)}
    own = noiseloom.load(run, device="cpu")
    drawn = own.samples({"row": torch.arange(100)}, seed=0)
    there = [known[k] for k in {*own.recipe.keys(own.parts, own.facts, drawn)} & set(known)]
    assert both["best_c"] == pytest.approx(sum(sorted(c for _, c in there)[:100]) / len(there))
    off = sorted(abs(c - 2) for _, c in there)
    assert found["any,2"]["best"] == pytest.approx(sum(off[:100]) / len(off))
    assert main([*words, "maximise"]) == 2
    assert "1 targets for 2 properties" in capsys.readouterr().err


def test_gaps_of_benzenoids_are_true_values():
    recipe = ContextBenzenoids(rings=5)
    data = benzenoids(5)
    points = torch.cat((data[torch.arange(12)]["positions"], torch.zeros(1, 5, 3)))
    found = recipe.true_values(None, {}, points)["gap"]
    torch.testing.assert_close(found[:12], data.gaps, rtol=0, atol=1e-9)
    assert found[12].isnan()
