"""Bits per token of sequences: by their symbols and their end, not by what fills up their rows."""

import json
import math
import re
import shlex

import pytest
import torch

from noiseloom.cli import main
from noiseloom.metrics.rows import mean_and_error
from noiseloom.recipes.class_pieces import mean_bits
from noiseloom.rng import Rng

END = 4


def rows_of(lengths, columns):
    tokens = Rng(0).integers(END, (len(lengths), columns))
    return tokens.masked_fill(torch.arange(columns) >= torch.tensor(lengths)[:, None], END)


def test_of_equal_length_nothing_changes():
    tokens, nats = rows_of([7] * 50, 7), 20 * Rng(1).uniform((50,), torch.float64)
    found = mean_and_error(nats / 7 / math.log(2))
    assert mean_bits(nats, tokens) == found
    assert mean_bits(nats, tokens, END) == found


def test_a_model_that_knows_the_end_has_the_entropy_of_a_symbol_at_any_padding():
    # Uniform symbols cost 2 bits each, the end and what fills rows up nothing.
    lengths = (Rng(2).integers(9, (400,)) + 1).tolist()
    nats = 2 * math.log(2) * torch.tensor(lengths, dtype=torch.float64)
    expected = 2 * sum(lengths) / (sum(lengths) + len(lengths))
    for columns in (10, 120):
        bits, error = mean_bits(nats, rows_of(lengths, columns), END)
        assert bits == pytest.approx(expected)
        assert error == pytest.approx(expected / 2 * 0.03, rel=1)
    # Rows that are full have no end.
    assert mean_bits(nats, rows_of(lengths, 9), END)[0] > expected


def test_the_error_is_that_of_a_ratio():
    """Over many draws the ratio has the deviation that one draw says it has."""
    ratios, errors = [], []
    for i in range(300):
        rng = Rng(3).fold("draw", i)
        lengths = rng.integers(20, (100,)) + 1
        nats = (lengths + 1) * (1 + rng.fold("price").normal((100,), dtype=torch.float64) / 4)
        bits, error = mean_bits(nats, rows_of(lengths.tolist(), 30), END)
        ratios.append(bits)
        errors.append(error)
    spread = float(torch.tensor(ratios).std())
    assert spread == pytest.approx(sum(errors) / len(errors), rel=5 / math.sqrt(2 * 300))


def test_padding_changes_no_figure_by_its_length(tmp_path, capsys):
    """A masked model that learnt next to nothing pays log2 K for a symbol, at 40 places too."""
    path = tmp_path / "mine.fasta"
    letters = Rng(4).integers(4, (60, 12))
    lines = ["".join("ACGT"[k] for k in row[: 6 + i % 7]) for i, row in enumerate(letters)]
    path.write_text("".join(f">{i}\n{line}\n" for i, line in enumerate(lines)))
    out = tmp_path / "run"
    words = ["train", "sequences", "--data", str(path), "--longest", "40", "--out", str(out)]
    words += shlex.split(
        "--width 16 --depth 1 --heads 2 --batch-size 8 --warmup 2 --samples 24 "
        "--sampling-steps 4 --steps 2 --levels 8 --held-out 0.4 --judged 24"
    )
    assert main(words) == 0
    found = json.loads((out / "evaluation.json").read_text())
    held = [len(line) for line in lines]  # of all; those that are held out have about the mean
    tokens = found["bits_per_row"] / found["bits_per_token"]
    assert tokens == pytest.approx(sum(held) / len(held) + 1, rel=0.15)
    # An untrained network pays log2 5 for each of 40 places.
    assert found["bits_per_row"] == pytest.approx(40 * math.log2(5), rel=0.15)
    assert found["bits_per_row_se"] > 0
    assert main(["report", str(out)]) == 0
    page = (out / "report.html").read_text()
    assert re.search("bits per sequence&nbsp;↓", page)
