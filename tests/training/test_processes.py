"""Two processes make the updates of one."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from toy_run import OPTIONS, finish, finish_real, losses, started

SCRIPT = Path(__file__).with_name("toy_run.py")


def launch(*arguments):
    process = started("--nproc-per-node", "2", str(SCRIPT), *arguments)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    return said


def test_two_processes_equal_one(tmp_path):
    finish(tmp_path / "one")
    out = tmp_path / "two"
    said = launch(str(out), "--accumulate", "2")
    assert "Warning" not in said
    assert json.loads((out / "world.json").read_text()) == 2
    assert losses(out) == pytest.approx(losses(tmp_path / "one"), rel=1e-5)


def test_a_real_network_on_two_processes_equals_one(tmp_path):
    finish_real(tmp_path / "one")
    out = tmp_path / "two"
    said = launch(str(out), "--real")
    assert "arning" not in said
    assert "strides" not in said
    assert json.loads((out / "world.json").read_text()) == 2
    assert losses(out) == pytest.approx(losses(tmp_path / "one"), rel=1e-6)
    for name in ("model", "ema"):
        one, two = (load_file(run / f"{name}.safetensors") for run in (tmp_path / "one", out))
        for key in one:
            torch.testing.assert_close(two[key], one[key], rtol=1e-6, atol=1e-6)


def test_unconnected_processes_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(RuntimeError, match=r"one of 2 processes, but 1 are connected"):
        finish(tmp_path / "run")


@pytest.mark.parametrize("said", ["", "abc", "0", "-1"])
def test_a_number_of_processes_that_is_none_is_named(tmp_path, monkeypatch, said):
    monkeypatch.setenv("WORLD_SIZE", said)
    with pytest.raises(ValueError, match=f"WORLD_SIZE is '{said}', no number of processes"):
        finish(tmp_path / "run")


def test_accumulation_changes_nothing(tmp_path):
    finish(tmp_path / "one")
    for parts in (2, 8):  # with 8, half of the first passes are empty
        finish(tmp_path / str(parts), replace(OPTIONS, accumulate=parts))
        expected = pytest.approx(losses(tmp_path / "one"), rel=1e-5)
        assert losses(tmp_path / str(parts)) == expected


def test_indivisible_batch(tmp_path):
    with pytest.raises(ValueError, match="batch_size 8 cannot be divided"):
        finish(tmp_path / "run", replace(OPTIONS, accumulate=3))
    assert not (tmp_path / "run").exists()
