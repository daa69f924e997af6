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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from noiseloom.arrival import EarliestArrival, Recorded
from noiseloom.data import Split, Trajectories, Windows
from noiseloom.data.maze import Maze, tasks
from noiseloom.noise import Schedule
from noiseloom.plan import SamplingPlan
from noiseloom.planning import Replanning
from noiseloom.recipes.forcing_trajectories import ForcingTrajectories
from noiseloom.recipes.planning import Planning
from noiseloom.recipes.recipe import Drawing, Facts, Findings, Given, Task
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
    deadline: float = 0.6

    def __post_init__(self) -> None:
        super().__post_init__()
        Planning.__post_init__(self)
        if self.context != 1:
            raise ValueError(f"context is 1: a maze is observed whole, got {self.context}")
        if self.every > self.ahead:
            raise ValueError(f"replan must be at most horizon = {self.ahead}, got {self.every}")

    @property
    def idle(self) -> Mapping[str, str]:
        """As of trajectories, and when to arrive where the end is open."""
        open_ = {} if self.deadline else {"arrival": "plans with an open end (deadline 0)"}
        return {**super().idle, **open_}

    def unused(self, task: Task, *, goal: bool = True) -> Mapping[str, str]:
        """What is for driving, of plans that are drawn alone, and the deadline of the earliest."""
        if task == "sample":
            driving = ("replan", "arrival", "control")
            return {**self.idle, **dict.fromkeys(driving, "plans that are drawn, and not driven")}
        if not self.deadline or self.arrival == "deadline":
            return self.idle
        return {
            **self.idle,
            "deadline": "plans that arrive as early as they can (arrival earliest)",
        }

    @property
    def ahead(self) -> int:
        """H, steps of a plan."""
        return self.horizon or HORIZONS.get(self.maze, self.stack)

    @property
    def plans(self) -> int:
        """Plans of an episode."""
        return math.ceil(Maze(self.maze).steps / self.every)

    @property
    def share_of_ends(self) -> float:
        """Half of the windows, unless `known_ends` says otherwise."""
        return 0.5 if self.known_ends is None else self.known_ends

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

    def whereabouts(self, given: Given, step: Drawing) -> str:
        """The plan of an episode that it makes."""
        return f"plan {int(given['plan'][0]) + 1} of {self.plans}" if "plan" in given else ""

    def whole_plan(self, schedule: Schedule, end: int | None = None) -> SamplingPlan:
        """As that of trajectories; by default of an episode's first plan."""
        return super().whole_plan(schedule, self.ending(0) if end is None else end)

    @property
    def arrivals(self) -> list[int]:
        """Steps after which a plan may be to rest: more and more of them, by a third or a half."""
        counts = sorted({2**i * j // 2 for i in range(20) for j in (2, 3)})
        return [self.stack * n for n in counts if n <= self.tokens - 2]

    def check_places(self, given: Given) -> None:
        """Raise ValueError for a start or a goal that is in a wall, or nowhere."""
        maze = Maze(self.maze)
        maze.check_free("start", given["observations"][:, -1, :2])
        if "goal" in given:
            maze.check_free("goal", given["goal"])

    def goals(self, given: Given, D: int) -> Tensor | None:
        """As `Goals` has them, of {"goal" (B, 2)}: velocities are open.

        Raises:
            ValueError: a start or a goal in a wall.
        """
        self.check_places(given)
        if "goal" not in given:
            return None
        goal = given["goal"]
        return torch.cat((goal, torch.full_like(goal, math.nan)), 1)

    def names(self, facts: Facts) -> list[str]:
        """Of place and velocity."""
        return ["x", "y", "vx", "vy"]

    def start(self, numbers: Tensor) -> Tensor:
        """At rest, if only a place is told.

        Raises:
            ValueError: no place.
        """
        if numbers[:2].isnan().any():
            pairs = zip(self.names({}), numbers.tolist(), strict=True)
            said = ", ".join(f"{name} = {value:g}" for name, value in pairs if value == value)
            raise ValueError(
                "a start in a maze is a place: --start x,y, or x,y,vx,vy where it moves, got "
                f"{said} alone"
            )
        return super().start(torch.cat((numbers[:2], numbers[2:].nan_to_num(0.0))))

    def aim(self, numbers: Tensor | None) -> Tensor | None:
        """The place, by default the maze's goal.

        Raises:
            ValueError: no place, or a velocity.
        """
        if numbers is None:
            maze = Maze(self.maze)
            return torch.tensor(maze.xy(maze.goal))
        if numbers[:2].isnan().any() or not numbers[2:].isnan().all():
            raise ValueError("a goal in a maze is a place: --goal x,y")
        return numbers[:2]

    def end_columns(self, facts: Facts) -> int:
        """Forces, too."""
        return 6

    def at_rest(self, goals: Tensor, facts: Facts) -> Tensor:
        """With neither velocity nor force."""
        rest = torch.cat((goals[:, :2], goals.new_zeros(len(goals), 4)), 1)
        return super().at_rest(rest, facts)

    def asked(self, data: Windows, rows: Tensor, paths: int) -> dict[str, Tensor]:
        """As `ForcingTrajectories` asks, with the maze's goal."""
        given = super().asked(data, rows, paths)
        goal = self.aim(None)
        assert goal is not None
        return {**given, "goal": goal.expand(len(given["observations"]), 2)}

    def planner(self, draw: Callable[..., Tensor], data: Windows | None = None) -> Replanning:
        """The policy that plans with `draw`.

        Args:
            draw: from what is known to plans, such as `run.samples`.
            data: what was recorded, for arrivals that are as early as that allows; without it plans
                arrive at the deadline.
        """

        def plan(number: int, observations: Tensor, goals: Tensor, **more: Tensor) -> Tensor:
            given = {"observations": observations[:, None], "goal": goals, **more}
            return draw({**given, "plan": torch.full((len(goals),), number)})[..., :6]

        if self.arrival == "deadline" or not self.deadline or data is None:
            return Replanning(plan, every=self.every, control=self.control)
        recorded = Recorded(data, 2, self.stack, Rng(self.seed).fold("recorded"))

        def aimed(
            number: int, observations: Tensor, goals: Tensor, arrive: Tensor, task: Tensor
        ) -> Tensor:
            return plan(number, observations, goals, arrive=arrive, index=task)

        def strayed(observations: Tensor, plans: Tensor, arrive: Tensor) -> Tensor:
            return recorded.strayed(observations[:, :2], plans[..., :2], arrive)

        earliest = EarliestArrival(aimed, strayed, self.arrivals, every=self.every)
        return Replanning(earliest, every=self.every, control=self.control)

    def evaluate(self, draw: Callable[..., Tensor], data: Split[Any], rng: Rng) -> dict[str, float]:
        """Returns and latencies of driving, all tasks of a kind side by side.

        Of each kind, single and multi: "score", the mean return with random forces at 0 and the
        controller at 100, and "stayed", what it were had each stayed where it first was within 0.5
        of its goal; "return" beside theirs (_random, _waypoint); "reached", the share that came
        there; "ms_per_plan" and "ms_per_step" of all tasks together; and "ms_per_plan_alone", of
        one task by itself. Whoever drives straight at the goal, walls or not, stands beside score
        and return (_straight): only what is above that was planned. Of an evaluation that is
        interrupted the kinds that are finished are kept.
        """
        from noiseloom.data.point_maze import baselines, episodes

        maze, report = Maze(self.maze), {"n": float(self.samples)}

        def drive(kind: str) -> tuple[Tensor, Tensor]:
            """Adds all of a kind or nothing; returns a start and a goal of it."""
            keys = rng.fold(kind)
            asked = tasks(maze, self.samples, keys.fold("tasks"), multi_goal=kind == "multi")
            planner = self.planner(draw, data.train)
            made = episodes(maze, planner, asked)
            between = baselines(maze, asked, keys.fold("random"))
            mean, stayed = float(made.returns.mean()), float(made.returns_if_stayed.mean())
            report.update(
                {
                    f"score_{kind}": between.normalised(mean),
                    f"score_{kind}_straight": between.normalised(between.straight),
                    f"stayed_{kind}": between.normalised(stayed),
                    f"return_{kind}": mean,
                    f"return_{kind}_random": between.random,
                    f"return_{kind}_waypoint": between.waypoint,
                    f"return_{kind}_straight": between.straight,
                    f"reached_{kind}": float((made.reached > 0).double().mean()),
                    **{f"{name}_{kind}": value for name, value in planner.latency.items()},
                }
            )
            return made.observations[:1, 0], asked.goals[:1]

        drive("single")
        try:
            task = drive("multi")
            alone = self.planner(draw, data.train)
            for _ in range(3):
                alone(0, *task)
            report["ms_per_plan_alone"] = alone.latency["ms_per_plan"]
        except KeyboardInterrupt:
            cut = {"timings": (2, 3)} if "score_multi" in report else {"kinds": (1, 2)}
            return Findings(report, {}, cut)
        return report
