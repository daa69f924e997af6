"""The figures of an evaluation as a part of a page: each metric, what it says, and its anchors."""

import json
import shlex
from collections.abc import Sequence
from html import escape
from pathlib import Path

from noiseloom.gallery import section
from noiseloom.glossary import MEANINGS, kind_of
from noiseloom.recipes import Recipe
from noiseloom.remarks import remarks
from noiseloom.terminal import ANCHORS, shown

__all__ = ["scores"]

PICTURES = """A number means something by its place between two anchors, measured in the same way:
held-out real pictures, as good as it gets, and these with noise, visibly wrong. A bar is full at
the first and empty at the second. """
ROWS = """A number means something by its place between two anchors, measured in the same way:
held-out real rows, as good as it gets, and real rows with a fifth of their tokens drawn anew. A bar
is full at the first and empty at the second; ≈ is best near the first. """
CAPTIONS = """A number means something by its place between two anchors, measured in the same way:
a real caption of the same picture, held against the others, as good as it gets, and a real caption
of another picture. A bar is full at the first and empty at the second. """
POINTS = """Other points of the same law were measured in the same way: as good as it gets. """
FORECASTS = """A forecast is worth its place beside history repeated: stretches of the past, put
after the last known value or, by season, after the last season; and beside a random walk without
drift, of normal steps as large as those that were known. """
FUTURES = """A prediction is worth its place beside what needs no model: that all stays as it is,
or goes on as it went. """
DRIVING = """Plans are judged by driving: random forces have a score of 0, and the controller that
the data are of, which knows the walls, has 100. Straight ahead is driven at the goal without data
or a plan, into walls if need be: a score is worth its place above that. """


def scores(path: Path, name: str, recipe: Recipe | None = None) -> str:
    """The table of `evaluation.json`: a row per metric, with its anchors beside it.

    Args:
        path: the file, if it is there.
        name: of the run's folder.
        recipe: of the run, which has what is to be said below the table (`noiseloom.remarks`).
    """
    if not path.is_file():
        command = escape(f"noiseloom evaluate {shlex.quote(name)}")
        return section("Metrics", f"<p>Not evaluated yet.</p><pre>{command}</pre>")
    values = json.loads(path.read_text())
    keys = [key for key in shown(values) if key != "n"]
    order = list(MEANINGS)
    keys.sort(key=lambda k: order.index(kind_of(k)) if kind_of(k) in order else len(order))
    endings = [e for e in ANCHORS if any(key + e in values for key in keys)]
    texts = {
        "_elsewhere": CAPTIONS,
        "_held_out": PICTURES,
        "_walk": FORECASTS,
        "_still": FUTURES,
        "_random": DRIVING,
    }
    text = next((text for ending, text in texts.items() if ending in endings), "")
    rows = recipe is not None and recipe.shows == "rows" and "nearest" not in values
    text = POINTS if "energy" in values else ROWS if rows else text
    count = f" Each column has {values['n']:,.0f} samples." if "n" in values else ""
    heads = "".join(f"<th>{title}</th>" for title in ("samples", *(ANCHORS[e] for e in endings)))
    body = "".join(_metric(key, values, endings) for key in keys)
    told = remarks(recipe, values) if recipe is not None else []
    note = "".join(f"\n<p>{escape(text)}</p>" for text in told)
    return section(
        "Metrics",
        f"""<p>{text}↑ more is better, ↓ less is better.{count}</p>
<table class="metrics"><thead><tr><th></th>{heads}
</tr></thead><tbody>{body}</tbody></table>{note}""",
    )


def _metric(key: str, values: dict[str, float], endings: Sequence[str]) -> str:
    kind = kind_of(key)
    title, better, text = MEANINGS.get(kind, (key.replace("_", " "), "", ""))
    if kind != key:
        text = f"{text} {key.removeprefix(f'{kind}_').replace('_', ', ')}"
    cells = []
    for ending in ("", *endings):
        value, error = values.get(key + ending), values.get(f"{key}_se{ending}")
        cells.append("" if value is None else _number(value))
        cells[-1] += "" if error is None else f"<small>±&nbsp;{error:.2g}</small>"
    if key not in values:
        cells[0] = "&ndash;"
    real, worse = values.get(key + "_held_out", 0), values.get(key + "_elsewhere", 0)
    noised = values.get(key + "_noised", worse)
    # Some measures, recall above all, may rate noise above real pictures: no bar for these.
    apart = (better == "↑" and real > noised) or (better == "↓" and real < noised)
    if apart and key in values:
        place = min(max((values[key] - noised) / (real - noised), 0), 1)
        cells[0] += f'<span class="gauge"><i style="width:{place:.0%}"></i></span>'
    if kind == "coverage" and real and key in values:
        cells[0] += f"<small>{values[key] / real:.0%} of held-out</small>"
    row = "".join(f"<td>{cell}</td>" for cell in cells)
    return f"<tr><th>{escape(title)}&nbsp;{better}<small>{escape(text)}</small></th>{row}</tr>"


def _number(value: float) -> str:
    return (f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}").replace("-", "&minus;")
