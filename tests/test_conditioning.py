"""Self-conditioning as wrappers: check 15 of the paper's file (its first pass: test_objective)."""

import pytest
import torch
from oracles import F64, Binary
from torch import nn

from noiseloom.conditioning import SelfConditioned, SelfGuided, inside
from noiseloom.denoiser import Preconditioned
from noiseloom.diffusion import GaussianDiffusion, Prediction
from noiseloom.guidance import ClassifierFree
from noiseloom.noise import Cosine
from noiseloom.plan import SamplingPlan
from noiseloom.rng import Rng
from noiseloom.sampling import ancestral, dpm_solver_pp_2m, final, heun, sample

DIFFUSION, PLAN = GaussianDiffusion(), SamplingPlan.uniform(6)
SOLVERS = {"ddim": ancestral(), "ddpm": ancestral(1.0), "heun": heun(), "2m": dpm_solver_pp_2m()}


class Affine(nn.Module):
    """mean = tanh(x) / 2 + estimate / 3 + label; remembers all it was given."""

    def __init__(self):
        super().__init__()
        self.given = []

    def forward(self, x, t, cond=None, carry=None, rng=None):
        cond = cond or {}
        self.given.append(cond)
        mean = x.tanh() / 2
        if "estimate" in cond:
            mean = mean + cond["estimate"] / 3
        if "label" in cond:
            mean = mean + cond["label"]
        return Prediction(mean, hidden=mean.sum(-1)), dict(carry or {})


def start(*shape):
    return Rng(0).fold("x").normal(shape or (5, 4), F64)


def run(denoiser, solver=None, plan=PLAN, cond=None, x=None):
    x = start() if x is None else x
    return list(sample(denoiser, DIFFUSION, plan, x, cond=cond, rng=Rng(1), solver=solver))


def test_check_15_the_estimate_is_the_previous_mean_and_zero_at_first():
    inner = Affine()
    steps = run(SelfConditioned(inner))
    estimates = [g["estimate"] for g in inner.given]
    assert len(estimates) == len(PLAN)
    assert not estimates[0].any()
    for previous, estimate in zip(steps, estimates[1:], strict=False):
        assert torch.equal(estimate, previous.prediction.mean)


def test_check_15_momentum():
    plain = run(SelfConditioned(Affine()))
    for a, b in zip(plain, run(SelfConditioned(Affine(), momentum=0.0)), strict=True):
        assert torch.equal(a.x, b.x)
    inner, m = Affine(), 0.7
    steps = run(SelfConditioned(inner, momentum=m))
    estimate = torch.zeros(5, 4, dtype=F64)
    for step, given in zip(steps, inner.given, strict=True):
        torch.testing.assert_close(given["estimate"], estimate)
        estimate = m * estimate + (1 - m) * step.prediction.mean
    assert not torch.allclose(steps[-1].x, plain[-1].x)


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
def test_check_15_a_denoiser_that_ignores_it_samples_the_same_bits(solver):
    exact = Binary(DIFFUSION.schedule, 0.3)
    for wrapped in (SelfConditioned(exact), SelfConditioned(exact, momentum=0.5)):
        for a, b in zip(run(exact, solver), run(wrapped, solver), strict=True):
            assert torch.equal(a.x, b.x)
            assert torch.equal(a.result, b.result)


def test_the_limit_clips_the_estimate_not_the_mean():
    inner = Affine()
    steps = run(SelfConditioned(inner, limit=0.1))
    assert steps[0].prediction.mean.abs().max() > 0.1
    for previous, given in zip(steps, inner.given[1:], strict=False):
        assert torch.equal(given["estimate"], previous.prediction.mean.clamp(-0.1, 0.1))


def test_hidden_states_travel_instead():
    inner = Affine()
    steps = run(SelfConditioned(inner, kind="hidden"))
    assert "hidden" not in inner.given[0]
    assert all("estimate" not in given for given in inner.given)
    for previous, given in zip(steps, inner.given[1:], strict=False):
        assert torch.equal(given["hidden"], previous.prediction.hidden)

    class Silent(nn.Module):
        def forward(self, x, log_snr, cond=None):
            return x

    with pytest.raises(ValueError, match="no hidden state to hand on"):
        run(SelfConditioned(Preconditioned(Silent(), Cosine()), kind="hidden"))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"kind": "mean"}, "'mean'"), ({"momentum": 1.0}, "1.0"), ({"momentum": -0.1}, "-0.1")],
)
def test_impossible_options_raise(options, message):
    with pytest.raises(ValueError, match=message):
        SelfConditioned(Affine(), **options)


def test_conditions_and_the_carry_of_others_come_through_unchanged():
    class Owner(Affine):
        def forward(self, x, t, cond=None, carry=None, rng=None):
            prediction, _ = super().forward(x, t, cond, carry, rng)
            assert set(carry) <= {"mine"}
            count = carry["mine"]["n"] if carry else torch.zeros(5)
            return prediction, {"mine": {"n": count + 1}}

    cond = {"label": torch.ones(5, 1, dtype=F64)}
    inner = Owner()
    steps = run(SelfConditioned(inner), cond=cond)
    assert set(cond) == {"label"}
    assert all(torch.equal(given["label"], cond["label"]) for given in inner.given)
    assert set(steps[-1].carry) == {"mine", "self_conditioning"}
    assert torch.equal(steps[-1].carry["mine"]["n"], torch.full((5,), float(len(PLAN))))


