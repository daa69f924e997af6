"""The table of a comparison: cells by metrics, with spreads, anchors, and where it comes from."""

import itertools
import json
import platform
import re
import statistics
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch

from noiseloom import __version__
from noiseloom.glossary import MEANINGS, direction, kind_of
from noiseloom.recipes import Recipe
from noiseloom.terminal import ANCHORS, bare, number, say

__all__ = [
    "ASIDE",
    "COSTS",
    "METRICS",
    "Cell",
    "arrowed",
    "chosen",
    "default_metrics",
    "device",
    "markdown",
    "record",
    "rows",
    "set_aside",
    "source",
    "text_of",
]

ASIDE = re.compile(r"(table|drift)-\d+\.(json|md|html)")
"""Names of tables that a later comparison in their folder did not hold."""
COSTS = (
    "samples_per_second",
    "network_evaluations",
    "steps",
    "parameters",
    "prior_parameters",
    "train_seconds",
    "updates_per_second",
    "prior_seconds",
    "gpu_gigabytes",
    "peak_gigabytes",
)
"""What a run is and takes, whatever it makes."""
METRICS = (
    "class_agreement",
    "kid_*",
    "fd_*",
    "energy*",
    "coverage",
    "nearest",
    "memorised",
    "code_bits",
    "index_bits",
    "perplexity",
    "dead_codes",
    "information",
    "mutual_information",
    "mutual_information_chance",
    "modes",
    "prior_bits_held_out",
    "curvature_1_*",
    "ms_encode",
    "ms_prior",
    "discreteness",
    "invalid_codes",
    "crps_sum",
    "crps",
    "inside_90",
    "mean_error",
    "error",
    "score_*",
    "stayed_*",
    "reached_*",
    "frame_sharpness_*",
    "frames_per_second",
    *COSTS,
)
"""What a table shows by default, where it is there."""
OF_ROWS = {
    "text": ("bits_per_token", "bits", "bits_reverse", "distinct_3", "words", *COSTS),
    "table": (
        *("bits_per_token", "marginal", "pair", "dependence", "classifier", "invalid"),
        *("closest", "copies", *COSTS),
    ),
    "sequences": (
        *("bits_per_token", "bits_per_row", "valid", "unique", "novel", "length"),
        *("kmer_1", "kmer_3", *COSTS),
    ),
    "pictures": (
        *("bits_per_token", "kid_*", "fd_*", "coverage", "nearest", "memorised"),
        *("colours", "neighbours", *COSTS),
    ),
    "captions": (
        *("true", "true_beyond", "bleu_4", "cider", "cider_d", "rouge_l", "similarity", "exact"),
        *("different", "mean_words", "invalid_codes", "bits_per_token", *COSTS),
    ),
}
"""The same of recipes for rows of tokens, by their `kind`."""


@dataclass(frozen=True)
class Cell:
    """A combination of options.

    Attributes:
        options: as they were typed.
        recipe: made of them, for the first seed.
        values: metrics, one mapping for each seed.
    """

    options: dict[str, str]
    recipe: Recipe
    values: list[dict[str, float]] = field(default_factory=list)


def source() -> dict[str, str | None]:
    """What the numbers were made with."""
    return {
        "noiseloom": __version__,
        "git": _commit(),
        "torch": torch.__version__,
        "device": device() + _threads(),
    }


def chosen(values: Mapping[str, float], patterns: Sequence[str]) -> list[str]:
    """The metrics that patterns name, * for any letters.

    Raises:
        ValueError: none.
    """
    own = bare(values)
    found = [
        name
        for pattern in patterns
        for name in values
        if name == pattern or (name in own and fnmatch(name, pattern))
    ]
    if patterns is METRICS and set(found) <= set(COSTS):  # a recipe of one's own has its own
        found = own
    if not found:
        raise ValueError(f"no metric is called {', '.join(patterns)}: there are {', '.join(own)}")
    return list(dict.fromkeys(found))


def record(cell: Cell) -> dict[str, Any]:
    """Mean, deviation and values of every metric, over the seeds."""
    names = list(dict.fromkeys(name for values in cell.values for name in values))
    each = {n: [values[n] for values in cell.values if n in values] for n in names}
    return {
        "options": cell.options,
        "recipe": asdict(cell.recipe),
        "n": len(cell.values),
        "mean": {name: statistics.fmean(values) for name, values in each.items()},
        "deviation": {n: statistics.stdev(v) for n, v in each.items() if len(v) > 1},
        "values": each,
    }


