"""Guidance by rewards on a process whose denoiser, posterior and futures are known.

Tokens are an AR(1) process, x_0 ~ N(0, C). The reward -(x_T - g)^2 / (2 w) of the last one tilts it
to a Gaussian again. Names say which of the checks of section 13.6 of the notes on Diffusion Forcing
a test is.
"""

import math

import pytest
import torch
from oracles import F64, Constant, Correlated
from torch import nn

from noiseloom.conditioning import SelfConditioned
from noiseloom.diffusion import GaussianDiffusion, Prediction
from noiseloom.guidance import MonteCarloGuided, RewardGuided
from noiseloom.noise import LinearGamma
from noiseloom.plan import SamplingPlan
from noiseloom.rng import Rng
from noiseloom.sampling import ancestral, dpm_solver_pp_2m, final, heun, resampled, sample

PHI, T, GOAL, W = 0.8, 4, 1.5, 0.5
C = PHI ** (torch.arange(T, dtype=F64)[:, None] - torch.arange(T)).abs()
SCHEDULE = LinearGamma(clip=0.0)  # alpha^2 = 1 - t
DIFFUSION = GaussianDiffusion(SCHEDULE)
MIXED = torch.tensor([[0.3, 0.5, 0.8, 0.6]], dtype=F64)
PAST = torch.tensor([[0.0, 0.5, 1.0, 1.0]], dtype=F64)  # what a causal denoiser is exact for
# The law p(x_0) exp(r(x_0)).
E = torch.eye(T, dtype=F64)[-1]
TILTED = torch.linalg.inv(torch.linalg.inv(C) + torch.outer(E, E) / W)
CENTRE = TILTED @ E * (GOAL / W)


def quadratic(x):
    return -(x[:, -1] - GOAL).square().sum(1) / (2 * W)


def linear(x):
    return GOAL * x[:, -1].sum(1)


def exact(causal=False):
    return Correlated(SCHEDULE, C, causal)


def posterior(t):
    """d E[x_0 | x_t] / d x_t and the covariance of x_0 given x_t, times of shape (1, T)."""
    alpha, sigma = SCHEDULE(t[0])
    gain = exact().gain(alpha, sigma)
    return gain, C - (gain * alpha) @ C


def present(t, rows=1):
    """A draw of x_t, the same in all rows."""
    clean = torch.linalg.cholesky(C) @ Rng(1).fold("x").normal((1, T, 1), F64)
    return DIFFUSION.corrupt(clean, t, Rng(1).fold("noise")).expand(rows, T, 1).contiguous()


def gradients(guide, x, t, rng=None):
    """What was handed to `tilt`, shape (B, T), where a token is neither clean nor pure noise."""
    alpha, sigma = SCHEDULE(t)
    shift = guide(x, t, rng=rng)[0].mean - guide.denoiser(x, t)[0].mean
    return (shift[..., 0] * alpha / sigma.square()).where((t > 0) & (t < 1), 0)


def only_moving(gradient, t):
    return gradient.where((t[0] > 0) & (t[0] < 1), 0)


def monte_carlo(reward, futures=1, steps=3, causal=False, **options):
    make = SamplingPlan.autoregressive if causal else SamplingPlan.full_sequence
    plan = make(steps, T, times=angles(steps))
    return MonteCarloGuided(exact(causal), DIFFUSION, reward, futures=futures, plan=plan, **options)


def angles(steps):
    """Times of equal steps of the angle: of this schedule's time, those at both ends are large."""
    times = torch.linspace(0, math.pi / 2, steps + 1, dtype=F64).sin().square()
    times[-1] = 1.0
    return times


def law(denoiser, steps):
    """Mean and covariance of what DDIM samples: an affine map, read off at 0 and a basis."""
    basis = torch.cat((torch.zeros(T, 1, dtype=F64), torch.eye(T, dtype=F64)), 1)[None]
    plan = SamplingPlan.full_sequence(steps, T, times=angles(steps))
    end = final(sample(denoiser, DIFFUSION, plan, basis, rng=Rng(0))).x[0]
    matrix = end[:, 1:] - end[:, :1]
    return end[:, 0], matrix @ matrix.T


def distance(denoiser, steps, mean, covariance):
    got_mean, got = law(denoiser, steps)
    return max(float((got_mean - mean).abs().max()), float((got - covariance).abs().max()))


