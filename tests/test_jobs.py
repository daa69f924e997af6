"""A generator in a process of its own: when it works, what it says of errors, how it ends."""

import contextlib
import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest

import noiseloom.budget
from noiseloom.budget import updates_within
from noiseloom.jobs import Aside
from noiseloom.pace import Timing
from noiseloom.recipes.disco_mixture import DiscoMixture
from noiseloom.recipes.own import recipe_from_file

EXAMPLE = Path(__file__).parents[1] / "examples" / "my_recipe.py"


def counted(folder):
    """Leaves a file for each that is made."""
    for i in range(3):
        (folder / str(i)).touch()
        yield os.getpid(), i


def broken(folder):
    yield 0
    raise ValueError("no such column")


def killed(folder):
    yield 0
    os.kill(os.getpid(), signal.SIGKILL)


def stuck(folder):
    (folder / "new").write_text(str(os.getpid()))
    (folder / "new").rename(folder / "pid")
    time.sleep(600)
    yield 0


def aside(make, folder):
    return contextlib.closing(Aside(partial(make, folder), place=0, logs=folder / "logs"))


def appears(path):
    end = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_the_first_is_made_at_once_and_others_when_they_are_asked_for(tmp_path) -> None:
    with aside(counted, tmp_path) as made:
        appears(tmp_path / "0")
        time.sleep(0.2)
        assert not (tmp_path / "1").exists()
        (process, first), (same, second) = next(made), next(made)
        assert (first, second) == (0, 1)
        assert process == same != os.getpid()
        assert not (tmp_path / "2").exists()
        assert [i for _, i in made] == [2]


def test_errors_come_as_they_are_and_a_kill_is_told(tmp_path) -> None:
    with aside(broken, tmp_path) as made:
        assert next(made) == 0
        with pytest.raises(ValueError, match="no such column"):
            next(made)
    with aside(killed, tmp_path) as made:
        assert next(made) == 0
        with pytest.raises(OSError, match="its process was killed, perhaps for want of memory"):
            next(made)


def test_closing_ends_it_wherever_it_is(tmp_path) -> None:
    with aside(stuck, tmp_path):
        appears(tmp_path / "pid")
        process = int((tmp_path / "pid").read_text())
        os.kill(process, 0)  # it is there
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_runs_are_timed_in_processes_of_their_own_where_they_are_on_a_gpu(
    tmp_path, monkeypatch
) -> None:
    own = recipe_from_file(EXAMPLE)(threads=1)
    coded = DiscoMixture(m=2, k=4, prior="autoregressive", prior_batch_size=8, width=8, threads=1)
    seen = {}

    def found(loops):
        seen.update({name: (type(loop), next(loop)) for name, loop in loops.items()})
        return dict.fromkeys(loops, Timing(0.125, 5, 20))

    monkeypatch.setattr(noiseloom.budget, "_apart", lambda: True)
    monkeypatch.setattr(noiseloom.budget, "in_turns", found)
    for name, recipe, file in (("own", own, str(EXAMPLE)), ("coded", coded, None)):
        titles = {name: name}
        paid = updates_within(
            100.0,
            {name: recipe},
            tmp_path / name / "budget.json",
            titles=titles,
            data=None,
            jobs=1,
            recipe_file=file,
        )
        assert paid[name]["steps"] > 0
    names = ["own", "coded", "the codes of coded", "the prior of coded"]
    assert seen == dict.fromkeys(names, (Aside, 1))
