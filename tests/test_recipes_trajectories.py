"""Futures of trajectories: tokens and back, the known start, and from a file to plans in a file."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import noiseloom
from noiseloom import Rng
from noiseloom.cli import main
from noiseloom.data import Trajectories
from noiseloom.recipes import ForcingTrajectories
from noiseloom.tokens import TeacherForced

TINY = {"width": 16, "depth": 1, "heads": 2, "horizon": 6, "stack": 3, "sampling_steps": 2}


def walks(episodes=6, steps=30, seed=0):
    """Walks in the plane: the velocity is the action, and what it earns is its first entry."""
    actions = Rng(seed).normal((episodes, steps, 2))
    places = 5 + (actions.cumsum(1) - actions) * torch.tensor([1.0, 10.0])
    ends = steps * torch.arange(1, episodes + 1)
    return Trajectories(
        places.flatten(0, 1), actions.flatten(0, 1), actions[..., 0].flatten(), None, ends
    )


def made(tmp_path, data=None, **options):
    """A recipe, its parts with random outputs, its facts and its data."""
    path = tmp_path / "walks.safetensors"
    (data or walks()).save(path, force=True)
    recipe = ForcingTrajectories(**{**TINY, **options})
    split = recipe.load(str(path))
    facts = recipe.facts(split)
    with Rng(0).torch():
        parts = recipe.build(facts)
        for parameter in parts.denoiser.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return recipe, parts, facts, split


KINDS = [{}, {"context": 2}, {"context": 3, "rewards": True}]


@pytest.mark.parametrize("options", KINDS)
def test_tokens_and_back(tmp_path, options):
    recipe, parts, facts, data = made(tmp_path, **options)
    batch, c = data.train[torch.arange(5)], recipe.context
    tokens = recipe.clean(parts, batch)
    columns = 5 if recipe.rewards else 4
    assert tokens.shape == (5, 3, 3 * columns)
    assert len(facts["columns"]) == columns
    steps = recipe.decode(parts, tokens, {})
    torch.testing.assert_close(steps[..., :2], batch["observations"][:, c:], rtol=1e-5, atol=1e-5)
    did = batch["actions"][:, c - 1 : -1]
    torch.testing.assert_close(steps[..., 2:4], did, rtol=1e-5, atol=1e-5)
    if recipe.rewards:
        earned = batch["rewards"][:, c - 1 : -1]
        torch.testing.assert_close(steps[..., 4], earned, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("options", KINDS)
def test_the_first_token_holds_what_is_known_and_nothing_else(tmp_path, options):
    recipe, parts, _, data = made(tmp_path, **options)
    batch, c = data.train[torch.arange(5)], recipe.context
    tokens = recipe.clean(parts, batch)
    slots = parts.codec.decode(tokens[:, :1]).reshape(5, 3, -1)
    for j in range(3):
        k = max(j - (3 - c), 0)  # the earliest fills what is left
        torch.testing.assert_close(
            slots[:, j, :2], batch["observations"][:, k], rtol=1e-5, atol=1e-5
        )
        if j > 3 - c:
            did = batch["actions"][:, k - 1]
            torch.testing.assert_close(slots[:, j, 2:4], did, rtol=1e-5, atol=1e-5)
        else:  # not known: at the mean, which is 0 to the network
            assert tokens[:, 0].reshape(5, 3, -1)[:, j, 2:].abs().max() < 1e-6
    later = {name: rows.clone() for name, rows in batch.items()}
    for name in ("observations", "actions", "rewards"):
        later[name][:, c - (name != "observations") :] += 1
    other = recipe.clean(parts, later)
    assert torch.equal(other[:, 0], tokens[:, 0])
    assert not torch.equal(other[:, 1], tokens[:, 1])


def test_tokens_are_of_unit_size(tmp_path):
    recipe, parts, _, data = made(tmp_path)
    tokens = recipe.clean(parts, data.train[torch.arange(len(data.train))])
    steps = recipe.steps_of(tokens).flatten(0, 1)
    torch.testing.assert_close(steps.std(0), torch.ones(4), rtol=0.2, atol=0)


@pytest.mark.parametrize("forcing", ["independent", "full-sequence", "teacher-forcing"])
def test_the_start_is_clean_and_does_not_count(tmp_path, forcing):
    recipe, parts, facts, data = made(tmp_path, forcing=forcing)
    batch = data.train[torch.arange(40)]
    t, counted = recipe.times(recipe.clean(parts, batch), Rng(0))
    assert t.shape == counted.shape == (40, 3)
    assert (t[:, 0] == 0).all()
    assert not counted[:, 0].any()
    assert counted.any(1).all()
    assert (t[:, 1:] > 0).any(1).all()
    assert (t[:, 1] == t[:, 2]).all() == (forcing == "full-sequence")
    loss = recipe.loss(parts, facts)(parts.denoiser, batch, Rng(0), torch.arange(40))
    assert loss.shape == (40,)
    assert loss.isfinite().all()


@pytest.mark.parametrize(
    "options",
    [{}, {"network": "recurrent"}, {"network": "bidirectional", "context": 2}]
    + [{"network": "bidirectional", "plan": f} for f in ("pyramid:1", "trapezoid:1", "chunked:1")],
)
def test_the_start_is_held_exactly_in_every_plan(tmp_path, options):
    recipe, parts, facts, data = made(tmp_path, **options)
    given = recipe.asked(data.held_out, torch.tensor([0, 4]), 3)
    known = recipe.known(parts, given["observations"], given["done"])
    keys = Rng(1).fold("sampling")
    steps = list(recipe.draw(parts, facts, given, keys.samples(6)))
    for step in steps:
        assert torch.equal(step.x[:, :1], known)
        assert torch.equal(step.result[:, :1], known)
    plans = recipe.decode(parts, steps[-1].result, given)
    assert plans.shape == (6, 6, 4)
    assert not torch.equal(plans[0], plans[1])
    alone = {name: rows[4:5] for name, rows in given.items()}
    *_, last = recipe.draw(parts, facts, alone, keys.samples(1, 4))
    torch.testing.assert_close(last.result[0], steps[-1].result[4], rtol=1e-4, atol=1e-4)
    moved = {**given, "observations": given["observations"] + 1}
    *_, last = recipe.draw(parts, facts, moved, keys.samples(6))
    assert not torch.allclose(last.result[:, 1:], steps[-1].result[:, 1:])


def test_errors_known_by_hand(tmp_path):
    straight = torch.arange(40.0)[:, None] * torch.tensor([1.0, 2.0])
    data = Trajectories(straight.repeat(4, 1), torch.zeros(160, 1), ends=40 * torch.arange(1, 5))
    recipe, _, _, split = made(tmp_path, data, context=2, samples=3)
    std = straight.repeat(3, 1).std(0)

    def perfect(given):
        ahead = torch.arange(1.0, 7)[:, None] * torch.tensor([1.0, 2.0])
        steps = given["observations"][:, -1:] + ahead
        return torch.cat((steps, torch.zeros(*steps.shape[:2], 1)), -1)

    report = recipe.evaluate(perfect, split, Rng(0))
    assert report["n"] == 3
    assert report["error"] == pytest.approx(0, abs=1e-5)
    assert report["error_velocity"] == pytest.approx(0, abs=1e-5)
    assert report["inside_90"] == 1
    still = (torch.arange(1.0, 7).square().mean() * (1 / std[0] ** 2 + 4 / std[1] ** 2) / 2).sqrt()
    assert report["error_still"] == pytest.approx(float(still), rel=1e-4)

    off = recipe.evaluate(lambda given: perfect(given) + std[0], split, Rng(0))
    both = (1 + float(std[0] / std[1]) ** 2) / 2
    assert off["error"] == pytest.approx(both**0.5, rel=1e-4)
    assert off["inside_90"] == 0


def test_what_does_not_fit(tmp_path):
    for options, told in (
        ({"horizon": 7}, "horizon must be a multiple of stack, got 7 steps in tokens of 3"),
        ({"horizon": 0}, "horizon must be a multiple"),
        ({"context": 4}, r"context must be in 1 .. stack = 3, got 4"),
        ({"starts": 0}, "starts must be at least 1"),
    ):
        with pytest.raises(ValueError, match=told):
            ForcingTrajectories(**{**TINY, **options})
    with pytest.raises(ValueError, match="needs --data FILE"):
        ForcingTrajectories().load(None)
    with pytest.raises(
        ValueError, match=r"a window has 31 steps .* episode .* 30: lower --horizon"
    ):
        made(tmp_path, horizon=30)
    with pytest.raises(
        ValueError, match="to hold out 10: lower --horizon, raise --held-out, or take more"
    ):
        made(tmp_path, walks(1, 100), horizon=12)
    bare = Trajectories(walks().observations, walks().actions)
    with pytest.raises(ValueError, match="has no rewards: leave --rewards out"):
        made(tmp_path, bare, rewards=True)
    recipe, parts, facts, data = made(tmp_path)
    given = recipe.asked(data.held_out, torch.tensor([0]), 1)
    with pytest.raises(ValueError, match="follows 1 observations of 2 numbers"):
        recipe.draw(
            parts, facts, {**given, "observations": torch.zeros(1, 2, 2)}, Rng(0).samples(1)
        )


def test_what_was_done_between_observations_is_asked_for(tmp_path):
    recipe, parts, facts, data = made(tmp_path, context=2)
    given = recipe.asked(data.held_out, torch.tensor([0]), 1)
    del given["done"]
    told = r"between 2 observations 1 steps of 2 numbers were done, got done of shape \(1, 0, 2\)"
    with pytest.raises(ValueError, match=told):
        recipe.draw(parts, facts, given, Rng(0).samples(1))


def test_short_episodes_are_padded_to_be_trained_on_and_not_judged_by(tmp_path):
    long, short, few = walks(3), walks(2, 5, seed=1), walks(1, 3, seed=2)
    alone = made(tmp_path, long)[-1]
    mixed = Trajectories.joined([short, long, few])
    recipe, _, facts, data = made(tmp_path, mixed)
    assert data.notes == (
        "2 of 6 episodes have fewer than 7 steps: padded to be trained on, not judged by",
        "1 of 6 episodes have fewer than 4 steps: left out",
    )
    everything = [torch.arange(len(part)) for part in (alone.train, alone.held_out)]
    held = data.held_out[torch.arange(len(data.held_out))]
    assert "real" not in held
    for name, rows in alone.held_out[everything[1]].items():
        assert torch.equal(held[name], rows)
    # First all windows that there were, and then those of five steps, which begin at 0 and at 1.
    assert len(data.train) == len(alone.train) + 2 * 2
    first = data.train[everything[0]]
    assert first.pop("real").all()
    for name, rows in alone.train[everything[0]].items():
        assert torch.equal(first[name], rows)
    batch = data.train[torch.arange(len(alone.train), len(data.train))]
    assert batch["real"].sum(1).tolist() == [5, 4, 5, 4]
    assert recipe.real(batch).tolist() == [[True, True, False]] * 4  # of three steps each
    assert facts["mean"] != recipe.facts(alone)["mean"]
    short.save(tmp_path / "short.safetensors")
    with pytest.raises(ValueError, match=r"a window has 7 steps .* or to hold out 5: lower"):
        recipe.load(str(tmp_path / "short.safetensors"))


MISSING = [
    {},
    {"forcing": "full-sequence", "network": "bidirectional"},
    {"forcing": "teacher-forcing"},
    {"forcing": "teacher-forcing", "network": "recurrent", "context": 2},
    {"forcing": "teacher-forcing", "network": "bidirectional"},
    {"self_conditioning": 0.5, "weight": "fused-snr", "schedule": "linear"},
    {"network": "recurrent", "rewards": True},
]


@pytest.mark.parametrize("options", MISSING)
def test_what_stands_in_the_place_of_padding_changes_nothing(tmp_path, options):
    recipe, parts, facts, data = made(tmp_path, horizon=12, **options)
    loss, keys = recipe.loss(parts, facts), Rng(3).samples(6)
    batch, rows = data.train[torch.arange(0, 18, 3)], torch.arange(6)

    def found(batch):
        parts.denoiser.zero_grad()
        each = loss(parts.denoiser, batch, keys, rows)
        each.sum().backward()
        return [each.detach(), *(p.grad.clone() for p in parts.denoiser.parameters())]

    # All of it real is what it is for those who do not ask, bit for bit.
    plain = found(batch)
    whole = torch.ones(6, recipe.context + 12, dtype=torch.bool)
    assert all(map(torch.equal, found({**batch, "real": whole}), plain))

    # Of five tokens after the known one, so many are there.
    counts = recipe.context + torch.tensor([12, 9, 8, 6, 5, 3])
    real = torch.arange(recipe.context + 12) < counts[:, None]
    one = found({**batch, "real": real})
    for value in (100.0, -1e30, float("inf")):
        other = {
            name: column.masked_fill(~real.reshape(*real.shape, *[1] * (column.ndim - 2)), value)
            for name, column in batch.items()
        }
        assert all(map(torch.equal, found({**other, "real": real}), one))
    assert all(part.isfinite().all() for part in one)
    assert not torch.equal(one[0][1:], plain[0][1:])


@pytest.mark.parametrize("options", [o for o in MISSING if o.get("network") != "bidirectional"])
def test_tokens_before_padding_weigh_as_much_as_in_a_whole_window(tmp_path, options):
    """Causal networks see no padding behind them: the others' share of the whole loss is left."""
    recipe, parts, facts, data = made(tmp_path, horizon=12, **{**options, "self_conditioning": 0.0})
    loss, keys = recipe.loss(parts, facts), Rng(3).samples(6)
    batch, rows = data.train[torch.arange(6)], torch.arange(6)
    left = []
    for n in range(5):
        real = (torch.arange(recipe.context + 12) < recipe.context + 3 * n).expand(6, -1)
        left.append(loss(parts.denoiser, {**batch, "real": real}, keys, rows).detach())
    assert not left[0].any()
    each = torch.stack(left).diff(dim=0)  # of one token more
    assert (each > 0).all()
    # As a mean over all four of the squared error of each, weighted by hand.
    clean = recipe.clean(parts, batch)
    t, _ = recipe.times(clean, keys.fold("time"))
    x = parts.diffusion.corrupt(clean, t, keys.fold("noise"))
    if recipe.clean_past:
        said, _ = TeacherForced(parts.denoiser)(x, t, {"past": clean})
    else:
        said, _ = parts.denoiser(x, t)
    error = (said.mean - clean).square().mean(-1)
    weight = recipe.make_weight()(parts.diffusion.schedule.log_snr(t))
    torch.testing.assert_close(each, (error * weight)[:, 1:].T / 4, rtol=1e-4, atol=1e-5)


