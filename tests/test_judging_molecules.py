"""SMILES are judged as molecules where RDKit is there, and as strings where it is not."""

import json

import pytest

import noiseloom
from noiseloom.cli import main
from noiseloom.data import read_sequences
from noiseloom.metrics import sequences
from noiseloom.recipes import RECIPES, Sequences
from noiseloom.recipes.classes import TokenSplit
from noiseloom.rng import Rng

SMILES = [f"{'C' * (i % 5 + 1)}{end}" for i in range(40) for end in ("O", "N", "Cl", "=O")]
DRAWN = ["OCC", "CCO", "C(C", "CCBr", "CC=C=C=C=C"]  # a training molecule twice, none, two new


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "mine.smi"
    path.write_text("\n".join([*SMILES, *DRAWN[3:], "C(C)(C)"]) + "\n")
    return path


def judged(path, recipe):
    split, words = read_sequences(path, held_out=0.3)
    known = words.encode(SMILES)
    data = TokenSplit(
        type(split.train)(known, split.train.sizes), split.held_out, split.notes, words
    )
    return recipe.evaluate(lambda _: words.encode(DRAWN), data, Rng(0))


def test_smiles_are_molecules(data):
    pytest.importorskip("rdkit")
    for options in ({}, {"chemistry": True}):
        found = judged(data, Sequences(samples=5, **options))
        assert found["valid"] == pytest.approx(4 / 5)
        assert found["unique"] == pytest.approx(3 / 4)  # OCC is CCO
        assert found["novel"] == pytest.approx(2 / 3)
    as_strings = judged(data, Sequences(samples=5, chemistry=False))
    assert "valid" not in as_strings
    assert as_strings["unique"] == 1
    assert as_strings["novel"] == pytest.approx(4 / 5)


def test_without_rdkit_they_are_strings(data, monkeypatch):
    def missing():
        raise ImportError("molecules need RDKit")

    monkeypatch.setattr(sequences, "chemistry", missing)
    monkeypatch.setattr(noiseloom.recipes.sequences, "chemistry", missing)
    assert "valid" not in judged(data, Sequences(samples=5))
    Sequences().check()
    with pytest.raises(ImportError, match="RDKit"):
        Sequences(chemistry=True).check()


def test_other_sequences_are_no_molecules(tmp_path):
    path = tmp_path / "mine.fasta"
    path.write_text("".join(f">{i}\n{'ACDE'[i % 4] * (i % 3 + 1)}\n" for i in range(40)))
    split, words = read_sequences(path, held_out=0.3)
    data = TokenSplit(split.train, split.held_out, split.notes, words)
    found = Sequences().evaluate(lambda _: split.held_out.values.long(), data, Rng(0))
    assert "valid" not in found


def test_novel_is_of_all_that_was_trained_on(data, monkeypatch):
    monkeypatch.setattr(noiseloom.recipes.classes, "_JUDGED", 50)  # tokens: five rows of ten
    found = judged(data, Sequences(samples=5, chemistry=False))
    assert found["novel"] == pytest.approx(4 / 5)


def test_how_samples_are_judged_is_no_part_of_a_training(data, tmp_path):
    pytest.importorskip("rdkit")
    assert "chemistry" in RECIPES["sequences"].changeable()
    out = tmp_path / "run"
    words = ["train", "sequences", "--data", str(data), "--out", str(out), "--width", "16"]
    words += ["--depth", "1", "--heads", "2", "--steps", "2", "--samples", "8", "--levels", "2"]
    assert main([*words, "--held-out", "0.3", "--sampling-steps", "2"]) == 0
    assert "valid" in json.loads((out / "evaluation.json").read_text())
    as_strings = noiseloom.load(out).with_options(chemistry=False)
    assert "valid" not in as_strings.evaluate()
    assert "valid" in json.loads((out / "evaluation.json").read_text())
