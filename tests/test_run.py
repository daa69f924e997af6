"""Runs from Python: the pictures they draw."""

import math
import shlex
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import nn

import noiseloom
from noiseloom.begin import start
from noiseloom.data import Split
from noiseloom.diffusion import GaussianDiffusion, Prediction
from noiseloom.encodings import Scaled
from noiseloom.loading import load
from noiseloom.recipes import BitsDigits, ForcingDigits, Parts, Recipe
from noiseloom.recipes.own import recipe_from_file
from noiseloom.run import Run
from noiseloom.run_folder import describe
from noiseloom.sampling import Step


@dataclass(frozen=True)
class Known(Recipe):
    """Its final estimates are what it is told they are."""

    result: torch.Tensor | None = None

    def draw(self, parts, facts, given, rng):
        x = self.result[given["label"]]
        time = torch.zeros(())
        yield Step(0, time, time, x, Prediction(x), x, {})


def run(levels, result):
    parts = Parts(nn.Linear(1, 1), GaussianDiffusion(), Scaled(levels))
    facts = {"levels": levels, "classes": ["a", "b", "c"], "shape": [1, 1, 1]}
    return Run(Path(), Known(result=result.reshape(-1, 1, 1, 1)), facts, parts)


@pytest.mark.parametrize(
    ("levels", "dtype"),
    [
        (2, torch.uint8),
        (256, torch.uint8),
        (257, torch.int16),
        (32768, torch.int16),
        (32769, torch.int32),
        (65536, torch.int32),
    ],
)
def test_pictures_hold_every_level(levels, dtype):
    pixels = run(levels, torch.tensor([-1.0, 0.0, 1.0])).pixels(torch.tensor([0, 2]))
    assert pixels.dtype == dtype
    assert pixels.flatten().tolist() == [0, levels - 1]


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_estimates_that_are_not_finite_are_no_pictures(value):
    drawn = run(256, torch.tensor([0.0, 1.0, value]))
    assert drawn.pixels(torch.tensor([0, 1])).shape == (2, 1, 1, 1)
    with pytest.raises(ValueError, match="estimates of 2 of 3 pictures are not finite"):
        drawn.pixels(torch.tensor([2, 0, 2]))
    assert replace(drawn, facts={"classes": ["a"]}).pixels(torch.tensor([0])).dtype == torch.uint8


def test_a_metric_is_a_number(tmp_path, monkeypatch):
    known = run(4, torch.zeros(3))
    monkeypatch.setattr(Known, "load", lambda self, data: None)
    monkeypatch.setattr(Known, "evaluate", lambda self, draw, data, rng: {"sharpness": math.nan})
    with pytest.raises(ValueError, match="the metric sharpness is nan"):
        known.evaluate("data", save=False)


def test_data_that_are_read_are_not_read_again(monkeypatch):
    read = Split(None, None)
    known, asked, judged = run(4, torch.zeros(3)), [], []
    monkeypatch.setattr(Known, "load", lambda self, data: asked.append(data) or read)
    monkeypatch.setattr(
        Known, "evaluate", lambda self, draw, data, rng: judged.append(data) or {"n": 1.0}
    )
    assert known.evaluate("data", save=False) == known.evaluate(read, save=False)
    assert asked == ["data"]
    assert judged[0] is judged[1] is read


def test_what_is_published_says_nothing_of_where_files_lay(tmp_path):
    shipped = noiseloom.load("bits-digits", device="cpu")
    folder = tmp_path / "run"
    shutil.copytree(shipped.folder, folder)
    described = yaml.safe_load((folder / "recipe.yaml").read_text())
    described["data"] = "/home/somebody/digits.zip"
    described["run"]["file"] = "/home/somebody/mine.py"
    described["run"]["command"] = (
        "noiseloom train /home/somebody/mine.py --data '../some body/digits.zip' --steps 3 "
        "--init-from=runs/somebody/x --out runs/somebody/y"
    )
    (folder / "recipe.yaml").write_text(yaml.safe_dump(described))
    (folder / "report.html").write_text("a picture of somebody")
    noiseloom.push(noiseloom.load(folder, device="cpu"), str(tmp_path / "published"))
    files = {path.name: path for path in (tmp_path / "published").iterdir()}
    assert files.keys() == {"README.md", "ema.safetensors", "evaluation.json", "recipe.yaml"}
    published = files["recipe.yaml"].read_text() + files["README.md"].read_text()
    assert "some" not in published
    command = yaml.safe_load(files["recipe.yaml"].read_text())["run"]["command"]
    assert command == ("noiseloom train mine.py --data digits.zip --steps 3 --init-from=x --out y")
    labels = torch.arange(3)
    again = noiseloom.load(tmp_path / "published", device="cpu")
    assert torch.equal(again.pixels(labels), shipped.pixels(labels))


