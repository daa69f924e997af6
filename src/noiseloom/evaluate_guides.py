"""What `noiseloom evaluate RUN --guide FOLDER` does: guides beside each other, at several scales.

Every guide leads the run's samples at every scale, and what they truly are, where that can be
known, is told beside unguided ones: as one table of means over seeds with 95 % intervals. Guide
and noise of a seed change together; all guides of a seed have the same noise. Cells that are there
are not drawn again (`guided_cells`); those that another version or commit has judged are named.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from noiseloom.commands import load
from noiseloom.fit import Options
from noiseloom.found_guides import GuideFolder, guides_in
from noiseloom.guide_folder import foreign_labels
from noiseloom.guide_trainings import file_of_recipe
from noiseloom.guided_cells import (
    Cell,
    Found,
    aims_of,
    by_today,
    check_truth,
    forget,
    judged,
    kept,
    place,
)
from noiseloom.guided_figures import BEST, Aim
from noiseloom.guided_table import (
    UNGUIDED,
    Row,
    guided_rows,
    guided_table,
    headings,
    write_guided_report,
)
from noiseloom.jobs import check_jobs, in_jobs
from noiseloom.recipes import Guiding
from noiseloom.run import Run
from noiseloom.run_folder import write_text
from noiseloom.steering import load_guides, steering_of
from noiseloom.table import source as made_with
from noiseloom.terminal import answer, say

__all__ = ["SAMPLES", "evaluate_guides"]

SAMPLES = 512
"""Of each cell, the paper's."""
_OWN = {"cells", "logs", "table.json", "table.md", "guided.html"}


def evaluate_guides(
    source: str,
    changes: Options,
    folders: Sequence[str],
    options: Guiding,
    scales: Sequence[float],
    *,
    n: int,
    seed: int | None,
    truth: str | None,
    out: Path | None,
    jobs: int,
    command: str,
    as_json: bool,
) -> None:
    """Judge guides of a run, unguided samples among them: `table.json`, `table.md`, `guided.html`.

    Args:
        source: the run.
        changes: its sampling options that differ.
        folders: of guides, or of folders of guides.
        options: how they lead, but for the scale.
        scales: each at least 0.
        n: samples of each cell.
        seed: added to that of a guide, of the draws; by default the run's own.
        truth: a table of labels that are true; None for what the recipe knows of its own.
        out: folder of the table, new or of an earlier one; by default `guided` in the run's.
        jobs: guides at a time, each in a process of its own.
        command: what was typed.
        as_json: answer a program.

    Raises:
        FileExistsError: `out` holds something else.
        FileNotFoundError: no finished guide.
        ValueError: what cannot be asked, guides of other runs or properties, or no cell that can be
            judged.
        OSError: a process was killed.
    """
    check_jobs(jobs)
    if n < 1:
        raise ValueError(f"--samples must be at least 1, got {n}")
    if out is None and not Path(source).expanduser().is_dir():
        raise ValueError(f"{source} is no folder of yours to keep a table in: say where, --out")
    forget()
    run = load(source).with_options(**changes)
    out = out or run.folder / "guided"
    _check_out(out)
    guides = guides_in(folders, run)
    for one in guides:  # what is refused is refused before anything is drawn
        loaded, records = load_guides(run, one.folder)
        for scale in scales:
            steering_of(run, loaded, records, replace(options, scale=scale))
    aims = aims_of([guides[0].record], options)
    if truth is not None:
        count = check_truth(source, truth, guides[0].record.names)
        say(f"{truth}: true values of {count:,} structures")
    first = run.recipe.seed if seed is None else seed
    asked = list[tuple[GuideFolder | None, int, Cell]]()
    # All guides with the first seed come first: half a table is a table.
    for own in dict.fromkeys(sorted(guide.record.options.seed for guide in guides)):
        same = [guide for guide in guides if guide.record.options.seed == own]
        for scale in scales:
            for guide in same if scale else same[:1]:
                cell = Cell(
                    source,
                    tuple(sorted(changes.items())),
                    str(guide.folder.resolve()),
                    replace(options, scale=scale),
                    n,
                    first + own,
                    truth,
                    out,
                )
                name = guide.folder.name if scale else f"{UNGUIDED}-{own}"
                cell = place(out, run, guide, f"{name}-scale{scale:g}", cell)
                asked.append((guide if scale else None, own, cell))
    found = _judge_all([cell for _, _, cell in asked], jobs, out, file_of_recipe(run))
    rows = guided_rows([(g, own, found[cell.file]) for g, own, cell in asked])
    if not any(row.seeds for row in rows):
        raise ValueError(f"no cell can be judged: {next(iter(rows)).failed[0]}")
    head, lines = guided_table(rows, aims, n)
    notes = [*_notes(guides, found, aims, rows), *([] if truth else _unknown(run, guides))]
    notes += _older(found)
    failed = {cell.file.stem: found[cell.file].failed for _, _, cell in asked}
    table: dict[str, Any] = {
        "command": command,
        "run": source,
        "samples": n,
        "scales": list(scales),
        "target": options.target,
        "seeds": sorted({own for _, own, _ in asked}),
        **made_with(),
        "notes": notes,
        "rows": [row.plain() for row in rows],
        "failed": {name: why for name, why in failed.items() if why},
    }
    write_text(out / "table.json", json.dumps(table, indent=1) + "\n")
    _write_pages(out, table, head, lines, rows, headings(rows, aims))
    last = [f"failed: {name}: {why}" for name, why in table["failed"].items()]
    kept_in = f"kept in {out / 'table.json'}, table.md and guided.html"
    answer(as_json, table, ["", *notes, *last, kept_in], head, lines)


