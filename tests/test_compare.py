"""Comparisons: which runs are made, what is shared, and what the table says."""

import json
import re
import shlex
import shutil
import statistics
from dataclasses import replace

import pytest
from PIL import Image

import noiseloom.judged_cells
from noiseloom.cli import main
from noiseloom.compare import combinations
from noiseloom.plan import SamplingPlan
from noiseloom.recipes import BitsImages, ForcingDigits
from noiseloom.run_folder import claimed

TINY = shlex.split(
    "--head softmax --width 8 --head-width 8 --multipliers [1] --batch-size 8 --samples 40 "
    "--warmup 1 --decay constant --sampling-steps 2 --steps 2"
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def fitted(monkeypatch):
    """The folders that were trained."""
    made, fit = [], noiseloom.judged_cells.fit

    def spy(recipe, folder, **more):
        fit(recipe, folder, **more)
        made.append(folder.name)

    monkeypatch.setattr(noiseloom.judged_cells, "fit", spy)
    return made


def compare(out, *words):
    return main(["compare", "bits-digits", "--out", str(out), *TINY, *words])


def test_combinations():
    assert combinations(["code=gray,binary", "td=0,1"]) == [
        {"code": code, "td": td} for code in ("gray", "binary") for td in "01"
    ]
    assert combinations(["attention=[4],[8,4]"]) == [{"attention": "[4]"}, {"attention": "[8,4]"}]
    lists = ["[[4,1,9,40],[4,5,1,2]]", "[]", "[[6,6,0,1]]"]
    found = combinations([f"restarts={','.join(lists)}"])
    assert [cell["restarts"] for cell in found] == lists
    cells = combinations([], ["sampling-steps=1,2 td=0", "sampling_steps=2 td=0"])
    assert cells == [{"sampling_steps": s, "td": "0"} for s in "12"]  # the third is the second
    for word in ("code", "code=", "=gray", "code=gray,"):
        with pytest.raises(ValueError, match="NAME=VALUE"):
            combinations([word])


def test_a_grid_is_trained_once_shown_and_completed(capsys, tmp_path, fitted):
    out = tmp_path / "grid"
    grid = ["--grid", "state=bits,pixels", "loss_kind=l2,cross-entropy", "td=0,1"]
    grid += ["--seeds", "2"]
    assert compare(out, *grid) == 0
    shown = capsys.readouterr()
    # Three trainings (pixels have no cross-entropy) x two seeds; td shares them.
    assert len(fitted) == len(set(fitted)) == 6
    assert (
        "skipped state=pixels loss_kind=cross-entropy td=0: loss_kind cross-entropy needs"
        in shown.err
    )
    table = json.loads((out / "table.json").read_text())
    assert len(table["cells"]) == 6
    assert len(table["skipped"]) == 2
    assert table["seeds"] == [0, 1]
    assert table["steps"] == [2]
    for cell in table["cells"]:
        values = cell["values"]["coverage"]
        assert len(values) == cell["n"] == 2
        assert cell["mean"]["coverage"] == pytest.approx(sum(values) / 2)
        assert cell["deviation"]["coverage"] == pytest.approx(statistics.stdev(values))
        assert ("discreteness" in cell["mean"]) == (cell["options"]["state"] == "bits")
    lines = (out / "table.md").read_text().splitlines()
    assert lines[0].startswith("| state | loss_kind | td | class_agreement ↑ | kid_digits ↓ |")
    assert any(line.startswith("| held-out real |") for line in lines)
    assert lines[2].startswith("| bits | l2 | 0 |")
    assert "±" in shown.out
    folder = out / "runs" / fitted[0]
    assert (folder / "evaluations" / "sampling_steps=2,td=1.0,samples=40.json").is_file()

    # Again: nothing is left to do, and the table is the same.
    fitted.clear()
    assert compare(out, *grid, "--json") == 0
    again = json.loads(capsys.readouterr().out)
    assert fitted == []
    assert again["cells"] == table["cells"]

    # A larger grid trains what is new; a run that was stopped goes on.
    (out / "runs" / folder.name / "state" / "step-00000002").rename(tmp_path / "away")
    (folder / "metrics.jsonl").write_text("")
    words = ["--grid", "code=binary,gray", "--loss-kind", "l2", "--seeds", "2"]
    assert compare(out, *words, "--metrics", "cov*") == 0
    assert fitted[0] == folder.name
    assert ["code=gray" in name for name in fitted] == [False, True, True]
    assert (out / "table.md").read_text().splitlines()[0] == "| code | coverage ↑ | seeds |"


def test_a_table_of_other_cells_is_kept_beside_the_new_one(capsys, tmp_path, fitted):
    out = tmp_path / "grid"

    def tables():
        return sorted(p.name for p in out.iterdir() if p.name.startswith("table"))

    def cells(name):
        return [cell["options"] for cell in json.loads((out / name).read_text())["cells"]]

    both = ["--grid", "code=binary,gray", "--seeds", "1"]
    assert compare(out, *both) == 0
    first = {name: (out / name).read_bytes() for name in tables()}
    capsys.readouterr()
    assert compare(out, "--cells", "td=1", "--seeds", "1") == 0
    assert "table.json has other cells or seeds: it is now table-1.json" in capsys.readouterr().err
    assert tables() == ["table-1.json", "table-1.md", "table.json", "table.md"]
    assert {name: (out / name.replace(".", "-1.")).read_bytes() for name in first} == first
    assert cells("table.json") == [{"td": "1"}]
    # Nothing is lost by more cells, nor by other metrics of the same.
    more = ["--cells", "td=1", "td=1 code=gray", "--seeds", "1"]
    assert compare(out, *more) == compare(out, *more, "--metrics", "coverage") == 0
    assert len(tables()) == 4
    # Fewer seeds are a loss; folders with tables that were set aside go on.
    assert compare(out, *more[:-1], "2") == compare(out, *more) == 0
    assert json.loads((out / "table-2.json").read_text())["seeds"] == [0, 1]
    # A table that cannot be read may be worth something to somebody.
    (out / "table.json").write_text("{")
    assert compare(out, *more) == 0
    assert (out / "table-3.json").read_text() == "{"


def test_a_table_names_the_commit_at_which_it_was_begun(tmp_path, monkeypatch, fitted):
    monkeypatch.setattr("noiseloom.table._commit", lambda: f"after {len(fitted)} trainings")
    assert compare(tmp_path / "grid", "--grid", "td=0", "--seeds", "1") == 0
    assert len(fitted) == 1
    assert json.loads((tmp_path / "grid" / "table.json").read_text())["git"] == "after 0 trainings"


def test_errors_are_one_line(capsys, tmp_path):
    out = tmp_path / "grid"
    for words, told in (
        ([], "compare needs --grid"),
        (["--grid", "cod=gray"], "unknown option --cod: did you mean --code?"),
        (["--grid", "code=grey"], "expected one of binary, gray, random, got grey"),
        (["--grid", "code=gray", "--seeds", "0"], "--seeds must be at least 1"),
        (["--grid", "seed=0,1"], "seed is no option of a grid"),
        (["--grid", "code=gray", "--jobs", "0"], "--jobs must be at least 1"),
        (
            ["--cells", "head=linear loss_kind=cross-entropy"],
            "no cell of the grid can be made: loss",
        ),
    ):
        assert compare(out, *words) == 2
        assert told in capsys.readouterr().err.splitlines()[-1]
    assert not out.exists()


def test_a_folder_of_other_things_is_refused(capsys, tmp_path):
    out = tmp_path / "grid"
    (out / "runs").mkdir(parents=True)
    (out / "thesis.tex").touch()
    assert compare(out, "--grid", "code=gray") == 2
    assert "grid holds thesis.tex, no part of a comparison" in capsys.readouterr().err
    assert compare(out / "thesis.tex", "--grid", "code=gray") == 2
    assert "thesis.tex is no folder: choose another --out" in capsys.readouterr().err
    assert {path.name for path in out.iterdir()} == {"runs", "thesis.tex"}


def test_cells_with_files_are_found_again(capsys, tmp_path, monkeypatch, fitted):
    monkeypatch.setenv("NOISELOOM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(BitsImages, "check", lambda self: None)
    monkeypatch.setattr(BitsImages, "evaluate", lambda self, draw, data, rng: {"found": 2.0})
    (tmp_path / "pics").mkdir()
    for i in range(12):
        Image.new("RGB", (8, 8), (20 * i, 0, 0)).save(tmp_path / "pics" / f"{i}.png")
    rows = "".join(f"{i}.png,{i % 2}\n" for i in range(12))
    (tmp_path / "lab.csv").write_text(f"file,label\n{rows}")
    monkeypatch.chdir(tmp_path)
    words = ["compare", "bits-images", "--data", "pics", "--labels", "lab.csv", "--out", "grid"]
    words += shlex.split(
        "--width 8 --multipliers [1] --blocks 1 --attention 0 --size 8 --batch-size 4 --steps 1 "
        "--grid td=0,1 --seeds 1"
    )
    for _ in range(2):
        assert main([*words, "--json"]) == 0
        cells = json.loads(capsys.readouterr().out)["cells"]
        assert [cell["mean"]["found"] for cell in cells] == [2.0] * 2
    assert len(fitted) == 1


def test_processes_make_what_one_makes(capsys, tmp_path):
    recipe = tmp_path / "mine.py"
    recipe.write_text(
        "from dataclasses import dataclass\n"
        "from noiseloom.recipes import BitsDigits\n\n\n"
        "@dataclass(frozen=True)\n"
        "class Mine(BitsDigits):\n"
        "    name = 'mine'\n"
    )
    words = [*TINY, "--grid", "code=binary,gray", "td=0,1", "--seeds", "1"]
    tables = []
    for jobs in "12":
        out = tmp_path / jobs
        assert main(["compare", str(recipe), "--out", str(out), "--jobs", jobs, *words]) == 0
        told = capsys.readouterr().err
        assert "run 2 of 2 is done: " in told
        assert (jobs == "1") == ("training: mine" in told)  # the other processes are quiet
        tables.append(json.loads((out / "table.json").read_text()))
    for cell in (cell for table in tables for cell in table["cells"]):
        for part in ("mean", "values"):
            assert cell[part].pop("train_seconds")  # of another computation
            cell[part].pop("peak_gigabytes", None)  # of another process
    assert len(tables[0]["cells"]) == 4
    assert tables[0]["cells"] == tables[1]["cells"]


def test_anchors_stand_for_their_number_of_pictures(capsys, tmp_path):
    out = tmp_path / "grid"
    assert compare(out, "--grid", "samples=30,60", "--seeds", "2", "--metrics", "coverage") == 0
    capsys.readouterr()
    table = json.loads((out / "table.json").read_text())
    held = [c["values"]["coverage_held_out"] for c in table["cells"]]
    lines = (out / "table.md").read_text().splitlines()
    for values, n in zip(held, (30, 60), strict=True):
        (line,) = [
            line for line in lines if line.startswith(f"| held-out real, samples={n}, n = {n} |")
        ]
        assert f"{statistics.fmean(values):.4g}" in line


def test_anchors_stand_for_their_data(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("NOISELOOM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(BitsImages, "check", lambda self: None)
    side = {"found": 2.0, "n": 3.0}
    monkeypatch.setattr(
        BitsImages,
        "evaluate",
        lambda self, draw, data, rng: {**side, "found_held_out": float(self.size)},
    )
    for i in range(12):
        Image.new("RGB", (8, 8), (20 * i, 0, 0)).save(tmp_path / f"{i}.png")
    words = ["compare", "bits-images", "--data", str(tmp_path), "--out", str(tmp_path / "grid")]
    words += shlex.split(
        "--width 8 --multipliers [1] --blocks 1 --attention 0 --batch-size 4 --steps 1 --seeds 1 "
        "--sampling-steps 2 --grid size=8,16 td=0,1 --metrics found"
    )
    assert main(words) == 0
    lines = (tmp_path / "grid" / "table.md").read_text().splitlines()
    anchors = [line for line in lines if "held-out" in line]
    assert anchors == [
        "| held-out real, size=8 |  | 8 |  |",
        "| held-out real, size=16 |  | 16 |  |",
    ]


def test_a_plan_from_a_file_counts_by_what_it_holds(capsys, tmp_path, monkeypatch):
    seen = []

    def evaluate(self, draw, data, rng):
        plan = self.make_plan(None)
        seen.append(len(plan))
        return {"rows": float(len(plan))}

    monkeypatch.setattr(ForcingDigits, "evaluate", evaluate)
    (tmp_path / "plans").mkdir()
    one, two = tmp_path / "plans" / "a.json", tmp_path / "plans_a.json"
    SamplingPlan.full_sequence(3, 8).save(one)
    SamplingPlan.full_sequence(5, 8).save(two)
    words = ["compare", "forcing-digits", "--grid", f"plan={one},{two}", "--seeds", "1"]
    words += shlex.split("--metrics rows --rest 0 --steps 1 --batch-size 4 --width 8 --depth 1")
    words.append("--json")

    def rows():
        assert main([*words, "--out", str(tmp_path / "grid")]) == 0
        table = json.loads(capsys.readouterr().out)
        return [cell["mean"]["rows"] for cell in table["cells"]]

    assert rows() == [3, 5]
    assert rows() == [3, 5] == seen  # kept, and not judged again
    one.unlink()
    SamplingPlan.full_sequence(4, 8).save(one)
    assert rows() == [4, 5]


def test_a_plan_of_the_run_that_became_another_does_not_pass_for_it(tmp_path, monkeypatch):
    def evaluate(self, draw, data, rng):
        return {"rows": float(len(self.make_plan(None)))}

    monkeypatch.setattr(ForcingDigits, "evaluate", evaluate)
    plan, run = tmp_path / "a.json", tmp_path / "run"
    SamplingPlan.full_sequence(3, 8).save(plan)
    words = ["train", "forcing-digits", "--out", str(run), "--plan", str(plan), "--no-evaluate"]
    words += shlex.split("--rest 0 --steps 1 --batch-size 4 --width 8 --depth 1")
    assert main(words) == 0
    assert main(["evaluate", str(run)]) == 0
    kept = run / "evaluation.json"
    assert json.loads(kept.read_text()) == {"rows": 3}
    plan.unlink()
    SamplingPlan.full_sequence(4, 8).save(plan)
    assert main(["evaluate", str(run)]) == 0
    assert json.loads(kept.read_text()) == {"rows": 3}
    (other,) = (run / "evaluations").iterdir()
    assert re.fullmatch(r"plan=a\.json-[0-9a-f]{8}\.json", other.name)
    assert json.loads(other.read_text()) == {"rows": 4}

    # Of a run from before there were digests nothing is known.
    described = (run / "recipe.yaml").read_text()
    (run / "recipe.yaml").write_text(re.sub(r"  digests:\n    plan: .*\n", "", described))
    assert main(["evaluate", str(run)]) == 0
    assert json.loads(kept.read_text()) == {"rows": 4}


def test_options_of_the_comparison_are_no_axes_of_a_grid(capsys, tmp_path):
    for axis in ("data=a,b", "out=2", "jobs=1,2"):
        assert main(["compare", "bits-digits", "--grid", axis, "--out", str(tmp_path / "g")]) == 2
        assert "is no option of the recipe" in capsys.readouterr().err
    assert not (tmp_path / "g").exists()


def test_a_run_that_was_killed_before_its_weights_were_placed_is_mended(capsys, tmp_path, fitted):
    out = tmp_path / "grid"
    words = ["--grid", "code=binary", "--seeds", "1"]
    assert compare(out, *words) == 0
    folder = out / "runs" / fitted[0]
    right = json.loads((folder / "evaluations/sampling_steps=2,samples=40.json").read_text())
    (folder / "evaluations/sampling_steps=2,samples=40.json").unlink()
    (folder / "ema.safetensors").unlink()
    assert compare(out, *words) == 0
    assert len(fitted) == 1
    again = json.loads((folder / "evaluations/sampling_steps=2,samples=40.json").read_text())
    assert again == right


@pytest.mark.filterwarnings("default:the metrics could not be kept")
def test_an_evaluation_that_cannot_be_written_is_in_the_table(capsys, tmp_path, fitted):
    out = tmp_path / "grid"
    words = ["--grid", "code=binary", "--seeds", "1"]
    assert compare(out, *words) == 0
    table = (out / "table.json").read_text()
    folder = out / "runs" / fitted[0]
    shutil.rmtree(folder / "evaluations")
    (folder / "evaluations").write_text("in the way")
    assert compare(out, *words) == 0
    assert "the metrics could not be kept" in capsys.readouterr().err
    assert (out / "table.json").read_text() == table


def test_a_run_in_use_is_left_out_and_the_others_are_shown(capsys, tmp_path, fitted):
    out = tmp_path / "grid"
    assert compare(out, "--grid", "code=binary", "--seeds", "1") == 0
    with claimed(out / "runs" / fitted[0].replace("steps=2", "steps=3")):
        assert compare(out, "--steps", "3", "--grid", "code=binary,gray", "--seeds", "1") == 0
    assert "skipped code=binary: " in (told := capsys.readouterr().err)
    assert "is being trained by another process" in told
    assert [c["options"] for c in json.loads((out / "table.json").read_text())["cells"]] == [
        {"code": "gray"}
    ]


def test_a_cell_that_breaks_leaves_the_others_and_says_so_in_one_line(capsys, tmp_path):
    out = tmp_path / "grid"
    assert compare(out, "--grid", "width=8,7", "--seeds", "1") == 0
    assert "skipped width=7: a width of 7 is odd" in capsys.readouterr().err
    table = json.loads((out / "table.json").read_text())
    assert [cell["options"] for cell in table["cells"]] == [{"width": "8"}]
    assert table["cells"][0]["recipe"]["multipliers"] == [1]  # all options, not those typed alone


def test_what_is_no_error_of_the_users_names_its_kind(capsys, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("out of\nmemory")

    monkeypatch.setattr(noiseloom.judged_cells, "fit", broken)
    assert compare(tmp_path / "grid", "--grid", "width=8", "--seeds", "1") == 2
    told = capsys.readouterr().err
    assert "no cell of the grid can be made: RuntimeError: out of memory" in told


def test_a_recipe_of_ones_own_shows_its_own_metrics(capsys, tmp_path):
    words = ["compare", "./examples/my_recipe.py", "--out", str(tmp_path / "own"), "--seeds", "1"]
    words += ["--grid", "width=8", "--steps", "2", "--samples", "4", "--sampling-steps", "2"]
    assert main(words) == 0
    assert "striped" in (told := capsys.readouterr().out)
    assert "parameters" in told
    words += ["--seeds", "2"]
    assert main([*words, "--metrics", "sharpness"]) == 2
    lines = capsys.readouterr().err.splitlines()
    said = "so far no metric is called sharpness: there are striped, parameters, train_seconds"
    told = next(i for i, line in enumerate(lines) if line.startswith(said))
    assert lines[told - 1].startswith("run 1 of 2 is done")
    assert "error: no metric is called sharpness: there are striped, " in lines[-1]


def test_each_of_several_processes_keeps_a_log(capsys, tmp_path):
    out = tmp_path / "grid"
    assert compare(out, "--grid", "code=binary,gray", "--seeds", "1", "--jobs", "2") == 0
    logs = "".join(path.read_text() for path in (out / "logs").iterdir())
    assert logs.count("training: bits-digits") == 2


def test_one_table_is_of_one_data_set(capsys, tmp_path, fitted, monkeypatch):
    out, words = tmp_path / "grid", ["--grid", "code=binary,gray", "--seeds", "1"]
    assert compare(out, *words) == 0
    capsys.readouterr()
    load = noiseloom.recipes.BitsDigits.load

    def other(self, data):
        split = load(self, data)
        return replace(split, held_out=split.held_out.select(range(300)))

    monkeypatch.setattr(noiseloom.recipes.BitsDigits, "load", other)
    assert compare(out, *words) == 2
    told = capsys.readouterr().err
    assert told.count("was trained on other data: choose another --out") == 1
    assert "skipped" not in told


def test_a_value_that_is_given_twice_is_refused(capsys, tmp_path):
    assert compare(tmp_path / "grid", "--grid", "code=binary,gray,binary", "--seeds", "1") == 2
    assert "binary is given twice: code=binary,gray,binary" in capsys.readouterr().err
    assert combinations(["td=0,1"], ["td=1"]) == [{"td": "0"}, {"td": "1"}]
