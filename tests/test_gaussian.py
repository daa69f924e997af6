"""Gaussian diffusion: moves against their closed forms (checks 10 to 12), subspaces and tilts."""

import itertools
import math

import pytest
import torch
from oracles import F64, Gaussian, assert_moments

from noiseloom.diffusion import GaussianDiffusion, Prediction, Symmetric, Whole, ZeroCentre
from noiseloom.noise import EDM, SCHEDULES, LinearGamma, RectifiedFlow, ScaledCosine
from noiseloom.rng import Rng

schedules = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
B, T, D = 2, 3, 2  # two sizes agree: a time broadcast from the right would go unnoticed


def at(value):
    return torch.tensor(value, dtype=F64)


def state(*shape, name="x"):
    return Rng(0).fold(name).normal(shape or (B, T, D), F64)


def times(shape, name="t", low=0.0, high=1.0):
    return low + (high - low) * Rng(1).fold(name).uniform(shape, F64)


def token_loop(move, x, *ts):
    """The same move, one token after the other, each with its scalar times and own key."""
    ts = [torch.broadcast_to(t.reshape(t.shape + (1,) * (x.ndim - t.ndim)), x.shape) for t in ts]
    keys = token_keys()
    out = torch.empty_like(x)
    for place in itertools.product(*map(range, x.shape)):
        key = Rng(keys.key[place])
        out[place] = move(x[place], *(t[place] for t in ts), place, key)
    return out


def token_keys():
    """One key per entry."""
    grid = Rng(2).samples(B).each("token", torch.arange(T))
    return grid.each("entry", torch.arange(D))


SHAPES = [(), (B,), (1,), (B, T), (1, T), (B, 1), (1, T, 1), (B, T, D), (1, 1, D), (B, 1, D)]


@schedules
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_reverse_is_a_loop_over_tokens(schedule, shape, eta):
    d = GaussianDiffusion(schedule)
    x, mean = state(), state(name="mean")
    t = times(shape, low=0.3)
    t = torch.where(times(shape, "noise") < 0.2, 1.0, t)
    s = t * times(shape, "s")
    s = torch.where(times(shape, "stay") < 0.3, t, s)  # some stay
    s = torch.where(times(shape, "clean") < 0.2, 0.0, s)  # some end
    for variance in ("small", "large"):
        kind = {"stochasticity": eta, "variance": variance}
        got = d.reverse(x, Prediction(mean), t, s, token_keys(), **kind)

        def move(x, t, s, place, key, kind=kind):
            return d.reverse(x, Prediction(mean[place]), t, s, key, **kind)

        torch.testing.assert_close(got, token_loop(move, x, t, s), rtol=1e-11, atol=1e-11)


@schedules
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_going_up_is_a_loop_over_tokens(schedule, shape):
    d = GaussianDiffusion(schedule)
    x, t = state(), times(shape, high=0.9)
    s = t + (1 - t) * times(shape, "s")
    got = d.renoise(x, t, s, token_keys())
    loop = token_loop(lambda x, t, s, _, key: d.renoise(x, t, s, key), x, t, s)
    torch.testing.assert_close(got, loop, rtol=1e-11, atol=1e-11)
    got = d.corrupt(x, t, token_keys())
    loop = token_loop(lambda x, t, _, key: d.corrupt(x, t, key), x, t)
    torch.testing.assert_close(got, loop, rtol=1e-11, atol=1e-11)


@schedules
@pytest.mark.parametrize("dtype", [torch.float32, F64], ids=str)
def test_check_12_no_move_is_the_identity_bit_for_bit(schedule, dtype):
    d, rng = GaussianDiffusion(schedule), Rng(0)
    x = state().to(dtype)
    says = Prediction(100 * state(name="mean").to(dtype))
    for shape in SHAPES:
        for t in (times(shape).to(dtype), torch.zeros(shape, dtype=dtype), torch.ones(shape)):
            for eta, variance in ((0.0, "small"), (0.5, "small"), (1.0, "small"), (1.0, "large")):
                y = d.reverse(x, says, t, t, rng, stochasticity=eta, variance=variance)
                assert torch.equal(y, x)
            assert torch.equal(d.renoise(x, t, t, rng), x)
    # Only the tokens that stay are untouched.
    t = torch.full((B, T), 0.7, dtype=dtype)
    s = t.clone()
    s[1, 2] = 0.2
    for eta in (0.0, 1.0):
        y = d.reverse(x, says, t, s, rng, stochasticity=eta)
        moved = (y != x).any(-1)
        assert moved.nonzero().tolist() == [[1, 2]]


