"""Diffusion Forcing as a planner: a point mass in a maze, driven to goals it was never told of.

The model learns how a controller moves between random places and rests there, and knows no goals.
They enter when plans are drawn: as the known end of a plan, which a model with a time per token is
simply given, and as a reward (`noiseloom.planning.goal_reward`). Judged by driving in the
simulator: plan, follow the plan for `replan` steps, plan again. Returns are scaled so that random
forces have 0 and the controller, which knows the walls, 100.

The paper's scores (D4RL, reference returns of another controller; 159.0 of large could not be
reproduced by others, issue 26 of its code) are no anchors for these. Without model or data, driving
straight at the goal has 63 and 80 in umaze (single and multi; 100 tasks of a kind, three seeds), 44
and 52 in medium. By a known end alone, three seeds of 3,000 updates: 90 +- 1 and 88 +- 2 in umaze,
0.99 and 1.00 of the goals reached; by a reward alone 72 and 88. In medium 87 and 80 (one training,
12,000 updates of 256, width 256, depth 6), as full sequences have; windows of independent levels
alone had 26 and 42. In large 42 and 48 with a new plan every 80 steps, no better than straight on
(docs/results.md).
B. Chen et al., 2024, arXiv 2407.01392, Section 4.2, Table 1, Algorithm 2.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from noiseloom.arrival import EarliestArrival, Recorded
from noiseloom.data import Split, Trajectories, Windows
from noiseloom.data.maze import Maze, tasks
from noiseloom.encodings import Standardised
from noiseloom.guidance import MonteCarloGuided, RewardGuided
from noiseloom.noise import Schedule
from noiseloom.plan import SamplingPlan
from noiseloom.planning import Replanning, goal_reward
from noiseloom.recipes.forcing_trajectories import ForcingTrajectories
from noiseloom.recipes.planning import Planning
from noiseloom.recipes.recipe import Drawing, Facts, Given, Parts
from noiseloom.rng import Rng

__all__ = ["ForcingMaze"]

HORIZONS = {"umaze": 160, "medium": 320, "large": 480}
"""Steps that a plan needs to reach any goal, and to stay there for a while."""


@dataclass(frozen=True)
class ForcingMaze(ForcingTrajectories, Planning):
    """Options of `ForcingTrajectories` for mazes, and of `Planning`.

    Attributes:
        maze: that was recorded (`noiseloom record maze`), and is driven in.
        horizon: steps of a plan, a multiple of `stack`; 0 for 160, 320 and 480 by the maze's size.
        samples: tasks of each kind that an evaluation sets: to the maze's goal (single), and to
            goals of their own (multi).
    """

    name: ClassVar[str] = "forcing-maze"
    summary: ClassVar[str] = "plans in a maze, led to goals when they are drawn"

    maze: Literal["umaze", "medium", "large"] = "umaze"
    horizon: int = 0
    stack: int = 10
    network: Literal["causal", "recurrent", "bidirectional"] = "bidirectional"
    rest: float = 0.0
    weight: Literal["target", "min-snr", "fused-snr", "sigmoid"] = "target"
    clock: float = 10.0
    steps: int = 3000
    batch_size: int = 128
    width: int = 128
    depth: int = 4
    samples: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        Planning.__post_init__(self)
        if self.context != 1:
            raise ValueError(f"context is 1: a maze is observed whole, got {self.context}")
        if self.replan > self.ahead:
            raise ValueError(f"replan must be at most horizon = {self.ahead}, got {self.replan}")
        if self.deadline and not self.sees_the_end:
            raise ValueError(
                "a plan is made for its end by a network that sees it: use network bidirectional "
                "and forcing independent or full-sequence, or deadline 0"
            )
        if self.deadline and self.tokens < 3:
            raise ValueError(
                f"a plan with a known end has at least two tokens, got 1 of {self.stack} steps: "
                "raise horizon, or use a smaller stack, or deadline 0"
            )

    @property
    def ahead(self) -> int:
        """H, steps of a plan."""
        return self.horizon or HORIZONS.get(self.maze, self.stack)

    @property
    def plans(self) -> int:
        """Plans of an episode."""
        return math.ceil(Maze(self.maze).steps / self.replan)

    @property
    def sees_the_end(self) -> bool:
        """Whether a token may depend on later ones that are known."""
        return self.network == "bidirectional" and self.forcing != "teacher-forcing"

    def check(self) -> None:
        """Raise ImportError if there is no simulator to be judged in."""
        from noiseloom.data.point_maze import Simulation

        Simulation(Maze(self.maze))

    def check_data(self, found: Trajectories, data: str) -> None:
        """Raise ValueError for what is no recording of this maze."""
        super().check_data(found, data)
        widths = found.observations.shape[1], found.actions.shape[1]
        if widths != (4, 2):
            raise ValueError(
                f"{data} has {widths[0]} observations and {widths[1]} actions a step, a maze has "
                "x, y, vx, vy and two forces: make data with noiseloom record maze"
            )
        if found.about.get("maze", self.maze) != self.maze:
            raise ValueError(f"{data} is of maze {found.about['maze']}: give --maze its name")

    def times(self, clean: Tensor, rng: Rng) -> tuple[Tensor, Tensor | None]:
        """As `ForcingTrajectories` has them, but half of the windows of T > 2 are as plans are.

        Their end, 1 to T - 2 tokens, is known: clean, and does not count. The others are all at one
        time, as in a plan of the whole. Independent times hardly ever show either, and models that
        were trained on them alone plan no long ways (docs/results.md).
        """
        t, counted = super().times(clean, rng)
        if not self.sees_the_end or self.tokens < 3 or counted is None:
            return t, counted
        rng, shape = rng.fold("end"), (len(t),)
        told = rng.fold("told").uniform(shape, device=t.device)[:, None] < 0.5
        length = 1 + rng.fold("length").integers(self.tokens - 2, shape, device=t.device)
        place = torch.arange(self.tokens, device=t.device)
        known = told & (place >= self.tokens - length[:, None])
        t = torch.where(told & (place > 0), t[:, 1:2], t)
        return t.masked_fill(known, 0.0), counted & ~known

    def whereabouts(self, given: Given, step: Drawing) -> str:
        """The plan of an episode that it makes."""
        return f"plan {int(given['plan'][0]) + 1} of {self.plans}" if "plan" in given else ""

    def draw(self, parts: Parts, facts: Facts, given: Given, rng: Rng) -> Iterator[Drawing]:
        """Plans as `ForcingTrajectories` draws them, led to {"goal" (B, 2)}, if there is one.

        Of {"plan" (B,)}, the number of the plan in an episode, each has its own draws.
        """
        if "plan" in given:
            rng = rng.fold("plan", int(given["plan"][0]))
        return super().draw(parts, facts, given, rng)

    def whole_plan(self, schedule: Schedule, end: int | None = None) -> SamplingPlan:
        """As that of trajectories; by default of an episode's first plan."""
        return super().whole_plan(schedule, self.ending(0) if end is None else end)

    def ending(self, plan: int) -> int:
        """How many tokens at the end of an episode's plan number 0, 1, ... are known."""
        if not self.deadline:
            return 0
        left = max(self.deadline * self.ahead - plan * self.replan, self.ahead / 4)
        steps = min(left, self.deadline * self.ahead)
        moving = math.ceil(round(steps / self.stack, 9))  # 0.55 * 200 is a little above 110
        return self.tokens - 1 - min(moving, self.tokens - 2)

    @property
    def arrivals(self) -> list[int]:
        """Steps after which a plan may be to rest: more and more of them, by a third or a half."""
        counts = sorted({2**i * j // 2 for i in range(20) for j in (2, 3)})
        return [self.stack * n for n in counts if n <= self.tokens - 2]

    def end(self, parts: Parts, known: Tensor, given: Given) -> Tensor:
        """At rest at the goal, from the deadline on, or after {"arrive"} steps, the same for all.

        Raises:
            ValueError: a goal that is not finite.
        """
        if "goal" not in given or not self.deadline:
            return known[:, :0]
        goal = given["goal"]
        if not goal.isfinite().all():
            raise ValueError("a goal is a finite place")
        if "arrive" in given:
            count = self.tokens - 1 - int(given["arrive"][0]) // self.stack
        else:
            count = self.ending(int(given["plan"][0]) if "plan" in given else 0)
        rest = torch.cat((goal, goal.new_zeros(len(goal), 4)), 1)  # neither velocity nor force
        token = parts.codec.encode(rest.to(known.device).repeat(1, self.stack)[:, None])
        return token.expand(-1, count, -1)

    def guide(self, denoiser: nn.Module, parts: Parts, given: Given) -> nn.Module:
        """Led to the goals, by the gradient of the reward of the estimate or of sampled futures."""
        if "goal" not in given or self.goal_guidance == "none":
            return denoiser
        assert isinstance(parts.codec, Standardised)
        device = next(parts.denoiser.parameters()).device
        goals = given["goal"].to(device)
        mean, std = (goals.new_tensor(v[:2]) for v in (parts.codec.mean, parts.codec.std))
        aims = (goals - mean) / std

        def reward(tokens: Tensor) -> Tensor:
            return goal_reward(self.steps_of(tokens)[..., :2], aims)

        options: dict[str, Any] = {"begin": self.goal_begin, "rounds": self.goal_rounds}
        if self.goal_guidance == "gradient":
            return RewardGuided(denoiser, parts.diffusion, reward, self.goal_scale, **options)
        make = SamplingPlan.full_sequence
        if self.network != "bidirectional":
            make = SamplingPlan.autoregressive
        return MonteCarloGuided(
            denoiser,
            parts.diffusion,
            reward,
            self.goal_scale,
            futures=self.futures,
            plan=make(self.future_steps, self.tokens),
            **options,
        )

    def asked(self, data: Windows, rows: Tensor, paths: int) -> dict[str, Tensor]:
        """As `ForcingTrajectories` asks, with the maze's goal."""
        given = super().asked(data, rows, paths)
        maze = Maze(self.maze)
        goal = torch.tensor(maze.xy(maze.goal))
        return {**given, "goal": goal.expand(len(given["observations"]), 2)}

    def planner(self, draw: Callable[..., Tensor], data: Windows | None = None) -> Replanning:
        """The policy that plans with `draw`.

        Args:
            draw: from what is known to plans.
            data: what was recorded, for arrivals that are as early as that allows; without it plans
                arrive at the deadline.
        """

        def plan(number: int, observations: Tensor, goals: Tensor, arrive: int = 0) -> Tensor:
            n = len(goals)
            given = {"observations": observations[:, None], "done": observations.new_empty(n, 0, 2)}
            given |= {"goal": goals, "plan": torch.full((n,), number)}
            if arrive:
                given["arrive"] = torch.full((n,), arrive)
            return draw(given)[..., :6]

        if self.arrival == "deadline" or data is None:
            return Replanning(plan, every=self.replan, control=self.control)
        recorded = Recorded(data, 2, self.stack, Rng(self.seed).fold("recorded"))

        def strayed(observations: Tensor, plans: Tensor) -> Tensor:
            return recorded.strayed(observations[:, :2], plans[..., :2])

        earliest = EarliestArrival(plan, strayed, self.arrivals, every=self.replan)
        return Replanning(earliest, every=self.replan, control=self.control)

    def evaluate(self, draw: Callable[..., Tensor], data: Split[Any], rng: Rng) -> dict[str, float]:
        """Returns and latencies of driving, all tasks of a kind side by side.

        Of each kind, single and multi: "score", the mean return with random forces at 0 and the
        controller at 100, and "stayed", what it were had each stayed where it first was within 0.5
        of its goal; "return" beside theirs (_random, _waypoint); "reached", the share that came
        there; "ms_per_plan" and "ms_per_step" of all tasks together; and "ms_per_plan_alone", of
        one task by itself. Whoever drives straight at the goal, walls or not, stands beside score
        and return (_straight): only what is above that was planned.
        """
        from noiseloom.data.point_maze import baselines, episodes

        maze, report = Maze(self.maze), {"n": float(self.samples)}
        for kind in ("single", "multi"):
            keys = rng.fold(kind)
            asked = tasks(maze, self.samples, keys.fold("tasks"), multi_goal=kind == "multi")
            planner = self.planner(draw, data.train)
            made = episodes(maze, planner, asked)
            between = baselines(maze, asked, keys.fold("random"))
            mean, stayed = float(made.returns.mean()), float(made.returns_if_stayed.mean())
            report |= {
                f"score_{kind}": between.normalised(mean),
                f"score_{kind}_straight": between.normalised(between.straight),
                f"stayed_{kind}": between.normalised(stayed),
                f"return_{kind}": mean,
                f"return_{kind}_random": between.random,
                f"return_{kind}_waypoint": between.waypoint,
                f"return_{kind}_straight": between.straight,
                f"reached_{kind}": float((made.reached > 0).double().mean()),
            }
            report |= {f"{name}_{kind}": value for name, value in planner.latency.items()}
        alone = self.planner(draw, data.train)
        for _ in range(3):
            alone(0, made.observations[:1, 0], asked.goals[:1])
        report["ms_per_plan_alone"] = alone.latency["ms_per_plan"]
        return report
