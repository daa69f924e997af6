"""Series with gaps: what is known is held, and the rest is drawn beside it (`filling`)."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from noiseloom.recipes.filling import (
    beside,
    check_differences,
    check_gaps,
    check_window,
    same_gaps,
)
from noiseloom.recipes.recipe import Drawing, Facts, Given, Parts
from noiseloom.recipes.series_model import SeriesModel
from noiseloom.rng import Rng

__all__ = ["FilledSeries", "Forecast"]


@dataclass(frozen=True)
class Forecast:
    """What a rollout has made so far.

    Attributes:
        result: the forecast steps, standardised, shape (B, h, D).
    """

    result: Tensor


@dataclass(frozen=True)
class FilledSeries(SeriesModel):
    """`SeriesModel`, and what fills in windows of which some steps are known."""

    def fill_in(self, parts: Parts, facts: Facts, given: Given, rng: Rng) -> Iterator[Drawing]:
        """Windows with gaps, what is known as it is; what follows their last step is drawn, too."""
        values, known = given["values"], same_gaps(given["known"])
        check_differences(self.state)
        check_window(values, known, self.tokens, len(facts["columns"]), self.lead)
        device, rest = next(parts.denoiser.parameters()).device, self.tokens - len(known)
        self.check_lagged(given)
        held = functional.pad(known, (0, rest))
        check_gaps(self, parts.denoiser, held)
        cond = self.told({name: part.to(device) for name, part in given.items()}, facts, rng)
        past = held.nonzero()[:, 0].tolist()
        guided = self.by_history(parts.denoiser, parts.diffusion, past)
        denoiser = self.make_denoiser(guided, cond).eval()
        window = functional.pad(torch.where(known[:, None], values, 0), (0, 0, 0, rest)).to(device)
        clean = self.clean(parts, {"values": window})
        held = held.to(device)
        for row in beside(self, denoiser, parts.diffusion, clean, held, cond, rng):
            yield Forecast(row.result)

    def check_lagged(self, given: Given) -> None:
        """Raise ValueError if there are lags, and not given the steps that they reach."""
        count, _, columns = given["values"].shape
        wanted = (count, len(self.lags), self.lead + self.horizon, columns)
        lagged = given.get("lagged")
        if self.lags and (lagged is None or lagged.shape != wanted):
            got = "none" if lagged is None else f"{tuple(lagged.shape)}"
            raise ValueError(f"a model with lags takes lagged of shape {wanted}, got {got}")
