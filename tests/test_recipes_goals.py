"""Plans of anyone's trajectories, led: by rewards, to goals, to a known end, and made anew."""

import csv
import itertools
import json
import math
from dataclasses import fields, replace

import pytest
import torch
from oracles import Normal

import noiseloom
from noiseloom import Rng
from noiseloom.cli import main
from noiseloom.conditioning import SelfConditioned
from noiseloom.data import Trajectories
from noiseloom.paths import numbers
from noiseloom.recipes import ForcingTrajectories, Parts
from noiseloom.recipes.planning import Leading
from noiseloom.sampling import final

TINY = {
    "width": 16,
    "depth": 1,
    "heads": 2,
    "horizon": 12,
    "stack": 3,
    "rewards": True,
    "network": "bidirectional",
    "sampling_steps": 50,
}
H, SCALE = 12, 3.0


def walks(episodes=6, steps=40):
    """Walks in the plane: the velocity is the action, and what it earns is its first entry."""
    actions = Rng(0).normal((episodes, steps, 2))
    places = 5 + (actions.cumsum(1) - actions) * torch.tensor([1.0, 10.0])
    ends = steps * torch.arange(1, episodes + 1)
    return Trajectories(
        places.flatten(0, 1), actions.flatten(0, 1), actions[..., 0].flatten(), None, ends
    )


def made(tmp_path, **options):
    """A recipe, the exact denoiser of white noise in place of its network, facts and data."""
    path = tmp_path / "walks.safetensors"
    walks().save(path, force=True)
    recipe = ForcingTrajectories(**{**TINY, **options})
    split = recipe.load(str(path))
    facts = recipe.facts(split)
    parts = recipe.build(facts)
    parts = Parts(Normal(parts.diffusion.schedule), parts.diffusion, parts.codec)
    return recipe, parts, facts, split


def planned(recipe, parts, facts, count=16, goal=None, **more):
    """Standardised steps (x, y, two actions, reward) of plans from one place."""
    given = {"observations": torch.full((count, 1, 2), 5.0), **more}
    if goal is not None:
        given["goal"] = torch.tensor(goal).expand(count, 2)
    return recipe.steps_of(final(recipe.draw(parts, facts, given, Rng(2).samples(count))).result)


def moved(tmp_path, goal=None, **options):
    """By how much guidance moves each column of each step, which is the same for all."""
    options = {"goal_scale": SCALE, "goal_begin": 1.0, "futures": 2, **options}
    plain = planned(*made(tmp_path, goal_guidance="none")[:3])
    return planned(*made(tmp_path, **options)[:3], goal=goal) - plain


FAR = [5e4, math.nan], [math.nan, -5e5]


@pytest.mark.parametrize("kind", ["gradient", "monte-carlo"])
@pytest.mark.parametrize(
    ("goal", "seek", "column", "sign"),
    [
        (None, "auto", 4, 1),
        (FAR[0], "auto", 0, 1),
        (FAR[1], "goal", 1, -1),
        (FAR[0], "rewards", 4, 1),
    ],
)
def test_a_linear_reward_moves_its_column_and_no_other(tmp_path, kind, goal, seek, column, sign):
    # exp(SCALE / H sum_h z_h) moves the mean of every standard normal z_h by SCALE / H.
    led = moved(tmp_path, goal, goal_guidance=kind, seek=seek)
    expected = torch.zeros(5)
    expected[column] = sign * SCALE / H
    atol = 0.03 if kind == "gradient" else 0.06
    torch.testing.assert_close(led, expected.expand_as(led), rtol=0, atol=atol)
    assert led[..., [k for k in range(5) if k != column]].abs().max() < 1e-4


def test_both_rewards_are_added(tmp_path):
    options = {"goal_guidance": "gradient", "goal_rounds": 0}
    a, b, both = (moved(tmp_path, FAR[0], seek=s, **options) for s in ("goal", "rewards", "both"))
    torch.testing.assert_close(both, a + b, rtol=1e-3, atol=1e-4)


