"""What is to be known with the table of a comparison."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from noiseloom.costs import short_note, unequal_note
from noiseloom.remarks import by_heart, too_few, unsure
from noiseloom.table import Cell, chosen, record, text_of

__all__ = ["few_updates", "of_costs", "of_metrics", "where_samples_lie"]


def few_updates(cells: Sequence[Cell]) -> Iterator[str]:
    """Which budgets pay for little more than the warm-up."""
    for cell in cells:
        recipe = cell.recipe
        if recipe.steps < 3 * recipe.warmup:
            yield (
                f"{text_of(cell.options)}: {recipe.steps:,} updates, {recipe.warmup:,} of them to "
                "warm up, are a beginning: a larger --budget says more"
            )


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

    Which have too few rows, whose rows were learnt by heart, and what one run does not know well.
    """
    names = chosen({k: v for cell in cells for k, v in cell.values[0].items()}, patterns)
    found = [(text_of(c.options), record(c)) for c in cells if c.recipe.shows == "rows"]
    told = [too_few(seen["mean"], names) for _, seen in found]
    told += [f"{title}: {text}" for title, seen in found if (text := by_heart(seen["mean"]))]
    told += unsure([r["mean"] for _, r in found], [r["deviation"] for _, r in found], names)
    return [text for text in dict.fromkeys(told) if text]
