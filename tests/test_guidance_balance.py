"""Guides that take the gradient where they come to, where the right place is known (check 13.6)."""

import itertools
import math

import pytest
import torch
from oracles import F64, Correlated, Gaussian
from test_guidance_rewards import (
    CENTRE,
    DIFFUSION,
    GOAL,
    MIXED,
    SCHEDULE,
    TILTED,
    C,
    ExactlyGuided,
    T,
    W,
    distance,
    exact,
    guides,
    linear,
    monte_carlo,
    posterior,
    present,
    quadratic,
)

from noiseloom.diffusion import GaussianDiffusion, ZeroCentre
from noiseloom.guidance import RewardGuided
from noiseloom.guidance.balance import balance
from noiseloom.rng import Rng
from noiseloom.shapes import align

SPREAD = torch.tensor([0.3, 2.0, 0.5, 4.0], dtype=F64)  # each token has a goal of its own


def apart(x):
    return -((x[..., 0] - GOAL).square() / (2 * SPREAD)).sum(1)


def far(x):
    """Minus the distance of all tokens to the goal."""
    return -(x[..., 0] - GOAL).square().add(1e-6).sqrt().mean(1)


@pytest.mark.parametrize("t", [MIXED, MIXED / 10], ids=["mixed", "low"])
def test_check_13_6_one_round_takes_the_bias_of_the_plug_in_away(t):
    x = present(t, 3) + Rng(2).normal((3, T, 1), F64)
    guide = RewardGuided(exact(), DIFFUSION, quadratic, rounds=1)
    close = {"rtol": 1e-4, "atol": 1e-4}  # 16 halvings
    torch.testing.assert_close(guide(x, t)[0].mean, ExactlyGuided()(x, t)[0].mean, **close)


def test_check_13_6_with_a_round_the_posterior_is_sampled():
    guide = RewardGuided(exact(), DIFFUSION, quadratic, rounds=1)
    coarse, fine = (distance(guide, n, CENTRE, TILTED) for n in (100, 400))
    assert fine < 0.02
    assert 0.7 < math.log(coarse / fine, 4) < 1.3


def test_rounds_tend_to_the_posterior_of_a_reward_of_all_tokens():
    x = present(MIXED, 3) + Rng(2).normal((3, T, 1), F64)
    left = posterior(MIXED)[1]
    m = exact()(x, MIXED)[0].mean[..., 0]
    right = m + (GOAL - m) @ torch.linalg.inv(left + SPREAD.diag()) @ left
    errors = []
    for rounds in (0, 1, 4, 16, 64):
        guide = RewardGuided(exact(), DIFFUSION, apart, rounds=rounds)
        errors.append(float((guide(x, MIXED)[0].mean[..., 0] - right).abs().max()))
    assert all(b < 0.6 * a for a, b in itertools.pairwise(errors)), errors
    assert errors[-1] < 0.01 * errors[1]


def test_check_13_6_many_futures_with_a_round_are_exact_for_a_quadratic_reward():
    x = present(MIXED, 300)
    inner = exact()(x, MIXED)[0].mean
    right = (ExactlyGuided()(x, MIXED)[0].mean - inner)[0, :, 0]
    plain, balanced = (
        (monte_carlo(quadratic, 64, steps=20, rounds=k)(x, MIXED, rng=Rng(4))[0].mean - inner)
        for k in (0, 1)
    )
    off = (balanced.mean(0)[:, 0] - right).abs() / right.abs().max()
    assert off.max() < 0.05
    v = posterior(MIXED)[1][-1, -1]
    assert float((plain / balanced).median()) == pytest.approx(float(1 + v / W), rel=0.1)


def test_rounds_of_futures_tend_to_the_posterior_of_a_reward_of_all_tokens():
    x, left = present(MIXED, 200), posterior(MIXED)[1]
    m = exact()(x, MIXED)[0].mean[..., 0]
    right = ((GOAL - m) @ torch.linalg.inv(left + SPREAD.diag()) @ left)[0]
    off = []
    for rounds in (1, 12):
        guide = monte_carlo(apart, 16, steps=4, rounds=rounds)
        off.append(
            float(((guide(x, MIXED, rng=Rng(4))[0].mean[..., 0] - m).mean(0) - right).norm())
        )
    assert off[1] < 0.3 * off[0], off