def test_plans_are_learnt_from_short_episodes_too(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Trajectories.joined([walks(4, 12), walks(40, 6, seed=1)]).save("mine.safetensors")
    words = ["train", "forcing-trajectories", "--data", "mine.safetensors", "--out", "run"]
    words += ["--horizon", "6", "--stack", "3", "--starts", "4", "--heads", "2", "--samples", "5"]
    words += ["--sampling-steps", "2", "--width", "16", "--depth", "1", "--batch-size", "8"]
    assert main([*words, "--steps", "3", "--json"]) == 0
    said = capsys.readouterr()
    note = "data: 40 of 44 episodes have fewer than 7 steps: padded to be trained on, not judged by"
    assert note in said.err.splitlines()
    assert json.loads(said.out)["metrics"]["error"] > 0
    assert "<svg" in (tmp_path / "run" / "report.html").read_text()
    assert main(["sample", "run", "-n", "3"]) == 0
    assert "3 plans of 6 steps" in capsys.readouterr().out


def test_from_a_file_to_plans_in_a_file(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = walks()
    shape = 6, 30, 2
    np.savez(
        "mine.npz",
        observations=data.observations.reshape(shape).numpy(),
        actions=data.actions.reshape(shape).numpy(),
    )
    words = ["train", "forcing-trajectories", "--data", "mine.npz", "--out", "run", "--steps", "3"]
    words += ["--horizon", "6", "--stack", "3", "--context", "2", "--starts", "4", "--heads", "2"]
    words += ["--samples", "5", "--sampling-steps", "2", "--width", "16", "--depth", "1"]
    assert main([*words, "--batch-size", "8", "--json"]) == 0
    metrics = json.loads(capsys.readouterr().out)["metrics"]
    assert metrics.keys() == {"n", "error", "error_still", "error_velocity", "inside_90"}
    page = (tmp_path / "run" / "report.html").read_text()
    assert page.count("<svg") == 2 + 4 * 3  # plan and loss; at each start two columns and the plane
    assert "<th>standing still</th><th>at constant velocity</th>" in page

    assert main(["sample", "run", "-n", "3", "--seed", "2"]) == 0
    said = capsys.readouterr()
    assert "3 plans of 6 steps: run-seed2.csv" in said.out
    assert said.err.splitlines()[1] == " ▒█"  # the known token is held
    with (tmp_path / "run-seed2.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 18
    assert [*rows[0]][:3] == ["plan", "step", "observation 0"]
    run = noiseloom.load("run", device="cpu")
    held = run.recipe.load("mine.npz").held_out
    starts = torch.linspace(0, len(held) - 1, 3).round().long()
    drawn = run.samples(run.recipe.asked(held, starts, 1), seed=2).flatten(0, 1)
    told = torch.tensor([[float(row[name]) for name in run.facts["columns"]] for row in rows])
    torch.testing.assert_close(told, drawn, rtol=1e-4, atol=1e-4)

    np.savez("other.npz", observations=np.zeros((90, 3)))
    for words, told_so in (
        (["sample", "run", "--data", "other.npz"], "the run draws trajectories of columns"),
        (["sample", "run", "--label", "1"], "leave --label out"),
        (["sample", "run", "-n", "3", "--seed", "2"], "replace it with --force"),
        (["evaluate", "run", "--data", "other.npz"], "the run draws trajectories of columns"),
        (["evaluate", "run", "--arrival", "earliest"], "'arrival' is no option of sampling"),
        (["sample", "run", "--start", "1,2", "--force"], "plans of this run follow 2 observations"),
    ):
        assert main(words) == 2
        assert told_so in capsys.readouterr().err.splitlines()[-1]


def test_a_plan_is_of_the_tokens_to_come():
    recipe = ForcingTrajectories(**{**TINY, "horizon": 12}, plan="trapezoid:1", rest=0.0)
    for end in (0, 1):
        plan = recipe.whole_plan(None, end).s[:, 0]
        own = plan[:, 1 : recipe.tokens - end]
        assert torch.equal(own, own.flip(1))
        assert not plan[:, [0, *range(recipe.tokens - end, recipe.tokens)]].any()
        for name in ("auto", "full-sequence", "autoregressive"):
            named = replace(recipe, plan=name, rest=0.1)
            known = [0, *range(recipe.tokens - end, recipe.tokens)]
            before, now = named.make_plan(None).hold(known), named.whole_plan(None, end)
            assert torch.equal(now.t, before.t)
            assert torch.equal(now.s, before.s)
