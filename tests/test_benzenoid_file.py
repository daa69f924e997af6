"""Files of all benzenoids and their parts: the same as enumerating them, or one line why not."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import noiseloom
from noiseloom.cli import main
from noiseloom.recipes import ContextBenzenoids, benzenoid_sets
from noiseloom.recipes.benzenoid_sets import keep_at, part

TINY = ["--width", "8", "--depth", "1", "--sampling-steps", "8", "--samples", "16"]
NAMES = ("train", "validation", "test", "others", "all")


@pytest.fixture(autouse=True)
def no_places():
    """Later tests enumerate."""
    yield
    benzenoid_sets._PLACES.clear()


def record(path, rings=5, *words):
    return main(["record", "benzenoids", "--rings", str(rings), "--out", str(path), *words])


def no_enumerating(monkeypatch):
    def never(*_):
        raise AssertionError("enumerated or clustered anew")

    monkeypatch.setattr(benzenoid_sets, "_enumerated", never)
    monkeypatch.setattr(benzenoid_sets, "_parted", never)


@pytest.mark.parametrize("rings", [5, 8])
def test_a_file_is_what_enumerating_gives(tmp_path, rings, monkeypatch, capsys):
    splits = ("auto", "labels", "random", "cluster")[: 3 if rings < 8 else 4]
    expected = {(split, name): part(rings, split, name) for split in splits for name in NAMES}
    places = benzenoid_sets.places(rings)
    path = tmp_path / "new" / "all.safetensors"
    assert record(path, rings) == 0
    assert f"benzenoids of {rings} rings: {path}" in capsys.readouterr().out
    no_enumerating(monkeypatch)
    keep_at(str(path), rings)
    for (split, name), other in expected.items():
        found = part(rings, split, name)
        for ours, theirs in zip(found.tensors(), other.tensors(), strict=True):
            assert ours.dtype == theirs.dtype
            assert torch.equal(ours, theirs)
    assert benzenoid_sets.places(rings) == places
    split = ContextBenzenoids(rings=rings).load(str(path))
    assert len(split.train) == len(expected["auto", "train"])


def test_a_run_of_a_file_is_the_run_without(tmp_path, monkeypatch, capsys):
    path, made = tmp_path / "five.safetensors", []
    assert record(path) == 0
    for words in ([], ["--data", str(path)]):
        run = tmp_path / f"run{len(made)}"
        command = ["train", "context-benzenoids", "--rings", "5", "--out", str(run), *TINY]
        if words:
            no_enumerating(monkeypatch)
        assert main([*command, "--steps", "5", *words]) == 0
        guide = ["guide", str(run), "--method", "none", "--steps", "5", "--width", "8"]
        assert main(guide) == 0
        own = noiseloom.load(run, device="cpu")
        made.append((own.facts, own.samples({"row": torch.arange(4)}), own.recipe))
        found = json.loads((run / "guides" / "none-0" / "calibration.json").read_text())
        made[-1] += (found, json.loads((run / "evaluation.json").read_text()))
    (facts, drawn, recipe, judged, told), others = made
    assert facts == others[0]
    assert torch.equal(drawn, others[1])
    assert (recipe, judged) == others[2:4]
    same = [name for name in told if "second" not in name]
    assert [told[name] for name in same] == [others[4][name] for name in same]
    monkeypatch.undo()
    path.unlink()  # the run goes on to draw, and enumerates what it is asked for
    loaded = noiseloom.load(tmp_path / "run1", device="cpu")
    assert len(loaded.recipe.unlabelled("others", loaded.facts)) == 6
    assert main(["evaluate", str(tmp_path / "run1")]) == 2
    assert f"there is no file {path}" in capsys.readouterr().err


def test_files_that_are_none_get_one_line(tmp_path, capsys):
    path, run = tmp_path / "five.safetensors", tmp_path / "run"
    words = ["train", "context-benzenoids", "--out", str(run), "--data", str(path), *TINY]
    assert record(path) == 0
    good = path.read_bytes()
    with safe_open(path, framework="pt") as file:
        about = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118

    def refused(told, rings=5, *more):
        capsys.readouterr()
        assert main([*words, "--rings", str(rings), *more]) == 2
        error = capsys.readouterr().err.strip()
        assert len(error.splitlines()) == 1
        assert str(path) in error
        assert told in error
        assert not run.exists()
        assert benzenoid_sets._PLACES == {}

    refused("holds benzenoids of 5 rings, not of 6: --rings 5, or write others", 6)
    path.write_bytes(good[:-40])
    refused("is no .safetensors file")
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    refused("is damaged")
    tensors["gaps"][0] += 1
    save_file(tensors, path, about)
    refused("is damaged")
    save_file({"a": torch.zeros(2)}, path)
    refused("holds something other than benzenoids and their parts")
    path.unlink()
    path.mkdir()
    refused("there is no file")


def test_a_file_without_the_split_asked_for(tmp_path):
    path = tmp_path / "eight.safetensors"
    found = benzenoid_sets.all_parts(8)
    type(found)(found.whole, {"labels": found.folds["labels"]}).save(path)
    assert len(ContextBenzenoids(rings=8, split="labels").load(str(path)).train) == 206
    with pytest.raises(ValueError, match="has no parts of --split cluster: write it anew"):
        ContextBenzenoids(rings=8).load(str(path))


def test_files_are_not_overwritten_unasked(tmp_path, capsys):
    path = tmp_path / "all.safetensors"
    path.write_bytes(b"mine")
    assert record(path) == 2
    assert "exists: choose another with --out" in capsys.readouterr().err
    assert path.read_bytes() == b"mine"
    assert record(path, 5, "--force", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["structures"] == 12
    assert told["splits"]["labels"] == {"train": 6, "validation": 3, "test": 3}
    assert not list(tmp_path.glob(".*"))
    for words, text in (
        (["--steps", "5"], "--steps is of simulators"),
        (["--seed", "5"], "--seed is of simulators"),
        (["--rings", "4"], "rings must be 5 to 13, got 4"),
    ):
        assert main(["record", "benzenoids", "--out", str(tmp_path / "b.safetensors"), *words]) == 2
        assert text in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["all.safetensors"]


def test_a_file_that_is_written_anew_is_read_anew(tmp_path):
    path = tmp_path / "all.safetensors"
    assert record(path, 5) == 0
    keep_at(str(path), 5)
    assert len(part(5, "auto", "all")) == 12
    assert record(path, 6, "--force") == 0
    with pytest.raises(ValueError, match="of 6 rings, not of 5"):
        part(5, "auto", "all")
