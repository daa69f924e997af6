"""Plans: rows of moves, and the asymmetric time intervals of check 16."""

import math

import pytest
import torch
from oracles import F64

from noiseloom.noise import EDM, SCHEDULES, Cosine
from noiseloom.plan import SamplingPlan
from noiseloom.rng import Rng


def test_the_uniform_plan_has_equal_steps():
    for n in (1, 2, 10, 1000):
        plan = SamplingPlan.uniform(n)
        assert len(plan) == n
        expected_t = [1 - i / n for i in range(n)]
        assert plan.t.tolist() == expected_t
        assert torch.equal(plan.t[1:], plan.s[:-1])
        assert float(plan.s[-1]) == 0
        assert plan.t.dtype == F64


@pytest.mark.parametrize("d", [0, 0.01, 0.1, 0.5, 1, 2, 7, 9, 20])
@pytest.mark.parametrize("n", [1, 2, 5, 10, 100])
def test_check_16_overshoot_is_the_papers_formula(n, d):
    plan = SamplingPlan.uniform(n).overshoot(d)
    t = [1 - i / n for i in range(n)]
    s = [min(max(1 - (i + 1 + d) / n, 0), t[i]) for i in range(n)]
    torch.testing.assert_close(plan.t, torch.tensor(t, dtype=F64), rtol=0, atol=0)
    torch.testing.assert_close(plan.s, torch.tensor(s, dtype=F64), rtol=0, atol=1e-15)
    assert (plan.s >= 0).all()
    if d >= n - 1:
        assert not plan.s.any()


def test_check_16_no_overshoot_is_the_plan_itself():
    plan = SamplingPlan.uniform(10)
    assert plan.overshoot(0) is plan
    with pytest.raises(ValueError, match=r"got -0\.5"):
        plan.overshoot(-0.5)


def autoregressive(tokens, steps):
    """Token after token, rows of shape (1, T), clean ones stay at 0 and later ones at 1."""
    times = SamplingPlan.uniform(steps)
    t = torch.ones(tokens * steps, 1, tokens, dtype=F64)
    for k in range(tokens):
        t[(k + 1) * steps :, 0, k] = 0
        t[k * steps : (k + 1) * steps, 0, k] = times.t
    s = torch.cat((t[1:], torch.zeros(1, 1, tokens, dtype=F64)))
    return SamplingPlan(t, s)


def test_overshoot_lowers_each_token_along_its_own_moves_only():
    for d in (0.5, 1, 3, 50):
        plan = autoregressive(3, 4)
        over = plan.overshoot(d)
        alone = SamplingPlan.uniform(4).overshoot(d)
        assert torch.equal(plan.t, over.t)
        for k in range(3):
            rows = slice(4 * k, 4 * (k + 1))
            assert torch.equal(over.s[rows, 0, k], alone.s)
        still = plan.s == plan.t
        assert torch.equal(over.s[still], plan.t[still])


def test_overshoot_stops_at_a_tokens_own_end():
    plan = SamplingPlan.from_times(torch.tensor([1.0, 0.8, 0.6, 0.4])).overshoot(1.5)
    assert plan.s.tolist() == pytest.approx([0.5, 0.4, 0.4], abs=1e-7)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_karras_levels_are_uniform_in_their_root(schedule):
    low, high, rho, n = 0.01, 20.0, 5.0, 12
    plan = SamplingPlan.karras(n, schedule, sigma_min=low, sigma_max=high, rho=rho)
    assert len(plan) == n
    assert float(plan.t[0]) == 1
    assert float(plan.s[-1]) == 0
    alpha, sigma = schedule(plan.t[1:])
    roots = (sigma / alpha) ** (1 / rho)
    ends = [high ** (1 / rho), low ** (1 / rho)]
    expected = [ends[0] + i / (n - 1) * (ends[1] - ends[0]) for i in range(1, n)]
    torch.testing.assert_close(roots, torch.tensor(expected, dtype=F64), rtol=1e-6, atol=0)
    assert (plan.t > plan.s).all()


def test_karras_on_edm_is_uniform_in_time_but_for_its_last_step():
    plan = SamplingPlan.karras(18, EDM())
    assert (plan.t.diff().diff().abs() < 1e-12).all()
    _, sigma = EDM()(plan.t)
    assert sigma[[0, -1]].tolist() == pytest.approx([80, 0.002], rel=1e-9)


@pytest.mark.parametrize(
    ("t", "s"),
    [
        ([0.5], [0.6]),
        ([1.1], [0.5]),
        ([0.5], [-0.1]),
        ([math.nan], [0.5]),
        ([0.5], [math.nan]),
    ],
)
def test_plans_go_down_within_0_and_1(t, s):
    with pytest.raises(ValueError, match=r"0 <= s <= t <= 1.*row 1"):
        SamplingPlan(torch.tensor([1.0, *t]), torch.tensor([0.5, *s]))