def test_check_12_a_move_to_no_noise_is_the_mean():
    x, mean = state(), state(name="mean")
    for schedule in (ScaledCosine(), LinearGamma(), RectifiedFlow(), EDM(sigma_max=2.0)):
        for eta in (0.0, 0.5, 1.0):
            d = GaussianDiffusion(schedule)
            for t in (at(0.5), at(1.0), at(1e-3)):
                y = d.reverse(x, Prediction(mean), t, at(0.0), Rng(0), stochasticity=eta)
                torch.testing.assert_close(y, mean, rtol=0, atol=0)


@schedules
def test_check_10_a_state_is_its_two_estimates_after_any_move(schedule):
    d, x, mean = GaussianDiffusion(schedule), state(), state(name="mean")
    for clip in (math.inf, 0.5):
        says = mean.clamp(-clip, clip)
        t, s = times((B, T, 1), low=0.5), times((B, T, 1), "s", high=0.5)
        (alpha, sigma), (alpha_s, sigma_s) = schedule(t), schedule(s)
        eps = (x - alpha * says) / sigma
        torch.testing.assert_close(alpha * says + sigma * eps, x)
        moved = d.reverse(x, Prediction(says), t, s)
        torch.testing.assert_close(moved, alpha_s * says + sigma_s * eps, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "name", ["cosine", "scaled-cosine", "sigmoid", "linear", "ddpm"]
)  # variance preserving, as the paper's formulas
def test_check_11_the_two_forms_of_the_ddpm_mean(name):
    d = GaussianDiffusion(SCHEDULES[name])
    x, mean = state(), state(name="mean")
    for i in range(20):
        t = 0.05 + 0.9 * Rng(i).uniform((), F64)
        s = t * Rng(i).fold("s").uniform((), F64)  # further than the clock's next row for td > 0
        (alpha, sigma), (alpha_s, _) = d.schedule(t), d.schedule(s)
        gamma, gamma_s = alpha**2, alpha_s**2
        a = gamma / gamma_s
        eps = (x - alpha * mean) / sigma
        by_eps = (x - (1 - a) / sigma * eps) / a.sqrt()
        by_posterior = (
            gamma_s.sqrt() * (1 - a) / (1 - gamma) * mean
            + a.sqrt() * (1 - gamma_s) / (1 - gamma) * x
        )
        torch.testing.assert_close(by_eps, by_posterior, rtol=1e-8, atol=1e-8)
        noise = Rng(i).normal(x.shape, F64)
        for variance, spread in (
            ("large", (1 - a).sqrt()),
            ("small", ((1 - gamma_s) / (1 - gamma) * (1 - a)).sqrt()),
        ):
            y = d.reverse(x, Prediction(mean), t, s, Rng(i), stochasticity=1.0, variance=variance)
            torch.testing.assert_close(y, by_posterior + spread * noise, rtol=1e-8, atol=1e-8)


@schedules
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_going_back_from_a_corrupted_state_with_the_truth_has_the_right_marginal(schedule, eta):
    """q(x_s | x_0) has mean alpha_s x_0 and variance sigma_s^2 for every stochasticity."""
    d, n = GaussianDiffusion(schedule), 40_000
    clean = at([[-1.0, 0.5]]).expand(n, 2)
    for t, s in ((1.0, 0.6), (0.7, 0.65), (0.5, 0.1)):
        x = d.corrupt(clean, at(t), Rng(0))
        y = d.reverse(x, Prediction(clean), at(t), at(s), Rng(1), stochasticity=eta)
        alpha, sigma = schedule(at(s))
        assert_moments(y, alpha * clean[0], sigma**2)


@schedules
def test_noise_added_twice_is_noise_added_once(schedule):
    d, n = GaussianDiffusion(schedule), 40_000
    clean = at([[-1.0, 0.5]]).expand(n, 2)
    for t, s in ((0.0, 0.3), (0.2, 0.6), (0.6, 1.0)):
        y = d.renoise(d.corrupt(clean, at(t), Rng(0)), at(t), at(s), Rng(1))
        alpha, sigma = schedule(at(s))
        assert_moments(y, alpha * clean[0], sigma**2)


