"""Sequences that a landscape rules out: parents and labels of them are refused, and it says why."""

import sys
from pathlib import Path

import pytest
import torch

import noiseloom
from noiseloom import Rng
from noiseloom.cli import main
from noiseloom.data import Variants, ehrlich
from noiseloom.data.gb1 import AMINO_ACIDS

sys.path.insert(0, str(Path(__file__).parent / "data"))
import gb1_cases as cases

TINY = ["--steps", "4", "--batch-size", "8", "--width", "16", "--depth", "1", "--heads", "2"]
TINY += ["--sampling-steps", "4", "--no-evaluate"]


@pytest.fixture(scope="module")
def motifs(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "motifs"
    words = ["train", "context-proteins", "--data", "ehrlich", "--out", str(out), *TINY]
    assert main([*words, "--letters", "6", "--length", "10", "--motif-length", "3"]) == 0
    return out


@pytest.fixture(scope="module", params=["", "table.zip"])
def gb1(request, tmp_path_factory):
    """A run on variants, that knows all measurements or none."""
    folder, known = tmp_path_factory.mktemp("gb1"), cases.measured(60)
    cases.splits_zip(folder / "splits.zip", known)
    text = cases.table_text(known, known)
    cases.write_zip(folder / "table.zip", {"four_mutations_full_data.csv": text})
    words = ["train", "context-proteins", "--data", str(folder / "splits.zip"), *TINY]
    words += ["--table", str(folder / request.param)] if request.param else []
    assert main([*words, "--out", str(folder / "run")]) == 0
    return folder / "run"


def line_of(capsys, *words):
    capsys.readouterr()
    assert main([str(word) for word in words]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def mutated(site, letter):
    return cases.DOMAIN[: site - 1] + letter + cases.DOMAIN[site:]


def test_a_parent_that_gb1_has_not_is_refused(gb1, tmp_path, capsys):
    words = ["sample", gb1, "--sites", "1-3", "--out", tmp_path / "x.txt", "--parent"]
    line = line_of(capsys, *words, "MQYK")
    assert line.endswith("the parent cannot be: it has 4 residues, and GB1 has 56")
    assert line_of(capsys, *words, mutated(7, "A")).endswith(
        "it has A at site 7, where GB1 has L: variants differ at 39, 40, 41 and 54 alone"
    )
    assert not list(tmp_path.iterdir())
    words[3] = "39-41,54"
    assert main([*map(str, words), mutated(39, "W"), "-n", "4"]) == 0


def test_a_parent_that_the_chain_cannot_make_is_refused(motifs, tmp_path, capsys):
    run = noiseloom.load(motifs, device="cpu")
    f = run.recipe.function
    words = ["sample", motifs, "--max-edits", "2", "--out", tmp_path / "x.txt", "--parent"]
    assert line_of(capsys, *words, "AAAA").endswith(
        "the parent cannot be: it has 4 letters, and all have 10"
    )
    banned = [(a, b) for a in range(6) for b in range(6) if f.transitions[a, b] == 0]
    a, b = banned[0]
    good = "".join(AMINO_ACIDS[i] for i in f.optimum())
    bad = AMINO_ACIDS[a] * 9 + AMINO_ACIDS[b]
    assert line_of(capsys, *words, bad).endswith(
        f"the chain bans {AMINO_ACIDS[b]} after {AMINO_ACIDS[a]}, letters 9 and 10"
    )
    assert main([*map(str, words), good, "-n", "4"]) == 0


def test_there_is_a_reason_where_a_row_is_not_valid_and_nowhere_else():
    f = ehrlich(Rng(0), classes=6, length=10, motifs=2, motif_length=3)
    rows = Rng(1).integers(7, (500, 10))
    assert [not f.why_not(row, "ACDEFG") for row in rows] == f.valid(rows).tolist()
    rows = f.draw(50, Rng(2))
    assert not any(f.why_not(row, "ACDEFG") for row in rows)
    own = Variants.words.encode([cases.DOMAIN])
    rows = own.repeat(300, 1)
    places = Rng(3).integers(56, (300,))
    rows[torch.arange(300), places] = Rng(4).integers(21, (300,))
    valid = Variants({"VDGV": 1.0}).valid(rows)
    assert 0 < valid.sum() < 300
    assert [not Variants.why_not(row, AMINO_ACIDS) for row in rows] == valid.tolist()


@pytest.mark.parametrize(
    ("sequence", "why"),
    [
        (mutated(7, "A"), "it has A at site 7, where GB1 has L: variants differ at 39, 40, 41 and"),
        (cases.DOMAIN[:-1], "it has 55 residues, and GB1 has 56"),
    ],
)
def test_a_label_of_a_sequence_that_gb1_has_not_is_told_why(gb1, sequence, why, tmp_path, capsys):
    rows = [f"{mutated(39, letter)},{i}" for i, letter in enumerate("ACDEFG")]
    path = tmp_path / "labels.csv"
    path.write_text("\n".join(["sequence,y", *rows, f"{sequence},9"]) + "\n")
    words = ["guide", gb1, "--labels", path, "--method", "none", "--width", "8", "--depth", "1"]
    words += ["--steps", "2", "--out", tmp_path / "guide"]
    if noiseloom.load(gb1, device="cpu").recipe.table:
        line = line_of(capsys, *words)
        assert f"labels.csv, line 8: the sequence cannot be: {why}" in line
        assert line.endswith(": leave the row out")
        assert not (tmp_path / "guide").exists()
    else:  # of which nobody asks the landscape whether they are valid
        assert main([str(word) for word in words]) == 0


def test_a_label_of_a_sequence_that_the_chain_cannot_make_is_told_why(motifs, tmp_path, capsys):
    f = noiseloom.load(motifs, device="cpu").recipe.function
    good = ["".join(AMINO_ACIDS[i] for i in row) for row in f.draw(8, Rng(1)).tolist()]
    path = tmp_path / "labels.csv"
    rows = [f"{text},{i}" for i, text in enumerate([*dict.fromkeys(good), "A" * 9])]
    path.write_text("\n".join(["sequence,y", *rows]) + "\n")
    line = line_of(capsys, "guide", motifs, "--labels", path, "--method", "none")
    told = "the sequence cannot be: it has 9 letters, and all have 10: leave the row out"
    assert line.endswith(f"labels.csv, line {len(rows) + 1}: {told}")


def test_flips_own_file_of_whole_constructs_is_read_as_the_one_in_its_zip(gb1, tmp_path):
    run, known = noiseloom.load(gb1, device="cpu"), cases.measured(60)
    path = tmp_path / "low_vs_high.csv"
    path.write_text(cases.split_text(known))
    found = run.recipe.labelled(str(path), run.facts, None)
    assert found.names == ("target",)
    texts = Variants.words.decode(found.rows.values)
    assert texts == [cases.variant(four)[:56] for four in known]
    assert found.labels[:, 0].tolist() == list(known.values())
    assert len(run.recipe.unlabelled(str(path), run.facts)) == len(known)
    # What is as long, and something else, is still too long.
    path.write_text(f"sequence,y\n{'A' * 265},1\n{'C' * 265},2\n")
    with pytest.raises(ValueError, match="line 2 has 265 symbols, and 56 are the most"):
        run.recipe.labelled(str(path), run.facts, None)
