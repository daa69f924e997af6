"""What a run forecasts, as parts of a page: fans of sampled paths beside what came."""

from typing import Any

import torch

from noiseloom.data import Series, Split
from noiseloom.figures import fan_chart
from noiseloom.gallery import section
from noiseloom.recipes import ForcingSeries
from noiseloom.run import Run

__all__ = ["fans"]

PATHS = 100  # of a fan
WINDOWS = 6  # of those that are held out, the first and the last among them
COLUMNS = 2  # shown of each window, beside their sum


def fans(run: Run, data: Split[Any] | None, seed: int) -> str:
    """Sections of a page that show forecasts of the held-out windows.

    Args:
        run: that forecasts.
        data: its series; None if it is not at hand.
        seed: of the draws.
    """
    recipe = run.recipe
    assert isinstance(recipe, ForcingSeries)
    if data is None:
        return section("Forecasts", "<p>The data is not where it was, or has changed.</p>")
    held: Series = data.held_out
    starts = torch.linspace(0, recipe.windows - 1, min(recipe.windows, WINDOWS)).round().long()
    rows = recipe.horizon * starts
    asked = recipe.asked(held, rows, PATHS)
    drawn = run.samples(asked, seed=seed)
    paths = drawn.reshape(len(rows), PATHS, *drawn.shape[1:])
    windows, lead = held[rows]["values"], recipe.lead
    charts = []
    for i, window in enumerate(windows):
        shown = [
            (name, window[:, k], paths[i, :, :, k]) for k, name in enumerate(held.columns[:COLUMNS])
        ]
        if len(held.columns) > 1:
            shown.append(("sum of all", window.sum(-1), paths[i].sum(-1)))
        charts.append(f"<h3>From step {held.first + int(rows[i]) + lead:,}</h3>")
        figures = "".join(
            f"<figure>{fan_chart(line[:lead], line[lead:], fan, name)}</figure>"
            for name, line, fan in shown
        )
        charts.append(f'<div class="pair">{figures}</div>')
    text = (
        f"{PATHS} paths a window, as drawn with seed {seed}: median, the middle 50 % and 90 %, and "
        f"the first three. Step 0 is the last that was known. Shown are {len(rows)} of "
        f"{recipe.windows} windows."
    )
    return section("Forecasts", f"<p>{text}</p>{''.join(charts)}")
