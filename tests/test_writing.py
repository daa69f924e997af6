"""Text as it becomes certain: every state, the command line, what each token adds to a text."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

import noiseloom
from noiseloom.cli import main
from noiseloom.recipes.streams import stream_rows
from noiseloom.recipes.text import Text
from noiseloom.rng import Rng
from noiseloom.writing import spoken, streamed

TINY = {"length": 8, "width": 16, "depth": 1, "heads": 2, "features": 4, "sampling_steps": 4}
FACTS = {"length": 8, "sizes": [5] * 8, "frequencies": [[0.4, 0.2, 0.2, 0.1, 0.1]]}
STATES = ("masked", "uniform", "marginal", "bits", "onehot", "embedding")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Three steps on a short text."""
    folder = tmp_path_factory.mktemp("text")
    (folder / "words.txt").write_text("to be, or not to be: that is the question\n" * 20)
    words = ["train", "text", "--data", str(folder / "words.txt"), "--alphabet", "letters"]
    words += ["--out", str(folder / "run"), "--steps", "3", "--ramps", "0.5", "--no-evaluate"]
    words += ["--width", "16", "--depth", "1", "--heads", "2", "--length", "8"]
    threads = torch.get_num_threads()
    assert main([*words, "--sampling-steps", "4", "--batch-size", "4"]) == 0
    torch.set_num_threads(threads)
    return folder / "run"


def built(**options):
    recipe = Text(ramps=0.5, **TINY, **options)
    with Rng(0).torch():
        parts = recipe.build(FACTS)
        for parameter in parts.denoiser.parameters():  # untrained ones say nothing
            torch.nn.init.normal_(parameter, std=0.5)
    return recipe, parts


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("slope", [None, 0.6, 4])
def test_every_diffusion_streams(state, slope):
    recipe, parts = built(state=state)
    known = torch.tensor([[1, 2, 3], [4, 0, 1]])
    pieces = stream_rows(recipe, parts, FACTS, known, Rng(0).samples(2), slope)
    text = torch.cat(list(itertools.islice(pieces, 20)), 1)
    assert text.shape[1] >= 20
    assert text.dtype == torch.int64
    assert 0 <= int(text.min()) <= int(text.max()) < 5
    alone = stream_rows(recipe, parts, FACTS, known[1:], Rng(0).samples(1, 1), slope)
    text_alone = torch.cat(list(itertools.islice(alone, 20)), 1)
    assert float((text_alone == text[1:]).float().mean()) > 0.9  # matrix products round


@pytest.mark.parametrize("state", ["masked", "bits"])
def test_training_shows_the_windows_of_streams(state):
    for ramps, times in ((0.0, "shared"), (1.0, "shared"), (1.0, "independent")):
        recipe = Text(state=state, ramps=ramps, times=times, infill=0.0, **TINY)
        tokens, rows = torch.zeros(400, 8, dtype=torch.int64), torch.arange(400)
        t, counted = recipe.training_times(tokens, Rng(0).samples(400), rows)
        rising = (t.diff(dim=1) >= 0).all(1) & (t[:, 0] < t[:, -1])
        assert float(rising.float().mean()) == pytest.approx(ramps, abs=0.05)
        assert torch.equal(counted, t > 0)
        assert bool(counted.any(1).all())


def test_other_models_are_refused():
    for options, told in (
        ({"state": "autoregressive"}, "--ramps 0.5"),
        ({"plan": "pyramid:1"}, "an order of its own"),
    ):
        with pytest.raises(ValueError, match=told):
            stream_rows(*built(**options), FACTS, torch.zeros(1, 0, dtype=torch.int64), Rng(0))
    recipe = Text(state="bits", **TINY)
    with pytest.raises(ValueError, match=r"--ramps 0\.5"):
        stream_rows(recipe, recipe.build(FACTS), FACTS, torch.zeros(1, 0), Rng(0))
    with pytest.raises(ValueError, match="ramps must be in"):
        Text(ramps=1.5)
    with pytest.raises(ValueError, match="makes no text"):
        next(streamed(noiseloom.load("bits-digits", device="cpu")))


def test_the_command_writes_the_prompt_and_so_many_tokens(run, capsys):
    words = ["stream", str(run), "--prompt", "To be, or", "-n", "12"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert text.startswith("to be or")
    assert len(text) == len("to be or") + 12 + 1
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["text"] == text[:-1]
    assert main([*words, "--seed", "1"]) == 0
    assert capsys.readouterr().out != text
    whole = "".join(streamed(noiseloom.load(run, device="cpu"), "to be or", count=30))
    assert whole.startswith(text[:-1])
    for more, told in (
        (["--n", "0"], "-n must be at least 1"),
        (["--json"], "say with -n how many"),
        (["--slope", "0.1"], "do not fit a window of 8"),
        (["--state", "bits"], "--state"),
        (["--restarts", "[[3, 1, 0.1, 1.0]]"], "leave restarts out"),
    ):
        assert main(["stream", str(run), *more]) == 2
        assert told in capsys.readouterr().err


def started(run):
    words = [sys.executable, "-m", "noiseloom", "stream", str(run)]
    pipe = subprocess.PIPE
    return subprocess.Popen(words, stdout=pipe, stderr=pipe, env={**os.environ})


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_is_read_while_it_is_written_and_ends_with_ctrl_c(run, number):
    process = started(run)
    assert len(process.stdout.read(40)) == 40  # of a text that has no end
    process.send_signal(number)
    rest, told = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert rest.endswith(b"\n")
    assert told.decode() == "noiseloom: stopped\n"


def test_a_reader_may_leave(run):
    process = started(run)
    process.stdout.read(5)
    process.stdout.close()
    told, end = process.stderr.read(), time.monotonic() + 60
    while process.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    assert process.returncode == 0
    assert told == b""
    process.stderr.close()


def test_a_reader_may_leave_at_the_last_word(run, monkeypatch):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert main(["stream", str(run), "-n", "1", "--json"]) == 0
        assert main(["stream", str(run), "-n", "1"]) == 0


def test_closed_output_is_named(run, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["stream", str(run), "-n", "1"]) == 2
    assert "no standard output" in capsys.readouterr().err


class Bytes:
    """Tokens that are bytes of UTF-8, the first space of a text left out as sentencepiece does."""

    def decode(self, tokens):
        return [bytes(row).decode("utf-8", "replace").removeprefix(" ") for row in tokens.tolist()]


def test_a_character_is_written_when_all_of_it_is_there():
    text = " ein Äpfelchen für 3 €, ja " * 3
    pieces = list(spoken(Bytes(), list(text.encode()), []))
    assert "".join(pieces) == text[1:]
    assert "Ä" in pieces
    assert list(spoken(Bytes(), list(b" b"), list(b"a"))) == [" ", "b"]
    # What never becomes a character is not waited for without end.
    assert "".join(spoken(Bytes(), [0xFF] * 16, [])).count("\ufffd") >= 8


def test_pictures_are_not_streamed(tmp_path, capsys):
    draw = np.random.default_rng(0)
    for i in range(12):
        pixels = (draw.integers(2, size=(4, 4, 3)) * 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    out = tmp_path / "run"
    command = ["train", "palette", "--data", str(tmp_path), "--out", str(out), "--side", "4"]
    options = ["--steps", "2", "--batch-size", "4", "--width", "8", "--depth", "1", "--heads", "2"]
    assert main([*command, *options, "--no-evaluate"]) == 0
    capsys.readouterr()
    assert main(["stream", str(out), "-n", "3"]) == 2
    assert "makes no text" in capsys.readouterr().err
