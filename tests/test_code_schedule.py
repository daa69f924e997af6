"""The schedule of codes is found when a run begins, and kept with the facts of its data."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import noiseloom
from noiseloom.cli import main
from noiseloom.encodings import Bits
from noiseloom.information import information_schedule
from noiseloom.recipes import code_schedule as schedules
from noiseloom.recipes.text import Text
from noiseloom.sizes import equal_states
from noiseloom.table import Cell

TINY = ["--steps=2", "--batch-size=8", "--width=16", "--depth=1", "--heads=2", "--length=8"]
TINY += ["--state=bits", "--no-evaluate"]


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The draws of each schedule that is found; none is remembered from before."""
    schedules._found.cache_clear()
    draws: list[int] = []

    def counted(codes: Any, pi: Any, number: int = 2000, *rest: float) -> Any:
        draws.append(number)
        return information_schedule(codes, pi, number, *rest)

    monkeypatch.setattr(schedules, "information_schedule", counted)
    return draws


def begun(folder: Path) -> tuple[str, Path]:
    draw, text, out = random.Random(0), folder / "text.txt", folder / "run"
    text.write_text(" ".join(draw.choice(["so", "it", "goes"]) for _ in range(300)))
    assert main(["train", "text", "--data", str(text), "--out", str(out), *TINY]) == 0
    return str(text), out


def without(out: Path) -> None:
    """As a run of before."""
    described = yaml.safe_load((out / "recipe.yaml").read_text())
    del described["run"]["facts"]["derived"]
    (out / "recipe.yaml").write_text(yaml.safe_dump(described))


def test_a_run_keeps_its_schedule_and_is_gone_on_with(tmp_path: Path, found: list[int]) -> None:
    text, out = begun(tmp_path)
    assert len(found) == 1
    kept = noiseloom.load(str(out), device="cpu").parts.diffusion.schedule
    assert main(["train", "text", "--data", text, "--out", str(out), "--resume", "--steps=3"]) == 0
    schedules._found.cache_clear()
    assert noiseloom.load(str(out), device="cpu").parts.diffusion.schedule == kept
    assert len(found) == 1


def test_a_run_of_before_finds_the_one_it_had(tmp_path: Path, found: list[int]) -> None:
    text, out = begun(tmp_path)
    without(out)
    run = noiseloom.load(str(out), device="cpu")
    pi = torch.tensor(run.facts["frequencies"], dtype=torch.float64)
    classes = max(run.facts["sizes"])
    table = Bits(classes).table
    assert run.parts.diffusion.schedule == information_schedule(table, pi)
    assert main(["train", "text", "--data", text, "--out", str(out), "--resume", "--steps=3"]) == 0
    assert "derived" not in yaml.safe_load((out / "recipe.yaml").read_text())["run"]["facts"]


def test_thousands_of_classes_take_few_draws_and_once(found: list[int]) -> None:
    facts = {"length": 4, "sizes": [3000] * 4, "frequencies": [[1 / 3000] * 3000]}
    recipe = Text(state="bits", width=16, depth=1, heads=2, length=4)
    whole = recipe.settled(facts)
    for _ in range(2):
        recipe.build(whole)
    assert found == [2**22 // 3000]
    assert Text(state="masked").settled(facts) == facts
    assert replace(recipe, schedule="cosine").settled(facts) == facts


def test_states_are_made_equal_with_one_schedule_each(found: list[int]) -> None:
    facts = {"length": 4, "sizes": [27] * 4, "frequencies": [[1 / 27] * 27]}
    kind = Text(width=32, depth=1, heads=2, length=4)
    cells = [
        Cell({"state": state}, replace(kind, state=state))
        for state in ("masked", "bits", "onehot", "embedding", "autoregressive")
    ]
    equal_states(cells, facts)
    assert len(found) == 3
