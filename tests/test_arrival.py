"""When to arrive: what a recording allows, and plans as early as that."""

import math

import pytest
import torch

from noiseloom import Rng
from noiseloom.arrival import EarliestArrival, Recorded
from noiseloom.data import Trajectories, Windows

FASTEST = 0.05  # radians a step


@pytest.fixture(scope="module")
def ring():
    """Someone who runs around a circle of radius 1, now slower, now faster."""
    angle = (FASTEST * Rng(0).uniform((20_000,))).cumsum(0)
    seen = torch.stack((angle.cos(), angle.sin(), torch.zeros_like(angle)), -1)
    data = Windows(Trajectories(seen, torch.zeros(len(seen), 1)), 40)
    return Recorded(data, 2, 5, Rng(1))


def arc(start, end, steps):
    """Places of so many steps at one speed along the circle, without the first."""
    angle = torch.linspace(start, end, steps + 1)[1:]
    return torch.stack((angle.cos(), angle.sin()), -1)


def test_what_was_recorded_does_not_stray_and_other_things_do(ring):
    start = torch.tensor([[1.0, 0.0]])
    around = arc(0, 20 * 0.8 * FASTEST, 20)
    through = start * torch.linspace(1, -1, 21)[1:, None]  # to the other side, by the centre
    fast = arc(0, 20 * 2 * FASTEST, 20)
    plans = torch.stack((around, through, fast))
    share = ring.strayed(start.expand(3, 2), plans, torch.full((3,), 20))
    # Of steps 5, 10, 15 and 20 across the circle only the last is on it, and all are too long.
    assert share.tolist() == [0, 1, 1]
    slow = torch.cat((through[:10], through[9:10].expand(10, 2)))  # to the centre, and stays
    assert float(ring.strayed(start, slow[None], torch.tensor([20]))) == 1


def test_a_jump_at_the_beginning_is_seen(ring):
    start, plan = torch.tensor([[-1.0, 0.0]]), arc(0, 0.4, 20)[None]
    for arrive, share in ((20, 1 / 4), (10, 1 / 2), (14, 1 / 2), (5, 1)):
        assert float(ring.strayed(start, plan, torch.tensor([arrive]))) == share


def test_what_is_after_the_arrival_does_not_count(ring):
    start = torch.tensor([[1.0, 0.0]])
    off = torch.cat((arc(0, 0.4, 10), torch.zeros(10, 2)))  # to the centre, at once
    arrive = torch.tensor([10, 15, 20])
    share = ring.strayed(start.expand(3, 2), off.expand(3, 20, 2), arrive)
    assert share.tolist() == [0, 1 / 3, 1 / 2]


class Line:
    """Tasks on a line: a plan goes to the goal at one speed, in L steps, and rests there."""

    def __init__(self, fastest):
        self.fastest, self.drawn = fastest, []

    def draw(self, number, observations, goals, arrive, task):
        self.drawn.append((number, arrive.tolist(), task.tolist()))
        share = (torch.arange(1, 41) / arrive[:, None]).clamp(max=1)[..., None]
        return observations[:, None] + share * (goals - observations)[:, None]

    def strayed(self, observations, plans, arrive):
        moved = torch.cat((observations[:, None], plans), 1).diff(dim=1).norm(dim=-1)
        counted = torch.arange(1, 41) <= arrive[:, None]
        return ((moved > self.fastest + 1e-6) & counted).sum(1) / arrive.double()


def test_each_task_arrives_as_early_as_it_can():
    line, goals = Line(1.0), torch.tensor([[0.5], [9.0], [21.0], [100.0]])
    arrive = EarliestArrival(line.draw, line.strayed, (2, 10, 20, 40), every=5)
    here = torch.zeros(4, 1)
    plans = arrive(0, here, goals)
    # Nothing is late enough for the last: it has the latest of the plans, which all stray.
    assert arrive.left.tolist() == [2, 10, 40, 40]
    assert plans[:3, 39].tolist() == goals[:3].tolist()
    assert plans[0, 1:].eq(0.5).all()
    assert float(plans[1, 0]) == pytest.approx(0.9)
    assert line.drawn == [(0, 4 * [2, 10, 20, 40], [k for k in range(4) for _ in range(4)])]


