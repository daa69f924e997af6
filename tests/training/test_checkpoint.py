import errno
import json
import os
import resource
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from toy_run import OPTIONS, Points, Toy, finish, losses, toy_loss

from noiseloom.rng import Rng
from noiseloom.training import checkpoint, init_from, train


def layer(inputs, outputs, key=0):
    with Rng(key).torch():
        return nn.Linear(inputs, outputs)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def fill_the_disk(monkeypatch, at):
    """Let the call number `at` of `save_file` leave half a file and fail."""
    calls = []

    def save_file(tensors, path, metadata):
        calls.append(path)
        checkpoint_save(tensors, path, metadata)
        if len(calls) == at:
            os.truncate(path, 20)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    checkpoint_save = checkpoint.save_file
    monkeypatch.setattr(checkpoint, "save_file", save_file)


def test_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    fill_the_disk(monkeypatch, at=5)  # three files a checkpoint: the second of the second
    with pytest.raises(OSError, match=r"checkpoint of step 10 .*No space left.*one before it is"):
        finish(tmp_path / "full")
    assert names(tmp_path / "full" / "state") == ["step-00000005"]
    monkeypatch.undo()
    finish(tmp_path / "full", resume=True)
    finish(tmp_path / "whole")
    assert losses(tmp_path / "full") == losses(tmp_path / "whole")


