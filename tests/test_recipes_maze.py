"""Planning in mazes: guidance that leads to goals, the loop, scores known by hand, the commands."""

import csv
import json
import math
import os
import re
import signal
import sys
from dataclasses import replace

import pytest
import torch
from oracles import Normal

import noiseloom
import noiseloom.data.point_maze as point_maze
from noiseloom import Rng, terminal
from noiseloom.cli import main
from noiseloom.data import Trajectories, Windows
from noiseloom.data.maze import Maze, waypoint_policy
from noiseloom.data.point_maze import Baselines, Episodes
from noiseloom.paths import _led
from noiseloom.recipes import ForcingMaze, Parts
from noiseloom.sampling import final

TINY = {
    "width": 16,
    "depth": 1,
    "heads": 2,
    "horizon": 6,
    "stack": 3,
    "replan": 3,
    "deadline": 0.0,
    "goal_guidance": "gradient",
}


def recording(steps=1000):
    """What a file of `noiseloom record maze` looks like, in free cells; nothing is simulated."""
    maze = Maze("umaze")
    centres = torch.tensor([maze.xy(cell) for cell in maze.free])
    places = centres[Rng(2).integers(len(centres), (steps,))] + 0.8 * Rng(3).uniform((steps, 2))
    seen = torch.cat((places - 0.4, 3 * Rng(0).normal((steps, 2)) + 0.1), 1)
    return Trajectories(seen, Rng(1).normal((steps, 2)), about={"maze": "umaze"})


class Open(ForcingMaze):
    """A maze without walls, where guidance has laws."""

    def check_places(self, given):
        pass


def made(tmp_path, kind=Open, **options):
    """A recipe with the exact denoiser of white noise in place of its network, and its data."""
    path = tmp_path / "umaze.safetensors"
    recording().save(path, force=True)
    recipe = kind(**{**TINY, "sampling_steps": 50, **options})
    split = recipe.load(str(path))
    facts = recipe.facts(split)
    parts = recipe.build(facts)
    return (
        recipe,
        Parts(Normal(parts.diffusion.schedule), parts.diffusion, parts.codec),
        facts,
        split,
    )


def planned(recipe, parts, facts, count, goal, **more):
    """Standardised steps of plans from the origin."""
    known = {"observations": torch.zeros(count, 1, 4), "done": torch.zeros(count, 0, 2), **more}
    given = {**known, "goal": torch.tensor(goal).expand(count, 2)}
    return recipe.steps_of(final(recipe.draw(parts, facts, given, Rng(2).samples(count))).result)


@pytest.mark.parametrize("kind", ["gradient", "monte-carlo"])
@pytest.mark.parametrize("direction", [(1.0, 0.0), (-0.6, 0.8)])
def test_guidance_moves_plans_to_the_goal_by_as_much_as_it_should(tmp_path, kind, direction):
    # Far from the goal the reward is linear, -u p / H for each step: exp(scale r) moves the mean of
    # a standard normal by scale / H, and leaves velocities and forces alone.
    scale, H = 3.0, 6
    options = {"goal_scale": scale, "goal_begin": 1.0, "futures": 2, "future_steps": 2}
    plain = planned(*made(tmp_path, goal_guidance="none")[:3], 16, [0.0, 0.0])
    recipe, parts, facts, _ = made(tmp_path, goal_guidance=kind, **options)
    std = torch.tensor(parts.codec.std[:2])
    goal = (1e4 * torch.tensor(direction) * std).tolist()
    led = planned(recipe, parts, facts, 16, goal) - plain
    moved = torch.tensor(direction) * scale / H
    expected = torch.cat((moved, torch.zeros(4))).expand_as(led)
    torch.testing.assert_close(led, expected, rtol=0, atol=0.05 if kind == "gradient" else 0.1)


def test_later_guidance_moves_less_and_none_not_at_all(tmp_path):
    goal = [1e4, 0.0]

    def mean(**options):
        recipe, parts, facts, _ = made(tmp_path, **options)
        return float(planned(recipe, parts, facts, 16, goal)[..., 0].mean())

    plain = mean(goal_guidance="none")
    assert mean(goal_scale=0.0) == pytest.approx(plain, abs=1e-6)
    early, late = mean(goal_begin=0.95) - plain, mean(goal_begin=0.5) - plain
    assert 0.05 < late < 0.8 * early