def test_later_plans_keep_their_arrival_and_find_another_where_it_fails():
    line, goals = Line(1.0), torch.tensor([[0.0], [9.0], [9.0]])
    arrive = EarliestArrival(line.draw, line.strayed, (2, 10, 20, 40), every=5)
    here = torch.zeros(3, 1)
    plans = arrive(0, here, goals)
    assert arrive.left.tolist() == [2, 10, 10]
    here = plans[:, 4].clone()
    here[2] = 0.0  # held fast: what was to take 5 steps more takes 10
    line.drawn.clear()
    plans = arrive(1, here, goals)
    assert arrive.left.tolist() == [2, 5, 10]
    assert line.drawn == [(1, [2, 5, 5], [0, 1, 2]), (1, [2, 10, 20, 40], [2] * 4)]
    assert plans[1, 4:].eq(9).all()
    arrive(2, plans[:, 4], goals)
    assert arrive.left.tolist() == [2, 2, 5]  # who has arrived rests


def test_a_new_episode_begins_anew():
    line, goals = Line(1.0), torch.tensor([[9.0]])
    arrive = EarliestArrival(line.draw, line.strayed, (2, 10, 20), every=5)
    for number in (0, 1, 0):
        arrive(number, torch.zeros(1, 1), goals)
    assert arrive.left.tolist() == [10]
    assert math.isclose(float(arrive(0, torch.zeros(1, 1), goals)[0, 9]), 9.0, rel_tol=1e-6)


def one_by_one(draw, strayed, arrivals, every, left, number, here, goals, most=0.0):
    """The same choice, with a draw of all tasks for each arrival, from soon to late."""
    worst, chosen = torch.full((len(goals),), torch.inf), torch.zeros(len(goals)).long()
    plans = torch.zeros(len(goals), 40, 1)

    def attempt(arrive, rows):
        everyone = torch.arange(len(goals))
        drawn = draw(number, here, goals, arrive, everyone)
        share = strayed(here, drawn, arrive)
        better = rows & (share <= worst)
        plans[better], worst[better], chosen[better] = (
            drawn[better],
            share[better].float(),
            arrive[better],
        )

    if number:
        attempt((left - every).clamp(min=arrivals[0]), torch.ones(len(goals)).bool())
    for value in arrivals:
        attempt(torch.full_like(chosen, value), worst > most)
    return plans, chosen


@pytest.mark.parametrize("most", [0.0, 0.4])
def test_all_at_once_choose_what_one_by_one_would(most):
    arrivals, tasks = (2, 5, 10, 20, 40), torch.arange(30)
    here, goals = torch.zeros(30, 1), torch.zeros(30, 1)

    def draw(number, observations, goals, arrive, task):
        """A plan that says what it is of: drawn by task, plan and arrival alone."""
        told = torch.stack((task, arrive, torch.full_like(task, number)), -1).float()
        return torch.nn.functional.pad(told, (0, 37))[..., None]

    def strayed(observations, plans, arrive):
        task, steps, number = (plans[:, k, 0].long() for k in range(3))
        keys = [
            Rng(0).fold("task", int(i)).fold("steps", int(j)).fold("plan", int(k))
            for i, j, k in zip(task, steps, number, strict=True)
        ]
        shares = torch.cat([key.integers(6, (1,)) for key in keys])  # many of them equal
        return shares.double() / 5

    choose, left = EarliestArrival(draw, strayed, arrivals, every=4, most=most), None
    for number in range(5):
        plans = choose(number, here, goals)
        expected, left = one_by_one(draw, strayed, arrivals, 4, left, number, here, goals, most)
        assert torch.equal(choose.left, left)
        assert torch.equal(plans, expected)
        assert torch.equal(plans[:, 0, 0].long(), tasks)
