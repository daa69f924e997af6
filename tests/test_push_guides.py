"""Guides that are published with a run: they lead its samples as before, and show no data."""

import csv
import json
import shutil

import pytest
import torch
import yaml
from guided import load_run, train_guide, train_run, write_files

import noiseloom
from noiseloom.cli import main
from noiseloom.guide_folder import read_guide
from noiseloom.steering import steered

ROWS = {"row": torch.arange(30)}


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A run with two guides, one of its hidden states; and what was published of it."""
    folder = tmp_path_factory.mktemp("somebody")
    files = write_files(folder)
    run = train_run(files, folder / "run", "masked", "--steps", "60")
    train_guide(run, files, "--steps", "40")
    hidden = ["--steps", "40", "--reads", "denoiser", "--out", str(run / "guides" / "hidden")]
    train_guide(run, files, *hidden)
    place = folder / "place"
    assert main(["push", str(run), str(place), "--guide", f"none-0,{run / 'guides/hidden'}"]) == 0
    return run, place


def test_published_guides_lead_as_before(published):
    run, place = published
    for name in ("none-0", "hidden"):
        led = steered(load_run(run), run / "guides" / name, scale=3.0).samples(ROWS, seed=1)
        again = steered(load_run(place), name, scale=3.0).samples(ROWS, seed=1)
        assert torch.equal(led, again)
        assert not torch.equal(again, load_run(place).samples(ROWS, seed=1))


def test_what_is_published_of_guides_says_nothing_of_the_data(published):
    run, place = published
    names = {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}
    assert names == {
        *("README.md", "ema.safetensors", "recipe.yaml"),
        *(
            f"guides/{guide}/{file}"
            for guide in ("none-0", "hidden")
            for file in ("guide.yaml", "ema.safetensors", "calibration.json")
        ),
    }
    text = "".join(path.read_text() for path in place.rglob("guide.yaml"))
    assert "somebody" not in text
    assert "labels: labels.csv" in text
    record = read_guide(place / "guides" / "none-0")
    assert record.finished
    assert "--labels labels.csv" in record.command
    assert record.labels == read_guide(run / "guides" / "none-0").labels
    card = (place / "README.md").read_text()
    assert "| none-0 | a |" in card
    assert "--guide none-0 --target maximise" in card
    assert yaml.safe_load((place / "recipe.yaml").read_text())["data"] is None


def test_a_published_guide_ranks_without_distances(published, tmp_path, capsys):
    _, place = published
    out = tmp_path / "hits.csv"
    words = ["sample", str(place), "--guide", "none-0", "--target", "maximise", "-n", "20"]
    assert main([*words, "--out", str(out)]) == 0
    told = capsys.readouterr()
    assert "structures that the guide learnt from are not with it" in told.err
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["distance"], row["new"]) for row in rows} == {("", "")}
    assert "20 drawn, " in told.out
    assert " new: " not in told.out
    assert main([*words, "--out", str(out), "--force", "--json"]) == 0
    assert "new" not in json.loads(capsys.readouterr().out)
    said = [float(row["prediction_a"]) for row in rows]
    assert said == sorted(said, reverse=True)


def test_guides_that_cannot_be_published(published, tmp_path, capsys):
    run, _ = published
    other = tmp_path / "other" / "none-0"
    shutil.copytree(run / "guides" / "none-0", other)
    for guides, told in (
        ("none-1", "no guide at none-1"),
        (f"none-0,{other}", "two guides are called none-0: publish one of them"),
    ):
        place = tmp_path / "place"
        assert main(["push", str(run), str(place), "--guide", guides]) == 2
        assert told in capsys.readouterr().err
        assert not place.exists()
    text = (other / "guide.yaml").read_text()
    (other / "guide.yaml").write_text(text.replace("recipe: '\"sequences\"'", "recipe: '\"text\"'"))
    with pytest.raises(ValueError, match="is for runs with another recipe"):
        noiseloom.push(load_run(run), str(tmp_path / "place"), [other])
