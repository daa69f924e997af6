"""Probabilistic forecasting with Diffusion Forcing: sampled paths of several steps and columns.

A token is a step of the series, its columns together. Training windows have a noise level per
step; a forecast is a rollout: the known steps are read once, and the next ones follow one by one.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from noiseloom.data import Series, Split, read_series, rolling
from noiseloom.data.series import beginning
from noiseloom.data.tokens import evenly
from noiseloom.diffusion import GaussianDiffusion
from noiseloom.encodings import Standardised
from noiseloom.metrics import forecast_report, historical_paths
from noiseloom.noise import SCHEDULES, Schedule
from noiseloom.plan import SamplingPlan
from noiseloom.recipes.forcing import DiffusionForcing
from noiseloom.recipes.recipe import Drawing, Facts, Given, Parts
from noiseloom.rng import Rng
from noiseloom.rollouts import along, rollout
from noiseloom.sampling import sample

__all__ = ["ForcingSeries", "Forecast"]


@dataclass(frozen=True)
class Tokens(Standardised):
    """Standardised tokens, and the least size that known steps are taken to have.

    Args:
        floor: by column, > 0: a tenth of the mean size in training. A column that has been nothing
            so far has no size to be measured by.
    """

    floor: tuple[float, ...] = ()


@dataclass(frozen=True)
class Forecast:
    """What a rollout has made so far.

    Attributes:
        result: the forecast steps, standardised, shape (B, h, D).
    """

    result: Tensor


@dataclass(frozen=True)
class ForcingSeries(DiffusionForcing):
    """Options of `DiffusionForcing` for series.

    Attributes:
        horizon: steps to forecast.
        context: steps that are known of a window; 0 for as many as the horizon.
        windows: stretches of `horizon` steps at the end of the series that are held out.
        state: what a token is: the values, over the mean size of the known ones, or what they
            changed by since the step before.
        periods: lengths of the seasons, in steps: 24 and 168 for hours. The network is told sine
            and cosine of each.
        header: whether the first row of a CSV file holds names.
        stabilisation: time at which known and finished steps are read; null for 0.02, or for 0
            where teacher forcing has shown no other. May be changed for every draw. `rest` is for
            finished ones where a plan is named.
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
    header: Literal["auto", "yes", "no"] = "auto"
    stabilisation: float | None = None
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
        if self.conditional or self.label_drop or self.guidance != 1:
            raise ValueError(
                f"{self.name} knows no classes: leave conditional, label_drop and guidance out"
            )
        if self.stabilisation is not None and not 0 <= self.stabilisation < 1:
            raise ValueError(f"stabilisation is a time in [0, 1), got {self.stabilisation}")

    @classmethod
    def changeable(cls) -> tuple[str, ...]:
        """Those of all recipes, and `stabilisation`."""
        return (*super().changeable(), "stabilisation")

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
        if data is None:
            raise ValueError(f"{self.name} needs --data FILE.csv, a row per step")
        table = read_series(data, self.header)
        return rolling(table, context=self.lead, horizon=self.horizon, windows=self.windows)

    def facts(self, data: Split[Any]) -> Facts:
        """Columns, what its first rows are known by, and what the tokens are standardised by."""
        train: Series = data.train
        floor = train.values.abs().mean(0) / 10
        floor = torch.where(floor > 0, floor, 1)
        rows = evenly(len(train), 2000)
        tokens, size = self._tokens(train[rows]["values"], floor)
        # Windows in which a column is next to nothing at first say nothing of its usual size, and
        # what then comes is as large as it likes.
        fits = []
        for k in range(len(floor)):
            alive = size[:, 0, k] > floor[k]
            seen = tokens[alive if alive.any() else ..., :, k].flatten()
            bound = 10 * (seen - seen.median()).abs().median()
            if bound > 0:
                seen = seen.clamp(seen.median() - bound, seen.median() + bound)
            fits.append(Standardised.fit(seen[:, None]))
        return {
            "columns": list(train.columns),
            **self.origin(train.values),
            "mean": [fit.mean[0] for fit in fits],
            "std": [fit.std[0] for fit in fits],
            "floor": floor.tolist(),
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

    def _tokens(self, values: Tensor, floor: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens before standardisation, (B, T, D), and the size they are measured by."""
        size = values[:, : self.lead].abs().mean(1, keepdim=True).maximum(floor)
        scaled = values / size
        return (scaled if self.state == "values" else scaled.diff(dim=1)), size

    def _encode(self, parts: Parts, values: Tensor) -> tuple[Tensor, Tensor]:
        codec = parts.codec
        assert isinstance(codec, Tokens)
        tokens, size = self._tokens(values, values.new_tensor(codec.floor))
        return codec.encode(tokens).float(), size

    def drawn_as(self, facts: Facts) -> str | None:
        """What it shows, whatever the facts."""
        return self.shows

    def build(self, facts: Facts) -> Parts:
        """The codec of the tokens, and their denoiser."""
        columns = len(facts["columns"])
        trained = self.make_trained(columns, None, 2 * len(self.periods))
        codec = Tokens(tuple(facts["mean"]), tuple(facts["std"]), tuple(facts["floor"]))
        return Parts(trained, GaussianDiffusion(SCHEDULES[self.schedule]), codec)

    def clean(self, parts: Parts, batch: dict[str, Tensor]) -> Tensor:
        """Tokens of a batch of windows."""
        return self._encode(parts, batch["values"])[0]

    def told(self, batch: dict[str, Tensor], facts: Facts, rng: Rng) -> dict[str, Tensor]:
        """The time of the season at every token."""
        return self._season(batch["position"], self.tokens)

    def _season(self, position: Tensor, count: int) -> dict[str, Tensor]:
        """For windows that begin at `position`."""
        if not self.periods:
            return {}
        step = position[:, None] + torch.arange(count, device=position.device)
        step = step + self.lead - self.known
        periods = torch.tensor(self.periods, dtype=torch.float64, device=step.device)
        angle = 2 * torch.pi * (step[..., None] / periods % 1)
        pairs = torch.stack((angle.sin(), angle.cos()), -1)  # one more period comes at the end
        return {"action": pairs.flatten(-2).float()}

    def draw(self, parts: Parts, facts: Facts, given: Given, rng: Rng) -> Iterator[Drawing]:
        """Forecasts of what is known, {"values" (B, lead, D), "position" (B,)}.

        Step by step where the network is causal and no plan is named, else along the plan, the
        known tokens held.
        """
        device = next(parts.denoiser.parameters()).device
        values, position = given["values"].to(device), given["position"].to(device)
        if values.shape[1:] != (self.lead, len(facts["columns"])):
            raise ValueError(
                f"a forecast follows {self.lead} steps of {len(facts['columns'])} columns, got "
                f"values of shape {tuple(values.shape)}"
            )
        known = self._encode(parts, values)[0]
        cond = self._season(position, self.tokens)
        denoiser, solver = self.make_denoiser(parts.denoiser, cond).eval(), self.make_solver()
        if self.rolls:
            steps = rollout(
                denoiser,
                parts.diffusion,
                self.complete(SamplingPlan.uniform(self.sampling_steps), parts.diffusion.schedule),
                known,
                memory=self.tokens - 1,
                stabilisation=self.read_at,
                cond=along(None, **cond),
                rng=rng,
                solver=solver,
            )
            made: list[Tensor] = []
            for step in itertools.islice(steps, self.horizon):
                made.append(step.x)
                yield Forecast(torch.cat(made, 1))
            return
        self.check_order(parts.diffusion.schedule)
        plan = self.whole_plan(parts.diffusion.schedule)
        at = torch.full((1, self.known), self.read_at, device=device)
        known = parts.diffusion.corrupt(known, at, rng.fold("stabilisation"))
        future = known.new_empty(len(known), self.horizon, known.shape[-1])
        x = torch.cat((known, parts.diffusion.prior(future, rng.fold("prior"))), 1)
        for row in sample(denoiser, parts.diffusion, plan, x, cond=cond, rng=rng, solver=solver):
            yield Forecast(row.result[:, self.known :])

    @property
    def rolls(self) -> bool:
        """Whether a forecast is made step by step."""
        return self.network != "bidirectional" and self.plan == "auto"

    def whole_plan(self, schedule: Schedule) -> SamplingPlan:
        """Known tokens are held, and finished ones of a rollout seen, at `stabilisation`."""
        own = replace(self, rest=self.read_at) if self.rolls else self
        return own.make_plan(schedule).hold(range(self.known), self.read_at)

    def decode(self, parts: Parts, result: Tensor, given: Given) -> Tensor:
        """Values of forecast tokens, in the units of what is known, float64."""
        values = given["values"].to(result.device).double()
        size = self._encode(parts, values)[1]
        scaled = parts.codec.decode(result.double())
        if self.state == "differences":
            scaled = values[:, -1:] / size + scaled.cumsum(1)
        return scaled * size

    def asked(self, data: Series, rows: Tensor, paths: int) -> dict[str, Tensor]:
        """What is known of windows, once for each path: window after window."""
        batch = data[rows]
        values = batch["values"][:, : self.lead]
        known = {"values": values, "position": batch["position"]}
        return {name: part.repeat_interleave(paths, 0) for name, part in known.items()}

    def evaluate(self, draw: Callable[..., Tensor], data: Split[Any], rng: Rng) -> dict[str, float]:
        """Scores of the paths, beside those of repeated history (_walk, and _season by season)."""
        train, held, count = data.train, data.held_out, self.samples
        rows = self.horizon * torch.arange(self.windows)
        windows = held[rows]["values"]
        truth = windows[:, self.lead :]
        drawn = draw(self.asked(held, rows, count))
        paths = drawn.reshape(len(rows), count, *drawn.shape[1:]).transpose(0, 1)
        report = {"n": float(count), **forecast_report(paths, truth)}
        whole = torch.cat((train.values, held.values[self.lead :]))
        baselines = {"_walk": 1} | ({"_season": round(self.periods[0])} if self.periods else {})
        for ending, season in baselines.items():
            if len(train.values) < 3 * (season + self.horizon):
                continue
            repeated = [
                historical_paths(
                    train.values,
                    whole[: len(train.values) + i * self.horizon],
                    self.horizon,
                    season,
                    count,
                    rng.fold("history").fold("window", i),
                )
                for i in range(self.windows)
            ]
            scores = forecast_report(torch.stack(repeated, 1), truth)
            report |= {name + ending: value for name, value in scores.items()}
        return report
