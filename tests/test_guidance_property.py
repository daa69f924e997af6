"""Guidance by a guide of the noisy state: acquisition functions, scales, tilts, steps after moves.

The exact guide of y = a . x_0 + noise on Gaussian data is known, and so is the law it leads to.
Names say which of the checks of section 10 of the notes on Context-Guided Diffusion a test is.
"""

import math

import pytest
import torch
from oracles import F64, Gaussian
from torch import nn

from noiseloom.context import Guide, GuideOutput
from noiseloom.diffusion import (
    CategoricalDiffusion,
    GaussianDiffusion,
    Prediction,
    ProductDiffusion,
    RiemannianDiffusion,
    Symmetric,
    ZeroCentre,
)
from noiseloom.guidance import PropertyGuided, acquisition, best_of, nudged
from noiseloom.guidance.after_step import deviation
from noiseloom.guidance.scaling import bounded, clipped, constant, decaying, norm_ratio
from noiseloom.noise import EDM, SCHEDULES, Cosine, LinearGamma
from noiseloom.plan import SamplingPlan
from noiseloom.rng import Rng
from noiseloom.sampling import ancestral, final, heun, sample
from noiseloom.shapes import align

D, TARGET, S = 4, 1.7, 0.3
A = torch.tensor([0.9, -0.4, 0.0, 1.3], dtype=F64)
SCHEDULE = LinearGamma(clip=0.0)  # alpha^2 = 1 - t
schedules = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)


def at(value):
    return torch.tensor(value, dtype=F64)


def said(mean, variance):
    return GuideOutput(mean, variance, torch.zeros(len(mean), 1, dtype=mean.dtype))


# What is asked


def moments(seed=0, count=2):
    mean = Rng(seed).fold("mean").normal((50, count), F64).requires_grad_()
    variance = Rng(seed).fold("s").normal((50, count), F64).exp().requires_grad_()
    return mean, variance


def slopes(aim, mean, variance):
    value = aim(said(mean, variance))
    assert value.shape == (len(mean),)
    return value, *torch.autograd.grad(value.sum(), (mean, variance), materialize_grads=True)


