"""What `noiseloom stream` does: text on standard output, as it becomes certain."""

import json
import os
import sys
from collections.abc import Iterable, Iterator
from itertools import islice

import torch

from noiseloom.commands import load
from noiseloom.data import Vocabulary, vocabulary
from noiseloom.data.characters import Characters
from noiseloom.data.pieces import Pieces
from noiseloom.fit import Options
from noiseloom.interrupts import terminable
from noiseloom.recipes.classes import Classes
from noiseloom.recipes.streams import stream_rows
from noiseloom.rng import Rng
from noiseloom.run import Run

__all__ = ["spoken", "streamed", "write"]

_HELD = 8  # tokens that may have to be there before a character can be read, as of bytes


@terminable()
def write(
    source: str,
    changes: Options,
    *,
    prompt: str,
    n: int | None,
    slope: float | None,
    seed: int,
    as_json: bool,
) -> None:
    """Write text for as long as it is read: until n tokens, a signal, or the end of a pipe.

    Ctrl-C and SIGTERM end the line that is there.

    Args:
        source: what `load` takes.
        changes: sampling options that differ from the run's.
        prompt: what the text goes on from; it is written first.
        n: number of tokens after it; None for no end.
        slope: of `stream_rows`.
        seed: of the draws.
        as_json: answer a program, once all is there.

    Raises:
        ValueError: no such number, an answer without end, what `streamed` refuses.
    """
    if n is not None and n < 1:
        raise ValueError(f"-n must be at least 1, got {n}")
    if as_json and n is None:
        raise ValueError("--json answers when all is there: say with -n how many tokens that is")
    if sys.stdout is None:  # closed before Python began
        raise ValueError("there is no standard output to write to")
    texts = streamed(load(source).with_options(**changes), prompt, slope=slope, seed=seed, count=n)
    if as_json:
        texts = iter((json.dumps({"run": source, "seed": seed, "text": "".join(texts)}),))
    try:
        for text in texts:
            sys.stdout.write(text)
            sys.stdout.flush()
        print(flush=True)
    except BrokenPipeError:  # whoever read has enough: no error, nor one when Python ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print(flush=True)  # what is said next has a line of its own
        raise


def streamed(
    run: Run,
    prompt: str = "",
    *,
    slope: float | None = None,
    seed: int = 0,
    count: int | None = None,
) -> Iterator[str]:
    """Text of a run as it becomes certain, the prompt first.

    Args:
        run: of text.
        prompt: what it goes on from.
        slope: of `stream_rows`.
        seed: of the draws.
        count: number of tokens after the prompt; None for no end.

    Raises:
        ValueError: a run of something else, a prompt it cannot read, what `stream_rows` refuses.
    """
    recipe, told = run.recipe, run.facts.get("vocabulary")
    words: Vocabulary | None = vocabulary(told) if told else None
    if not (isinstance(recipe, Classes) and isinstance(words, Characters | Pieces)):
        raise ValueError(f"{run.folder} makes no text: a stream is of a run of recipe text")
    if isinstance(words, Characters):
        prompt = words.folded(prompt)
    known = torch.as_tensor(words.tokens(prompt, "the prompt"), dtype=torch.int64)[None]
    rng = Rng(seed).fold("stream").samples(1, device=run.device)

    def tokens() -> Iterator[int]:
        with run.precision():
            for piece in stream_rows(
                recipe, run.parts, run.facts, known.to(run.device), rng, slope
            ):
                yield from piece[0].tolist()

    if known.numel():
        yield words.decode(known)[0]
    yield from spoken(words, islice(tokens(), count), known[0].tolist())


def spoken(words: Vocabulary, tokens: Iterable[int], said: list[int]) -> Iterator[str]:
    """What each token adds to a text: pieces of words are read beside those before them.

    Args:
        words: what tokens mean.
        tokens: one after another.
        said: those before.
    """
    said, new = said[-_HELD:], []
    for token in tokens:
        new.append(token)
        before, after = (_read(words, row) for row in (said, said + new))
        if after.endswith("\ufffd") and len(new) < _HELD:
            continue  # a part of a character
        yield after[len(before) :]
        said, new = (said + new)[-_HELD:], []


def _read(words: Vocabulary, row: list[int]) -> str:
    text: str = words.decode(torch.tensor(row, dtype=torch.int64)[None])[0] if row else ""
    return text
