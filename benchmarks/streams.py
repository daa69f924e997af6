"""Streamed text beside windows drawn at once: `python benchmarks/streams.py RUN FILE.txt`.

Bits per character under a judge of 5-grams of the training text (nearer to held-out text is better,
not lower), share of words that the training text has, and calls of the network per token. All are
cut into rows of the model's length, as the judge's first characters of a row know little.
"""

import argparse
import json
import time

import torch
from torch import Tensor

import noiseloom
from noiseloom import Rng
from noiseloom.data import TokenWindows
from noiseloom.metrics import NGramModel, judged_bits
from noiseloom.metrics.text import word_validity
from noiseloom.recipes.classes import Classes
from noiseloom.recipes.streams import stream_rows
from noiseloom.run import Run

ROWS = 256


def told(windows: TokenWindows) -> Tensor:
    """The tokens of a part."""
    return torch.cat([windows.text[begin:end] for begin, end in windows.parts]).long()


def streamed(run: Run, known: Tensor, tokens: int, slope: float) -> Tensor:
    """So many tokens after each of some beginnings."""
    assert isinstance(run.recipe, Classes)
    rng = Rng(1).fold("stream").samples(len(known))
    pieces = stream_rows(run.recipe, run.parts, run.facts, known, rng, slope)
    found = next(pieces)
    while found.shape[1] < tokens:
        found = torch.cat((found, next(pieces)), 1)
    return found[:, :tokens]


def main() -> None:
    """Draw, judge and print a line of JSON for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("text")
    parser.add_argument("--streams", type=int, default=4)
    options = parser.parse_args()
    torch.set_num_threads(1)
    run = noiseloom.load(options.run, device="cpu")
    data = run.recipe.load(options.text)
    train, held, length = told(data.train), told(data.held_out), run.recipe.length
    classes = run.facts["sizes"][0]
    judge, breaks = NGramModel.fit(train[None], classes), [0]  # the space of the letters
    begins = held[: options.streams * length].reshape(options.streams, length)

    def say(what: str, tokens: Tensor, calls: float = 0.0, seconds: float = 0.0) -> None:
        rows = tokens[:, : tokens.shape[1] // length * length].reshape(-1, length)[:ROWS]
        (bits, error), (words, apart) = (
            judged_bits(judge, rows),
            word_validity(rows, train, breaks),
        )
        line = {"what": what, "bits": bits, "se": error, "words": words, "words_se": apart}
        print(json.dumps(line | {"calls_a_token": calls, "seconds": seconds}), flush=True)

    say("held out", held[None])
    drawn = run.samples({"row": torch.arange(ROWS)}, seed=1)
    say(f"windows at once, {run.recipe.sampling_steps} steps", drawn)
    tokens = ROWS // options.streams * length
    # Half a window on the way, a quarter of it, and token by token.
    for steps, slope in ((64, 128 / length), (16, 32 / length), (16, 64 / length), (8, 8)):
        begin = time.perf_counter()
        text = streamed(run.with_options(sampling_steps=steps), begins, tokens, slope)
        say(f"stream, {steps} steps, slope {slope:g}", text, slope, time.perf_counter() - begin)


if __name__ == "__main__":
    main()
