"""Plans over a dict of parts: what each part does, and the laws that are sampled along them."""

import json
import math

import pytest
import torch
from oracles import F64, Correlated
from torch import nn

from noiseloom.diffusion import GaussianDiffusion, Prediction, ProductDiffusion
from noiseloom.noise import Cosine, LinearGamma
from noiseloom.plan import SamplingPlan
from noiseloom.plan_parts import PartsPlan
from noiseloom.rng import Rng
from noiseloom.sampling import ancestral, dpm_solver_pp_2m, final, heun, resampled, sample

SIZES = {"text": 2, "image": 3}
T = sum(SIZES.values())
C = 0.8 ** (torch.arange(T, dtype=F64)[:, None] - torch.arange(T)).abs()
SCHEDULES = {"text": LinearGamma(clip=0.0), "image": Cosine()}
DIFFUSION = ProductDiffusion({name: GaussianDiffusion(own) for name, own in SCHEDULES.items()})
ONE_SCHEDULE = ProductDiffusion({name: GaussianDiffusion(Cosine()) for name in SIZES})


def joined(parts):
    return torch.cat([parts[name] for name in SIZES], -2)


def parted(x):
    return dict(zip(SIZES, x.split(list(SIZES.values()), -2), strict=True))


class Joint(nn.Module):
    """The exact denoiser of tokens of covariance C, told in two parts."""

    def __init__(self, schedules):
        super().__init__()
        self.schedules, self.law = schedules, Correlated(None, C)

    def forward(self, x, t, cond=None, carry=None, rng=None):
        pairs = {n: self.schedules[n](t[n].expand(1, SIZES[n])) for n in SIZES}
        alpha, sigma = (torch.cat([pairs[n][i] for n in SIZES], 1) for i in range(2))
        means = parted(self.law.gain(alpha, sigma) @ joined(x))
        return {name: Prediction(mean) for name, mean in means.items()}, dict(carry or {})


def plans(steps=4):
    text = SamplingPlan.autoregressive(steps, 2)
    image = SamplingPlan.pyramid(steps, 3, 1.5)
    return {
        "beside": PartsPlan.beside({"text": text, "image": image}),
        "delayed": PartsPlan.beside({"text": text, "image": image}, delays={"image": 3}),
        "in turn": PartsPlan.in_turn({"text": text, "image": image}),
        "backwards": PartsPlan.in_turn({"image": image, "text": text}),
        "overshot": PartsPlan.beside({"text": text.overshoot(0.5), "image": image}),
    }


@pytest.mark.parametrize("solver", [ancestral(), resampled(ancestral(), 2)], ids=["ddim", "twice"])
@pytest.mark.parametrize("name", plans())
def test_parts_are_sampled_as_tokens_side_by_side(name, solver):
    """The same moves on one tensor: with one schedule, a dict of parts is a way of writing it."""
    plan = plans()[name]
    one = SamplingPlan(
        torch.cat([plan.plans[n].t for n in SIZES], -1),
        torch.cat([plan.plans[n].s for n in SIZES], -1),
    )
    x = {n: Rng(0).fold(n).normal((2, size, 3), F64) for n, size in SIZES.items()}

    class Drawing(GaussianDiffusion):  # `resampled` draws: in one tensor, by the names of the parts
        def renoise(self, x, t, s, rng):
            return joined(
                ONE_SCHEDULE.renoise(parted(x), parted(t[..., None]), parted(s[..., None]), rng)
            )

    whole = Drawing(Cosine())
    apart = final(
        sample(
            Joint(dict.fromkeys(SIZES, Cosine())), ONE_SCHEDULE, plan, x, rng=Rng(1), solver=solver
        )
    )
    side = final(sample(Correlated(Cosine(), C), whole, one, joined(x), rng=Rng(1), solver=solver))
    for kind in ("x", "result"):
        torch.testing.assert_close(joined(getattr(apart, kind)), getattr(side, kind))
    assert len(plan) == len(one)


@pytest.mark.parametrize("name", ["beside", "in turn", "backwards"])
def test_the_joint_law_of_parts_is_sampled_whatever_their_order_and_schedules(name):
    errors = []
    for steps in (60, 240):
        basis = parted(torch.eye(T, dtype=F64)[None])
        end = joined(
            final(sample(Joint(SCHEDULES), DIFFUSION, plans(steps)[name], basis, rng=Rng(0))).x
        )[0]
        errors.append(float((end @ end.T - C).abs().max()))
    assert errors[1] < 0.03
    assert 0.7 < math.log(errors[0] / errors[1], 4) < 1.3


