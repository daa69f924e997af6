"""`report.html`: everything about a run on one page that opens from disk.

One pass of the sampling loop feeds all its pictures: the last estimates are the samples, a few
estimates and states on the way are the film, and the bits of every step are the histogram. The page
holds no script and refers to nothing outside itself, which its content policy also tells the
browser.
"""

import base64
import io
import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

import torch
from matplotlib import rc_context
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, StrMethodFormatter
from PIL import Image
from torch import Tensor

from noiseloom.data import Split
from noiseloom.encodings import Bits, OneHot
from noiseloom.metrics import bit_histogram
from noiseloom.recipes import Recipe
from noiseloom.run import Run, load, read_description, recipe_of, write_text

__all__ = ["write_report"]

INK, BLUE = "#010203", "#4a8fe0"  # INK stands for the page's own text colour
LARGE = 32  # pictures with longer sides are fewer, and JPEG, to keep the page small
FRAMES = 12
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
    trained = (folder / "ema.safetensors").is_file()
    run = load(folder, recipe=recipe) if trained else None
    records = _records(folder / "metrics.jsonl")
    try:
        data = made.load(described.get("data"))
    except (OSError, ValueError):  # the run was moved, or its data was
        data = None
    name = folder.resolve().name
    sections = [
        _header(name, made, described, records, run, data),
        *(_drawn(run, data, seed) if run else [_missing("Samples", "No checkpoint yet.")]),
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
<footer>Written on {written} by noiseloom {escape(str(described.get("noiseloom", "")))}.</footer>
</body>
</html>
"""
    write_text(folder / "report.html", page)
    return folder / "report.html"


@dataclass(frozen=True)
class Frame:
    """One step of the film: its times, and what estimate and state decode to."""

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
    done = f"{last['step']:,} of {recipe.steps:,}"
    shape = " × ".join(map(str, facts["shape"]))
    shown = {"recipe": recipe.name, "updates": done, "batch size": f"{recipe.batch_size:,}"}
    if last["seconds"]:
        speed = last["step"] * recipe.batch_size / last["seconds"]
        shown |= {"training time": _duration(last["seconds"]), "speed": f"{speed:,.0f} samples/s"}
    if run:
        shown["parameters"] = f"{sum(p.numel() for p in run.denoiser.parameters()):,}"
    shown |= {"pictures": f"{shape}, {facts['levels']} levels"}
    if len(facts["classes"]) > 1:
        shown["classes"] = f"{len(facts['classes']):,}"
    if data:
        shown["data"] = f"{len(data.train):,} to train on, {len(data.held_out):,} held out"
    shown["sampling"] = f"{recipe.sampling_steps} {recipe.plan} steps of {recipe.sampler}"
    shown |= {"overshoot td, guidance": f"{recipe.td:g}, {recipe.guidance:g}"}
    shown |= {"seed": str(recipe.seed)}
    cells = "".join(f"<div><dt>{k}</dt><dd>{escape(v)}</dd></div>" for k, v in shown.items())
    summary = recipe.summary[:1].upper() + recipe.summary[1:].rstrip(".")
    return f"""<header><p class="kind">noiseloom report</p><h1>{escape(name)}</h1>
<p class="lead">{escape(summary)}.</p>
<pre>{escape(described.get("command") or "")}</pre>
<dl class="facts">{cells}</dl></header>"""


def _drawn(run: Run, data: Split | None, seed: int) -> list[str]:
    """Samples, film and histogram, from one batch."""
    large = max(run.facts["shape"][1:]) > LARGE
    columns, films, states = (5, 4, 2) if large else (8, 6, 3)
    names = run.classes if getattr(run.recipe, "conditional", True) else ()
    rows = min(len(names), 8 if large else 10) if len(names) > 1 else 6
    kinds = _spread(len(names), rows) if len(names) > 1 else [0] * rows
    labels = torch.tensor(kinds).repeat_interleave(columns)
    chosen, levels = _spread(len(labels), films), run.facts["levels"]
    total = len(run.recipe.make_plan(run.diffusion.schedule).t)
    kept = set(_spread(total, min(FRAMES, total)))

    frames: list[Frame] = []
    times, shares, states_shares = [], [], []
    scale = run.codec.scale if isinstance(run.codec, Bits | OneHot) else None
    for step in run.steps(labels, seed=seed):
        t, s = float(step.t.max()), float(step.s.max())
        mean = step.prediction.mean
        if scale is not None:
            times.append((t, s))
            shares.append(bit_histogram([mean], scale, limit=1.2)[1])
            states_shares.append(bit_histogram([step.x], scale, limit=3)[1])
        if step.index in kept:
            pictures = (run.codec.decode(x[chosen]).cpu() for x in (mean, step.x))
            frames.append(Frame(t, s, *pictures))
    samples = run.codec.decode(step.result).cpu()

    found = [_samples(samples.split(columns), kinds, names, data, levels, columns)]
    found.append(_film(frames, levels, states))
    if scale is not None:
        edges = [*(t for t, _ in times), times[-1][1]]
        figures = (
            _heat(edges, torch.cat(x), scale * limit, name)
            for x, limit, name in ((shares, 1.2, "estimate"), (states_shares, 3, "state"))
        )
        found.append(_histogram(*figures, count=len(labels)))
    return found
