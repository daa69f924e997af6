"""`context-proteins`: both landscapes, by the commands, and what an evaluation says of them."""

import csv
import json
import sys
from pathlib import Path

import pytest
import torch

import noiseloom
from noiseloom import Rng
from noiseloom.cli import main
from noiseloom.data import vocabulary
from noiseloom.recipes import RECIPES

sys.path.insert(0, str(Path(__file__).parent / "data"))
import gb1_cases as cases

TINY = ["--steps", "4", "--batch-size", "8", "--width", "16", "--depth", "1", "--heads", "2"]
TINY += ["--sampling-steps", "4", "--samples", "40", "--judged", "8", "--levels", "2"]
SMALL = {"letters": 6, "length": 10, "motifs": 2, "motif_length": 3, "pool": 500}
Proteins = RECIPES["context-proteins"]


def words_of(options):
    return [w for name, v in options.items() for w in (f"--{name.replace('_', '-')}", str(v))]


def test_an_ehrlich_function_from_data_to_samples(tmp_path, capsys):
    out = tmp_path / "run"
    command = ["train", "context-proteins", "--data", "ehrlich", "--out", str(out), *TINY]
    assert main([*command, *words_of(SMALL | {"banned": 0.0, "pool": 2000})]) == 0
    assert "held out" in capsys.readouterr().err
    run = noiseloom.load(out)
    found = json.loads((out / "evaluation.json").read_text())
    f = run.recipe.function

    # What was judged, again: the same draws, by the definition.
    drawn = run.samples({"row": torch.arange(40)}, seed=0)
    valid = f.valid(drawn)
    assert found["valid"] == pytest.approx(float(valid.double().mean()))
    assert found["valid_held_out"] == 1
    assert found["measured"] == 1
    assert 0 < found["valid"] < 1
    assert found["value"] == pytest.approx(float(f.value(drawn)[valid].mean()))
    assert found["value_best"] == float(f.value(drawn).max())
    assert found["value_best_train"] < found["value_held_out"]
    assert "what samples are" not in (out / "report.html").read_text()
    assert "mean true value of valid ones" in (out / "report.html").read_text()

    parent = vocabulary(run.facts["vocabulary"]).decode(f.optimum()[None])[0]
    file = tmp_path / "drawn.txt"
    words = ["sample", str(out), "--parent", parent, "--max-edits", "2", "--out", str(file)]
    assert main([*words, "-n", "30"]) == 0
    lines = file.read_text().splitlines()
    assert len(lines) == 30
    assert all(sum(a != b for a, b in zip(s, parent, strict=True)) <= 2 for s in lines)
    assert main(["evaluate", str(out), "--samples", "20"]) == 0
    capsys.readouterr()


@pytest.mark.parametrize("table", [False, True])
def test_variants_of_gb1_from_the_file_to_samples(table, tmp_path, capsys):
    known = cases.measured(400)
    kept = dict(list(known.items())[:300])
    cases.splits_zip(tmp_path / "splits.zip", kept)
    cases.write_zip(
        tmp_path / "table.zip", {"four_mutations_full_data.csv": cases.table_text(known, kept)}
    )
    out = tmp_path / "run"
    command = ["train", "context-proteins", "--data", str(tmp_path / "splits.zip")]
    command += ["--table", str(tmp_path / "table.zip")] if table else []
    assert main([*command, "--out", str(out), *TINY]) == 0
    said = capsys.readouterr().err
    assert f"{400 if table else 300} of 160,000 variants are measured" in said
    found = json.loads((out / "evaluation.json").read_text())
    assert found["value_best_train"] < 1 <= found["value_held_out"]
    assert found["valid"] == 0  # of 52 residues that must be right an untrained model has none
    assert "value" not in found
    assert "measured" not in found
    run = noiseloom.load(out)
    assert run.facts["length"] == 56

    file = tmp_path / "drawn.txt"
    words = ["sample", str(out), "--parent", cases.DOMAIN, "--sites", "39-41,54", "-n", "200"]
    assert main([*words, "--out", str(file)]) == 0
    rows = vocabulary(run.facts["vocabulary"]).encode(file.read_text().split())
    truth = run.recipe.load(str(tmp_path / "splits.zip")).truth
    assert truth.valid(rows).all()
    # Of random variants few were measured, and of the others nothing is made up.
    values = truth.value(rows)
    fours = ["".join(s[i] for i in (38, 39, 40, 53)) for s in file.read_text().split()]
    expected = known if table else kept
    assert [v.item() for v in values[values.isfinite()]] == [
        expected[four] for four in fours if four in expected
    ]
    capsys.readouterr()


