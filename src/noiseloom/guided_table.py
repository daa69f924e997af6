"""The table of guides at several scales: means over seeds, with intervals, and a page of it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from noiseloom.figures import curve_chart
from noiseloom.found_guides import GuideFolder
from noiseloom.gallery import section
from noiseloom.guided_cells import Found
from noiseloom.guided_figures import BEST, Aim
from noiseloom.metrics import mean_interval
from noiseloom.recipes.guide_options import METHODS
from noiseloom.report import document
from noiseloom.run_folder import write_text
from noiseloom.terminal import number

__all__ = ["UNGUIDED", "Row", "guided_rows", "guided_table", "headings", "write_guided_report"]

UNGUIDED = "unguided"
_FEW = 3  # lines of a small chart
_FIRST = ("best",)
_COUNTED = ("distinct", "outside", "valid")
_MORE = ("mean", "beyond", "picked", "claimed")
"""Columns; the first and the last are of a property, and left out where nobody knows them."""


@dataclass
class Row:
    """A kind of guide at a scale.

    Attributes:
        select: what configurations were chosen by; "" for none.
        method: of the guides, with options in which they differ from others of that method.
        scale: of the guidance.
        seeds: of each of the cells.
        values: figures by name, one for each of the seeds; None where there was nothing to
            measure, as without a valid sample.
        failed: why some cells have none.
    """

    select: str
    method: str
    scale: float
    seeds: list[int] = field(default_factory=list)
    values: dict[str, list[float | None]] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    @property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """Mean and half width of the 95 % interval over seeds that have it; NaN of a single one."""
        return {name: mean_interval(own) for name in self.values if (own := self.known(name))}

    def known(self, name: str) -> list[float]:
        """A figure, of the seeds that have it."""
        return [value for value in self.values.get(name, []) if value is not None]

    def plain(self) -> dict[str, Any]:
        """As JSON; half widths that are not known are null."""
        told = self.intervals
        return {
            **asdict(self),
            "n": len(self.seeds),
            "mean": {name: mean for name, (mean, _) in told.items()},
            "interval_95": {n: None if math.isnan(h) else h for n, (_, h) in told.items()},
        }


def guided_rows(found: Sequence[tuple[GuideFolder | None, int, Found]]) -> list[Row]:
    """Cells of equal guides but for their seed as rows; the unguided first, then as methods are.

    Args:
        found: of each cell its guide, None for unguided ones, a seed, and what was found.
    """
    names = _labels([guide for guide, _, _ in found if guide is not None])
    rows: dict[tuple[str, str, float], Row] = {}
    for guide, seed, one in found:
        select = guide.select if guide else ""
        method = names[guide.folder] if guide else UNGUIDED
        scale = one.cell.options.scale
        row = rows.setdefault((select, method, scale), Row(select, method, scale))
        if one.failed:
            row.failed.append(f"seed {seed}: {one.failed}")
            continue
        row.seeds.append(seed)
        for name in dict.fromkeys([*row.values, *one.figures]):
            before: list[float | None] = [None] * (len(row.seeds) - 1)
            row.values.setdefault(name, before).append(one.figures.get(name))
    places: dict[str, int] = {name: i for i, name in enumerate(METHODS)}

    def order(row: Row) -> tuple[Any, ...]:
        kind = row.method.split(" ")[0]
        return (row.method != UNGUIDED, row.select, places.get(kind, 99), row.method, row.scale)

    return sorted(rows.values(), key=order)


def _labels(guides: Sequence[GuideFolder]) -> dict[Path, str]:
    """What guides are called: their method, and the options in which some of that choice differ."""
    kinds: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for guide in guides:
        options = asdict(guide.record.options)
        kinds.setdefault((guide.select, options["method"]), []).append(options)
    found = {}
    for guide in guides:
        options = asdict(guide.record.options)
        others = kinds[guide.select, options["method"]]
        differ = [
            f"{name}={value}"
            for name, value in options.items()
            if name != "seed" and any(other[name] != value for other in others)
        ]
        found[guide.folder] = " ".join([options["method"], *differ])
    return found


def headings(rows: Sequence[Row], aims: Sequence[Aim]) -> list[str]:
    """The figures that a table shows, the property's own first.

    Args:
        rows: of the table.
        aims: what is wanted of properties.
    """
    there = {name for row in rows for name in row.values}
    endings = [f"_{aim.name}" for aim in aims] if len(aims) > 1 else [""]
    first, more = ([k + e for e in endings for k in keys] for keys in (_FIRST, _MORE))
    return [name for name in (*first, *_COUNTED, *more) if name in there]


def guided_table(
    rows: Sequence[Row], aims: Sequence[Aim], n: int
) -> tuple[list[str], list[list[str]]]:
    """Head and cells: means, and half widths of 95 % intervals, over seeds that have a figure.

    Args:
        rows: of `guided_rows`.
        aims: what is wanted of properties.
        n: samples of each cell.
    """
    shown, chosen = headings(rows, aims), any(row.select for row in rows)
    head = [*(["chosen by"] if chosen else []), "method", "scale"]
    head += [_heading(name, aims, n) for name in shown] + ["seeds"]
    lines = []
    for row in rows:
        told = row.intervals
        line = [*([row.select or "-"] if chosen else []), row.method, f"{row.scale:g}"]
        for name in shown:
            mean, half = told.get(name, (None, math.nan))
            count = len(row.known(name))
            some = f" ({count} of {len(row.seeds)})" if 0 < count < len(row.seeds) else ""
            line.append(number(mean, None if math.isnan(half) else half) + some)
        failed = f", {len(row.failed)} failed" if row.failed else ""
        lines.append([*line, f"{len(row.seeds)}{failed}"])
    return head, lines


def _heading(name: str, aims: Sequence[Aim], n: int) -> str:
    """What a figure is called in a table, and which direction is better."""
    if name in _COUNTED:
        return (f"distinct of {n:,}" if name == "distinct" else name) + " ↑"
    own = next((aim for aim in aims if name.endswith(f"_{aim.name}")), aims[0])
    arrow = " ↑" if own.target == "maximise" or name.startswith("beyond") else " ↓"
    told = name.replace("_", " ")
    return (f"best {BEST}{told[4:]}" if name.startswith("best") else told) + arrow


def write_guided_report(path: Path, table: Mapping[str, Any], rows: Sequence[Row]) -> None:
    """A page: the table, and every figure over the scale, of each choice by itself.

    Args:
        path: of the page.
        table: what is written beside it: title, head, lines, notes and command.
        rows: of `guided_rows`.
    """
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in line) + "</tr>"
        for line in table["lines"]
    )
    head = "".join(f"<th>{escape(cell)}</th>" for cell in table["head"])
    notes = "".join(f"<p>{escape(note)}</p>" for note in table["notes"])
    sections = [
        f"""<header><p class="kind">noiseloom guides</p><h1>{escape(table["title"])}</h1>
