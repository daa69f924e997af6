"""What a run draws, as parts of a page: samples beside real pictures, the film, the bits.

One pass of the sampling loop feeds all of it: its last estimates are the samples, a few estimates
and states on the way are the film, and the analog bits of every step are the histograms.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import torch
from torch import Tensor

from noiseloom.data import Split
from noiseloom.encodings import Bits, OneHot
from noiseloom.figures import heat_map, picture
from noiseloom.metrics import bit_histogram
from noiseloom.run import Run
from noiseloom.sampling import Step

__all__ = ["gallery", "section", "spread"]

FRAMES = 12  # of the film
LARGE = 32  # of pictures with longer sides there are fewer, to keep the page small
ESTIMATE, STATE = 1.2, 3.0  # limits of the histograms, in units of the scale


@dataclass(frozen=True)
class Drawn:
    """What one pass of the sampling loop showed.

    Attributes:
        samples: the pictures, shape (N, C, H, W).
        frames: of the film: times t and s of a step, and what estimate and state decode to.
        times: edges of the steps, falling.
        estimates: histogram of the estimate at each step, shape (1, bins); none but for bits.
        states: histogram of the state after it.
    """

    samples: Tensor
    frames: list[tuple[float, float, Tensor, Tensor]]
    times: list[float]
    estimates: list[Tensor]
    states: list[Tensor]


def gallery(run: Run, data: Split[Any] | None, seed: int) -> str:
    """Sections of a page that show what a run draws.

    Args:
        run: that draws.
        data: whose held-out pictures are shown beside; None if it is not at hand.
        seed: of the draws; pictures are numbered row by row.
    """
    large = max(run.facts["shape"][1:]) > LARGE
    columns, films, states = (5, 4, 2) if large else (8, 8, 3)
    levels, total = run.facts["levels"], len(run.classes)
    by_class = total > 1 and getattr(run.recipe, "conditional", True)
    kinds = spread(total, 8 if large else 10) if by_class else [0] * 6
    labels = torch.tensor(kinds).repeat_interleave(columns)
    drawn = _draw(run, labels, spread(len(labels), films), seed)
    real = _real(data, kinds, columns, by_class)
    names = [run.classes[k] if by_class else "" for k in kinds]
    text = f"As drawn with seed {seed}; none was picked."
    if by_class and len(kinds) < total:
        text += f" {len(kinds)} of {total:,} classes."
    if data is None:
        text += " The data is not where it was, or has changed: no real pictures beside them."
    found = _samples(
        drawn.samples.reshape(len(kinds), columns, *drawn.samples.shape[1:]), real, names, levels
    )
    found = section("Samples", f"<p>{text}</p>{found}")
    if drawn.frames:
        found += _film(drawn, states, levels)
    if drawn.estimates and isinstance(run.codec, Bits | OneHot):
        found += _bits(drawn, run.codec.scale)
    return found


def section(title: str, content: str) -> str:
    """A section of a page, of HTML."""
    return f"<section><h2>{title}</h2>\n{content}\n</section>\n"


def spread(total: int, count: int) -> list[int]:
    """At most `count` of the numbers 0 .. total - 1, evenly, with both ends."""
    spread: list[int] = torch.linspace(0, total - 1, min(count, total)).round().long().tolist()
    return spread


def _draw(run: Run, labels: Tensor, chosen: list[int], seed: int) -> Drawn:
    kept = spread(len(run.recipe.make_plan(run.diffusion.schedule).t), FRAMES)
    scale = run.codec.scale if isinstance(run.codec, Bits | OneHot) else None
    frames, times, estimates, states, before = [], [1.0], [], [], math.inf
    for step in run.steps(labels, seed=seed):
        if not isinstance(step, Step):  # a loop of the recipe's own shows no more than its result
            continue
        # Of a time per token, the mean.
        t, s, estimate = float(step.t.mean()), float(step.s.mean()), step.prediction.mean
        if step.index in kept:
            decoded, moved = (run.codec.decode(x[chosen]).cpu() for x in (estimate, step.x))
            frames.append((t, s, decoded, moved))
        if scale is not None and t < before:  # what a restart goes over again has been shown
            before = t
            times[-1:] = [t, s]  # the last s gives way to this t, which overshoot sets above it
            estimates.append(bit_histogram([estimate], scale, limit=ESTIMATE)[1])
            states.append(bit_histogram([step.x], scale, limit=STATE)[1])
    samples = run.recipe.decode(run.parts, step.result, {"label": labels}).cpu()
    return Drawn(samples, frames, times, estimates, states)


def _real(data: Split[Any] | None, kinds: list[int], count: int, by_class: bool) -> list[Tensor]:
    """Held-out pictures for each row; a class may have fewer than `count` of them."""
    if data is None or not hasattr(data.held_out, "pixels"):
        return []
    held = data.held_out
    if by_class:  # spread, since neighbours may be frames of one film
        of_kind = [held.pixels[held.labels == kind] for kind in kinds]
        return [pixels[spread(len(pixels), count)] for pixels in of_kind]
    rows = spread(len(held), count * len(kinds))  # they lie in the order of their classes
    return list(torch.split(held.pixels[rows], count))


def _samples(rows: Tensor, real: Sequence[Tensor], names: Sequence[str], levels: int) -> str:
    heads = ["samples", "held-out real pictures"][: 2 if real else 1]
    cells = ["<span></span>", *(f'<span class="head">{head}</span>' for head in heads)]
    for i, row in enumerate(rows):
        name = escape(names[i]).replace("/", "/<wbr>")
        cells.append(f'<span class="name">{name}</span>')
        cells += [_row(pictures, len(row), levels) for pictures in (row, *real[i : i + 1])]
    kind = "classes pictures" + (" alone" if not real else "")
    kind += " long" if max(map(len, names)) > 12 else ""  # then above the row, on a phone
    return f'<div class="{kind}">{"".join(cells)}</div>'


def _film(drawn: Drawn, states: int, levels: int) -> str:
    width = f"grid-template-columns:repeat({len(drawn.frames)},minmax(2.4rem,1fr))"

    def strip(times: Iterable[float], pictures: Sequence[Tensor]) -> str:
        cells = [f"<span>{time:.2f}</span>" for time in times]
        cells += [_image(one[i], levels) for i in range(len(pictures[0])) for one in pictures]
        film = f'<div class="film pictures" style="{width}">{"".join(cells)}</div>'
        return f'<div class="strip">{film}</div>'

    t, s, estimates, moved = zip(*drawn.frames, strict=True)
    return section(
        "From noise to picture",
        f"""<h3>The estimate of the clean picture, at time <i>t</i></h3>
{strip(t, estimates)}
<h3>The state after that step, at time <i>s</i>, of the first {states}</h3>
{strip(s, [one[:states] for one in moved])}""",
    )


def _bits(drawn: Drawn, scale: float) -> str:
    estimate = heat_map(drawn.times, torch.cat(drawn.estimates), ESTIMATE * scale)
    state = heat_map(drawn.times, torch.cat(drawn.states), STATE * scale)
    return section(
        "Analog bits",
        f"""<p>The values of all bits at each step, the colour on a logarithmic scale. The data has
two levels, &minus;{scale:g} and {scale:g}; a model that has learnt this leaves hardly any bit
between them at the end.</p>
<div class="pair"><figure><h3>The estimate</h3>{estimate}</figure>
<figure><h3>The state</h3>{state}</figure></div>""",
    )


def _row(pictures: Tensor, count: int, levels: int) -> str:
    images = "".join(_image(one, levels) for one in pictures)
    return f'<div class="row" style="grid-template-columns:repeat({count},1fr)">{images}</div>'


def _image(pixels: Tensor, levels: int) -> str:
    return f'<img alt="" src="{picture(pixels, levels)}">'
