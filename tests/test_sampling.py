"""The loop and its solvers: tokens, memory, carries and keys (accuracy: test_sampling_*)."""

import itertools
import math

import pytest
import torch
from oracles import F64, Binary, Gaussian, Leaning, Mixture
from torch import nn

from noiseloom.diffusion import GaussianDiffusion, Prediction
from noiseloom.encodings import Bits
from noiseloom.noise import EDM, SCHEDULES, Cosine, LinearGamma, RectifiedFlow
from noiseloom.plan import SamplingPlan
from noiseloom.rng import Rng
from noiseloom.sampling import Step, ancestral, dpm_solver_pp_2m, final, heun, sample

SOLVERS = {
    "ddim": ancestral(),
    "half": ancestral(0.5),
    "ddpm": ancestral(1.0),
    "large": ancestral(1.0, "large"),
    "heun": heun(),
    "heun-edm": heun(math.inf),
    "2m": dpm_solver_pp_2m(),
}
solvers = pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
schedules = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)


def at(value):
    return torch.tensor(value, dtype=F64)


def token_by_token(times, tokens):
    """Each token goes through all times alone, one after the other; rows of shape (1, T)."""
    steps = len(times) - 1
    t = times[0] * torch.ones(tokens * steps + 1, 1, tokens, dtype=F64)
    for k in range(tokens):
        t[k * steps : (k + 1) * steps + 1, 0, k] = times
        t[(k + 1) * steps :, 0, k] = times[-1]
    return SamplingPlan.from_times(t)


def times(steps=7, start=1.0, end=0.0):
    return torch.linspace(start, end, steps + 1, dtype=F64)


def run(denoiser, schedule, plan, x, solver, rng=None):
    d = GaussianDiffusion(schedule)
    return list(sample(denoiser, d, plan, x, rng=rng or Rng(5), solver=solver))


def keys(*shape):
    rng = Rng(6)
    for axis, size in enumerate(shape):
        rng = rng.each(f"axis {axis}", torch.arange(size))
    return rng


