"""The options of forecasts, and the plans that they name."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from noiseloom.noise import Schedule
from noiseloom.plan import SamplingPlan
from noiseloom.recipes.forcing import DiffusionForcing
from noiseloom.recipes.rolling import ByHistory, Sliding

__all__ = ["SeriesOptions"]


@dataclass(frozen=True)
class SeriesOptions(Sliding, DiffusionForcing, ByHistory):
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
