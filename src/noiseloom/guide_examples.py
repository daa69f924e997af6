"""Held-out structures on a guide's page, those that it tells best and worst, as they look.

What a guide says is asked of clean structures, and held against their labels by the error alone.
"""

from collections.abc import Sequence
from html import escape

import torch

from noiseloom.guide_folder import guidable
from noiseloom.guide_material import Material
from noiseloom.ranking import said_of
from noiseloom.rng import Rng
from noiseloom.run import Run
from noiseloom.steering import Guides
from noiseloom.terminal import number

__all__ = ["guide_examples"]

_SHOWN = 6
"""Structures of either kind."""
_MOST = 1000
"""Structures they are chosen from."""


def guide_examples(run: Run, guide: Guides, material: Material) -> dict[str, str]:
    """For each property, HTML of the structures it is told best and worst of, by |y - mean|.

    Recipes that draw nothing (`Guidable.picture`) have tables of what is written of a structure.

    Args:
        run: whose states the guide reads.
        guide: ready to be asked.
        material: whose held-out structures are shown, different ones; of more than 1,000 some, in
            a fixed random order.
    """
    recipe, held = guidable(run), material.held_out
    keys = material.keys["held_out"]
    first = torch.tensor([*{key: i for i, key in reversed([*enumerate(keys)])}.values()])
    first = first.sort().values
    chosen = first[Rng(0).fold("examples").permutation(len(first))[:_MOST]]
    batch = {name: value.to(run.device) for name, value in held.rows[chosen].items()}
    data = run.recipe.decode(run.parts, run.recipe.clean(run.parts, batch), {}).cpu()
    said, labels = said_of(run, guide, data), held.labels[chosen].double()
    found = {}
    for j, name in enumerate(held.names):
        mean, deviation = said.mean[:, j].double(), said.variance[:, j].double().sqrt()
        told = torch.stack((labels[:, j], mean, deviation), 1)
        order = (labels[:, j] - mean).abs().argsort(stable=True)
        best = order[: min(_SHOWN, len(order) // 2)]
        worst = order[len(best) :].flip(0)[:_SHOWN]
        parts = []
        for title, rows in (("told best", best), ("told worst", worst)):
            values = [[number(value) for value in row] for row in told[rows].tolist()]
            captions = [f"{label}: {mean} ({spread})" for label, mean, spread in values]
            picture = recipe.picture(run.parts, run.facts, data[rows], captions)
            own = [keys[i] for i in chosen[rows].tolist()]
            shown = picture or _table(own, values)
            parts.append(f"<figure>{shown}<figcaption>{title}</figcaption></figure>")
        found[name] = "".join(parts)
    return found


def _table(keys: Sequence[str], values: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{name}</th>" for name in ("structure", "label", "mean", "deviation"))
    body = "".join(
        f'<tr><th style="overflow-wrap: anywhere">{escape(key)}</th>'
        + "".join(f"<td>{value}</td>" for value in row)
        + "</tr>"
        for key, row in zip(keys, values, strict=True)
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