class ExactlyGuided(nn.Module):
    """The closed form of grad log E[exp r | x_t] through `tilt`."""

    def __init__(self):
        super().__init__()
        self.denoiser = exact()

    def forward(self, x, t, cond=None, carry=None, rng=None):
        prediction, carry = self.denoiser(x, t)
        gain, left = posterior(t)
        pull = (GOAL - prediction.mean[:, -1:]) / (left[-1, -1] + W)
        return DIFFUSION.tilt(prediction, gain[-1][:, None] * pull, x, t), carry


def test_check_13_6_exact_guidance_is_the_denoiser_of_the_gaussian_posterior():
    x = present(MIXED, 3) + Rng(2).normal((3, T, 1), F64)
    alpha = SCHEDULE(MIXED)[0][..., None]
    centre = CENTRE[:, None]
    tilted = centre + Correlated(SCHEDULE, TILTED)(x - alpha * centre, MIXED)[0].mean
    torch.testing.assert_close(ExactlyGuided()(x, MIXED)[0].mean, tilted, rtol=1e-10, atol=1e-10)


def test_check_13_6_exact_guidance_samples_the_posterior_and_the_plug_in_does_not():
    coarse, fine = (distance(ExactlyGuided(), n, CENTRE, TILTED) for n in (100, 400))
    assert fine < 0.02
    assert 0.7 < math.log(coarse / fine, 4) < 1.3
    plug_in = RewardGuided(exact(), DIFFUSION, quadratic)
    biases = [distance(plug_in, n, CENTRE, TILTED) for n in (100, 400)]
    assert min(biases) > 0.1
    assert abs(biases[0] - biases[1]) < 0.02


@pytest.mark.parametrize("t", [MIXED, PAST, MIXED / 10], ids=["mixed", "past", "low"])
def test_check_13_6_the_plug_in_is_too_large_by_the_posterior_variance(t):
    x, (gain, left) = present(t), posterior(t)
    m, v = exact()(x, t)[0].mean[0, -1, 0], left[-1, -1]
    right = (GOAL - m) / (v + W) * gain[-1]
    got = gradients(RewardGuided(exact(), DIFFUSION, quadratic), x, t)[0]
    torch.testing.assert_close(got, only_moving(right * (1 + v / W), t))


def test_check_13_6_the_plug_in_is_exact_for_a_linear_reward():
    mean = GOAL * C @ E  # exp(b x) moves a Gaussian and leaves its covariance
    guide = RewardGuided(exact(), DIFFUSION, linear)
    coarse, fine = (distance(guide, n, mean, C) for n in (100, 400))
    assert fine < 0.05
    assert 0.7 < math.log(coarse / fine, 4) < 1.3


@pytest.mark.parametrize("average", ["mean", "exp"])
@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize(("t", "causal"), [(MIXED, False), (PAST, False), (PAST, True)])
def test_check_13_6_one_future_is_exact_for_a_linear_reward(t, causal, steps, average):
    """The mean of an ancestral move is that of the process, however long the move is."""
    guide = monte_carlo(linear, steps=steps, causal=causal, average=average)
    right = only_moving(GOAL * posterior(t)[0][-1], t)
    got = gradients(guide, present(t, 5), t, Rng(0))
    torch.testing.assert_close(got, right.expand(5, T), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("t", "causal"), [(MIXED, False), (PAST, False), (PAST, True)])
def test_check_13_6_one_future_is_unbiased_for_a_quadratic_reward(t, causal):
    n, (gain, _) = 4000, posterior(t)
    x = present(t, n)
    right = only_moving((GOAL - exact()(x, t)[0].mean[0, -1, 0]) / W * gain[-1], t)
    got = gradients(monte_carlo(quadratic, steps=8, causal=causal), x, t, Rng(3))
    moving = (t[0] > 0) & (t[0] < 1)
    off = (got.mean(0) - right)[moving] / (got.std(0) / math.sqrt(n))[moving]
    assert off.abs().max() < 3, off
    assert (got.std(0)[moving] > 0).all()  # it is an estimate, not the plug-in
    # As the reward is quadratic, grad E[r] is the plug-in, and not the exact guide.
    plug_in = gradients(RewardGuided(exact(), DIFFUSION, quadratic), x[:1], t)[0]
    torch.testing.assert_close(plug_in, right)