def test_check_8_the_gradient_of_a_likelihood_is_the_closed_form():
    mean, s = moments()
    value, by_mean, by_s = slopes(acquisition.log_prob(TARGET, index=1), mean, s)
    mu, v = mean.detach()[:, 1], s.detach()[:, 1]
    law = torch.distributions.Normal(mu, v.sqrt())
    torch.testing.assert_close(value.detach(), law.log_prob(at(TARGET)), rtol=1e-13, atol=1e-13)
    right = (TARGET - mu) / v
    torch.testing.assert_close(by_mean[:, 1], right, rtol=1e-15, atol=1e-15)
    bend = ((TARGET - mu).square() / v.square() - 1 / v) / 2
    torch.testing.assert_close(by_s[:, 1], bend, rtol=1e-14, atol=1e-15)
    assert not by_mean[:, 0].any()
    # A guide with c times the variance pulls its mean 1 / c as much.
    _, weaker, _ = slopes(acquisition.log_prob(TARGET, index=1), mean, 8 * s)
    torch.testing.assert_close(weaker[:, 1], right / 8, rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize("minimise", [False, True])
def test_bounds_and_means(minimise):
    mean, s = moments(1)
    sign = -1 if minimise else 1
    root = s.detach()[:, 0].sqrt()
    for aim, side in [
        (acquisition.mean(minimise=minimise), 0.0),
        (acquisition.lcb(1.5, minimise=minimise), -1.5),
        (acquisition.ucb(1.5, minimise=minimise), 1.5),
    ]:
        value, by_mean, by_s = slopes(aim, mean, s)
        torch.testing.assert_close(value.detach(), sign * (mean.detach()[:, 0] + side * root))
        assert (by_mean[:, 0] == sign).all()
        torch.testing.assert_close(by_s[:, 0], sign * side / (2 * root))


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_improvement_has_a_value_and_a_slope_in_the_tails(dtype):
    z = torch.tensor([-200.0, -30.0, -2.0, 0.0, 2.0, 40.0], dtype=dtype)
    mean, s = (3 + 2 * z)[:, None].requires_grad_(), torch.full((6, 1), 4.0, dtype=dtype)
    value, by_mean, _ = slopes(acquisition.improvement(3.0), mean, s.requires_grad_())
    exact = [
        -0.5 * z * z - math.log(-z * math.sqrt(2 * math.pi)) - 1 / (z * z) for z in (-200.0, -30.0)
    ]
    exact += [math.log(0.5 * math.erfc(-z / math.sqrt(2))) for z in (-2.0, 0.0, 2.0)] + [0.0]
    assert value.tolist() == pytest.approx(exact, rel=2e-6, abs=1e-7)
    # Far below, the slope is that of a parabola, nearly -z / deviation; far above there is none.
    assert by_mean[:2, 0].tolist() == pytest.approx([100.0025, 15.0166], rel=1e-3)
    assert float(by_mean[-1]) == 0
    other, _, _ = slopes(acquisition.improvement(3.0, minimise=True), 6 - mean, s)
    torch.testing.assert_close(other, value)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_improvement_far_from_the_best_has_the_slope_of_a_parabola(dtype):
    """z + 1 / z beyond 100 deviations, to rounding: none is lost as the value grows."""
    z = torch.tensor([-100.0, -1e3, -1e5, -1e8, -1e15], dtype=dtype)
    mean, s = (2 * z)[:, None].requires_grad_(), torch.full((5, 1), 4.0, dtype=dtype)
    _, by_mean, by_s = slopes(acquisition.improvement(0.0), mean, s.requires_grad_())
    right = -(z + 1 / z)
    torch.testing.assert_close(2 * by_mean[:, 0], right, rtol=1e-6, atol=0)
    torch.testing.assert_close(by_s[:, 0], -right * z / 8, rtol=1e-6, atol=0)
    near = torch.tensor([-3.0, -0.4, 0.7, 4.0], dtype=F64, requires_grad=True)
    assert torch.autograd.gradgradcheck(acquisition.log_ndtr, near)
    assert torch.autograd.gradcheck(acquisition.log_ndtr, near)


def test_several_aims_are_weighed():
    mean, s = moments(2)
    aims = [acquisition.mean(), acquisition.log_prob(0.5, index=1, minimise=True)]
    both = acquisition.weighted((3.0, aims[0]), (0.5, aims[1]))
    right = 3 * aims[0](said(mean, s)) + 0.5 * aims[1](said(mean, s))
    torch.testing.assert_close(both(said(mean, s)), right)


# The exact guide


class ExactGuide(nn.Module):
    """p(y | x_t) where x_0 ~ N(0, 1) and y = a . x_0 + N(0, s): of one tensor, or of parts."""

    def __init__(self, schedule=SCHEDULE, a=A):
        super().__init__()
        self.schedule, self.a, self.given = schedule, a, []

    def predict(self, x, t, cond=None):
        self.given.append((x, t, cond))
        if not isinstance(x, dict):
            x, t, a, schedules = {"": x}, {"": t}, {"": self.a}, {"": self.schedule}
        else:
            a, schedules = self.a, self.schedule
        mean, variance = 0.0, S
        for name, part in x.items():
            alpha, sigma = schedules[name](align(t[name], part))
            total = alpha * alpha + sigma * sigma
            mean = mean + (alpha / total * part * a[name]).flatten(1).sum(1)
            left = (sigma * sigma / total).expand_as(part)
            variance = variance + (left * a[name] * a[name]).flatten(1).sum(1)
        return said(mean[:, None], variance[:, None])


def exactly(schedule=SCHEDULE, **options):
    d = GaussianDiffusion(schedule)
    guide, aim = ExactGuide(schedule), acquisition.log_prob(TARGET)
    return PropertyGuided(Gaussian(schedule), d, guide, aim, **options)


CENTRE = A * TARGET / (S + A @ A)
LEFT = torch.eye(D, dtype=F64) - torch.outer(A, A) / (S + A @ A)


@schedules
@pytest.mark.parametrize("t", [0.02, 0.4, 0.9])
def test_check_13_the_exact_guide_makes_the_posteriors_denoiser(schedule, t):
    alpha, sigma = schedule(at(t))
    x = alpha * Rng(0).normal((6, D), F64) + sigma * Rng(1).normal((6, D), F64)
    total = alpha * alpha * LEFT + sigma * sigma * torch.eye(D, dtype=F64)
    right = CENTRE + (x - alpha * CENTRE) @ torch.linalg.solve(total, alpha * LEFT)
    torch.testing.assert_close(exactly(schedule)(x, at(t))[0].mean, right, rtol=1e-7, atol=1e-8)


def angles(steps):
    times = torch.linspace(0, math.pi / 2, steps + 1, dtype=F64).sin().square()
    times[-1] = 1.0
    return times


def test_check_13_it_samples_the_posterior():
    """Mean a y / (s + a . a): the sampler is an affine map, read off at 0 and a basis."""
    errors = []
    basis = torch.cat((torch.zeros(1, D, dtype=F64), torch.eye(D, dtype=F64)))
    for steps in (100, 400):
        plan = SamplingPlan.from_times(angles(steps).flip(0))
        end = final(sample(exactly(), GaussianDiffusion(SCHEDULE), plan, basis, rng=Rng(0))).x
        matrix = end[1:] - end[:1]
        wrong = [(end[0] - CENTRE).abs().max(), (matrix.T @ matrix - LEFT).abs().max()]
        errors.append(max(map(float, wrong)))
    assert errors[1] < 0.01
    assert 0.7 < math.log(errors[0] / errors[1], 4) < 1.3


def test_check_13_parts_of_a_state_are_guided_together():
    """The same law, told in two parts with schedules and times of their own."""
    own = {"a": LinearGamma(clip=0.0), "b": EDM(8.0, 2.0)}
    product = ProductDiffusion({name: GaussianDiffusion(s) for name, s in own.items()})
    a = {"a": A[:3], "b": A[3:]}
    t = {"a": at(0.3), "b": at(0.6)}

    class Parts(nn.Module):
        def forward(self, x, t, cond=None, carry=None, rng=None):
            return {n: Gaussian(own[n])(x[n], t[n])[0] for n in x}, {}

    x = {"a": Rng(0).normal((5, 3), F64), "b": 3 * Rng(1).normal((5, 1), F64)}
    guided = PropertyGuided(Parts(), product, ExactGuide(own, a), acquisition.log_prob(TARGET))
    got = guided(x, t)[0]
    pairs = [own[n](t[n]) for n in ("a", "b")]
    alpha = torch.cat([pairs[0][0].expand(3), pairs[1][0].expand(1)])
    sigma = torch.cat([pairs[0][1].expand(3), pairs[1][1].expand(1)])
    total = alpha[:, None] * LEFT * alpha + (sigma * sigma).diag()
    whole = torch.cat((x["a"], x["b"]), 1)
    right = CENTRE + (whole - alpha * CENTRE) @ torch.linalg.solve(total, alpha[:, None] * LEFT)
    torch.testing.assert_close(torch.cat((got["a"].mean, got["b"].mean), 1), right)
    # Of chosen parts alone the others' predictions are what they were.
    guided.parts = ["b"]
    some, plain = guided(x, t)[0], Parts()(x, t)[0]
    assert torch.equal(some["a"].mean, plain["a"].mean)
    torch.testing.assert_close(some["b"].mean, got["b"].mean)


# Scales


@schedules
def test_check_13_scale_0_is_unguided_bit_for_bit(schedule):
    d, x, plan = GaussianDiffusion(schedule), Rng(0).normal((3, D)), SamplingPlan.uniform(6)
    guide, aim = ExactGuide(schedule, A.float()), acquisition.mean()
    solver, inner = ancestral(1.0), Gaussian(schedule)
    plain = final(sample(inner, d, plan, x, rng=Rng(1), solver=solver)).x
    tilted = PropertyGuided(inner, d, guide, aim, 0.0)
    assert torch.equal(final(sample(tilted, d, plan, x, rng=Rng(1), solver=solver)).x, plain)
    after = nudged(solver, guide, aim, 0.0)
    assert torch.equal(final(sample(inner, d, plan, x, rng=Rng(1), solver=after)).x, plain)
    assert not guide.given
    moved = PropertyGuided(inner, d, guide, aim, 1.0)
    assert not torch.equal(final(sample(moved, d, plan, x, rng=Rng(1), solver=solver)).x, plain)


def test_the_scale_is_a_factor_and_times_are_from_begin_on():
    x, t = Rng(0).normal((3, D), F64), at([0.2, 0.5, 0.9])
    plain = Gaussian(SCHEDULE)(x, t)[0].mean
    once = exactly()(x, t)[0].mean - plain
    thrice = exactly(scale=3.0)(x, t)[0].mean - plain
    torch.testing.assert_close(thrice, 3 * once)
    late = exactly(begin=0.5)(x, t)[0].mean - plain
    torch.testing.assert_close(late[:2], once[:2])
    assert not late[2].any()


def scores(diffusion, plain, guided, x, t):
    """The score before, and what guidance has added to it."""
    alpha, sigma = (v[..., *(None,) * (x.ndim - 1)] for v in diffusion.schedule(t))
    return (alpha * plain - x) / sigma**2, alpha * (guided - plain) / sigma**2


class Summing(nn.Module):
    """A guide of the sum of sines of entries, weighed: its gradient differs from entry to entry."""

    def predict(self, x, t, cond=None):
        parts = list(x.values()) if isinstance(x, dict) else [x]
        total = 0.0
        for part in parts:
            weights = Rng(5).normal(part.shape[1:], part.dtype)
            total = total + (weights * part.sin()).flatten(1).sum(1)
        return said(total[:, None], torch.ones_like(total)[:, None])


class Half(nn.Module):
    """Half of the state, of any space of numbers."""

    def forward(self, x, t, cond=None, carry=None, rng=None):
        if isinstance(x, dict):
            return {n: Prediction(part / 2) for n, part in x.items()}, {}
        return Prediction(x / 2), {}


SPACES = {
    "whole": (GaussianDiffusion(Cosine()), (5, 4, 3)),
    "centred": (GaussianDiffusion(Cosine(), ZeroCentre()), (5, 4, 3)),
    "symmetric": (GaussianDiffusion(EDM(2.0, 1.0), Symmetric()), (5, 4, 4, 2)),
}
spaces = pytest.mark.parametrize("space", SPACES)
TIMES = at([0.1, 0.3, 0.5, 0.7, 0.9])


@spaces
@pytest.mark.parametrize("order", [1, 2])
def test_check_13_norm_ratio_pulls_by_a_share_of_the_score(space, order):
    d, shape = SPACES[space]
    x = d.subspace.noise(Rng(0).normal(shape, F64))
    guided = PropertyGuided(Half(), d, Summing(), acquisition.mean(), 0.5)
    guided.rule = norm_ratio(order=order)
    before, added = scores(d, x / 2, guided(x, TIMES)[0].mean, x, TIMES)
    share = added.flatten(1).norm(order, dim=1) / before.flatten(1).norm(order, dim=1)
    torch.testing.assert_close(share, 0.5 * 0.1**TIMES)


@spaces
@pytest.mark.parametrize("limit", [0.1, 1e6])
def test_check_13_clipped_pulls_are_no_longer_than_the_limit(space, limit):
    d, shape = SPACES[space]
    x = d.subspace.noise(Rng(0).normal(shape, F64))
    whole, clip = (
        PropertyGuided(Half(), d, Summing(), acquisition.mean(), 2.0, rule=rule)(x, TIMES)[0].mean
        for rule in (constant, clipped(limit))
    )
    (_, free), (_, short) = (scores(d, x / 2, m, x, TIMES) for m in (whole, clip))
    norms = short.flatten(1).norm(dim=1)
    long = free.flatten(1).norm(dim=1)
    torch.testing.assert_close(norms, long.clamp_max(limit))
    assert bool((long > limit).all()) == (limit < 1)
    torch.testing.assert_close(short * (long / norms)[:, *(None,) * (x.ndim - 1)], free)


@spaces
@pytest.mark.parametrize("limit", [0.2, 1e6])
def test_bounded_estimates_move_no_farther_than_the_limit(space, limit):
    """Of the estimates, whatever sigma^2 / alpha makes of the pull; others are as they were."""
    d, shape = SPACES[space]
    x = d.subspace.noise(Rng(0).normal(shape, F64))
    rules = constant, bounded({"": d.schedule}, limit), bounded({}, limit)
    whole, short, other = (
        PropertyGuided(Half(), d, Summing(), acquisition.mean(), 2.0, rule=rule)(x, TIMES)[0].mean
        - x / 2
        for rule in rules
    )
    far, size = whole.flatten(1).norm(dim=1), (whole != 0).flatten(1).sum(1) ** 0.5
    torch.testing.assert_close(short.flatten(1).norm(dim=1), far.clamp_max(limit * size))
    assert bool((far > limit * size).any()) == (limit < 1)
    torch.testing.assert_close(
        short * (far / short.flatten(1).norm(dim=1))[:, *(None,) * (x.ndim - 1)], whole
    )
    assert torch.equal(other, whole)


def test_each_part_is_bounded_by_its_own_schedule():
    parts = {"a": GaussianDiffusion(Cosine()), "b": GaussianDiffusion(EDM(200.0, 1.0), Symmetric())}
    product = ProductDiffusion(parts)
    x = {"a": Rng(0).normal((5, 4), F64)}
    x["b"] = parts["b"].subspace.noise(Rng(1).normal((5, 3, 3, 1), F64))
    rule = bounded({n: d.schedule for n, d in parts.items()}, 1.0)
    t = torch.full((5,), 0.9, dtype=F64)
    free, short = (
        PropertyGuided(Half(), product, Summing(), acquisition.mean(), 0.01, rule=r)(x, t)[0]
        for r in (constant, rule)
    )
    assert torch.equal(free["a"].mean, short["a"].mean)
    torch.testing.assert_close(
        (short["b"].mean - x["b"] / 2).flatten(1).norm(dim=1),
        torch.full((5,), 6.0, dtype=F64).sqrt(),
    )


def test_a_bound_does_not_know_how_far_samples_are_padded():
    """Ten entries that are pulled, alone and among 38: the same factor."""
    rule, t = bounded({"": Cosine()}, 2.0), torch.full((1,), 0.5, dtype=F64)
    pull = 1e6 * Rng(0).normal((1, 10), F64)
    padded = torch.cat((pull, torch.zeros(1, 28, dtype=F64)), 1)
    alone, among = (rule(3.0, {"": p}, {"": None}, {"": t})[""] for p in (pull, padded))
    torch.testing.assert_close(among, alone)
    alpha, sigma = Cosine()(t)
    moved = alone * pull * sigma**2 / alpha
    torch.testing.assert_close(moved.square().mean().sqrt(), torch.tensor(2.0, dtype=F64))
    still = rule(3.0, {"": 0 * pull}, {"": None}, {"": t})[""]
    assert torch.equal(still, torch.full((1, 1), 3.0, dtype=F64))


@spaces
def test_guidance_stays_on_the_subspace_and_follows_its_gradient(space):
    """To first order the value rises by |pull|^2 along it: what is added is the steepest ascent."""
    d, shape = SPACES[space]
    x = d.subspace.noise(Rng(0).normal(shape, F64))
    guide = Summing()
    guided = PropertyGuided(Half(), d, guide, acquisition.mean(), 1.0)
    _, added = scores(d, x / 2, guided(x, TIMES)[0].mean, x, TIMES)
    again = d.subspace.noise(added)
    torch.testing.assert_close(again, added, rtol=0, atol=1e-12)
    if space == "symmetric":
        torch.testing.assert_close(added, added.transpose(1, 2))
        assert not added.diagonal(dim1=1, dim2=2).any()
    step = 1e-6
    rise = guide.predict(x + step * added, TIMES).mean - guide.predict(x - step * added, TIMES).mean
    # Of an adjacency both entries of a pair move, and count once: half of the square.
    square = added.square().flatten(1).sum(1) / (2 if space == "symmetric" else 1)
    torch.testing.assert_close(rise[:, 0] / (2 * step), square, rtol=1e-6, atol=1e-6)


def test_decay_is_a_factor_of_the_time():
    x = Rng(0).normal((5, D), F64)
    d = GaussianDiffusion(SCHEDULE)
    plain = PropertyGuided(Half(), d, Summing(), acquisition.mean(), 2.0)(x, TIMES)[0].mean
    slow = PropertyGuided(Half(), d, Summing(), acquisition.mean(), 2.0, rule=decaying(0.2))
    got = slow(x, TIMES)[0].mean - x / 2
    torch.testing.assert_close(got, (plain - x / 2) * (0.2**TIMES)[:, None])


def test_ratios_are_of_each_part_and_clips_of_the_whole_state():
    parts = {"a": GaussianDiffusion(Cosine()), "b": GaussianDiffusion(EDM(2.0, 1.0), Symmetric())}
    product = ProductDiffusion(parts)
    x = {"a": Rng(0).normal((5, 4), F64)}
    x["b"] = parts["b"].subspace.noise(Rng(1).normal((5, 3, 3, 1), F64))

    def added(rule, scale=0.5):
        own = PropertyGuided(Half(), product, Summing(), acquisition.mean(), scale, rule=rule)
        means = own(x, TIMES)[0]
        return {n: scores(parts[n], x[n] / 2, means[n].mean, x[n], TIMES) for n in x}

    for before, pull in added(norm_ratio(1.0)).values():
        share = pull.abs().flatten(1).sum(1) / before.abs().flatten(1).sum(1)
        torch.testing.assert_close(share, torch.full((5,), 0.5, dtype=F64))
    clip = added(clipped(0.3))
    length = sum(pull.square().flatten(1).sum(1) for _, pull in clip.values()).sqrt()
    torch.testing.assert_close(length, torch.full((5,), 0.3, dtype=F64))


def test_a_clipped_rule_is_the_rule_where_pulls_are_short():
    pull = Rng(0).normal((5, D), F64)
    (factor,) = clipped(1.5, decaying(0.1))(2.0, {"": pull}, {}, {"": TIMES}).values()
    right = 2 * 0.1**TIMES
    long = right * pull.norm(dim=1)
    torch.testing.assert_close((factor * pull).norm(dim=1), long.clamp_max(1.5))
    assert (long > 1.5).any()
    assert (long < 1.5).any()


def test_nothing_that_pulls_is_a_factor_of_0_and_not_nan():
    class Flat(nn.Module):
        def predict(self, x, t, cond=None):
            return said(0 * x[:, :1], torch.ones(len(x), 1, dtype=x.dtype))

    x = Rng(0).normal((5, D), F64)
    d = GaussianDiffusion(SCHEDULE)
    for rule in (norm_ratio(), clipped(1.0)):
        got = PropertyGuided(Half(), d, Flat(), acquisition.mean(), 1.0, rule=rule)(x, TIMES)[0]
        assert torch.equal(got.mean, x / 2)


# Classes


K = 3
LAW = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.6, 0.3]], dtype=F64)  # of two independent tokens
PHI = torch.tensor([[0.0, 1.0, -2.0], [0.7, 0.0, 1.5]], dtype=F64)  # ln p(y | x_0), token by token


