"""The simulated point mass: PointMaze's own dynamics, recordings, episodes and scores."""

from pathlib import Path

import numpy as np
import pytest
import torch

from noiseloom.data import Trajectories
from noiseloom.data.maze import (
    MAZES,
    Maze,
    Tasks,
    random_policy,
    straight_policy,
    tasks,
    waypoint_policy,
)
from noiseloom.data.point_maze import Baselines, Episodes, baselines, episodes, recording
from noiseloom.rng import Rng

gymnasium = pytest.importorskip("gymnasium")
pytest.importorskip("gymnasium_robotics")  # prints a notice on other environments
pytest.importorskip("mujoco")

IDS = {
    "umaze": "PointMaze_UMaze-v3",
    "medium": "PointMaze_Medium-v3",
    "large": "PointMaze_Large-v3",
}


def record(maze, steps, rng, **options):
    return Trajectories.joined(list(recording(maze, steps, rng, **options)))


@pytest.fixture(params=list(MAZES), scope="module")
def maze(request):
    return Maze(request.param)


@pytest.fixture(scope="module")
def recorded(maze):
    return record(maze, 12_000, Rng(0))


@pytest.fixture
def environment(maze):
    made = gymnasium.make(IDS[maze.name], continuing_task=True, reset_target=False).unwrapped
    Path(made.tmp_xml_file_path).unlink()  # it leaves its model behind
    yield made
    made.close()


def test_layout_positions_and_episodes_are_those_of_point_maze(maze, environment):
    assert environment.maze.maze_map == maze.walls.astype(int).tolist()
    assert gymnasium.spec(IDS[maze.name]).max_episode_steps == maze.steps
    for cell in maze.free:
        assert environment.maze.cell_rowcol_to_xy(np.array(cell)).tolist() == list(maze.xy(cell))


def test_a_recording_replayed_in_point_maze_is_the_same_bit_for_bit(maze, recorded, environment):
    seen = recorded.observations
    environment.reset(seed=0)
    point = environment.point_env
    point.set_state(seen[0, :2].double().numpy(), np.zeros(2))
    point.data.qacc_warmstart[:] = 0
    for t in range(3000):
        environment.goal = recorded.goals[t].double().numpy()
        observed, reward, *_ = environment.step(recorded.actions[t].double().numpy())
        np.testing.assert_array_equal(observed["observation"].astype(np.float32), seen[t + 1])
        assert reward == recorded.rewards[t]


def test_recordings_are_functions_of_their_key(maze, recorded):
    again, shorter = record(maze, 12_000, Rng(0)), record(maze, 700, Rng(0))
    for name, column in recorded.columns().items():
        assert torch.equal(again.columns()[name], column)
        assert torch.equal(shorter.columns()[name], column[:700])
    assert not torch.equal(record(maze, 700, Rng(1)).observations, shorter.observations)
    assert [len(piece) for piece in recording(maze, 10_500, Rng(0))] == [10_000, 500]


def test_the_controller_stays_at_goals_for_as_long_as_it_is_told(maze, recorded):
    stay = 40
    found = record(maze, 12_000, Rng(0), stay=stay)
    first = int(recorded.rewards.nonzero()[0])
    assert torch.equal(found.observations[: first + 2], recorded.observations[: first + 2])
    ends = (found.goals.diff(dim=0) != 0).any(1).nonzero()[:, 0].tolist()
    spent = [
        int(found.rewards[a + 1 : b + 1].sum()) for a, b in zip([-1, *ends], ends, strict=False)
    ]
    # One step earns the reward that sends it on; those before it are stayed.
    assert min(spent) == 1
    assert stay - 8 < max(spent) <= stay + 1
    assert np.mean(spent) == pytest.approx(1 + stay / 2, rel=0.25)
    speed = found.observations[1:, 2:].norm(dim=1)
    late = [b for b, n in zip(ends, spent, strict=True) if n > 35]
    assert speed[late].mean() < 0.3 * speed.mean()  # it rests
    with pytest.raises(ValueError, match="stay must be at least 0, got -1"):
        record(maze, 10, Rng(0), stay=-1)