@pytest.mark.parametrize("kind", ["gradient", "monte-carlo"])
def test_a_strong_guide_leads_to_the_goal_and_not_beyond(tmp_path, kind):
    options = {"goal_guidance": kind, "goal_scale": 1e5, "futures": 2, "future_steps": 2}

    def off(rounds):
        recipe, parts, facts, _ = made(tmp_path, goal_rounds=rounds, **options)
        mean, std = (torch.tensor(v[:2]) for v in (parts.codec.mean, parts.codec.std))
        goal = (mean + torch.tensor([0.8, -0.5]) * std).tolist()
        steps = planned(recipe, parts, facts, 8, goal)[..., :2]
        return float((steps - torch.tensor([0.8, -0.5])).abs().mean())

    assert off(4) < 0.3
    assert off(0) > 3


def test_a_plan_rests_at_the_goal_from_its_deadline_on(tmp_path):
    # 20 steps in tokens of 2: the first plan has 15 of them, in 8 tokens, the next 12, 9 and 6, and
    # all after these 5, a quarter.
    options = {"horizon": 20, "stack": 2, "deadline": 0.75, "goal_guidance": "none"}
    recipe, parts, facts, _ = made(tmp_path, **options)
    assert [recipe.ending(plan) for plan in range(6)] == [2, 4, 5, 7, 7, 7]
    whole = replace(recipe, horizon=200, stack=10, deadline=0.55)
    assert whole.ending(0) == whole.tokens - 1 - 11  # though 0.55 * 200 is a little above 110
    goal, codec = torch.tensor([0.3, -0.2]), parts.codec
    rest = torch.cat((goal, torch.zeros(4)))
    for plan in (0, 3):
        tokens = planned(recipe, parts, facts, 8, goal.tolist(), plan=torch.full((8,), plan))
        steps = codec.decode(tokens.reshape(8, 10, -1)).reshape(8, 20, 6)
        known = 2 * recipe.ending(plan)
        torch.testing.assert_close(steps[:, -known:], rest.expand(8, known, 6))
        assert steps[:, :-known].std() > 0.5
    assert len(recipe.whole_plan(parts.diffusion.schedule)) == 50
    held = (recipe.whole_plan(parts.diffusion.schedule).t == 0).all(0)[0]
    assert held.nonzero()[:, 0].tolist() == [0, 9, 10]


@pytest.mark.parametrize("plan", ["auto", "pyramid:2", "trapezoid:1", "chunked:3"])
def test_a_plan_rests_at_the_goal_from_a_given_arrival_on(tmp_path, plan):
    options = {"horizon": 20, "stack": 2, "deadline": 0.75, "goal_guidance": "none", "plan": plan}
    recipe, parts, facts, _ = made(tmp_path, **options)
    assert recipe.arrivals == [2, 4, 6, 8, 12, 16]
    goal = torch.tensor([0.3, -0.2])
    rest = torch.cat((goal, torch.zeros(4)))

    def steps(*arrive):
        more = {"arrive": torch.tensor(arrive)}
        tokens = planned(recipe, parts, facts, len(arrive), goal.tolist(), **more)
        return parts.codec.decode(tokens.reshape(-1, 10, 12)).reshape(-1, 20, 6)

    for arrive in (2, 12):
        plans = steps(*[arrive] * 8)
        torch.testing.assert_close(plans[:, arrive:], rest.expand(8, 20 - arrive, 6))
        assert plans[:, :arrive].std() > 0.5
    # Side by side each has its own, and is what it is among those that arrive with it.
    mixed = steps(2, 12, 2, 12)
    for arrive, rows in ((2, [0, 2]), (12, [1, 3])):
        torch.testing.assert_close(mixed[rows], steps(*[arrive] * 4)[rows])


