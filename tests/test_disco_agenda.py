"""The agenda of DisCo-Diff on photographs: commands that can be typed, in order of importance."""

import math
import shlex
from pathlib import Path

import pytest
import yaml

from noiseloom.cli import main

JOBS = yaml.safe_load((Path(__file__).parents[1] / "tools" / "disco.yaml").read_text())
FACTS = {"shape": [3, 64, 64], "levels": 256, "classes": [str(i) for i in range(60)]}
TRAINED = 11_700 - 2_574  # frames of fruits, by --split arcs --held-out 0.22


@pytest.fixture
def recipes(monkeypatch, tmp_path):
    """What every training of the agenda would train, by the name of its run."""
    called, ran = [], {}
    for name in ("train", "evaluate", "report"):
        call = f"noiseloom.commands.{name}"
        monkeypatch.setattr(call, lambda *a, _name=name, **m: called.append((_name, a, m)))
    for job in JOBS:
        words = shlex.split(job["run"].format(out=tmp_path))
        assert main(words) == 0, job["name"]
        name, given, _ = called[-1]
        if name == "train":
            assert words[words.index("--out") + 1] == str(tmp_path / "runs" / job["name"])
            kind, options = given[0], given[1]
            ran[job["name"]] = kind(**options)
            ran[job["name"]].check_typed(called[-1][2]["typed"])
        else:
            assert words[1] == str(tmp_path / "runs" / job["after"][0])
    assert len(called) == len(JOBS)
    return ran


def test_each_command_can_be_typed_and_judges_what_was_trained_before(recipes):
    names = [job["name"] for job in JOBS]
    for i, job in enumerate(JOBS):
        assert set(job.get("after", ())) <= set(names[:i])
    assert [name for name in names if not name.endswith("judged")][:6] == [
        f"{kind}-{seed}" for seed in range(3) for kind in ("codes", "plain")
    ]


def test_the_headline_is_of_equal_size_and_steps_and_cannot_number_the_pictures(recipes):
    for seed in range(3):
        codes, plain = recipes[f"codes-{seed}"], recipes[f"plain-{seed}"]
        assert codes.seed == plain.seed == seed
        assert (codes.steps, codes.batch_size) == (plain.steps, plain.batch_size)
        assert codes.m * math.log2(codes.k) <= math.log2(TRAINED) - 5
        assert plain.m == 0
    sizes = [
        sum(p.numel() for p in recipe.build(FACTS).denoiser.parameters())
        for recipe in (recipes["codes-0"], recipes["plain-0"])
    ]
    assert abs(sizes[1] / sizes[0] - 1) < 0.02


def test_every_ablation_differs_from_the_headline(recipes):
    own = recipes["codes-0"]
    others = [recipe for name, recipe in recipes.items() if not name.startswith("codes")]
    assert own not in others
    # A constant temperature is the default: an ablation of it is of an annealed one.
    assert own.temperature == "constant"
    assert recipes["annealed-0"].temperature == "annealed"
