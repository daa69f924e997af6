"""Recordings, on the CPU by a stand-in for CUDA graphs that keeps their one rule: no host."""

import pytest
import torch
from recorded import capture

from noiseloom import replay
from noiseloom.replay import Replayed


@pytest.fixture
def cpu(monkeypatch):
    monkeypatch.setitem(replay._CAPTURES, "cpu", capture)
    return torch.device("cpu")


def test_a_replay_is_the_function_without_its_host(cpu):
    calls = []

    def function(tree, scale):
        calls.append(scale)
        y = tree["x"].t() @ tree["x"] * scale
        y[0] += torch.full((2,), float(len(calls)))
        return {"y": y, "both": (y.sum(), tree["more"][0].square())}

    replayed, found = Replayed(function, cpu), []
    for i in range(5):
        tree = {"x": torch.full((3, 2), float(i)), "more": [torch.ones(2) * i]}
        found.append((replayed(tree, 2.0), tree))
    assert calls == [2.0, 2.0]  # run once, recorded once
    for i, (result, tree) in enumerate(found):
        y = tree["x"].t() @ tree["x"] * 2
        y[0] += 1.0 if i == 0 else 2.0  # as the host had it
        assert torch.equal(result["y"], y)
        assert torch.equal(result["both"][0], y.sum())
        assert torch.equal(result["both"][1], torch.ones(2) * i * i)
        assert (tree["x"] == i).all()


def test_another_form_is_another_recording(cpu):
    calls = []

    def function(x, name=None):
        calls.append((tuple(x.shape), x.dtype, name))
        return x + 1

    replayed = Replayed(function, cpu)
    forms = [(torch.ones(2), None), (torch.ones(3), None), (torch.ones(2).double(), None)]
    forms.append((torch.ones(2), "other"))
    for _ in range(3):
        for x, name in forms:
            assert torch.equal(replayed(x, name), x + 1)
    assert len(calls) == 2 * len(forms)


def test_without_a_gpu_it_is_said():
    with pytest.raises(ValueError, match="a CUDA graph needs a GPU, and the device is cpu"):
        Replayed(torch.clone, torch.device("cpu"))