@solvers
@schedules
@pytest.mark.parametrize("shape", [(), (2,), (2, 3), (1, 3), (2, 3, 2)], ids=str)
def test_a_solver_is_a_loop_over_tokens(solver, schedule, shape):
    """Three rows, so that memory matters; every entry alone takes the same path."""
    rng = Rng(8)
    draws = rng.uniform((4, *shape), F64).sort(0, descending=True).values
    draws[0] = torch.where(rng.fold("noise").uniform(shape, F64) < 0.3, 1.0, draws[0])
    draws[-1] = torch.where(rng.fold("clean").uniform(shape, F64) < 0.3, 0.0, draws[-1])
    still = rng.fold("still").uniform(shape, F64) < 0.3
    draws[2] = torch.where(still, draws[1], draws[2])  # held in the middle row
    plan, x = SamplingPlan.from_times(draws), Rng(9).normal((2, 3, 2), F64)
    exact, key = Gaussian(schedule, 0.6, 0.2), keys(2, 3, 2)
    steps = run(exact, schedule, plan, x, solver, key)
    full = draws.reshape(4, *shape, *(1,) * (3 - len(shape))).expand(4, 2, 3, 2)
    for place in itertools.product(range(2), range(3), range(2)):
        alone = SamplingPlan.from_times(full[(slice(None), *place)])
        path = run(exact, schedule, alone, x[place], solver, Rng(key.key[place]))
        for step, own in zip(steps, path, strict=True):
            torch.testing.assert_close(step.x[place], own.x, rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(step.result[place], own.result, rtol=1e-9, atol=1e-9)


@solvers
@schedules
def test_tokens_that_stay_are_untouched_bit_for_bit(solver, schedule):
    x = Rng(0).normal((2, 4, 3), F64)
    plan = token_by_token(times(3), 4)
    before = x
    for step in run(Gaussian(schedule, 0.6), schedule, plan, x, solver):
        held = (step.s == step.t).expand(2, 4)
        assert held.sum() == 6
        assert torch.equal(step.x[held], before[held])
        assert (step.x[~held] != before[~held]).all()
        before = step.x


@pytest.mark.parametrize("schedule", [RectifiedFlow(), LinearGamma(), EDM(), Cosine()], ids=str)
@solvers
def test_moving_tokens_one_by_one_equals_each_alone_down_to_no_noise(solver, schedule):
    """Independent tokens: any plan gives the same path, and it is finite where sigma = 0."""
    grid, x = times(), Rng(1).normal((3, 4, 1), F64) * schedule(at(1.0))[1]
    exact = Mixture(schedule)
    steps = run(exact, schedule, token_by_token(grid, 4), x, solver)
    for step in steps:
        assert step.x.isfinite().all()
        assert step.result.isfinite().all()
    if solver in (SOLVERS["half"], SOLVERS["ddpm"], SOLVERS["large"]):
        return  # their draws belong to rows
    together = run(exact, schedule, SamplingPlan.from_times(grid), x, solver)
    torch.testing.assert_close(steps[-1].x, together[-1].x, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(steps[-1].result, together[-1].result, rtol=1e-10, atol=1e-10)
    for k in range(4):
        alone = run(exact, schedule, SamplingPlan.from_times(grid), x[:, k], solver)
        torch.testing.assert_close(steps[-1].x[:, k], alone[-1].x, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["ddim", "heun", "2m"])
def test_what_is_said_of_a_token_that_stays_is_forgotten(name):
    """Held between its own moves, by a denoiser that then says nonsense about it."""
    grid, x = times(4, end=0.1), Rng(1).normal((2, 2, 1), F64)
    order = [0, 1, 1, 0, 0, 1, 0, 1]  # which of two tokens each row moves
    t = grid[0].repeat(len(order) + 1, 1, 2)
    for k in range(2):
        t[1:, 0, k] = grid[(torch.tensor(order) == k).cumsum(0)]
    plan, exact = SamplingPlan.from_times(t), Mixture(Cosine())

    class Nonsense(Mixture):
        row = -1

        def forward(self, x, t, cond=None, carry=None, rng=None):
            mean = exact(x, t)[0].mean
            self.row += 1
            mean[:, 1 - order[self.row // (2 if name == "heun" else 1)]] = 1e3
            return Prediction(mean), {}

    got = run(Nonsense(Cosine()), Cosine(), plan, x, SOLVERS[name])[-1]
    alone = run(exact, Cosine(), SamplingPlan.from_times(grid), x, SOLVERS[name])[-1]
    torch.testing.assert_close(got.x, alone.x, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(got.result, alone.result, rtol=1e-10, atol=1e-10)


def test_2m_is_its_formula_with_a_first_order_start_and_end():
    schedule, x = Cosine(), Rng(2).normal((5,), F64)
    exact, grid = Mixture(schedule), times(6)
    old = old_lam = None
    y = x
    for step in run(exact, schedule, SamplingPlan.from_times(grid), x, dpm_solver_pp_2m()):
        (alpha, sigma), (alpha_s, sigma_s) = schedule(step.t), schedule(step.s)
        lam, lam_s = (alpha / sigma).log(), (alpha_s / sigma_s).log()
        h, m = lam_s - lam, exact(y, step.t)[0].mean
        d = m if old is None or step.s == 0 else m + h / (2 * (lam - old_lam)) * (m - old)
        y = sigma_s / sigma * y - alpha_s * ((-h).exp() - 1) * d
        torch.testing.assert_close(step.x, y)
        old, old_lam = m, lam


@pytest.mark.parametrize("d", [0.3, 1.0, 5.0])
def test_heun_is_the_trapezoidal_rule_in_the_angle(d):
    for schedule in (Cosine(), RectifiedFlow(), EDM(sigma_max=3.0)):
        exact, x = Mixture(schedule), Rng(2).normal((5,), F64)

        def velocity(y, t, exact=exact, schedule=schedule):
            alpha, sigma = schedule(t)
            phi, radius = torch.atan2(sigma, d * alpha), (d * d * alpha**2 + sigma**2).sqrt()
            mean = exact(y * radius, t)[0].mean / d
            return phi, radius, phi.cos() * (y - phi.cos() * mean) / phi.sin() - phi.sin() * mean

        (step,) = run(exact, schedule, SamplingPlan(at([0.8]), at([0.5])), x, heun(d))
        radius = velocity(x, at(0.8))[1]
        phi, _, v = velocity(x / radius, at(0.8))
        phi_s, radius_s, _ = velocity(x, at(0.5))
        guess = x / radius + (phi_s - phi) * v
        _, _, v_s = velocity(guess, at(0.5))
        expected = (x / radius + (phi_s - phi) * (v + v_s) / 2) * radius_s
        torch.testing.assert_close(step.x, expected)


def test_heun_with_d_infinite_is_edms_and_the_limit_of_others():
    plan, x = SamplingPlan(at([0.8]), at([0.5])), Rng(2).normal((5,), F64)
    for schedule in (Cosine(), RectifiedFlow(), EDM(sigma_max=3.0)):
        exact = Mixture(schedule)
        (alpha, sigma), (alpha_s, sigma_s) = schedule(at(0.8)), schedule(at(0.5))
        y, r, r_s = x / alpha, sigma / alpha, sigma_s / alpha_s
        slope = (y - exact(x, at(0.8))[0].mean) / r
        guess = y + (r_s - r) * slope
        slope_s = (guess - exact(guess * alpha_s, at(0.5))[0].mean) / r_s
        expected = alpha_s * (y + (r_s - r) * (slope + slope_s) / 2)
        (step,) = run(exact, schedule, plan, x, heun(math.inf))
        torch.testing.assert_close(step.x, expected)
        (step,) = run(exact, schedule, plan, x, heun(1e5))
        torch.testing.assert_close(step.x, expected)
    # Without signal, sigma / alpha is infinite: the first row is DDIM's.
    plan, flow = SamplingPlan(at([1.0]), at([0.5])), RectifiedFlow()
    first = [
        run(Mixture(flow), flow, plan, x, solver)[0].x for solver in (heun(math.inf), ancestral())
    ]
    assert torch.equal(*first)


@pytest.mark.parametrize("d", [0.0, -1.0, math.nan])
def test_heun_without_a_deviation_raises(d):
    with pytest.raises(ValueError, match="data_std > 0"):
        heun(d)


# Keys


@solvers
def test_sample_17_is_the_same_alone_and_in_a_batch_of_100(solver):
    """The same draws bit for bit, and the same decoded picture, also through a matrix product."""
    d, codec = GaussianDiffusion(), Bits(16, axis=1)

    class Spy:
        """The diffusion, remembering the states it drew noise for and the noise."""

        schedule = d.schedule
        result = d.result
        seen = ()

        def reverse(self, x, prediction, t, s, rng=None, **options):
            if options.get("stochasticity"):
                Spy.seen = (*Spy.seen, rng.normal_like(x))
            return d.reverse(x, prediction, t, s, rng, **options)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            with Rng(0).torch():
                self.layer = nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x, t, cond=None, carry=None, rng=None):
            with torch.no_grad():
                return Prediction((3 * self.layer(x)).tanh()), {}

    net, plan = Net(), SamplingPlan.uniform(5)

    def draw(count, start):
        Spy.seen = ()
        x = d.prior((count, 4, 6, 6), Rng(3).samples(count, start).fold("prior"))
        rng = Rng(3).samples(count, start)
        step = final(sample(net, Spy(), plan, x, rng=rng, solver=solver))
        return x, Spy.seen, codec.decode(step.result)

    x, noise, pictures = draw(100, 0)
    for start, count in ((17, 1), (10, 20)):
        x_part, noise_part, picture = draw(count, start)
        rows = slice(start, start + count)
        assert torch.equal(x_part, x[rows])
        assert len(noise) == len(noise_part)
        for a, b in zip(noise, noise_part, strict=True):
            assert torch.equal(a[rows], b)
        assert torch.equal(picture, pictures[rows])
    assert not torch.equal(pictures[17], pictures[18])
    assert bool(noise) == (solver in (SOLVERS["half"], SOLVERS["ddpm"], SOLVERS["large"]))


def test_steps_and_uses_have_streams_of_their_own():
    """No two draws of a run may share a key."""
    seen = []

    class Drawing(Gaussian):
        def forward(self, x, t, cond=None, carry=None, rng=None):
            seen.append(rng.key)
            return super().forward(x, t, cond, carry)

    class Spy(GaussianDiffusion):
        def reverse(self, x, prediction, t, s, rng=None, **options):
            if rng is not None:
                seen.append(rng.key)
            return super().reverse(x, prediction, t, s, rng, **options)

    for solver in SOLVERS.values():
        seen.clear()
        plan = SamplingPlan.uniform(6)
        list(sample(Drawing(Cosine()), Spy(), plan, torch.zeros(2), rng=Rng(0), solver=solver))
        assert len(seen) >= 6
        assert len(set(seen)) == len(seen)


# The loop


def test_nothing_is_computed_before_it_is_asked_for():
    exact = Binary(Cosine(), 0.3)
    x, d = torch.zeros(2, dtype=F64), GaussianDiffusion()
    steps = sample(exact, d, SamplingPlan.uniform(5), x, rng=Rng(0))
    assert exact.calls == 0
    first = next(steps)
    assert exact.calls == 1
    assert isinstance(first, Step)
    assert (first.index, float(first.t), float(first.s)) == (0, 1.0, 0.8)
    assert [step.index for step in steps] == [1, 2, 3, 4]


def test_the_result_is_the_last_prediction_that_moved_a_token():
    """Not the state, and not what is said of a finished token later."""

    class Drifting(nn.Module):
        calls = 0

        def forward(self, x, t, cond=None, carry=None, rng=None):
            Drifting.calls += 1
            return Prediction(torch.full_like(x, float(Drifting.calls))), {}

    plan = token_by_token(times(3), 2)
    x = torch.zeros(1, 2, 1, dtype=F64)
    for solver in (SOLVERS["ddim"], SOLVERS["2m"]):
        Drifting.calls = 0
        steps = run(Drifting(), Cosine(), plan, x, solver)
        assert [step.result[0, :, 0].tolist() for step in steps] == [
            [1, 0],
            [2, 0],
            [3, 0],
            [3, 4],
            [3, 5],
            [3, 6],
        ]


def test_gradients_are_off_inside_and_as_before_outside():
    layer = nn.Linear(2, 2)

    class Net(nn.Module):
        def forward(self, x, t, cond=None, carry=None, rng=None):
            return Prediction(layer(x)), {}

    for step in sample(
        Net(), GaussianDiffusion(), SamplingPlan.uniform(2), torch.zeros(1, 2), rng=Rng(0)
    ):
        assert torch.is_grad_enabled()
        assert not step.x.requires_grad


@solvers
def test_conditions_reach_every_call(solver):
    class Asks(Gaussian):
        def forward(self, x, t, cond=None, carry=None, rng=None):
            assert cond is given
            return super().forward(x, t, cond, carry, rng)

    given = {"label": torch.zeros(2)}
    plan, d = SamplingPlan.uniform(3), GaussianDiffusion()
    final(sample(Asks(Cosine()), d, plan, torch.zeros(2), cond=given, rng=Rng(0), solver=solver))


def test_heuns_second_call_gets_the_carry_of_its_first():
    class Chain(Gaussian):
        def forward(self, x, t, cond=None, carry=None, rng=None):
            count = carry["chain"] if carry else torch.zeros(2)
            received.append(int(count[0]))
            return super().forward(x, t)[0], {"chain": count + 1}

    for solver, calls in ((heun(), 9), (SOLVERS["ddim"], 5), (SOLVERS["2m"], 5)):
        received = []
        steps = run(Chain(Cosine()), Cosine(), SamplingPlan.uniform(5), torch.zeros(2), solver)
        assert received == list(range(calls))
        assert steps[-1].carry["chain"].tolist() == [calls] * 2


@solvers
def test_the_state_keeps_its_type_under_scalar_times_of_the_cpu(solver):
    x = Rng(0).normal((3, 2))
    # The cosine's last sigma / alpha is 12,732: too much for float32 and the rule in it.
    schedule = EDM() if solver is SOLVERS["heun-edm"] else Cosine()
    plain = run(Gaussian(schedule), schedule, SamplingPlan.uniform(6), x, solver)
    assert plain[-1].x.dtype == plain[-1].result.dtype == torch.float32
    assert plain[0].t.ndim == 0
    assert plain[0].t.device.type == "cpu"
    expanded = SamplingPlan.from_times(times(6)[:, None].expand(7, 3))
    per_row = run(Gaussian(schedule), schedule, expanded, x, solver)
    torch.testing.assert_close(plain[-1].x, per_row[-1].x, rtol=1e-4, atol=1e-4)


def test_the_leaning_oracle_uses_its_carry():
    exact = Mixture(Cosine())
    x = torch.linspace(-1, 1, 5, dtype=F64)
    leaning = Leaning(exact, 0.5)
    first, carry = leaning(x, at(0.9))
    second, _ = leaning(x, at(0.5), carry=carry)
    torch.testing.assert_close(second.mean, (first.mean + exact(x, at(0.5))[0].mean) / 2)


@pytest.mark.parametrize(
    ("arguments", "message"), [((1.1,), "1.1"), ((-0.1,), "-0.1"), ((1.0, "tiny"), "'tiny'")]
)
def test_impossible_solvers_raise(arguments, message):
    with pytest.raises(ValueError, match=message):
        ancestral(*arguments)


def test_a_plan_that_does_not_fit_the_state_names_both_shapes():
    plan = token_by_token(times(2), 4)
    with pytest.raises(ValueError, match=r"\(2, 5, 3\).*\(1, 4\)"):
        run(Gaussian(Cosine()), Cosine(), plan, torch.zeros(2, 5, 3), SOLVERS["ddim"])