def test_check_13_6_the_variance_falls_as_one_over_the_futures():
    n, counts = 3000, [1, 2, 4, 8, 16]
    spread = []
    for count in counts:
        guide = monte_carlo(quadratic, count, steps=4)
        got = gradients(guide, present(MIXED, n), MIXED, Rng(count))
        spread.append(float(got.var(0).sum().log()))
    sizes = torch.tensor(counts, dtype=F64).log()
    sizes = sizes - sizes.mean()
    slope = float((sizes * torch.tensor(spread, dtype=F64)).sum() / sizes.square().sum())
    assert slope == pytest.approx(-1, abs=0.1)


def test_check_13_6_weighed_futures_tend_to_the_exact_guide():
    """Of the law that a few steps sample: its mean is exact and its variance v is known."""
    steps, x, n = 6, present(MIXED), 96000
    v = futures_law(monte_carlo(quadratic, steps=steps).plan, MIXED)[1][-1, -1]
    gain, m = posterior(MIXED)[0], exact()(x, MIXED)[0].mean[0, -1, 0]
    right = (GOAL - m) / (v + W) * gain[-1]
    biases = []
    for count in (1, 4, 16):
        guide = monte_carlo(quadratic, count, steps, average="exp")
        got = gradients(guide, present(MIXED, n // count), MIXED, Rng(5))
        biases.append(float((got @ right).mean() / right.square().sum()) - 1)
    # One future: the gradient of the mean reward, too large by v / w. Many: order 1 / R.
    assert biases[0] == pytest.approx(float(v / W), abs=0.03)
    assert biases[0] > 3 * biases[1] > 6 * biases[2]
    assert 0 < biases[2] < 0.04


def futures_law(plan, t, causal=False):
    """d F / d x_t and the covariance of F over its draws, row by row, without a sample."""
    cov, gain = torch.zeros(T, T, dtype=F64), torch.eye(T, dtype=F64)
    for a, b in zip(torch.minimum(plan.t[:, 0], t), torch.minimum(plan.s[:, 0], t), strict=True):
        basis, z = torch.eye(T, dtype=F64)[None], torch.zeros(1, T, 1, dtype=F64)
        parts = []
        for x in (basis, z):
            mean = exact(causal)(x, a[None])[0]
            parts.append(DIFFUSION.reverse(x, mean, a[None], b[None], Rng(0), stochasticity=1.0)[0])
        noise = parts[1][:, 0] / Rng(0).normal((1, T, 1), F64)[0, :, 0]
        move = parts[0] - noise[:, None] * Rng(0).normal((1, T, T), F64)[0]
        cov, gain = move @ cov @ move.T + noise.square().diag(), move @ gain
    return gain, cov


@pytest.mark.parametrize(("t", "causal"), [(MIXED, False), (PAST, False), (PAST, True)])
def test_check_13_6_futures_are_whole(t, causal):
    """Tokens of a future are correlated as the process says, not drawn one by one."""
    seen = []

    def watch(x):
        seen.append(x[:, :, 0].detach())
        return quadratic(x)

    n, R, steps = 300, 16, 40
    guide = monte_carlo(watch, R, steps=steps, causal=causal, recompute=True)
    guide(present(t, n), t, rng=Rng(6))
    ends = torch.stack(seen, 1)  # (n, R, T)
    assert ends.shape == (n, R, T)
    assert len(ends.flatten(0, 1)[:, -1].unique()) == n * R  # no two futures share their draws
    gain, left = futures_law(guide.plan, t, causal)
    torch.testing.assert_close(gain, posterior(t)[0], rtol=1e-9, atol=1e-9)
    error = (ends.flatten(0, 1).T.cov() - left).abs().max()
    assert error < 5 * math.sqrt(2 / (n * R))
    # They tend to the law of x_0 given x_t; marginal draws have nothing off the diagonal.
    assert left[-1, -2] > 0.2
    fine = futures_law(monte_carlo(quadratic, steps=4 * steps, causal=causal).plan, t, causal)[1]
    errors = [float((law - posterior(t)[1]).abs().max()) for law in (left, fine)]
    assert errors[1] < 0.03
    assert 0.7 < math.log(errors[0] / errors[1], 4) < 1.3
    if causal:  # futures of past, present and future tokens: clean ones stay
        assert (ends[..., 0] == ends[0, 0, 0]).all()


@pytest.mark.parametrize(
    ("t", "rows"), [(1.0, 4), (0.75, 3), (0.6, 3), (0.5, 2), (0.1, 1), (0.0, 0)]
)
def test_completions_are_cut_at_the_present(t, rows):
    plan = SamplingPlan.full_sequence(4, T)
    guide = MonteCarloGuided(exact(), DIFFUSION, quadratic, futures=3, plan=plan)
    guide(present(MIXED), torch.full((1, T), t, dtype=F64), rng=Rng(0))
    assert guide.denoiser.calls == 1 + rows
    guide.denoiser.calls = 0
    scalar = MonteCarloGuided(
        guide.denoiser, DIFFUSION, quadratic, futures=3, plan=SamplingPlan.uniform(4)
    )
    x, t = present(MIXED), torch.tensor(t, dtype=F64)
    a = scalar(x, t, rng=Rng(0))[0].mean
    assert guide.denoiser.calls == 1 + rows
    torch.testing.assert_close(a, guide(x, t, rng=Rng(0))[0].mean)


def test_a_scale_of_0_is_the_inner_denoiser_and_the_scale_is_a_factor():
    x, inner = present(MIXED), exact()(present(MIXED), MIXED)[0].mean
    guides = [
        lambda s: RewardGuided(exact(), DIFFUSION, quadratic, s),
        lambda s: monte_carlo(quadratic, 4, scale=s),
    ]
    for make in guides:
        zero = make(0.0)
        assert torch.equal(zero(x, MIXED)[0].mean, inner)
        assert zero.denoiser.calls == 1
        once, thrice = (make(s)(x, MIXED, rng=Rng(0))[0].mean - inner for s in (1.0, 3.0))
        torch.testing.assert_close(thrice, 3 * once)


@pytest.mark.parametrize("begin", [0.5, 0.0])
def test_tokens_are_guided_from_a_time_on(begin):
    x, inner = present(MIXED), exact()(present(MIXED), MIXED)[0].mean
    for make in (
        lambda **options: RewardGuided(exact(), DIFFUSION, quadratic, **options),
        lambda **options: monte_carlo(quadratic, 4, **options),
    ):
        whole, part = (make(begin=b)(x, MIXED, rng=Rng(0))[0].mean for b in (1.0, begin))
        guided = (begin >= MIXED)[..., None]
        torch.testing.assert_close(part, torch.where(guided, whole, inner), rtol=0, atol=1e-12)
        assert ((whole - inner).abs() > 1e-3).all()


class Watching(nn.Module):
    """Keeps what it is given; says a mean that depends on the label and on its own last one."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.7, dtype=F64))
        self.given = []

    def forward(self, x, t, cond=None, carry=None, rng=None):
        self.given.append((x.shape, t.shape, cond, carry))
        label = cond["label"].reshape(-1, 1, 1)
        return Prediction(self.weight * x + label + 0.1 * cond["estimate"]), dict(carry or {})


def guides(reward=quadratic, **options):
    plan = SamplingPlan.autoregressive(2, T)
    return {
        "gradient": lambda d: RewardGuided(d, DIFFUSION, reward, **options),
        "monte carlo": lambda d: MonteCarloGuided(
            d, DIFFUSION, reward, futures=3, plan=plan, **options
        ),
        "recomputing": lambda d: MonteCarloGuided(
            d, DIFFUSION, reward, futures=3, plan=plan, recompute=True, **options
        ),
    }


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("name", guides())
def test_loops_carries_and_parameters_stay_free_of_gradients(name, inside):
    inner = Watching()
    make = guides()[name]
    guide = make(SelfConditioned(inner)) if inside else SelfConditioned(make(inner))
    x, cond = Rng(0).normal((2, T, 1), F64), {"label": torch.tensor([0.0, 1.0], dtype=F64)}
    plan = SamplingPlan.full_sequence(3, T)
    for step in sample(guide, DIFFUSION, plan, x, cond=cond, rng=Rng(0), solver=ancestral(1)):
        estimate = step.carry["self_conditioning"]["estimate"]
        tensors = (step.x, estimate, step.prediction.mean)
        assert not any(value.requires_grad for value in tensors)
    assert inner.weight.grad is None
    with torch.enable_grad():  # not in a loop either
        prediction, carry = guide(x, torch.tensor(0.5, dtype=F64), cond, {}, Rng(0))
    assert not prediction.mean.requires_grad
    assert not carry["self_conditioning"]["estimate"].requires_grad


class Wrong(nn.Module):
    """A denoiser that is not exact: at time 0 too it says something else than x."""

    def forward(self, x, t, cond=None, carry=None, rng=None):
        return Prediction(0.9 * x + 0.1 * x.flip(1) + 0.3), {}


@pytest.mark.parametrize("recompute", [False, True])
def test_futures_keep_what_is_certain_bit_for_bit(recompute):
    seen, x = [], Rng(0).normal((2, T, 1), F64)

    def reward(end):
        seen.append(end.detach().clone())
        return end.sum((1, 2))

    guide = MonteCarloGuided(
        Wrong(),
        DIFFUSION,
        reward,
        futures=3,
        plan=SamplingPlan.autoregressive(2, T),
        recompute=recompute,
    )
    for t in (PAST, torch.tensor([[0.0, 0.0, 0.0, 0.5]], dtype=F64)):
        seen.clear()
        guide(x, t, rng=Rng(1))
        certain = t[0] == 0
        assert len(seen) == 3
        for end in seen:
            assert torch.equal(end[:, certain], x[:, certain])
            assert (end[:, ~certain] != x[:, ~certain]).all()


def test_futures_repeat_conditions_times_and_carries():
    inner = Watching()
    guide = guides()["monte carlo"](SelfConditioned(inner))
    cond = {"label": torch.tensor([0.0, 1.0], dtype=F64), "position": 3}
    carry = {"self_conditioning": {"estimate": Rng(1).normal((2, T, 1), F64)}}
    t = torch.tensor([[0.3, 0.5, 0.7, 0.9], [0.1, 0.3, 1.0, 1.0]], dtype=F64)
    x = present(MIXED, 2)
    guide(x, t, cond, carry, Rng(0))
    shape, times, given, _ = inner.given[0]
    assert shape == (6, T, 1)
    assert times == (6, T, 1)
    assert given["label"].tolist() == [0, 0, 0, 1, 1, 1]
    assert given["position"] == 3
    known = carry["self_conditioning"]["estimate"]
    assert torch.equal(given["estimate"], known.repeat_interleave(3, 0))
    assert torch.equal(inner.given[-1][2]["estimate"], known)  # the prediction's own call


@pytest.mark.parametrize("batch", [1, 3, 4])
def test_a_condition_has_the_batch_first_or_is_for_all(batch):
    """Whatever other sizes there are: a table (1, 4, 7) is one for all at batch 4, too."""
    told = []

    class Told(nn.Module):
        def forward(self, x, t, cond=None, carry=None, rng=None):
            told.append(cond)
            return Prediction(x * 1.0), {}

    guide, x = guides()["monte carlo"](Told()), Rng(0).normal((batch, T, 1), F64)
    table, own = Rng(1).normal((1, 4, 7)), Rng(2).normal((batch, 4))
    guide(x, torch.tensor(0.5), {"table": table, "own": own, "all": own[0, 0]}, rng=Rng(0))
    for given in told:
        assert (given["table"] == table).all()
        assert torch.equal(given["own"], own.repeat_interleave(len(given["own"]) // batch, 0))
        assert torch.equal(given["all"], own[0, 0])
    assert {len(given["own"]) for given in told} == {batch, 3 * batch}
    for wrong in (torch.zeros(2, 7), torch.zeros(0), torch.zeros(3 * batch)):
        with pytest.raises(ValueError, match=r"'table' of shape \(\d.*: give .* as \(1, \.\.\.\)"):
            guide(x, torch.tensor(0.5), {"table": wrong}, rng=Rng(0))


def test_recomputing_changes_nothing_but_the_calls():
    x = present(MIXED, 2)
    plain, twice = (monte_carlo(quadratic, 4, recompute=again) for again in (False, True))
    a, b = (guide(x, MIXED, rng=Rng(0))[0].mean for guide in (plain, twice))
    assert torch.equal(a, b)
    assert twice.denoiser.calls == 2 * plain.denoiser.calls - 1


@pytest.mark.parametrize("tokens", [False, True])
def test_a_sample_has_the_same_futures_in_any_batch(tokens):
    x = Rng(0).normal((5, T, 1), F64)
    guide = monte_carlo(quadratic, 3)
    rng = Rng(1).samples(5)
    if tokens:
        rng = rng.each("token", torch.arange(T))
    whole = guide(x, MIXED, rng=rng)[0].mean
    part = guide(x[2:4], MIXED, rng=rng.rows(torch.tensor([2, 3])))[0].mean
    torch.testing.assert_close(whole[2:4], part)
    again = guide(x, MIXED, rng=rng.fold("other"))[0].mean
    assert not torch.allclose(whole, again)


def test_futures_need_a_key_and_a_complete_plan():
    with pytest.raises(ValueError, match="give rng"):
        monte_carlo(quadratic)(present(MIXED), MIXED)
    with pytest.raises(TypeError, match=r"by a key: give rng, such as Rng\(0\), not 7"):
        monte_carlo(quadratic)(present(MIXED), MIXED, rng=7)
    with pytest.raises(ValueError, match="one future or more, got 0"):
        monte_carlo(quadratic, 0)
    with pytest.raises(ValueError, match="'mean' or 'exp', got 'max'"):
        monte_carlo(quadratic, average="max")
    held = SamplingPlan.full_sequence(2, T).hold([0])
    short = SamplingPlan.from_times(torch.tensor([1.0, 0.5]))
    for plan in (held, short):
        told = r"the plan that completes futures: (token 0|it) .* every token from 1 to 0"
        with pytest.raises(ValueError, match=told):
            MonteCarloGuided(exact(), DIFFUSION, quadratic, futures=1, plan=plan)
    other = SamplingPlan.full_sequence(2, T + 1)
    guide = MonteCarloGuided(exact(), DIFFUSION, quadratic, futures=1, plan=other)
    told = (
        r"the plan that completes futures: .*5 tokens.* does not fit a state of shape \(1, 4, 1\)"
    )
    with pytest.raises(ValueError, match=told):
        guide(present(MIXED), MIXED, rng=Rng(0))


FIXED = [ancestral(0.0), heun(), heun(math.inf), dpm_solver_pp_2m(), resampled(heun(), 1)]


@pytest.mark.parametrize("number", range(len(FIXED)))
def test_futures_of_a_solver_without_noise_are_refused(number):
    with pytest.raises(ValueError, match=r"solver that draws noise.* all 8 of them are the same"):
        monte_carlo(quadratic, 8, solver=FIXED[number])


@pytest.mark.parametrize("solver", [ancestral(0.1), resampled(ancestral(0.0), 2)])
def test_futures_of_a_solver_with_noise_differ(solver):
    guide = monte_carlo(quadratic, 8, solver=solver)
    ends = guide._complete(present(MIXED), MIXED, None, None, Rng(0))
    assert float(ends.std(1).max()) > 0.01


@pytest.mark.parametrize("name", guides())
@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (lambda x: x, r"shape \(2,\), got \(2, 4, 1\)"),
        (lambda x: x.sum(), r"shape \(2,\), got \(\)"),
        (lambda x: 1.0, "got float"),
        (lambda x: (x > 0).double().sum((1, 2)), "no gradient in the state"),
        (lambda x: x.sum((1, 2)) / torch.tensor([1.0, 0.0]), "finite rewards, got .*example 1"),
        (lambda x: (x - x).sum((1, 2)).sqrt(), "gradient is not finite"),
    ],
)
def test_wrong_rewards_are_named(name, reward, message):
    guide = guides(reward)[name](exact())
    with pytest.raises(ValueError, match=message) as caught:
        guide(present(MIXED, 2), MIXED, rng=Rng(0))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", guides())
def test_an_estimate_that_guidance_threw_away_is_told_from_a_wrong_reward(name):
    guide = guides(quadratic)[name](exact())
    x = present(MIXED, 2)
    x[1] = torch.inf
    with pytest.raises(ValueError, match="of example 1 is out of range: guidance of scale 1 has"):
        guide(x, MIXED, rng=Rng(0))


@pytest.mark.parametrize("scale", [math.nan, math.inf])
def test_a_scale_is_a_number(scale):
    plan = SamplingPlan.full_sequence(2, T)
    with pytest.raises(ValueError, match="the scale of guidance is a number, got"):
        RewardGuided(exact(), DIFFUSION, quadratic, scale)
    with pytest.raises(ValueError, match="the scale of guidance is a number, got"):
        MonteCarloGuided(exact(), DIFFUSION, quadratic, scale, futures=1, plan=plan)


def test_an_estimate_that_does_not_listen_has_no_gradient():
    guide = RewardGuided(Constant(SCHEDULE), DIFFUSION, quadratic)
    with torch.no_grad(), pytest.raises(ValueError, match="no gradient in the state"):
        guide(torch.zeros(1, T, 1), torch.tensor(0.5))