def test_a_carry_continues_where_it_was_left():
    model = SelfConditioned(Affine())
    whole = run(model)
    first = SamplingPlan(PLAN.t[:3], PLAN.s[:3])
    rest = SamplingPlan(PLAN.t[3:], PLAN.s[3:])
    half = final(sample(model, DIFFUSION, first, start(), rng=Rng(1)))
    end = final(sample(model, DIFFUSION, rest, half.x, carry=half.carry, rng=Rng(1)))
    assert torch.equal(end.x, whole[-1].x)
    cut = final(sample(model, DIFFUSION, rest, half.x, rng=Rng(1)))
    assert not torch.allclose(cut.x, whole[-1].x)


# Self-guidance


def test_check_15_self_guidance_at_weight_1_is_the_second_call():
    x, t, f = start(), torch.tensor(0.5), Affine()
    null = f(x, t, {"estimate": torch.zeros_like(x)})[0].mean
    expected = f(x, t, {"estimate": null})[0].mean
    assert torch.equal(SelfGuided(f, 1.0)(x, t)[0].mean, expected)
    torch.testing.assert_close(SelfGuided(f, 0.0)(x, t)[0].mean, null)
    for scale in (0.3, 3.0, 5.0):
        got = SelfGuided(f, scale)(x, t)[0].mean
        torch.testing.assert_close(got, null + scale * (expected - null))
    clipped = f(x, t, {"estimate": null.clamp(-0.2, 0.2)})[0].mean
    assert torch.equal(SelfGuided(f, 1.0, limit=0.2)(x, t)[0].mean, clipped)


def test_check_16_self_guidance_makes_two_calls_a_step_and_keeps_no_estimate():
    inner = Affine()
    steps = run(SelfGuided(inner, 3.0), cond={"label": torch.ones(5, 1, dtype=F64)})
    assert len(inner.given) == 2 * len(PLAN)
    assert all(not given["estimate"].any() for given in inner.given[::2])
    assert all(given["label"].all() for given in inner.given)
    assert steps[-1].carry == {"self_guided": {"first": {}, "second": {}}}


# Order of the wrappers

LABEL = {"label": torch.tensor(0.3, dtype=F64)}


def ddim(x, mean, t, s):
    (alpha, sigma), (alpha_s, sigma_s) = DIFFUSION.schedule(t), DIFFUSION.schedule(s)
    return alpha_s * mean + sigma_s * (x - alpha * mean) / sigma


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.5])
def test_one_estimate_from_the_guided_output_for_both_branches(scale):
    """Bit Diffusion's order, by hand: out = f(null) + scale (f(label) - f(null)), both given x~."""
    inner = Affine()
    steps = run(SelfConditioned(ClassifierFree(inner, scale)), cond=LABEL)
    calls = 1 if scale in (0, 1) else 2
    assert len(inner.given) == calls * len(PLAN)
    if calls == 2:
        for without, with_ in zip(inner.given[::2], inner.given[1::2], strict=True):
            assert without["estimate"] is with_["estimate"]
            assert "label" not in without
            assert "label" in with_
    x, estimate = start(), torch.zeros(5, 4, dtype=F64)
    for t, s, step in zip(PLAN.t, PLAN.s, steps, strict=True):
        estimate = x.tanh() / 2 + estimate / 3 + scale * 0.3
        x = ddim(x, estimate, t, s)
        torch.testing.assert_close(step.x, x)


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.5])
def test_the_other_order_keeps_an_estimate_per_branch(scale):
    inner = Affine()
    steps = run(ClassifierFree(SelfConditioned(inner), scale), cond=LABEL)
    assert len(inner.given) == (1 if scale in (0, 1) else 2) * len(PLAN)
    x, null, full = start(), torch.zeros(5, 4, dtype=F64), torch.zeros(5, 4, dtype=F64)
    for t, s, step in zip(PLAN.t, PLAN.s, steps, strict=True):
        null = x.tanh() / 2 + null / 3
        full = x.tanh() / 2 + full / 3 + 0.3
        x = ddim(x, null + scale * (full - null), t, s)
        torch.testing.assert_close(step.x, x)


def test_so_the_order_matters():
    a = run(SelfConditioned(ClassifierFree(Affine(), 2.5)), cond=LABEL, solver=heun())[-1].x
    b = run(ClassifierFree(SelfConditioned(Affine()), 2.5), cond=LABEL, solver=heun())[-1].x
    c = run(ClassifierFree(SelfConditioned(Affine()), 1.0), cond=LABEL, solver=heun())[-1].x
    d = run(SelfConditioned(ClassifierFree(Affine(), 1.0)), cond=LABEL, solver=heun())[-1].x
    # Here both guide the same linear map, but the nonlinear state tells them apart.
    torch.testing.assert_close(c, d)
    assert torch.equal(c, d)
    limit = {"limit": 0.2}
    e = run(SelfConditioned(ClassifierFree(Affine(), 2.5), **limit), cond=LABEL)[-1].x
    f = run(ClassifierFree(SelfConditioned(Affine(), **limit), 2.5), cond=LABEL)[-1].x
    assert (e - f).abs().max() > 0.01
    torch.testing.assert_close(a, b)  # without the limit, guidance of a linear map commutes


def test_guidance_goes_inside_of_the_estimate_and_around_the_hidden_state():
    inner, guide = Affine(), lambda core: ClassifierFree(core, 2.0)
    one = inside(SelfConditioned(inner, momentum=0.3, limit=2.0), guide)
    assert isinstance(one, SelfConditioned)
    assert (one.momentum, one.limit) == (0.3, 2.0)
    assert isinstance(one.denoiser, ClassifierFree)
    assert one.denoiser.denoiser is inner
    hidden = SelfConditioned(inner, kind="hidden")
    for trained in (inner, hidden):
        led = inside(trained, guide)
        assert isinstance(led, ClassifierFree)
        assert led.denoiser is trained
