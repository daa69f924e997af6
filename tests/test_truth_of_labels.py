"""What a recipe knows of samples is the truth of its own labels, not of others of the same name."""

import csv
import json
import random
from pathlib import Path

import pytest
import torch
from guided import GUIDE

import noiseloom
from noiseloom.cli import main
from noiseloom.recipes import ContextBenzenoids, ContextMolecules, ContextProteins, Sequences

PROTEINS = ["--letters", "6", "--length", "10", "--motifs", "2", "--motif-length", "3"]
PROTEINS += ["--banned", "0", "--pool", "1000", "--width", "16", "--depth", "1", "--heads", "2"]
PROTEINS += ["--steps", "20", "--sampling-steps", "4", "--no-evaluate"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose values are known, a guide of them, and one of random numbers of their name."""
    folder = tmp_path_factory.mktemp("runs") / "motifs"
    train = ["train", "context-proteins", "--data", "ehrlich", "--out", str(folder)]
    assert main([*train, *PROTEINS]) == 0
    own, draw = noiseloom.load(folder, device="cpu"), random.Random(0)
    drawn = own.samples({"row": torch.arange(40)}, seed=0)
    rows = torch.cat((drawn[::2], own.recipe.function.draw(200, noiseloom.Rng(5))))
    keys = dict.fromkeys(own.recipe.keys(own.parts, own.facts, rows))
    with (folder.parent / "own.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [("sequence", "value"), *((key, f"{draw.gauss(50, 1):.3f}") for key in keys if key)]
        )
    for name, labels in (("known", "ehrlich"), ("own", str(folder.parent / "own.csv"))):
        words = ["guide", str(folder), "--labels", labels, "--method", "none", *GUIDE]
        assert main([*words, "--steps", "5", "--out", str(folder / "guides" / name)]) == 0
    return folder


def evaluated(capsys, *words):
    capsys.readouterr()
    words = ["evaluate", *map(str, words), "--target", "maximise", "--scales", "0,1", "--json"]
    assert main([*words, "--samples", "40"]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_values_are_not_the_truth_of_other_labels_of_that_name(run, tmp_path, capsys):
    told = evaluated(capsys, run, "--guide", run / "guides/known", "--out", tmp_path / "known")
    assert all({"best", "mean", "measured"} <= row["mean"].keys() for row in told["rows"])
    assert not any("true" in note or "truly" in note for note in told["notes"])

    own, file = run / "guides" / "own", run.parent / "own.csv"
    told = evaluated(capsys, run, "--guide", own, "--out", tmp_path / "own")
    for row in told["rows"]:
        assert not {"best", "mean", "measured", "beyond", "picked"} & row["mean"].keys()
    assert told["rows"][1]["mean"]["claimed"] == pytest.approx(50, abs=2)
    (note,) = [note for note in told["notes"] if "--truth" in note]
    assert note.startswith("value of own.csv: labels that are not made by context-proteins itself")

    told = evaluated(capsys, run, "--guide", own, "--out", tmp_path / "told", "--truth", file)
    with file.open(newline="") as text:
        known = {row["sequence"]: float(row["value"]) for row in csv.DictReader(text)}
    loaded = noiseloom.load(run, device="cpu")
    drawn = loaded.samples({"row": torch.arange(40)}, seed=0)
    there = {*loaded.recipe.keys(loaded.parts, loaded.facts, drawn)} & set(known)
    assert told["rows"][0]["mean"]["best"] == pytest.approx(
        sum(known[k] for k in there) / len(there)
    )
    assert not any("--truth" in note for note in told["notes"])


def test_cells_that_were_judged_by_a_truth_of_the_name_are_not_taken(run, tmp_path, capsys):
    """Their files are of another name: cells of old had the recipe's values in them."""
    own = ["--guide", run / "guides" / "own", "--out", tmp_path / "own"]
    evaluated(capsys, run, *own)
    names = {path.name for path in (tmp_path / "own" / "cells").iterdir()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ContextProteins, "labels_itself", lambda self, path: True)
        told = evaluated(capsys, run, *own)
    assert "best" in told["rows"][0]["mean"]
    after = {path.name for path in (tmp_path / "own" / "cells").iterdir()}
    assert len(after) == 2 * len(names)
    assert "best" not in evaluated(capsys, run, *own)["rows"][0]["mean"]


@pytest.mark.parametrize(
    ("recipe", "own", "others"),
    [
        (ContextProteins(), ["ehrlich", "ehrlich:high", "/far/gb1.zip:validation"], ["a.csv"]),
        (ContextBenzenoids(rings=5), ["train", "others", "validation"], ["a.csv", "gaps.parquet"]),
        (
            ContextMolecules(),
            ["zinc.smi", "/far/zinc.smi:high", "all.csv:train"],
            ["a.csv", "a.parquet", "a.tsv.gz"],
        ),
        (Sequences(), [], ["a.csv"]),
    ],
)
def test_labels_that_a_recipe_makes_are_its_own(recipe, own, others):
    assert [recipe.labels_itself(path) for path in own] == [True] * len(own)
    assert [recipe.labels_itself(path) for path in others] == [False] * len(others)
    for word in recipe.own_sources.values():
        assert recipe.labels_itself(word)


def test_a_column_called_qed_is_not_qed(tmp_path, capsys):
    pytest.importorskip("rdkit", reason="needs the extra chem")
    sample, folder = Path(__file__).parent / "data" / "zinc_sample.smi", tmp_path / "run"
    words = ["--data", str(sample), "--out", str(folder), "--width", "16", "--edge-width", "8"]
    words += ["--depth", "1", "--heads", "2", "--max-atoms", "12", "--sampling-steps", "4"]
    assert main(["train", "context-molecules", *words, "--steps", "5", "--no-evaluate"]) == 0
    smiles = ["CCO", "CCN", "CCCC", "c1ccccc1", "CC(C)O", "CCCN", "CC=O", "OCCO"]
    (tmp_path / "own.csv").write_text(
        "\n".join(["smiles,qed", *(f"{s},{i}" for i, s in enumerate(smiles))]) + "\n"
    )
    words = ["guide", str(folder), "--labels", str(tmp_path / "own.csv"), "--method", "none"]
    assert main([*words, *GUIDE, "--steps", "5"]) == 0
    told = evaluated(capsys, folder, "--guide", "none-0")
    assert "best" not in told["rows"][0]["mean"]
    assert any(note.startswith("qed of own.csv: ") for note in told["notes"])
