"""The replanning loop with a simulator that only takes notes, its law of control, its reward."""

import math

import pytest
import torch

from noiseloom import Rng
from noiseloom.planning import Replanning, goal_reward, pd_action


def noted(number, observations, goals):
    """A plan whose numbers say where they come from: plan, step and task."""
    n, H = len(goals), 6
    step = torch.arange(H, dtype=torch.float32).expand(n, H)
    task = torch.arange(n, dtype=torch.float32)[:, None].expand(n, H)
    actions = torch.stack((torch.full((n, H), float(number)), step), -1) + 0.01 * task[..., None]
    return torch.cat((torch.zeros(n, H, 4), actions), -1)


def test_exactly_the_planned_actions_are_done():
    asked, done = [], []
    state = torch.zeros(3, 4)

    def plan(number, observations, goals):
        asked.append((number, observations.clone(), goals))
        return noted(number, observations, goals)

    policy, goals = Replanning(plan, every=4), torch.ones(3, 2)
    for step in range(10):  # the simulator: it notes what is done, and time passes
        done.append(policy(step, state, goals))
        state = state + 1
    expected = torch.stack([noted(k // 4, state, goals)[:, k % 4, 4:] for k in range(10)])
    assert torch.equal(torch.stack(done), expected)
    assert [number for number, *_ in asked] == [0, 1, 2]
    assert [float(seen[0, 0]) for _, seen, _ in asked] == [0.0, 4.0, 8.0]  # the present, each time
    assert all(torch.equal(aims, goals) for *_, aims in asked)
    assert (policy.plans, policy.steps) == (3, 10)


def test_latency_is_the_time_of_planning(monkeypatch):
    clock = iter([0.0, 0.5, 10.0, 10.25])
    monkeypatch.setattr("noiseloom.planning.time.perf_counter", lambda: next(clock))
    policy = Replanning(noted, every=5)
    for step in range(8):  # the episode ends before the second plan does
        policy(step, torch.zeros(2, 4), torch.zeros(2, 2))
    assert policy.latency == {"ms_per_plan": 375.0, "ms_per_step": 93.75}


def test_positions_are_followed_to_the_planned_place_and_velocity():
    seen = torch.tensor([[0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.5, -0.5]])
    target = torch.tensor([[0.02, -0.5, 0.1, 0.0], [1.0, 1.0, 0.5, -0.5]])
    force = pd_action(seen, target)
    torch.testing.assert_close(force, torch.tensor([[0.4, -1.0], [0.0, 0.0]]))

    def plan(number, observations, goals):
        steps = torch.cat((target, torch.full((2, 2), 9.0)), -1)  # its actions are not used
        return steps[:, None].expand(2, 3, 6)

    policy = Replanning(plan, every=3, control="positions")
    assert torch.equal(policy(0, seen, torch.zeros(2, 2)), force)


def test_a_point_mass_keeps_to_a_path_that_it_can_take():
    # v' = 0.98 v + 0.21 a, p' = p + 0.0098 v', what PointMaze does up to 1 %.
    t = 0.01 * torch.arange(401)
    place = torch.stack((t.cos(), t.sin()), -1)
    path = torch.cat((place, torch.stack((-t.sin(), t.cos()), -1)), -1)
    state, away = path[:1], []
    for k in range(400):
        force = pd_action(state, path[k + 1 : k + 2])
        speed = 0.98 * state[:, 2:] + 0.21 * force
        state = torch.cat((state[:, :2] + 0.0098 * speed, speed), -1)
        away.append(float((state - path[k + 1])[:, :2].norm()))
    assert max(away) < 0.05


@pytest.mark.parametrize(
    ("steps", "value", "told"),
    [(3, 0.0, "a plan of 3 steps cannot be followed for 4"), (6, math.nan, "not finite")],
)
def test_plans_that_cannot_be_followed(steps, value, told):
    policy = Replanning(lambda *_: torch.full((2, steps, 6), value), every=4)
    with pytest.raises(ValueError, match=told):
        policy(0, torch.zeros(2, 4), torch.zeros(2, 2))


@pytest.mark.parametrize(
    ("options", "kind", "told"),
    [
        ({"control": "position"}, ValueError, "choose from actions, positions, not 'position'"),
        ({"every": 0}, ValueError, "after 1 step or more, got 0"),
        ({"every": -2}, ValueError, "after 1 step or more, got -2"),
        ({"every": 2.5}, TypeError, r"after a whole number of steps, got 2\.5"),
        ({"every": "4"}, TypeError, "after a whole number of steps, got '4'"),
    ],
)
def test_a_policy_that_cannot_be_followed_is_refused_before_it_plans(options, kind, told):
    with pytest.raises(kind, match=told):
        Replanning(noted, **{"every": 4, **options})


def test_a_policy_begins_with_a_plan():
    policy, place = Replanning(noted, every=4), torch.zeros(2, 4)
    with pytest.raises(ValueError, match=r"follows a plan, and none .* step 5: begin at step 0"):
        policy(5, place, torch.zeros(2, 2))
    assert (policy.plans, policy.steps) == (0, 0)
    with pytest.raises(ValueError, match="no plan has been made, so there is no latency"):
        _ = policy.latency
    policy(8, place, torch.zeros(2, 2))  # any step in which plans are made
    assert torch.equal(policy(9, place), noted(0, place, torch.zeros(2, 2))[:, 1, 4:])


def test_the_reward_is_the_mean_distance_and_its_gradient_leads_there():
    goals = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    places = torch.tensor([[[3.0, 4.0], [0.0, 0.0]], [[1.0, 2.0], [1.0, 4.0]]]).requires_grad_()
    value = goal_reward(places, goals)
    torch.testing.assert_close(value, torch.tensor([-2.505, -3.0]), rtol=1e-4, atol=0)
    (slope,) = torch.autograd.grad(value.sum(), places)
    expected = torch.tensor([[[-0.3, -0.4], [0.0, 0.0]], [[0.0, -0.5], [0.0, -0.5]]])
    torch.testing.assert_close(slope, expected, rtol=1e-3, atol=1e-6)


def test_the_reward_is_finite_everywhere():
    places = (1e6 * Rng(0).normal((4, 5, 2))).requires_grad_()
    value = goal_reward(places, places[:, 0].detach())
    (slope,) = torch.autograd.grad(value.sum(), places)
    assert value.isfinite().all()
    assert slope.isfinite().all()
    assert float(slope.detach().norm(dim=-1).max()) <= 1 / 5 + 1e-6