def test_a_goal_may_differ_from_plan_to_plan(tmp_path):
    recipe, parts, facts, _ = made(tmp_path, goal_guidance="gradient", goal_scale=1e5)
    goals = torch.tensor([[6.0, math.nan], [math.nan, 20.0], [math.nan, math.nan]])
    given = {"observations": torch.full((3, 1, 2), 5.0), "goal": goals}
    steps = final(recipe.draw(parts, facts, given, Rng(0).samples(3))).result
    places = recipe.decode(parts, steps, given)[..., :2]
    std = torch.tensor(facts["std"][:2])
    away = ((places - goals[:, None]).abs() / std).mean(1)
    assert away[0, 0] < 0.3
    assert away[1, 1] < 0.3
    free = planned(*made(tmp_path, goal_guidance="none")[:3], 3)
    third = recipe.steps_of(steps)[2, :, :2]
    given = {"observations": torch.full((3, 1, 2), 5.0)}
    assert free.shape == (3, H, 5)
    alone = made(tmp_path, goal_guidance="none")[0]
    plain = final(alone.draw(parts, facts, given, Rng(0).samples(3))).result
    torch.testing.assert_close(third, recipe.steps_of(plain)[2, :, :2])


@pytest.mark.parametrize("momentum", [0.0, 0.5])
@pytest.mark.parametrize("kind", ["gradient", "monte-carlo"])
def test_the_network_is_told_the_guided_estimate(tmp_path, kind, momentum):
    """Guidance goes inside of self-conditioning: what is told is what was said, led."""
    options = {"goal_guidance": kind, "goal_scale": SCALE, "futures": 2, "goal_begin": 1.0}
    options |= {"self_conditioning": 0.5, "momentum": momentum, "sampling_steps": 4}
    recipe, parts, facts, _ = made(tmp_path, **options)
    told = []

    class Told(Normal):
        def forward(self, x, t, cond=None, carry=None, rng=None):
            told.append(cond["estimate"])
            return super().forward(x, t, cond, carry, rng)

    parts = replace(parts, denoiser=SelfConditioned(Told(parts.diffusion.schedule)))
    given = {"observations": torch.full((3, 1, 2), 5.0)}
    estimate, rows = torch.tensor(0.0), 0
    for step in recipe.draw(parts, facts, given, Rng(2).samples(3)):
        for found in told:
            times = len(found) // 3  # of futures
            expected = estimate.expand(3, *found.shape[1:]).repeat_interleave(times, 0)
            torch.testing.assert_close(found, expected)
        estimate = torch.lerp(step.prediction.mean, estimate, momentum)
        rows += len(told) > 0
        told.clear()
    assert rows >= 4


def test_a_known_end_rests_at_the_goal_and_leaves_open_what_is_done_there(tmp_path):
    recipe, parts, facts, _ = made(tmp_path, known_ends=0.5, deadline=0.5)
    assert [recipe.ending(plan) for plan in range(3)] == [2, 3, 3]  # 6 steps, then a quarter of 12
    steps = planned(recipe, parts, facts, 8, goal=[7.0, -3.0])
    mean, std = (torch.tensor(facts[name]) for name in ("mean", "std"))
    rest = torch.cat(((torch.tensor([7.0, -3.0]) - mean[:2]) / std[:2], torch.zeros(3)))
    torch.testing.assert_close(steps[:, 6:], rest.expand(8, 6, 5))
    assert steps[:, :6].std() > 0.5
    later = planned(recipe, parts, facts, 8, goal=[7.0, -3.0], plan=torch.ones(8).long())
    torch.testing.assert_close(later[:, 3:], rest.expand(8, 9, 5))
    assert not torch.equal(later[:, :3], steps[:, :3])  # a plan of its own
    with pytest.raises(ValueError, match="a known end needs every observation of the goal"):
        planned(recipe, parts, facts, 8, goal=[7.0, math.nan])


