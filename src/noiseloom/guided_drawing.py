"""What `noiseloom sample RUN --guide FOLDER` does: draw led samples, and write them ranked.

A row for every different structure, the best first: the structure, what the guide says of it as it
is (its mean, and the root of its variance), how far it is from the nearest labelled structure that
the guide learnt from, and whether it is new: neither labelled nor among the run's data.
"""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from noiseloom.commands import load
from noiseloom.context import GuideOutput
from noiseloom.fit import Options
from noiseloom.guidance.sites import every_gain
from noiseloom.guide_folder import GuideRecord, find_guide, guidable, structures
from noiseloom.recipes import Guiding, keys_of
from noiseloom.redesign import Redesign, sites_of
from noiseloom.rows import known_rows, parent_of, redesigned_rows, say_edits, say_if_unused_to
from noiseloom.run import Run
from noiseloom.run_folder import check_file, read_description, same_data, write_bytes, write_text
from noiseloom.sampling import Solver
from noiseloom.steering import Guides, aim_of, load_guides, steering_of
from noiseloom.terminal import answer, number, say

__all__ = [
    "Ranked",
    "keys_of_data",
    "led_samples",
    "ranked",
    "said_of",
    "sample_guided",
    "site_gains",
]

_SHOWN = 5
"""Rows that are told at the end."""
_DRAWN = 24
"""Structures of a picture."""


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
    for beside in sorted({guidable(run).beside, ".svg" * guidable(run).pictured} - {""}):
        check_file(path.with_suffix(beside), force)
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
    if redesign is not None:
        say_edits(given, data)
    folders = [find_guide(folder, run) for folder in guides]
    table = ranked(run, guide, records, options, data, folders)
    text, counts, lines = io.StringIO(), table.counts, [""]
    csv.writer(text, lineterminator="\n").writerows([table.head, *table.rows])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, text.getvalue().encode())
    result = {"file": str(path), "seed": seed, "guides": list(guides), **asdict(options), **counts}
    true = guidable(run).figures(run.parts, run.facts, data)
    result |= true
    if true:
        lines.append(", ".join(f"{name} {number(value)}" for name, value in true.items()))
    if table.rows:
        own = len(guidable(run).columns(run.facts))
        values = {name: table.column(name) for name in table.head[own:]}
        drawn = guidable(run).write_structures(path, run.parts, run.facts, table.data, values)
        if drawn is not None:
            result["structures"] = str(drawn)
            lines.append(f"structures: {drawn}")
        if guidable(run).pictured and drawn != path.with_suffix(".svg"):
            write_text(path.with_suffix(".svg"), _picture(run, table, records))
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


@dataclass(frozen=True)
class Ranked:
    """A table of different valid structures, the best first.

    Attributes:
        head: its headings.
        rows: its cells.
        counts: how many were drawn, are invalid, different, and new where that is known.
        data: the structures, decoded, in the order of the rows.
    """

    head: list[str]
    rows: list[list[Any]]
    counts: dict[str, int]
    data: Any

    def column(self, name: str) -> list[Any]:
        """The cells under a heading."""
        return [row[self.head.index(name)] for row in self.rows]


def ranked(
    run: Run,
    guide: Guides,
    records: Sequence[GuideRecord],
    options: Guiding,
    data: Tensor,
    folders: Sequence[Path],
) -> Ranked:
    """Decoded samples by what a guide says of them.

    Args:
        run: that drew them.
        guide: that is asked.
        records: what is known of it.
        options: what is wanted.
        data: decoded samples.
        folders: of the guides, which know the structures that they learnt from.
    """
    recipe, facts = guidable(run), run.facts
    keys = recipe.keys(run.parts, facts, data)
    times = Counter(key for key in keys if key)
    names = [name for record in records for name in record.names]
    said_heads = [f"{kind}_{name}" for name in names for kind in ("prediction", "deviation")]
    head = [*recipe.columns(facts), *said_heads, "distance", "new", "times"]
    counts = {"drawn": len(keys), "invalid": len(keys) - times.total(), "different": len(times)}
    if not times:
        return Ranked(head, [], counts | {"new": 0}, None)
    first = {key: i for i, key in reversed(list(enumerate(keys)))}
    data = data[torch.tensor([first[key] for key in times])]
    said = said_of(run, guide, data)
    order = aim_of(records, options)(said).argsort(descending=True, stable=True)
    data, different = data[order], list(times)
    own = [different[i] for i in order.tolist()]
    kept = [structures(folder) for folder in folders]
    learnt = list(dict.fromkeys(key for found in kept for key in found["learnt"]))
    known = {key for found in kept for part in found.values() for key in part}
    if not learnt:
        say("structures that the guide learnt from are not with it: there is no distance to them")
    in_data = keys_of_data(run)
    # Nothing is called new where neither labels nor data are at hand.
    told = {True: "no", False: "yes" if learnt or in_data is not None else ""}
    known |= in_data or set()
    distances = recipe.nearest(own, learnt).tolist() if learnt else [""] * len(own)
    rows = list[list[Any]]()
    both = torch.stack((said.mean, said.variance.sqrt()), -1)[order].flatten(1).tolist()
    for i, cells in enumerate(recipe.cells(run.parts, facts, data)):
        rows.append([*cells, *both[i], distances[i], told[own[i] in known], times[own[i]]])
    if told[False]:
        counts["new"] = sum(key not in known for key in own)
    return Ranked(head, rows, counts, data)


def _picture(run: Run, table: Ranked, records: Sequence[GuideRecord]) -> str:
    """The best, with what is said of each: means, and in brackets deviations."""
    names = [name for record in records for name in record.names]
    columns = [table.column(f"{kind}_{n}") for n in names for kind in ("prediction", "deviation")]
    said = [[number(value) for value in row[:_DRAWN]] for row in columns]
    pairs = zip(said[::2], said[1::2], strict=True)
    told = [[f"{mean} ({d})" for mean, d in zip(*pair, strict=True)] for pair in pairs]
    captions = [", ".join(each) for each in zip(*told, strict=True)]
    data = table.data[: len(captions)]
    return guidable(run).picture(run.parts, run.facts, data, captions)


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


@torch.no_grad()
def said_of(run: Run, guide: Guides, data: Tensor) -> GuideOutput:
    """What a guide says of decoded structures, as they are."""
    recipe, found = guidable(run), list[GuideOutput]()
    for start in range(0, len(data), 500):
        part = data[start : start + 500]
        state, cond = recipe.seen(run.parts, run.facts, part.to(run.device))
        times = torch.zeros(len(part), device=run.device)
        found.append(GuideOutput(*(v.cpu() for v in guide.predict(state, times, cond))))
    return GuideOutput(*(torch.cat([said[i] for said in found]) for i in range(3)))


def keys_of_data(run: Run, *, held_out: bool = True) -> set[str] | None:
    """Keys of the run's data, or None, which is told, if they are not where they were.

    Args:
        run: whose.
        held_out: also of what was held out, of a recipe that says it is not new, either.
    """
    try:
        split = run.recipe.load(read_description(run.folder)["data"])
    except (OSError, ValueError):
        split = None
    if split is None or not same_data(split, run.facts):
        say("the data of the run are not where they were: new is what the guide has not seen")
        return None
    both = held_out and guidable(run).held_out_known
    parts = (split.train, split.held_out) if both else (split.train,)
    return set().union(*(keys_of(run.recipe, run.parts, run.facts, part) for part in parts))
