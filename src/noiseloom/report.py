"""`report.html`: everything about a run on one page that opens from disk.

The page holds no script and refers to nothing outside itself; its content policy tells the browser
so. What it says comes from the run's folder, and whatever is not there yet is said to be missing.
"""

import json
import shlex
from collections.abc import Sequence
from dataclasses import MISSING, fields
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

from noiseloom.captioned import captioned
from noiseloom.code_grids import code_grids, code_points
from noiseloom.compounds import compounds
from noiseloom.data import Split
from noiseloom.fans import fans
from noiseloom.figures import loss_curve, plan_map
from noiseloom.gallery import gallery, section
from noiseloom.loading import load
from noiseloom.orders import orders
from noiseloom.paths import paths
from noiseloom.points import points
from noiseloom.recipes import Recipe, TwoStages
from noiseloom.rings import rings
from noiseloom.rows import rows
from noiseloom.run import Run
from noiseloom.run_folder import read_description, recipe_of, same_data, write_text
from noiseloom.scores import scores
from noiseloom.videos import videos

__all__ = ["document", "loss_section", "records_of", "write_report"]

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write_report(folder: Path, *, recipe: type[Recipe] | None = None, seed: int = 0) -> Path:
    """Write `report.html` into a run's folder.

    Args:
        folder: of the run; it may lack a checkpoint, records or an evaluation.
        recipe: the class of a recipe that is not this package's.
        seed: of the samples.

    Returns:
        The file.

    Raises:
        FileNotFoundError: no such run.
        ValueError: the description is not valid, or weights do not fit it.
    """
    described = read_description(folder)
    made = recipe_of(described, recipe)
    run = load(folder, recipe=recipe) if (folder / "ema.safetensors").is_file() else None
    records = records_of(folder / "metrics.jsonl")
    try:
        found = made.load(described["data"])
        data = found if same_data(found, described["facts"]) else None
    except (OSError, ValueError):  # the run was moved, or its data
        data = None
    name = folder.resolve().name
    sections = [
        _header(name, made, described, records, run, data),
        _collapsed(made, records),
        _shown(run, data, seed) if run else section("Samples", "<p>No checkpoint yet.</p>"),
        _plan(run) if run else "",
        orders(run, data, seed) if run else "",
        loss_section(records),
        scores(folder / "evaluation.json", name, made),
        _use(name, described, made, records),
        _options(described["options"], made),
    ]
    page = document(name, sections)
    write_text(folder / "report.html", page)
    return folder / "report.html"


def document(name: str, sections: Sequence[str]) -> str:
    """A page of HTML with its style in it, of a title and sections."""
    style = Path(__file__).with_suffix(".css").read_text(encoding="utf-8")
    return f"""<!doctype html>
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
<footer>Written on {datetime.now(UTC):%Y-%m-%d at %H:%M} UTC.</footer>
</body>
</html>
"""


def _collapsed(recipe: Recipe, records: Sequence[dict[str, float]]) -> str:
    """What training warned of, if its last record is still so."""
    watch = recipe.watch if isinstance(recipe, TwoStages) else None
    told = watch.told(records[-1]) if watch and records else ""
    return section("Warning", f"<p>{escape(told[:1].upper() + told[1:])}.</p>") if told else ""


def _shown(run: Run, data: Split[Any] | None, seed: int) -> str:
    """What the run draws, by the kind of its data."""
    views = {
        "points": points,
        "benzenoids": rings,
        "molecules": compounds,
        "pictures": gallery,
        "series": fans,
        "trajectories": paths,
        "videos": videos,
        "rows": rows,
        "captions": captioned,
    }
    recipe = run.recipe
    two = recipe if isinstance(recipe, TwoStages) else None
    if two and two.coded and two.codes == "prior" and run.parts.prior is None:
        more = " --prior autoregressive" * (two.prior == "none")
        command = escape(f"noiseloom prior {shlex.quote(run.folder.resolve().name)}{more}")
        return section("Samples", f"<p>There is no prior over codes yet.</p><pre>{command}</pre>")
    kind = run.recipe.drawn_as(run.facts)
    if kind is None:
        return section("Samples", "<p>Only the recipe knows how its samples are shown.</p>")
    shown = views[kind](run, data, seed)
    if kind == "points":
        return shown + code_points(run, seed)
    return shown + code_grids(run, data, seed) if kind == "pictures" else shown


def _plan(run: Run) -> str:
    plan = run.recipe.plan_of(run.facts, run.diffusion.schedule)
    if plan.s[0].numel() == 1:
        return ""
    text = "When each token becomes certain: yellow is noise, violet is clean."
    drawing = plan_map(plan.s.flatten(1))
    return section("The plan", f'<p>{text}</p><figure class="small">{drawing}</figure>')


def records_of(path: Path) -> list[dict[str, float]]:
    """The whole lines of a training's `metrics.jsonl`; none where there is no such file."""
    lines = path.read_text().splitlines(keepends=True) if path.is_file() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]  # the last may be half