def test_training_shows_ends_as_plans_have_them(tmp_path):
    recipe, parts, facts, data = made(tmp_path, known_ends=0.75)
    batch = data.train[torch.arange(400) % len(data.train)]
    clean = recipe.clean(parts, batch)
    t, counted = recipe.times(clean, Rng(0).samples(400))
    shown = recipe.shown(clean, t, counted, facts)
    known = (t == 0) & ~counted
    known[:, 0] = False
    lengths = known.sum(1)
    for length, share in ((0, 1 / 4), (1, 1 / 4), (2, 1 / 4), (3, 1 / 4)):
        assert (lengths == length).double().mean() == pytest.approx(share, abs=0.1)
    steps, before = (v.reshape(400, 5, 3, 5) for v in (shown, clean))
    assert torch.equal(steps[..., :2], before[..., :2])
    assert torch.equal(steps[~known], before[~known])
    assert not steps[known][..., 2:].any()
    # What is done there changes nothing, then, and what is observed does.
    loss = recipe.loss(recipe.build(facts), facts)
    network = recipe.build(facts).denoiser
    with Rng(0).torch():
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    keys, rows = Rng(0).samples(400), torch.arange(400)
    t, counted = recipe.times(clean, keys.fold("time"))
    last = ((t == 0) & ~counted)[:, -1]
    plain = loss(network, batch, keys, rows)
    for name, same in (("actions", True), ("rewards", True), ("observations", False)):
        other = {key: value.clone() for key, value in batch.items()}
        other[name][:, -3 - (name != "observations") :] += 1.0
        if name != "observations":
            other[name][:, -1] = batch[name][:, -1]  # is of no token
            other[name][:, -4] = batch[name][:, -4] + 1.0
        changed = loss(network, other, keys, rows)
        assert torch.equal(changed[last], plain[last]) == same


@pytest.mark.parametrize("tokens", [3, 5])
def test_windows_without_known_ends_are_what_they_were(tmp_path, tokens):
    recipe, parts, facts, data = made(tmp_path, horizon=3 * (tokens - 1))
    clean = recipe.clean(parts, data.train[torch.arange(20)])
    t, counted = recipe.times(clean, Rng(0).samples(20))
    assert (t[:, 1:] > 0).all()
    assert counted[:, 1:].all()
    assert recipe.shown(clean, t, counted, facts) is clean


class Still:
    """A drawer of plans that says where they come from: plan, step and start."""

    def __init__(self):
        self.given = []

    def __call__(self, given):
        self.given.append(given)
        n = len(given["observations"])
        steps = torch.zeros(n, H, 5)
        steps[..., 2] = given["plan"][:, None]
        steps[..., 3] = torch.arange(H)
        steps[..., 4] = 99.0  # the reward is not done
        return steps


