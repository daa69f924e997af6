"""What `noiseloom sample RUN --guide FOLDER` does: draw led samples, and write them ranked.

A row for every different structure, the best first (`ranking`).
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from noiseloom.commands import load
from noiseloom.data import Symbols, vocabulary
from noiseloom.fit import Options
from noiseloom.guidance.sites import every_gain
from noiseloom.guide_folder import GuideRecord, find_guide, foreign_labels, guidable
from noiseloom.ranking import Ranked, picture_of, ranked, said_names, said_of
from noiseloom.recipes import Guiding
from noiseloom.redesign import Redesign, mutations, sites_of
from noiseloom.rows import known_rows, parent_of, redesigned_rows, say_edits, say_if_unused_to
from noiseloom.run import Run
from noiseloom.run_folder import check_file, write_bytes, write_text
from noiseloom.sampling import Solver
from noiseloom.steering import Guides, aim_of, load_guides, steering_of
from noiseloom.terminal import answer, number

__all__ = ["led_samples", "sample_guided", "site_gains"]

_SHOWN = 5
"""Rows that are told at the end."""


def sample_guided(
    source: str,
    changes: Options,
    guides: Sequence[str],
    options: Guiding,
    *,
    n: int | None,
    known: str | None,
    gap: str,
    redesign: Redesign | None = None,
    seed: int,
    out: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Draw samples that a guide leads, into one table.

    Args:
        source: what `load` takes.
        changes: sampling options that differ from the run's.
        guides: folders of guides.
        options: how they lead.
        n: how many samples are drawn; by default 64, or 4 for each row of a template.
        known: of rows, a template with gaps, as of `noiseloom sample`.
        gap: the character of a gap.
        redesign: of sequences, what they are to differ from at a few sites.
        seed: of the draws.
        out: the table, .csv, or of molecules the file beside it, .sdf; by default named after run
            and seed, in the current folder.
        force: replace the file.
        as_json: answer a program.

    Raises:
        FileExistsError: the file is there, and no `force`.
        ValueError: a guide for another run, or what cannot be asked of it.
    """
    if n is not None and n < 1:
        raise ValueError(f"-n must be at least 1, got {n}")
    run = load(source).with_options(**changes)
    guide, records = load_guides(run, guides)
    path = out or Path(f"{Path(source).resolve().name}-guided-seed{seed}.csv")
    if path.suffix.lower() == guidable(run).beside == ".sdf":  # which lies beside its table
        path = path.with_suffix(".csv")
    if path.suffix.lower() != ".csv":
        raise ValueError(f"ranked samples are a table: name it .csv, not {path}")
    check_file(path, force, "samples.csv")
    endings = sorted({guidable(run).beside, ".svg" * guidable(run).pictured} - {""})
    beside = [path.with_suffix(ending) for ending in endings]
    for file in beside:
        check_file(file, force)
    given = {"row": torch.arange(n or 64)}
    for name, value in (("known", known), ("parent", redesign)):
        if value is not None and run.recipe.drawn_as(run.facts) != "rows":
            raise ValueError(f"{source} draws no rows of tokens: leave --{name} out")
    if known is not None:
        given = known_rows(run, known, n, gap)
    if redesign is not None:
        gains = None
        if redesign.choose == "guide":
            gains = site_gains(run, guide, records, options, redesign)
        given = redesigned_rows(run, redesign, n or 64, seed, gains)
    if "known" in given:
        say_if_unused_to(run)
    data = led_samples(run, guide, records, options, given, seed)
    folders = [find_guide(folder, run) for folder in guides]
    table = ranked(run, guide, records, options, data, folders)
    text, counts, lines = io.StringIO(), table.counts, [""]
    of_parent = dict[str, Any]()
    if redesign is not None:
        of_parent |= say_edits(given, data)
        table = _with_edits(run, table, given["tokens"][0])
        of_parent["parent"], line = _told_of_parent(run, guide, records, given["tokens"][:1])
        lines.append(line)
    csv.writer(text, lineterminator="\n").writerows([table.head, *table.rows])
    path.parent.mkdir(parents=True, exist_ok=True)
    for file in beside:  # which may be of an earlier draw, and this one may have nothing to show
        file.unlink(missing_ok=True)
    write_bytes(path, text.getvalue().encode())
    result = {"file": str(path), "seed": seed, "guides": list(guides), **asdict(options), **counts}
    result |= of_parent
    names = [name for record in records for name in record.names]
    if len(set(names)) < len(names):
        each = [guides[i] for i, record in enumerate(records) for _ in record.names]
        result["properties"] = dict(zip(said_names(records), each, strict=True))
        called = (f"{name} of {guide}" for name, guide in result["properties"].items())
        lines.append(f"properties: {', '.join(called)}")
    others, columns = foreign_labels(run, records), guidable(run).columns(run.facts)
    true = guidable(run).figures(run.parts, run.facts, data)
    if others:
        own = guidable(run).label_figures
        true = {name: value for name, value in true.items() if name not in own}
        if columns[1:]:
            lines.append(
                f"{', '.join(columns[1:])} are of {run.recipe.name}, not of the labels of "
                f"{', '.join(others)}"
            )
    result |= true
    if true:
        lines.append(", ".join(f"{name} {number(value)}" for name, value in true.items()))
    if table.rows:
        values = {name: table.column(name) for name in table.head[len(columns) :]}
        drawn = guidable(run).write_structures(path, run.parts, run.facts, table.data, values)
        if drawn is not None:
            result["structures"] = str(drawn)
            lines.append(f"structures: {drawn}")
        if guidable(run).pictured and drawn != path.with_suffix(".svg"):
            write_text(path.with_suffix(".svg"), picture_of(run, table, records))
            result["picture"] = str(path.with_suffix(".svg"))
            lines.append(f"picture: {result['picture']}")
    lines.append(f"distance: {guidable(run).distance}, to the nearest structure learnt from")
    told = f"{counts['drawn']:,} drawn, {counts['different']:,} different"
    if "new" in counts:
        told += f", {counts['new']:,} new"
    if counts["invalid"]:
        told += f", {counts['invalid']:,} invalid"
    shown = [
        [number(cell) if isinstance(cell, float) else str(cell) for cell in row]
        for row in table.rows[:_SHOWN]
    ]
    answer(as_json, result, [*lines, f"{told}: {path}"], table.head, shown)


