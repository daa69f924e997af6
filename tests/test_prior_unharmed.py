"""What a new prior of a run must not harm: what was trained, a prior that is there, the run."""

import multiprocessing
import os
import shutil
import signal

import pytest
import torch
import yaml
from safetensors.torch import load_file

import noiseloom.fit_prior
import noiseloom.new_prior
from noiseloom.cli import main
from noiseloom.fit import fit
from noiseloom.loading import load
from noiseloom.prior_folder import read_prior, remove_prior
from noiseloom.priors import PriorKind, TabularPrior
from noiseloom.recipes import DiscoMixture
from noiseloom.run_folder import claimed
from noiseloom.training import checkpoint, loop

RECIPE = DiscoMixture(
    steps=4,
    batch_size=16,
    checkpoint_every=5,
    width=8,
    depth=1,
    m=2,
    k=3,
    samples=20,
    sampling_steps=2,
    prior_steps=9,
    prior_batch_size=16,
    prior_width=8,
    prior_depth=1,
)
RESULTS = ("evaluation.json", "evaluations/codes='marginal'.json", "report.html")

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run; copied, never changed."""
    out = tmp_path_factory.mktemp("trained") / "run"
    fit(RECIPE, out, command="noiseloom train it")
    return out


@pytest.fixture
def run(trained, tmp_path):
    """A copy, with results."""
    found = shutil.copytree(trained, tmp_path / "run")
    (found / "evaluations").mkdir()
    for name in RESULTS:
        (found / name).write_text("{}")
    return found


def files(folder):
    """All that lies in a folder, by name."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def same(ours, theirs):
    found = [load_file(folder / "prior" / "ema.safetensors") for folder in (ours, theirs)]
    return all(torch.equal(found[0][name], found[1][name]) for name in found[1])


def ended(patch, most, how):
    """Let a training raise an error at so many updates."""
    update, calls = loop._Run._update, []

    def stopped(self, step):
        calls.append(step)
        if len(calls) == most:
            raise how
        return update(self, step)

    patch.setattr(loop._Run, "_update", stopped)


def stop(*args):
    raise KeyboardInterrupt


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("most", [3, 8])  # before and after a first checkpoint
def test_what_was_trained_stays_after_an_error(run, tmp_path, monkeypatch, apart, most):
    before = files(run)
    words = ["prior", str(run), "--prior", "bits"]
    new, more = (tmp_path / "new", ["--out"]) if apart else (run, ["--force"])
    whole = tmp_path / "whole" if apart else shutil.copytree(run, tmp_path / "whole")
    first = [*words, *more, str(whole)] if apart else ["prior", str(whole), *words[2:], *more]
    assert main(first) == 0
    with monkeypatch.context() as patch:
        ended(patch, most, OSError("no space left"))
        assert main([*words, *more, *([str(new)] if apart else [])]) == 2
    folder = new / ("prior" if apart else "prior.next")
    assert folder.exists() == (most == 8)
    assert files(run).items() >= before.items()
    if most == 8:
        assert [path.name for path in (folder / "state").iterdir()] == ["step-00000005"]
        assert main(["prior", str(new)]) == 0
        assert same(new, whole)
    elif apart:
        assert not new.exists()


@pytest.mark.parametrize("place", ["forget", "write_text", "replace_prior"])
def test_results_are_never_of_another_prior_than_the_description_says(
    run, monkeypatch, capsys, place
):
    with monkeypatch.context() as patch:
        patch.setattr(noiseloom.new_prior, place, stop)
        assert main(["prior", str(run), "--prior", "tabular", "--force"]) == 130
    said = yaml.safe_load((run / "recipe.yaml").read_text())["prior"]
    assert said == "autoregressive" or not any((run / name).exists() for name in RESULTS)
    remedy = (
        f"{run}: another prior (tabular) is finished, and not in its place yet: noiseloom prior "
        f"{run}"
    )
    for _ in range(2):
        capsys.readouterr()
        load(run, device="cpu")
        assert capsys.readouterr().err.splitlines() == [remedy]
    assert main(["prior", str(run)]) == 0
    capsys.readouterr()
    assert isinstance(load(run, device="cpu").parts.prior, TabularPrior)
    assert not capsys.readouterr().err