def test_shapes_and_steps_are_checked():
    for t, s in (((3,), (2,)), ((0,), (0,)), ((), ()), ((2, 1, 3), (2, 3))):
        with pytest.raises(ValueError, match="rows of equal shape"):
            SamplingPlan(torch.zeros(t), torch.zeros(s))
    with pytest.raises(ValueError, match="at least one step"):
        SamplingPlan.uniform(0)
    for bad in ({"steps": 1}, {"steps": 9, "sigma_min": 0}, {"steps": 9, "rho": 0}):
        with pytest.raises(ValueError, match="karras needs"):
            SamplingPlan.karras(**{"schedule": Cosine(), **bad})


def test_rows_are_scalars_on_the_cpu_or_in_the_type_of_the_state():
    x = torch.zeros(2, 3, 1)
    for t, s in SamplingPlan.uniform(3).rows(x):
        assert t.shape == s.shape == ()
        assert t.dtype == F64
    for t, s in autoregressive(3, 2).rows(x):
        assert t.shape == s.shape == (1, 3)
        assert t.dtype == torch.float32


def test_a_plan_shows_itself():
    assert str(SamplingPlan.uniform(4)) == "SamplingPlan of 4 rows, from 1 to 0"
    assert str(autoregressive(2, 2)) == "SamplingPlan of 4 rows of 2 tokens, from 1 to 0"
    part = SamplingPlan(torch.tensor([[[0.5, 1.0]]]), torch.tensor([[[0.25, 0.5]]]))
    assert str(part) == "SamplingPlan of 1 rows of 2 tokens, from 0.5 .. 1 to 0.25 .. 0.5"


def test_a_heat_map_shades_the_times_moved_to():
    assert SamplingPlan.uniform(4).heatmap() == "▓\n▒\n░\n "
    assert autoregressive(2, 2).heatmap().splitlines() == ["▒█", " █", " ▒", "  "]
    still = SamplingPlan(torch.ones(1, 1, 2), torch.tensor([[[1.0, 0.13]]]))
    assert still.heatmap() == "█░"


def test_a_large_heat_map_keeps_its_ends_and_is_evenly_spaced():
    assert SamplingPlan.uniform(100).heatmap(height=3) == "█\n▒\n "  # steps 0, 50 and 99
    tokens = torch.linspace(1, 0, 9, dtype=F64)[None, None].expand(2, 1, 9)
    assert SamplingPlan(tokens, tokens).heatmap(width=5).splitlines() == ["█▓▒░ "] * 2
    lines = autoregressive(70, 1).heatmap().splitlines()
    assert len(lines) == 16
    assert {len(line) for line in lines} == {64}
    for size in ({"width": 0}, {"height": 0}):
        with pytest.raises(ValueError, match="width and height >= 1"):
            SamplingPlan.uniform(3).heatmap(**size)


def test_random_plans_keep_their_promise_under_overshoot():
    for i in range(30):
        rng = Rng(0).fold("plan", i)
        steps, tokens = (2 + int(k) for k in rng.integers(6, (2,)))
        times = rng.uniform((steps + 1, 1, tokens), F64).sort(0, descending=True).values
        plan = SamplingPlan.from_times(times)
        over = plan.overshoot(4 * float(rng.fold("d").uniform(())))
        assert (over.s <= plan.s).all()
        assert (over.s >= plan.s[-1]).all()


def test_held_tokens_stay_and_idle_rows_go():
    plan = SamplingPlan.autoregressive(4, 3)
    for tokens in ([0], 0, torch.tensor([0]), [-3], torch.tensor([True, False, False])):
        held = plan.hold(tokens)
        assert len(held) == 8
        assert not held.t[..., 0].any()
        assert not held.s[..., 0].any()
        assert torch.equal(held.t[..., 1:], plan.t[4:, :, 1:])
        assert torch.equal(held.s[..., 1:], plan.s[4:, :, 1:])
    assert torch.equal(plan.t, autoregressive(3, 4).t)  # a transform leaves its plan alone
    assert torch.equal(plan.hold([]).t, plan.t)


def test_held_tokens_stay_whatever_the_plan():
    for i in range(40):
        rng = Rng(1).fold("hold", i)
        steps, tokens = (2 + int(k) for k in rng.fold("n").integers(6, (2,)))
        plan = SamplingPlan.pyramid(steps, tokens, float(rng.fold("u").uniform(())) * steps)
        mask = rng.fold("mask").uniform((tokens,)) < 0.5
        mask[int(rng.fold("free").integers(tokens, ()))] = False
        held = plan.hold(mask, at=0.3)
        assert (held.t[..., mask] == 0.3).all()
        assert (held.s[..., mask] == 0.3).all()
        free = (plan.t > plan.s)[..., ~mask]
        rows = free.flatten(1).any(1)
        assert torch.equal(held.t[..., ~mask], plan.t[rows][..., ~mask])
        assert torch.equal(held.s[..., ~mask], plan.s[rows][..., ~mask])
        over = held.overshoot(1.0)
        assert (over.s[..., mask] == 0.3).all()


