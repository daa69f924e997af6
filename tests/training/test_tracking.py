import importlib.util
import io
import json
from dataclasses import replace

import pytest
from rich.console import Console
from toy_run import OPTIONS, Points, Toy, losses, toy_loss

from noiseloom.training import Progress, TensorBoard, show, train
from noiseloom.training.tracking import Metrics


def run(steps=20):
    for step in range(1, steps + 1):
        yield Progress(step, steps, 0.25, 1e-3, 1.0, 1234.5, 75.0 * (steps - step))


def rows(first, last):
    return [{"step": k, "loss": 1 / k, "seconds": 2.0 * k} for k in range(first, last + 1)]


def test_metrics_forget_what_is_about_to_be_made_again(tmp_path):
    path = tmp_path / "metrics.jsonl"
    metrics = Metrics(path)
    metrics.write(rows(1, 3))
    metrics.write(rows(4, 7))
    metrics.close()
    path.write_bytes(path.read_bytes()[:-5])
    metrics = Metrics(path, 4)
    assert metrics.seconds == 8.0
    metrics.write(rows(5, 6))
    metrics.sync()
    metrics.close()
    assert [json.loads(line) for line in path.read_text().splitlines()] == rows(1, 6)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda lines: [], 1),
        (lambda lines: lines[:4], 5),
        (lambda lines: [*lines[:4], b"\n", *lines[5:]], 5),
        (lambda lines: [*lines[:4], b"[]\n", *lines[5:]], 5),
        (lambda lines: [*lines[:4], b"{}\n", *lines[5:]], 5),
        (lambda lines: [*lines[:4], *lines[5:]], 5),
        (lambda lines: [*lines[:5], lines[5][:-1]], 6),
    ],
)
def test_what_is_gone_from_the_middle_is_not_passed_over(tmp_path, change, line):
    path = tmp_path / "metrics.jsonl"
    metrics = Metrics(path)
    metrics.write(rows(1, 7))
    metrics.close()
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))
    before = path.read_bytes()
    with pytest.raises(
        ValueError, match=rf"metrics\.jsonl has no line {line} of update {line}: "
    ) as e:
        Metrics(path, 6)
    assert "\n" not in str(e.value)
    assert path.read_bytes() == before
    path.unlink()
    with pytest.raises(ValueError, match=r"metrics\.jsonl has no line 1"):
        Metrics(path, 6)
    assert not path.exists()


def test_floats_survive_the_file(tmp_path):
    seen = []

    class Keep:
        def write(self, records):
            seen.extend(records)

        def close(self):
            seen.append("closed")

    options = replace(OPTIONS, steps=6)
    list(train(Toy(), toy_loss, Points(), options, tmp_path, trackers=[Keep()]))
    assert seen.pop() == "closed"
    assert losses(tmp_path) == [record["loss"] for record in seen]
    assert list(seen[0]) == ["step", "loss", "learning_rate", "grad_norm", "seconds"]


def test_trackers_are_closed_when_the_caller_stops(tmp_path):
    closed = []

    class Keep:
        def write(self, records):
            pass

        def close(self):
            closed.append(True)

    going = train(Toy(), toy_loss, Points(), OPTIONS, tmp_path, trackers=[Keep()])
    next(going)
    going.close()
    assert closed == [True]


def test_plain_lines_without_a_terminal():
    file = io.StringIO()
    console = Console(file=file, width=40)
    assert [now.step for now in show(run(), every=1e9, console=console)] == list(range(1, 21))
    lines = file.getvalue().splitlines()
    assert lines[0] == "step 1/20  loss 0.25  1,234 samples/s  23:45 left"
    assert lines[1:] == ["step 20/20  loss 0.25  1,234 samples/s  0:00 left"]


def test_a_moving_line_on_a_terminal():
    file = io.StringIO()
    console = Console(file=file, width=100, force_terminal=True, color_system=None)
    assert len(list(show(run(), console=console))) == 20
    assert "step 20/20  loss 0.25  1,234 samples/s  0:00 left" in file.getvalue()


def test_only_the_main_process_draws(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    file = io.StringIO()
    assert len(list(show(run(), console=Console(file=file)))) == 20
    assert file.getvalue() == ""


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="needs tensorboard")
def test_tensorboard(tmp_path):
    board = TensorBoard(tmp_path / "tensorboard")
    board.write(rows(1, 3))
    board.close()
    assert list((tmp_path / "tensorboard").iterdir())


def test_missing_tensorboard_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="TensorBoard is not installed"):
        TensorBoard(tmp_path)
