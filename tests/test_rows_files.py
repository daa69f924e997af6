"""What `sample --out` writes is read back equal, by the readers of the project; else it is refused.

The runs have sampling replaced by rows that are made here, so that nothing has to be learnt.
"""

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from noiseloom.cli import main
from noiseloom.data import Numbers, Palette, Symbols, read_sequences, read_table
from noiseloom.data.characters import Characters
from noiseloom.data.sequence_files import read_records
from noiseloom.data.table_cells import read_cells
from noiseloom.data.table_writing import WRITTEN
from noiseloom.rows import rows_endings, write_rows


@dataclass
class Drawn:
    """As much of a run as writing asks for: tokens that it would draw, and what they mean."""

    facts: dict[str, Any]
    tokens: torch.Tensor

    def samples(self, given, seed):
        return self.tokens[: len(given["row"])]


def drawn(words, tokens):
    return Drawn({"vocabulary": words.facts()}, tokens)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A table of every kind of column, with commas, quotes, digits that are text and gaps."""
    draw = random.Random(0)
    lines = ["city,zip,age,score,income,fare"]
    for _ in range(300):
        city = draw.choice(["Oslo", '"New, York"', '"a ""hi"""', ""])
        cells = [city, draw.choice(["02134", "10115"]), str(draw.randint(18, 60))]
        cells += [draw.choice(["0.5", "1.5", ""]), str(draw.randint(-(10**7), 10**7))]
        lines.append(",".join([*cells, f"{draw.gauss(9, 3):.2f}"]))
    path = tmp_path_factory.mktemp("table") / "a.csv"
    path.write_text("\n".join(lines) + "\n")
    return read_table(path)


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".parquet", ".CSV"])
def test_tables_are_read_back(table, tmp_path, ending):
    if ending == ".parquet":
        pytest.importorskip("pyarrow")
    split, words = table
    tokens, path = split.train.values[:50], tmp_path / f"a{ending}"
    write_rows(drawn(words, tokens), path, data=None, count=50, seed=0)
    cells, places = read_cells(path, words.names, ())
    assert torch.equal(words.encode(cells, places), tokens.long())
    again, _ = read_table(path, vocabulary=words)
    both = torch.cat([again.train.values, again.held_out.values])
    assert sorted(both.tolist()) == sorted(tokens.tolist())


PROTEINS = Symbols(tuple("ACDEFGHIKLMNPQRSTVWY"), 150)
SMILES = Symbols(("C", "Br", "c", "1", "[nH]", "(", ")"), 9, "smiles")


@pytest.mark.parametrize(
    ("words", "endings"),
    [
        (PROTEINS, (".txt", ".csv", ".fasta", ".fa", ".faa", ".fna")),
        (SMILES, (".txt", ".csv", ".smi")),
    ],
)
def test_sequences_are_read_back(words, endings, tmp_path):
    tokens = torch.randint(0, words.end, (40, words.length), generator=torch.Generator())
    ends = torch.arange(40) % words.length + 1
    tokens[torch.arange(words.length) >= ends[:, None]] = words.end
    texts = words.decode(tokens)
    assert rows_endings(drawn(words, tokens)) == endings
    for ending in endings:
        path = tmp_path / f"a{ending}"
        write_rows(drawn(words, tokens), path, data=None, count=40, seed=0)
        assert [record.text for record in read_records(path, None, None)[0]] == texts
        split, _ = read_sequences(path, vocabulary=words)
        assert len(split.train) + len(split.held_out) == len(set(texts))
        assert path.read_text().startswith(">") is ending.startswith(".f")


def test_fasta_leaves_out_what_it_cannot_hold(tmp_path, capsys):
    tokens = PROTEINS.encode(["MK", "", "VL"])
    path = tmp_path / "a.fasta"
    write_rows(drawn(PROTEINS, tokens), path, data=None, count=3, seed=0)
    assert path.read_text() == ">sample-1\nMK\n>sample-3\nVL\n"
    assert "1 sample without symbols" in capsys.readouterr().err


def test_numbers_and_pictures_are_arrays(tmp_path):
    words = Numbers(8, 5)
    tokens = torch.arange(40).reshape(8, 5) % 8
    write_rows(drawn(words, tokens), tmp_path / "a.NPY", data=None, count=8, seed=0)
    assert np.array_equal(np.load(tmp_path / "a.NPY"), tokens.numpy())
    palette = Palette(((0, 0, 0), (255, 0, 7)), 2)
    tokens = torch.tensor([[0, 1, 1, 0], [1, 1, 1, 0]])
    write_rows(drawn(palette, tokens), tmp_path / "b.npy", data=None, count=2, seed=0)
    assert np.array_equal(np.load(tmp_path / "b.npy"), palette.pixels(tokens).numpy())


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        (Characters("ab c"), (".png", ".parquet", ".npy", ".fasta", "")),
        (SMILES, (".fasta", ".npy", ".xlsx")),  # FASTA is read as upper case
        (PROTEINS, (".smi", ".parquet", ".png", ".txt.gz")),
        (Numbers(3, 4), (".fasta", ".parquet")),
        (Palette(((0, 0, 0), (9, 9, 9)), 2), (".fasta", ".txt")),
    ],
)
def test_other_endings_are_none_of_a_run(words, refused):
    endings = rows_endings(drawn(words, torch.zeros(1)))
    assert not any("a" + ending in [f"a{known}" for known in endings] for ending in refused)
    assert len(set(endings)) == len(endings)


@pytest.mark.parametrize("ending", [".xlsx", ".csv.gz", ".png"])
def test_tables_of_other_endings_are_refused(table, tmp_path, ending):
    split, words = table
    with pytest.raises(ValueError, match=r"are written as \.csv, \.tsv, \.parquet"):
        words.write_rows(tmp_path / "new" / f"a{ending}", split.train.values)
    assert not list(tmp_path.iterdir())
    assert rows_endings(drawn(words, split.train.values)) == WRITTEN


def test_the_command_refuses_them_before_it_draws(tmp_path, capsys):
    text, out = tmp_path / "a.txt", tmp_path / "run"
    text.write_text("so it goes on " * 60)
    tiny = ["--steps", "2", "--batch-size", "4", "--width", "8", "--depth", "1", "--heads", "2"]
    command = ["train", "text", "--data", str(text), "--out", str(out), "--length", "8", *tiny]
    assert main([*command, "--no-evaluate"]) == 0
    for ending in (".png", ".npy", ".parquet", ".fasta"):
        path = tmp_path / f"x{ending}"
        assert main(["sample", str(out), "-n", "2", "--out", str(path)]) == 2
        last = capsys.readouterr().err.strip().splitlines()[-1]
        assert f"{path}: rows of this run are written as .txt, .md" in last
        assert not path.exists()