def test_a_held_part_is_what_the_others_follow():
    plan = plans(300)["beside"].hold("text")
    assert len(plan) == len(SamplingPlan.pyramid(300, 3, 1.5))
    basis = parted(torch.eye(T, dtype=F64)[None])
    end = final(sample(Joint(SCHEDULES), DIFFUSION, plan, basis, rng=Rng(0))).x
    assert torch.equal(end["text"], basis["text"])
    gain = torch.linalg.solve(C[:2, :2], C[:2, 2:]).T
    torch.testing.assert_close(end["image"][0, :, :2], gain, rtol=0, atol=0.01)
    own = end["image"][0, :, 2:]
    left = C[2:, 2:] - gain @ C[:2, 2:]
    torch.testing.assert_close(own @ own.T, left, rtol=0, atol=0.02)


def sizes(count=60):
    for i in range(count):
        rng = Rng(0).fold("sizes", i)
        numbers = [1 + int(k) for k in rng.integers(6, (6,))]
        own = {
            "a": SamplingPlan.pyramid(numbers[0], numbers[1], numbers[2] / 2),
            "b": SamplingPlan.trapezoid(numbers[3], numbers[4], numbers[5] / 3),
            "c": SamplingPlan.uniform(numbers[2]),
        }
        yield own, {"a": numbers[5] - 1, "c": numbers[3]}


def moving(plan):
    return (plan.s != plan.t).reshape(len(plan), -1).any(1)


def test_parts_move_as_alone_and_wait_at_their_ends():
    for own, delays in sizes():
        for plan in (
            PartsPlan.beside(own),
            PartsPlan.beside(own, delays=delays),
            PartsPlan.in_turn(own),
        ):
            assert all(moving(part).any() for part in plan.plans.values())
            for name, alone in own.items():
                part = plan.plans[name]
                assert len(part) == len(plan)
                assert torch.equal(part.t[moving(part)], alone.t)
                assert torch.equal(part.s[moving(part)], alone.s)
                assert torch.equal(part.t[1:], part.s[:-1])
                assert part.whole
        assert len(PartsPlan.beside(own)) == max(map(len, own.values()))
        assert len(PartsPlan.beside(own, delays=delays)) == max(
            len(alone) + delays.get(name, 0) for name, alone in own.items()
        )
        turns = PartsPlan.in_turn(own)
        assert len(turns) == sum(map(len, own.values()))
        movers = torch.stack([moving(part) for part in turns.plans.values()])
        assert (movers.sum(0) == 1).all()
        assert movers.int().argmax(0).diff().min() >= 0


def test_one_time_serves_all_parts():
    x = {n: Rng(0).fold(n).normal((2, size, 3), F64) for n, size in SIZES.items()}
    uniform = SamplingPlan.uniform(5)
    ends = [
        final(sample(Joint(SCHEDULES), DIFFUSION, plan, x, rng=Rng(0), solver=ancestral(1))).x
        for plan in (uniform, PartsPlan.beside(dict.fromkeys(SIZES, uniform)))
    ]
    for name in SIZES:
        torch.testing.assert_close(ends[0][name], ends[1][name])


