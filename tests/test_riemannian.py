"""Diffusion on the torus: the protocol of the flat spaces, against laws known on the circle."""

import math
from dataclasses import replace

import pytest
import torch
from oracles import F64, Circle
from test_gaussian import SHAPES, B, D, T, at, state, times, token_keys, token_loop
from torch import nn

from noiseloom.denoiser import Preconditioned
from noiseloom.diffusion import (
    GaussianDiffusion,
    Prediction,
    ProductDiffusion,
    RiemannianDiffusion,
    from_score,
)
from noiseloom.guidance import ClassifierFree, RewardGuided
from noiseloom.manifolds import Torus
from noiseloom.manifolds.torus import wrap
from noiseloom.nets import MLP
from noiseloom.noise import EDM, SCHEDULES, Cosine
from noiseloom.objective import denoising_loss, stratified_times
from noiseloom.plan import SamplingPlan
from noiseloom.plan_parts import PartsPlan
from noiseloom.rng import Rng
from noiseloom.sampling import ancestral, dpm_solver_pp_2m, final, heun, resampled, sample
from noiseloom.stochastic import churned, restarted, restarts

DIFFUSION, TORUS, PI = RiemannianDiffusion(), Torus(), math.pi
MOVES = {
    "flow": {},
    "half": {"stochasticity": 0.5},
    "walk": {"stochasticity": 1.0},
    "large": {"stochasticity": 1.0, "variance": "large"},
}
moves = pytest.mark.parametrize("kind", MOVES.values(), ids=MOVES)
GRID = torch.linspace(-PI, PI, 257, dtype=F64)[:-1]  # sums over it are integrals, to rounding


def angles(*shape, name="x"):
    return TORUS.uniform(torch.empty(shape or (B, T, D), dtype=F64), Rng(0).fold(name))


def says(name="score", *shape):
    return Prediction(angles(*shape, name="mean"), score=state(*shape, name=name))


# The protocol


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@moves
def test_reverse_is_a_loop_over_tokens(shape, kind):
    x, told = angles(), says()
    t = times(shape, low=0.3)
    t = torch.where(times(shape, "noise") < 0.2, 1.0, t)
    s = t * times(shape, "s")
    s = torch.where(times(shape, "stay") < 0.3, t, s)  # some stay
    s = torch.where(times(shape, "clean") < 0.2, 0.0, s)  # some end
    got = DIFFUSION.reverse(x, told, t, s, token_keys(), **kind)

    def move(x, t, s, place, key):
        here = Prediction(told.mean[place], score=told.score[place])
        return DIFFUSION.reverse(x, here, t, s, key, **kind)

    torch.testing.assert_close(got, token_loop(move, x, t, s), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_other_methods_are_loops_over_tokens(shape):
    d, x, t, told, grad = DIFFUSION, angles(), times(shape, high=0.9), says(), state(name="grad")
    s = t + (1 - t) * times(shape, "s")
    close = {"rtol": 1e-11, "atol": 1e-11}
    got = d.renoise(x, t, s, token_keys())
    loop = token_loop(lambda x, t, s, _, key: d.renoise(x, t, s, key), x, t, s)
    torch.testing.assert_close(got, loop, **close)
    got = d.corrupt(x, t, token_keys())
    loop = token_loop(lambda x, t, _, key: d.corrupt(x, t, key), x, t)
    torch.testing.assert_close(got, loop, **close)
    clean = angles(name="clean")

    def here(place):
        return Prediction(told.mean[place], score=told.score[place])

    got = d.tilt(told, grad, x, t)
    for field in ("mean", "score"):
        loop = token_loop(
            lambda x, t, p, _, f=field: getattr(d.tilt(here(p), grad[p], x, t), f), x, t
        )
        torch.testing.assert_close(getattr(got, field), loop, **close)
    loop = token_loop(lambda x, t, p, _: d.loss(here(p), clean[p], x, t), x, t)
    got = d.loss(told, clean, x, t)
    aligned = t.reshape(t.shape + (1,) * (3 - t.ndim))
    assert got.shape == (aligned.shape if shape else (1, 1, 1))
    torch.testing.assert_close(got, loop.sum_to_size(got.shape) * (got.numel() / x.numel()))


@pytest.mark.parametrize("dtype", [torch.float32, F64], ids=str)
def test_no_move_is_the_identity_bit_for_bit(dtype):
    x = angles().to(dtype)
    told = Prediction(x, score=100 * state(name="score").to(dtype))
    for shape in SHAPES:
        for t in (times(shape).to(dtype), torch.zeros(shape, dtype=dtype), torch.ones(shape)):
            for kind in MOVES.values():
                assert torch.equal(DIFFUSION.reverse(x, told, t, t, Rng(0), **kind), x)
            assert torch.equal(DIFFUSION.renoise(x, t, t, Rng(0)), x)
    assert torch.equal(DIFFUSION.corrupt(x, at(0.0), Rng(0)), x)
    t = torch.full((B, T), 0.7, dtype=dtype)
    s = t.clone()
    s[1, 2] = 0.2
    for kind in MOVES.values():
        y = DIFFUSION.reverse(x, told, t, s, Rng(0), **kind)
        assert (y != x).any(-1).nonzero().tolist() == [[1, 2]]
        assert y.dtype == dtype


@moves
def test_where_the_torus_looks_flat_moves_are_the_gaussian_ones(kind):
    """Small angles and noise: the same family, with x_0 = x + sigma^2 score."""
    flat = GaussianDiffusion(DIFFUSION.schedule)
    x = 0.1 * state()
    for t, s in ((0.2, 0.1), (0.3, 0.29), (0.25, 0.0)):
        score = state(name="score") / 10
        mean = x + DIFFUSION.schedule(at(t))[1] ** 2 * score
        expected = flat.reverse(x, Prediction(mean), at(t), at(s), Rng(1), **kind)
        told = Prediction(mean, score=score)
        got = DIFFUSION.reverse(x, told, at(t), at(s), Rng(1), **kind)
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)
    grad = state(name="grad")
    told = DIFFUSION.tilt(told, grad, x, at(0.2)).mean
    mean = x + DIFFUSION.schedule(at(0.2))[1] ** 2 * score
    torch.testing.assert_close(told, flat.tilt(Prediction(mean), grad, x, at(0.2)).mean)


