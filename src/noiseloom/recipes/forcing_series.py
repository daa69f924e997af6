"""Probabilistic forecasting with Diffusion Forcing: sampled paths of several steps and columns.

A token is a step of the series, its columns together. Training windows have a noise level per
step; a forecast is a rollout: the known steps are read once, and the next ones follow one by one.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from noiseloom.data import Series, Split
from noiseloom.metrics import forecast_report, history_report, random_walks
from noiseloom.plan import SamplingPlan
from noiseloom.recipes.filling import beside
from noiseloom.recipes.recipe import Drawing, Facts, Given, Parts
from noiseloom.recipes.series_filling import FilledSeries, Forecast
from noiseloom.rng import Rng
from noiseloom.rollouts import along, rollout
from noiseloom.sliding import slide

__all__ = ["ForcingSeries", "Forecast"]


@dataclass(frozen=True)
class ForcingSeries(FilledSeries):
    """Options of `DiffusionForcing` for series, and the forecasts that are drawn by them."""

    name: ClassVar[str] = "forcing-series"
    summary: ClassVar[str] = "forecasts of any table of numbers, as sampled paths"
    shows: ClassVar[Literal["pictures", "series", "trajectories"]] = "series"

    def draw(self, parts: Parts, facts: Facts, given: Given, rng: Rng) -> Iterator[Drawing]:
        """Forecasts of what is known, {"values" (B, lead, D), "position" (B,)}.

        With lags there is "lagged", too, (B, lags, lead + horizon, D).

        Step by step where the network is causal and no plan is named, else along the plan, the
        known tokens held; by a model of full sequences all at once (`Sliding`).

        Given {"known" bool (B, n)} too, "values" are n steps, at most `tokens`, and those that are
        not known are filled in along the plan (`fill_in`).
        """
        if "known" in given:
            yield from self.fill_in(parts, facts, given, rng)
            return
        device = next(parts.denoiser.parameters()).device
        given = {name: part.to(device) for name, part in given.items()}
        values = given["values"]
        if values.shape[1:] != (self.lead, len(facts["columns"])):
            raise ValueError(
                f"a forecast follows {self.lead} steps of {len(facts['columns'])} columns, got "
                f"values of shape {tuple(values.shape)}"
            )
        if not values.isfinite().all():
            raise ValueError("what a forecast follows has gaps: fill them")
        self.check_lagged(given)
        known = self.clean(parts, {"values": values})
        cond = self.told(given, facts, rng)
        past = None if self.rolls else range(self.known)
        guided = self.by_history(parts.denoiser, parts.diffusion, past)
        denoiser = self.make_denoiser(guided, cond).eval()
        options: dict[str, Any] = {"stabilisation": self.read_at, "cond": along(None, **cond)}
        options |= {"rng": rng, "solver": self.make_solver()}
        if self.slides:
            options |= {"solver": replace(self, resample=1).make_solver(), "rounds": self.resample}
            options |= {"window": self.tokens, "chunk": self.horizon}
            plan = self.make_plan(parts.diffusion.schedule)
            yield Forecast(next(slide(denoiser, parts.diffusion, plan, known, **options)).x)
            return
        if self.rolls:
            plan = SamplingPlan.uniform(self.sampling_steps)
            plan = self.complete(plan, parts.diffusion.schedule)
            options["memory"] = self.tokens - 1
            steps = rollout(denoiser, parts.diffusion, plan, known, **options)
            made: list[Tensor] = []
            for step in itertools.islice(steps, self.horizon):
                made.append(step.x)
                yield Forecast(torch.cat(made, 1))
            return
        self.check_order(parts.diffusion.schedule)
        window = functional.pad(known, (0, 0, 0, self.horizon))
        held = torch.arange(self.tokens, device=device) < self.known
        for row in beside(self, denoiser, parts.diffusion, window, held, cond, rng):
            yield Forecast(row.result[:, self.known :])

    def asked(self, data: Series, rows: Tensor, paths: int) -> dict[str, Tensor]:
        """What is known of windows, once for each path: window after window."""
        batch = data[rows]
        values = batch["values"][:, : self.lead]
        known = {**batch, "values": values}
        return {name: part.repeat_interleave(paths, 0) for name, part in known.items()}

    def evaluate(self, draw: Callable[..., Tensor], data: Split[Any], rng: Rng) -> dict[str, float]:
        """Scores of the paths, beside what needs no model.

        That is history repeated (_walk, and _season by season), and a random walk of the pace of
        what is known (_pace).
        """
        train, held, count = data.train, data.held_out, self.samples
        rows = self.horizon * torch.arange(self.windows)
        windows = held[rows]["values"]
        truth = windows[:, self.lead :]
        drawn = draw(self.asked(held, rows, count))
        paths = drawn.reshape(len(rows), count, *drawn.shape[1:]).transpose(0, 1)
        report = {"n": float(count), **forecast_report(paths, truth)}
        walks = random_walks(windows[:, : self.lead], self.horizon, count, rng.fold("walk"))
        if walks.isfinite().all():
            report |= {f"{name}_pace": v for name, v in forecast_report(walks, truth).items()}
        ahead, rng = held.values[self.lead :], rng.fold("history")
        seasons = {"_walk": 1} | ({"_season": round(self.periods[0])} if self.periods else {})
        for ending, season in seasons.items():
            found = history_report(train.values, ahead, self.horizon, season, count, rng)
            report |= {name + ending: value for name, value in found.items()}
        return report