def test_the_pool_is_cut_by_value_and_no_run_is_in_both_parts():
    recipe = Proteins(**SMALL, held_out=0.3)
    split = recipe.load("ehrlich")
    low, high = (split.truth.value(part.values) for part in (split.train, split.held_out))
    assert low.max() < high.min()
    rows = torch.cat((split.train.values, split.held_out.values))
    assert len({tuple(row) for row in rows.tolist()}) == len(rows)
    assert 0 < len(high) <= 0.3 * len(rows)
    more = (low == low.max()).sum()  # equal ones that are not held out
    assert len(high) + more >= 0.3 * len(rows)
    again = Proteins(**SMALL, held_out=0.3).load("ehrlich")
    other = Proteins(**SMALL, held_out=0.3, landscape_seed=1).load("ehrlich")
    assert again.fingerprint() == split.fingerprint() != other.fingerprint()


def test_the_data_are_their_own_labels_and_contexts():
    recipe = Proteins(**SMALL, context=300)
    split = recipe.load("ehrlich")
    facts, f = recipe.facts(split), recipe.function
    for name, part in (("ehrlich", split.train), ("ehrlich:high", split.held_out)):
        found = recipe.labelled(name, facts, None)
        assert torch.equal(found.rows.values, part.values)
        assert torch.equal(found.labels, f.value(part.values).double()[:, None])
        assert found.names == ("value",)
        assert found.lines == ()
    context = recipe.unlabelled("ehrlich", facts).values
    assert f.valid(context).all()
    rows, seen = ({tuple(r) for r in v.tolist()} for v in (context, split.train.values))
    assert len(rows) == len(context) > 100
    assert not rows & seen
    with pytest.raises(ValueError, match="no rows for validation: leave :validation out"):
        recipe.labelled("ehrlich:validation", facts, None)
    with pytest.raises(ValueError, match="has one label, value, and not fitness"):
        recipe.labelled("ehrlich", facts, ("fitness",))


def test_guides_are_made_of_the_data_and_hits_say_what_is_true(tmp_path, capsys):
    out, file = tmp_path / "run", tmp_path / "hits.csv"
    command = ["train", "context-proteins", "--data", "ehrlich", "--out", str(out), *TINY]
    assert main([*command, *words_of(SMALL | {"banned": 0.0}), "--no-evaluate"]) == 0
    words = ["guide", str(out), "--labels", "ehrlich", "--context", "ehrlich", "--steps", "5"]
    assert main([*words, "--shifted", "ehrlich:high", "--width", "8", "--depth", "1"]) == 0
    words = ["sample", str(out), "--guide", str(out / "guides" / "context-0")]
    words += ["--target", "maximise", "-n", "60", "--out", str(file)]
    assert main(words) == 0
    capsys.readouterr()
    run = noiseloom.load(out)
    with file.open() as table:
        rows = list(csv.DictReader(table))
    assert rows
    tokens = vocabulary(run.facts["vocabulary"]).encode([row["structure"] for row in rows])
    f = run.recipe.function
    assert f.valid(tokens).all()  # what is infeasible is invalid, and no hit
    assert [float(row["true_value"]) for row in rows] == pytest.approx(
        f.value(tokens).tolist(), rel=1e-5
    )


