"""The mazes of PointMaze and D4RL's maze2d: walls, shortest paths, a controller, tasks.

A maze is a grid of unit cells around the origin: x grows with the column, y falls with the row.
What moves in it is a point mass with an observation (x, y, vx, vy) and a force (ax, ay) in
[-1, 1]^2. Nothing here needs the simulator, which is in `noiseloom.data.point_maze`.

J. Fu, A. Kumar, O. Nachum, G. Tucker, S. Levine, 2020, "D4RL: Datasets for Deep Data-Driven
Reinforcement Learning", arXiv 2004.07219.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noiseloom.rng import Rng

__all__ = [
    "MAZES",
    "Cell",
    "Maze",
    "Policy",
    "Tasks",
    "random_policy",
    "straight_policy",
    "tasks",
    "waypoint_action",
    "waypoint_policy",
]

Cell: TypeAlias = tuple[int, int]
"""Row and column."""

Policy: TypeAlias = Callable[[int, Tensor, Tensor], Tensor]
"""From the number of the step, observations (n, 4) and goals (n, 2) to actions (n, 2)."""

MAZES = {
    "umaze": (300, "#####  #G..#  ###.#  #...#  #####"),
    "medium": (
        600,
        "########  #..##..#  #..#...#  ##...###  #..#...#  #.#..#.#  #...#.G#  ########",
    ),
    "large": (
        800,
        "############  #....#.....#  #.##.#.#.#.#  #......#...#  #.####.###.#  #..#.#.....#  "
        "##.#.#.#.###  #..#...#.G.#  ############",
    ),
}
"""By name: steps of an episode, and rows of walls (#), with the goal (G) of maze2d."""

_AROUND = ((0, 1), (1, 0), (0, -1), (-1, 0))
_GAIN, _DAMPING = 10.0, 1.0


class Maze:
    """One of the three mazes.

    Args:
        name: umaze, medium or large.

    Attributes:
        name: its name.
        steps: steps of an episode (D4RL and PointMaze v3).
        walls: bool, shape (rows, columns).
        free: the cells without a wall, row by row.
        goal: the cell that maze2d's single task aims at.

    Raises:
        ValueError: another name.

    Example:
        >>> Maze("umaze").path((1, 1), (3, 1))
        [(1, 1), (1, 2), (1, 3), (2, 3), (3, 3), (3, 2), (3, 1)]
    """

    name: str
    steps: int
    walls: NDArray[np.bool_]
    free: list[Cell]
    goal: Cell

    def __init__(self, name: str) -> None:
        if name not in MAZES:
            raise ValueError(f"maze must be one of {', '.join(MAZES)}, got {name!r}")
        self.name = name
        self.steps, drawing = MAZES[name]
        cells = np.array([list(row) for row in drawing.split()])
        self.walls = cells == "#"
        self.free = [(int(row), int(column)) for row, column in np.argwhere(~self.walls)]
        self.goal = next(cell for cell in self.free if cells[cell] == "G")
        self._next: dict[Cell, dict[Cell, Cell]] = {}

    def cell(self, x: float, y: float) -> Cell:
        """The cell of a position."""
        rows, columns = self.walls.shape
        return math.floor(rows / 2 - y), math.floor(x + columns / 2)

    def xy(self, cell: Cell) -> tuple[float, float]:
        """The centre of a cell."""
        rows, columns = self.walls.shape
        return cell[1] + 0.5 - columns / 2, rows / 2 - cell[0] - 0.5

    def check_free(self, what: str, places: Tensor) -> None:
        """Raise ValueError if one of places (n, 2), which `what` calls, is not in a free cell."""
        for x, y in places.tolist():
            if not (math.isfinite(x) and math.isfinite(y)):
                raise ValueError(f"a {what} is a finite place, got ({x:g}, {y:g})")
            if self.cell(x, y) not in self.free:
                near = min(map(self.xy, self.free), key=lambda free: math.dist(free, (x, y)))
                raise ValueError(
                    f"{what} ({x:g}, {y:g}) of maze {self.name} is not in a free cell: the nearest "
                    f"one is around ({near[0]:g}, {near[1]:g})"
                )

    def towards(self, goal: Cell) -> dict[Cell, Cell]:
        """For every free cell the next one on a shortest path to `goal`; the goal's is itself.

        Raises:
            ValueError: there is a wall.
        """
        if goal not in self._next:
            if goal not in self.free:
                raise ValueError(f"cell {goal} of maze {self.name} is no free cell")
            found, edge = {goal: goal}, deque([goal])
            while edge:
                row, column = here = edge.popleft()
                for down, right in _AROUND:
                    there = (row + down, column + right)
                    if there not in found and not self.walls[there]:
                        found[there] = here
                        edge.append(there)
            self._next[goal] = found
        return self._next[goal]

    def path(self, start: Cell, goal: Cell) -> list[Cell]:
        """The cells of a shortest path, both ends included (breadth first).

        Raises:
            ValueError: one of them is a wall.
        """
        towards, cells = self.towards(goal), [start]
        if start not in towards:
            raise ValueError(f"cell {start} of maze {self.name} is no free cell")
        while cells[-1] != goal:
            cells.append(towards[cells[-1]])
        return cells


def waypoint_action(
    maze: Maze, state: Sequence[float], goal: Sequence[float], noise: Sequence[float] = (0.0, 0.0)
) -> tuple[float, float]:
    """The force that drives towards the next cell of a shortest path, and in the last to the goal.

    a = clip(clip(10 (w - p) - v) + noise), with w the centre of that cell, or the goal, p the
    position, v the velocity, and clip to [-1, 1].

    Args:
        maze: where.
        state: x, y, vx, vy.
        goal: x, y.
        noise: added to the force, per axis.
    """
    here, last = maze.cell(state[0], state[1]), maze.cell(goal[0], goal[1])
    target: Sequence[float] = goal if here == last else maze.xy(maze.towards(last)[here])
    return (
        _clip(_clip(_GAIN * (target[0] - state[0]) - _DAMPING * state[2]) + noise[0]),
        _clip(_clip(_GAIN * (target[1] - state[1]) - _DAMPING * state[3]) + noise[1]),
    )


@dataclass(frozen=True, eq=False)
class Tasks:
    """Where to start, at rest, and where to go.

    Attributes:
        starts: positions, float32, shape (n, 2).
        goals: positions, float32, shape (n, 2).
    """

    starts: Tensor
    goals: Tensor

    def __len__(self) -> int:
        return len(self.starts)


def tasks(maze: Maze, count: int, rng: Rng, *, multi_goal: bool = False) -> Tasks:
    """Draw tasks as maze2d does: within 0.1 of the centre of a random cell.

    Args:
        maze: where.
        count: how many; task i does not depend on it.
        rng: decides which.
        multi_goal: draw the goal too, in the same way; else it is the centre of maze's `goal`. The
            start is in another cell than the goal.
    """
    keys, free = rng.samples(count), len(maze.free)
    centres = torch.tensor([maze.xy(cell) for cell in maze.free])
    aims = torch.full((count,), maze.free.index(maze.goal))
    if multi_goal:
        aims = keys.fold("goal").integers(free, (count, 1))[:, 0]
    others = keys.fold("start").integers(free - 1, (count, 1))[:, 0]
    starts = others + (others >= aims)
    off = 0.2 * keys.fold("off").uniform((count, 2, 2)) - 0.1
    goals = centres[aims] + (off[:, 1] if multi_goal else 0)
    return Tasks(centres[starts] + off[:, 0], goals)


def waypoint_policy(maze: Maze) -> Policy:
    """The controller, without noise: it goes to the goal and stays there."""

    def act(step: int, observations: Tensor, goals: Tensor) -> Tensor:
        pairs = zip(observations.tolist(), goals.tolist(), strict=True)
        return torch.tensor([waypoint_action(maze, state, goal) for state, goal in pairs])

    return act


def straight_policy(step: int, observations: Tensor, goals: Tensor) -> Tensor:
    """Straight to the goal, into walls if need be: the controller's law without its paths.

    It needs neither data nor a model, and so does whatever has no more than its score.
    """
    position, velocity = observations.chunk(2, -1)
    return (_GAIN * (goals - position) - _DAMPING * velocity).clamp(-1, 1)


def random_policy(rng: Rng) -> Policy:
    """Uniform forces in [-1, 1]^2, each episode with its own draws."""

    def act(step: int, observations: Tensor, goals: Tensor) -> Tensor:
        keys = rng.samples(len(observations)).fold("step", step)
        return 2 * keys.uniform((len(observations), 2)) - 1

    return act


def _clip(force: float) -> float:
    return min(max(force, -1.0), 1.0)
