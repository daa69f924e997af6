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


SAYS_NONE = ["--prior=none", "--bonus=0", "--penalty=0", "--restart=0", "--code-drop=0"]


@pytest.mark.parametrize("word", [*SAYS_NONE, "--codes=none", "--hard=false"])
def test_what_says_that_there_are_no_codes_may_be_typed_of_none(word, tmp_path):
    words = ["train", "disco-mixture", "--out", str(tmp_path / "x"), *TINY[:5], "--m=0", word]
    assert main([*words, "--no-evaluate"]) == 0


@pytest.mark.parametrize(
    "word", ["--prior=tabular", "--bonus=0.5", "--restart=0.1", "--code-drop=0.2", "--k=3"]
)
def test_what_says_more_of_no_codes_is_refused(word, tmp_path, capsys):
    words = ["train", "disco-mixture", "--out", tmp_path / "x", *TINY[:5], "--m=0", word]
    (line,) = told(capsys, *words)
    name = word.strip("-").partition("=")[0].replace("-", "_")
    assert line.endswith(f"{name} changes nothing of a model without codes: leave it out")


def test_of_codes_a_table_may_not_be_called_none(tmp_path, capsys):
    words = ["train", "disco-mixture", "--out", tmp_path / "x", *TINY, "--prior=tabular"]
    (line,) = told(capsys, *words, "--prior-steps=3")
    assert "prior_steps changes nothing of a tabular prior" in line
