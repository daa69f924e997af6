"""`report.html`: everything about a run on one page that opens from disk.

One pass of the sampling loop feeds all its pictures: the last estimates are the samples, a few
estimates and states on the way are the film, and the bits of every step are the histogram. The page
holds no script and refers to nothing outside itself, which its content policy also tells the
browser.
"""

import json
import shlex
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from noiseloom.data import Split
from noiseloom.encodings import Bits, OneHot
from noiseloom.figures import heat_map, loss_curve, picture
from noiseloom.metrics import bit_histogram
from noiseloom.recipes import RECIPES, Recipe
from noiseloom.run import Run, load, read_description, recipe_of, write_text

__all__ = ["write_report"]

FRAMES = 12  # of the film
LIMITS = {"The estimate": 1.2, "The state": 3.0}  # of the histograms, in units of the scale
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

# Per metric: title, which direction is better, what it says.
MEANINGS = {
    "class_agreement": (
        "class agreement",
        "↑",
        "share of samples in which an independent classifier sees the class asked for",
    ),
    "kid": ("kernel distance", "↓", "to the training pictures, ± standard error, in features of"),
    "fd": ("Fréchet distance", "↓", "to equally many training pictures, in features of"),
    "precision": ("precision", "↑", "share of samples that lie among real pictures: realism"),
    "recall": ("recall", "↑", "share of real pictures that lie among the samples: diversity"),
    "density": ("density", "↑", "how densely real pictures surround a sample; 1 where sets agree"),
    "coverage": ("coverage", "↑", "share of real pictures with a sample in their neighbourhood"),
    "nearest": (
        "nearest training picture",
        "≈",
        "median distance in pixels; like held-out: neither copies nor far from the data",
    ),
    "memorised": (
        "memorised",
        "↓",
        "share of samples nearer to a training picture than 99 % of held-out pictures are; about "
        "0.01 where nothing is memorised",
    ),
    "discreteness": ("discreteness", "↑", "share of final analog bits within 0.1 of a level"),
    "invalid_codes": ("invalid codes", "↓", "share of values whose bits spell no value"),
}


def write_report(folder: Path, *, recipe: type[Recipe] | None = None, seed: int = 0) -> Path:
    """Write `report.html` into a run's folder; what is not there yet is left out of the page.

    Args:
        folder: of the run; without a checkpoint, records or an evaluation, the page says so.
        recipe: the class of a recipe that is not this package's.
        seed: of the samples: picture i of the page is `run.pixels(labels, seed=seed)[i]`.

    Returns:
        The file.

    Raises:
        FileNotFoundError: no such run.
        ValueError: the description is not valid, or weights do not fit it.
    """
    described = read_description(folder)
    made = recipe_of(described, recipe)
    run = load(folder, recipe=recipe) if (folder / "ema.safetensors").is_file() else None
    records = _records(folder / "metrics.jsonl")
    try:
        data = made.load(described.get("data"))
    except (OSError, ValueError):  # the run was moved, or its data
        data = None
    name = folder.resolve().name
    sections = [
        _header(name, made, described, records, run, data),
        _pictures(run, data, seed) if run else _section("Samples", "<p>No checkpoint yet.</p>"),
        _loss(records),
        _metrics(folder / "evaluation.json", name),
        _use(name, described, made),
        _options(described["options"], made),
    ]
    style = Path(__file__).with_suffix(".css").read_text(encoding="utf-8")
    written = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    page = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{escape(name)} · noiseloom</title>