def test_a_move_to_no_noise_is_the_mean():
    x, score = angles(), state(name="score")
    told = from_score(TORUS, x, score, DIFFUSION.schedule(at(0.5))[1])
    for name in ("flow", "half", "walk"):
        got = DIFFUSION.reverse(x, told, at(0.5), at(0.0), Rng(0), **MOVES[name])
        assert torch.equal(got, told.mean)


def test_noise_added_twice_is_noise_added_once():
    n = 100_000
    clean = at([[2.9, -0.5]]).expand(n, 2)
    for t, s in ((0.0, 0.3), (0.3, 0.5), (0.5, 0.6), (0.6, 1.0)):
        x = DIFFUSION.renoise(DIFFUSION.corrupt(clean, at(t), Rng(0)), at(t), at(s), Rng(1))
        sigma = float(DIFFUSION.schedule(at(s))[1])
        for order in (1, 2, 3):
            turned, expected = order * (x - clean), math.exp(-((order * sigma) ** 2) / 2)
            assert (turned.cos().mean(0) - expected).abs().max() < 5 / math.sqrt(2 * n)
            assert turned.sin().mean(0).abs().max() < 5 / math.sqrt(2 * n)


def test_the_law_at_time_1_is_the_uniform_prior():
    sigma = DIFFUSION.schedule(at(1.0))[1]
    assert TORUS.score(at(0.0), GRID, sigma).abs().max() < 1e-17  # so is the slope of ln p_1
    assert TORUS.remnant(float(sigma)) < 1e-17
    x = DIFFUSION.prior((3, 2), Rng(0))
    assert x.shape == (3, 2)
    assert x.dtype == torch.float32
    assert DIFFUSION.prior(angles(), Rng(0)).dtype == F64
    with pytest.raises(ValueError, match=r"uniform to 6e-8, but sigma\(1\) = 5 leaves 7\.5e-06"):
        RiemannianDiffusion(schedule=EDM(5.0))
    RiemannianDiffusion(schedule=EDM(6.0))
    for schedule in SCHEDULES.values():
        if not isinstance(schedule, EDM):
            with pytest.raises(ValueError, match="needs alpha = 1"):
                RiemannianDiffusion(schedule=schedule)


