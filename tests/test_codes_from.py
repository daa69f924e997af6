"""Samples that are told codes of one's own, from a file: what is drawn, and what is refused."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import noiseloom as nl
from noiseloom.cli import main
from noiseloom.terminal import save_picture

TINY = "--steps 2 --batch-size 8 --width 8 --no-evaluate --sampling-steps 2"
CODED = ["--prior", "none"]
DIGITS = "--head-width 8 --multipliers [1] --blocks 1 --encoder-width 8 --encoder-depth 1"
DIGITS += " --encoder-heads 2 --m 2 --k 6 --conditional"
ROWS = [[0, 5], [3, 1], [0, 5], [2, 2], [5, 0]]


def made(out, recipe, *words):
    """A run without prior; its weights are shaken, so that codes matter."""
    assert main(["train", recipe, "--out", str(out), *TINY.split(), *words]) == 0
    run = nl.load(out, device="cpu")
    with torch.no_grad():
        for i, parameter in enumerate(run.denoiser.parameters()):
            parameter += 0.3 * nl.Rng(1).fold("shake", i).normal(parameter.shape)
    save_file(run.denoiser.state_dict(), out / "ema.safetensors")
    return nl.load(out, device="cpu")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    place = tmp_path_factory.mktemp("runs")
    return {
        "digits": made(place / "digits", "disco-digits", *CODED, *DIGITS.split()),
        "points": made(place / "points", "disco-mixture", *CODED, "--m", "2", "--k", "6"),
    }


@pytest.fixture
def files(tmp_path, monkeypatch):
    """The same codes in every kind of file, in the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.csv").write_text("0, 5\n3,1\n\n0,5\n2,2\n5,0\n")
    np.save("own.npy", np.array(ROWS))
    np.save("floats.npy", np.array(ROWS, dtype=np.float32))
    np.save("bytes.npy", np.array(ROWS, dtype=np.uint8))
    return "own.csv", "own.npy", "floats.npy", "bytes.npy"


def test_pictures_are_told_the_codes_of_a_file(runs, files, capsys):
    run, labels = runs["digits"], torch.arange(5)
    given = {"label": labels, "codes": torch.tensor(ROWS)}
    pixels = run.pixels(given, seed=3)
    assert torch.equal(pixels, run.samples(given, seed=3).to(torch.uint8))
    save_picture("expected.png", pixels, 16)
    expected = Path("expected.png").read_bytes()
    sample = ["sample", str(run.folder), "--seed", "3"]
    for file in files:  # as many samples as it has rows
        capsys.readouterr()
        words = [*sample, "--codes-from", file, "--out", f"{file}.png", "--json"]
        assert main(words) == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["codes"], told["labels"]) == (ROWS, labels.tolist())
        assert Path(f"{file}.png").read_bytes() == expected
    other = run.pixels({**given, "codes": torch.tensor(ROWS).flip(1)}, seed=3)
    assert not torch.equal(other, pixels)
    # Fewer are the first; a class holds for all.
    assert (
        main([*sample, "--codes-from", "own.csv", "-n", "2", "--label", "7", "--out", "7.png"]) == 0
    )
    seven = {"label": torch.full((2,), 7), "codes": torch.tensor(ROWS[:2])}
    save_picture("two.png", run.pixels(seven, seed=3), 16)
    assert Path("7.png").read_bytes() == Path("two.png").read_bytes()


def test_codes_of_pictures_are_a_file_of_codes(runs, files, capsys):
    run = runs["digits"]
    data = run.recipe.load(None).held_out
    codes = run.recipe.encoded(run.parts, run.facts, data, nl.Rng(0)).codes  # as the README has it
    np.save("codes.npy", codes)
    words = ["sample", str(run.folder), "--codes-from", "codes.npy", "-n", "9", "--out", "9.png"]
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["codes"] == codes[:9].tolist()


def test_points_are_told_the_codes_of_a_file(runs, files, capsys):
    run = runs["points"]
    assert main(["sample", str(run.folder), "--codes-from", "own.csv", "--out", "x.csv"]) == 0
    assert "5 points of 2 coordinates: x.csv" in capsys.readouterr().out
    with open("x.csv", newline="") as file:
        found = torch.tensor([[float(x) for x in row] for row in list(csv.reader(file))[1:]])
    given = {"label": torch.zeros(5, dtype=torch.int64), "codes": torch.tensor(ROWS)}
    torch.testing.assert_close(found, run.samples(given), rtol=1e-6, atol=0)
    assert not torch.allclose(found, run.samples({**given, "codes": given["codes"].flip(1)}))