<p class="lead">{escape(table["lead"])}</p><pre>{escape(table["command"])}</pre></header>"""
    ]
    for select in dict.fromkeys(row.select for row in rows if row.method != UNGUIDED):
        charts = [_chart(rows, select, name) for name in table["shown"]]
        figures = "".join(f"<figure>{chart}</figure>" for chart in charts if chart)
        title = f"Chosen by {select} labels" if select else "Guides"
        if figures:
            told = "<p>Means over seeds that have the figure at every scale, and their range.</p>"
            sections.append(section(title, f'{told}<div class="pair">{figures}</div>'))
    whole = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{notes}"
    sections.append(section("Table", whole))
    write_text(path, document(table["title"], sections))


def _by_seed(row: Row, name: str) -> dict[int, float]:
    values = row.values.get(name, [None] * len(row.seeds))
    return {s: value for s, value in zip(row.seeds, values, strict=True) if value is not None}


def _chart(rows: Sequence[Row], select: str, name: str) -> str:
    """A figure over the scale, of methods with the same seeds at all scales; "" for none."""
    unguided = [row for row in rows if row.method == UNGUIDED and name in row.values]
    own = [row for row in rows if row.select == select and row.method != UNGUIDED]
    scales = sorted({row.scale for row in (*unguided, *own)})
    lines = {}
    for method in dict.fromkeys(row.method for row in own):
        there = {row.scale: _by_seed(row, name) for row in own if row.method == method}
        if unguided:
            there[0.0] = _by_seed(unguided[0], name)
        values = [there.get(scale, {}) for scale in scales]
        common = [seed for seed in values[0] if all(seed in told for told in values)]
        if len(scales) > 1 and common:
            lines[method] = [[told[seed] for told in values] for seed in common]
    if not lines:
        return ""
    title, wide = name.replace("_", " "), len(lines) > _FEW  # a legend takes room
    return curve_chart(scales, lines, title, axis="scale", wide=wide)