class Alone(nn.Module):
    """The exact p(x_0 | x_t) of independent tokens."""

    def __init__(self, diffusion):
        super().__init__()
        self.diffusion = diffusion

    def forward(self, x, t, cond=None, carry=None, rng=None):
        p = LAW * self.diffusion.evidence(x, t).double().exp()
        p = p / p.sum(-1, keepdim=True)
        return Prediction(p), {}


class LinearGuide(nn.Module):
    """ln p(y | x_t) of masked tokens, which is linear in their one-hot vectors."""

    def predict(self, x, t, cond=None):
        table = torch.cat((PHI, (LAW * PHI.exp()).sum(-1, keepdim=True).log()), -1)
        value = (x * table).sum((1, 2))
        return said(value[:, None], torch.ones_like(value)[:, None])


def test_the_table_of_masks_is_exact_where_the_likelihood_has_a_factor_for_each_token():
    diffusion = CategoricalDiffusion(K)
    x = torch.tensor([[3, 3], [1, 3], [3, 0], [2, 2]])
    guided = PropertyGuided(Alone(diffusion), diffusion, LinearGuide(), acquisition.mean())
    got = guided(x, at([0.2, 0.5, 0.8, 0.9]))[0].mean
    right = LAW * PHI.exp()
    right = (right / right.sum(-1, keepdim=True)).expand(4, 2, 3).clone()
    for row, token in [(1, 0), (2, 1), (3, 0), (3, 1)]:
        right[row, token] = nn.functional.one_hot(x[row, token], K).double()
    torch.testing.assert_close(got, right, rtol=1e-6, atol=1e-7)
    begin = diffusion.prior((20000, 2), Rng(0))
    end = final(sample(guided, diffusion, SamplingPlan.uniform(3), begin, rng=Rng(1))).x
    for token in range(2):
        count = torch.bincount(end[:, token], minlength=K).double()
        expected = 20000 * right[0, token]
        chi = float(((count - expected).square() / expected).sum())
        assert chi < 13.8  # 0.1 % of chi^2 with 2 degrees of freedom


