"""`guide --force`: a guide that is there stays until its successor is finished."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from guided import GUIDE, load_run, train_run, write_files
from safetensors.torch import load_file

import noiseloom.fit_guide
import noiseloom.guide_folder
from noiseloom.cli import main
from noiseloom.fit_guide import fit_guide
from noiseloom.found_guides import guides_in
from noiseloom.guide_folder import load_guide, read_guide
from noiseloom.guide_material import Sources, read_material
from noiseloom.recipes import GuideTraining

TINY = GuideTraining(method="none", steps=12, batch_size=16, width=8, depth=1, checkpoint_every=5)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def folder(files, tmp_path_factory):
    return train_run(files, tmp_path_factory.mktemp("runs") / "run", "masked", "--steps", "5")


@pytest.fixture
def make(folder, files):
    """Train a guide, with options that differ from TINY's."""
    run, sources = load_run(folder), Sources(str(files / "labels.csv"), columns=("a",))
    material = read_material(run, sources, TINY.held_out)

    def made(out, *, force=False, **changes):
        return fit_guide(run, replace(TINY, **changes), out, material, sources, force=force)

    return made


def content(out):
    """Every file of a folder, by its name."""
    return {p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file()}


def stop(*given, **more):
    raise KeyboardInterrupt


def test_a_successor_that_fails_leaves_the_guide_as_it_was(make, tmp_path, monkeypatch):
    out = tmp_path / "keep"
    make(out)
    before = content(out)

    def fails(*given, **more):
        raise ValueError("the loss is nan at step 2")

    monkeypatch.setattr(noiseloom.fit_guide, "train_guide", fails)
    with pytest.raises(ValueError, match="nan at step 2"):
        make(out, force=True, width=16)
    assert content(out) == before
    assert [path.name for path in tmp_path.iterdir()] == ["keep"]


def test_a_successor_takes_its_place_whole(make, tmp_path):
    out, alone = tmp_path / "keep", tmp_path / "alone"
    make(out)
    (out / "state" / "of the old one").write_text("")
    make(out, force=True, width=16)
    make(alone, width=16)
    assert read_guide(out) == read_guide(alone)
    assert content(out).keys() == content(alone).keys()
    torch.testing.assert_close(
        *(load_file(o / "ema.safetensors") for o in (out, alone)), rtol=0, atol=0
    )
    page = (out / "guide.html").read_text()
    assert "<h1>keep</h1>" in page
    assert ".next" not in page
    assert {path.name for path in tmp_path.iterdir()} == {"keep", "alone"}


def test_a_successor_that_was_stopped_is_gone_on_with(make, folder, tmp_path, monkeypatch):
    out, run = tmp_path / "keep", load_run(folder)
    make(out)
    before = content(out)
    monkeypatch.setattr(noiseloom.fit_guide, "calibrate", stop)
    with pytest.raises(KeyboardInterrupt):
        make(out, force=True, width=16)
    monkeypatch.undo()
    assert content(out) == before
    assert [guide.folder.name for guide in guides_in([str(tmp_path)], run)] == ["keep"]
    make(out)  # what is there is there: nobody asked for the other one
    assert content(out) == before
    monkeypatch.setattr(noiseloom.guide_folder, "remove_guide", stop)
    with pytest.raises(KeyboardInterrupt):  # it is finished, and is to take its place
        make(out, width=16)
    monkeypatch.undo()
    monkeypatch.setattr(noiseloom.fit_guide, "train_guide", None)
    assert make(out, width=16).options.width == 16
    assert load_guide(out, run)[1].options.width == 16
    assert [path.name for path in tmp_path.iterdir()] == ["keep"]


def test_one_that_is_damaged_is_replaced_when_the_new_one_is_finished(make, tmp_path, monkeypatch):
    out = tmp_path / "keep"
    make(out)
    (out / "guide.yaml").write_text("options: {widht: 3}\n")
    before = content(out)
    with pytest.raises(ValueError, match=r"does not describe a guide .* with --force"):
        make(out)
    monkeypatch.setattr(noiseloom.fit_guide, "calibrate", stop)
    with pytest.raises(KeyboardInterrupt):
        make(out, force=True)
    monkeypatch.undo()
    assert content(out) == before
    assert make(out, force=True).finished
    assert [path.name for path in tmp_path.iterdir()] == ["keep"]


def test_trials_elsewhere_are_not_replaced_by_force(files, folder, tmp_path, capsys):
    trials, times = tmp_path / "trials", []
    words = ["guide", str(folder), "--labels", str(files / "labels.csv"), "--columns", "a"]
    words += ["--method", "weight-decay", "--configurations", "2", *GUIDE, "--steps", "5"]
    for more in ([], ["--force"]):
        command = [*words, "--out", str(tmp_path / "guides"), "--trials", str(trials), *more]
        assert main(command) == 0
        times.append({p: p.stat().st_mtime_ns for p in trials.rglob("*") if p.is_file()})
    assert len(times[0]) > 2
    assert times[0] == times[1]
    # Those of another training are in the way, and --force is not the remedy.
    capsys.readouterr()
    command = [*words, "--width", "8", "--out", str(tmp_path / "guides")]
    assert main([*command, "--trials", str(trials), "--force"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.endswith("was begun with width 16, not 8: choose another --trials, or remove it")
    # Its own trials are.
    assert main([*words, "--out", str(tmp_path / "own")]) == 0
    assert main([*command[:-1], str(tmp_path / "own"), "--force"]) == 0
    kept = json.loads((tmp_path / "own" / "selection.json").read_text())
    assert len(kept["grids"]["weight-decay"]["tried"]) == 2
    for path in (tmp_path / "own" / "selection" / "weight-decay").iterdir():
        assert read_guide(path).options.width == 8


def test_a_successor_of_a_guide_that_is_gone_replaces_no_other(make, tmp_path, monkeypatch):
    out = tmp_path / "keep"
    make(out)
    monkeypatch.setattr(noiseloom.fit_guide, "calibrate", stop)
    with pytest.raises(KeyboardInterrupt):
        make(out, force=True, width=16)
    monkeypatch.undo()
    shutil.rmtree(out)
    make(out, width=12)
    assert [path.name for path in tmp_path.iterdir()] == ["keep"]
    with pytest.raises(FileExistsError, match="width 12, not 16"):
        make(out, width=16)