@pytest.mark.parametrize("rounds", [1, 3])
@pytest.mark.parametrize("name", guides())
def test_a_linear_reward_takes_the_whole_step(name, rounds):
    x = present(MIXED, 2)
    plain, balanced = (
        guides(linear, rounds=k)[name](exact())(x, MIXED, rng=Rng(0))[0].mean for k in (0, rounds)
    )
    torch.testing.assert_close(plain, balanced, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rounds", [1, 4])
@pytest.mark.parametrize("scale", [30.0, 3e4, 3e15])
@pytest.mark.parametrize("name", guides())
def test_a_distance_is_not_overshot(name, scale, rounds):
    x = present(MIXED, 4) + Rng(2).normal((4, T, 1), F64)
    inner = exact()(x, MIXED)[0].mean
    plain, balanced = (
        guides(far, scale=scale, rounds=k)[name](exact())(x, MIXED, rng=Rng(0))[0].mean
        for k in (0, rounds)
    )
    assert (far(balanced) > far(inner)).all()
    assert (balanced - GOAL).abs().max() < 2 * (inner - GOAL).abs().max()
    assert (far(plain) < far(inner)).all()  # which goes far beyond


def test_steps_are_halved_in_single_precision_too():
    x = (present(MIXED, 4) + Rng(2).normal((4, T, 1), F64)).float()
    guide = RewardGuided(Correlated(SCHEDULE, C.float()), DIFFUSION, far, 1e12, rounds=4)
    got = guide(x, MIXED.float())[0].mean
    assert got.dtype == torch.float32
    right = RewardGuided(exact(), DIFFUSION, far, 1e12, rounds=4)(x.double(), MIXED)[0].mean
    torch.testing.assert_close(got.double(), right, rtol=0, atol=1e-2)


def test_noise_of_a_subspace_moves_in_it():
    """Points without a centre: V = c P, and a quadratic reward is right in one round."""
    diffusion = GaussianDiffusion(SCHEDULE, ZeroCentre())
    x = diffusion.subspace.noise(Rng(0).normal((3, 5, 2), F64))
    t, aim = torch.tensor([0.2, 0.5, 0.8], dtype=F64), Rng(1).normal((3, 5, 2), F64)

    def reward(x):
        return -(x - aim).square().flatten(1).sum(1) / (2 * W)

    guide = RewardGuided(Gaussian(SCHEDULE), diffusion, reward, rounds=1)
    m, v = Gaussian(SCHEDULE)(x, t)[0].mean, SCHEDULE(align(t, x))[1].square()
    right = m + v / (v + W) * (diffusion.subspace.covariance(aim) - m)
    torch.testing.assert_close(guide(x, t)[0].mean, right, rtol=0, atol=1e-3)


@pytest.mark.parametrize("shape", [(), (3,), (3, T), (3, T, 1)])
def test_times_of_any_shape(shape):
    x = present(MIXED, 3)
    guide = RewardGuided(Gaussian(SCHEDULE), DIFFUSION, far, 100.0, begin=0.9, rounds=3)
    got, whole = (guide(x, torch.full(s, 0.5, dtype=F64))[0].mean for s in (shape, x.shape))
    assert torch.equal(got, whole)


@pytest.mark.parametrize("rounds", [0, 1, 3])
def test_a_reward_without_the_state_in_it_moves_nothing(rounds):
    weight = torch.ones((), dtype=F64, requires_grad=True)
    guide = RewardGuided(exact(), DIFFUSION, lambda x: weight.expand(len(x)), rounds=rounds)
    x = present(MIXED, 3)
    assert torch.equal(guide(x, MIXED)[0].mean, exact()(x, MIXED)[0].mean)
    assert weight.grad is None


def test_what_does_not_fit():
    for name in guides():
        with pytest.raises(ValueError, match="rounds must be at least 0, got -1"):
            guides(rounds=-1)[name](exact())
        for begin in (-0.1, 1.5):
            with pytest.raises(ValueError, match=r"begin must be a time in \[0, 1\], got"):
                guides(begin=begin)[name](exact())
    with pytest.raises(ValueError, match="with average='exp', leave rounds at 0"):
        monte_carlo(quadratic, 4, average="exp", rounds=1)


def test_a_round_costs_no_call():
    guide = RewardGuided(exact(), DIFFUSION, far, 10.0, rounds=5)
    guide(present(MIXED), MIXED)
    assert guide.denoiser.calls == 1


def test_examples_are_balanced_by_themselves():
    guide = RewardGuided(exact(), DIFFUSION, far, 100.0, rounds=3)
    x = present(MIXED, 3) + Rng(2).normal((3, T, 1), F64)
    together = guide(x, MIXED)[0].mean
    alone = torch.cat([guide(row[None], MIXED)[0].mean for row in x])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)


def test_tokens_that_are_not_guided_stay():
    guide = RewardGuided(exact(), DIFFUSION, quadratic, begin=0.55, rounds=2)
    x = present(MIXED, 3)
    shift = guide(x, MIXED)[0].mean - exact()(x, MIXED)[0].mean
    assert ((shift[..., 0] != 0) == (MIXED <= 0.55)).all()
    noise = torch.ones(1, T, dtype=F64)  # alpha = 0: nothing is known of how far to go
    guide = RewardGuided(exact(), DIFFUSION, quadratic, rounds=2)
    assert torch.equal(guide(x, noise)[0].mean, exact()(x, noise)[0].mean)
    assert float(SCHEDULE(noise)[0].max()) == 0


def alone(worth, step, rounds=1):
    """Of a state of one number whose V is such that V r'(0) is the step."""
    first = torch.full((1, 1), step, dtype=F64)
    return float(balance(lambda z: worth(z[:, 0]), lambda z: first, first, rounds))


def test_a_line_ends_where_the_slope_changes_its_sign():
    for bend in (1.0, 20.0):
        s = alone(lambda z, bend=bend: 6 * z - bend * z**4 / 4, 1.0)
        assert 6 - bend * s**3 == pytest.approx(6 * s, abs=1e-2)
    assert alone(lambda z: z.square() + z, 1.0) == 1  # it rises more and more
    assert alone(lambda z: -z, 1.0) == 0  # of a network, V may turn the step around


def test_where_a_reward_ends_a_step_ends_before():
    """Beyond 1 the logarithm is not a number."""
    z = alone(lambda z: 5 * z + (1 - z).log(), 8.0)
    assert 5 - 1 / (1 - z) == pytest.approx(4 * z / 8, abs=1e-2)
