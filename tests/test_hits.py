"""What `sample --guide` writes: headings, figures, and files beside the table."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("rdkit", reason="needs the extra chem")

from rdkit import Chem

import noiseloom
from noiseloom.cli import main
from noiseloom.ranking import ranked, said_names, said_of
from noiseloom.recipes import ContextMolecules, Guiding
from noiseloom.steering import load_guides

SAMPLE = Path(__file__).parent / "data" / "zinc_sample.smi"
TINY = ["--width=16", "--edge-width=8", "--depth=1", "--heads=2", "--max-atoms=12"]
TINY += ["--sampling-steps=6", "--samples=12", "--no-evaluate"]
GUIDE = ["--method=none", "--steps=10", "--width=8", "--depth=1"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run; guides of its own label, of one's own, and of that and another together."""
    folder = tmp_path_factory.mktemp("runs") / "molecules"
    train = ["train", "context-molecules", "--data", str(SAMPLE), *TINY, "--steps=10"]
    assert main([*train, "--out", str(folder)]) == 0
    smiles = ["CCO", "CCN", "CCCC", "c1ccccc1", "CC(C)O", "CCCN", "CC=O", "OCCO"]
    lines = [f"{s},{i - 3},{len(s)}" for i, s in enumerate(smiles)]
    own = folder.parent / "own.csv"
    own.write_text("\n".join(["smiles,logp,size", *lines]) + "\n")
    for name, words in {
        "known": ["--labels", str(SAMPLE)],
        "one": ["--labels", str(own), "--columns=logp"],
        "two": ["--labels", str(own), "--columns=logp,size", "--seed=1"],
    }.items():
        out = str(folder / "guides" / name)
        assert main(["guide", str(folder), *words, *GUIDE, "--out", out]) == 0
    return folder


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


def sampled(capsys, run, out, guides, target, *words):
    capsys.readouterr()
    words = ["--guide", guides, "--target", target, "-n", "8", "--out", str(out), *words]
    assert main(["sample", str(run), *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


# Two guides of one property.


def test_each_of_two_guides_of_a_property_has_headings_of_its_own(run, tmp_path, capsys):
    out = tmp_path / "hits.csv"
    told = sampled(capsys, run, out, "two,one", "any,any,minimise")
    assert told["properties"] == {"logp_1": "two", "size": "two", "logp_2": "one"}
    head, *rows = rows_of(out)
    assert len(set(head)) == len(head)
    names = [name for name in head if name.startswith("prediction_")]
    assert names == ["prediction_logp_1", "prediction_size", "prediction_logp_2"]
    minimised = [float(row[head.index("prediction_logp_2")]) for row in rows]
    assert minimised == sorted(minimised)
    other = [float(row[head.index("prediction_logp_1")]) for row in rows]
    assert other != minimised
    for molecule, row in zip(Chem.SDMolSupplier(str(out.with_suffix(".sdf"))), rows, strict=True):
        for name, cell in zip(head, row, strict=True):
            assert molecule.GetProp(name) == cell


def test_a_name_that_is_taken_is_nobody_elses(run):
    own = noiseloom.load(run, device="cpu")
    _, records = load_guides(own, [run / "guides" / name for name in ("one", "two", "one")])
    assert said_names(records) == ["logp_1", "logp_2", "size", "logp_3"]
    others = [replace(records[1], names=("logp", "logp_1")), records[0]]
    assert said_names(others) == ["logp_2", "logp_1", "logp_3"]


def test_what_is_said_is_of_its_own_guide(run):
    own = noiseloom.load(run, device="cpu")
    folders = [run / "guides" / name for name in ("two", "one")]
    guide, records = load_guides(own, folders)
    drawn = own.samples({"row": torch.arange(8)}, seed=0)
    options = Guiding(target="any,any,minimise")
    table = ranked(own, guide, records, options, drawn, folders)
    said = said_of(own, guide, table.data).mean
    assert not torch.equal(said[:, 0], said[:, 2])
    for i, name in enumerate(("logp_1", "size", "logp_2")):
        assert table.column(f"prediction_{name}") == pytest.approx(said[:, i].tolist())


def test_one_guide_of_a_property_keeps_its_heading(run, tmp_path, capsys):
    told = sampled(capsys, run, tmp_path / "hits.csv", "two", "minimise,any")
    assert "properties" not in told
    head, *_ = rows_of(tmp_path / "hits.csv")
    assert {"prediction_logp", "prediction_size", "deviation_size"} < set(head)


# Labels of one's own.


def test_figures_of_the_recipes_label_are_not_told_of_others(run, tmp_path, capsys):
    of_label = {"label", "label_se", "label_top", "label_best", "above"}
    known = sampled(capsys, run, tmp_path / "known.csv", "known", "maximise")
    assert of_label - {"label_se"} <= known.keys()
    for guides, target in (("one", "maximise"), ("known,one", "maximise,any")):
        out = tmp_path / f"{guides}.csv"
        told = sampled(capsys, run, out, guides, target)
        assert not of_label & told.keys()
        assert {"valid", "unique", "qed", "sa"} <= told.keys()  # which say whose they are
        words = ["--guide", guides, "--target", target, "-n", "8", "--out", str(out), "--force"]
        assert main(["sample", str(run), *words]) == 0
        said = capsys.readouterr().out
        assert "label" not in said.replace("labels", "")
        assert "qed_sa, qed, sa are of context-molecules, not of the labels of own.csv" in said
    words = ["--guide", "known", "--target", "maximise", "-n", "8", "--force"]
    assert main(["sample", str(run), *words, "--out", str(tmp_path / "known.csv")]) == 0
    assert "not of the labels" not in capsys.readouterr().out


# Files beside the table.


def test_pictures_of_an_earlier_draw_do_not_stay_beside_a_table_without_structures(
    run, tmp_path, capsys, monkeypatch
):
    out = tmp_path / "hits.csv"
    sampled(capsys, run, out, "known", "maximise")
    assert {path.suffix for path in tmp_path.iterdir()} == {".csv", ".sdf", ".svg"}
    (tmp_path / "other.svg").write_text("mine")
    monkeypatch.setattr(ContextMolecules, "keys", lambda self, parts, facts, d: [""] * len(d))
    told = sampled(capsys, run, out, "known", "maximise", "--force")
    assert told["invalid"] == told["drawn"] == 8
    assert len(rows_of(out)) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"hits.csv", "other.svg"}
    assert not {"picture", "structures"} & told.keys()
