"""What `noiseloom caption` does: captions of pictures, and how sure the run is of each word."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import torch

from noiseloom.captioning import Caption, captions_of
from noiseloom.commands import load
from noiseloom.data.decode import read_picture
from noiseloom.fit import Options
from noiseloom.recipes import Captions, Choosing, Sampling
from noiseloom.terminal import answer

__all__ = ["caption"]


def caption(
    source: str,
    pictures: Sequence[str],
    changes: Options,
    *,
    n: int,
    seed: int,
    as_json: bool,
) -> None:
    """Say what is in pictures, with how sure the run is of each word below it.

    Args:
        source: what `load` takes.
        pictures: files.
        changes: sampling options that differ from the run's.
        n: captions of each.
        seed: of the draws.
        as_json: answer a program.

    Raises:
        FileNotFoundError: no such picture.
        ValueError: a run of something else, a picture that cannot be read, no captions wanted, or
            several of a search.
    """
    if n < 1:
        raise ValueError(f"-n must be at least 1, got {n}")
    run = load(source)
    if not isinstance(run.recipe, Captions):
        raise ValueError(f"{source} says nothing of pictures: it is a run of {run.recipe.name}")
    framing = run.recipe.framing
    run = run.with_options(**changes)
    recipe = run.recipe
    assert isinstance(recipe, Captions)
    searched = recipe.state == "autoregressive" and (recipe.beams > 1 or recipe.temperature == 0)
    if n > 1 and searched:
        raise ValueError(f"a search finds the same caption {n} times: leave -n out")
    pixels = torch.stack([read_picture(Path(name).expanduser(), framing) for name in pictures])
    found = captions_of(run, pixels.repeat_interleave(n, 0), seed=seed)
    told = [(pictures[i // n], one) for i, one in enumerate(found)]
    names = [f.name for kind in (Sampling, Choosing) for f in fields(kind)]
    options = {name: getattr(run.recipe, name) for name in names if name not in run.recipe.idle}
    result = {
        "run": source,
        "seed": seed,
        "options": options,
        "captions": [
            {
                "picture": name,
                "caption": one.text,
                "words": [{"word": word, "confidence": round(sure, 4)} for word, sure in one.words],
            }
            for name, one in told
        ],
    }
    answer(as_json, result, [line for name, one in told for line in _lines(name, one)])


def _lines(name: str, one: Caption) -> list[str]:
    """The picture and its caption, and below each word how sure the run is of it."""
    numbers = [f"{sure:.2f}" for _, sure in one.words]
    widths = [max(len(word), 4) for word, _ in one.words]
    said = " ".join(word.ljust(w) for (word, _), w in zip(one.words, widths, strict=True))
    sure = " ".join(number.ljust(w) for number, w in zip(numbers, widths, strict=True))
    if not one.words:
        return [f"{name}: (nothing)"]
    return [f"{name}: {one.text}", f"    {said}".rstrip(), f"    {sure}".rstrip()]