def test_holding_is_checked():
    plan = SamplingPlan.full_sequence(4, 3)
    for tokens in ([3], [-4], torch.tensor([True, False])):
        with pytest.raises(ValueError, match="3 tokens"):
            plan.hold(tokens)
    with pytest.raises(ValueError, match="leaves no token to move"):
        plan.hold([0, 1, 2])
    with pytest.raises(ValueError, match="full_sequence"):
        SamplingPlan.uniform(4).hold([0])
    with pytest.raises(ValueError, match="0 <= s <= t <= 1"):
        plan.hold([0], at=1.5)
    for tokens in ([0.5], 1.0, torch.tensor([0.0, 2.0])):  # which would be cut to whole numbers
        with pytest.raises(ValueError, match="tokens to hold are indices or a mask, got"):
            plan.hold(tokens)
    assert torch.equal(plan.hold([]).s, plan.s)


@pytest.mark.parametrize("steps", [-1.0, float("nan"), float("inf")])
def test_overshoot_is_a_number_of_steps(steps):
    with pytest.raises(ValueError, match="overshoot needs a number of steps >= 0, got"):
        SamplingPlan.uniform(4).overshoot(steps)


@pytest.mark.parametrize("shape", [(2, 1, 0), (2, 0), (0,), (0, 1, 3)])
def test_a_plan_has_rows_and_each_of_them_times(shape):
    with pytest.raises(ValueError, match="equal shape, each of one time or more, got") as caught:
        SamplingPlan(torch.zeros(shape), torch.zeros(shape))
    assert str(shape) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_rows_touch_until_one_overshoots():
    for plan in (SamplingPlan.uniform(5), SamplingPlan.pyramid(5, 3, 2).rest(0.1)):
        assert plan.gapless
        assert not plan.overshoot(0.5).gapless
    assert SamplingPlan.uniform(1).gapless


def test_a_time_is_shared_if_no_token_is_ahead():
    for plan in (SamplingPlan.uniform(5), SamplingPlan.full_sequence(5, 3).rest(0.1)):
        assert plan.shared
    for plan in (SamplingPlan.pyramid(5, 3, 2), SamplingPlan.full_sequence(5, 3).hold([1])):
        assert not plan.shared


def test_a_plan_among_known_tokens_keeps_its_shape_there():
    plan = SamplingPlan.trapezoid(3, 5, 1)
    whole = plan.among(8, [1, 2, 3, 5, 6], at=0.25)
    for given, made in ((plan.t, whole.t), (plan.s, whole.s)):
        assert torch.equal(made[..., [1, 2, 3, 5, 6]], given)
        assert (made[..., [0, 4, 7]] == 0.25).all()
    assert torch.equal(plan.s, plan.s.flip(2))  # which a trapezoid that was cut is not
    one = SamplingPlan.from_times(torch.tensor([1.0, 0.5, 0.0])[:, None, None]).among(4, [1, 2])
    assert one.s[:, 0].tolist() == [[0, 0.5, 0.5, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize("name", ["autoregressive", "full_sequence"])
@pytest.mark.parametrize("places", [[2, 3, 4], [0, 1], [1, 3]])
def test_among_known_tokens_plans_without_a_middle_are_those_that_were_cut(name, places):
    make = getattr(SamplingPlan, name)
    cut = make(3, 5).hold([i for i in range(5) if i not in places], 0.1)
    put = make(3, len(places)).among(5, places, 0.1)
    assert torch.equal(put.t, cut.t)
    assert torch.equal(put.s, cut.s)


def test_places_among_known_tokens_are_checked():
    plan = SamplingPlan.full_sequence(2, 2)
    for places, told in (
        ([0, 1, 2], r"3 tokens among 4 need a plan of so many, got times of shape \(1, 2\)"),
        ([1, 1], r"different indices in 0 .. 3, got \[1, 1\]"),
        ([1, 4], r"different indices in 0 .. 3, got \[1, 4\]"),
        ([-1, 0], r"different indices in 0 .. 3, got \[-1, 0\]"),
    ):
        with pytest.raises(ValueError, match=told):
            plan.among(4, places)
    with pytest.raises(ValueError, match="need a plan of so many"):
        SamplingPlan.uniform(2).among(4, [0])


def test_a_plan_for_other_tokens_is_named():
    plan, told = (
        SamplingPlan.full_sequence(4, 5),
        r"a SamplingPlan of 4 rows of 5 tokens, from 1 to 0 ",
    )
    with pytest.raises(
        ValueError, match=told + r"does not fit a state of shape \(2, 3, 1\)"
    ) as caught:
        next(plan.rows(torch.zeros(2, 3, 1)))
    assert "\n" not in str(caught.value)