@pytest.mark.parametrize("kind", ["absorbing", "uniform"])
def test_a_guides_gradient_in_one_hot_vectors_is_the_difference_that_a_class_makes(kind):
    """For a guide that is nearly linear the table is what it says of one token changed."""
    diffusion = CategoricalDiffusion(4, kind)
    with Rng(3).torch():
        network = nn.Sequential(nn.Flatten(), nn.Linear(5 * diffusion.width, 6))
        guide = Guide(Timeless(network), diffusion, 6).double()
    x = diffusion.corrupt(Rng(0).integers(4, (3, 5)), at(0.5), Rng(1))
    t, plain = at(0.5), torch.full((3, 5, 4), 0.25, dtype=F64)

    class Even(nn.Module):
        def forward(self, x, t, cond=None, carry=None, rng=None):
            return Prediction(plain), {}

    guided = PropertyGuided(Even(), diffusion, guide, acquisition.mean(), 2.0)
    logits = guided(x, t)[0].logits
    base = guide.predict(x, t).mean
    for token, k in [(0, 1), (4, 3), (2, 0)]:
        other = x.clone()
        other[:, token] = k
        gain = 2 * (guide.predict(other, t).mean - base)[:, 0]
        torch.testing.assert_close(logits[:, token, k] - math.log(0.25), gain.detach())


