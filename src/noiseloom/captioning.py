"""Captions of pictures by a run, how sure it is of each word, and the text at each step.

How sure is one number in [0, 1] for each token, and of a word the least of its tokens'. Of

- bits it is (1 + b mean) / 2, b = -1 or 1 what a bit became, averaged over the steps in which the
  token moved, of its least sure bit: each step says a probability, but their mean is none, since
  the first steps know little and the last all: compare it within one number of steps,
- other codes how far the estimate has come to the code, <mean, c> / |c|^2, by the same mean,
- classes the probability that the token was given in the step in which the state became it; where
  noise is no mask, tokens may change again, and the last change counts,
- the autoregressive state p(token | those before, picture).

They are of one drawing, and no probabilities that the caption is true.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from noiseloom.class_denoiser import CodeDenoiser
from noiseloom.data import Phrases
from noiseloom.next_token import NextToken
from noiseloom.recipes import Captions, Drawing
from noiseloom.recipes.captions import phrases
from noiseloom.recipes.class_pieces import Rows
from noiseloom.run import Run
from noiseloom.sampling import Step
from noiseloom.shapes import align

__all__ = ["Caption", "captions_of", "words_of", "words_so_far"]


@dataclass(frozen=True)
class Caption:
    """What a run says of one picture.

    Attributes:
        text: as it was drawn.
        words: of the text, each with how sure the run was of it.
        steps: the text after each step, as it was estimated, dots for tokens that are masked or
            have not moved yet, and | for an end that may still go; of the autoregressive state
            none.
    """

    text: str
    words: tuple[tuple[str, float], ...]
    steps: tuple[str, ...] = ()


def captions_of(run: Run, pixels: Tensor, *, seed: int = 0, batch_size: int = 64) -> list[Caption]:
    """Draw a caption of each picture.

    Args:
        run: of captions.
        pixels: uint8, shape (N, 3, size, size).
        seed: of the draws; caption i is that of `run.samples`.
        batch_size: drawn at once; it does not change the draws.

    Raises:
        ValueError: a run of something else, or pictures of another shape.
    """
    if not isinstance(run.recipe, Captions):
        raise ValueError(f"{run.folder} says nothing of pictures: give a run of recipe captions")
    shape = tuple(run.facts["shape"])
    if pixels.ndim != 4 or pixels.shape[1:] != shape:
        raise ValueError(f"pictures of shape {tuple(pixels.shape)}: this run reads (N, *{shape})")
    words, found = phrases(run.facts), []
    with run.precision(), torch.no_grad():
        for start in range(0, len(pixels), batch_size):
            given = {"pixels": pixels[start : start + batch_size]}
            drawing = run.steps(given, seed=seed, start=start)
            tokens, sure, texts = _followed(run, drawing, words)
            for i, row in enumerate(tokens):
                text, told = words_of(words, row, sure[i])
                found.append(Caption(text, told, tuple(step[i] for step in texts)))
    return found


def words_of(
    words: Phrases, tokens: Tensor, sure: Tensor
) -> tuple[str, tuple[tuple[str, float], ...]]:
    """The text of tokens (T,), and its words with the least of what their tokens are sure of."""
    (text,), (parts,) = words.decode(tokens[None]), words.words(tokens[None])
    return text, tuple((word, float(sure[a:b].min())) for word, a, b in parts)


def _followed(
    run: Run, drawing: Iterator[Drawing], words: Phrases
) -> tuple[Tensor, Tensor, list[Sequence[str]]]:
    """Tokens (B, T) of a drawing, how sure each is, and the texts of all steps."""
    codec = run.codec
    texts: list[Sequence[str]] = []
    steps: list[tuple[Tensor, Tensor]] = []
    before: Tensor | None = None
    sure = torch.zeros(())
    begun = torch.zeros((), dtype=torch.bool)  # have moved
    last: Drawing | None = None
    for step in drawing:
        last = step
        if isinstance(step, Rows):
            return step.result.cpu(), _of_rows(run, step), texts
        assert isinstance(step, Step)
        said: Tensor = step.prediction.mean
        moved = (align(step.s, said) < align(step.t, said)).cpu().expand(*said.shape[:2], 1)
        begun = begun | moved[..., 0]
        rows, shown = step.result, begun
        decided = (align(step.s, said) <= 0).cpu().expand(*said.shape[:2], 1)[..., 0]
        if getattr(run.diffusion, "kind", "") == "absorbing":  # the state says what is decided
            rows, shown = step.x, (step.x < said.shape[-1]).cpu()
            decided = shown
        told = zip(codec.decode(rows).cpu(), shown, decided, strict=True)
        texts.append([words_so_far(words, *row) for row in told])
        if isinstance(codec, CodeDenoiser):
            steps.append((said.float().cpu(), moved))
            continue
        now: Tensor = step.x  # the state, not what is likeliest: that is no choice yet
        picked = now.clamp(max=said.shape[-1] - 1)  # a mask is no class
        given = said.gather(-1, picked[..., None])[..., 0].float()
        sure = given if before is None else torch.where(now != before, given, sure)
        before = now
    assert last is not None
    tokens = codec.decode(last.result)
    if steps:
        assert isinstance(codec, CodeDenoiser)
        sure = _of_codes(codec.encode(tokens).float().cpu(), steps, run.recipe)
    return tokens.cpu(), sure.cpu(), texts


def words_so_far(words: Phrases, row: Tensor, shown: Tensor, decided: Tensor) -> str:
    """The text of tokens (T,) on their way, dots for those that are not shown.

    An end that is decided ends it; one that is not may still become a word: it is a line, |, unless
    nothing comes after it.
    """
    ended = ((row == words.end) & decided).nonzero()[:1, 0].tolist()
    tokens = list(zip(row.tolist(), shown.tolist(), strict=True))[: ended[0] if ended else None]
    parts = []
    for mark, group in groupby(
        tokens, key=lambda pair: "\u2026" if not pair[1] else "|" if pair[0] == words.end else ""
    ):
        parts.append(mark or words.decode(torch.tensor([[token for token, _ in group]]))[0])
    if parts and parts[-1] == "|":
        parts.pop()
    return " ".join(part for part in parts if part)


def _of_codes(codes: Tensor, steps: Sequence[tuple[Tensor, Tensor]], recipe: object) -> Tensor:
    """How near the estimates of all moves were to what the tokens became, shape (B, T)."""
    assert isinstance(recipe, Captions)
    total, count = torch.zeros(codes.shape), torch.zeros(*codes.shape[:2], 1)
    for mean, moved in steps:
        total += torch.where(moved, mean, 0)
        count += moved
    mean = total / count.clamp(min=1)
    if recipe.base == "bits":
        return ((1 + mean * codes) / 2).amin(-1).clamp(0, 1)
    return ((mean * codes).sum(-1) / codes.square().sum(-1).clamp_min(1e-9)).clamp(0, 1)


def _of_rows(run: Run, rows: Rows) -> Tensor:
    model = getattr(run.denoiser, "denoiser", run.denoiser)
    assert isinstance(model, NextToken)
    logs = model.conditionals(rows.result, cond=rows.told)
    return logs.gather(-1, rows.result[..., None])[..., 0].exp().cpu()
