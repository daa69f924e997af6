"""The options of sampling and codes, and what those of sampling name."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from noiseloom.conditioning import SelfConditioned, SelfGuided
from noiseloom.guidance import ClassifierFree
from noiseloom.noise import Schedule
from noiseloom.plan import SamplingPlan
from noiseloom.plan_file import PLAN_FILES
from noiseloom.sampling import Solver, ancestral, dpm_solver_pp_2m, heun, resampled
from noiseloom.shapes import Cond
from noiseloom.stochastic import churned, restarted, restarts

__all__ = ["Coding", "Sampling", "Telling"]


@dataclass(frozen=True)
class Sampling:
    """How samples are drawn; may be changed for every draw.

    Attributes:
        sampling_steps: rows N of the plan.
        plan: uniform in time, or Karras et al.'s noise levels (karras); for recipes with a time per
            token autoregressive, full-sequence, pyramid:U, trapezoid:U, chunked:N, or a file.
        rest: time that finished tokens wait at until all are done, where tokens have their own; a
            plan from a file is run as it is written, unless this is given with it.
        td: overshoot (asymmetric time intervals), in steps, >= 0.
        sampler: ddim, ddpm (large variance, the paper's), ddpm-small, heun (in the angle), heun-edm
            (in sigma / alpha), or dpm++2m.
        churn: EDM's S_churn >= 0: before a row noise is put in, so that sigma / alpha grows by the
            share churn / N, at most 0.41.
        churn_min: EDM's S_min >= 0, the least ratio sigma / alpha of a row that churn is for.
        churn_max: EDM's S_max, the largest; null for no limit.
        churn_noise: EDM's S_noise > 0, a factor of the noise that churn puts in; 1.003 to 1.007 in
            its paper, where a network takes away a little too much. 1 is the exact law's.
        restarts: Restart's [[points, rounds, sigma_min, sigma_max], ...], as in its paper: come
            down to sigma_min, a token is noised up to sigma_max, of ratios sigma / alpha, and comes
            down again through that many of Karras' levels (rho 7), the two among them; all this so
            many rounds.
        resample: times that a row is made, going back up between them; 1 is once.
        guidance: classifier-free guidance scale; 1 is conditional, 0 unconditional.
        momentum: of the self-conditioning estimate, in [0, 1); 0 is that of the trained model.
        self_guidance: scale of self-guidance, two calls per step; 0 for none.
        guided: name of the condition that guidance leaves out; no option.

    Raises:
        ValueError: an option is out of range.
    """

    guided: ClassVar[str] = "label"

    sampling_steps: int = 100
    plan: str = "uniform"
    rest: float | None = 0.0
    td: float = 0.0
    sampler: Literal["ddim", "ddpm", "ddpm-small", "heun", "heun-edm", "dpm++2m"] = "ddim"
    churn: float = 0.0
    churn_min: float = 0.0
    churn_max: float | None = None
    churn_noise: float = 1.0
    restarts: tuple[tuple[int, int, float, float], ...] = ()
    resample: int = 1
    guidance: float = 1.0
    momentum: float = 0.0
    self_guidance: float = 0.0

    def __post_init__(self) -> None:
        numbers = ("td", "churn", "churn_min", "churn_noise", "guidance", "momentum")
        for name in (*numbers, "self_guidance"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} must be a number, got {getattr(self, name)}")
        if self.sampling_steps < 1:
            raise ValueError(f"sampling_steps must be at least 1, got {self.sampling_steps}")
        if self.resample < 1:
            raise ValueError(f"resample must be at least 1, got {self.resample}")
        if self.td and self.resample > 1:
            raise ValueError("td and resample exclude each other: going back up undoes a td")
        self.check_plan()
        if self.rest is not None and not 0 <= self.rest < 1:
            raise ValueError(f"rest is a time in [0, 1), got {self.rest}")
        if self.td < 0:
            raise ValueError(f"td must be at least 0 (it is in steps), got {self.td}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {self.momentum}")
        if self.self_guidance and self.momentum:
            raise ValueError("self_guidance and momentum exclude each other")
        if self.self_guidance < 0:
            raise ValueError(f"self_guidance must be at least 0, got {self.self_guidance}")
        self.check_churn()
        object.__setattr__(self, "restarts", tuple(map(tuple, self.restarts)))  # files have lists
        for stretch in self.restarts:
            check_stretch(stretch)
        for name in ("churn", "restarts"):
            if self.td and getattr(self, name):
                raise ValueError(f"td and {name} exclude each other: going back up undoes a td")
        for name in ("td", "churn", "restarts"):
            if self.sampler == "dpm++2m" and getattr(self, name):
                raise ValueError(
                    f"dpm++2m is a multistep sampler, which cannot cross the gaps of {name}"
                )

    def check_churn(self) -> None:
        """Raise ValueError if the numbers of churn are out of range, or there is none of it."""
        if self.churn < 0:
            raise ValueError(f"churn must be at least 0, got {self.churn}")
        if not 0 <= self.churn_min < self.churn_limit:
            raise ValueError(
                "churn_min and churn_max need 0 <= churn_min < churn_max, got "
                f"{self.churn_min} and {self.churn_max}"
            )
        if self.churn_noise <= 0:
            raise ValueError(f"churn_noise must be above 0, got {self.churn_noise}")
        for name, idle in (("churn_min", 0), ("churn_max", None), ("churn_noise", 1)):
            if not self.churn and getattr(self, name) != idle:
                told = "null" if idle is None else idle
                raise ValueError(
                    f"{name} says nothing without churn: give --churn, or leave it at {told}"
                )

    @property
    def churn_limit(self) -> float:
        """The ratio that `churn_max` stands for."""
        return math.inf if self.churn_max is None else self.churn_max

    def check_plan(self) -> None:
        """Raise ValueError if `plan` names none."""
        if self.plan not in ("uniform", "karras"):
            raise ValueError(f"plan must be one of uniform, karras, got {self.plan!r}")
        if self.plan == "karras" and self.sampling_steps < 2:
            raise ValueError("sampling_steps must be at least 2 for plan karras")
        if self.rest:
            raise ValueError(f"rest is for plans with a time per token, which {self.plan} is not")

    def make_plan(self, schedule: Schedule) -> SamplingPlan:
        """The plan these options name, with its overshoot, restarts and rest."""
        return self.complete(self.named_plan(schedule), schedule)

    def named_plan(self, schedule: Schedule) -> SamplingPlan:
        """The plan of the name `plan`, as it is."""
        if self.plan == "karras":
            return SamplingPlan.karras(self.sampling_steps, schedule)
        return SamplingPlan.uniform(self.sampling_steps)

    def complete(self, plan: SamplingPlan, schedule: Schedule) -> SamplingPlan:
        """A plan with its overshoot and restarts, and rest if tokens have times of their own.

        Raises:
            ValueError: a stretch that has no row to restart from, or a plan with gaps to restart.
        """
        plan = plan.overshoot(self.td)
        if self.restarts and not plan.gapless:
            raise ValueError(f"restarts need a plan whose rows touch, and {self.plan} has gaps")
        for points, rounds, *ratios in self.restarts:
            sigmas = torch.tensor(ratios, dtype=torch.float64)
            low, high = schedule.time(-2 * sigmas.log()).clamp(0, 1).tolist()
            try:
                plan = restarts(plan, low, high, rounds, points - 1, schedule=schedule)
            except ValueError as error:
                told = f"restarts from sigma {ratios[0]:g} to {ratios[1]:g}"
                raise ValueError(f"{told}, in times: {error}") from error
        return plan.rest(self.resting) if plan.t.ndim > 1 else plan

    @property
    def by_file(self) -> bool:
        """Whether the plan is one from a file."""
        return Path(self.plan).suffix in PLAN_FILES

    @property
    def resting(self) -> float:
        """The time that `rest` stands for."""
        return self.rest or 0.0

    def whole_plan(self, schedule: Schedule) -> SamplingPlan:
        """The plan of all that a sample consists of, what is known among it: for people to see."""
        return self.make_plan(schedule)

    def plan_of(self, facts: dict[str, Any], schedule: Schedule) -> SamplingPlan:
        """The same of what a run makes, by its facts: of rows of tokens their number decides."""
        return self.whole_plan(schedule)

    def make_solver(self) -> Solver:
        """The solver these options name."""
        solvers: dict[str, Callable[[], Solver]] = {
            "ddim": ancestral,
            "ddpm": lambda: ancestral(1.0, "large"),
            "ddpm-small": lambda: ancestral(1.0, "small"),
            "heun": heun,
            "heun-edm": lambda: heun(math.inf),
            "dpm++2m": dpm_solver_pp_2m,
        }
        solver = churned(
            solvers[self.sampler](),
            self.churn,
            self.sampling_steps,
            low=self.churn_min,
            high=self.churn_limit,
            noise=self.churn_noise,
        )
        solver = resampled(solver, self.resample)
        return restarted(solver) if self.restarts else solver

    def make_denoiser(self, trained: nn.Module, cond: Cond) -> nn.Module:
        """A trained denoiser with the guidance these options name, in the right order.

        Guidance goes inside self-conditioning on the estimate, which is one for both branches, and
        outside of self-conditioning on the hidden state, of which each branch has its own.

        Args:
            trained: the denoiser, self-conditioned or not.
            cond: what it will be told.

        Raises:
            ValueError: an option that this model, or what it is told, gives nothing to work with.
        """
        guide = self.guidance != 1
        if guide and self.guided not in cond:
            raise ValueError(
                "guidance needs a model with classes, and labels to guide to"
                if self.guided == "label"
                else f"guidance needs a {self.guided} to guide to"
            )
        free = partial(ClassifierFree, scale=self.guidance, drop=(self.guided,))
        if not isinstance(trained, SelfConditioned) or trained.kind == "hidden":
            if self.momentum or self.self_guidance:
                name = "momentum" if self.momentum else "self_guidance"
                raise ValueError(f"{name} needs a model that is self-conditioned on its estimate")
            return free(trained) if guide else trained
        core = free(trained.denoiser) if guide else trained.denoiser
        if self.self_guidance:
            return SelfGuided(core, self.self_guidance, limit=trained.limit)
        momentum = self.momentum or trained.momentum
        return SelfConditioned(core, momentum=momentum, limit=trained.limit)


@dataclass(frozen=True)
class Telling:
    """What samples of a model with discrete latents are told; may be changed for every draw.

    Attributes:
        codes: codes drawn by the run's prior, codes as often as the encoder picks them, each latent
            by itself (marginal), or none; where pictures or points are judged, also those of
            held-out ones (oracle), of the class asked for where the model is told classes.
        code_temperature: of the prior's draws, >= 0; 1 is its law, 0 the likeliest one by one.
        code_top_p: mass of the nucleus of each of them, in (0, 1].
        code_guidance: guidance scale of the codes; 1 is conditional, 0 without. The paper's cfg is
            scale - 1.

    Raises:
        ValueError: an option is out of range.
    """

    codes: Literal["prior", "marginal", "none", "oracle"] = "prior"
    code_temperature: float = 1.0
    code_top_p: float = 1.0
    code_guidance: float = 1.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.code_guidance):
            raise ValueError(f"code_guidance must be a number, got {self.code_guidance}")
        if not 0 <= self.code_temperature < math.inf:
            raise ValueError(f"code_temperature must be at least 0, got {self.code_temperature}")
        if not 0 < self.code_top_p <= 1:
            raise ValueError(f"code_top_p must be in (0, 1], got {self.code_top_p}")


@dataclass(frozen=True)
class Coding(Telling):
    """Options of `Telling`, and of comparisons of what is told.

    Attributes:
        evaluations: of the network, for which `evaluate` compares samples that are told other
            codes; odd numbers from 3 on, none for no comparison. They are calls that are counted,
            so these samples are drawn without restarts and resample, whatever those say.

    Raises:
        ValueError: an option is out of range.
    """

    evaluations: tuple[int, ...] = (5, 9, 19, 39, 79)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "evaluations", tuple(self.evaluations))  # files have lists
        if any(calls < 3 or calls % 2 == 0 for calls in self.evaluations):
            raise ValueError(
                "evaluations must be odd numbers from 3 on, which Heun's steps of two calls and a "
                f"last of one can make, as others can: got {list(self.evaluations)}"
            )


def check_stretch(stretch: tuple[float, ...]) -> None:
    """Raise ValueError if a stretch of Restart is none."""
    if len(stretch) != 4:
        raise ValueError(
            "restarts are stretches [[points, rounds, sigma_min, sigma_max], ...], got "
            f"{list(stretch)}"
        )
    points, rounds, low, high = stretch
    if not (points >= 2 and rounds >= 0 and 0 <= low < high):
        raise ValueError(
            "restarts need points >= 2, rounds >= 0 and 0 <= sigma_min < sigma_max, got "
            f"{list(stretch)}"
        )