@schedules
def test_up_and_down_with_the_exact_denoiser_keeps_the_law(schedule):
    d, n = GaussianDiffusion(schedule), 40_000
    exact = Gaussian(schedule, variance=0.5, centre=0.3)
    x = 0.3 + math.sqrt(0.5) * Rng(0).normal((n, 1), F64)
    alpha, sigma = schedule(at(0.30))
    x = d.corrupt(x, at(0.30), Rng(1))
    x = d.renoise(x, at(0.30), at(0.31), Rng(2))
    x = d.reverse(x, exact(x, at(0.31))[0], at(0.31), at(0.30), Rng(3), stochasticity=1.0)
    # One step of DDPM is exact to second order in its length.
    assert_moments(x, alpha * 0.3, alpha**2 * 0.5 + sigma**2, sigmas=6)


def test_times_of_two_shapes_meet():
    d, x, says = GaussianDiffusion(), state(), Prediction(state(name="mean"))
    t, s = at(0.8), times((B,), "s", high=0.7)
    torch.testing.assert_close(
        d.reverse(x, says, t, s), d.reverse(x, says, t.expand(B), s), rtol=0, atol=1e-13
    )
    assert d.renoise(x, s, at(0.9), Rng(0)).shape == x.shape


def test_a_scalar_time_leaves_the_type_of_the_state_alone():
    d = GaussianDiffusion()
    x = state().float()
    for y in (
        d.corrupt(x, at(0.5), Rng(0)),
        d.reverse(x, Prediction(x), at(0.5), at(0.3), Rng(0), stochasticity=1.0),
        d.renoise(x, at(0.3), at(0.5), Rng(0)),
        d.tilt(Prediction(x), x, x, at(0.5)).mean,
        d.prior(x, Rng(0)),
        d.prior((3, 2), Rng(0)),
    ):
        assert y.dtype == torch.float32


@schedules
def test_the_prior_is_noise_at_time_1(schedule):
    x = GaussianDiffusion(schedule).prior(torch.empty(40_000, 2, dtype=F64), Rng(0))
    assert_moments(x, 0.0, schedule(at(1.0))[1] ** 2)


def test_stochastic_moves_need_a_key():
    d, x = GaussianDiffusion(), state()
    with pytest.raises(ValueError, match="give rng"):
        d.reverse(x, Prediction(x), at(0.5), at(0.2), stochasticity=1.0)


def test_moves_go_down_and_renoising_goes_up():
    d, x = GaussianDiffusion(), state()
    up = torch.tensor([[0.5, 0.2, 0.5]], dtype=F64)
    for t, s in (
        (at(0.2), at(0.5)),
        (at(0.2), up),
        (at(0.2).expand(B), at(0.5).float()),
        (torch.tensor([[0.5, 0.2], [0.2, 0.5]])[:, [0, 1, 0]], at(0.5)),
    ):
        with pytest.raises(ValueError, match=r"needs s <= t, got t = 0\.2 and s = 0\.5$"):
            d.reverse(x, Prediction(x), t, s)
        with pytest.raises(ValueError, match=r"needs s >= t, got t = 0\.5 and s = 0\.2$"):
            d.renoise(x, s, t, Rng(0))
    for t, s in ((at(math.nan), at(0.5)), (at(0.5), at(math.nan))):
        with pytest.raises(ValueError, match=r"s <= t, got .*nan"):
            d.reverse(x, Prediction(x), t, s)


def test_times_away_from_the_cpu_are_not_read():
    x, t = torch.empty(B, T, D, device="meta"), torch.empty(B, device="meta")
    assert GaussianDiffusion().reverse(x, Prediction(x), t, t).shape == x.shape


@pytest.mark.parametrize("eta", [-0.1, 1.5, math.nan])
def test_stochasticity_is_between_0_and_1(eta):
    d, x = GaussianDiffusion(), state()
    with pytest.raises(ValueError, match=rf"stochasticity must be in \[0, 1\], got {eta}"):
        d.reverse(x, Prediction(x), at(0.5), at(0.2), Rng(0), stochasticity=eta)


# Subspaces


def operator(subspace, shape):
    """C as a matrix."""
    size = math.prod(shape)
    columns = [
        subspace.covariance(e.reshape(1, *shape)).flatten() for e in torch.eye(size, dtype=F64)
    ]
    return torch.stack(columns, 1)