class Timeless(nn.Module):
    """A network without times."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x, log_snr, cond=None):
        return self.inner(x)


# After a move


@schedules
@pytest.mark.parametrize(("t", "s"), [(1.0, 0.6), (0.6, 0.2), (0.2, 0.0), (0.4, 0.4)])
def test_the_deviation_is_that_of_the_posterior(schedule, t, s):
    (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule(at(t)), schedule(at(s))
    ratio = alpha_t / alpha_s
    fresh = (sigma_t**2 - ratio**2 * sigma_s**2).clamp_min(0).sqrt()
    right = fresh * sigma_s / sigma_t
    got = deviation(GaussianDiffusion(schedule), at(t), at(s))
    torch.testing.assert_close(got, right, rtol=1e-6, atol=1e-9)


@spaces
@pytest.mark.parametrize("scale", [0.5, 40.0])
def test_check_13_after_a_move_the_state_climbs_at_most_10_deviations(space, scale):
    d, shape = SPACES[space]
    x = d.subspace.noise(Rng(0).normal(shape, F64))
    t, s, guide = at(0.6), at(0.4), Summing()
    solver = nudged(ancestral(1.0), guide, acquisition.mean(minimise=True), scale)
    moved, _, _, _ = solver(Half(), d, x, t, s, None, {}, None, Rng(1))
    plain, _, _, _ = ancestral(1.0)(Half(), d, x, t, s, None, {}, None, Rng(1))
    step = (moved - plain) / deviation(d, t, s)
    leaf = plain.clone().requires_grad_()
    (grad,) = torch.autograd.grad(guide.predict(leaf, s).mean.sum(), leaf)
    pull = -scale * d.subspace.covariance(grad)
    length = pull.flatten(1).norm(dim=1)
    short = (10 / length).clamp_max(1)[:, *(None,) * (x.ndim - 1)]
    torch.testing.assert_close(step, pull * short)
    assert (step.flatten(1).norm(dim=1) <= 10 + 1e-9).all()
    assert bool((length > 10).any()) == (scale > 1)
    torch.testing.assert_close(d.subspace.noise(moved), moved, rtol=0, atol=1e-12)


def test_after_a_move_the_guide_is_told_where_the_state_is_and_moves_it_from_begin_on():
    d, x, guide = GaussianDiffusion(Cosine()), Rng(0).normal((3, D), F64), ExactGuide(Cosine())
    t, s = at([0.3, 0.6, 0.9]), at([0.2, 0.5, 0.7])
    plain, whole, late = (
        solver(Half(), d, x, t, s, None, {}, None, Rng(1))[0]
        for solver in (
            ancestral(1.0),
            nudged(ancestral(1.0), guide, acquisition.mean()),
            nudged(ancestral(1.0), guide, acquisition.mean(), begin=0.5),
        )
    )
    for seen, told, _ in guide.given:
        assert torch.equal(seen, plain)
        assert torch.equal(told, s)
    torch.testing.assert_close(late[:2], whole[:2])  # the second comes from before
    assert torch.equal(late[2], plain[2])
    assert (whole != plain).any(1).all()


def test_nothing_is_added_at_time_0_nor_where_a_token_stays():
    d, x, guide = GaussianDiffusion(Cosine()), Rng(0).normal((3, D), F64), ExactGuide(Cosine())
    solver = nudged(ancestral(), guide, acquisition.mean(), 1.0)
    plain = ancestral()
    args = (Half(), d, x)
    end = solver(*args, at(0.3), at(0.0), None, {}, None, Rng(1))[0]
    assert torch.equal(end, plain(*args, at(0.3), at(0.0), None, {}, None, Rng(1))[0])
    assert not guide.given
    t, s = at([[0.5, 0.5, 0.3, 0.0]]), at([[0.5, 0.2, 0.3, 0.0]])
    guide = Summing()
    moved = nudged(ancestral(), guide, acquisition.mean(), 1.0)(
        *args, t, s, None, {}, None, Rng(1)
    )[0]
    stays = (t == s)[0]
    assert torch.equal(moved[:, stays], x[:, stays])
    without = plain(*args, t, s, None, {}, None, Rng(1))[0]
    assert (moved != without)[:, ~stays].all()


def test_parts_are_nudged_and_classes_are_not():
    parts = {"a": GaussianDiffusion(Cosine()), "kinds": CategoricalDiffusion(3)}
    product = ProductDiffusion(parts)
    x = {"a": Rng(0).normal((2, 4), F64), "kinds": torch.tensor([[3, 1], [0, 3]])}

    class Both(nn.Module):
        def forward(self, x, t, cond=None, carry=None, rng=None):
            even = torch.full((2, 2, 3), 1 / 3, dtype=F64)
            return {"a": Prediction(x["a"] / 2), "kinds": Prediction(even)}, {}

    class First(nn.Module):
        def predict(self, x, t, cond=None):
            return Summing().predict(x["a"], t["a"])

    aim, row = acquisition.mean(), (at(0.6), at(0.3), None, {}, None, Rng(1))
    some = nudged(ancestral(), First(), aim, 1.0, parts=["a"])(
        Both(), product, x, *(dict.fromkeys(x, v) for v in row[:2]), *row[2:]
    )[0]
    plain = ancestral()(Both(), product, x, *row)[0]
    assert torch.equal(some["kinds"], plain["kinds"])
    assert (some["a"] != plain["a"]).all()
    with pytest.raises(
        TypeError, match="part 'kinds' is of CategoricalDiffusion: name other parts"
    ):
        nudged(ancestral(), First(), aim, 1.0)(Both(), product, x, *row)


def test_guides_are_told_what_they_should_know_and_no_more():
    guide = ExactGuide()
    own = exactly(told=("mask",))
    own.guide = guide
    own(Rng(0).normal((2, D), F64), at(0.5), {"mask": 1, "estimate": 2})
    assert guide.given[0][2] == {"mask": 1}


def test_samples_do_not_depend_on_the_batch_that_they_are_in():
    d, x, plan = GaussianDiffusion(Cosine()), Rng(2).normal((7, D), F64), SamplingPlan.uniform(5)
    own = PropertyGuided(
        Gaussian(Cosine()), d, Summing(), acquisition.mean(), 0.5, rule=norm_ratio()
    )
    solver = nudged(heun(), Summing(), acquisition.mean(), 1.0)

    def part(start, count):
        rng = Rng(1).samples(count, start)
        steps = sample(own, d, plan, x[start : start + count], rng=rng, solver=solver)
        return final(steps).x

    torch.testing.assert_close(torch.cat((part(0, 3), part(3, 4))), part(0, 7))


def test_the_best_of_a_loop_is_the_best_step_of_each_sample():
    d, x = GaussianDiffusion(Cosine()), Rng(0).normal((6, D), F64)
    steps = list(sample(Half(), d, SamplingPlan.uniform(7), x, rng=Rng(0)))
    worth = [(step.result * A).sum(1).sin() for step in steps]
    best, most = best_of(iter(steps), lambda clean: (clean * A).sum(1).sin())
    which = torch.stack(worth).argmax(0)
    assert torch.equal(most, torch.stack(worth).amax(0))
    for row, step in enumerate(which.tolist()):
        assert torch.equal(best[row], steps[step].result[row])
    assert len(which.unique()) > 1
    with pytest.raises(ValueError, match="no steps"):
        best_of([], lambda clean: clean)


# Errors


def other(diffusion, parts=None):
    guide = Guide(Timeless(nn.Identity()), GaussianDiffusion(), 3)
    return lambda: PropertyGuided(Half(), diffusion, guide, acquisition.mean(), parts=parts)


def asked(aim, x=None, **options):
    x = torch.zeros(2, D, dtype=F64) if x is None else x
    d = GaussianDiffusion(SCHEDULE)
    return lambda: PropertyGuided(Half(), d, ExactGuide(), aim, **options)(x, at(0.5))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            other(CategoricalDiffusion(5)),
            "a guide of numbers on Whole cannot guide absorbing classes of 5: train one",
        ),
        (other(GaussianDiffusion(Cosine(), ZeroCentre())), "cannot guide numbers on ZeroCentre"),
        (other(RiemannianDiffusion()), "cannot guide RiemannianDiffusion"),
        (
            other(ProductDiffusion({"a": GaussianDiffusion()})),
            r"cannot guide parts \(a: numbers on Whole\)",
        ),
        (other(GaussianDiffusion(), ["b"]), r"no parts \['b'\] in one tensor"),
        (asked(acquisition.mean(index=1)), "no property 1 of a guide of 1"),
        (asked(lambda said: said.mean), r"shape \(2,\), got \(2, 1\)"),
        (asked(lambda said: said.mean[:, 0].sqrt() - 1), "the guide's gradient is not finite: the"),
        (asked(lambda said: said.mean[:, 0].log()), "finite rewards, got -inf for example 0"),
        (asked(acquisition.mean(), begin=2.0), "begin must be a time"),
        (lambda: acquisition.lcb(-1.0), "kappa >= 0, got -1"),
        (lambda: acquisition.log_prob(float("nan")), "a target is a finite number"),
        (lambda: acquisition.weighted(), "one acquisition function or more"),
        (lambda: clipped(0.0), "above 0"),
        (lambda: bounded({}, 0.0), "above 0"),
        (lambda: norm_ratio(0.0), r"base must be in \(0, 1\]"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(make, message):
    with pytest.raises(ValueError, match=message) as said:
        make()
    assert "\n" not in str(said.value)


def test_classes_have_no_score_to_compare_with():
    diffusion = CategoricalDiffusion(K)
    own = PropertyGuided(
        Alone(diffusion), diffusion, LinearGuide(), acquisition.mean(), rule=norm_ratio()
    )
    with pytest.raises(TypeError, match="norm_ratio compares a pull with the score"):
        own(torch.tensor([[3, 3]]), at(0.5))
    numbers = nudged(ancestral(), Summing(), acquisition.mean(), rule=norm_ratio())
    with pytest.raises(TypeError, match="for PropertyGuided"):
        numbers(
            Half(),
            GaussianDiffusion(),
            torch.zeros(2, D, dtype=F64),
            at(0.5),
            at(0.4),
            None,
            {},
            None,
            Rng(0),
        )
