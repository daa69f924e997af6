"""The options of sampling, codes and planning, and what those of sampling name."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from noiseloom.conditioning import SelfConditioned, SelfGuided
from noiseloom.guidance import ClassifierFree
from noiseloom.noise import Schedule
from noiseloom.plan import SamplingPlan
from noiseloom.sampling import Solver, ancestral, dpm_solver_pp_2m, heun, resampled
from noiseloom.shapes import Cond
from noiseloom.stochastic import churned, restarted, restarts

__all__ = ["Coding", "Planning", "Sampling"]


@dataclass(frozen=True)
class Sampling:
    """How samples are drawn; may be changed for every draw.

    Attributes:
        sampling_steps: rows N of the plan.
        plan: uniform in time, or Karras et al.'s noise levels (karras); for recipes with a time per
            token autoregressive, full-sequence, pyramid:U, trapezoid:U, chunked:N, or a file.
        rest: time that finished tokens wait at until all are done, where tokens have their own.
        td: overshoot (asymmetric time intervals), in steps, >= 0.
        sampler: ddim, ddpm (large variance, the paper's), ddpm-small, heun (in the angle), heun-edm
            (in sigma / alpha), or dpm++2m.
        churn: EDM's S_churn: noise put in before every row, of ratio churn / N, at most 0.41.
        restarts: Restart's [[points, rounds, sigma_min, sigma_max], ...], as in its paper: come
            down to sigma_min, a token is noised up to sigma_max, of ratios sigma / alpha, and comes
            down again in points - 1 rows, so many times.
        resample: times that a row is made, going back up between them; 1 is once.
        guidance: classifier-free guidance scale; 1 is conditional, 0 unconditional.
        momentum: of the self-conditioning estimate, in [0, 1); 0 is that of the trained model.
        self_guidance: scale of self-guidance, two calls per step; 0 for none.

    Raises:
        ValueError: an option is out of range.
    """

    sampling_steps: int = 100
    plan: str = "uniform"
    rest: float | None = 0.0
    td: float = 0.0
    sampler: Literal["ddim", "ddpm", "ddpm-small", "heun", "heun-edm", "dpm++2m"] = "ddim"
    churn: float = 0.0
    restarts: tuple[tuple[int, int, float, float], ...] = ()
    resample: int = 1
    guidance: float = 1.0
    momentum: float = 0.0
    self_guidance: float = 0.0

    def __post_init__(self) -> None:
        for name in ("td", "churn", "guidance", "momentum", "self_guidance"):
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
        if self.churn < 0:
            raise ValueError(f"churn must be at least 0, got {self.churn}")
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
                plan = restarts(plan, low, high, rounds, points - 1)
            except ValueError as error:
                told = f"restarts from sigma {ratios[0]:g} to {ratios[1]:g}"
                raise ValueError(f"{told}, in times: {error}") from error
        return plan.rest(self.resting) if plan.t.ndim > 1 else plan

    @property
    def resting(self) -> float:
        """The time that `rest` stands for."""
        return self.rest or 0.0

    def whole_plan(self, schedule: Schedule) -> SamplingPlan:
        """The plan of all that a sample consists of, what is known among it: for people to see."""
        return self.make_plan(schedule)

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
        solver = churned(solvers[self.sampler](), self.churn, self.sampling_steps)
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
        if guide and "label" not in cond:
            raise ValueError("guidance needs a model with classes, and labels to guide to")
        if not isinstance(trained, SelfConditioned) or trained.kind == "hidden":
            if self.momentum or self.self_guidance:
                name = "momentum" if self.momentum else "self_guidance"
                raise ValueError(f"{name} needs a model that is self-conditioned on its estimate")
            return ClassifierFree(trained, self.guidance) if guide else trained
        core = ClassifierFree(trained.denoiser, self.guidance) if guide else trained.denoiser
        if self.self_guidance:
            return SelfGuided(core, self.self_guidance, limit=trained.limit)
        momentum = self.momentum or trained.momentum
        return SelfConditioned(core, momentum=momentum, limit=trained.limit)


@dataclass(frozen=True)
class Coding:
    """What samples of a model with discrete latents are told; may be changed for every draw.

    Attributes:
        codes: codes drawn by the run's prior, codes as often as the encoder picks them, each latent
            by itself (marginal), or none.
        code_temperature: of the prior's draws, >= 0; 1 is its law, 0 the likeliest one by one.
        code_top_p: mass of the nucleus of each of them, in (0, 1].
        code_guidance: guidance scale of the codes; 1 is conditional, 0 without. The paper's cfg is
            scale - 1.
        evaluations: of the network, for which `evaluate` compares samples that are told other
            codes; odd numbers from 3 on, none for no comparison.

    Raises:
        ValueError: an option is out of range.
    """

    codes: Literal["prior", "marginal", "none"] = "prior"
    code_temperature: float = 1.0
    code_top_p: float = 1.0
    code_guidance: float = 1.0
    evaluations: tuple[int, ...] = (5, 9, 19, 39, 79)

    def __post_init__(self) -> None:
        if not math.isfinite(self.code_guidance):
            raise ValueError(f"code_guidance must be a number, got {self.code_guidance}")
        if not 0 <= self.code_temperature < math.inf:
            raise ValueError(f"code_temperature must be at least 0, got {self.code_temperature}")
        if not 0 < self.code_top_p <= 1:
            raise ValueError(f"code_top_p must be in (0, 1], got {self.code_top_p}")
        object.__setattr__(self, "evaluations", tuple(self.evaluations))  # files have lists
        if any(calls < 3 or calls % 2 == 0 for calls in self.evaluations):
            raise ValueError(
                f"evaluations must be odd numbers from 3 on, got {list(self.evaluations)}"
            )


@dataclass(frozen=True)
class Planning:
    """How plans are made and followed by a recipe that acts; may be changed for every evaluation.

    Attributes:
        deadline: share of the horizon after which an episode's first plan rests at the goal: these
            tokens are known, the others are drawn to go with them. Later plans have what is left
            of it, but a quarter of the horizon at least, or the deadline itself if that is less.
            0: the end of a plan is open.
        arrival: when plans with a known end rest at the goal: from the deadline on (deadline), or,
            for every task by itself, as early as the recording allows (earliest): arrivals are
            tried from soon to late until a plan keeps to places and paces that were recorded.
        goal_guidance: besides: none, gradient (of the reward of the estimate), or monte-carlo (of
            the mean reward of sampled futures).
        goal_scale: of the guidance; 0 is none.
        goal_begin: time from which on tokens are guided (`RewardGuided`).
        goal_rounds: towards where the reward and what the model knows balance, each a backward
            pass; 0 for the plain gradient, which overshoots (`guidance.balance`).
        futures: sampled by monte-carlo for each plan and step.
        future_steps: rows of the plan by which a future is completed. Few rows spread futures too
            little: on a Gaussian of 17 tokens 4 leave 0.37 of the variance, 20 leave 0.77.
        control: what is done about a plan: its own actions, or a PD law on its positions and
            velocities (positions).
        replan: steps from one plan to the next.

    Raises:
        ValueError: an option is out of range.
    """

    deadline: float = 0.6
    arrival: Literal["deadline", "earliest"] = "deadline"
    goal_guidance: Literal["none", "gradient", "monte-carlo"] = "none"
    goal_scale: float = 30.0
    goal_begin: float = 0.95
    goal_rounds: int = 4
    futures: int = 8
    future_steps: int = 4
    control: Literal["actions", "positions"] = "positions"
    replan: int = 10

    def __post_init__(self) -> None:
        for name in ("futures", "future_steps", "replan"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.deadline <= 1:
            raise ValueError(f"deadline is a share of the horizon, got {self.deadline}")
        if not 0 <= self.goal_scale < math.inf:
            raise ValueError(f"goal_scale must be at least 0, got {self.goal_scale}")
        if self.arrival == "earliest" and not self.deadline:
            raise ValueError("arrival earliest is of plans with a known end: give a deadline")
        if self.goal_rounds < 0:
            raise ValueError(f"goal_rounds must be at least 0, got {self.goal_rounds}")
        if not 0 <= self.goal_begin <= 1:
            raise ValueError(f"goal_begin is a time in [0, 1], got {self.goal_begin}")


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
