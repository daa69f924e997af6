"""The Langevin corrector: its stationary law, what it mends, and what it leaves alone."""

import math

import pytest
import torch
from oracles import F64, Correlated, Gaussian, Mixture
from torch import nn

from noiseloom.diffusion import (
    CategoricalDiffusion,
    GaussianDiffusion,
    Prediction,
    ProductDiffusion,
    Symmetric,
    ZeroCentre,
    score_of,
)
from noiseloom.langevin import corrected, langevin_step
from noiseloom.noise import EDM, Cosine, LinearGamma
from noiseloom.plan import SamplingPlan
from noiseloom.rng import Rng
from noiseloom.sampling import ancestral, final, heun, sample


def at(value):
    return torch.tensor(value, dtype=F64)


@pytest.mark.parametrize("schedule", [Cosine(), EDM(3.0, 1.0)])
def test_the_score_of_an_estimate_is_the_slope_of_the_density(schedule):
    law, x = Mixture(schedule), 2 * Rng(0).normal((200,), F64)
    for t in (0.1, 0.5, 1.0):
        leaf = x.clone().requires_grad_()
        law.log_density(leaf, at(t)).sum().backward()
        got = score_of(GaussianDiffusion(schedule), law(x, at(t))[0], x, at(t))
        torch.testing.assert_close(got, leaf.grad)
    none = score_of(GaussianDiffusion(EDM()), Prediction(x), x, at(0.0))  # without noise
    assert not none.any()
    with pytest.raises(TypeError, match="CategoricalDiffusion has no score"):
        score_of(CategoricalDiffusion(3), Prediction(x), x, at(0.5))


def still(denoiser, diffusion, x, t, s, cond, carry, memory, rng):
    """A solver that makes no move."""
    return x, None, carry, memory


@pytest.mark.parametrize("schedule", [Cosine(), EDM(3.0, 1.0)])
@pytest.mark.parametrize(("snr", "noise"), [(0.2, 0.8), (0.2, 1.0), (0.1, 1.0)])
def test_the_stationary_variance_of_a_gaussian(schedule, snr, noise):
    """v (noise^2 + snr^2), v that of x_t: the step's length follows the state's own norms."""
    exact, d, t = Gaussian(schedule, 0.6), GaussianDiffusion(schedule), at(0.4)
    alpha, sigma = schedule(t)
    v = float(alpha * alpha * 0.6 + sigma * sigma)
    x = math.sqrt(v) * Rng(0).normal((8, 5000), F64)
    solver = corrected(still, snr, noise, steps=int(4 / snr**2))
    end = solver(exact, d, x, t, at(0.3), None, {}, None, Rng(1))[0]
    right = v * (noise * noise + snr * snr)
    error = float(end.square().mean()) / right - 1
    assert abs(error) < 5 * math.sqrt(2 / end.numel()) + 1e-3  # and the rest of the start


def test_small_steps_keep_the_law():
    C = 0.8 ** (torch.arange(3, dtype=F64)[:, None] - torch.arange(3)).abs()
    schedule, t = LinearGamma(clip=0.0), at(0.3)
    alpha, sigma = schedule(t)
    right = alpha * alpha * C + sigma * sigma * torch.eye(3, dtype=F64)
    x = torch.linalg.cholesky(right) @ Rng(0).normal((4, 3, 4000), F64)
    solver = corrected(still, 0.05, 1.0, steps=300)
    end = solver(
        Correlated(schedule, C), GaussianDiffusion(schedule), x, t, at(0.2), None, {}, None, Rng(1)
    )[0]
    got = torch.einsum("bic,bjc->ij", end, end) / (4 * 4000)
    assert float((got - right).abs().max()) < 5 * math.sqrt(2 / 16000) + 0.05**2 * 2
    assert not torch.allclose(end, x, atol=0.5)  # it has moved


def test_it_mends_what_a_coarse_predictor_gets_wrong():
    """The variance of coarse DDIM, from a start of twice the variance: exact is 0.5."""
    schedule = Cosine()
    plan = SamplingPlan.from_times(at([1.0, 0.8, 0.6, 0.4, 0.2, 0.05, 0.0]))
    x = 1.4 * Rng(0).normal((8, 4000), F64)  # variance 2 at time 1, where it is 1

    def error(solver):
        exact, d = Gaussian(schedule, 0.5), GaussianDiffusion(schedule)
        end = final(sample(exact, d, plan, x, rng=Rng(1), solver=solver)).x
        return abs(float(end.square().mean()) - 0.5)

    plain = error(ancestral())
    assert plain > 0.1
    assert error(corrected(ancestral(), 0.2, 1.0, steps=10)) < plain / 5


