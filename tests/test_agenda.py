"""Agendas: what is begun, in which order, and what is waited for."""

import json
import sys
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))
import agenda

WRITE = "-c \"open('{{out}}/{name}', 'w')\""


def job(name, *after, run=None, **more):
    run = run or WRITE.format(name=name)
    return {"name": name, "run": run, "after": list(after), "python": True, "seconds": 0, **more}


@pytest.fixture
def file(tmp_path):
    def write(*jobs):
        path = tmp_path / "agenda.yaml"
        path.write_text(yaml.safe_dump(list(jobs)))
        return path

    return write


def run(monkeypatch, path, out, *words):
    options = [str(path), "--out", str(out), "--limit", "20", "--grace", "1", *words]
    monkeypatch.setattr(sys, "argv", ["agenda.py", *options])
    agenda.main()
    kept = out / "jobs.jsonl"
    lines = kept.read_text().splitlines() if kept.is_file() else []
    return [(row["name"], row["code"]) for row in map(json.loads, lines)]


def test_what_follows_waits_and_what_is_done_is_not_done_again(file, tmp_path, monkeypatch):
    out = tmp_path / "out"
    path = file(job("second", "first"), job("first"))
    assert run(monkeypatch, path, out) == [("first", 0), ("second", 0)]
    assert (out / "second").is_file()
    assert run(monkeypatch, path, out) == [("first", 0), ("second", 0)]


def test_what_follows_a_failure_is_left(file, tmp_path, monkeypatch, capsys):
    path = file(job("wrong", run='-c "raise SystemExit(3)"'), job("second", "wrong"), job("third"))
    assert run(monkeypatch, path, tmp_path / "out", "--lanes", "gpu=1") == [
        ("wrong", 3),
        ("third", 0),
    ]
    assert "waiting: second" in capsys.readouterr().out


def test_some_jobs_in_their_own_order_wait_for_those_of_another(file, tmp_path, monkeypatch):
    out = tmp_path / "out"
    (out / "logs").mkdir(parents=True)
    path = file(job("a"), job("b"), job("c", "a"), job("d"))
    jobs = agenda.read(path, ["d", "c"])
    assert [j.name for j in jobs] == ["d", "c", "a", "b"]
    assert [j.state for j in jobs] == ["waiting", "waiting", "elsewhere", "elsewhere"]
    agenda.refresh(jobs, out)
    ready = [j.name for j in jobs if agenda.ready(j, jobs, {"gpu": 9}, 1.0)]
    assert ready == ["d"]
    assert not agenda.at_an_end(jobs)  # a may come
    (out / "jobs.jsonl").write_text('{"name": "a", "code": 0, "run": "", "seconds": 0}\n')
    found = run(monkeypatch, path, out, "--only", "d,c", "--lanes", "gpu=1")
    assert found == [("a", 0), ("d", 0), ("c", 0)]
    with pytest.raises(SystemExit, match="has no e"):
        agenda.read(path, ["e"])


def test_what_cannot_end_in_time_is_not_begun(file, tmp_path, monkeypatch, capsys):
    path = file(job("long", seconds=1000), job("short"))
    assert run(monkeypatch, path, tmp_path / "out") == [("short", 0)]
    assert "waiting: long" in capsys.readouterr().out


def test_names_are_of_one_job_and_what_is_followed_is_there(file):
    for jobs in ((job("a"), job("a")), (job("a", "b"),)):
        with pytest.raises(SystemExit, match="is named twice, or follows what there is not"):
            agenda.read(file(*jobs), None)