def test_what_a_move_needs():
    x, told = angles(), says()
    with pytest.raises(ValueError, match="give rng"):
        DIFFUSION.reverse(x, told, at(0.5), at(0.2), stochasticity=1.0)
    with pytest.raises(ValueError, match=r"in \[0, 1\], got 1.5"):
        DIFFUSION.reverse(x, told, at(0.5), at(0.2), Rng(0), stochasticity=1.5)
    with pytest.raises(ValueError, match=r"needs s <= t, got t = 0\.2 and s = 0\.5$"):
        DIFFUSION.reverse(x, told, at(0.2), at(0.5))
    with pytest.raises(ValueError, match=r"needs s >= t, got t = 0\.5 and s = 0\.2$"):
        DIFFUSION.renoise(x, at(0.5), at(0.2), Rng(0))
    for call in (
        lambda: DIFFUSION.reverse(x, Prediction(x), at(0.5), at(0.2)),
        lambda: DIFFUSION.loss(Prediction(x), x, x, at(0.5)),
        lambda: DIFFUSION.tilt(Prediction(x), x, x, at(0.5)),
    ):
        with pytest.raises(ValueError, match="needs the score, and this prediction has only a me"):
            call()
    with pytest.raises(ValueError, match=r"\(3,\) does not fit a state of shape \(2, 3, 2\)"):
        DIFFUSION.corrupt(x, torch.zeros(3), Rng(0))
    meta = torch.empty(B, T, D, device="meta")
    t = torch.empty(B, device="meta")
    assert DIFFUSION.reverse(meta, Prediction(meta, score=meta), t, t).shape == meta.shape


# Laws


class Fixed:
    """Draws that are all one number: a move is then a function, and its noise is read off it."""

    def __init__(self, value):
        self.value = value

    def normal_like(self, x):
        return torch.full_like(x, self.value)


def transported(denoiser, steps, **kind):
    """Coefficients of the law that a solver draws: moved on a grid, exactly, without Monte Carlo.

    x -> wrap(y(x) + d z): c_n' = sum over the grid of p(x) exp(i n y(x)) exp(-n^2 d^2 / 2).
    """
    n, law = torch.arange(1, 49, dtype=F64), Circle(None, torch.zeros(48, dtype=torch.complex128))
    for t, s in SamplingPlan.uniform(steps).rows(GRID):
        told, share = denoiser(GRID, t)[0], law.density(GRID) / len(GRID)
        y, noisy = (DIFFUSION.reverse(GRID, told, t, s, Fixed(z), **kind) for z in (0.0, 1e-3))
        std = (wrap(noisy - y) / 1e-3).mean()
        turned = torch.polar((-n * n * std * std / 2).exp() * share[:, None], n * y[:, None])
        law = Circle(None, turned.sum(0))
    return law.coefficients


def distance(coefficients, exact):
    return float((coefficients - exact)[:8].abs().max())


def padded(law):
    return torch.cat((law.coefficients, law.coefficients.new_zeros(48 - len(law.coefficients))))


@pytest.mark.parametrize(
    ("name", "expected"),  # the largest error of eight coefficients at 50 steps
    [("flow", 0.017), ("half", 0.011), ("walk", 0.019), ("large", 0.050)],
)
def test_moves_with_the_exact_score_reproduce_a_mixture_with_order_1(name, expected):
    exact = Circle.mixture(DIFFUSION.schedule)
    error = {
        steps: distance(transported(exact, steps, **MOVES[name]), padded(exact))
        for steps in (50, 400, 800)
    }
    assert error[50] == pytest.approx(expected, rel=0.05)
    assert math.log2(error[400] / error[800]) == pytest.approx(1, abs=0.06)
    assert error[800] < 0.0036