REAL = torch.tensor([[True, False, True, True, False]])  # of five nodes
SUBSPACES = {
    "whole": (Whole(), (2, 3)),
    "centred": (ZeroCentre(), (4, 2)),
    "symmetric": (Symmetric(), (4, 4, 2)),
    "whole, padded": (Whole(REAL), (5, 2)),
    "centred, padded": (ZeroCentre(REAL), (5, 2)),
    "symmetric, padded": (Symmetric(REAL), (5, 5, 1)),
}
subspaces = pytest.mark.parametrize(("subspace", "shape"), SUBSPACES.values(), ids=SUBSPACES)


@subspaces
def test_noise_has_the_covariance_it_claims(subspace, shape):
    n = 60_000
    noise = subspace.noise(Rng(0).normal((n, *shape), F64)).flatten(1)
    expected = operator(subspace, shape)
    got = noise.T @ noise / n
    # Var(a b) = C_aa C_bb + C_ab^2 for Gaussian a, b.
    spread = (expected.diagonal().outer(expected.diagonal()) + expected**2).sqrt() / math.sqrt(n)
    assert ((got - expected).abs() <= 5 * spread + 1e-12).all()
    assert (noise.mean(0).abs() <= 5 * (expected.diagonal() / n).sqrt() + 1e-12).all()
    # The same without chance: noise is linear in z, and L L^T is its covariance.
    size = math.prod(shape)
    units = torch.eye(size, dtype=F64).reshape(size, 1, *shape)
    made = torch.stack([subspace.noise(e).flatten() for e in units], 1)
    torch.testing.assert_close(made @ made.T, expected)
    # The projection leaves noise as it is, is one, and is orthogonal.
    project = torch.stack([subspace.project(e).flatten() for e in units], 1)
    torch.testing.assert_close(project @ made, made)
    torch.testing.assert_close(project @ project, project)
    torch.testing.assert_close(project, project.T)
    assert torch.linalg.matrix_rank(project) == torch.linalg.matrix_rank(expected)


def test_subspaces_hold_their_noise_and_every_move_stays_in_them():
    z = Rng(0).normal((3, 5, 2), F64)
    p = ZeroCentre().noise(z)
    assert p.mean(1).abs().max() < 1e-15
    torch.testing.assert_close(ZeroCentre().noise(p), p)  # a projection
    g = Symmetric().noise(Rng(0).normal((3, 4, 4, 2), F64))
    assert torch.equal(g, g.transpose(1, 2))
    assert not g.diagonal(dim1=1, dim2=2).any()
    for subspace, clean in ((ZeroCentre(), p), (Symmetric(), g)):
        d, t = GaussianDiffusion(subspace=subspace), at(0.7)
        x = d.corrupt(clean, t, Rng(1))
        moves = (
            d.prior(clean, Rng(2)),
            x,
            d.reverse(x, Prediction(clean), t, at(0.3), Rng(3), stochasticity=1.0),
            d.renoise(x, t, at(0.9), Rng(4)),
            d.tilt(Prediction(clean), Rng(5).normal_like(clean), x, t).mean,
        )
        for y in moves:
            if isinstance(subspace, ZeroCentre):
                assert y.mean(1).abs().max() < 1e-14
            else:
                assert torch.equal(y, y.transpose(1, 2))
                assert not y.diagonal(dim1=1, dim2=2).any()


@pytest.mark.parametrize(
    ("subspace", "x", "shape"),
    [
        (ZeroCentre(), (2, 5, 3), (2, 5)),
        (ZeroCentre(), (2, 5, 3), (1, 5, 1)),
        (Symmetric(), (2, 4, 4, 1), (2, 4)),
        (Symmetric(), (2, 4, 4, 1), (2, 1, 4)),
    ],
    ids=str,
)
def test_times_may_not_vary_along_coupled_axes(subspace, x, shape):
    d, x, t = GaussianDiffusion(subspace=subspace), torch.zeros(x), torch.full(shape, 0.5)
    for call in (
        lambda: d.corrupt(x, t, Rng(0)),
        lambda: d.reverse(x, Prediction(x), t, t, Rng(0)),
        lambda: d.renoise(x, t, t, Rng(0)),
        lambda: d.loss(Prediction(x), x, x, t),
        lambda: d.tilt(Prediction(x), x, x, t),
    ):
        with pytest.raises(ValueError, match=r"varies along|differs between"):
            call()