<style>
{style}</style>
</head>
<body>
{"".join(sections)}
<footer>Written on {written}. Trained with noiseloom {escape(str(described["noiseloom"]))}.</footer>
</body>
</html>
"""
    write_text(folder / "report.html", page)
    return folder / "report.html"


@dataclass(frozen=True)
class Frame:
    """A step of the film: its times t and s, and what estimate and state decode to."""

    t: float
    s: float
    estimate: Tensor
    state: Tensor


def _records(path: Path) -> list[dict[str, float]]:
    lines = path.read_text().splitlines(keepends=True) if path.is_file() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]  # the last may be half


def _header(
    name: str,
    recipe: Recipe,
    described: dict[str, Any],
    records: list[dict[str, float]],
    run: Run | None,
    data: Split | None,
) -> str:
    facts, last = described["facts"], records[-1] if records else {"step": 0, "seconds": 0}
    shape = " × ".join(map(str, facts["shape"]))
    shown = {
        "recipe": recipe.name,
        "updates": f"{last['step']:,} of {recipe.steps:,}",
        "batch size": f"{recipe.batch_size:,}",
    }
    if last["seconds"]:
        speed = last["step"] * recipe.batch_size / last["seconds"]
        shown |= {"training time": _duration(last["seconds"]), "speed": f"{speed:,.0f} samples/s"}
    if run:
        shown["parameters"] = f"{sum(p.numel() for p in run.denoiser.parameters()):,}"
    shown["pictures"] = f"{shape}, {facts['levels']} levels"
    if len(facts["classes"]) > 1:
        shown["classes"] = f"{len(facts['classes']):,}"
    if data:
        shown["data"] = f"{len(data.train):,} to train on, {len(data.held_out):,} held out"
    shown["sampling"] = f"{recipe.sampling_steps:,} {recipe.plan} steps of {recipe.sampler}"
    shown["overshoot, guidance"] = f"td {recipe.td:g}, scale {recipe.guidance:g}"
    shown["seed"] = str(recipe.seed)
    cells = "".join(f"<div><dt>{k}</dt><dd>{escape(v)}</dd></div>" for k, v in shown.items())
    summary = recipe.summary[:1].upper() + recipe.summary[1:].rstrip(".")
    command = f"<pre>{escape(described['command'])}</pre>" if described.get("command") else ""
    return f"""<header><p class="kind">noiseloom report</p><h1>{escape(name)}</h1>
<p class="lead">{escape(summary)}.</p>
{command}
<dl class="facts">{cells}</dl></header>"""


def _pictures(run: Run, data: Split | None, seed: int) -> str:
    """Samples, film and histogram, from one batch."""
    large = max(run.facts["shape"][1:]) > 32  # then there are fewer, to keep the page small
    columns, films, states = (5, 4, 2) if large else (8, 6, 3)
    classes = run.classes if getattr(run.recipe, "conditional", True) else ()
    kinds = _spread(len(classes), 8 if large else 10) if len(classes) > 1 else [0] * 6
    labels = torch.tensor(kinds).repeat_interleave(columns)
    chosen = _spread(len(labels), films)
    kept = set(_spread(len(run.recipe.make_plan(run.diffusion.schedule).t), FRAMES))
    scale = run.codec.scale if isinstance(run.codec, Bits | OneHot) else None

    frames: list[Frame] = []
    times: list[float] = []
    shares: dict[str, list[Tensor]] = {"The estimate": [], "The state": []}
    for step in run.steps(labels, seed=seed):
        t, s, estimate = float(step.t.max()), float(step.s.max()), step.prediction.mean
        if step.index in kept:
            frames.append(
                Frame(t, s, *(run.codec.decode(x[chosen]).cpu() for x in (estimate, step.x)))
            )
        if scale:
            times.append(t)
            for name, x in zip(shares, (estimate, step.x), strict=True):
                shares[name].append(bit_histogram([x], scale, limit=LIMITS[name])[1])
    samples = run.codec.decode(step.result).cpu().split(columns)
    levels = run.facts["levels"]
    found = _samples(samples, [classes[k] for k in kinds] if len(classes) > 1 else [], data, levels)
    found += _film(frames, states, levels)
    if scale:
        times.append(s)
        found += _histograms(times, shares, scale)
    return found


def _samples(
    samples: Sequence[Tensor], names: Sequence[str], data: Split | None, levels: int
) -> str:
    """A row per class, samples on the left, held-out pictures on the right."""
    count = len(samples[0])
    cells = ["<span></span>", '<span class="head">samples</span>']
    cells.append(f'<span class="head">{"held-out real pictures" if data else ""}</span>')
    for i, row in enumerate(samples):
        real: Tensor | Sequence[Tensor] = ()
        if data:
            held = data.held_out
            if names:
                real = held.pixels[held.labels == held.classes.index(names[i])][:count]
            else:
                real = held.pixels[i * count : (i + 1) * count]
        cells.append(f'<span class="name">{escape(names[i]) if names else ""}</span>')
        cells += [_row(pictures, count, levels) for pictures in (row, real)]
    note = "" if data else " Real pictures are missing: the data is not where it was."
    text = (
        f"By class, {len(names)} of them, as drawn: none was picked."
        if names
        else "As drawn: none was picked."
    )
    return _section(
        "Samples", f"<p>{text}{note}</p><div class='classes pictures'>{''.join(cells)}</div>"
    )


def _film(frames: Sequence[Frame], states: int, levels: int) -> str:
    """A column per step: what the estimates decode to, and some of the states."""
    count = len(frames)
    style = f"grid-template-columns:repeat({count},minmax(2.5rem,1fr))"
    estimates = [f"<span>{frame.t:.2f}</span>" for frame in frames]
    for i in range(len(frames[0].estimate)):
        estimates += [_image(frame.estimate[i], levels) for frame in frames]
    others = [f"<span>{frame.s:.2f}</span>" for frame in frames]
    for i in range(states):
        others += [_image(frame.state[i], levels) for frame in frames]
    return _section(
        "From noise to picture",
        f"""<h3>The estimate of the clean picture, by time t</h3>