class Likelihood:
    """l(x_0) = exp(kappa cos(x_0 - a)) on a law: the tilted law, and E[l(x_0) | x_t] by images.

    The expectation is an integral over the heat kernel, which knows nothing of Fourier series.
    """

    def __init__(self, law, kappa=1.5, centre=0.9):
        self.law, self.kappa, self.centre = law, kappa, centre
        self.places = GRID[::2]
        self.prior = law.density(self.places)
        worth = self.prior * self(self.places)
        n = torch.arange(1, 41, dtype=F64)
        turned = torch.polar(worth[:, None], n * self.places[:, None]).sum(0)
        self.tilted = Circle(law.schedule, turned / worth.sum())

    def __call__(self, x):
        return (self.kappa * (x - self.centre).cos()).exp()

    def gradient(self, x, sigma):
        """Of ln E[l(x_0) | x_t = x] in x, by autograd."""
        most = int(8 * sigma / (2 * PI)) + 2  # what is left out is below exp(-32)
        turns = 2 * PI * torch.arange(-most, most + 1, dtype=F64)
        with torch.enable_grad():
            x = x.detach().double().requires_grad_()
            off = (x[..., None, None] - self.places[:, None] + turns) / sigma
            joint = (-off * off / 2).logsumexp(-1) + self.prior.log()
            worth = (joint + self(self.places).log()).logsumexp(-1)
            return torch.autograd.grad((worth - joint.logsumexp(-1)).sum(), x)[0]


class Tilted(nn.Module):
    def __init__(self, likelihood):
        super().__init__()
        self.likelihood = likelihood

    def forward(self, x, t, cond=None, carry=None, rng=None):
        told, carry = self.likelihood.law(x, t)
        sigma = DIFFUSION.schedule(t)[1]
        if sigma > 0.1:  # below it the grid cannot see the kernel, and l is as good as constant
            gradient = self.likelihood.gradient(x, sigma)
        else:
            gradient = -self.likelihood.kappa * (x - self.likelihood.centre).sin()
        return DIFFUSION.tilt(told, gradient, x, t), carry


@pytest.mark.parametrize("base", ["uniform", "mixture"])
def test_tilting_an_exact_score_gives_the_exact_score_of_the_tilted_law(base):
    """On the uniform law that is a von Mises, whose coefficients are Bessel functions."""
    schedule = DIFFUSION.schedule
    law = Circle(schedule, torch.zeros(1, dtype=torch.complex128))
    law = Circle.mixture(schedule) if base == "mixture" else law
    likelihood = Likelihood(law)
    if base == "uniform":
        bessel = torch.special.i1(at(1.5)) / torch.special.i0(at(1.5))
        torch.testing.assert_close(likelihood.tilted.coefficients[0].abs(), bessel)
    x = GRID[::7]
    for time in (0.25, 0.4, 0.6, 0.9, 1.0):
        t = at(time)
        gradient = likelihood.gradient(x, schedule(t)[1])
        got = DIFFUSION.tilt(law(x, t)[0], gradient, x, t)
        exact = likelihood.tilted(x, t)[0]
        torch.testing.assert_close(got.score, exact.score, rtol=1e-9, atol=1e-9)
        assert wrap(got.mean - exact.mean).abs().max() < 1e-7


def test_sampling_with_a_tilted_score_reproduces_the_tilted_law():
    likelihood = Likelihood(Circle.mixture(DIFFUSION.schedule))
    tilted = padded(likelihood.tilted)
    assert distance(tilted, padded(likelihood.law)) > 0.3  # it is another law
    error = [distance(transported(Tilted(likelihood), n), tilted) for n in (25, 50, 100)]
    assert error[2] < 0.013
    assert math.log2(error[1] / error[2]) == pytest.approx(1, abs=0.1)


# With the rest of the package


def orders(x, count=4):
    n = torch.arange(1, count + 1, dtype=F64)
    turned = torch.polar(torch.ones(1, dtype=F64), n * x.double().reshape(-1, 1))
    return turned.mean(0)


SOLVERS = {
    "flow": ancestral(),
    "walk": ancestral(1.0),
    "twice": resampled(ancestral(), 2),
    "churned": churned(ancestral(), 20, 80),
    "restarted": restarted(ancestral()),
}


@pytest.mark.parametrize("name", SOLVERS)
def test_sample_draws_the_law_in_float32_by_every_solver_that_bends(name):
    n, steps = 5_000, 80
    exact = Circle.mixture(DIFFUSION.schedule)
    plan = SamplingPlan.uniform(steps)
    if name == "restarted":
        plan = restarts(plan, 0.2, 0.6, rounds=1, rows=20)
    x = DIFFUSION.prior((n, 2), Rng(0))
    step = final(sample(exact, DIFFUSION, plan, x, rng=Rng(1), solver=SOLVERS[name]))
    assert step.x.dtype == torch.float32
    assert (step.x.abs() <= torch.tensor(PI)).all()
    # Errors of 80 steps are below 0.015; the standard error of a coefficient is below 0.01.
    assert (orders(step.x) - exact.coefficients[:4]).abs().max() < 0.015 + 4 / math.sqrt(2 * n)


