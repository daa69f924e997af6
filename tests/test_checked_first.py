"""What cannot be drawn or judged is refused before anything is drawn."""

import pytest

from noiseloom.cli import main

TINY = ["--steps=2", "--batch-size=8", "--width=8", "--depth=1", "--samples=20", "--m=2", "--k=3"]
UNMET = (
    "code_temperature 0.5 says nothing to a prior of bits, a diffusion, which has neither "
    "temperature nor nucleus: take --code-temperature 1, or another prior"
)

pytestmark = pytest.mark.usefixtures("one_thread")


def trained(folder, *words):
    out = folder / "run"
    words = ["train", "disco-mixture", "--out", str(out), *TINY, "--evaluations=[]", *words]
    assert main([*words, "--no-evaluate"]) == 0
    return out


def told(capsys, *words):
    """All lines of an error."""
    capsys.readouterr()
    assert main([str(word) for word in words]) == 2
    return capsys.readouterr().err.splitlines()


def test_a_prior_that_cannot_do_what_is_asked_is_no_dead_end(tmp_path, capsys):
    run = trained(tmp_path, "--prior=tabular", "--code-temperature=0.5")
    words = ["prior", str(run), "--prior", "bits", "--force", "--prior-steps", "1"]
    assert main(words) == 0
    *_, line = told(capsys, "train", "--out", run, "--resume", "--steps", 4)
    assert line.endswith(
        f"{UNMET}; of a run that was begun only --steps may change: go on with --no-evaluate"
    )
    (line,) = told(capsys, "evaluate", run)
    assert line.endswith(UNMET)
    (line,) = told(capsys, "sample", run, "--out", tmp_path / "x.csv")
    assert line.endswith(UNMET)
    words = ["train", "--out", str(run), "--resume", "--steps", "4", "--no-evaluate"]
    assert main(words) == 0
    assert main(["evaluate", str(run), "--code-temperature", "1"]) == 0


def test_a_new_run_may_change_more_than_its_steps(tmp_path, capsys):
    words = ["train", "disco-mixture", "--out", tmp_path / "new", *TINY, "--prior=bits"]
    (line,) = told(capsys, *words, "--code-temperature=0.5")
    assert line.endswith(UNMET)
    assert not (tmp_path / "new").exists()


def test_codes_that_cannot_be_had_are_refused_before_samples_are_drawn(tmp_path, capsys):
    run = trained(tmp_path, "--prior=none", "--codes=marginal", "--code-drop=0")
    (line,) = told(capsys, "evaluate", run, "--codes", "none")
    assert "codes none needs a model that was trained without codes at times" in line
    (line,) = told(capsys, "evaluate", run, "--codes", "prior")
    assert f"make it with noiseloom prior {run} --prior autoregressive, or" in line
    assert main(["evaluate", str(run)]) == 0