def test_a_product_is_its_parts_with_draws_of_their_own():
    like = {n: torch.zeros(4, size, 3, dtype=F64) for n, size in SIZES.items()}
    rng, t, s = Rng(0).samples(4), torch.tensor([0.2, 0.5, 0.5, 1.0], dtype=F64), 0.3
    times = {"text": t, "image": t[:, None].expand(4, 3)}
    clean = {n: Rng(9).fold(n).normal(part.shape, F64) for n, part in like.items()}
    said = {n: Prediction(part / 2) for n, part in clean.items()}
    x = DIFFUSION.corrupt(clean, times, rng)
    lower = DIFFUSION.reverse(
        x, said, times, {n: s * v for n, v in times.items()}, rng, stochasticity=1.0
    )
    up = DIFFUSION.renoise(lower, {n: s * v for n, v in times.items()}, times, rng)
    same = DIFFUSION.reverse(x, said, times, times)
    prior, loss = DIFFUSION.prior(like, rng), DIFFUSION.loss(said, clean, x, times)
    tilted = DIFFUSION.tilt(said, clean, x, times)
    for n, part in like.items():
        own, key, at = DIFFUSION.parts[n], rng.fold(n), times[n]
        assert torch.equal(prior[n], own.prior(part, key))
        assert torch.equal(x[n], own.corrupt(clean[n], at, key))
        assert torch.equal(lower[n], own.reverse(x[n], said[n], at, s * at, key, stochasticity=1.0))
        assert torch.equal(up[n], own.renoise(lower[n], s * at, at, key))
        assert torch.equal(same[n], x[n])
        assert torch.equal(loss[n], own.loss(said[n], clean[n], x[n], at))
        assert torch.equal(tilted[n].mean, own.tilt(said[n], clean[n], x[n], at).mean)
    assert not torch.equal(prior["text"], prior["image"][:, :2])


def side_by_side(plan):
    """The moves of all parts, as those of tokens of one sequence."""
    t, s = (
        torch.cat(
            [getattr(part, kind).reshape(len(part), 1, -1) for part in plan.plans.values()], 2
        )
        for kind in ("t", "s")
    )
    return SamplingPlan(t, s)


@pytest.mark.parametrize("at", [0.0, 0.1, 0.4])
def test_what_is_done_rests_until_all_parts_are(at):
    for own, delays in sizes(20):
        for plan in (PartsPlan.in_turn(own), PartsPlan.beside(own, delays=delays)):
            for one in (plan, plan.hold("a")):
                rested, expected = one.rest(at), side_by_side(one).rest(at)
                assert torch.equal(side_by_side(rested).t, expected.t)
                assert torch.equal(side_by_side(rested).s, expected.s)
                for name, part in rested.plans.items():
                    assert part.t.shape[1:] == own[name].t.shape[1:]
            assert not one.plans["a"].t.any()  # what is held does not rest
    text, image = SamplingPlan.autoregressive(2, 2), SamplingPlan.uniform(2)
    plan = PartsPlan.in_turn({"text": text, "image": image}).rest(0.1)
    waits = [[0.5, 1], [0.1, 1], [0.1, 0.5]] + [[0.1, 0.1]] * 3
    assert plan.plans["text"].s[:, 0].tolist() == [*waits, [0, 0]]
    assert plan.plans["image"].s.tolist() == [1, 1, 1, 1, 0.5, 0.1, 0]
    with pytest.raises(ValueError, match=r"rest at a time in \[0, 1\), got 1"):
        plan.rest(1)


@pytest.mark.parametrize("steps", [0.0, 0.5, 2.0])
def test_every_part_overshoots_by_steps_of_its_own(steps):
    own = {"a": SamplingPlan.uniform(4), "b": SamplingPlan.uniform(10)}
    for plan in (PartsPlan.beside(own, delays={"a": 3}), PartsPlan.in_turn(own)):
        further = plan.overshoot(steps)
        assert further.gapless == (steps == 0)
        for name, alone in own.items():
            part, count = further.plans[name], len(alone)
            assert torch.equal(part.t, plan.plans[name].t)
            lower = 1 - (torch.arange(1, count + 1, dtype=F64) + steps) / count
            torch.testing.assert_close(part.s[moving(part)], lower.clamp(min=0))
    with pytest.raises(ValueError, match="overshoot needs a number of steps >= 0, got -1"):
        plan.overshoot(-1)


def test_a_plan_of_parts_is_whole_and_gapless_if_all_of_them_are():
    own, one = SamplingPlan.autoregressive(2, 3), SamplingPlan.uniform(6)
    plan = PartsPlan.in_turn({"a": own, "b": one})
    assert plan.whole
    assert plan.gapless
    plan.check_whole()
    cut = SamplingPlan(own.t[:-1], own.s[:-1])
    short = PartsPlan.beside({"b": one, "a": cut})
    assert not short.whole
    assert short.gapless
    with pytest.raises(
        ValueError, match=r"part 'a': token 2 ends at t = 0\.5, not 0: a plan leads"
    ):
        short.check_whole()
    assert not PartsPlan({"b": one, "a": own.overshoot(1)}).gapless
    assert not plan.hold("a").whole