def test_tokens_of_other_times_are_drawn_as_if_alone():
    """Independent tokens, a flow without draws: every plan is each token's own."""
    exact = Circle.mixture(DIFFUSION.schedule)
    x = angles(4, 3, 2)
    plan = SamplingPlan.pyramid(6, 3, 2)
    done = final(sample(exact, DIFFUSION, plan, x, rng=Rng(0)))
    alone = final(sample(exact, DIFFUSION, SamplingPlan.uniform(6), x, rng=Rng(0)))
    torch.testing.assert_close(done.x, alone.x, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(done.result, alone.result, rtol=1e-10, atol=1e-10)


def test_angles_are_a_part_of_a_product_beside_a_flat_one():
    flat = GaussianDiffusion(Cosine())
    both = ProductDiffusion({"angle": DIFFUSION, "place": flat})
    x = {"angle": angles(5, 2), "place": state(5, 3)}

    class Parts(nn.Module):
        def forward(self, x, t, cond=None, carry=None, rng=None):
            angle = Circle.mixture(DIFFUSION.schedule)(x["angle"], t["angle"])[0]
            return {"angle": angle, "place": Prediction(x["place"] / 2)}, {}

    plan = PartsPlan.beside({n: SamplingPlan.uniform(5) for n in x})
    for solver in (ancestral(), ancestral(1.0)):
        step = final(sample(Parts(), both, plan, x, rng=Rng(0), solver=solver))
        assert (step.x["angle"].abs() <= PI).all()
    noisy = both.corrupt(x, at(0.5), Rng(0))
    loss = both.loss(Parts()(noisy, dict.fromkeys(x, at(0.5)))[0], x, noisy, at(0.5))
    assert loss.keys() == x.keys()


def test_solvers_of_flat_spaces_refuse():
    x, plan = angles(2, 2), SamplingPlan.uniform(2)
    exact = Circle.mixture(DIFFUSION.schedule)
    for solver, told in (
        (heun(), r"^heun moves on lines, which Torus\(\) has not: use ancestral$"),
        (dpm_solver_pp_2m(), r"^dpm_solver_pp_2m moves on lines, which Torus\(\) has not"),
        (churned(ancestral(), 5, 2, noise=1.01), r"on Torus\(\) churn's noise must be 1, got 1.01"),
    ):
        with pytest.raises(TypeError, match=told):
            final(sample(exact, DIFFUSION, plan, x, rng=Rng(0), solver=solver))


class Says(nn.Module):
    """A network that remembers what it was given."""

    def forward(self, x, log_snr, cond=None):
        self.seen, self.log_snr = x, log_snr
        return x.new_ones(*x.shape[:-1], x.shape[-1] // 2)


def test_a_network_is_told_sines_and_cosines_and_says_sigma_times_the_score():
    network = Says()
    denoiser = Preconditioned(network, DIFFUSION.schedule, target="score", manifold=TORUS)
    x, t = angles(), times((B, T))
    told, _ = denoiser(x, t)
    assert torch.equal(network.seen, TORUS.features(x))
    assert network.log_snr.shape == (B, T)
    sigma = DIFFUSION.schedule(t)[1][..., None]
    torch.testing.assert_close(told.score * sigma, torch.ones_like(x))
    assert wrap(told.mean - (x + sigma)).abs().max() < 1e-12
    # A state without noise stays where it is: nothing is divided by its zero.
    for dtype in (torch.float32, F64):
        for time in (at(0.0), at(1e-9), at(1e-5), torch.full((B,), 1e-14)):
            told, _ = denoiser(x.to(dtype), time.to(dtype))
            assert told.score.isfinite().all()
            torch.testing.assert_close(told.mean, x.to(dtype), rtol=1e-6, atol=1e-12)
    for options in ({"target": "score"}, {"manifold": TORUS}):
        with pytest.raises(ValueError, match="target 'score' is for a manifold"):
            Preconditioned(network, DIFFUSION.schedule, **options)


def test_the_exact_score_has_the_least_loss():
    """Its loss is below that of its neighbours by what they are off: score matching is unbiased."""
    n, exact = 20_000, Circle.mixture(DIFFUSION.schedule)
    coefficients = exact.coefficients
    share = exact.density(GRID) / len(GRID)
    level = Rng(0).uniform((n,), F64)
    clean = GRID[torch.searchsorted(share.cumsum(0), level)].reshape(n, 1)
    assert distance(orders(clean, 8), coefficients[:8]) < 5 / math.sqrt(2 * n)
    for time in (0.2, 0.4, 0.6):
        t = at(time)
        x = DIFFUSION.corrupt(clean, t, Rng(1))
        told = exact(x, t)[0]
        sigma = DIFFUSION.schedule(t)[1]
        off = x.sin() / 5
        gain = (
            DIFFUSION.loss(replace(told, score=told.score + sign * off), clean, x, at([time] * n))
            - DIFFUSION.loss(told, clean, x, at([time] * n))
            - (sigma * off) ** 2
            for sign in (-1, 1)
        )
        for value in gain:  # the cross term, of mean 0
            assert value.mean().abs() < 5 * value.std() / math.sqrt(n)


def test_guidance_by_a_reward_is_a_tilt_and_means_alone_are_refused():
    exact, x, t = Circle.mixture(DIFFUSION.schedule), angles(4, 2), at(0.4)

    def reward(x):
        return (x - 1).cos().sum(1)

    told, _ = RewardGuided(exact, DIFFUSION, reward, 0.7)(x, t)
    state = x.clone().requires_grad_()
    plain = exact(state, t)[0]
    (grad,) = torch.autograd.grad(0.7 * reward(plain.mean).sum(), state)
    torch.testing.assert_close(told.score, plain.score.detach() + grad)
    assert not told.score.requires_grad
    guided, _ = ClassifierFree(exact, 2.0)(x, t)
    with pytest.raises(ValueError, match="no wrapper that combines means"):
        DIFFUSION.reverse(x, guided, t, at(0.2))


def pairs(n, rng):
    """Two angles that are each uniform and differ by 1 + 0.5 z."""
    first = TORUS.uniform(torch.empty(n, 1), rng.fold("first"))
    return torch.cat((first, wrap(first + 1 + 0.5 * rng.fold("z").normal((n, 1)))), 1)


def test_a_network_learns_a_law_on_the_2_torus():
    """600 updates; over four seeds the errors were 0.02 to 0.07, of which 0.02 are the draws'."""
    batch, n, updates = 256, 4_000, 600
    with Rng(0).torch():
        network = MLP(4, 2, width=48, depth=2)
    denoiser = Preconditioned(network, DIFFUSION.schedule, target="score", manifold=TORUS)
    optimiser = torch.optim.Adam(network.parameters(), lr=4e-3)
    rate = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.02, updates)
    for i in range(updates):
        rng = Rng(1).fold("step", i)
        t = stratified_times(torch.arange(batch), batch, rng.fold("t"))
        loss = denoising_loss(denoiser, DIFFUSION, pairs(batch, rng), t, None, rng).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        rate.step()
    x, order = DIFFUSION.prior((n, 2), Rng(2)), torch.arange(1, 3, dtype=F64)
    exact = torch.polar((-order * order * 0.125).exp(), order)  # 0.88 and 0.61 long
    for solver in (ancestral(), ancestral(1.0)):
        plan = SamplingPlan.uniform(50)
        drawn = final(sample(denoiser, DIFFUSION, plan, x, rng=Rng(3), solver=solver)).x
        assert (orders(drawn[:, 1] - drawn[:, 0], 2) - exact).abs().max() < 0.09
        for k in range(2):
            assert orders(drawn[:, k], 2).abs().max() < 0.08


def test_a_sample_is_the_same_alone_and_in_a_batch():
    exact, keys = Circle.mixture(DIFFUSION.schedule), Rng(4).samples(6)
    x, plan = DIFFUSION.prior((6, 2), keys), SamplingPlan.uniform(7)
    together = final(sample(exact, DIFFUSION, plan, x, rng=keys, solver=ancestral(1.0))).x
    for i in (0, 5):
        own = Rng(4).samples(1, start=i)
        alone = final(sample(exact, DIFFUSION, plan, x[i : i + 1], rng=own, solver=ancestral(1.0)))
        torch.testing.assert_close(alone.x, together[i : i + 1], rtol=0, atol=1e-6)
