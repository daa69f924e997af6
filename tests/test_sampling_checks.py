"""The sampler against closed forms: checks 16 to 23 of the paper's file, with its numbers."""

import math

import pytest
import torch
from oracles import F64, Binary, Categorical, Constant, Gaussian, phi, share_of_ones

from noiseloom.conditioning import SelfGuided
from noiseloom.denoiser import Clipped
from noiseloom.diffusion import GaussianDiffusion
from noiseloom.encodings import Bits
from noiseloom.noise import Cosine
from noiseloom.plan import SamplingPlan
from noiseloom.rng import Rng
from noiseloom.sampling import ancestral, dpm_solver_pp_2m, final, heun, sample

SCHEDULE, DIFFUSION = Cosine(), GaussianDiffusion()
DDIM, SMALL, LARGE = ancestral(), ancestral(1.0), ancestral(1.0, "large")
SOLVERS = {"ddim": DDIM, "small": SMALL, "large": LARGE, "heun": heun(), "2m": dpm_solver_pp_2m()}


def at(value):
    return torch.tensor(value, dtype=F64)


def run(denoiser, plan, x, solver=DDIM, seed=1):
    return final(sample(denoiser, DIFFUSION, plan, x, rng=Rng(seed), solver=solver))


def side_by_side(steps, shifts):
    """One plan whose tokens are as many values of td: shape (N, 1, T)."""
    plans = [SamplingPlan.uniform(steps).overshoot(d) for d in shifts]
    t, s = (torch.stack([getattr(p, n) for p in plans], 1)[:, None] for n in ("t", "s"))
    return SamplingPlan(t, s)


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
def test_check_16_calls_and_no_overshoot(solver):
    x = Rng(0).normal((3, 2), F64)
    per_row = {"heun": 2}.get(next(k for k, v in SOLVERS.items() if v is solver), 1)
    for n in (1, 2, 7):
        exact = Binary(SCHEDULE, 0.3)
        plain = run(exact, SamplingPlan.uniform(n), x, solver)
        assert exact.calls == per_row * n - (per_row - 1)  # Heun's last row is one call
        again = run(exact, SamplingPlan.uniform(n).overshoot(0.0), x, solver)
        assert torch.equal(plain.x, again.x)
        assert torch.equal(plain.result, again.result)
    exact = Binary(SCHEDULE, 0.3)
    run(SelfGuided(exact, 3.0), SamplingPlan.uniform(5), x)
    assert exact.calls == 10


@pytest.mark.parametrize("n", [1, 3, 10])
def test_check_17_a_constant_oracle_moves_on_a_line(n):
    c, x = 0.4, Rng(0).normal((6,), F64)
    plan = SamplingPlan.uniform(n)
    alpha_1, sigma_1 = SCHEDULE(at(1.0))
    for step in sample(Constant(SCHEDULE, c), DIFFUSION, plan, x, rng=Rng(0)):
        alpha, sigma = SCHEDULE(step.s)
        torch.testing.assert_close(step.x, alpha * c + sigma / sigma_1 * (x - alpha_1 * c))
    for d in (0, 0.1, 0.5, 2, 30):
        plan = SamplingPlan.uniform(n).overshoot(d)
        ratios = SCHEDULE(plan.s)[1] / SCHEDULE(plan.t)[1]
        got = run(Constant(SCHEDULE), plan, x).x
        torch.testing.assert_close(got, x * ratios.prod())


def final_variance(variance, steps, solver):
    """Of samples of Gaussian data: every move is x' = c x + d z, so no Monte Carlo is needed."""
    exact = Gaussian(SCHEDULE, variance)
    eta, kind = solver
    options = {"stochasticity": eta, "variance": kind}
    rng = Rng(torch.zeros(2, dtype=torch.int64))  # two rows, one key: the same z for x = 0 and 1
    x, z = torch.tensor([0.0, 1.0], dtype=F64), float(rng.normal((2,), F64)[0])
    v = float(SCHEDULE(at(1.0))[1] ** 2)
    for t, s in SamplingPlan.uniform(steps).rows(x):
        zero, one = DIFFUSION.reverse(x, exact(x, t)[0], t, s, rng, **options).tolist()
        v = (one - zero) ** 2 * v + (zero / z) ** 2
    return v


KINDS = {"ddim": (0.0, "small"), "large": (1.0, "large"), "small": (1.0, "small")}