def _check_out(out: Path) -> None:
    names = {path.name for path in out.iterdir()} if out.is_dir() else set()
    foreign = sorted(name for name in names - _OWN if not name.startswith("."))
    if foreign or (out.exists() and not out.is_dir()):
        what = f"holds {foreign[0]}, no part of such a table" if foreign else "is no folder"
        raise FileExistsError(f"{out} {what}: choose another --out")


def _judge_all(
    cells: Sequence[Cell], jobs: int, out: Path, recipe_file: str | None
) -> dict[Path, Found]:
    """All cells by their file: those that are there, and the others drawn, a guide at a time."""
    found = {cell.file: there for cell in cells if (there := kept(cell)) is not None}
    tasks: dict[tuple[str, int, bool], list[Cell]] = {}
    for cell in {cell.file: cell for cell in cells if cell.file not in found}.values():
        guided = cell.options.scale > 0
        tasks.setdefault((cell.guide if guided else "", cell.seed, guided), []).append(cell)
    if found:
        say(f"{len(found)} of {len({cell.file for cell in cells})} cells are there")
    work = list(tasks.values())
    for done, (i, some) in enumerate(in_jobs(judged, work, jobs, out / "logs", recipe_file), 1):
        found |= {one.cell.file: one for one in some}
        names = ", ".join(cell.file.stem.rsplit("-", 1)[0] for cell in work[i])
        say(f"{done} of {len(work)} are done: {names}")
    return found


def _notes(
    guides: Sequence[GuideFolder],
    found: dict[Path, Found],
    aims: Sequence[Aim],
    rows: Sequence[Row],
) -> list[str]:
    """What is to be said below the table."""
    notes = [
        "means over seeds, of guides and of noise, and half widths of their 95 % intervals "
        "(Student's t); the run is one"
    ]
    if len({guide.record.digests.get("labels") for guide in guides}) > 1:
        notes.append("the guides have not learnt from the same labels")
    names = [f"best_of_{aim.name}" for aim in aims] if len(aims) > 1 else ["best_of"]
    counts = [one.figures[n] for one in found.values() for n in names if n in one.figures]
    few = [count for count in counts if count < BEST]
    if few:
        notes.append(
            f"{len(few)} of {len(counts)} cells have fewer than {BEST} different structures of "
            f"known value ({min(few):g} the least): there `best` is the mean of all of them"
        )
    if any(None in values for row in rows for values in row.values.values()):
        notes.append("(K of N): K seeds have a valid structure that could be measured")
    if not counts and any(one.figures.get("valid") for one in found.values()):
        notes.append("nothing is known of what the samples are truly worth")
    return notes


def _unknown(run: Run, guides: Sequence[GuideFolder]) -> list[str]:
    """That nothing is known of what labels of one's own are, where the recipe knows its own."""
    names = ", ".join(guides[0].record.names)
    return [
        f"{names} of {file}: labels that are not made by {run.recipe.name} itself, so that it is "
        "not known what is true: --truth FILE can say it"
        for file in foreign_labels(run, [guide.record for guide in guides])
    ]


def _older(found: dict[Path, Found]) -> list[str]:
    """Which cells were judged by another version or commit than today's, a line for each."""
    today, others = by_today(), dict[str, list[str]]()
    for one in found.values():
        if not one.failed and one.by != today:
            told = one.by or "a version that did not say its name"
            others.setdefault(told, []).append(one.cell.file.stem)
    return [
        f"not drawn anew, but judged by {by}: {', '.join(names)}; remove them from cells to have "
        "them judged again"
        for by, names in others.items()
    ]


def _write_pages(
    out: Path,
    table: dict[str, Any],
    head: Sequence[str],
    lines: Sequence[Sequence[str]],
    rows: Sequence[Any],
    shown: Sequence[str],
) -> None:
    body = [head, ["---"] * len(head), *lines]
    text = "\n".join(f"| {' | '.join(line)} |" for line in body)
    by = f"{table['device']}, noiseloom {table['noiseloom']} ({table['git'] or 'no commit'})"
    told = "\n\n".join(table["notes"])
    failed = "".join(f"\nFailed: {name}: {why}\n" for name, why in table["failed"].items())
    text += f"\n\n{told}\n{failed}\n{by}:\n\n    {table['command']}\n"
    write_text(out / "table.md", text)
    lead = f"{table['samples']:,} samples of every cell, {table['target']}, by guides of "
    page = {
        **table,
        "title": Path(table["run"]).name,
        "lead": lead + Path(table["run"]).name,
        "head": head,
        "lines": lines,
        "shown": shown,
    }
    write_guided_report(out / "guided.html", page, rows)
