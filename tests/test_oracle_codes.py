"""Codes of held-out samples where a run is judged, and what comparisons leave out."""

import json
from dataclasses import replace

import pytest
import torch

import noiseloom as nl
from noiseloom.cli import main
from noiseloom.data import Points, Split
from noiseloom.loading import load
from noiseloom.priors import Codes
from noiseloom.recipes import DiscoMixture
from noiseloom.run import Run

TINY = ["--steps=2", "--batch-size=8", "--width=8", "--depth=1", "--samples=60", "--prior=tabular"]
RESTARTS = "[[3, 2, 0.1, 1.0]]"

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of points; its weights are shaken, so that codes matter."""
    out = tmp_path_factory.mktemp("points") / "run"
    words = ["train", "disco-mixture", "--out", str(out), *TINY, "--m=2", "--k=3"]
    assert main([*words, "--evaluations", "[3]", "--sampler=heun-edm"]) == 0
    return out


def told(capsys, *words):
    """The one line of an error."""
    capsys.readouterr()
    assert main([str(word) for word in words]) == 2, words
    return capsys.readouterr().err.splitlines()[-1]


def evaluated(run, capsys, *words):
    """Metrics, and what was printed below them."""
    capsys.readouterr()
    assert main(["evaluate", str(run), *words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    return found["metrics"], found.get("notes", [])


def test_samples_of_an_evaluation_are_told_codes_of_held_out_ones(run, monkeypatch):
    model, seen = load(run).with_options(codes="oracle"), []
    encode, steps = DiscoMixture.encoded, Run.steps

    def encoded(self, parts, facts, data, rng, *, rows=None, draws=1):
        found = encode(self, parts, facts, data, rng, rows=rows, draws=draws)
        seen.append((data, rows, found.codes))
        return found

    def drawn(self, given, **options):
        seen.append(given["codes"])
        return steps(self, given, **options)

    monkeypatch.setattr(DiscoMixture, "encoded", encoded)
    monkeypatch.setattr(Run, "steps", drawn)
    model.evaluate(save=False)
    (data, rows, codes), given = seen[:2]
    assert torch.equal(data.values, model.recipe.load(None).held_out.values)
    assert len(set(rows.tolist())) == len(rows) == 60
    assert torch.equal(codes, given)


def test_codes_are_of_the_class_that_is_asked_for_each_as_often(run, monkeypatch):
    made, labels = load(run), torch.tensor([0] * 3 + [1] * 5 + [2] * 2)
    held = Points(torch.zeros(10, 2), labels, ("a", "b", "c"))
    facts = {"features": 2, "classes": ["a", "b", "c"]}
    monkeypatch.setattr(DiscoMixture, "classes_told", lambda self, facts: 3)
    monkeypatch.setattr(DiscoMixture, "encoded", lambda *_, rows, **__: Codes(rows[:, None]))
    recipe = replace(made.recipe, codes="oracle")
    asked = torch.arange(3).repeat(7)

    def attached(held):
        split = Split(held, held)
        return recipe.attached(made.parts, facts, {"label": asked}, split, nl.Rng(3))

    rows = attached(held)["codes"][:, 0]
    assert torch.equal(labels[rows], asked)
    times = rows.bincount(minlength=10)
    for label in range(3):
        of = times[labels == label]
        assert of.sum() == 7
        assert of.max() - of.min() <= 1
    held = Points(torch.zeros(20, 2), torch.arange(20) // 10, ("a", "b", "c"))  # as many of each
    asked = torch.arange(2).repeat_interleave(10)
    rows = attached(held)["codes"][:, 0]
    assert not torch.equal(rows[:10], rows[10:] - 10)  # each class has a random order of its own
    held = Points(torch.zeros(10, 2), labels, ("a", "b", "c"))
    asked = torch.arange(3).repeat(7)
    few = Points(held.values[:8], labels[:8], held.classes)
    with pytest.raises(ValueError, match="no held-out sample has class 'c', whose codes are"):
        attached(few)


def test_restarts_are_of_the_other_samples_alone_and_that_is_said(run, capsys):
    plain, silent = evaluated(run, capsys, "--codes", "oracle")
    found, notes = evaluated(run, capsys, "--codes", "oracle", "--restarts", RESTARTS)
    assert not silent
    assert notes == [
        "comparisons by evaluations count calls of the network, and are drawn without restarts: "
        "only the other samples are drawn with that"
    ]
    differ = {name for name, value in found.items() if plain[name] != value}
    assert differ == {"energy"}
    names = {path.name for path in (run / "evaluations").glob("*oracle*")}
    assert names == {"codes=oracle.json", "codes=oracle,restarts=((3, 2, 0.1, 1.0),).json"}
    _, notes = evaluated(run, capsys, "--restarts", RESTARTS, "--resample", "2")
    assert "drawn without restarts and resample: only" in notes[0]
    assert not evaluated(run, capsys, "--restarts", RESTARTS, "--evaluations", "[]")[1]
    main(["evaluate", str(run), "--restarts", RESTARTS])
    assert "comparisons by evaluations count calls" in capsys.readouterr().out


def test_where_no_held_out_samples_are_at_hand_they_are_refused(run, tmp_path, capsys):
    line = told(capsys, "sample", run, "--codes", "oracle", "--out", tmp_path / "x.csv")
    assert "codes oracle are those of held-out samples, which evaluate has" in line
    words = ["train", "disco-mixture", *TINY, "--codes", "oracle", "--out", tmp_path / "x"]
    assert "for evaluate and compare: train without them" in told(capsys, *words)
    assert not (tmp_path / "x").exists()
    with pytest.raises(ValueError, match="codes oracle are for pictures and points"):
        nl.recipes.RECIPES["text"](state="latent", codes="oracle")


def test_a_grid_has_oracle_codes_beside_others(tmp_path, capsys):
    words = ["compare", "disco-mixture", *TINY, "--evaluations", "[]", "--seeds", "1"]
    words += ["--grid", "codes=prior,oracle", "--out", str(tmp_path / "grid")]
    assert main(words) == 0
    table = json.loads((tmp_path / "grid" / "table.json").read_text())
    one, other = (cell["mean"]["energy"] for cell in table["cells"])
    assert one != other
    assert not table["skipped"]
    assert len(list((tmp_path / "grid" / "runs").iterdir())) == 1