def test_the_loop_does_what_the_plan_says_in_a_simulator_of_ones_own(tmp_path):
    recipe = made(tmp_path, replan=4)[0]
    draw, place, done = Still(), torch.full((3, 2), 5.0), []
    policy = recipe.planner(draw)
    goals = torch.tensor([[1.0, math.nan]]).expand(3, 2)
    for step in range(10):
        action = policy(step, place, goals)
        done.append(action[0].tolist())
        place = place + action
    assert done == [[float(k // 4), float(k % 4)] for k in range(10)]
    assert [given["observations"].shape for given in draw.given] == [(3, 1, 2)] * 3
    assert float(draw.given[1]["observations"][0, 0, 1]) == 5 + 0 + 1 + 2 + 3
    assert all(given["goal"] is goals for given in draw.given)
    assert set(policy.latency) == {"ms_per_plan", "ms_per_step"}
    policy(12, place)  # by rewards alone
    assert "goal" not in draw.given[-1]
    with pytest.raises(ValueError, match="plans from one observation, and the model from 2"):
        made(tmp_path, context=2)[0].planner(draw)
    with pytest.raises(ValueError, match="replan must be at most horizon = 12, got 13"):
        made(tmp_path, replan=13)[0].planner(draw)


def test_what_does_not_fit(tmp_path):
    for options, told in (
        ({"deadline": 0.5}, "train with known_ends 0.5, or lead by goal_guidance"),
        ({"known_ends": 1.5}, "known_ends is a share of the windows, got 1.5"),
        ({"known_ends": 0.5, "network": "causal"}, "a network that sees it: .* or known_ends 0"),
        ({"future_plan": "spiral"}, "future_plan: there is no plan 'spiral': choose"),
        ({"seek": "fame"}, "seek must be one of auto, goal, rewards, both"),
    ):
        with pytest.raises(ValueError, match=told):
            ForcingTrajectories(**{**TINY, **options})
    led = {"goal_guidance": "gradient"}
    for options, goal, told in (
        ({**led, "rewards": False}, None, "give a goal, or train with rewards"),
        ({**led, "seek": "goal"}, None, "seek goal needs a goal"),
        ({**led, "seek": "both"}, None, "seek both needs a goal"),
        ({**led, "rewards": False, "seek": "rewards"}, FAR[0], "is of models of rewards"),
        (led, [math.inf, 0.0], "a number for each of the 2 observations, .* with inf"),
    ):
        with pytest.raises(ValueError, match=told):
            planned(*made(tmp_path, **options)[:3], goal=goal)
    recipe = made(tmp_path, **led)[0]
    with pytest.raises(ValueError, match=r"each of the 2 observations, .* got shape \(16, 3\)"):
        recipe.goals({"goal": torch.zeros(16, 3)}, 2)


VALUES = {
    "deadline": [0.5],
    "goal_guidance": ["gradient", "monte-carlo"],
    "seek": ["goal", "rewards", "both"],
    "goal_scale": [7.0],
    "goal_begin": [0.6],
    "goal_rounds": [0, 2],
    "futures": [3],
    "future_plan": ["pyramid:1"],
    "future_steps": [2],
    "future_noise": ["small"],
    "replan": [6],
}
BY_GRADIENT, BY_FUTURES = {"goal_guidance": "gradient"}, {"goal_guidance": "monte-carlo"}


LED = [
    {},
    BY_GRADIENT,
    BY_FUTURES,
    {**BY_GRADIENT, "seek": "rewards"},
    {**BY_FUTURES, "seek": "rewards"},
    {**BY_GRADIENT, "goal_scale": 0.0},
    {**BY_FUTURES, "goal_begin": 0.0},
    {**BY_FUTURES, "goal_begin": 0.0, "goal_scale": 0.0},
    {**BY_FUTURES, "future_steps": 1},
    {**BY_FUTURES, "future_plan": "plan.csv"},
]
GOAL = [6.0, 20.0]
# A model without rewards is led by a goal alone.
CASES = [*itertools.product(LED, (GOAL, None)), ({**BY_GRADIENT, "rewards": False}, GOAL)]


@pytest.mark.parametrize(("options", "goal"), CASES)
def test_what_changes_nothing_of_plans_is_known_and_nothing_else(
    tmp_path, monkeypatch, options, goal
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plan.csv").write_text("".join(",".join(k * 5) + "\n" for k in "3210"))
    options = {"known_ends": 0.5, "sampling_steps": 3, "futures": 2, **options}
    options = {"future_steps": 3, **options}
    recipe, parts, facts, _ = made(tmp_path, **options)
    network = recipe.build(facts)  # of tokens that depend on each other
    with Rng(0).torch():
        for parameter in network.denoiser.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    parts = replace(parts, denoiser=network.denoiser)

    def drawn(**changes):
        try:
            return planned(replace(recipe, **changes), parts, facts, 2, goal)
        except ValueError:  # another seek, of goals or rewards that are not there
            return None

    plain, without = drawn(), set()
    assert VALUES.keys() == {field.name for field in fields(Leading)}
    for name, values in VALUES.items():
        others = [drawn(**{name: value}) for value in values]
        if all(other is None or torch.allclose(other, plain, atol=1e-5) for other in others):
            without.add(name)
    unused = recipe.unused("sample", goal=goal is not None)
    assert recipe.idle.keys() <= unused.keys()
    # No guidance is told by its scale or its beginning, and then not by its name too: one is left.
    none = recipe.goal_guidance != "none" and not (recipe.goal_scale and recipe.goal_begin)
    if none or recipe.future_steps == 1:
        without -= {"goal_guidance"}
    if not recipe.goal_scale:
        without -= {"goal_scale"}
    assert unused.keys() == without
    assert recipe.unused("evaluate") == recipe.unused("sample")
    # As it is with a goal, whether there is one or not, for those who draw from Python.
    if goal is not None:
        assert recipe.idle.keys() == without - {"replan"}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Of walks with rewards, by the command line, in the folder that is the current one."""
    monkeypatch.chdir(tmp_path)
    walks().save("mine.safetensors")
    words = ["train", "forcing-trajectories", "--data", "mine.safetensors", "--out", "run"]
    words += ["--rewards", "--network", "bidirectional", "--known-ends", "0.5", "--steps", "3"]
    words += ["--horizon", "12", "--stack", "3", "--starts", "4", "--heads", "2", "--samples", "5"]
    words += ["--sampling-steps", "2", "--width", "16", "--depth", "1", "--batch-size", "8"]
    assert main([*words, "--no-evaluate"]) == 0


@pytest.mark.usefixtures("run")
def test_options_of_no_use_are_refused_where_they_are_of_none(capsys, tmp_path):
    sample = ["sample", "run", "-n", "2", "--out", "plans.csv"]
    once, led = "plans that are drawn once, and not made anew", ["--goal-guidance", "gradient"]
    for given, told in (
        (["evaluate", "run", "--replan", "6"], f"replan changes nothing of {once}"),
        (["evaluate", "run", "--deadline", "0.5"], "deadline changes nothing of plans without a"),
        (["evaluate", "run", "--futures", "4"], "futures changes nothing of plans without guidanc"),
        (["evaluate", "run", *led, "--seek", "rewards"], "seek changes nothing of plans without a"),
        ([*sample, "--seek", "goal"], "seek changes nothing of plans without guidance"),
        ([*sample, "--goal-rounds", "0"], "goal_rounds changes nothing of plans without guidance"),
        ([*sample, "--replan", "6"], f"replan changes nothing of {once}"),
        ([*sample, "--deadline", "0.5"], "deadline changes nothing of plans without a goal"),
        ([*sample, *led, "--futures", "4"], "futures changes nothing of guidance without futures"),
    ):
        capsys.readouterr()
        assert main(given) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1, lines
        assert told in lines[0]
        assert lines[0].endswith(": leave it out")
    goal = ["--goal", "0=1", *led, "--seek", "rewards"]
    assert main([*sample, *goal]) == 2
    assert "nothing leads plans to a goal" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "plans.csv").exists()
    assert not (tmp_path / "run" / "evaluations").exists()
    # What says something, and what holds already, are no such.
    for given in (
        [*sample, "--futures", "8", "--replan", "null"],
        [*sample, "--force", *led, "--seek", "rewards", "--goal", "0=1,1=2", "--deadline", "0.5"],
        ["evaluate", "run", *led, "--goal-scale", "0"],
    ):
        assert main(given) == 0, given
    # From Python a planner may be asked for, too; what is judged is as it was.
    run = noiseloom.load("run", device="cpu")
    other = run.with_options(replan=6, deadline=0.5)
    assert other.recipe.planner(other.samples).every == 6
    kept = run.evaluate()
    (tmp_path / "run" / "evaluation.json").unlink()
    assert other.evaluate() == kept
    assert json.loads((tmp_path / "run" / "evaluation.json").read_text()) == kept


def test_numbers_of_columns():
    names, open_ = ["x", "y", "vx"], math.nan
    for text, said in (
        ("1.5,-2", [1.5, -2, open_]),
        ("y=3", [open_, 3, open_]),
        ("2=1e-3, x = 4", [4, open_, 1e-3]),
        ("1,2,3", [1, 2, 3]),
    ):
        found = numbers(text, names, "goal")
        torch.testing.assert_close(found, torch.tensor(said, dtype=torch.float32), equal_nan=True)
    for text, told in (
        ("z=1", "--goal z=1: there is no column z: choose from x, y, vx, or numbers from 0 to 2"),
        ("3=1", "there is no column 3"),
        ("1,2,3,4", "there is no column 3"),
        ("x=1,0=2", "column 0 is given twice"),
        ("x=", "nothing is no number"),
        ("x=nan", "nan is no number"),
        ("1,two", "two is no number"),
    ):
        with pytest.raises(ValueError, match=told):
            numbers(text, names, "goal")


@pytest.mark.usefixtures("run")
def test_from_a_file_to_plans_that_are_led(capsys, tmp_path):

    def plans(*more):
        capsys.readouterr()
        words = ["sample", "run", "-n", "3", "--out", "plans.csv", "--force", *more]
        assert main(words) == 0
        with open("plans.csv") as file:
            rows = [[float(v) for v in row.values()] for row in csv.DictReader(file)]
        return torch.tensor(rows).reshape(3, 12, -1)[..., 2:]

    plain = plans()
    by_rewards = plans("--goal-guidance", "gradient")
    assert not torch.equal(plain, by_rewards)
    to_goal = plans("--goal-guidance", "monte-carlo", "--futures", "1", "--goal", "-1,2")
    assert not torch.equal(by_rewards, to_goal)
    run = noiseloom.load("run", device="cpu").with_options(deadline=0.5)
    ended = plans("--deadline", "0.5", "--start", "-5,6", "--goal", "observation 1=2,0=-1")
    given = {"observations": torch.tensor([[[-5.0, 6.0]]]).expand(3, 1, 2)}
    given["goal"] = torch.tensor([[-1.0, 2.0]]).expand(3, 2)
    torch.testing.assert_close(ended, run.samples(given), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ended[:, 6:, :2], given["goal"][:, None].expand(3, 6, 2))
    capsys.readouterr()
    for words, told in (
        (["--goal", "0=1"], "nothing leads plans to a goal: give --goal-guidance gradient"),
        (["--deadline", "0.5", "--goal", "0=1"], "a known end needs every observation"),
        (["--start", "1"], "a start has 2 numbers, one for each column, got 1"),
        (["--arrival", "earliest"], "'arrival' is no option of sampling"),
    ):
        assert main(["sample", "run", "-n", "3", "--out", "other.csv", *words]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1, lines
        assert told in lines[0]
    # The number of a sample decides its draws, wherever it is drawn.
    drawn = run.samples({**given, "index": torch.tensor([7, 0, 2])})
    torch.testing.assert_close(drawn[1], ended[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(drawn[2], ended[2], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(drawn[0, :6], ended[1, :6])


def test_training_refuses_guidance_that_an_evaluation_has_no_goal_for(
    capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    walks().save("mine.safetensors")
    words = ["train", "forcing-trajectories", "--data", "mine.safetensors", "--out", "run"]
    assert main([*words, "--horizon", "12", "--goal-guidance", "gradient"]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert "an evaluation sets no goals: model --rewards, or give --goal-guidance to sample" in told
    assert not (tmp_path / "run").exists()