def test_a_write_that_truly_fails(tmp_path):
    """A limit on file sizes, so that safetensors itself meets the error."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    parts = {"small": {"a": torch.zeros(3)}, "tall": {"b": torch.zeros(50_000)}}
    checkpoint.save(tmp_path, 1, {"small": parts["small"]}, {})
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(OSError, match="cannot write the checkpoint of step 2"):
            checkpoint.save(tmp_path, 2, parts, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert names(tmp_path) == ["step-00000001"]


def test_full_disk_under_the_metrics(tmp_path):
    options = replace(OPTIONS, checkpoint_every=100)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    run = train(Toy(), toy_loss, Points(), options, tmp_path)
    next(run)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, before[1]))
    try:
        with pytest.raises(OSError, match=r"cannot write .*metrics\.jsonl.*--resume"):
            list(run)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    finish(tmp_path, options, resume=True)
    assert len(losses(tmp_path)) == options.steps


@pytest.mark.parametrize("name", ["model", "ema", "optimizer"])
def test_truncated_file(tmp_path, name):
    finish(tmp_path, replace(OPTIONS, steps=5))
    path = tmp_path / "state" / "step-00000005" / f"{name}.safetensors"
    os.truncate(path, path.stat().st_size - 7)
    with pytest.raises(ValueError, match=rf"{name}\.safetensors is truncated or damaged"):
        finish(tmp_path, resume=True)
    path.unlink()
    with pytest.raises(ValueError, match=rf"has no {name}\.safetensors"):
        finish(tmp_path, resume=True)


@pytest.mark.parametrize("name", ["ema", "optimizer"])
@pytest.mark.parametrize(
    "change",
    [
        lambda tensors, name: tensors.pop(name),
        lambda tensors, name: tensors.update({name: torch.zeros(7)}),
        lambda tensors, name: tensors.update({"9999.exp_avg": torch.zeros(3)}),
        lambda tensors, name: tensors.update({"a.b": torch.zeros(3)}),
    ],
    ids=["one less", "another shape", "one more", "another name"],
)
def test_tensors_that_do_not_belong_to_the_weights_are_named(tmp_path, name, change):
    finish(tmp_path, replace(OPTIONS, steps=5))
    path = tmp_path / "state" / "step-00000005" / f"{name}.safetensors"
    tensors = load_file(path)
    change(tensors, {"ema": "head.weight", "optimizer": "2.exp_avg"}[name])
    path.unlink()  # it has a second name
    save_file(tensors, path)
    with pytest.raises(ValueError, match=rf"{name}\.safetensors is truncated or damaged \('"):
        finish(tmp_path, resume=True)


def test_damaged_facts(tmp_path):
    finish(tmp_path, replace(OPTIONS, steps=5))
    (tmp_path / "state" / "step-00000005" / "state.json").write_text('{"step": 5')
    with pytest.raises(ValueError, match=r"state\.json is truncated or damaged"):
        finish(tmp_path, resume=True)


def test_checkpoint_of_another_model(tmp_path):
    finish(tmp_path, replace(OPTIONS, steps=5))
    model = Toy()
    model.head = nn.Linear(16, 6)
    with pytest.raises(ValueError, match=r"'head\.weight' is \(5, 16\) there and \(6, 16\) here"):
        train(model, toy_loss, Points(), OPTIONS, tmp_path, resume=True)
    model = Toy()
    model.extra = nn.Linear(1, 1)
    with pytest.raises(ValueError, match=r"'extra\.weight' is no such tensor there"):
        train(model, toy_loss, Points(), OPTIONS, tmp_path, resume=True)


def test_published_weights_are_those_of_the_checkpoint(tmp_path):
    model = finish(tmp_path)
    assert names(tmp_path) == ["ema.safetensors", "metrics.jsonl", "model.safetensors", "state"]
    for name in ("model", "ema"):
        published = load_file(tmp_path / f"{name}.safetensors")
        kept = load_file(tmp_path / "state" / "step-00000024" / f"{name}.safetensors")
        assert published.keys() == model.state_dict().keys()
        assert all(torch.equal(published[key], kept[key]) for key in kept)
    published = load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(published[k], v) for k, v in model.state_dict().items())
    before = sorted(tmp_path.rglob("*"))
    checkpoint.publish(checkpoint.newest(tmp_path / "state"), tmp_path)  # twice is once
    assert sorted(tmp_path.rglob("*")) == before
    facts = json.loads((tmp_path / "state" / "step-00000024" / "state.json").read_text())
    assert facts["step"] == 24
    assert facts["options"]["batch_size"] == 8


def test_what_a_crash_leaves_is_ignored_and_removed(tmp_path):
    checkpoint.save(tmp_path / "state", 5, {}, {})
    hidden = tmp_path / "state" / ".step-00000010"
    hidden.mkdir()
    (hidden / "model.safetensors").write_bytes(b"half")
    assert checkpoint.newest(tmp_path / "state").name == "step-00000005"
    checkpoint.save(tmp_path / "state", 10, {}, {})
    assert names(tmp_path / "state") == ["step-00000005", "step-00000010"]
    assert checkpoint.newest(tmp_path / "nothing") is None


def test_memory_formats_and_shared_weights_survive(tmp_path):
    """safetensors refuses both; moments must come back in the format of their parameter."""

    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            with Rng(2).torch():
                self.conv = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
                self.again = self.conv

        def forward(self, x):
            return self.again(self.conv(x)[:, :3])

    def updates(model, adamw, count):
        for i in range(count):
            model(Rng(i).normal((2, 3, 8, 8))).square().mean().backward()
            adamw.step()
            adamw.zero_grad()

    model = Tied()
    adamw = torch.optim.AdamW(model.parameters(), fused=True)
    updates(model, adamw, 3)
    parts = {"model": model.state_dict(), "optimizer": checkpoint.moments(adamw)}
    checkpoint.save(tmp_path, 3, parts, {"a": 1})

    other = Tied()
    loaded, facts = checkpoint.load(tmp_path / "step-00000003")
    assert facts == {"step": 3, "a": 1}
    other.load_state_dict(loaded["model"])
    restored = torch.optim.AdamW(other.parameters(), fused=True)
    checkpoint.load_moments(restored, loaded["optimizer"])
    assert restored.state[other.conv.weight]["exp_avg"].stride() == other.conv.weight.stride()
    updates(model, adamw, 2)
    updates(other, restored, 2)
    assert torch.equal(model.conv.weight, other.conv.weight)


def test_init_from_a_run_takes_the_averaged_weights(tmp_path):
    finish(tmp_path)
    model = Toy()
    assert init_from(model, tmp_path) == []
    averaged = load_file(tmp_path / "ema.safetensors")
    assert all(torch.equal(model.state_dict()[key], averaged[key]) for key in averaged)
    init_from(model, tmp_path / "model.safetensors")
    assert not torch.equal(model.head.weight, averaged["head.weight"])
    with pytest.raises(FileNotFoundError, match="no file"):
        init_from(model, tmp_path / "elsewhere.safetensors")


def test_what_grew_starts_without_effect():
    old, new = nn.Conv2d(3, 4, 3), nn.Conv2d(6, 4, 3)
    assert init_from(new, old.state_dict()) == ["weight: (4, 3, 3, 3) -> (4, 6, 3, 3)"]
    x = Rng(0).normal((2, 6, 5, 5))
    torch.testing.assert_close(new(x), old(x[:, :3]))


def test_new_parts_keep_their_initialisation():
    old = layer(3, 3)
    new = nn.ModuleDict({"a": layer(3, 3, 1), "b": layer(2, 2, 2)})
    before = new["b"].weight.clone()
    weights = {f"a.{name}": value for name, value in old.state_dict().items()}
    assert init_from(new, weights) == ["b.weight", "b.bias"]
    assert torch.equal(new["a"].weight, old.weight)
    assert torch.equal(new["b"].weight, before)


@pytest.mark.parametrize(
    ("old", "message"),
    [
        (layer(4, 3), r"'weight' is \(3, 4\) in the given weights and \(3, 3\)"),
        (layer(2, 2), "may grow along one axis"),
        (nn.Conv1d(3, 3, 1), r"'weight' is \(3, 3, 1\)"),
        (nn.ModuleDict({"head": layer(1, 1)}), r"'head\.weight' of the given weights has no place"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_changes(old, message):
    model = layer(3, 3, 5)
    before = model.weight.clone()
    with pytest.raises(ValueError, match=message):
        init_from(model, old.state_dict())
    assert torch.equal(model.weight, before)
