"""What codes mean and what they are good for, as pictures: parts of the report of a run with codes.

In the first grids one code changes at a time, with the noise and the other codes as they were: what
changes along a row is what the code says. In the second the same noise is told codes of held-out
pictures, codes of the prior, or none, by few evaluations of the network. Of points there are the
first, in the plane.
"""

from collections.abc import Sequence
from dataclasses import replace
from html import escape
from typing import Any

import torch
from torch import Tensor

from noiseloom.data import Split
from noiseloom.figures import picture, scatter
from noiseloom.gallery import section, spread
from noiseloom.latents import Latent
from noiseloom.recipes import Coded, Given
from noiseloom.recipes.by_calls import by_evaluations, in_calls
from noiseloom.recipes.code_examination import code_sources
from noiseloom.rng import Rng
from noiseloom.run import Run

__all__ = ["code_grids", "code_points", "varied"]

ROWS, VALUES, LATENTS = 4, 16, 8  # of the grids: samples, codes of a latent, latents
CALLS = 19  # of the network for a sample of theirs
COMPARED, FEWEST = 8, 3  # samples, and how many of the evaluations
POINTS = 200  # of noise
SOURCES = {
    "oracle": "codes of the pictures above",
    "generated": "codes of the prior",
    "none": "no codes",
}
TOLD = {"oracle": "their codes", "generated": "codes that the prior draws", "none": "no codes"}


def code_grids(run: Run, data: Split[Any] | None, seed: int) -> str:
    """Sections of a page; none for a model without codes.

    Args:
        run: of a recipe of pictures.
        data: whose held-out pictures give codes; None if it is not at hand.
        seed: of the draws.
    """
    if not isinstance(run.denoiser, Latent):
        return ""
    return _meanings(run, seed) + (_compared(run, data, seed) if data else "")


def code_points(run: Run, seed: int) -> str:
    """A section with points of the same noise, told each code of a latent by turns.

    Args:
        run: of a recipe of points.
        seed: of the draws.

    Returns:
        Nothing for a model without codes.
    """
    model, recipe = run.denoiser, run.recipe
    if not isinstance(model, Latent) or not isinstance(recipe, Coded):
        return ""
    labels, rng = torch.zeros(POINTS, dtype=torch.int64), Rng(seed).fold("what codes mean")
    charts = []
    for latent in spread(model.m, LATENTS):
        values = _most_used(model, latent)
        drawn = varied(run, latent, values, labels, rng)
        told = torch.tensor(values).expand(POINTS, -1)
        charts.append(scatter(drawn.flatten(0, 1), f"latent {latent}", told.flatten(), named=True))
    given = {"label": labels, "codes": torch.zeros(POINTS, model.m, dtype=torch.int64)}
    ((_, calls),) = in_calls(recipe, run.parts, run.facts, given, [CALLS])
    left = model.k > VALUES
    each = f"the {VALUES} most used of the {model.k} codes" if left else "each code"
    text = f"""{POINTS} times the same noise, told {each} of a latent by turns, in a colour each,
each code's number at the mean of its points. {_others(run)} {calls} evaluations of the network.
{_shown(model)}"""
    figures = "".join(f"<figure>{chart}</figure>" for chart in charts)
    return section("What each code means", f'<p>{text}</p><div class="pair">{figures}</div>')


def varied(run: Run, latent: int, values: Sequence[int], labels: Tensor, rng: Rng) -> Tensor:
    """Samples whose code of one latent takes several values, all else as it was.

    The other codes are the prior's draws, or as often as the encoder picks them if there is none.

    Args:
        run: with codes.
        latent: 0 .. m - 1.
        values: of that latent, V of them.
        labels: classes of R samples.
        rng: one key.

    Returns:
        Samples, shape (R, V, ...).
    """
    recipe, count = run.recipe, len(labels)
    assert isinstance(recipe, Coded)
    keys = rng.samples(count, device=run.device)
    cond = recipe.cond(labels.to(run.device), run.facts)
    source = replace(recipe, codes="marginal" if run.parts.prior is None else "prior")
    told = source.told_codes(run.parts, cond, {}, keys.fold("codes"))["codes"]
    codes = told.argmax(-1).cpu().repeat_interleave(len(values), 0)
    codes[:, latent] = torch.tensor(values).repeat(count)
    where = torch.arange(count).repeat_interleave(len(values))
    given = {"label": labels[where], "codes": codes}
    ((quick, _),) = in_calls(recipe, run.parts, run.facts, given, [CALLS])
    with run.precision():
        same = keys.rows(where.to(run.device))
        *_, last = quick.draw(run.parts, run.facts, given, same)
    drawn = quick.decode(run.parts, last.result, given).cpu()
    return drawn.reshape(count, len(values), *drawn.shape[1:])