@pytest.mark.parametrize(
    ("variance", "kind", "expected"),
    [
        (0.25, "ddim", (0.183267, 0.242413, 0.249231)),
        (0.25, "large", (0.300413, 0.254671, 0.250463)),
        (0.25, "small", (0.151044, 0.232793, 0.248046)),
        (4.0, "ddim", (2.931863, 3.878557, 3.987687)),
        (4.0, "large", (3.33863, 3.926742, 3.992607)),
        (4.0, "small", (2.696168, 3.833973, 3.982822)),
        (1.0, "ddim", (0.7806431, 0.9756389, None)),
        (1.0, "large", (1.0, 1.0, 1.0)),
    ],
)
def test_check_18_variance_of_gaussian_samples(variance, kind, expected):
    for steps, value in zip((10, 100, 1000), expected, strict=True):
        if value is not None:
            got = final_variance(variance, steps, KINDS[kind])
            assert got == pytest.approx(value, abs=6e-7 if value != 1 else 1e-7)


@pytest.mark.parametrize("d", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("n", [5, 10, 100])
def test_check_18_a_step_at_unit_variance_turns_by_an_angle(n, d):
    """x' = cos(theta - theta') x; theta moves (1 + td) pi / (2 N (1 + ds)) unless clamped at 0."""
    plan = SamplingPlan.uniform(n).overshoot(d)
    factor = run(Gaussian(SCHEDULE), plan, torch.ones(1, dtype=F64)).x
    moved = (plan.t - plan.s) * math.pi / (2 * (1 + 2.5e-4))
    torch.testing.assert_close(factor, moved.cos().prod()[None])
    step = math.cos((1 + d) * math.pi / (2 * n * (1 + 2.5e-4)))
    assert float(moved.cos()[0]) == pytest.approx(step, rel=1e-12)
    if d == 0:
        assert float(factor) == pytest.approx(step**n, rel=1e-10)


def ones(p, plan, scale=1.0):
    """P(bit = 1) under DDIM, one per row of p; the final estimate decides, not the state."""
    p = torch.as_tensor(p, dtype=F64)
    exact = Binary(SCHEDULE, p.reshape(p.shape + (1,) * (2 - p.ndim)), scale)

    def decide(x):
        return run(exact, plan, x).result > 0

    return share_of_ones(decide, len(p))


TABLE_19 = {
    1: (0.5, 0, 0, 0),
    2: (0.5, 0.205092, 0.028811, 0.001830),
    5: (0.5, 0.275151, 0.075912, 0.011946),
    10: (0.5, 0.288776, 0.088616, 0.016005),
    20: (0.5, 0.294648, 0.094467, 0.018020),
    50: (0.5, 0.297922, 0.097829, 0.019215),
    100: (0.5, 0.298976, 0.098925, 0.019610),
    400: (0.5, 0.299754, 0.099741, 0.019905),
    1000: (0.5, 0.299908, 0.099903, 0.019964),
    4000: (0.5, 0.299985, 0.099984, 0.019994),
}


@pytest.mark.parametrize(
    "n", [n if n < 4000 else pytest.param(n, marks=pytest.mark.slow) for n in TABLE_19]
)
def test_check_19_bernoulli_bits_under_ddim(n):
    got = ones([0.5, 0.3, 0.1, 0.02], SamplingPlan.uniform(n))
    torch.testing.assert_close(got, at(TABLE_19[n]), rtol=0, atol=6e-7)


TABLE_5_3 = {  # P(bit = 1) at p = .1, by steps and td
    10: {0: 0.088616, 0.01: 0.086641, 0.1: 0.070241, 0.5: 0.023147, 1: 0.003278, 2: 0.000001},
    100: {0: 0.098925, 0.01: 0.097101, 0.1: 0.081909, 0.5: 0.036301, 1: 0.011482, 2: 0.000717},
    1000: {0: 0.099903, 0.1: 0.083033, 0.5: 0.037701, 1: 0.012636, 2: 0.001025},
    4000: {0: 0.099984, 0.1: 0.083126, 0.5: 0.037818, 1: 0.012734, 2: 0.001054},
}


@pytest.mark.parametrize(
    "n", [n if n < 4000 else pytest.param(n, marks=pytest.mark.slow) for n in TABLE_5_3]
)
def test_check_19_asymmetric_intervals_sharpen(n):
    """All values of td at once, as tokens of one plan."""
    shifts = list(TABLE_5_3[n])
    plan, exact = side_by_side(n, shifts), Binary(SCHEDULE, 0.1)

    def decide(x):
        return run(exact, plan, x[None]).result[0] > 0

    got = share_of_ones(decide, len(shifts))
    torch.testing.assert_close(got, at(list(TABLE_5_3[n].values())), rtol=0, atol=6e-7)


@pytest.mark.parametrize(
    ("b", "expected"),
    [(0.1, 0.095526), (0.3, 0.098409), (0.5, 0.098841), (1.0, 0.098925), (2.0, 0.098468)],
)
def test_check_19_the_scale_of_the_bits(b, expected):
    got = ones([0.1], SamplingPlan.uniform(100), b)
    assert float(got) == pytest.approx(expected, abs=6e-7)


def test_check_19_fair_bits_are_exact_for_all_settings():
    for n in (1, 3, 10):
        for d in (0, 0.5, 2, 7):
            for b in (0.1, 1.0, 3.0):
                got = ones([0.5], SamplingPlan.uniform(n).overshoot(d), b)
                assert float(got) == pytest.approx(0.5, abs=1e-7)


@pytest.mark.parametrize(
    ("solver", "expected"),
    [
        (LARGE, {5: 0.1296, 10: 0.1130, 20: 0.1058, 50: 0.1022, 100: 0.1005, 400: 0.1000}),
        (SMALL, {5: 0.0570, 10: 0.0758, 20: 0.0870, 50: 0.0948, 100: 0.0967, 400: 0.0991}),
    ],
    ids=["large", "small"],
)
def test_check_19_bernoulli_bits_under_ddpm(solver, expected):
    exact = Binary(SCHEDULE, 0.1)
    for n, value in expected.items():
        draws = 100_000 if n <= 50 else 20_000
        x = DIFFUSION.prior((draws,), Rng(0))
        bits = run(exact, SamplingPlan.uniform(n), x, solver).result > 0
        error = math.sqrt(value * (1 - value) * (1 / draws + 1 / 400_000))
        assert abs(float(bits.double().mean()) - value) < 5 * error + 5e-5


# Check 20: five classes on three bits

CODEC = Bits(5, invalid="raise")
WEIGHTS = at([0.4, 0.25, 0.2, 0.1, 0.05])


def five_classes(n, solver, d=0.0, draws=40_000):
    """Total variation between samples and their law; raises on an invalid code."""
    exact = Categorical(SCHEDULE, CODEC.table.double(), WEIGHTS)
    x = DIFFUSION.prior((draws, 3), Rng(3))
    result = run(exact, SamplingPlan.uniform(n).overshoot(d), x, solver).result
    share = torch.bincount(CODEC.decode(result), minlength=5) / draws
    return float((share - WEIGHTS).abs().sum() / 2)


@pytest.mark.parametrize(
    ("solver", "expected"),
    [
        (DDIM, {5: 0.041, 10: 0.017, 20: 0.008, 50: 0.003, 100: 0.002}),
        (LARGE, {5: 0.019, 10: 0.007, 20: 0.003, 50: 0.001, 100: 0.001}),
        (SMALL, {5: 0.076, 10: 0.042, 20: 0.022, 50: 0.009, 100: 0.003}),
    ],
    ids=["ddim", "large", "small"],
)
def test_check_20_five_classes_on_three_bits(solver, expected):
    draws = 40_000
    # TV is the probability of a set, minus a constant, so its deviation is at most 1 / 2 sqrt(n).
    error = 0.5 * math.sqrt(1 / draws + 1 / 200_000)
    for n, value in expected.items():
        assert abs(five_classes(n, solver, draws=draws) - value) < 5 * error + 5e-4


@pytest.mark.parametrize(
    ("n", "d", "expected"), [(10, 0.5, 0.137), (100, 0.5, 0.097), (10, 2, 0.447), (100, 2, 0.294)]
)
def test_check_20_asymmetric_intervals(n, d, expected):
    error = 0.5 * math.sqrt(1 / 40_000 + 1 / 200_000)
    assert abs(five_classes(n, DDIM, d) - expected) < 5 * error + 5e-4


def test_check_20_few_steps_can_leave_the_code_book():
    """Uniform over the codes 3, 5, 6 of 3 bits: thresholding a mean can spell 7."""
    codes = Bits(8).table[[3, 5, 6]].double()
    exact = Categorical(SCHEDULE, codes, torch.full((3,), 1 / 3, dtype=F64))
    draws = 40_000
    x = DIFFUSION.prior((draws, 3), Rng(4))
    for solver, two in ((DDIM, 0.096), (LARGE, 0.053), (SMALL, 0.098)):
        for n, rate in ((1, 1.0), (2, two), (10, 0.0), (20, 0.0)):
            spelt = Bits(8).decode(run(exact, SamplingPlan.uniform(n), x, solver).result)
            got = float((~torch.isin(spelt, torch.tensor([3, 5, 6]))).double().mean())
            error = math.sqrt(rate * (1 - rate) * (1 / draws + 1 / 200_000))
            assert abs(got - rate) <= 5 * error + 5e-4 * (0 < rate < 1)
        spelt = Bits(8).decode(run(exact, SamplingPlan.uniform(5), x, solver).result)
        assert float((~torch.isin(spelt, torch.tensor([3, 5, 6]))).double().mean()) < 2e-3
    # What the design offers against it: the nearest valid code, or the head's own argmax.
    assert set(Bits(3).decode(torch.ones(1, 2)).tolist()) <= {0, 1, 2}


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
def test_check_21_one_step_says_the_prior_mean(solver):
    draws = 1000
    x = DIFFUSION.prior(torch.empty(draws, 3, dtype=F64), Rng(0))
    exact = Categorical(SCHEDULE, CODEC.table.double(), WEIGHTS)
    result = run(exact, SamplingPlan.uniform(1), x, solver).result
    prior = WEIGHTS @ CODEC.table.double()
    torch.testing.assert_close(result, prior.expand(draws, 3), rtol=0, atol=1e-3)
    share = torch.bincount(CODEC.decode(result), minlength=5) / draws
    assert float((share - WEIGHTS).abs().sum() / 2) == pytest.approx(0.6)


@pytest.mark.slow
def test_check_22_many_steps_with_td_follow_the_velocity_times_1_plus_td():
    """Euler on dx / dt = (1 + td) v gives .01275 at p = .1, td = 1; the sampler .0127."""
    assert euler(4000, 1.0) == pytest.approx(0.01275, abs=5e-5)
    plan = SamplingPlan.uniform(4000).overshoot(1.0)
    assert float(ones([0.1], plan)) == pytest.approx(0.0127, abs=5e-5)


@pytest.mark.parametrize("d", [0.0, 0.5, 1.0])
def test_check_22_the_velocity_law_at_fewer_steps(d):
    got = float(ones([0.1], SamplingPlan.uniform(1000).overshoot(d)))
    assert got == pytest.approx(euler(1000, d), abs=3e-4)
    if d == 1:
        assert got == pytest.approx(0.0127, abs=1e-4)


def euler(steps, d, p=0.1):
    """P(bit = 1) of Euler's rule for the scaled probability flow, in dtheta for the cosine."""
    exact = Binary(SCHEDULE, p)
    times = SamplingPlan.uniform(steps).t

    def decide(x):
        for t in times:
            alpha, sigma = SCHEDULE(t)
            mean = exact.mean(x, alpha, sigma)
            eps = (x - alpha * mean) / sigma
            rate = math.pi / 2 / (1 + 2.5e-4)
            velocity = rate * (alpha * eps - sigma * mean)  # d alpha / dt x_0 + d sigma / dt eps
            x = x - (1 + d) * velocity / steps
        return mean > 0

    return float(share_of_ones(decide, 1))


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
def test_check_23_the_same_key_gives_the_same_samples(solver):
    exact, plan = Binary(SCHEDULE, 0.3), SamplingPlan.uniform(8)
    x = Rng(0).normal((40, 3), F64)
    a, b = run(exact, plan, x, solver, seed=1), run(exact, plan, x, solver, seed=1)
    assert torch.equal(a.x, b.x)
    c = run(exact, plan, x, solver, seed=2)
    stochastic = solver in (SMALL, LARGE)
    assert torch.equal(a.x, c.x) != stochastic  # DDIM and its kin draw nothing after x_T


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
def test_check_23_any_split_of_a_batch_gives_the_same_samples(solver):
    exact, plan = Binary(SCHEDULE, 0.3), SamplingPlan.uniform(8)
    x = DIFFUSION.prior(torch.empty(40, 3, dtype=F64), Rng(0).samples(40))

    def part(start, count):
        rng = Rng(1).samples(count, start)
        rows = x[start : start + count]
        return final(sample(exact, DIFFUSION, plan, rows, rng=rng, solver=solver)).x

    whole = part(0, 40)
    for sizes in ((20, 20), (1, 39), (7, 13, 20)):
        start, parts = 0, []
        for size in sizes:
            parts.append(part(start, size))
            start += size
        torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-12, atol=1e-12)


def test_clipping_moves_the_path_of_an_overconfident_denoiser_not_its_bits():
    class Loud(Binary):
        def mean(self, x, alpha, sigma):
            return 1.5 * super().mean(x, alpha, sigma)

    x, plan = Rng(0).normal((200,), F64), SamplingPlan.uniform(10)
    loud, clipped = Loud(SCHEDULE, 0.5), Clipped(Loud(SCHEDULE, 0.5), 1.0)
    for step in sample(clipped, DIFFUSION, plan, x, rng=Rng(0)):
        assert step.result.abs().max() <= 1
    assert run(loud, plan, x).result.abs().max() > 1
    assert torch.equal(step.result > 0, run(loud, plan, x).result > 0)


def test_the_normal_distribution_function_of_the_oracles():
    assert float(phi(at(0.0))) == 0.5
    assert float(phi(at(1.959963984540054))) == pytest.approx(0.975, rel=1e-12)
    assert float(phi(at(-8.0))) == pytest.approx(6.22096057427178e-16, rel=1e-9)
