"""What is to be known with the table of a comparison."""

from collections.abc import Sequence
from pathlib import Path

from noiseloom.costs import short_note, unequal_note
from noiseloom.remarks import by_heart, too_few, unsure
from noiseloom.table import Cell, chosen, record, text_of

__all__ = ["few_updates", "of_costs", "of_metrics", "where_samples_lie"]


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


def of_costs(cells: Sequence[Cell]) -> list[str]:
    """Which trainings have no pace, and a warning of parameters that differ, with priors' own."""
    named = {text_of(cell.options): cell.values[0] for cell in cells}
    priors = {name: values.get("prior_parameters", 0.0) for name, values in named.items()}
    whole = {name: named[name]["parameters"] + priors[name] for name in named}
    unequal = unequal_note(whole, " with those of priors" if any(priors.values()) else "")
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
    names = chosen({k: v for cell in cells for k, v in cell.values[0].items()}, patterns)
    found = {text_of(c.options): record(c) for c in cells if c.recipe.shows == "rows"}
    told = [cell.recipe.caveat for cell in cells]
    told += [too_few(seen["mean"], names) for seen in found.values()]
    for title, seen in found.items():
        told += [f"{title}: {text}" for text in [by_heart(seen["mean"])] if text]
        few = {n: len(v) for n, v in seen["values"].items() if n in names and len(v) < seen["n"]}
        told += [
            f"{name} of {title} is of {count} of {seen['n']} seeds: others have none"
            for name, count in few.items()
        ]
    told.append(unsure(list(found.values())) if "bits_per_token" in names else "")
    bits = [v for cell in cells for v in cell.values if "bits_per_token" in v]
    old = ["bits_per_token_seen" not in values for values in bits]
    if any(old) and not all(old):
        told.append(
            "some figures were kept by an earlier version, whose bounds are of one draw of a row: "
            "remove evaluation.json and evaluations of their runs to have them judged again"
        )
    return [text for text in dict.fromkeys(told) if text]