def _with_edits(run: Run, table: Ranked, parent: Tensor) -> Ranked:
    """A table with how many tokens of a structure are others than its parent's, and which."""
    place, words = len(guidable(run).columns(run.facts)), vocabulary(run.facts["vocabulary"])
    head, rows = [*table.head], [[*row] for row in table.rows]
    head[place:place] = ["edits", "mutations"]
    if rows:
        assert isinstance(words, Symbols)
        for row, found in zip(rows, mutations(parent, table.data, words.symbols), strict=True):
            row[place:place] = [len(found), " ".join(found)]
    return replace(table, head=head, rows=rows)


def _told_of_parent(
    run: Run, guide: Guides, records: Sequence[GuideRecord], tokens: Tensor
) -> tuple[dict[str, Any], str]:
    """What is known of a parent and what a guide says of it, for programs and for people."""
    recipe, said = guidable(run), said_of(run, guide, tokens)
    (cells,) = recipe.cells(run.parts, run.facts, tokens)
    found = dict(zip(recipe.columns(run.facts), cells, strict=True))
    told = [str(cells[0])]
    told += [f"{name} {cell}" for name, cell in list(found.items())[1:] if cell]
    pairs = torch.stack((said.mean, said.variance.sqrt()), -1)[0].tolist()
    for name, (mean, deviation) in zip(said_names(records), pairs, strict=True):
        found |= {f"prediction_{name}": mean, f"deviation_{name}": deviation}
        told.append(f"{name} {number(mean)} ({number(deviation)})")
    return found, f"parent: {', '.join(told)}"


def site_gains(
    run: Run,
    guide: Guides,
    records: Sequence[GuideRecord],
    options: Guiding,
    redesign: Redesign,
) -> Tensor:
    """What the best substitution at each site of a parent gains, shape (T,).

    In deviations over the sites that may change, so that a site which is one better is e times as
    likely to be chosen first, whatever the guide's units and however sure it is.
    """
    tokens, length = parent_of(run, redesign)
    ends = max(run.facts["sizes"]) - 1
    aim = aim_of(records, options)
    gains = every_gain(lambda rows: aim(said_of(run, guide, rows)), tokens, ends, length).amax(1)
    allowed = sites_of(redesign.sites or f"1-{length}", length)
    spread = float(gains[allowed].std(correction=0)) or 1.0
    return torch.cat((gains / spread, torch.zeros(len(tokens) - length)))


def led_samples(
    run: Run,
    guide: Guides,
    records: Sequence[GuideRecord],
    options: Guiding,
    given: dict[str, Tensor],
    seed: int,
    batch_size: int = 250,
) -> Tensor:
    """Decoded samples, led by a guide.

    Raises:
        ValueError: a recipe that asks for no guide, or estimates that are not finite.
    """
    steering, asked = steering_of(run, guide, records, options), list[bool]()

    def steer(denoiser: nn.Module, solver: Solver) -> tuple[nn.Module, Solver]:
        asked.append(True)
        return steering(denoiser, solver)

    led = replace(run, parts=replace(run.parts, steering=steer), statistics={})
    drawn = led.samples(given, seed=seed, batch_size=batch_size)
    if not asked:  # what is unguided must not pass for guided
        raise ValueError(
            f"recipe {run.recipe.name!r} draws without asking for its guide: its draw must use "
            "parts.steered(denoiser, solver)"
        )
    return drawn