class Joint(nn.Module):
    """Each part's estimate is made of both; keeps what it is given."""

    def __init__(self):
        super().__init__()
        self.given = []

    def forward(self, x, t, cond=None, carry=None, rng=None):
        self.given.append(dict(x))
        one, two = (x[n].square().flatten(1).mean(1) / 2 for n in ("b", "a"))
        means = {"a": x["a"] * one[:, None, None], "b": x["b"] * two[:, None, None, None]}
        return {n: Prediction(mean) for n, mean in means.items()}, {}


def test_all_parts_are_moved_from_the_same_state_by_one_call():
    parts = {
        "a": GaussianDiffusion(Cosine(), ZeroCentre()),
        "b": GaussianDiffusion(EDM(2.0, 1.0), Symmetric()),
    }
    product, joint = ProductDiffusion(parts), Joint()
    x = {"a": Rng(0).normal((3, 4, 2), F64), "b": Rng(1).normal((3, 4, 4, 1), F64)}
    x = {n: parts[n].subspace.noise(v) for n, v in x.items()}
    t, s = dict.fromkeys(x, at(0.6)), dict.fromkeys(x, at(0.5))
    solver = corrected(ancestral(), steps=2)
    end = solver(joint, product, x, t, s, None, {}, None, Rng(2))[0]
    assert len(joint.given) == 3
    for i in range(2):
        before, after = joint.given[i], joint.given[i + 1]
        said = Joint()(before, t)[0]
        for name, own in parts.items():
            key = Rng(2).fold("corrector", i).fold("noise").fold(name)
            args = (own, before[name], said[name], t[name], s[name], key)
            torch.testing.assert_close(after[name], langevin_step(*args, 0.2, 0.8))
            torch.testing.assert_close(own.subspace.noise(after[name]), after[name])
    right = ancestral()(Joint(), product, joint.given[-1], t, s, None, {}, None, Rng(2))[0]
    assert all(torch.equal(end[n], right[n]) for n in x)


def test_the_step_is_that_of_the_ratio_of_norms():
    d, x, t = GaussianDiffusion(Cosine()), Rng(0).normal((5, 7), F64), at(0.4)
    said = Gaussian(Cosine(), 0.6)(x, t)[0]
    alpha, sigma = Cosine()(t)
    score, z = (alpha * said.mean - x) / sigma**2, Rng(3).normal((5, 7), F64)
    step = 2 * (0.3 * z.norm(dim=1) / score.norm(dim=1)).square()[:, None]
    right = x + step * score + 0.7 * (2 * step).sqrt() * z
    torch.testing.assert_close(langevin_step(d, x, said, t, at(0.3), Rng(3), 0.3, 0.7), right)
    # The score's part of a step is snr times as long as the noise's.
    torch.testing.assert_close(
        (step * score).norm(dim=1), 0.3 * ((2 * step).sqrt() * z).norm(dim=1)
    )


def test_tokens_that_stay_are_untouched_and_do_not_count():
    d, x = GaussianDiffusion(LinearGamma(clip=0.0)), Rng(0).normal((2, 4, 3), F64)
    t, s = at([[0.5, 0.5, 0.0, 0.7]]), at([[0.4, 0.5, 0.0, 0.6]])
    solver, exact = corrected(still), Gaussian(LinearGamma(clip=0.0), 0.5)
    end = solver(exact, d, x, t, s, None, {}, None, Rng(1))[0]
    stays = (t == s)[0]
    assert torch.equal(end[:, stays], x[:, stays])
    assert (end != x)[:, ~stays].all()
    elsewhere = x.clone()
    elsewhere[:, stays] *= 100
    again = solver(exact, d, elsewhere, t, s, None, {}, None, Rng(1))[0]
    assert torch.equal(again[:, ~stays], end[:, ~stays])


def test_without_steps_it_is_the_solver_and_samples_are_their_own():
    schedule, plan, x = Cosine(), SamplingPlan.uniform(4), Rng(0).normal((7, 3), F64)
    d, exact = GaussianDiffusion(schedule), Gaussian(schedule, 0.5)

    def run(solver, start=0, count=7):
        rng = Rng(1).samples(count, start)
        return final(sample(exact, d, plan, x[start : start + count], rng=rng, solver=solver)).x

    assert torch.equal(run(corrected(heun(), steps=0)), run(heun()))
    solver = corrected(heun())
    whole = run(solver)
    torch.testing.assert_close(torch.cat((run(solver, 0, 3), run(solver, 3, 4))), whole)
    assert exact.calls > 0


@pytest.mark.parametrize("options", [{"snr": 0.0}, {"noise": -1.0}, {"steps": -1}])
def test_numbers_out_of_range_raise(options):
    with pytest.raises(ValueError, match="a corrector needs snr > 0"):
        corrected(ancestral(), **options)


def test_classes_are_not_moved():
    x = torch.tensor([[3, 3]])
    prediction = Prediction(torch.full((1, 2, 3), 1 / 3))
    with pytest.raises(TypeError, match="not states of CategoricalDiffusion"):
        langevin_step(CategoricalDiffusion(3), x, prediction, at(0.5), at(0.4), Rng(0), 0.2, 0.8)
