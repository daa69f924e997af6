"""Mazes as grids: shortest paths against Floyd and Warshall, the controller's law, tasks."""

import itertools

import numpy as np
import pytest
import torch

from noiseloom.data.maze import (
    MAZES,
    Maze,
    random_policy,
    straight_policy,
    tasks,
    waypoint_action,
    waypoint_policy,
)
from noiseloom.rng import Rng


@pytest.fixture(params=list(MAZES))
def maze(request):
    return Maze(request.param)


def distances(walls):
    """Between all cells, infinite where there is no way: R. Floyd, S. Warshall, 1962."""
    rows, columns = walls.shape
    cells = [(i, j) for i in range(rows) for j in range(columns)]
    apart = np.abs(np.array(cells)[:, None] - np.array(cells)).sum(-1)
    free = ~walls.flatten()
    d = np.where((apart <= 1) & free[:, None] & free, apart, np.inf)
    for k in range(len(cells)):
        d = np.minimum(d, d[:, k, None] + d[k])
    return d.reshape(rows, columns, rows, columns)


def test_paths_are_the_shortest(maze):
    d = distances(maze.walls)
    for start in maze.free:
        for goal in maze.free:
            path = maze.path(start, goal)
            assert (path[0], path[-1]) == (start, goal)
            assert len(path) - 1 == d[start + goal]
            assert not any(maze.walls[cell] for cell in path)
            assert all(d[a + b] == 1 for a, b in itertools.pairwise(path))


def test_walls_are_closed_and_goals_free(maze):
    border = [maze.walls[0], maze.walls[-1], maze.walls[:, 0], maze.walls[:, -1]]
    assert all(side.all() for side in border)
    assert maze.goal in maze.free
    assert len(maze.free) == (~maze.walls).sum()


def test_cells_and_positions(maze):
    for cell in maze.free:
        x, y = maze.xy(cell)
        for right, up in ((0, 0), (0.49, 0.49), (-0.49, 0.49), (0.49, -0.49)):
            assert maze.cell(x + right, y + up) == cell
    rows, columns = maze.walls.shape
    assert maze.xy(((rows - 1) / 2, (columns - 1) / 2)) == (0, 0)


def test_no_way_through_walls(maze):
    with pytest.raises(ValueError, match="is no free cell"):
        maze.path((0, 0), maze.goal)
    with pytest.raises(ValueError, match="is no free cell"):
        maze.path(maze.goal, (0, 0))
    with pytest.raises(ValueError, match="one of umaze, medium, large, got 'tiny'"):
        Maze("tiny")


def test_the_controller_is_a_pd_law_along_the_path():
    maze = Maze("umaze")
    x, y = maze.xy((1, 1))
    goal = maze.xy((3, 1))
    # Off the centre of the first cell, it aims at the centre of the second, to the right.
    assert waypoint_action(maze, (x, y + 0.03, 0, 0), goal) == (1, pytest.approx(-0.3))
    assert waypoint_action(maze, (x, y + 0.03, 9.5, 0.2), goal) == pytest.approx((0.5, -0.5))
    # In the last cell it aims at the goal itself.
    near = (goal[0] + 0.3, goal[1] - 0.3)
    assert waypoint_action(maze, (*near, 0.1, 0.1), (near[0] + 0.01, near[1])) == pytest.approx(
        (0.0, -0.1)
    )
    # Noise comes after the first clip and before the second.
    assert waypoint_action(maze, (x, y, 0, 0), goal, (-0.25, 0.25)) == pytest.approx((0.75, 0.25))
    assert waypoint_action(maze, (x, y, 0, 0), goal, (0.25, -5)) == (1, -1)


@pytest.mark.parametrize("multi_goal", [False, True])
def test_tasks_start_and_end_in_free_cells(maze, multi_goal):
    found = tasks(maze, 300, Rng(3), multi_goal=multi_goal)
    starts, goals = (
        [maze.cell(*position) for position in positions.tolist()]
        for positions in (found.starts, found.goals)
    )
    assert set(starts) <= set(maze.free)
    assert all(start != goal for start, goal in zip(starts, goals, strict=True))
    # Each free cell but the goal's, 300 draws, chance to miss one of 45 below 0.2 %.
    assert len(set(starts)) == len(maze.free) - (not multi_goal)
    centres = torch.tensor([maze.xy(cell) for cell in starts])
    assert 0.09 < (found.starts - centres).abs().max() <= 0.1 + 1e-6
    if multi_goal:
        assert set(goals) == set(maze.free)
    else:
        assert found.goals.unique(dim=0).tolist() == [list(maze.xy(maze.goal))]


def test_a_task_does_not_depend_on_how_many_there_are(maze):
    few, many = (tasks(maze, count, Rng(3), multi_goal=True) for count in (5, 50))
    assert torch.equal(few.starts, many.starts[:5])
    assert torch.equal(few.goals, many.goals[:5])
    assert not torch.equal(few.starts, tasks(maze, 5, Rng(4), multi_goal=True).starts)


def test_policies_act_on_a_batch_as_on_each(maze):
    found = tasks(maze, 20, Rng(3), multi_goal=True)
    states = torch.cat((found.starts, Rng(4).normal((20, 2))), 1)
    for policy in (waypoint_policy(maze), random_policy(Rng(5)), straight_policy):
        actions = policy(7, states, found.goals)
        assert torch.equal(policy(7, states[:3], found.goals[:3]), actions[:3])
        assert actions.abs().max() <= 1
    forces = random_policy(Rng(5))(0, torch.zeros(4000, 4), torch.zeros(4000, 2))
    assert abs(forces.mean()) < 5 * (1 / 3 / 8000) ** 0.5
    assert abs(forces.square().mean() - 1 / 3) < 5 * (4 / 45 / 8000) ** 0.5
    assert not torch.equal(forces, random_policy(Rng(5))(1, torch.zeros(4000, 4), None))


def test_straight_ahead_is_the_controller_without_its_paths():
    maze = Maze("umaze")
    same_cell, beyond = [-0.9, -0.9, 0.3, -0.2], [-1.0, -1.0, 0.0, 0.0]
    near, far = [-1.1, -1.05], [-1.0, 1.0]  # the second lies behind a wall
    forces = straight_policy(0, torch.tensor([same_cell, beyond]), torch.tensor([near, far]))
    torch.testing.assert_close(forces[0], torch.tensor(waypoint_action(maze, same_cell, near)))
    assert forces[1].tolist() == [0, 1]
    assert waypoint_action(maze, beyond, far) != (0, 1)