def test_guides_of_gb1_know_nothing_that_was_not_measured(tmp_path, capsys):
    known = cases.measured(3000)
    path = cases.splits_zip(tmp_path / "splits.zip", known)
    recipe = Proteins(table=str(path), context=50)
    split = recipe.load(str(path))
    facts = json.loads(json.dumps(recipe.facts(split)))
    found = {}
    for part in ("", ":high", ":validation"):
        labelled = recipe.labelled(f"{path}{part}", facts, None)
        found[part] = labelled.labels
        assert not labelled.labels.isnan().any()
    assert found[""].max() < 1 <= found[":high"].min()
    assert found[":validation"].max() < 1
    assert split.truth.valid(recipe.unlabelled(str(path), facts).values).all()

    rows = split.truth.draw(2000, Rng(0))
    cells = recipe.cells(None, facts, rows)
    values = split.truth.value(rows)
    assert recipe.columns(facts) == ("structure", "true_value")
    assert [cell[1] == "" for cell in cells] == values.isnan().tolist()
    assert 0 < values.isfinite().sum() < 2000
    assert Proteins().columns(facts) == ("structure",)
    assert Proteins().cells(None, facts, rows[:1]) == [cells[0][:1]]
    with pytest.raises(ValueError, match="the run is of gb1, the data of ehrlich"):
        recipe.labelled("ehrlich", facts, None)
    # A table of one's own is read as any other.
    (tmp_path / "own.csv").write_text(f"sequence,y\n{cases.DOMAIN},1\n{cases.DOMAIN},2\n")
    assert recipe.labelled(str(tmp_path / "own.csv"), facts, None).labels.tolist() == [[1], [2]]
    capsys.readouterr()


def test_what_counts_is_valid_and_distinct():
    recipe = Proteins(**SMALL, samples=6)
    split, f = recipe.load("ehrlich"), recipe.function
    best, bad = f.optimum(), f.optimum()
    bad[0] = 6  # it would have ended there
    seen = split.train.values[0].long()
    rows = torch.stack((best, best, bad, seen, seen, seen))
    found = recipe.evaluate(lambda given: rows, split, Rng(0))
    assert found["valid"] == pytest.approx(5 / 6)
    assert found["unique"] == pytest.approx(2 / 5)
    assert found["novel"] == pytest.approx(1 / 2)
    assert found["value"] == pytest.approx((2 + 3 * f.value(seen[None]).item()) / 5)
    assert found["value_top"] == found["value_best"] == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"letters": 1}, "letters must be 2 to 52"),
        ({"letters": 53}, "letters must be 2 to 52"),
        ({"pool": 1}, "pool at least 2"),
        ({"context": 0}, "context must be at least 1"),
        ({"held_out": 1.0}, "share between 0 and 1"),
        ({"spelling": "smiles"}, "spelling is of other sequences: leave it at auto"),
        ({"chemistry": True}, "chemistry is of other sequences: leave it at false"),
        ({"split": "part"}, "split must be one of low_vs_high, one_vs_rest"),
    ],
)
def test_options_that_do_not_fit_are_one_line(options, message):
    with pytest.raises(ValueError, match=message):
        Proteins(**options)


def test_data_that_do_not_fit_are_one_line(tmp_path):
    with pytest.raises(ValueError, match="needs --data FILE of GB1's variants"):
        Proteins().load(None)
    with pytest.raises(FileNotFoundError, match=r"no file .*none.zip"):
        Proteins().load(str(tmp_path / "none.zip"))
    with pytest.raises(ValueError, match=r"length >= motifs \* motif_length"):
        Proteins(length=7).load("ehrlich")
    with pytest.raises(ValueError, match="worth more than the rest"):
        Proteins(pool=20, quantisation=1).load("ehrlich")