def test_a_plan_of_parts_keeps_what_it_was_made_of():
    own = {"a": SamplingPlan.uniform(2)}
    plan = PartsPlan(own)
    own["b"] = SamplingPlan.uniform(3)
    assert list(plan.plans) == ["a"]


@pytest.mark.parametrize("at", [0.0, 0.25, 1.0])
def test_a_part_is_held_at_the_time_that_is_asked_for(at):
    for plan in plans().values():
        held = plan.hold("text", at)
        assert (held.plans["text"].t == at).all()
        assert (held.plans["text"].s == at).all()
        rows = moving(plan.plans["image"])
        assert torch.equal(held.plans["image"].t, plan.plans["image"].t[rows])
        assert torch.equal(held.plans["image"].s, plan.plans["image"].s[rows])


def test_json_comes_back_to_the_last_bit(tmp_path):
    path = tmp_path / "plan.json"
    for plan in plans(3).values():
        plan.save(path)
        read = PartsPlan.load(path)
        assert list(read.plans) == list(plan.plans)
        for name, part in plan.plans.items():
            assert torch.equal(read.plans[name].t, part.t)
            assert torch.equal(read.plans[name].s, part.s)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ('{"t": [1], "s": [0]}', "under 'parts'"),
        ('{"parts": {}}', "under 'parts'"),
        ('{"parts": {"a": {"t": [1]}}}', "part 'a': a plan needs rows 't' and 's'"),
        ('{"parts": {"a": {"t": [1], "s": [2]}}}', "0 <= s <= t <= 1"),
        (
            json.dumps({"parts": {"a": {"t": [1], "s": [0]}, "b": {"t": [0.2], "s": [0.3]}}}),
            "part 'b': a plan needs 0 <= s <= t <= 1, got t = 0.2",
        ),
        (
            json.dumps({"parts": {"a": {"t": [1], "s": [0]}, "b": {"t": [1, 1], "s": [1, 0]}}}),
            "one and the same number of rows, got {'a': 1, 'b': 2}",
        ),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(tmp_path, text, message):
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        PartsPlan.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_plan_of_parts_shows_itself():
    plan = PartsPlan.in_turn({"a": SamplingPlan.uniform(2), "b": SamplingPlan.pyramid(2, 2, 1)})
    assert str(plan) == "PartsPlan of 5 rows: a, from 1 to 0; b, 2 tokens, from 1 to 0"
    assert plan.heatmap().splitlines() == ["▒│██", " │██", " │▒█", " │ ▒", " │  "]


def test_what_does_not_fit_is_said_in_one_line():
    plan, x = plans()["beside"], parted(torch.zeros(1, T, 1))
    for make in (PartsPlan, PartsPlan.beside, PartsPlan.in_turn):
        with pytest.raises(ValueError, match="needs one part or more, by name, and has none"):
            make({})
    for delay in (1.5, 1.0, "1", None, True):
        with pytest.raises(
            TypeError, match=f"delay of 'text' is a whole number of rows, got {delay!r}"
        ):
            PartsPlan.beside(plan.plans, delays={"text": delay})
    for delays in ({"text": -1}, {"sound": 1}):
        with pytest.raises(ValueError, match=r"rows >= 0 of one of \['image', 'text'\], got"):
            PartsPlan.beside(plan.plans, delays=delays)
    with pytest.raises(ValueError, match=r"\['image', 'text'\] cannot hold 'sound'"):
        plan.hold("sound")
    with pytest.raises(ValueError, match="leaves no part to move"):
        plan.hold("text").hold("image")

    def run(plan, x, solver=None):
        return next(sample(Joint(SCHEDULES), DIFFUSION, plan, x, rng=Rng(0), solver=solver))

    for state in ({"text": x["text"]}, x["text"]):
        with pytest.raises(ValueError, match=r"expected the parts \['image', 'text'\], got"):
            run(plan, state)
    with pytest.raises(ValueError, match="need a plan each"):
        run(SamplingPlan.full_sequence(2, 3), x)
    with pytest.raises(ValueError, match="times of more than one axis are given by part"):
        DIFFUSION.corrupt(x, torch.zeros(1, 3), Rng(0))
    for solver in (heun(), dpm_solver_pp_2m()):
        with pytest.raises(TypeError, match="moves one tensor, not the parts"):
            run(plan, x, solver)