def rows(cells: Sequence[Cell], patterns: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """The table: its head; cells, then the anchors that give the numbers a meaning.

    Anchors hold for their data, task and number of samples only: where they differ between cells
    there are several, and their titles say of which cells.

    Args:
        cells: with values.
        patterns: which metrics, * for any letters.

    Raises:
        ValueError: no metric is called so.
    """
    metrics = chosen(
        {k: v for cell in cells for values in cell.values for k, v in values.items()}, patterns
    )
    names = list(dict.fromkeys(name for cell in cells for name in cell.options))
    found = []
    for cell in cells:
        seen = record(cell)
        errors = {m: seen["mean"].get(f"{m}_se") for m in metrics} if seen["n"] == 1 else {}
        line = [cell.options.get(name) or _own(cell.recipe, name) for name in names]
        spread = errors | seen["deviation"]
        line += [number(seen["mean"].get(m), spread.get(m)) for m in metrics]
        found.append([*line, str(seen["n"])])
    body = list(found)
    for suffix, title in ANCHORS.items():
        if suffix == "_chance":  # of a cell's own codes, not of the data: a column
            continue
        anchors: dict[tuple[str, ...], list[int]] = {}
        for i, cell in enumerate(cells):
            row = [
                _mean(values.get(metric + suffix) for values in cell.values) for metric in metrics
            ]
            anchors.setdefault(tuple(row), []).append(i)
        for numbers, group in anchors.items():
            if set(numbers) != {"-"}:
                told = title + _in_common(group, cells, names, body) * (len(anchors) > 1)
                found.append([told, *[""] * (len(names) - 1), *numbers, ""])
    return [*names, *metrics, "seeds"], found


def _own(recipe: Recipe, name: str) -> str:
    """An option that a cell did not name; a dash where it says nothing."""
    quiet = {**recipe.idle, **recipe.unheard}
    return "-" if name in quiet else str(getattr(recipe, name))


def _in_common(
    group: Sequence[int], cells: Sequence[Cell], names: Sequence[str], body: Sequence[list[str]]
) -> str:
    """What some cells have in common, and not all have."""
    text = ""
    for k, name in enumerate(names):
        if len({body[i][k] for i in group}) == 1 < len({row[k] for row in body}):
            text += f", {name}={body[group[0]][k]}"
    sizes = {cell.values[0].get("n", 0) for cell in cells}
    size = cells[group[0]].values[0].get("n", 0)
    text += f", n = {size:g}" if len(sizes) > 1 else ""
    return text or "".join(f", {text_of(cells[i].options)}" for i in group)


def markdown(head: Sequence[str], body: Sequence[Sequence[str]], table: Mapping[str, Any]) -> str:
    """The table for a document, with what it was made by below it.

    Args:
        head: its head.
        body: its rows.
        table: steps, seeds, command, what was left out, and `source`; notes and a budget, if any.
    """
    lines = [head, ["---"] * len(head), *body]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    left_out = "".join(
        f"\nLeft out: {text_of(e['options'])}: {e['reason']}\n" for e in table["skipped"]
    )
    steps = " or ".join(f"{steps:,}" for steps in table["steps"])
    told = "".join(f"\n{note}\n" for note in table.get("notes", ()))
    several = len(table["seeds"]) > 1
    spread = "Mean ± standard deviation over seeds" if several else "One seed, ± standard error"
    budget = f"{table['budget']:g} s of training a run: " if table.get("budget") else ""
    columns = "".join(_explained(name.split()[0]) for name in head)
    columns = columns and f"\nColumns (↑, ↓: what is better; ≈: as of held-out data):\n\n{columns}"
    return (
        f"{text}\n{left_out}{told}\n{spread}, {budget}{steps} steps, "
        f"{table['device']}, noiseloom {table['noiseloom']} ({table['git'] or 'no commit'}):\n\n"
        f"    {table['command']}\n{columns}"
    )


def _explained(name: str) -> str:
    """A line on a metric; "" of what has no meaning that is known."""
    kind = kind_of(name)
    if kind not in MEANINGS:
        return ""
    title, _, text = MEANINGS[kind]
    return f"- {name}: {title}, {text}{name.removeprefix(kind).replace('_', ' ')}\n"


def set_aside(out: Path, table: Mapping[str, Any]) -> None:
    """Keep an earlier table in a folder by another name, if the next one lacks something it has.

    Its cells are told by all their options, as those of runs are; one that cannot be read is kept.

    Args:
        out: the folder.
        table: the next one.
    """
    path = out / "table.json"
    if not path.is_file():
        return

    def holds(of: Mapping[str, Any]) -> set[tuple[str, int]]:
        cells = [json.dumps(cell["recipe"], sort_keys=True) for cell in of["cells"]]
        return set(itertools.product(cells, of["seeds"]))

    try:
        if holds(json.loads(path.read_text())) <= holds(table):
            return
    except (ValueError, KeyError, TypeError):
        pass
    number = next(i for i in itertools.count(1) if not (out / f"table-{i}.json").exists())
    for name in ("table.json", "table.md", "drift.html"):
        stem, _, ending = name.rpartition(".")
        if (out / name).is_file():
            (out / name).rename(out / f"{stem}-{number}.{ending}")
    say(f"{path} has other cells or seeds: it is now table-{number}.json, beside the new one")


def _mean(values: Iterable[float | None]) -> str:
    there = [value for value in values if value is not None]
    return number(statistics.fmean(there) if there else None)


def arrowed(head: Sequence[str], cells: Sequence[Cell]) -> list[str]:
    """The headings of `rows`, with the direction that is better behind those of metrics."""
    options = len({name for cell in cells for name in cell.options})
    return [*head[:options], *(f"{name} {direction(name)}".strip() for name in head[options:])]


def default_metrics(kind: type[Recipe]) -> tuple[str, ...]:
    """What the table of a recipe shows by default."""
    return OF_ROWS.get(getattr(kind, "kind", ""), METRICS)


def text_of(options: Mapping[str, str]) -> str:
    """A cell's options on one line."""
    return " ".join(f"{name}={value}" for name, value in options.items())


def _commit() -> str | None:
    """The commit of the checkout this package runs from, if it does."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()


def device() -> str:
    """What this process computes on."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.machine()} CPU"


def _threads() -> str:
    count = torch.get_num_threads()
    return "" if torch.cuda.is_available() else f", {count} thread{'s' * (count > 1)}"
