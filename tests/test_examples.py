"""The examples run."""

import csv
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import noiseloom
from noiseloom.cli import main

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_rows_are_streamed_after_those_that_are_known(tmp_path, capsys):
    run = str(tmp_path / "rows")
    words = ["--steps", "2", "--width", "16", "--depth", "1", "--heads", "2", "--batch-size", "8"]
    assert main(["train", "forcing-digits", "--out", run, "--no-evaluate", *words]) == 0
    capsys.readouterr()
    example = runpy.run_path(str(EXAMPLES / "stream.py"))
    told, seen, rollout = [], [], example["rollout"]

    def spied(*args, cond, **options):
        """Notes what each row is told, and what has been seen by then."""

        def noted(first, count):
            told.append(cond(first, count)["label"])
            return cond(first, count)

        seen.append(args[3])
        for step in rollout(*args, cond=noted, **options):
            seen.append(step.x)
            yield step

    example["main"].__globals__["rollout"] = spied
    example["main"](run)
    known = noiseloom.load(run, device="cpu")
    train = known.recipe.load(None).train
    digits = known.codec.encode(train.pixels).double()
    means = torch.stack([digits[train.labels == k].mean(0) for k in range(10)])
    assert len(told) == 1 + 5
    for rows, label in zip([1, *range(1, 6)], told, strict=True):  # the known rows, then one by one
        whole = torch.cat(seen[:rows], 1).double()
        far = (whole[:, None] - means[:, : whole.shape[1]]).square().sum((2, 3))
        assert torch.equal(far.argmin(1), label)
    assert len({tuple(label.tolist()) for label in told}) > 1  # what is made changes what is told
    lines = capsys.readouterr().out.rstrip("\n").split("\n")
    assert len(lines) == 8
    assert {len(line) for line in lines} == {6 * 16 + 5 * 3}


def test_one_wrapper_and_one_loss_for_bits_and_for_rows(capsys):
    runpy.run_path(str(EXAMPLES / "latents_everywhere.py"))["main"](updates=1)
    _, bits, rows = capsys.readouterr().out.splitlines()
    for line, name, k in ((bits, "analog bits", 16), (rows, "rows", 8)):
        assert line.startswith(name)
        *losses, used, of, codes = line[len(name) :].split()
        # Codes have not been read yet: after one update what reads them is still almost zero.
        assert max(map(float, losses)) - min(map(float, losses)) < 0.01
        assert (of, codes) == ("of", str(k))
        assert 1 <= float(used) <= k


def test_a_simulator_of_ones_own_is_driven_by_plans(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    example = runpy.run_path(str(EXAMPLES / "own_simulator.py"))
    example["record"]("cart.npz", carts=12, steps=100)
    words = ["train", "forcing-trajectories", "--data", "cart.npz", "--out", "cart", "--rewards"]
    words += ["--network", "bidirectional", "--known-ends", "0.5", "--steps", "2", "--width", "16"]
    words += ["--depth", "1", "--heads", "2", "--batch-size", "8", "--sampling-steps", "2"]
    assert main([*words, "--no-evaluate"]) == 0
    capsys.readouterr()
    example["drive"]("cart", carts=2, steps=20)
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split()[-3:] == ["ms", "a", "step"]
    assert [line[:12].strip() for line in lines] == list(example["WAYS"])
    for line in lines:
        plan, step = map(float, line.split()[-2:])
        assert plan == pytest.approx(20 / 3 * step, rel=0.1, abs=1)  # three plans for twenty steps


def test_what_cannot_be_streamed_is_told_in_a_line(tmp_path):
    def told(*words):
        command = [sys.executable, str(EXAMPLES / "stream.py"), *words]
        result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert result.returncode == 1
        return result.stderr

    assert told() == "usage: python examples/stream.py RUN, a run of forcing-digits\n"
    assert told("nowhere") == "error: no run at nowhere\n"
    assert "bits-digits is no run of forcing-digits" in told("bits-digits")


def test_docked_hits_are_ranked_by_the_papers_label(tmp_path, capsys):
    """Without Vina: what it says is given. By hand: 10 / 20 of a half for the first."""
    pytest.importorskip("rdkit", reason="needs the extra chem")
    names = runpy.run_path(str(EXAMPLES / "dock.py"))
    assert names["label"](-10.0, 0.5) == pytest.approx(0.25)
    assert names["label"](-30.0, 0.5) == pytest.approx(0.5)
    assert names["label"](2.0, 0.5) == 0
    table = tmp_path / "hits.csv"
    table.write_text("structure,qed\nCCO,1\n,0\nCCO,1\nc1ccccc1,1\nCCN,1\n")
    said = {"CCO": (-3.0, ""), "c1ccccc1": (-6.0, ""), "CCN": (None, "no conformer")}

    def docked(keys, receptor, *place):
        assert place == ([1, 2, 3], (20, 20, 20), 8, 1)
        return [(key, *said[key]) for key in keys]

    names["main"].__globals__["docked"] = docked
    out = names["main"]([str(table), "receptor.pdbqt", "--center", "1", "2", "3"])
    told = capsys.readouterr().out
    assert "no conformer" in told
    assert f"2 of 3 docked: {out}" in told
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["smiles"] for row in rows] == ["c1ccccc1", "CCO"]
    assert float(rows[0]["y"]) == pytest.approx(6 / 20 * 0.4426283719, abs=1e-6)
    with pytest.raises(ValueError, match="-n must be 1 to 200, got 201"):
        names["rows_of"](table, 201)
    table.write_text("smiles\nCCO\n")
    with pytest.raises(ValueError, match="no column structure"):
        names["rows_of"](table, 2)


def test_a_molecule_is_docked(tmp_path):
    """Where Vina is installed: aspirin, into the atoms of a benzene as a receptor."""
    pytest.importorskip("vina")
    pytest.importorskip("meeko")
    names = runpy.run_path(str(EXAMPLES / "dock.py"))
    lines = [line for line in names["ligand_of"]("c1ccccc1", 1).splitlines() if "ATOM" in line]
    receptor = tmp_path / "receptor.pdbqt"
    receptor.write_text("\n".join(lines) + "\n")
    place = (receptor, (0, 0, 0), (15, 15, 15), 1, 1)
    ((key, affinity, why),) = names["docked"](["CC(=O)Oc1ccccc1C(=O)O"], *place)
    assert (key, why) == ("CC(=O)Oc1ccccc1C(=O)O", "")
    assert -6 < affinity < 0
