"""Orders and uncertainty: one model of rows, drawn from along several plans, as a part of a page.

For each plan its map, what it makes of one digit on the way, and a held-out digit whose first rows
are known and held while the others are drawn many times: where these differ, the model is unsure.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from noiseloom.data import Images, Split
from noiseloom.figures import picture, plan_map
from noiseloom.gallery import section, spread
from noiseloom.metrics.digit_classifier import DigitClassifier
from noiseloom.plan import SamplingPlan
from noiseloom.recipes import ForcingDigits
from noiseloom.rng import Rng
from noiseloom.run import Run
from noiseloom.sampling import Step, sample

__all__ = ["Completed", "complete", "orders"]

PLANS = ("autoregressive", "pyramid:2", "chunked:2", "full-sequence")
SHOWN = 5  # estimates of a strip, and completions
TIMES = 16  # that the unknown rows are drawn
DIGIT = 9  # its upper half might be that of an 8 or a 3


@dataclass(frozen=True)
class Completed:
    """A digit whose first rows are known, and what else it might be.

    Attributes:
        truth: the digit, integers, shape (1, H, W).
        known: rows that were held.
        pixels: completions, integers, shape (R, 1, H, W).
    """

    truth: Tensor
    known: int
    pixels: Tensor

    @property
    def mean(self) -> Tensor:
        """Per pixel."""
        return self.pixels.double().mean(0)

    @property
    def deviation(self) -> Tensor:
        """Per pixel, of all that was drawn: 0 where nothing differs."""
        return self.pixels.double().std(0, correction=0)


def orders(run: Run, data: Split[Any] | None, seed: int) -> str:
    """A section of a page: plans beside each other, and what each makes of the same noise.

    Args:
        run: of `forcing-digits`; of another there is no such section.
        data: whose held-out digit is half drawn; None if it is not at hand.
        seed: of the draws.
    """
    recipe = run.recipe
    if not isinstance(recipe, ForcingDigits):
        return ""
    truth = _half_drawn(data.held_out) if data else None
    halves = {} if truth is None else {name: complete(run, name, truth, seed) for name in PLANS}
    told = f" and of class {run.classes[DIGIT]}" if _told(run, 1) else ""
    paragraphs = [
        "One model, and four orders chosen after it was trained. A column of a map is a row of the "
        "picture, the first on the left; yellow is noise, violet is clean. Below each map stands "
        "what is expected of one digit in some of the steps, "
        f"from the same noise{told}; none was picked.",
        _caution(recipe),
    ]
    cards = []
    for name in PLANS:
        plan, strip = _strip(run, name, seed)
        drawing = f"<figure>{plan_map(plan.s.flatten(1), small=True)}</figure>"
        half = _uncertain(run, halves[name]) if halves else ""
        head = f"<h3>{name} <small>{len(plan):,} steps</small></h3>"
        cards.append(f"<div>{head}{drawing}{strip}{half}</div>")
    if data and halves:
        paragraphs.append(_seen(run, data.train, halves))
    body = "".join(f"<p>{text}</p>" for text in paragraphs if text)
    return section("Orders and uncertainty", f'{body}<div class="orders">{"".join(cards)}</div>')


def complete(run: Run, plan: str, truth: Tensor, seed: int, times: int = TIMES) -> Completed:
    """Draw the lower half of a digit several times along a plan, its upper half held as it is.

    The class is not told where the model has learnt to do without.

    Args:
        run: of `forcing-digits`.
        plan: its name.
        truth: the digit, integers, shape (1, H, W).
        seed: of the draws.
        times: R, how many.
    """
    known = truth.shape[1] // 2
    rng = _keys(run, seed, "completions", times)
    clean = run.codec.encode(truth[None]).to(run.device).expand(times, -1, -1)
    noise = run.diffusion.prior(torch.empty_like(clean), rng.fold("prior"))
    x = torch.cat((clean[:, :known], noise[:, known:]), 1)
    *_, last = _steps(run, plan, x, _told_half(run, times), rng, held=known)[1]
    return Completed(truth, known, run.codec.decode(last.result).cpu())


def _steps(
    run: Run, name: str, x: Tensor, told: dict[str, Tensor], rng: Rng, held: int = 0
) -> tuple[SamplingPlan, Iterator[Step[Tensor]]]:
    """The plan, its first tokens held, and the loop along it.

    Not `Recipe.draw`, which holds rows by a plan of the others. Rows, and not a plan, which would
    warn of a bias of which the page speaks.
    """
    recipe = replace(run.recipe, plan=name)
    if not told:
        recipe = replace(recipe, guidance=1.0)
    plan = recipe.make_plan(run.diffusion.schedule)
    plan = plan.hold(range(held)) if held else plan
    denoiser = recipe.make_denoiser(run.denoiser, told).eval()
    solver = recipe.make_solver()
    rows = list(plan.rows(x))
    return plan, sample(denoiser, run.diffusion, rows, x, cond=told, rng=rng, solver=solver)


def _strip(run: Run, name: str, seed: int) -> tuple[SamplingPlan, str]:
    """A plan, and what is expected of one digit at some of its steps."""
    rng, told = _keys(run, seed, "strip", 1), _told(run, 1)
    blank = torch.zeros(1, *run.facts["shape"], dtype=torch.uint8)
    like = run.codec.encode(blank).to(run.device)
    x = run.diffusion.prior(torch.empty_like(like), rng.fold("prior"))
    plan, steps = _steps(run, name, x, told, rng)
    kept = spread(len(plan), SHOWN)
    estimates = [(step.index, step.prediction.mean) for step in steps if step.index in kept]
    cells = [f"<span>{index + 1:,}</span>" for index, _ in estimates]
    cells += [_image(run.codec.decode(x)[0].cpu(), run.facts["levels"]) for _, x in estimates]
    return plan, _row("film", cells, len(estimates))


def _uncertain(run: Run, found: Completed) -> str:
    """Mean and deviation of completions as pictures, some of them, and what they are taken for."""
    levels = run.facts["levels"]
    cells = ["<span>mean</span>", "<span>deviation</span>"]
    cells.append(_image(found.mean * (255 / (levels - 1)), 256))
    cells.append(_image(found.deviation * (2 * 255 / (levels - 1)), 256))  # half the range is white
    some = [_image(one, levels) for one in found.pixels[:SHOWN]]
    shown = _row("film", cells, 2) + _row("film", some, len(some))
    if tuple(found.truth.shape) != (1, 8, 8) or levels != 16:
        return shown  # of a recipe of one's own, which its classifier does not know
    logits = DigitClassifier.shipped().logits(found.pixels.to(torch.uint8))
    seen = logits.argmax(1).bincount(minlength=10)
    kinds = [f"{int(seen[k])} x {k}" for k in seen.argsort(descending=True, stable=True) if seen[k]]
    return f"{shown}<p><small>taken for {', '.join(kinds)}</small></p>"


def _seen(run: Run, train: Images, halves: dict[str, Completed]) -> str:
    """What the pictures of completions are, and how much they vary by plan."""
    one = next(iter(halves.values()))
    levels, known, times = run.facts["levels"], one.known, len(one.pixels)
    told = "of its class" if _told_half(run, 1) else "without being told the class"
    image = _image(one.truth, levels).replace("<img ", '<img class="inline" ', 1)
    spreads = {name: float(half.deviation[:, known:].mean()) for name, half in halves.items()}
    said = ", ".join(f"{name} {value:.2f}" for name, value in spreads.items())
    return (
        f"The large pictures are of the first held-out {run.classes[DIGIT]} {image}: its first "
        f"{known} of {one.truth.shape[1]} rows are known and held, and the others are drawn "
        f"{times} times, {told}. Left is the mean of the {times}, right their deviation, from "
        "black (0) to white (half of the range), and below are the first of them, and what an "
        f"independent classifier takes the {times} for. Known rows are black in the deviation: "
        "nothing in them is open. The brighter a pixel below them, the less they say about it. "
        f"Over the pixels that were drawn the deviation is on average, of {levels - 1} levels: "
        f"{said}; of the "
        f"{times} training digits whose first {known} rows are nearest it is "
        f"{_of_neighbours(train, one):.2f}."
    )


def _of_neighbours(train: Images, found: Completed) -> float:
    """The deviation of the unknown rows in as many real digits whose known rows are alike."""
    real, known = train.pixels.double(), found.known
    apart = (real - found.truth.double())[:, :, :known].square().flatten(1).sum(1)
    nearest = real[apart.argsort()[: len(found.pixels)]]
    return float(nearest.std(0, correction=0)[:, known:].mean())


def _caution(recipe: ForcingDigits) -> str:
    """What these orders are worth on this network."""
    said = []
    if recipe.network != "bidirectional":
        said.append(
            "The network sees no row below the one it draws, so plans that move several rows "
            "together are biased, however many their steps: <code>noiseloom sample</code> warns of "
            "them. Of these four only the autoregressive one is not."
        )
    if recipe.forcing != "independent":
        said.append(
            f"It was trained on {recipe.forcing} times, which are not all that these plans show it."
        )
    return " ".join(said)


def _half_drawn(held: object) -> Tensor | None:
    """The first held-out digit of the class."""
    if not isinstance(held, Images) or not (held.labels == DIGIT).any():
        return None
    return held.pixels[int((held.labels == DIGIT).int().argmax())]


def _told(run: Run, count: int) -> dict[str, Tensor]:
    labels = torch.full((count,), DIGIT, device=run.device)
    return run.recipe.cond(labels, run.facts)


def _told_half(run: Run, count: int) -> dict[str, Tensor]:
    """Nothing, if that was trained: the class would say what is open."""
    return {} if run.recipe.label_drop else _told(run, count)


def _keys(run: Run, seed: int, name: str, count: int) -> Rng:
    return Rng(seed).fold("orders").fold(name).samples(count, 0, run.device)


def _row(kind: str, cells: list[str], columns: int) -> str:
    style = f"grid-template-columns:repeat({columns},minmax(0,1fr))"
    return f'<div class="{kind} pictures" style="{style}">{"".join(cells)}</div>'


def _image(pixels: Tensor, levels: int) -> str:
    return f'<img alt="" src="{picture(pixels, levels)}">'