def test_edge_times_are_welcome_on_a_symmetric_space():
    d = GaussianDiffusion(subspace=Symmetric())
    t = times((2, 4, 4))
    t = (t + t.transpose(1, 2)) / 2
    x = d.corrupt(torch.zeros(2, 4, 4, 1, dtype=F64), t, Rng(0))
    assert torch.equal(x, x.transpose(1, 2))


# Tilts


@subspaces
@schedules
def test_tilting_an_exact_prediction_gives_the_exact_posteriors(subspace, shape, schedule):
    """p_0 = N(0, v C), likelihood of x_0 Gaussian: all of it is linear algebra.

    p_t(x) l_t(x) with l_t(x) = E[l(x_0) | x_t = x] has the posterior mean of x_0 as its prediction,
    by Tweedie: E[x_0 | x_t, y] = E[x_0 | x_t] + (sigma^2 / alpha) C grad ln l_t.
    """
    v, size = 0.6, math.prod(shape)
    c = operator(subspace, shape)
    values, vectors = torch.linalg.eigh(c)
    basis = vectors[:, values > 1e-9]
    rng = Rng(0)
    a = rng.fold("a").normal((size, size), F64) / math.sqrt(size)
    precision = a @ a.T
    pull = rng.fold("pull").normal((size,), F64)
    clean = subspace.noise(math.sqrt(v) * rng.fold("clean").normal((1, *shape), F64))
    d = GaussianDiffusion(schedule, subspace)
    for time in (0.2, 0.5, 0.9):
        t = at(time)
        alpha, sigma = schedule(t)
        x = d.corrupt(clean, t, rng.fold("noise"))
        total = alpha**2 * v + sigma**2
        mean = alpha * v / total * x  # E[x_0 | x_t]
        rest = v * sigma**2 / total * c  # its covariance

        def log_likelihood(
            x, rest=rest, gain=alpha * v / total
        ):  # ln E[l(x_0) | x_t], up to a constant
            m = gain * x.flatten()
            k = torch.linalg.inv(torch.eye(size, dtype=F64) + precision @ rest)
            off = pull - precision @ m
            return pull @ m - m @ precision @ m / 2 + off @ rest @ k @ off / 2

        y = x.clone().requires_grad_()
        (grad,) = torch.autograd.grad(log_likelihood(y), y)
        got = d.tilt(Prediction(mean), grad, x, t).mean
        # Oracle: combine three Gaussians in the subspace: the prior, x_t given x_0, the likelihood.
        small_noise = torch.linalg.inv(basis.T @ c @ basis)
        inner = small_noise * (1 / v + alpha**2 / sigma**2) + basis.T @ precision @ basis
        force = alpha / sigma**2 * small_noise @ basis.T @ x.flatten() + basis.T @ pull
        expected = basis @ torch.linalg.solve(inner, force)
        torch.testing.assert_close(got.flatten(), expected, rtol=1e-7, atol=1e-8)


def test_a_tilt_without_signal_changes_nothing():
    d, x = GaussianDiffusion(RectifiedFlow()), state()
    mean, grad = state(name="mean"), state(name="grad")
    assert torch.equal(d.tilt(Prediction(mean), grad, x, at(1.0)).mean, mean)
    t = torch.ones(B, dtype=F64)
    t[1] = 0.5
    tilted = d.tilt(Prediction(mean), grad, x, t).mean
    assert torch.equal(tilted[0], mean[0])
    torch.testing.assert_close(tilted[1], mean[1] + 0.5 * grad[1])


# Losses


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_squared_error_is_averaged_to_the_shape_of_the_time(shape):
    x, clean, mean = state(), state(name="clean"), state(name="mean")
    t = times(shape)
    loss = GaussianDiffusion().loss(Prediction(mean), clean, x, t)
    full = (*shape, *(1,) * (3 - len(shape)))
    assert loss.shape == full
    square = ((mean - clean) ** 2).numpy()
    axes = tuple(i for i in range(3) if full[i] == 1)
    torch.testing.assert_close(loss, torch.from_numpy(square.mean(axes, keepdims=True)))


def test_edge_times_must_be_symmetric_in_value():
    d, x = GaussianDiffusion(subspace=Symmetric()), torch.zeros(1, 3, 3, 1)
    t = Rng(0).uniform((1, 3, 3))
    with pytest.raises(ValueError, match="differs between an edge"):
        d.corrupt(x, t, Rng(1))
    d.corrupt(x, (t + t.mT) / 2, Rng(1))
