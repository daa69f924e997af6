"""The agendas of `tools`: commands that can be typed, and that find what they wait for."""

import shlex
from pathlib import Path

import pytest
import yaml

from noiseloom.cli import main

FILES = sorted((Path(__file__).parents[1] / "tools").glob("*.yaml"))
TYPED = ("train", "guide", "evaluate")
"""Commands whose options can be read without a run."""


def jobs_of(file):
    return yaml.safe_load(file.read_text())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_trainings_guides_and_evaluations_can_be_typed(file, monkeypatch, tmp_path):
    called = []

    def take(*args, **_):
        called.append(args)

    monkeypatch.setattr("noiseloom.commands.train", take)
    monkeypatch.setattr("noiseloom.commands.evaluate", take)
    monkeypatch.setattr("noiseloom.guide_command.guide", take)
    monkeypatch.setattr("noiseloom.evaluate_guides.evaluate_guides", take)
    monkeypatch.setattr("noiseloom.found_guides.folders_of", lambda *_: [])
    typed = [job for job in jobs_of(file) if job["run"].split()[0] in TYPED]
    for job in typed:
        words = shlex.split(job["run"].format(out=tmp_path))
        assert main(words) == 0, job["name"]
        if words[0] == "train":
            kind, options, _ = called[-1]
            kind(**options)
    assert len(called) == len(typed)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_jobs_wait_for_what_they_read(file):
    """Folders in {out} are made by the job itself or by one that it waits for; files are given."""
    jobs, made = {job["name"]: job for job in jobs_of(file)}, {}
    assert len(jobs) == len(jobs_of(file))
    for name, job in jobs.items():
        words = shlex.split(job["run"])
        if "--out" in words:
            made.setdefault(words[words.index("--out") + 1], []).append(name)

    def before(name):
        found = {name}
        for other in jobs[name].get("after", []):
            found |= before(other)
        return found

    for name, job in jobs.items():
        read = [p for word in shlex.split(job["run"]) for p in word.split(",")]
        for path in read:
            folder = path.removesuffix("/selection")
            given = not folder.startswith("{out}/") or "/data/" in folder or Path(folder).suffix
            if folder in made or not given:
                assert set(made[folder]) & before(name), f"{name} does not wait for {path}"
