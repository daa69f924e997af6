"""Probabilistic forecasting with Diffusion Forcing: sampled paths of several steps and columns.

A token is a step of the series, its columns together. Training windows have a noise level per
step; a forecast is a rollout: the known steps are read once, and the next ones follow one by one.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from noiseloom.data import Series, Split, Table, read_series, rolling
from noiseloom.data.series import beginning
from noiseloom.data.tokens import evenly
from noiseloom.diffusion import GaussianDiffusion
from noiseloom.metrics import forecast_report, history_report, random_walks
from noiseloom.noise import SCHEDULES, Schedule
from noiseloom.plan import SamplingPlan
from noiseloom.recipes.filling import (
    beside,
    check_differences,
    check_gaps,
    check_window,
    same_gaps,
)
from noiseloom.recipes.forcing import DiffusionForcing
from noiseloom.recipes.recipe import Drawing, Facts, Given, Parts
from noiseloom.recipes.rolling import ByHistory, Sliding
from noiseloom.recipes.series_tokens import SeriesTokens, seasons, with_gaps
from noiseloom.rng import Rng
from noiseloom.rollouts import along, rollout
from noiseloom.sliding import slide

__all__ = ["ForcingSeries", "Forecast"]


@dataclass(frozen=True)
class Forecast:
    """What a rollout has made so far.

    Attributes:
        result: the forecast steps, standardised, shape (B, h, D).
    """

    result: Tensor


@dataclass(frozen=True)
class ForcingSeries(Sliding, DiffusionForcing, ByHistory):
    """Options of `DiffusionForcing` for series.

    Attributes:
        horizon: steps to forecast.
        context: steps that are known of a window; 0 for as many as the horizon.
        windows: stretches of `horizon` steps at the end of the series that are held out.
        state: what a token is: the values, over the mean size of the known ones, or what they
            changed by since the step before.
        periods: lengths of the seasons, in steps: 24 and 168 for hours. The network is told sine
            and cosine of each.
        lags: steps to look back by, each at least the horizon: 24 and 168 for hours. At every token
            the network is told the one so many steps before, as it is then known. Of windows whose
            lags lie before the first step, it is told that they do.
        header: whether the first row of a CSV file holds names.
        gaps: what becomes of steps to train on with cells that are empty or NaN: refuse them, or
            take them for missing: at time 1, and no part of the loss. What is forecast, and what
            forecasts follow, has none.
        stabilisation: time at which known and finished steps are read; null for 0.02, or for 0
            where teacher forcing has shown no other. May be changed for every draw. `rest` is for
            finished ones where a plan is named.
        history_guidance: scale of the guidance by what is known: 1 is none, above it the past is
            followed more, at two calls for one. It builds up over a forecast step by step. May be
            changed for every draw, as may `history_level`.
        history_level: time in [0, 1) of the noise on the past that guides: 0 is vanilla, above it
            fractional guidance, by the coarse of the past alone, at three calls for one.
        samples: paths that an evaluation draws for each window.
    """

    name: ClassVar[str] = "forcing-series"
    summary: ClassVar[str] = "forecasts of any table of numbers, as sampled paths"
    shows: ClassVar[Literal["pictures", "series", "trajectories"]] = "series"

    horizon: int = 24
    context: int = 0
    windows: int = 5
    state: Literal["values", "differences"] = "values"
    periods: tuple[float, ...] = ()
    lags: tuple[int, ...] = ()
    header: Literal["auto", "yes", "no"] = "auto"
    gaps: Literal["refuse", "missing"] = "refuse"
    stabilisation: float | None = None
    history_guidance: float = 1.0
    history_level: float = 0.0
    conditional: bool = False
    steps: int = 1500
    batch_size: int = 64
    learning_rate: float = 1e-3
    warmup: int = 100
    beta2: float = 0.99
    decay: Literal["constant", "cosine"] = "cosine"
    ema_decay: float = 0.995
    threads: int = 1
    sampling_steps: int = 50
    samples: int = 100
    width: int = 64
    depth: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.horizon < 1 or self.context < 0 or self.windows < 1:
            raise ValueError(
                "horizon and windows must be at least 1 and context at least 0, got "
                f"{self.horizon}, {self.windows} and {self.context}"
            )
        if not all(2 <= period < math.inf for period in self.periods):
            raise ValueError(f"periods must be at least 2, in steps, got {self.periods}")
        if any(lag < self.horizon for lag in self.lags):
            raise ValueError(
                f"lags must be at least the horizon, {self.horizon} steps, to be known when it is "
                f"drawn, got {min(self.lags)}"
            )
        if len(set(self.lags)) < len(self.lags):
            raise ValueError(f"lags must differ, got {self.lags}")
        if self.conditional or self.label_drop or self.guidance != 1:
            raise ValueError(
                f"{self.name} knows no classes: leave conditional, label_drop and guidance out"
            )
        if self.stabilisation is not None and not 0 <= self.stabilisation < 1:
            raise ValueError(f"stabilisation is a time in [0, 1), got {self.stabilisation}")
        self.check_history(self.forcing, self.read_at)
        self.check_slides()

    @classmethod
    def changeable(cls) -> tuple[str, ...]:
        """Those of all recipes, and how what is known and finished is read."""
        return (*super().changeable(), "stabilisation", "history_guidance", "history_level")

    @property
    def idle(self) -> Mapping[str, str]:
        """What is for steps that wait for others."""
        found = self.idle_by_history
        if self.slides:
            found["rest"] = "a forecast of which all steps have one time"
        elif self.rolls:
            found["rest"] = "steps that are made one by one, by plan auto"
        return found

    @property
    def read_at(self) -> float:
        """The time that `stabilisation` stands for."""
        return self.past_time(self.stabilisation, 0.02)

    @property
    def known(self) -> int:
        """Tokens that are known of a window."""
        return self.context or self.horizon

    @property
    def tokens(self) -> int:
        """Tokens of a window."""
        return self.known + self.horizon

    @property
    def lead(self) -> int:
        """Steps before a forecast that have to be known: a difference takes two."""
        return self.known + (self.state == "differences")

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

    def check_lagged(self, given: Given) -> None:
        """Raise ValueError if there are lags, and not given the steps that they reach."""
        count, _, columns = given["values"].shape
        wanted = (count, len(self.lags), self.lead + self.horizon, columns)
        lagged = given.get("lagged")
        if self.lags and (lagged is None or lagged.shape != wanted):
            got = "none" if lagged is None else f"{tuple(lagged.shape)}"
            raise ValueError(f"a model with lags takes lagged of shape {wanted}, got {got}")

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

    @property
    def rolls(self) -> bool:
        """Whether a forecast is made step by step."""
        return self.network != "bidirectional" and self.plan == "auto" and not self.slides

    def named_plan(self, schedule: Schedule) -> SamplingPlan:
        """The plan of the name, or one time for a whole window."""
        if self.slides:
            return SamplingPlan.uniform(self.sampling_steps)
        return super().named_plan(schedule)

    def whole_plan(self, schedule: Schedule) -> SamplingPlan:
        """That of the forecast; what is known, and finished in a rollout, is at `stabilisation`."""
        if self.slides:
            return self.make_plan(schedule)
        return self.plan_beside(schedule, range(self.known))

    @property
    def held_at(self) -> float:
        """The time at which known steps are held: that at which they are read."""
        return self.read_at

    def plan_beside(self, schedule: Schedule, known: Sequence[int]) -> SamplingPlan:
        """As all, but where steps follow each other: finished ones are read as known ones are."""
        own = replace(self, rest=self.read_at) if self.rolls else self
        return own.plan_among(schedule, known, self.read_at)

    def decode(self, parts: Parts, result: Tensor, given: Given) -> Tensor:
        """Values of forecast tokens, in the units of what is known, float64."""
        assert isinstance(parts.codec, SeriesTokens)
        values = given["values"].to(result.device)
        if "known" not in given:
            return parts.codec.values(result, values)
        made = parts.codec.values(result[:, : values.shape[1]], values)
        return torch.where(given["known"].to(result.device)[..., None], values.double(), made)

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
