"""The options of recipes that plan and act."""

import math
from dataclasses import dataclass
from typing import Literal

__all__ = ["Planning"]


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