def _header(
    name: str,
    recipe: Recipe,
    described: dict[str, Any],
    records: Sequence[dict[str, float]],
    run: Run | None,
    data: Split[Any] | None,
) -> str:
    facts, last = described["facts"], records[-1] if records else {"step": 0, "seconds": 0}
    shown = {
        "recipe": recipe.name,
        "updates": f"{last['step']:,} of {recipe.steps:,}",
        "batch size": f"{recipe.batch_size:,}",
    }
    if last["seconds"]:
        speed = last["step"] * recipe.batch_size / last["seconds"]
        shown |= {"training": _duration(last["seconds"]), "speed": f"{speed:,.0f} samples/s"}
    if run:
        shown["parameters"] = f"{sum(p.numel() for p in run.denoiser.parameters()):,}"
    if recipe.drawn_as(facts) == "pictures":
        channels, height, width = facts["shape"]
        shown["pictures"] = f"{width} x {height}, {'RGB' if channels == 3 else 'grey'}"
        shown["levels"] = str(facts["levels"])
    if recipe.shows == "videos" and "shape" in facts:
        _, height, width = facts["shape"]
        shown["frames"] = f"{width} x {height}, {facts.get('actions', 0)} numbers an action"
    if "columns" in facts:
        shown["columns"] = f"{len(facts['columns']):,}"
    if len(facts.get("classes", ())) > 1:
        shown["classes"] = f"{len(facts['classes']):,}"
    if data:
        shown["data"] = f"{len(data.train):,} + {len(data.held_out):,} held out"
    shown["sampling"] = f"{recipe.sampling_steps:,} steps of {recipe.sampler}"
    if "sampling_steps" in recipe.idle:
        shown["sampling"] = "token by token"
    if run and recipe.restarts:
        rows = len(recipe.plan_of(facts, run.diffusion.schedule))
        shown["sampling"] += f", {rows:,} with restarts"
    shown["seed"] = str(recipe.seed)
    shown["noiseloom"] = str(described.get("noiseloom", ""))
    cells = "".join(f"<div><dt>{k}</dt><dd>{escape(v)}</dd></div>" for k, v in shown.items())
    summary = recipe.summary[:1].upper() + recipe.summary[1:].rstrip(".")
    commands = (described.get("command"), (described.get("copied_from") or {}).get("command"))
    command = "\n".join(filter(None, commands))
    return f"""<header><p class="kind">noiseloom report</p><h1>{escape(name)}</h1>
<p class="lead">{escape(summary)}.</p>
{f"<pre>{escape(command)}</pre>" if command else ""}
<dl class="facts">{cells}</dl></header>"""


def loss_section(records: Sequence[dict[str, float]]) -> str:
    """The curve of the loss."""
    if not records:
        return section("Loss", "<p>No updates yet.</p>")
    curve = loss_curve([r["step"] for r in records], [r["loss"] for r in records])
    return section("Loss", f'<figure class="curve">{curve}</figure>')


def _use(
    name: str, described: dict[str, Any], recipe: Recipe, records: Sequence[dict[str, float]]
) -> str:
    quoted, file = shlex.quote(name), Path(described.get("file") or "").name
    own = f" --recipe {shlex.quote(file)}" if file else ""
    first = f"{shlex.quote(f'./{file}')} " if file else ""
    done = bool(records) and records[-1]["step"] >= recipe.steps
    train = f"noiseloom train {first}--out {quoted} --resume"
    if done and recipe.decay == "constant":
        train += f" --steps {2 * recipe.steps}"
    elif done:  # to go on would raise the learning rate, which has fallen to 0, in mid-course
        config, new = shlex.quote(f"{name}/recipe.yaml"), shlex.quote(f"{name}-2")
        train = f"noiseloom train {first}--config {config} --init-from {quoted} --out {new}"
    shell = [train, f"noiseloom evaluate {quoted}{own}"]
    kind = recipe.drawn_as(described["facts"])
    if kind == "captions":
        shell.insert(1, f"noiseloom caption {quoted} PICTURE.png{own}")
    elif kind:
        count = 4 if recipe.shows == "videos" else 64
        shell.insert(1, f"noiseloom sample {quoted} -n {count} --seed 1{own}")
    typed = "\n".join(shell)
    given = f", recipe={type(recipe).__name__}" if file else ""
    python = f"""import noiseloom, torch

run = noiseloom.load({name!r}{given})
{recipe.usage}"""
    return section(
        "Use it",
        f"""<p>From the folder this run lies in: train on, draw, judge.</p>
<pre>{escape(typed)}</pre><p>From Python:</p><pre>{escape(python)}</pre>""",
    )


def _options(options: dict[str, Any], recipe: Recipe) -> str:
    defaults = {f.name: f.default for f in fields(recipe) if f.default is not MISSING}
    rows, changed = [], 0
    for name, value in options.items():
        default = defaults.get(name)
        differs = getattr(recipe, name) != default
        changed += differs
        cells = f"<th>{escape(name)}</th><td>{_option(value)}</td><td>{_option(default)}</td>"
        rows.append(f"<tr{' class=changed' if differs else ''}>{cells}</tr>")
    return f"""<details><summary>All {len(options)} options
<small>· {changed} not at the recipe's default</small></summary>
<table><thead><tr><th>option</th><th>value</th><th>default</th></tr></thead>
<tbody>{"".join(rows)}</tbody></table></details>"""


def _option(value: object) -> str:
    return escape(str(list(value) if isinstance(value, tuple) else value))


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"
