"""What is to be known with the table of a comparison."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from noiseloom.costs import short_note, unequal_note
from noiseloom.remarks import by_heart, too_few, unsure
from noiseloom.sizes import parameters
from noiseloom.table import Cell, chosen, record, text_of

__all__ = ["few_updates", "of_costs", "of_metrics", "unequal_before", "where_samples_lie"]

_WITH_PRIORS = " with those of priors"


def few_updates(cells: Sequence[Cell]) -> list[str]:
    """Which budgets pay for little more than the warm-up, in a sentence."""
    short = [cell for cell in cells if cell.recipe.steps < 3 * cell.recipe.warmup]
    if not short:
        return []
    named = ", ".join(f"{text_of(cell.options)} ({cell.recipe.steps:,})" for cell in short)
    warmup = " or ".join(dict.fromkeys(f"{cell.recipe.warmup:,}" for cell in short))
    return [
        f"few updates for a learning rate that rises over {warmup} of them: {named}; a larger "
        "--budget says more"
    ]


def unequal_before(cells: Sequence[Cell], facts: Mapping[str, Any]) -> list[str]:
    """The warning of parameters that will differ, before hours of training, if there is one."""
    counts = {text_of(cell.options): parameters(cell.recipe, facts) for cell in cells}
    priors = any(getattr(cell.recipe, "wants_prior", False) for cell in cells)
    made = {title: count for title, count in counts.items() if count}
    note = unequal_note(made, _WITH_PRIORS if priors else "")
    return [note] if note else []


def of_costs(cells: Sequence[Cell]) -> list[str]:
    """Which trainings have no pace, and a warning of parameters that differ, with priors' own."""
    named = {text_of(cell.options): cell.values[0] for cell in cells}
    priors = {name: values.get("prior_parameters", 0.0) for name, values in named.items()}
    whole = {name: named[name]["parameters"] + priors[name] for name in named}
    unequal = unequal_note(whole, _WITH_PRIORS if any(priors.values()) else "")
    rates = [cell.values[0].get("updates_per_second") for cell in cells]
    return [note for note in (unequal, short_note(rates)) if note]


def where_samples_lie(out: Path) -> list[str]:
    """Where samples lie that can be read, if there are any."""
    found = next(out.glob("runs/**/*.samples.*"), None)
    return [f"samples of each run: {out / 'runs'}/**/*.samples{found.suffix}"] if found else []


def of_metrics(cells: Sequence[Cell], patterns: Sequence[str]) -> list[str]:
    """What is to be known of the metrics that are shown, a sentence for each that differs.

    What recipes have to say of theirs, which have too few rows or are not of all seeds, whose rows
    were learnt by heart, and what one run does not know well.
    """
    names = chosen(
        {k: v for cell in cells for values in cell.values for k, v in values.items()}, patterns
    )
    found = {text_of(c.options): record(c) for c in cells if c.recipe.shows == "rows"}
    bits = any(fnmatchcase("bits_per_token", pattern) for pattern in patterns)
    told = [c.recipe.caveat for c in cells if bits or c.recipe.shows != "rows"]
    told += [too_few(seen["mean"], names) for seen in found.values()]
    told.append(_of_few_seeds(found, names))
    if bits:
        for title, seen in found.items():
            told += [f"{title}: {text}" for text in [by_heart(seen["mean"])] if text]
        told.append(unsure(list(found.values())))
        kept = [v for cell in cells for v in cell.values if "bits_per_token" in v]
        old = ["bits_per_token_seen" not in values for values in kept]
        if any(old) and not all(old):
            told.append(
                "some figures were kept by an earlier version, whose bounds are of one draw of a "
                "row: remove evaluation.json and evaluations of their runs to have them judged "
                "again"
            )
    return [text for text in dict.fromkeys(told) if text]


def _of_few_seeds(cells: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> str:
    """Which of the metrics that are shown some seeds do not have, or none does."""
    some = []
    for title, seen in cells.items():
        few = [name for name in names if 0 < len(seen["values"].get(name, ())) < seen["n"]]
        count = min((len(seen["values"][name]) for name in few), default=0)
        some += [f"{', '.join(few)} of {title} ({count} of {seen['n']})"] * bool(few)
    if not some:
        return ""
    return f"not of all seeds, since samples of some have no such figure: {'; '.join(some)}"
