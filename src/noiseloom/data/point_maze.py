"""A point mass in a maze, simulated: data from a controller, and episodes to judge planners by.

The dynamics are those of PointMaze_{UMaze,Medium,Large}-v3 of gymnasium-robotics (the extra `sim`),
bit for bit: its MuJoCo model is stepped directly, 100 steps a simulated second, which is several
times as fast as its environment. Nothing is drawn, and no display is needed.
"""

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from noiseloom.data.maze import (
    Maze,
    Policy,
    Tasks,
    random_policy,
    straight_policy,
    waypoint_action,
    waypoint_policy,
)
from noiseloom.data.trajectories import Trajectories
from noiseloom.rng import Rng

__all__ = ["Baselines", "Episodes", "Simulation", "baselines", "episodes", "recording"]

NOISE = 0.1
NEAR = 0.45  # PointMaze: where a goal is reached, and the next one is set
REWARDED = 0.5  # D4RL's maze2d
FASTEST = 5.0  # PointMaze: velocities are clipped to this before a step
BLOCK = 10_000


class Simulation:
    """One point mass in a maze.

    Args:
        maze: where.

    Raises:
        ImportError: the extra `sim` is missing.
    """

    def __init__(self, maze: Maze) -> None:
        self._mujoco, self._model = _model(maze.name)
        self._data = self._mujoco.MjData(self._model)
        # Views of the simulator's memory: fetching them anew would take half of a step's time.
        self._position, self._velocity = self._data.qpos, self._data.qvel
        self._force = self._data.ctrl

    def place(self, x: float, y: float) -> list[float]:
        """Put it somewhere, at rest, and forget what was; returns x, y, vx, vy."""
        self._mujoco.mj_resetData(self._model, self._data)
        self._position[:] = x, y
        return [x, y, 0.0, 0.0]

    def step(self, action: Any) -> list[float]:  # noqa: ANN401
        """Push it for a hundredth of a second with a force in [-1, 1]^2; returns x, y, vx, vy."""
        if max(map(abs, self._velocity.tolist())) > FASTEST:
            self._velocity[:] = np.clip(self._velocity, -FASTEST, FASTEST)
        self._force[:] = action
        self._mujoco.mj_step(self._model, self._data)
        state: list[float] = self._position.tolist() + self._velocity.tolist()
        return state


