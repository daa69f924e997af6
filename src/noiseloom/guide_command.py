"""What `noiseloom guide` does: one guide, several methods and seeds beside each other, a choice."""

import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from noiseloom.commands import load
from noiseloom.fit_guide import fit_guide
from noiseloom.guide_folder import GUIDES, GuideRecord
from noiseloom.guide_material import JUDGING, Sources, read_material
from noiseloom.guide_selection import (
    CRITERIA,
    Grid,
    Judge,
    called,
    configurations,
    criterion,
    tried,
)
from noiseloom.guide_trainings import GuideTask, guides_made, hold
from noiseloom.jobs import check_jobs
from noiseloom.recipes import GuideTraining
from noiseloom.run_folder import write_text
from noiseloom.terminal import answer, number, say

__all__ = ["guide"]

_COLUMNS = {
    "nll": "nats",
    "nll_shifted": "nats, shifted",
    "nll_test": "nats, test",
    "rmse": "error",
    "rmse_shifted": "error, shifted",
    "rmse_test": "error, test",
    "spearman": "rank correlation",
    "spearman_shifted": "rank correlation, shifted",
    "spearman_test": "rank correlation, test",
    "inside_90": "inside 90 %",
    "inside_90_shifted": "inside 90 %, shifted",
    "inside_90_test": "inside 90 %, test",
    "mean_context": "mean on context",
    "deviation_context": "deviation on context",
}
_MEANING = "means over 11 levels of noise, in deviations of the labels learnt from"
_SPREAD = "; ± the standard deviation over seeds"
_SEEN: dict[Judge, str] = {
    "in-domain": "options were chosen by nats of the held-out labels: these have been seen",
    "shifted": "options were chosen by nats of the shifted labels: these have been seen",
}
"""What is to be said of figures on labels that have chosen."""


def guide(
    source: str,
    methods: Sequence[GuideTraining],
    sources: Sources,
    *,
    seeds: int,
    count: int,
    judge: Judge,
    out: Path | None,
    force: bool,
    command: str,
    as_json: bool,
    jobs: int = 1,
    trials: Path | None = None,
) -> None:
    """Train guides for a run.

    Args:
        source: the run.
        methods: options of each.
        sources: files of structures.
        seeds: guides of each method.
        count: configurations of each method to choose from; 0 for none but the options.
        judge: what they are chosen by.
        out: folder of a guide, or, where there are several, of their folders; by default
            `guides` in the run's.
        force: replace guides that are there, but for trials outside of `out`.
        command: what was typed.
        as_json: answer a program.
        jobs: guides trained at a time, each in a process of its own.
        trials: folder of the guides that are compared for a choice; by default `selection` in
            `out`. Another choice among the same ones finds them there.

    Raises:
        ValueError: what cannot be made.
        FileExistsError: other guides in those folders.
        OSError: a process was killed.
    """
    check_jobs(jobs)
    if seeds < 1 or count < 0:
        raise ValueError(f"--seeds must be at least 1, --configurations 0, got {seeds} and {count}")
    grids = [configurations(options.method, count) for options in methods] if count else []
    if out is None and not Path(source).expanduser().is_dir():
        raise ValueError(
            f"{source} is no folder of yours to keep guides in: say where, --out FOLDER"
        )
    run = load(source)
    sources = sources.completed(run)
    if judge == "shifted" and sources.shifted is None:
        raise ValueError("to choose by shifted labels some are needed: --shifted FILE")
    for options in methods:
        if options.needs_context and sources.context is None:
            raise ValueError(f"method {options.method} needs unlabelled structures: --context FILE")
    material = read_material(run, sources, methods[0].held_out)
    several = len(methods) > 1 or seeds > 1 or count > 0
    root = out or run.folder / GUIDES
    if not several:
        folder = root if out else root / methods[0].name
        record = fit_guide(run, methods[0], folder, material, sources, command=command, force=force)
        _answer_one(folder, record, as_json)
        return
    hold(source, sources, methods[0].held_out, run, material)

    def made(
        asked: Sequence[tuple[GuideTraining, Path]], force: bool = force
    ) -> Iterator[tuple[int, GuideRecord | str]]:
        tasks = [GuideTask(source, sources, o, path, command, force) for o, path in asked]
        return guides_made(tasks, jobs, root / "logs", run)

    def of_trials(
        asked: Sequence[tuple[GuideTraining, Path]],
    ) -> Iterator[tuple[int, GuideRecord | str]]:
        if trials is None or root.resolve() in trials.resolve().parents:
            yield from made(asked)
            return
        try:
            yield from made(asked, force=False)  # they may be another choice's, too
        except FileExistsError as error:
            told = str(error).partition(": replace it")[0]
            raise FileExistsError(f"{told}: choose another --trials, or remove it") from error

    chosen: Mapping[str, Any] = {}
    if grids:
        chosen = _chosen(methods, grids, judge, root, trials or root / "selection", of_trials)
        methods = [
            replace(options, **chosen[options.method]["options"])
            for options in methods
            if options.method in chosen
        ]
    # All methods with the first seed come first: half a table is a table.
    seeded = [replace(o, seed=o.seed + seed) for seed in range(seeds) for o in methods]
    records = dict(made([(options, root / options.name) for options in seeded]))
    found: dict[str, list[GuideRecord]] = {}
    failed: dict[str, str] = {}
    for i, one in sorted(records.items()):
        if isinstance(one, str):
            failed[seeded[i].name] = one
        else:
            found.setdefault(seeded[i].method, []).append(one)
    if not found:
        raise ValueError(next(iter(failed.values())))
    by = judge if chosen else None
    head, rows = _table(found, chosen, by)
    result = {
        "run": source,
        "folder": str(root),
        "select": by,
        "chosen": chosen,
        "guides": {
            name: [{"options": asdict(r.options), **r.summary} for r in records]
            for name, records in found.items()
        },
        "failed": failed,
    }
    write_text(root / "table.json", json.dumps({**result, "command": command}, indent=1) + "\n")
    first = next(iter(found.values()))[0]
    meaning = _MEANING + _SPREAD if seeds > 1 else _MEANING
    lines = ["", meaning, *([_SEEN[by]] if by else []), *_unlabelled(first), f"guides: {root}"]
    answer(as_json, result, lines, head, rows)