<div class="strip"><div class="film pictures" style="{style}">{"".join(estimates)}</div></div>
<h3>The state that is moved, decoded, for the first {states}, by time s after the step</h3>
<div class="strip"><div class="film pictures" style="{style}">{"".join(others)}</div></div>""",
    )


def _histograms(times: Sequence[float], shares: dict[str, list[Tensor]], scale: float) -> str:
    figures = "".join(
        f"<figure><h3>{name}</h3>{heat_map(times, torch.cat(rows), LIMITS[name] * scale)}</figure>"
        for name, rows in shares.items()
    )
    return _section(
        "Analog bits",
        f"""<p>How the values of the bits are spread at each step. The data has two levels,
{-scale:g} and {scale:g}: a model that has learnt so leaves nothing between them at the end.</p>
<div class="pair">{figures}</div>""",
    )


def _loss(records: Sequence[dict[str, float]]) -> str:
    if not records:
        return _section("Loss", "<p>No updates yet.</p>")
    svg = loss_curve([r["step"] for r in records], [r["loss"] for r in records])
    return _section("Loss", f'<figure class="curve">{svg}</figure>')


def _metrics(path: Path, name: str) -> str:
    """The table of `evaluation.json`: a row per metric, its anchors beside it."""
    if not path.is_file():
        command = escape(f"noiseloom evaluate {shlex.quote(name)}")
        return _section("Metrics", f"<p>Not evaluated yet.</p><pre>{command}</pre>")
    values = json.loads(path.read_text())
    count = f"{values['n']:,.0f} pictures in each column" if "n" in values else ""
    suffixes = ("_held_out", "_noised")
    order = list(MEANINGS)
    keys = [k for k in values if k != "n" and not k.endswith(("_se", *suffixes))]
    keys = [k for k in keys if not k.endswith(tuple("_se" + s for s in suffixes))]
    rows = []
    for key in sorted(keys, key=lambda k: order.index(_kind(k)) if _kind(k) in order else 99):
        kind = _kind(key)
        title, better, text = MEANINGS.get(kind, (key.replace("_", " "), "", ""))
        text += f" {key.removeprefix(kind + '_')}" if kind in ("kid", "fd") else ""
        shown = []
        for suffix in ("", *suffixes):
            value, error = values.get(key + suffix), values.get(f"{key}_se{suffix}")
            shown.append("" if value is None else _number(value))
            if error is not None:
                shown[-1] += f" <small>± {_number(error)}</small>"
        real, noised = (values.get(key + suffix) for suffix in suffixes)
        if real is not None and noised is not None and real != noised and better != "≈":
            place = min(max((values[key] - noised) / (real - noised), 0), 1)
            shown[0] += f'<span class="gauge"><i style="width:{place:.0%}"></i></span>'
        if kind == "coverage" and real:
            shown[0] += f"<small>{values[key] / real:.0%} of held-out</small>"
        cells = "".join(f"<td>{cell}</td>" for cell in shown)
        rows.append(
            f"<tr><th>{escape(title)} {better}<small>{escape(text)}</small></th>{cells}</tr>"
        )
    return _section(
        "Metrics",
        f"""<p>A number means something by its place between two anchors, measured in the same way:
held-out real pictures, as good as it gets, and the same with noise, visibly wrong. The bar is full
at the first and empty at the second. {count}; ↑ more is better, ↓ less is better.</p>
<table class="metrics"><thead><tr><th></th><th>samples</th><th>held-out real</th><th>noised</th>
</tr></thead><tbody>{"".join(rows)}</tbody></table>""",
    )


def _use(name: str, described: dict[str, Any], recipe: Recipe) -> str:
    quoted, command = shlex.quote(name), described.get("command") or ""
    resume = command if not command or "--resume" in command else f"{command} --resume"
    lines = [resume, f"noiseloom sample {quoted} -n 64", f"noiseloom evaluate {quoted}"]
    own = "" if RECIPES.get(recipe.name) is type(recipe) else f", recipe={type(recipe).__name__}"
    code = f"""import noiseloom, torch

run = noiseloom.load({name!r}{own})
pixels = run.pixels(torch.tensor([0, 0, 0]))  # classes in, uint8 pictures out
sharper = run.with_options(td=1.0).pixels(torch.tensor([0, 0, 0]))"""
    shell = escape("\n".join(filter(None, lines)))
    return _section("Go on, draw, judge", f"<pre>{shell}</pre><pre>{escape(code)}</pre>")


def _options(options: dict[str, Any], recipe: Recipe) -> str:
    defaults = json.loads(
        json.dumps({f.name: f.default for f in fields(recipe) if f.default is not MISSING})
    )
    rows, changed = [], 0
    for key, value in options.items():
        differs = key in defaults and defaults[key] != value
        changed += differs
        mark = f"<td>{escape(str(defaults.get(key, '')))}</td>"
        rows.append(
            f"<tr{' class=changed' if differs else ''}><th>{escape(key)}</th>"
            f"<td>{escape(str(value))}</td>{mark}</tr>"
        )
    return f"""<details><summary>All {len(options)} options <small class="quiet">
{changed} differ from the recipe's defaults</small></summary>
<table><thead><tr><th>option</th><th>value</th><th>default</th></tr></thead>
<tbody>{"".join(rows)}</tbody></table></details>"""


def _section(title: str, content: str) -> str:
    return f"<section><h2>{title}</h2>\n{content}\n</section>\n"


def _row(pictures: Tensor | Sequence[Tensor], count: int, levels: int) -> str:
    images = "".join(_image(one, levels) for one in pictures)
    return f'<div class="row" style="grid-template-columns:repeat({count},1fr)">{images}</div>'


def _image(pixels: Tensor, levels: int) -> str:
    return f'<img alt="" src="{picture(pixels, levels)}">'


def _spread(total: int, count: int) -> list[int]:
    """At most `count` of the numbers 0 .. total - 1, evenly, with both ends."""
    return torch.linspace(0, total - 1, min(count, total)).round().long().tolist()


def _kind(key: str) -> str:
    return next((kind for kind in ("kid", "fd") if key.startswith(f"{kind}_")), key)


def _number(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"