def recording(maze: Maze, steps: int, rng: Rng, stay: int = 0) -> Iterator[Trajectories]:
    """Record the waypoint controller in one episode without end, in pieces for `joined`.

    Whenever it is within 0.45 of its goal, which earns a reward of 1, the next goal is set, within
    0.25 of the centre of a random cell (a continuing task with a target that is reset, as PointMaze
    has it). With `stay` it keeps to each goal for a while, 0 to `stay` more steps within 0.45 of
    it, so that staying is something that the data know. Its forces have normal noise of 0.1.

    Args:
        maze: where.
        steps: how many; the first of them do not depend on it.
        rng: decides start, goals, how long it stays, and noise.
        stay: most steps that it stays at a goal.

    Raises:
        ImportError: the extra `sim` is missing.
        ValueError: no steps, or less than none to stay.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    if stay < 0:
        raise ValueError(f"stay must be at least 0, got {stay}")
    simulation = Simulation(maze)
    state = simulation.place(*_anywhere(maze, rng.fold("start")))
    number = 0
    goal, left = _anywhere(maze, rng.fold("goal", number)), _patience(stay, rng, number)
    for first in range(0, steps, BLOCK):
        count = min(BLOCK, steps - first)
        noise = (NOISE * rng.fold("noise", first // BLOCK).normal((count, 2))).tolist()
        observations = np.empty((count, 4), np.float32)
        actions, goals = np.empty((count, 2), np.float32), np.empty((count, 2), np.float32)
        rewards = np.zeros(count, np.float32)
        for i in range(count):
            while (near := _distance(state, goal) <= NEAR) and not left:
                number += 1
                goal, left = _anywhere(maze, rng.fold("goal", number)), _patience(stay, rng, number)
            left -= near
            observations[i], goals[i] = state, goal
            actions[i] = waypoint_action(maze, state, goal, noise[i])
            state = simulation.step(actions[i])  # as it is kept, rounded: a replay is exact
            rewards[i] = _distance(state, goal) <= NEAR
        yield Trajectories(
            torch.from_numpy(observations),
            torch.from_numpy(actions),
            torch.from_numpy(rewards),
            torch.from_numpy(goals),
            about={"maze": maze.name, "controller": "waypoints", "stay": str(stay)},
        )


@dataclass(frozen=True, eq=False)
class Episodes:
    """What became of n tasks within T steps.

    Attributes:
        observations: float32, shape (n, T + 1, 4), the start included.
        rewards: float32, shape (n, T): 1 in each step that ends within 0.5 of the goal.
    """

    observations: Tensor
    rewards: Tensor

    @property
    def positions(self) -> Tensor:
        """Shape (n, T + 1, 2)."""
        return self.observations[..., :2]

    @property
    def returns(self) -> Tensor:
        """Sum of the rewards, shape (n,)."""
        return self.rewards.sum(1)

    @property
    def reached(self) -> Tensor:
        """Steps it took to come within 0.5 of the goal, int64, shape (n,); -1 if it never did."""
        first = self.rewards.argmax(1) + 1
        return torch.where(self.rewards.any(1), first, -1)

    @property
    def returns_if_stayed(self) -> Tensor:
        """The returns, had each stayed where it first was within 0.5 of its goal, shape (n,)."""
        steps = self.rewards.shape[1]
        return torch.where(self.reached > 0, steps - self.reached + 1, 0).float()


def episodes(maze: Maze, policy: Policy, tasks: Tasks, steps: int | None = None) -> Episodes:
    """Let a policy try tasks, side by side, so that a planner can work on them as one batch.

    Args:
        maze: where.
        policy: called in each step (0, 1, ...) with all observations, as float32 on the CPU; forces
            beyond [-1, 1] are clipped.
        tasks: from where to where.
        steps: of each episode, without a stop at the goal; by default the maze's.

    Raises:
        ImportError: the extra `sim` is missing.
        ValueError: a start or goal in a wall, or actions of another shape or not finite.
    """
    maze.check_free("start", tasks.starts)
    maze.check_free("goal", tasks.goals)
    steps = maze.steps if steps is None else steps
    simulations = [Simulation(maze) for _ in range(len(tasks))]
    pairs = zip(simulations, tasks.starts.tolist(), strict=True)
    states = torch.tensor([simulation.place(*start) for simulation, start in pairs])
    seen = [states]
    for step in range(steps):
        actions = policy(step, states, tasks.goals).detach().cpu()
        if actions.shape != tasks.goals.shape or not actions.isfinite().all():
            raise ValueError(
                f"a policy must give finite actions of shape {tuple(tasks.goals.shape)}, in step "
                f"{step} it gave {tuple(actions.shape)}"
            )
        moves = zip(simulations, actions.clamp(-1, 1).tolist(), strict=True)
        states = torch.tensor([simulation.step(action) for simulation, action in moves])
        seen.append(states)
    observations = torch.stack(seen, 1)
    away = (observations[:, 1:, :2] - tasks.goals[:, None]).norm(dim=-1)
    return Episodes(observations, (away <= REWARDED).float())


@dataclass(frozen=True)
class Baselines:
    """Mean returns over some tasks: scores are measured between the first two.

    Attributes:
        random: of uniform forces.
        waypoint: of the controller.
        straight: of whoever drives straight at the goal, walls or not.
    """

    random: float
    waypoint: float
    straight: float

    def normalised(self, score: float) -> float:
        """100 (score - random) / (waypoint - random)."""
        return 100 * (score - self.random) / (self.waypoint - self.random)


def baselines(maze: Maze, tasks: Tasks, rng: Rng, steps: int | None = None) -> Baselines:
    """The baselines' mean returns over tasks; `rng` decides the random forces."""
    policies = random_policy(rng), waypoint_policy(maze), straight_policy
    means = (episodes(maze, policy, tasks, steps).returns.mean().item() for policy in policies)
    return Baselines(*means)


@cache
def _model(name: str) -> tuple[Any, Any]:
    """MuJoCo and its model of a maze."""
    try:
        # On import notices are printed, of environments that have nothing to do with mazes.
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            import mujoco
            from gymnasium_robotics.envs.maze.point_maze import PointMazeEnv
    except ImportError as error:
        raise ImportError(
            "mazes are simulated with the extra noiseloom[sim]: pip install 'noiseloom[sim]'"
        ) from error
    environment = PointMazeEnv(Maze(name).walls.astype(int).tolist())
    Path(environment.tmp_xml_file_path).unlink(missing_ok=True)
    environment.close()
    return mujoco, environment.model


def _anywhere(maze: Maze, rng: Rng) -> list[float]:
    """Within 0.25, on each axis, of the centre of a random free cell; in single precision."""
    cell, right, up = rng.uniform((3,)).tolist()
    x, y = maze.xy(maze.free[int(cell * len(maze.free))])
    place: list[float] = torch.tensor((x + (right - 0.5) / 2, y + (up - 0.5) / 2)).tolist()
    return place


def _patience(stay: int, rng: Rng, number: int) -> int:
    """How many steps the goal of this number is stayed at, 0 to `stay`."""
    return int(float(rng.fold("stay", number).uniform(())) * (stay + 1)) if stay else 0


def _distance(state: list[float], goal: list[float]) -> float:
    return float(((state[0] - goal[0]) ** 2 + (state[1] - goal[1]) ** 2) ** 0.5)