def test_what_does_not_fit_gets_one_clear_line(runs, files, tmp_path, capsys):
    for name, text in {
        "empty.csv": "",
        "wide.csv": "0,1,2\n",
        "ragged.csv": "0,1\n2\n",
        "high.csv": "0,1\n0,6\n",
        "low.csv": "0,-1\n",
        "half.csv": "0,1\n1.5,1\n",
        "nan.csv": "nan,1\n",
        "head.csv": "z0,z1\n0,1\n",
        "own.txt": "0,1\n",
    }.items():
        (tmp_path / name).write_text(text)
    np.save("wide.npy", np.zeros((3, 4), dtype=np.int64))
    np.save("flat.npy", np.zeros(2, dtype=np.int64))
    np.save("infinite.npy", np.array([[1.0, np.inf]]))
    for words, told in (
        (["none.csv"], "there is no file none.csv"),
        (["own.txt"], "own.txt: codes are read from .npy or .csv"),
        (["empty.csv"], "empty.csv is empty: codes are a row for each sample, of 2 numbers"),
        (["wide.csv"], "row 1 has 3 numbers, and a sample has 2 codes"),
        (["ragged.csv"], "row 2 has 1 number, and a sample has 2 codes"),
        (["wide.npy"], "wide.npy: codes need shape (N, 2), a row for each sample, got (3, 4)"),
        (["flat.npy"], "flat.npy: codes need shape (N, 2), a row for each sample, got (2,)"),
        (["high.csv"], "high.csv: row 2 has 6, and codes of this run are whole numbers 0 to 5"),
        (["low.csv"], "low.csv: row 1 has -1, and codes of this run are whole numbers 0 to 5"),
        (["half.csv"], "half.csv: row 2 has 1.5, and codes of this run are whole numbers 0 to 5"),
        (["nan.csv"], "nan.csv: row 1 has nan, and codes"),
        (["infinite.npy"], "infinite.npy: row 1 has inf, and codes"),
        (["head.csv"], "head.csv cannot be read: line 1 looks like a header (z0, z1), and none"),
        (
            ["own.csv", "-n", "6"],
            "own.csv has codes for 5 samples, and -n is 6: give more rows, or",
        ),
        (["own.csv", "-n", "0"], "-n must be at least 1, got 0"),
        (["own.csv", "--codes", "marginal"], "nothing is drawn by --codes: leave it out"),
        (
            ["own.csv", "--code-temperature", "2"],
            "nothing is drawn by --code-temperature: leave it",
        ),
        (["own.csv", "--code-top-p", "0.5"], "nothing is drawn by --code-top-p: leave it out"),
    ):
        for run in runs.values():
            sample = ["sample", str(run.folder), "--out", "x.out", "--codes-from"]
            assert main([*sample, *words]) == 2, words
            lines = capsys.readouterr().err.splitlines()
            assert len(lines) == 1, lines
            assert told in lines[0], lines
    assert not (tmp_path / "x.out").exists()


def test_one_code_is_one(tmp_path):
    (tmp_path / "own.csv").write_text("0,1\n")
    with pytest.raises(ValueError, match=r"row 1 has 2 numbers, and a sample has 1 code$"):
        nl.data.row_files.read_codes(tmp_path / "own.csv", 1, 3)


def test_runs_without_codes_are_told_none(tmp_path, files, capsys):
    made(tmp_path / "plain", "disco-mixture", "--m", "0")
    capsys.readouterr()
    for run in ("plain", "bits-digits"):
        assert main(["sample", run, "--codes-from", "own.csv", "--out", "x.png"]) == 2
        told = capsys.readouterr().err.splitlines()
        assert told == [
            f"noiseloom: error: {run} was trained without codes: leave --codes-from out"
        ]
    assert main(["sample", "plain", "--codes", "none", "--out", "none.csv"]) == 0  # it is true
    assert main(["sample", "plain", "--codes", "marginal", "--out", "x.csv"]) == 2
    assert "codes changes nothing of a model without codes" in capsys.readouterr().err
    assert main(["prior", "plain"]) == 2
    told = capsys.readouterr().err
    assert "plain has no codes for a prior to draw: it was trained with --m 0" in told


def test_options_of_codes_that_change_nothing_are_refused(runs, tmp_path, capsys):
    made(tmp_path / "plain", "disco-mixture", "--m", "0")
    capsys.readouterr()
    plain, coded = tmp_path / "plain", runs["points"].folder
    without, marginal = "a model without codes", "samples of codes marginal"
    for run, words, name, what in (
        (plain, ["--codes", "marginal"], "codes", without),
        (plain, ["--code-temperature", "0.5"], "code_temperature", without),
        (plain, ["--code-top-p", "0.5"], "code_top_p", without),
        (coded, ["--codes", "marginal", "--code-top-p", "0.5"], "code_top_p", marginal),
        (
            coded,
            ["--codes", "none", "--code-temperature", "0.5"],
            "code_temperature",
            "samples of codes none",
        ),
    ):
        assert main(["sample", str(run), *words, "--out", str(tmp_path / "x.csv")]) == 2, words
        told = capsys.readouterr().err.splitlines()
        assert told == [f"noiseloom: error: {name} changes nothing of {what}: leave it out"]
    # As it is, and where it says something, it is taken.
    assert nl.load(plain).with_options(codes="prior", code_temperature=1.0)
    assert nl.load(coded).with_options(codes="prior", code_temperature=0.5)


def test_rows_without_codes_take_no_options_of_them():
    for state, idle in (("masked", True), ("latent", False)):
        recipe = nl.recipes.RECIPES["text"](state=state)
        assert ("codes" in recipe.idle) == idle
        assert "beams" in recipe.idle  # what the state says nothing of stays


def test_whoever_gives_a_file_to_codes_is_told_the_option(runs, files, capsys):
    for words in (["--codes", "own.csv"], ["--codes=own.npy"]):
        assert main(["sample", str(runs["points"].folder), *words]) == 2
        told = capsys.readouterr().err.splitlines()[-1]
        assert f"codes from a file are given as --codes-from {words[-1].split('=')[-1]}" in told