def test_a_prior_that_was_begun_is_not_spoken_of(run, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        ended(patch, 8, KeyboardInterrupt())
        assert main(["prior", str(run), "--force"]) == 130
    capsys.readouterr()
    load(run, device="cpu")
    assert not capsys.readouterr().err


def test_what_a_kill_left_of_an_old_prior_is_in_no_ones_way(run):
    (run / ".prior.old").mkdir()
    (run / ".prior.old" / "ema.safetensors").write_text("")
    assert main(["prior", str(run), "--prior", "tabular", "--force"]) == 0
    assert not (run / ".prior.old").exists()


def test_a_prior_that_cannot_be_made_ends_none_that_was_begun(run, monkeypatch):
    remove_prior(run)
    with monkeypatch.context() as patch:
        ended(patch, 8, KeyboardInterrupt())
        assert main(["prior", str(run)]) == 130
    before, make = files(run), PriorKind.make

    def made(kind):
        if kind.kind == "tabular":
            raise ValueError("too many codes")
        return make(kind)

    monkeypatch.setattr(PriorKind, "make", made)
    assert main(["prior", str(run), "--prior", "tabular", "--force"]) == 2
    assert files(run) == before


def test_a_damaged_prior_stays_until_another_is_finished(run, monkeypatch):
    path = run / "prior" / "prior.yaml"
    path.write_text("kind: tabular\nwide: 3\n")
    before = files(run)
    with monkeypatch.context() as patch:
        ended(patch, 8, KeyboardInterrupt())
        assert main(["prior", str(run), "--force"]) == 130
    assert files(run).items() >= before.items()
    assert main(["prior", str(run)]) == 0
    assert read_prior(run)[1]


def test_a_run_that_is_being_trained_gives_no_copy(run, tmp_path, capsys):
    with claimed(run):
        assert main(["prior", str(run), "--prior", "tabular", "--out", str(tmp_path / "new")]) == 2
    assert "run is being trained by another process" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize(
    ("place", "text", "reason"),
    [
        ("prior", "kind: foo\n", "it does not say m, k"),
        ("prior", "m: 2\nk: 3\nwide: 3\n", "it does not say kind"),
        ("prior", "kind: tabular\nm: 2\nk: 3\nwide: 3\n", "it says wide, which is not known"),
        ("prior", "", "it says nothing"),
        ("prior", "- kind\n", "it is no list of names and their values"),
        ("prior.next", "options: [3]\n", "it is no list of names and their values"),
        (
            "prior.next",
            "kind: tabular\nm: 2\nk: 3\noptions: {prior_steps: many}\n",
            "options of it are of a wrong type",
        ),
        (
            "prior.next",
            "kind: tabular\nm: 2\nk: 3\noptions: {steps: 3}\n",
            "it says steps, which is not known",
        ),
    ],
)
def test_a_damaged_description_is_told_of_in_words_of_its_own(run, capsys, place, text, reason):
    (run / place).mkdir(exist_ok=True)
    path = run / place / "prior.yaml"
    path.write_text(text)
    assert main(["prior", str(run)]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert f"{path} does not describe a prior ({reason}): make it again with" in told


# Another run's copy of the first stage.


def copied_until(run, out, n):
    """Make another run's prior until the nth file is copied."""
    inner, calls = shutil.copyfile, []

    def last_time(*args, **more):
        calls.append(1)
        if len(calls) == n:
            os.kill(os.getpid(), signal.SIGKILL)
        return inner(*args, **more)

    torch.set_num_threads(1)
    shutil.copyfile = checkpoint.place = last_time
    main(["prior", str(run), "--prior", "tabular", "--out", str(out)])


def test_a_copy_that_is_killed_is_none_and_the_same_command_makes_it(run, tmp_path):
    out, words = tmp_path / "new", ["prior", str(run), "--prior", "tabular", "--out"]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["noiseloom.fit", "torch._dynamo"])
    process = context.Process(target=copied_until, args=(run, out, 2))
    process.start()
    process.join()
    assert process.exitcode == -9
    assert not out.exists()
    assert main([*words, str(out)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"run", "new"}


def test_nothing_is_left_of_a_copy_that_is_interrupted(run, tmp_path, monkeypatch):
    before = files(run)
    monkeypatch.setattr(noiseloom.new_prior.shutil, "copyfile", stop)
    assert main(["prior", str(run), "--prior", "tabular", "--out", str(tmp_path / "new")]) == 130
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert files(run) == before


def test_a_copy_takes_the_place_of_what_a_kill_left_and_of_nothing_else(run, tmp_path, capsys):
    words = ["prior", str(run), "--prior", "tabular", "--out", str(tmp_path / "new")]
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / ".lock").write_text("")
    (tmp_path / "new" / ".recipe.yaml.part").write_text("")
    with claimed(tmp_path / "new"):
        assert main(words) == 2
    assert "new is being trained by another process" in capsys.readouterr().err
    assert main(words) == 0
    names = {path.name for path in (tmp_path / "new").iterdir() if path.name.startswith(".")}
    assert not names
    assert {path.name for path in tmp_path.iterdir()} == {"run", "new"}


def test_a_copy_has_all_of_the_first_stage_and_takes_no_room_for_it(run, tmp_path):
    out = tmp_path / "new"
    assert main(["prior", str(run), "--prior", "tabular", "--out", str(out)]) == 0
    ours, theirs = files(out), files(run)
    first = {name for name in theirs if name.startswith(("model.", "ema.", "metrics.", "state/"))}
    assert {"model.safetensors", "ema.safetensors", "metrics.jsonl"} <= first
    assert any(name.startswith("state/") for name in first)  # else --resume would begin again
    assert all(ours[name] == theirs[name] for name in first)
    for name in first:  # weights are never written to, records are
        assert (out / name).samefile(run / name) == name.endswith((".safetensors", "state.json"))


def test_more_steps_of_a_copy_leave_the_run_as_it_is(run, tmp_path):
    before, out = files(run), tmp_path / "new"
    assert main(["prior", str(run), "--prior", "tabular", "--out", str(out)]) == 0
    words = ["train", "--out", str(out), "--resume", "--no-evaluate", "--steps", "6"]
    assert main(words) == 0
    assert files(run) == before
    assert files(out)["model.safetensors"] != before["model.safetensors"]
    assert isinstance(load(out, device="cpu").parts.prior, TabularPrior)


def test_a_copy_says_of_which_run_it_is_and_by_what_command(run, tmp_path, monkeypatch):
    out = tmp_path / "new"
    words = ["prior", str(run), "--prior", "tabular", "--out", str(out)]
    monkeypatch.setattr("sys.argv", ["noiseloom", *words])
    assert main(words) == 0
    told = {"run": str(run), "command": f"noiseloom {' '.join(words)}"}

    def described():
        return yaml.safe_load((out / "recipe.yaml").read_text())["run"]

    assert described()["command"] == "noiseloom train it"
    assert described()["copied_from"] == told
    assert "copied_from" not in yaml.safe_load((run / "recipe.yaml").read_text())["run"]
    assert main(["report", str(out)]) == 0
    page = (out / "report.html").read_text()
    assert f"noiseloom train it\n{told['command']}</pre>" in page
    assert main(["prior", str(out), "--prior", "bits", "--force"]) == 0
    assert described()["copied_from"] == told
    words = ["train", "--out", str(out), "--resume", "--no-evaluate", "--steps", "6"]
    assert main(words) == 0
    assert described()["copied_from"] == told
