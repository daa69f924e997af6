"""`guide.html`: everything about a guide on one page, in its data and outside of them."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from html import escape
from pathlib import Path
from typing import Any

from noiseloom.figures import curve_chart
from noiseloom.gallery import section
from noiseloom.guide_folder import GUIDES, GuideRecord
from noiseloom.guide_material import JUDGING
from noiseloom.recipes import GuideTraining
from noiseloom.report import document, loss_section, records_of
from noiseloom.run_folder import write_text

__all__ = ["write_guide_report"]

TITLES = {"held_out": "held out", "shifted": "shifted", "test": "test", "context": "context"}
_SHOWN = (0, 2, 5, 8, 10)
"""Levels of tables and of reliability curves, of those that were measured."""


def write_guide_report(
    folder: Path,
    record: GuideRecord,
    examples: Mapping[str, str] | None = None,
    place: Path | None = None,
) -> Path:
    """Write `guide.html` into a guide's folder, of `calibration.json` and the training's records.

    Args:
        folder: of the guide.
        record: its description, with a summary.
        examples: HTML of held-out structures, by property, as `guide_examples` makes it.
        place: where the folder is going to lie; by default where it lies.

    Returns:
        The file.
    """
    found = json.loads((folder / "calibration.json").read_text(encoding="utf-8"))
    place = place or folder
    sections = [_header(place, record)]
    for name in record.names:
        sections.append(_property(name, found, (examples or {}).get(name, "")))
    sections += [
        loss_section(records_of(folder / "metrics.jsonl")),
        _use(place, record),
        _options(record.options),
    ]
    write_text(folder / "guide.html", document(place.resolve().name, sections))
    return folder / "guide.html"


def _header(folder: Path, record: GuideRecord) -> str:
    options, counts, told = record.options, record.counts, record.summary
    shown = {
        "method": options.method,
        "properties": ", ".join(record.names),
        "labelled": f"{counts['learnt']:,} + {counts['held_out']:,} held out",
        "context": f"{counts['context']:,}" if counts["context"] else "none",
        "updates": f"{options.steps:,} of {options.batch_size:,}",
        "held-out nats": f"{told['nll']:.3f}",
        "rank correlation": f"{told['spearman']:.2f}",
        "inside 90 %": f"{told['inside_90']:.0%}",
    }
    for name in JUDGING:
        if f"nll_{name}" in told:
            shown[f"{name} nats"] = f"{told[f'nll_{name}']:.3f}"
    if counts["shared"]:
        shown["shared with context"] = f"{counts['shared']:,}"
    for name in JUDGING:  # guides of before have less of it
        if counts.get(f"shared_{name}"):
            shown[f"shared with {name}"] = f"{counts[f'shared_{name}']:,}"
        if counts.get(f"unlabelled_{name}"):
            shown[f"{name}, in the context too"] = f"{counts[f'unlabelled_{name}']:,}"
    shown |= {"seed": str(options.seed), "noiseloom": record.noiseloom}
    cells = "".join(f"<div><dt>{k}</dt><dd>{escape(v)}</dd></div>" for k, v in shown.items())
    command = f"<pre>{escape(record.command)}</pre>" if record.command else ""
    return f"""<header><p class="kind">noiseloom guide</p><h1>{escape(folder.resolve().name)}</h1>
<p class="lead">Says {escape(", ".join(record.names))} of structures, at every level of noise.</p>
{command}<dl class="facts">{cells}</dl></header>"""


def _property(name: str, found: Mapping[str, Any], examples: str) -> str:
    sets = {key: told["properties"][name] for key, told in found["sets"].items()}
    sizes = {key: told["n"] for key, told in found["sets"].items()}
    levels, judged = found["levels"], [key for key in sets if "nll" in sets[key]]
    reliability = "".join(
        f"<figure>{_reliability(sets[key], levels, found['shares'], TITLES[key])}</figure>"
        for key in judged
    )
    curves = [_over_noise(sets, judged, levels, "nll", "nats a label, in training deviations")]
    curves.append(_over_noise(sets, judged, levels, "rmse", "root mean squared error"))
    curves.append(_over_noise(sets, list(sets), levels, "deviation", "deviation that is said"))
    curves.append(_over_noise(sets, list(sets), levels, "mean", "mean that is said"))
    figures = "".join(f"<figure>{curve}</figure>" for curve in curves)
    tables = "".join(_table(sets[key], levels, TITLES[key], sizes[key]) for key in sets)
    if examples:
        examples = f"""<h3>Held-out structures</h3>