def _meanings(run: Run, seed: int) -> str:
    model = run.denoiser
    assert isinstance(model, Latent)
    labels = torch.tensor((spread(len(run.classes), ROWS) * ROWS)[:ROWS])
    rng = Rng(seed).fold("what codes mean")
    grids = []
    for latent in spread(model.m, LATENTS):
        share = model.usage[latent].cpu() / model.usage[latent].sum().cpu()
        values = _most_used(model, latent)
        pictures = varied(run, latent, values, labels, rng)
        heads = [f"{v}<br>{share[v]:.0%}" for v in values]
        names = [run.classes[k] if _told(run) else "" for k in labels.tolist()]
        left = "" if len(values) == model.k else f", the {VALUES} most used"
        grids.append(f"<h3>Latent {latent}: codes{left}, and how often they are used</h3>")
        grids.append(_grid(heads, names, list(pictures), run.facts["levels"]))
    given = {"label": labels, "codes": torch.zeros(len(labels), model.m, dtype=torch.int64)}
    assert isinstance(run.recipe, Coded)
    ((_, calls),) = in_calls(run.recipe, run.parts, run.facts, given, [CALLS])
    text = f"""In each row one code changes, and noise, class and other codes are as they were.
{_others(run)} {calls} evaluations of the network. {_shown(model)}"""
    return section("What each code means", f"<p>{text}</p>{''.join(grids)}")


def _most_used(model: Latent, latent: int) -> list[int]:
    """The codes of a latent that are shown, in order."""
    order = model.usage[latent].argsort(descending=True).cpu()
    return sorted(order[:VALUES].tolist())


def _shown(model: Latent) -> str:
    return f"{LATENTS} of {model.m} latents." if model.m > LATENTS else ""


def _others(run: Run) -> str:
    if isinstance(run.denoiser, Latent) and run.denoiser.m == 1:
        return ""
    of = "those of the prior" if run.parts.prior else "drawn as often as they are used"
    return f"The others are {of}."


def _compared(run: Run, data: Split[Any], seed: int) -> str:
    recipe, held, levels = run.recipe, data.held_out, run.facts["levels"]
    assert isinstance(recipe, Coded)
    few = tuple(sorted(set(recipe.evaluations))[:FEWEST])
    if not few:
        return ""
    rng = Rng(seed).fold("codes compared")
    ordered = held.labels.argsort(stable=True)
    rows = ordered[spread(len(held), COMPARED)]
    kinds: dict[str, Given] = code_sources(recipe, run.parts, run.facts, held, rows, rng)
    kinds = {name: kinds[name] for name in SOURCES if name in kinds}
    quick = replace(recipe, evaluations=few)
    found = list(by_evaluations(quick, run.parts, run.facts, kinds, rng.fold("sampling")))
    heads = [escape(held.classes[k]) for k in held.labels[rows].tolist()]
    parts = [_grid(heads, ["held out"], [held.pixels[rows]], levels)]
    for wanted in few:
        those = [part for part in found if part.wanted == wanted]
        names = [SOURCES[part.kind] for part in those]
        if any(part.calls != wanted for part in those):  # guidance needs even numbers
            names = [f"{name}: {part.calls}" for name, part in zip(names, those, strict=True)]
        lines = [part.samples for part in those]
        parts.append(f"<h3>{wanted} evaluations</h3>")
        parts.append(_grid([""] * len(rows), names, lines, levels))
    told = [TOLD[kind] for kind in kinds]
    listed = " or ".join(filter(None, (", ".join(told[:-1]), told[-1])))
    text = f"""Held-out pictures, and samples from one noise a column that are told {listed}."""
    return section("With codes and without", f"<p>{text}</p>{''.join(parts)}")


def _told(run: Run) -> bool:
    return run.recipe.conditional and len(run.classes) > 1


def _grid(heads: Sequence[str], names: Sequence[str], rows: Sequence[Tensor], levels: int) -> str:
    """Rows of pictures, each with its name if any has one, below the heads of the columns."""
    named = any(names)
    cells = ["<span></span>"] * named if any(heads) else []
    cells += [f"<span>{head}</span>" for head in heads] if any(heads) else []
    for name, pictures in zip(names, rows, strict=True):
        cells += [f"<span>{escape(name)}</span>"] * named
        cells += [f'<img alt="" src="{picture(one, levels)}">' for one in pictures]
    columns = f"{'minmax(0,7rem) ' * named}repeat({len(heads)},minmax(2.4rem,4rem))"
    film = (
        f'<div class="film pictures" style="grid-template-columns:{columns}">{"".join(cells)}</div>'
    )
    return f'<div class="strip">{film}</div>'