def _unlabelled(record: GuideRecord) -> list[str]:
    """Which of the structures that guides are judged by are in the context, too."""
    counts = record.counts
    return [
        f"{counts[f'unlabelled_{name}']:,} of {counts[name]:,} {name} structures are in the "
        "context, too: a regulariser has seen them, without their labels"
        for name in JUDGING
        if counts.get(f"unlabelled_{name}")
    ]


def _answer_one(folder: Path, record: GuideRecord, as_json: bool) -> None:
    told, counts = record.summary, record.counts
    result = {"guide": str(folder), "page": str(folder / "guide.html"), **counts, **told}
    head, ends = ("", "held out", "shifted", "test", "context"), ("_shifted", "_test", "_context")
    whole = (next((k.removesuffix(end) for end in ends if k.endswith(end)), k) for k in told)
    names = list(dict.fromkeys(whole))
    rows = [[name, *(number(told.get(name + ending)) for ending in ("", *ends))] for name in names]
    lines = ["", _MEANING, *_unlabelled(record), f"guide: {folder}"]
    lines.append(f"page:  {folder / 'guide.html'}")
    answer(as_json, result, lines, head, rows)


def _chosen(
    methods: Sequence[GuideTraining],
    grids: Sequence[Grid],
    judge: Judge,
    root: Path,
    trials: Path,
    made: Callable[[Sequence[tuple[GuideTraining, Path]]], Iterator[tuple[int, GuideRecord | str]]],
) -> dict[str, Any]:
    """The best configuration of each method, kept in `selection.json` with all that were tried."""
    for grid in grids:
        say(f"grid of {grid.describe()}: {'; '.join(map(called, grid.drawn))}")
    cells = [(g, cell) for g, grid in enumerate(grids) for cell in grid.drawn]
    asked = [
        (tried(methods[g], cell), trials / grids[g].method / called(cell)) for g, cell in cells
    ]
    found, done = dict[str, Any](), dict[int, dict[str, Any]]()
    for i, record in made(asked):
        told = {"failed": record} if isinstance(record, str) else record.summary
        done[i] = {"options": dict(cells[i][1]), **told}
        kept = dict[str, Any]()
        for g, (options, grid) in enumerate(zip(methods, grids, strict=True)):
            ones = [done[k] for k in sorted(done) if cells[k][0] == g]
            if ones:
                kept[grid.method] = {"of": grid.whole, "steps": options.steps, "tried": ones}
            good = [trial for trial in ones if "failed" not in trial]
            if good and len(ones) == len(grid.drawn):
                best = min(good, key=lambda trial: criterion(trial, judge))
                found[grid.method] = {"options": best["options"], "nll": criterion(best, judge)}
        text = json.dumps({"select": judge, "grids": kept, "chosen": found}, indent=1)
        root.mkdir(parents=True, exist_ok=True)
        write_text(root / "selection.json", text + "\n")
    if not found:
        raise ValueError(f"no configuration of any method could be trained: {root}/selection.json")
    return found


def _table(
    found: Mapping[str, Sequence[GuideRecord]], chosen: Mapping[str, Any], by: Judge | None
) -> tuple[list[str], list[list[str]]]:
    """A row for each method: means over seeds, with deviations; the head says what chose."""
    first = [records[0].summary for records in found.values()]
    keys = [key for key in _COLUMNS if any(key in summary for summary in first)]
    titles = dict(_COLUMNS)
    if by:
        titles[CRITERIA[by]] += ", chosen by"
    head = ["method", *(["chosen"] if chosen else []), *(titles[key] for key in keys), "seeds"]
    rows = []
    for method, records in found.items():
        row = [method, *([called(chosen[method]["options"])] if chosen else [])]
        for key in keys:
            values = [record.summary[key] for record in records]
            spread = statistics.stdev(values) if len(values) > 1 else None
            row.append(number(statistics.fmean(values), spread))
        rows.append([*row, str(len(records))])
    return head, rows