<p>Those whose label the guide comes closest to when it sees them without noise, and those it is
farthest from: label, mean that is said, and in brackets the deviation that is said.</p>
{examples}"""
    return section(
        escape(name),
        f"""<p>An interval of 90 % should hold 90 % of the labels: on the dotted line a guide knows
how much it knows, below it it is too sure. Where there are no labels, in the context, a guide
should say the mean of the labels, and a deviation as large as theirs.</p>
<div class="pair">{reliability}</div><div class="pair">{figures}</div>{tables}{examples}""",
    )


def _reliability(
    told: Mapping[str, Any], levels: Sequence[float], shares: Sequence[float], title: str
) -> str:
    lines = {f"t = {levels[i]:.2g}": [told["reliability"][i]] for i in _SHOWN if i < len(levels)}
    return curve_chart(
        shares,
        lines,
        f"Share of labels inside an interval, {title}",
        real=shares,
        axis="share that the interval should hold",
        beside="as it should be",
    )


def _over_noise(
    sets: Mapping[str, Any], names: Sequence[str], levels: Sequence[float], key: str, title: str
) -> str:
    lines = {TITLES[name]: [sets[name][key]] for name in names}
    return curve_chart(levels, lines, title[:1].upper() + title[1:], axis="time, 1 is noise")


def _table(told: Mapping[str, Any], levels: Sequence[float], title: str, count: int) -> str:
    heads = {"nll": "nats", "rmse": "error", "spearman": "rank correlation"}
    heads |= {f"inside_{p}": f"in {p} %" for p in (50, 80, 90, 95)}
    heads |= {"mean": "mean said", "spread": "its spread", "deviation": "deviation said"}
    keys = [key for key in heads if key in told]
    head = "".join(f"<th>{heads[key]}</th>" for key in keys)
    body = ""
    for i in (i for i in _SHOWN if i < len(levels)):
        cells = "".join(f"<td>{_number(key, told[key][i])}</td>" for key in keys)
        body += f"<tr><th>{levels[i]:.2g}</th>{cells}</tr>"
    return f"""<h3>{escape(title[:1].upper() + title[1:])}, {count:,} structures</h3>
<table><thead><tr><th>time</th>{head}</tr></thead><tbody>{body}</tbody></table>"""


def _number(key: str, value: float) -> str:
    if key.startswith("inside"):
        return f"{value:.0%}"
    return f"{value:.3g}".replace("-", "&minus;")


def _use(folder: Path, record: GuideRecord) -> str:
    inside = folder.resolve()
    run = inside.parent.parent if inside.parent.name == GUIDES else None
    name = shlex.quote(run.name if run else "RUN")
    guide = shlex.quote(f"{run.name}/{GUIDES}/{inside.name}" if run else inside.name)
    target = ",".join(["maximise", *["any"] * (len(record.names) - 1)])
    typed = f"noiseloom sample {name} --guide {guide} --target {target} -n 64 --out hits.csv"
    python = f"""import noiseloom

run = noiseloom.load({name!r})
led = noiseloom.steered(run, {guide!r}, target={target!r}, scale=2.0)
drawn = led.samples(GIVEN, seed=1)  # of the run's samples, as run.samples(GIVEN, seed=1)"""
    return section(
        "Use it",
        f"""<p>From the folder that the run lies in:</p><pre>{escape(typed)}</pre>
<p>From Python:</p><pre>{escape(python)}</pre>""",
    )


def _options(options: GuideTraining) -> str:
    defaults = {f.name: f.default for f in fields(options)}
    rows, values = "", asdict(options)
    for name, value in values.items():
        changed = " class=changed" if value != defaults[name] else ""
        told = escape(str(value)), escape(str(defaults[name]))
        rows += f"<tr{changed}><th>{name}</th><td>{told[0]}</td><td>{told[1]}</td></tr>"
    return f"""<details><summary>All {len(values)} options</summary>
<table><thead><tr><th>option</th><th>value</th><th>default</th></tr></thead>
<tbody>{rows}</tbody></table></details>"""