def test_options_that_are_paths_are_published_without_their_folders(tmp_path):
    shipped = noiseloom.load("bits-digits", device="cpu")
    plan, folder = tmp_path / "here" / "drawn.csv", tmp_path / "run"
    plan.parent.mkdir()
    plan.touch()
    folder.mkdir()
    recipe = ForcingDigits(plan="../somebody/grid.csv", width=8, depth=1, heads=1)
    run = replace(shipped, folder=folder, recipe=recipe)
    command = (
        "noiseloom compare forcing-digits --init_from /home/somebody/x"
        f" --data='/home/some body/d=1/' --own {plan} --mode fast/slow"
        " --grid plan=/home/somebody/a.csv,auto td=0,1"
        " --cells 'plan=/somebody/b.csv width=8' --out runs/somebody"
    )
    described = describe(recipe, {}, data=None, command=command)
    own = {"file": "~/somebody/w.bin", "files": [str(plan), "auto"], "model": "owner/name"}
    (folder / "recipe.yaml").write_text(described + yaml.safe_dump(own))
    noiseloom.push(run, str(tmp_path / "published"))
    found = yaml.safe_load((tmp_path / "published" / "recipe.yaml").read_text())
    assert found["plan"] == "grid.csv"
    assert {name: found[name] for name in own} == {
        "file": "w.bin",
        "files": ["drawn.csv", "auto"],
        "model": "owner/name",
    }
    assert shlex.split(found["run"]["command"]) == [
        *("noiseloom", "compare", "forcing-digits", "--init_from", "x", "--data=d=1"),
        *("--own", "drawn.csv", "--mode", "slow", "--grid", "plan=a.csv,auto", "td=0,1"),
        *("--cells", "plan=b.csv width=8", "--out", "somebody"),
    ]


def test_the_card_of_a_recipe_of_ones_own_says_where_it_comes_from(tmp_path, monkeypatch):
    monkeypatch.setattr("noiseloom.recipes.own.RECIPES", {})
    kind = recipe_from_file(Path(__file__).parents[1] / "examples" / "my_recipe.py")
    folder = tmp_path / "run"
    recipe = kind(width=1)
    facts = recipe.facts(recipe.load(None))
    parts = start(recipe, facts, folder, data=None, command="noiseloom train my_recipe.py")
    save_file(parts.denoiser.state_dict(), folder / "ema.safetensors")
    noiseloom.push(Run(folder, recipe, facts, parts), str(tmp_path / "published"))
    card = (tmp_path / "published" / "README.md").read_text()
    assert "\nfrom my_recipe import Stripes\n" in card
    code = card.split("```python\n")[1].split("```")[0]
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "examples")
    names = {}
    exec(code.replace("PATH/OF/THIS/FOLDER", str(tmp_path / "published")), names)
    assert names["pixels"].shape == (16, 1, 8, 8)


def test_a_name_without_hf_is_a_folder_and_a_hub_out_of_reach_is_one_line(tmp_path, monkeypatch):
    import huggingface_hub

    asked = []

    class Api:
        def create_repo(self, name, **options):
            asked.append((name, options))
            raise RuntimeError("no\nroute")

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.chdir(tmp_path)
    shipped = noiseloom.load("bits-digits", device="cpu")
    assert noiseloom.push(shipped, "owner/name") == "owner/name"
    assert (tmp_path / "owner/name/recipe.yaml").is_file()
    assert asked == []
    with pytest.raises(OSError, match="hf://owner/name cannot be published to: no route"):
        noiseloom.push(shipped, "hf://owner/name")
    assert asked == [("owner/name", {"exist_ok": True, "private": True})]
    for wrong in ("hf:/owner/name", "hf:owner/name"):
        with pytest.raises(ValueError, match="write hf://owner/name for the Hub"):
            noiseloom.push(shipped, wrong)
    assert not list(tmp_path.glob("hf:*"))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"recipe: [1]\nrun: {facts: {}}\n", "does not describe a run"),
        (b"recipe: caf\xe9\n", r"recipe\.yaml is not valid YAML in UTF-8"),
    ],
)
def test_a_description_that_is_none_is_named(tmp_path, content, told):
    (tmp_path / "recipe.yaml").write_bytes(content)
    with pytest.raises(ValueError, match=told):
        noiseloom.load(tmp_path)


def test_a_wrong_type_in_a_description_is_named(tmp_path):
    shipped = noiseloom.load("bits-digits", device="cpu")
    (tmp_path / "recipe.yaml").write_text(
        (shipped.folder / "recipe.yaml").read_text().replace("steps: 1500", "steps: many")
    )
    with pytest.raises(ValueError, match="an option of recipe 'bits-digits' is of a wrong type"):
        noiseloom.load(tmp_path)


def test_metrics_that_cannot_be_kept_are_not_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(BitsDigits, "evaluate", lambda self, draw, data, rng: {"found": 1.5})

    def full(path, content):
        raise OSError(f"no space left for {path.name}")

    shipped = load("bits-digits", device="cpu")
    shutil.copytree(shipped.folder, tmp_path / "run")
    monkeypatch.setattr("noiseloom.evaluations.write_text", full)
    run = load(tmp_path / "run", device="cpu")
    with pytest.warns(UserWarning, match="could not be kept: no space left"):
        assert run.judge(None) == ({"found": 1.5}, None)


def test_no_samples_are_refused():
    with pytest.raises(ValueError, match="give at least one"):
        load("bits-digits", device="cpu").pixels(torch.empty(0, dtype=torch.int64))
