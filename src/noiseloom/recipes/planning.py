"""The options of recipes that plan and act."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn

from noiseloom.diffusion import GaussianDiffusion
from noiseloom.guidance import MonteCarloGuided, RewardGuided, completing
from noiseloom.guidance.gradient import Reward
from noiseloom.plan import SamplingPlan
from noiseloom.plan_file import PLAN_FILES

__all__ = ["Leading", "Planning"]

GUIDANCE = ("goal_scale", "goal_begin", "goal_rounds", "seek")
FUTURES = ("futures", "future_plan", "future_steps", "future_noise")


@dataclass(frozen=True)
class Leading:
    """How plans are led, and made anew; may be changed for every draw.

    Attributes:
        deadline: share of the horizon after which an episode's first plan rests at the goal: these
            tokens are known, the others are drawn to go with them. Later plans have what is left
            of it, but a quarter of the horizon at least, or the deadline itself if that is less.
            0: the end of a plan is open.
        goal_guidance: besides: none, gradient (of the reward of the estimate), or monte-carlo (of
            the mean reward of sampled futures).
        seek: what guidance climbs: how near a plan keeps to the goal (goal), the sum of the
            rewards that are modelled (rewards), or the sum of both (both); auto is the goal where
            one is given, and else the rewards.
        goal_scale: of the guidance; 0 is none. Both rewards are means over the steps of a plan, in
            deviations of the data.
        goal_begin: time from which on tokens are guided (`RewardGuided`).
        goal_rounds: towards where the reward and what the model knows balance, each a backward
            pass; 0 for the plain gradient, which overshoots (`guidance.balance`).
        futures: sampled by monte-carlo for each plan and step.
        future_plan: the order in which a future's tokens become certain, each given what is known
            of the others by then: full-sequence, autoregressive (one after the other), pyramid:U,
            trapezoid:U or chunked:N; auto is autoregressive for a causal network, which is right in
            no other order, and full-sequence for another. It is cut at the noise of the present.
        future_steps: of a future's tokens, each; null for 16 by full-sequence, 4 by autoregressive,
            which takes T times the calls, and 8 by others.
        future_noise: that futures are drawn with, DDPM's variances: large or small. On a Gaussian
            of 17 tokens these steps keep 0.91 to 0.99, 0.70 to 0.96 and (pyramid:1) 0.91 to 1.03
            of the variance with large, and 0.67 to 0.76, 0.23 to 0.40 and 0.49 to 0.62 with small
            (`guidance.completing`).
        replan: steps from one plan to the next; null for a sixth of the horizon, in whole tokens: a
            plan that is made anew too often is put off (docs/results.md).

    Raises:
        ValueError: an option is out of range.
    """

    deadline: float = 0.0
    goal_guidance: Literal["none", "gradient", "monte-carlo"] = "none"
    seek: Literal["auto", "goal", "rewards", "both"] = "auto"
    goal_scale: float = 30.0
    goal_begin: float = 0.95
    goal_rounds: int = 4
    futures: int = 8
    future_plan: str = "auto"
    future_steps: int | None = None
    future_noise: Literal["large", "small"] = "large"
    replan: int | None = None

    def __post_init__(self) -> None:
        for name in ("futures", "future_steps", "replan"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.deadline <= 1:
            raise ValueError(f"deadline is a share of the horizon, got {self.deadline}")
        if not 0 <= self.goal_scale < math.inf:
            raise ValueError(f"goal_scale must be at least 0, got {self.goal_scale}")
        if self.goal_rounds < 0:
            raise ValueError(f"goal_rounds must be at least 0, got {self.goal_rounds}")
        if not 0 <= self.goal_begin <= 1:
            raise ValueError(f"goal_begin is a time in [0, 1], got {self.goal_begin}")

    def idle_by_guidance(self, rewards: bool) -> dict[str, str]:
        """Options that change nothing of what is guided, or not (`Recipe.idle`).

        Args:
            rewards: whether the model has learnt them.
        """
        if self.goal_guidance == "none":
            return dict.fromkeys(GUIDANCE + FUTURES, "plans without guidance (goal_guidance none)")
        for name in ("goal_scale", "goal_begin"):  # of which one says it, where both are 0
            if not getattr(self, name):
                others = [other for other in GUIDANCE + FUTURES if other != name]
                return dict.fromkeys(others, f"guidance that is none ({name} 0)")
        found = {}
        if not rewards and self.seek in ("auto", "goal"):
            found["seek"] = "plans of a model without rewards"
        if self.seek == "rewards":  # their gradient is the same wherever a round has come to
            found["goal_rounds"] = "guidance by rewards alone, which are added up (seek rewards)"
        if self.goal_guidance == "gradient":
            found |= dict.fromkeys(FUTURES, "guidance without futures (goal_guidance gradient)")
        elif Path(self.future_plan).suffix in PLAN_FILES:
            found["future_steps"] = "futures by a plan from a file"
        elif self.future_steps == 1:
            alike = "futures of one step, which has no noise"
            found |= {"futures": alike, "future_noise": alike}
        return found

    def lead(
        self, denoiser: nn.Module, diffusion: GaussianDiffusion, reward: Reward, plan: SamplingPlan
    ) -> nn.Module:
        """The denoiser, led to where a reward of clean tokens is larger.

        Args:
            denoiser: what is led.
            diffusion: what noise is.
            reward: of clean tokens (B, T, F), shape (B,).
            plan: by which futures are completed.
        """
        options: dict[str, Any] = {"begin": self.goal_begin, "rounds": self.goal_rounds}
        if self.goal_guidance == "gradient":
            return RewardGuided(denoiser, diffusion, reward, self.goal_scale, **options)
        return MonteCarloGuided(
            denoiser,
            diffusion,
            reward,
            self.goal_scale,
            futures=self.futures,
            plan=plan,
            solver=completing(self.future_noise),
            **options,
        )


@dataclass(frozen=True)
class Planning(Leading):
    """How plans are made and followed by a recipe that acts; may be changed for every evaluation.

    Attributes:
        arrival: when plans with a known end rest at the goal (with deadline 0 it says nothing): for
            every task by itself, as early as the recording allows (earliest), the earliest arrival
            whose plan keeps to places and paces that were recorded; or from the deadline on
            (deadline), as where plans are drawn without a recording.
        control: what is done about a plan: its own actions, or a PD law on its positions and
            velocities (positions).
    """

    arrival: Literal["deadline", "earliest"] = "earliest"
    control: Literal["actions", "positions"] = "positions"
