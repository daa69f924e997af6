"""What is read of a series, and the model of its tokens: a step, its columns together."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from noiseloom.data import Series, Split, Table, read_series, rolling
from noiseloom.data.series import beginning
from noiseloom.data.tokens import evenly
from noiseloom.diffusion import GaussianDiffusion
from noiseloom.noise import SCHEDULES
from noiseloom.recipes.recipe import Facts, Given, Parts
from noiseloom.recipes.series_options import SeriesOptions
from noiseloom.recipes.series_tokens import SeriesTokens, seasons, with_gaps
from noiseloom.rng import Rng

__all__ = ["SeriesModel"]


@dataclass(frozen=True)
class SeriesModel(SeriesOptions):
    """`SeriesOptions`, and what they make of a file: data, facts, tokens and a denoiser."""

    def load(self, data: str | None) -> Split[Series]:
        """The series at a path, its end held out."""
        table = self.read(data)
        split = self.split(table)
        rest = split.held_out.values.isfinite().all(1)
        if not rest.all():
            gap = split.held_out.first + int(rest.int().argmin()) + 1
            raise ValueError(
                f"{data}: the last {len(rest):,} steps, which are forecast or known before that, "
                f"need all their numbers, and step {gap:,} has a gap: fill it, or hold less out "
                "(--windows)"
            )
        there = split.train.values.isfinite().all(1)
        if there.all():
            return split
        note = f"{int((~there).sum()):,} of {len(there):,} steps to train on have gaps: missing"
        return replace(split, notes=(note,))

    def split(self, table: Table) -> Split[Series]:
        """A series, its end held out, each window with its lags."""
        windows, lags = self.windows, self.lags
        return rolling(table, context=self.lead, horizon=self.horizon, windows=windows, lags=lags)

    def read(self, data: str | None) -> Table:
        """All rows at a path; one with a gap is missing as a whole."""
        if data is None:
            raise ValueError(f"{self.name} needs --data FILE.csv, a row per step")
        table = read_series(data, self.header, gaps=self.gaps == "missing")
        return Table(with_gaps(table.values), table.columns)

    def facts(self, data: Split[Any]) -> Facts:
        """Columns, what its first rows are known by, and what the tokens are standardised by."""
        train: Series = data.train
        rows = evenly(len(train), 2000)
        codec = SeriesTokens.of(train.values, train[rows]["values"], self.lead, self.state)
        return {
            "columns": list(train.columns),
            **self.origin(train.values),
            "mean": list(codec.mean),
            "std": list(codec.std),
            "floor": list(codec.floor),
        }

    def fits(self, facts: Facts, own: Facts) -> None:
        """The same columns, and, where seasons are told, the same first rows."""
        super().fits(facts, own)
        if facts.get("first") != own.get("first"):
            raise ValueError(
                "the data do not begin as those of training, and seasons (--periods) are counted "
                "from their first row: give the whole series, with what came after"
            )

    def origin(self, values: Tensor) -> Facts:
        """What tells that a series begins where another does: its first rows, if seasons count."""
        return {"first": beginning(values, self.lead)} if self.periods else {}

    def drawn_as(self, facts: Facts) -> str | None:
        """What it shows, whatever the facts."""
        return self.shows

    def build(self, facts: Facts) -> Parts:
        """The codec of the tokens, and their denoiser."""
        columns = len(facts["columns"])
        told = 2 * len(self.periods) + len(self.lags) * (columns + 1)
        trained = self.make_trained(columns, None, told)
        return Parts(trained, GaussianDiffusion(SCHEDULES[self.schedule]), self.codec(facts))

    def codec(self, facts: Facts) -> SeriesTokens:
        """What the tokens are, of these facts."""
        mean, std, floor = (tuple(facts[name]) for name in ("mean", "std", "floor"))
        return SeriesTokens(mean, std, floor, self.lead, self.state)

    def clean(self, parts: Parts, batch: dict[str, Tensor]) -> Tensor:
        """Tokens of a batch of windows."""
        assert isinstance(parts.codec, SeriesTokens)
        return parts.codec.tokens(batch["values"])

    def real(self, batch: dict[str, Tensor]) -> Tensor | None:
        """Tokens whose steps have no gap; none where nothing is known to measure them by."""
        if self.gaps == "refuse":
            return None
        there = batch["values"].isfinite().all(-1)
        known = there[:, : self.lead].any(1, keepdim=True)
        return known & (there if self.state == "values" else there[:, 1:] & there[:, :-1])

    def told(self, batch: dict[str, Tensor], facts: Facts, rng: Rng) -> dict[str, Tensor]:
        """The time of the season at every token, and the tokens of some steps before."""
        found = []
        if self.periods:
            first = batch["position"] + self.lead - self.known
            found.append(seasons(first, self.tokens, self.periods))
        if self.lags:  # one more of either comes at the end
            found.append(self.codec(facts).lagged(batch["values"], batch["lagged"]))
        return {"action": torch.cat(found, -1)} if found else {}

    def decode(self, parts: Parts, result: Tensor, given: Given) -> Tensor:
        """Values of forecast tokens, in the units of what is known, float64."""
        assert isinstance(parts.codec, SeriesTokens)
        values = given["values"].to(result.device)
        if "known" not in given:
            return parts.codec.values(result, values)
        made = parts.codec.values(result[:, : values.shape[1]], values)
        return torch.where(given["known"].to(result.device)[..., None], values.double(), made)