def test_a_recording_is_one_episode_of_reached_goals(maze, recorded):
    assert recorded.episodes.tolist() == [[0, 12_000]]
    assert recorded.about["maze"] == maze.name
    changes = (recorded.goals.diff(dim=0) != 0).any(1)
    # A goal is changed right after it earned its reward, and at no other time.
    assert torch.equal(changes, recorded.rewards[:-1].bool())
    away = (recorded.observations[1:, :2] - recorded.goals[:-1]).norm(dim=1)
    assert ((away <= 0.45) == recorded.rewards[:-1].bool()).all()
    assert recorded.rewards.sum() > 12_000 / maze.steps * 3
    cells = {maze.cell(*position) for position in recorded.observations[:, :2].tolist()}
    assert cells <= set(maze.free)
    assert len(cells) > 0.8 * len(maze.free)


def test_walls_are_not_entered(maze, recorded):
    """The ball has a radius of 0.1; it may sink into a wall by a hundredth or so at full speed."""
    walls = torch.tensor([maze.xy(tuple(cell)) for cell in np.argwhere(maze.walls)])
    outside = ((recorded.observations[:, None, :2] - walls).abs() - 0.5).clamp(min=0)
    assert outside.norm(dim=-1).min() > 0.05


@pytest.mark.parametrize("multi_goal", [False, True])
def test_the_controller_reaches_nearly_all_goals_and_stays(maze, multi_goal):
    found = episodes(maze, waypoint_policy(maze), tasks(maze, 60, Rng(1), multi_goal=multi_goal))
    assert found.positions.shape == (60, maze.steps + 1, 2)
    assert (found.reached > 0).float().mean() >= 0.98
    assert (found.rewards[:, -1] == 1).float().mean() >= 0.98


def test_an_episode_is_the_same_alone_and_beside_others(maze):
    few = tasks(maze, 6, Rng(2))
    whole = episodes(maze, random_policy(Rng(3)), few, 50)
    alone = episodes(maze, random_policy(Rng(3)), Tasks(few.starts[:1], few.goals[:1]), 50)
    assert torch.equal(whole.observations[:1], alone.observations)
    assert torch.equal(whole.positions[:, 0], few.starts)


def test_normalised_baselines_are_0_and_100(maze):
    few = tasks(maze, 20, Rng(1))
    scale = baselines(maze, few, Rng(2))
    assert scale.normalised(scale.random) == 0
    assert scale.normalised(scale.waypoint) == 100
    for policy, score in ((random_policy(Rng(2)), 0), (waypoint_policy(maze), 100)):
        returns = episodes(maze, policy, few).returns
        assert scale.normalised(returns.mean().item()) == pytest.approx(score, abs=1e-4)
    assert scale.waypoint > 0.5 * maze.steps
    assert scale.random < 0.25 * maze.steps
    assert scale.straight == episodes(maze, straight_policy, few).returns.mean().item()
    assert scale.random < scale.straight < 0.9 * scale.waypoint


def test_straight_ahead_ends_at_a_wall():
    maze = Maze("umaze")
    around = Tasks(torch.tensor([[-1.0, -1.0], [0.9, -1.0]]), torch.tensor([[-1.0, 1.0]] * 2))
    assert episodes(maze, straight_policy, around).reached.tolist() == [-1, -1]


def test_scores_and_times_by_hand():
    rewards = torch.tensor([[0, 0, 1, 0, 1], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]]).float()
    found = Episodes(torch.zeros(3, 6, 4), rewards)
    assert found.reached.tolist() == [3, -1, 1]
    assert found.returns.tolist() == [2, 0, 5]
    assert found.returns_if_stayed.tolist() == [3, 0, 5]
    assert Baselines(10, 60, 30).normalised(35) == 50


def test_bad_policies_and_tasks():
    maze = Maze("umaze")
    few = tasks(maze, 2, Rng(0))
    with pytest.raises(ValueError, match=r"finite actions of shape \(2, 2\), in step 0"):
        episodes(maze, lambda step, seen, goals: goals / 0, few)
    with pytest.raises(ValueError, match="it gave"):
        episodes(maze, lambda step, seen, goals: goals[:1], few)
    with pytest.raises(ValueError, match=r"\(0, 0\) of maze umaze is not in a free cell"):
        episodes(maze, waypoint_policy(maze), Tasks(torch.zeros(1, 2), few.goals[:1]))
    with pytest.raises(ValueError, match="steps must be at least 1"):
        record(maze, 0, Rng(0))


def test_pieces_are_trajectories_that_go_on():
    pieces = list(recording(Maze("umaze"), 10_001, Rng(0)))
    assert [len(piece) for piece in pieces] == [10_000, 1]
    assert not any(len(piece.ends) for piece in pieces)
    assert isinstance(pieces[0], Trajectories)