def test_the_earliest_arrival_is_one_that_the_recording_allows(tmp_path):
    # Recorded: along the x axis, by 0.1 a step at most, here and there beside it.
    x = (0.1 * Rng(0).uniform((2000,)) * (torch.arange(2000) // 100 % 2 * 2 - 1)).cumsum(0)
    y = 0.02 * Rng(1).uniform((2000,)) - 0.01
    seen = torch.stack((x, y, *torch.zeros(2, 2000)), -1)
    data = Windows(Trajectories(seen, torch.zeros(2000, 2)), 41)
    options = {**TINY, "horizon": 40, "stack": 2, "deadline": 0.5, "replan": 4}
    recipe = ForcingMaze(**options, arrival="earliest")
    asked = []

    def draw(given):
        steps = given["arrive"][:, None]
        asked.append([given[name].tolist() for name in ("plan", "arrive", "index")])
        share = (torch.arange(1, 41) / steps).clamp(max=1)[..., None]
        here = given["observations"][:, 0, :2]
        plans = torch.zeros(len(here), 40, 6)
        plans[..., :2] = here[:, None] + share * (given["goal"] - here)[:, None]
        return plans

    planner = recipe.planner(draw, data)
    middle = float(x[1000])
    starts = torch.tensor([[middle, 0.0, 0.0, 0.0], [middle, 0.0, 0.0, 0.0]])
    goals = torch.tensor([[middle - 0.75, 0.0], [middle, 0.0]])
    planner(0, starts, goals)
    # 0.75 in 6 steps is 0.25 in two, beyond 0.2 and a tenth of it; in 8 it is not.
    assert planner.plan.left.tolist() == [8, 2]
    assert recipe.arrivals == [2, 4, 6, 8, 12, 16, 24, 32]
    assert asked == [[[0] * 16, 2 * recipe.arrivals, [0] * 8 + [1] * 8]]
    without = recipe.planner(lambda given: torch.zeros(2, 40, 6) if "arrive" not in given else None)
    without(0, starts, goals)  # there is no recording to keep to: the deadline
    asked.clear()

    def still(given):
        asked.append(given)
        return torch.zeros(2, 40, 6)

    ForcingMaze(**{**options, "deadline": 0.0}).planner(still, data)(0, starts, goals)
    assert "arrive" not in asked[0]  # an open end


@pytest.mark.parametrize("options", [{"network": "causal"}, {"forcing": "teacher-forcing"}])
def test_a_deadline_needs_a_network_that_sees_the_end(options):
    with pytest.raises(ValueError, match=r"a network that sees it: .* or deadline 0"):
        ForcingMaze(**options)
    with pytest.raises(ValueError, match=r"share of the horizon, got 1\.5"):
        ForcingMaze(deadline=1.5)


def test_a_plan_of_one_token_has_an_open_end(tmp_path):
    with pytest.raises(
        ValueError, match=r"at least two tokens, got 1 of 3 steps: .* or deadline 0"
    ):
        ForcingMaze(**{**TINY, "horizon": 3, "deadline": 0.6})
    recipe, parts, facts, _ = made(tmp_path, horizon=3, goal_guidance="none")
    t, counted = recipe.times(torch.zeros(100, 2, 18), Rng(0).samples(100))
    assert (t[:, 1] > 0).all()
    assert counted[:, 1].all()
    assert planned(recipe, parts, facts, 4, [0.0, 0.0]).shape == (4, 3, 6)


@pytest.mark.parametrize("forcing", ["independent", "full-sequence"])
def test_half_of_the_windows_are_trained_on_with_a_known_end(forcing):
    options = {**TINY, "horizon": 12, "forcing": forcing}  # 5 tokens
    clean, rng = torch.zeros(900, 5, 18), Rng(0).samples(900)
    t, counted = ForcingMaze(**options).times(clean, rng)
    lengths = (t[:, 1:] == 0).sum(1)
    for length, share in ((0, 1 / 2), (1, 1 / 6), (2, 1 / 6), (3, 1 / 6)):
        assert (lengths == length).double().mean() == pytest.approx(share, abs=0.06)
    assert torch.equal(counted, t > 0)  # the first token is known too
    moving = torch.where(t > 0, t, torch.nan)[:, 1:]
    one = moving.nan_to_num(nan=-1).amax(1) == moving.nan_to_num(nan=2).amin(1)  # time for all
    assert one[lengths > 0].all()
    assert (one[lengths == 0] == (forcing == "full-sequence")).all()
    assert t[:, 1].double().mean() == pytest.approx(1 / 2, abs=0.03)
    t, counted = ForcingMaze(**options, network="causal").times(clean, rng)
    assert (t[:, 1:] > 0).all()
    assert counted[:, 1:].all()


def test_plans_of_one_episode_have_draws_of_their_own(tmp_path):
    recipe, parts, facts, _ = made(tmp_path)
    one, same, other = (
        planned(recipe, parts, facts, 4, [0.0, 0.0], plan=torch.full((4,), k)) for k in (0, 0, 1)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


WALLS = {
    "goal": "(50, 50) of maze umaze is not in a free cell: the nearest one is around (1, 1)",
    "start": "(0, 0) of maze umaze is not in a free cell: the nearest one is around (0, 1)",
}


@pytest.mark.parametrize("deadline", [0.0, 0.5])
def test_a_start_or_goal_in_a_wall_is_refused(tmp_path, deadline):
    options = {"deadline": deadline, "horizon": 9, "sampling_steps": 2}
    recipe, parts, facts, _ = made(tmp_path, ForcingMaze, **options)
    free, keys = {"start": [-1.0, -1.0], "goal": [1.0, 1.0]}, Rng(0).samples(2)

    def draw(**places):
        start, goal = (torch.tensor({**free, **places}[name]) for name in ("start", "goal"))
        seen = torch.cat((start, torch.zeros(2))).expand(2, 1, 4)
        return final(
            recipe.draw(parts, facts, {"observations": seen, "goal": goal.expand(2, 2)}, keys)
        )

    assert draw().result.isfinite().all()
    for name, place in (("goal", [50.0, 50.0]), ("start", [0.0, 0.0])):
        with pytest.raises(ValueError, match=re.escape(f"{name} {WALLS[name]}")):
            draw(**{name: place})
    for wrong in (math.nan, math.inf):
        with pytest.raises(ValueError, match="a goal is a finite place, got"):
            draw(goal=[wrong, 0.0])


def test_the_report_says_how_plans_know_of_their_goals():
    recipe = ForcingMaze(**{**TINY, "horizon": 30, "goal_guidance": "none"})
    assert _led(recipe) == "Nothing tells them of the goal."
    recipe = replace(recipe, goal_guidance="gradient", goal_rounds=0)
    assert _led(recipe) == "Guidance: gradient, scale 30, the plain gradient."
    recipe = replace(recipe, goal_guidance="monte-carlo", goal_rounds=2, deadline=0.5)
    assert _led(recipe) == (
        "Their end is known: from step 15 on they rest at the goal. "
        "Guidance: monte-carlo of 8 futures, scale 30, 2 rounds."
    )


def test_scores_known_by_hand(tmp_path, monkeypatch):
    recipe, *_, split = made(tmp_path, samples=4, control="actions")
    driven = []

    def episodes(maze, policy, tasks):
        driven.append(
            (maze.name, tasks, [policy(k, torch.zeros(4, 4), tasks.goals) for k in range(6)])
        )
        rewards = torch.zeros(4, 6)
        rewards[:3, 3:] = 1  # three of four are there for three steps: 2.25 on average
        if len(driven) == 2:  # and one of them leaves at once, and is back at the end
            rewards[2, 4] = 0
        return Episodes(torch.zeros(4, 7, 4), rewards)

    monkeypatch.setattr(point_maze, "episodes", episodes)
    monkeypatch.setattr(point_maze, "baselines", lambda *_: Baselines(0.25, 4.25, 1.25))
    asked = []

    def draw(given):
        asked.append(given)
        return torch.full((len(given["goal"]), 6, 6), 0.5)

    report = recipe.evaluate(draw, split, Rng(3))
    for kind in ("single", "multi"):
        mean = {"single": 2.25, "multi": 2.0}[kind]
        assert report[f"return_{kind}"] == mean
        assert report[f"score_{kind}"] == pytest.approx(100 * (mean - 0.25) / 4)
        assert report[f"reached_{kind}"] == 0.75
        assert report[f"stayed_{kind}"] == pytest.approx(50)
        assert report[f"return_{kind}_random"] == 0.25
        assert report[f"return_{kind}_waypoint"] == 4.25
        assert report[f"return_{kind}_straight"] == 1.25
        assert report[f"score_{kind}_straight"] == pytest.approx(25)
        assert report[f"ms_per_plan_{kind}"] == pytest.approx(3 * report[f"ms_per_step_{kind}"])
    assert report["ms_per_plan_alone"] > 0
    (_, single, forces), (_, multi, _) = driven
    assert len(single.goals.unique(dim=0)) == 1
    assert len(multi.goals.unique(dim=0)) == 4
    assert all((force == 0.5).all() for force in forces)
    assert [int(given["plan"][0]) for given in asked[:4]] == [0, 1, 0, 1]
    assert [len(given["goal"]) for given in asked] == [4, 4, 4, 4, 1, 1, 1]
    assert torch.equal(asked[0]["goal"], single.goals)


def test_whoever_plans_like_the_controller_has_its_score(tmp_path):
    pytest.importorskip("gymnasium_robotics")
    recipe, *_, split = made(tmp_path, samples=3, control="actions", stack=1, horizon=1, replan=1)
    act = waypoint_policy(Maze("umaze"))

    def draw(given):
        seen = given["observations"][:, 0]
        return torch.cat((seen, act(0, seen, given["goal"])), -1)[:, None]

    report = recipe.evaluate(draw, split, Rng(0))
    for kind in ("single", "multi"):
        assert report[f"score_{kind}"] == pytest.approx(100, abs=1e-3)
        assert report[f"reached_{kind}"] == 1


def test_an_evaluation_that_is_interrupted_keeps_the_kinds_of_task_that_are_finished(
    capsys, tmp_path, monkeypatch
):
    pytest.importorskip("gymnasium_robotics")
    monkeypatch.chdir(tmp_path)
    recording().save("umaze.safetensors")
    assert main([*TRAIN, "--arrival", "deadline", "--no-evaluate"]) == 0
    draw, calls = ForcingMaze.draw, []

    def interrupted(*args):
        """Ctrl-C while this plan is made: of 5 in an episode, 5 in another, and 3 of one task."""
        calls.append(1)
        for step in draw(*args):
            yield step
            if len(calls) == stop:
                os.kill(os.getpid(), signal.SIGINT)

    def judged(code):
        calls.clear()
        capsys.readouterr()
        assert main(["evaluate", "run", "--json"]) == code
        told = capsys.readouterr()
        return json.loads(told.out or "{}"), told.err.splitlines()[-1]

    monkeypatch.setattr(ForcingMaze, "draw", interrupted)
    folder = tmp_path / "run" / "evaluations"
    found = {}
    for stop, cut, last in (
        (8, {"kinds": "1 of 2"}, "kinds: 1 of 2, kept in run/evaluations/kinds=1-of-2.json"),
        (12, {"timings": "2 of 3"}, "timings: 2 of 3, kept in run/evaluations/timings=2-of-3.json"),
    ):
        answer, line = judged(130)
        assert answer["cut_short"] == cut
        assert last in line
        kept = json.loads((tmp_path / answer["file"]).read_text())
        assert {
            name: "{} of {}".format(*pair) for name, pair in kept.pop("cut_short").items()
        } == cut
        assert kept == answer["metrics"]
        found[stop] = kept
    stop = 2
    assert judged(130)[0] == {}  # not one kind is finished
    assert len([*folder.iterdir()]) == 2
    assert not (tmp_path / "run" / "evaluation.json").exists()

    stop = 0
    whole = judged(0)[0]["metrics"]
    assert len(calls) == 13
    single = {name for name in whole if "single" in name} | {"n"}
    assert found[8].keys() == single
    assert found[12].keys() == whole.keys() - {"ms_per_plan_alone"}
    for part in found.values():
        same = [name for name in part if not name.startswith("ms_")]
        assert {name: part[name] for name in same} == {name: whole[name] for name in same}


def test_what_does_not_fit(tmp_path):
    for options, told in (
        ({"maze": "huge"}, "maze must be one of umaze, medium, large"),
        ({"context": 2}, "context is 1"),
        ({"replan": 7}, "replan must be at most horizon = 6, got 7"),
        ({"replan": 0}, "replan must be at least 1"),
        ({"goal_scale": -1.0}, "goal_scale must be at least 0"),
        ({"goal_rounds": -1}, "goal_rounds must be at least 0"),
        ({"goal_begin": 1.5}, r"goal_begin is a time in \[0, 1\]"),
        ({"goal_guidance": "exact"}, "goal_guidance must be one of none, gradient"),
    ):
        with pytest.raises(ValueError, match=told):
            ForcingMaze(**{**TINY, **options})
    assert ForcingMaze(maze="large").tokens == 49
    assert [ForcingMaze(maze=m).every for m in ("umaze", "medium", "large")] == [30, 50, 80]
    assert [ForcingMaze(maze=m).plans for m in ("umaze", "medium", "large")] == [10, 12, 10]
    assert ForcingMaze(replan=15).every == 15
    path = tmp_path / "other.safetensors"
    Trajectories(torch.zeros(50, 3), torch.zeros(50, 1)).save(path)
    with pytest.raises(
        ValueError, match="has 3 observations and 1 actions a step, a maze has x, y"
    ):
        ForcingMaze(**TINY).load(str(path))
    recording().save(path, force=True)
    with pytest.raises(ValueError, match="is of maze umaze: give --maze its name"):
        ForcingMaze(**{**TINY, "maze": "medium"}).load(str(path))


TRAIN = ["train", "forcing-maze", "--data", "umaze.safetensors", "--out", "run", "--steps", "3"]
TRAIN += ["--horizon", "60", "--stack", "30", "--replan", "60", "--heads", "2", "--samples", "2"]
TRAIN += ["--sampling-steps", "2", "--width", "16", "--depth", "1", "--batch-size", "8"]


def test_what_is_for_driving_says_nothing_of_plans_and_is_refused(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recording().save("umaze.safetensors")
    words = [*TRAIN, "--no-evaluate"]
    words[words.index("--stack") + 1] = "10"
    assert main(words) == 0
    sample = ["sample", "run", "-n", "2", "--out", "plans.csv", "--force"]
    driven, earliest = "plans that are drawn, and not driven", "plans that arrive as early as they"
    for given, told in (
        ([*sample, "--control", "actions"], f"control changes nothing of {driven}"),
        ([*sample, "--arrival", "deadline"], f"arrival changes nothing of {driven}"),
        ([*sample, "--replan", "30"], f"replan changes nothing of {driven}"),
        ([*sample, "--goal-scale", "3"], "goal_scale changes nothing of plans without guidance"),
        (["evaluate", "run", "--deadline", "0.8"], f"deadline changes nothing of {earliest}"),
        (
            ["evaluate", "run", "--deadline", "0", "--arrival", "deadline"],
            "arrival changes nothing of plans with an open end",
        ),
    ):
        capsys.readouterr()
        assert main(given) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1, lines
        assert told in lines[0]
    assert main([*sample, "--deadline", "0.8"]) == 0

    # From Python, all that a planner makes use of may be changed.
    run = noiseloom.load("run", device="cpu")
    data = run.recipe.load("umaze.safetensors").train
    starts, goals = data[torch.tensor([3, 50])]["observations"][:, 0], torch.tensor([[1.0, 1.0]])

    def acts(**options):
        other = run.with_options(**options)
        planner, found = other.recipe.planner(other.samples, data), []
        for h in range(7):
            found.append(planner(h, starts, goals.expand(2, 2)))
            found += planner._planned.unbind(1)  # actions alone are cut at 1
        return torch.stack([step[:, :2] for step in found])

    used = {"control": "actions", "arrival": "deadline", "replan": 6, "deadline": 0.0}
    plain = acts(replan=3)
    assert torch.equal(acts(replan=3, deadline=0.8), plain)
    for name, value in used.items():
        assert not torch.equal(acts(**{"replan": 3, name: value}), plain), name
        old, new = run.recipe, replace(run.recipe, **{name: value})
        assert not new.unchanged(name, old, "evaluate")
        assert not old.unchanged(name, new, "evaluate")


def test_without_the_simulator(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recording().save("umaze.safetensors")
    point_maze._model.cache_clear()
    monkeypatch.setitem(sys.modules, "mujoco", None)
    assert main(TRAIN) == 2
    assert "noiseloom[sim]" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "run").exists()
    assert main([*TRAIN, "--no-evaluate"]) == 0
    assert main(["report", "run"]) == 0
    page = (tmp_path / "run" / "report.html").read_text()
    assert page.count("<svg") == 2 + 6  # the plan, the loss, and six tasks
    assert "is shown with the extra noiseloom[sim]" in page


def test_plans_from_ones_own_start_to_ones_own_goal(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recording().save("umaze.safetensors")
    words = [*TRAIN, "--known-ends", "0.5", "--no-evaluate"]
    words[words.index("--stack") + 1] = "10"
    assert main(words) == 0
    (tmp_path / "umaze.safetensors").unlink()  # nobody needs it
    words = ["sample", "run", "-n", "2", "--start", "-1,1", "--goal", "1,-1"]
    capsys.readouterr()
    assert main([*words, "--out", "plans.csv"]) == 0
    assert capsys.readouterr().err.count("dark is noise, tokens go right") == 1
    with open("plans.csv") as file:
        rows = [[float(v) for v in row.values()][2:] for row in csv.DictReader(file)]
    told = torch.tensor(rows).reshape(2, 60, 6)
    given = {"observations": torch.tensor([[[-1.0, 1.0, 0.0, 0.0]]]).expand(2, 1, 4)}
    given["goal"] = torch.tensor([[1.0, -1.0]]).expand(2, 2)
    run = noiseloom.load("run", device="cpu")
    torch.testing.assert_close(told, run.samples(given), rtol=1e-4, atol=1e-4)
    rest = torch.tensor([1.0, -1.0, 0, 0, 0, 0]).expand(2, 20, 6)
    torch.testing.assert_close(told[:, 40:], rest, rtol=1e-4, atol=1e-4)  # 0.6 of 60, in tens
    assert main([*words[:-2], "--out", "home.csv"]) == 0  # to the maze's own
    with open("home.csv") as file:
        last = [float(v) for v in list(csv.DictReader(file))[-1].values()]
    assert last[2:4] == pytest.approx(Maze("umaze").xy(Maze("umaze").goal), abs=1e-4)
    capsys.readouterr()
    wall = "is not in a free cell: the nearest one is around"
    for more, told in (
        (["--goal", "50,50"], f"goal (50, 50) of maze umaze {wall} (1, 1)"),
        (["--goal", "0,0"], f"goal (0, 0) of maze umaze {wall} (0, 1)"),
        (["--start", "0,-2"], f"start (0, -2) of maze umaze {wall} (0, -1)"),
        (["--goal", "1"], "a goal in a maze is a place: --goal x,y"),
        (["--goal", "1,1,0,0"], "a goal in a maze is a place: --goal x,y"),
        (["--start=-1"], "place: --start x,y, or x,y,vx,vy where it moves, got x = -1 alone"),
        (["--start", "x=1,vy=2"], "x,y,vx,vy where it moves, got x = 1, vy = 2 alone"),
        (["--start", "z=1"], "there is no column z: choose from x, y, vx, vy"),
        (["--deadline", "0", "--goal", "1,1"], "nothing leads plans to a goal: give"),
    ):
        assert main([*words, *more, "--out", "other.csv"]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1, lines  # nothing is drawn before all is checked
        assert told in lines[0]
    assert not (tmp_path / "other.csv").exists()


def test_from_a_recording_to_driving(capsys, tmp_path, monkeypatch):
    pytest.importorskip("gymnasium_robotics")
    monkeypatch.chdir(tmp_path)
    recording().save("umaze.safetensors")
    assert main([*TRAIN, "--json"]) == 0
    metrics = json.loads(capsys.readouterr().out)["metrics"]
    assert metrics["n"] == 2
    assert metrics["return_single_waypoint"] > metrics["return_single_random"]
    page = (tmp_path / "run" / "report.html").read_text()
    assert page.count("<svg") == 2 + 6
    assert "with a new plan every 60 steps" in page
    assert "Their end is known: from step 30 on they rest at the goal. The line" in page
    assert "<th>random forces</th><th>the controller</th><th>straight ahead</th>" in page
    monkeypatch.setattr(terminal, "_EVERY", 0)
    capsys.readouterr()
    words = ["evaluate", "run", "--goal-guidance", "monte-carlo", "--futures", "2"]
    assert main([*words, "--future-steps", "2", "--control", "actions", "--samples", "1"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith("plan")][:5] == [
        f"plan {n} of 5" for n in range(1, 6)
    ]
    kept = [path.name for path in (tmp_path / "run" / "evaluations").iterdir()]
    assert len(kept) == 1
    assert "goal_guidance=monte-carlo" in kept[0]
    sample = ["sample", "run", "-n", "2", "--goal-guidance", "gradient", "--goal-scale", "1"]
    assert main([*sample, "--out", "plans.csv"]) == 0
    assert (tmp_path / "plans.csv").read_text().count("\n") == 1 + 2 * 60
