"""History guidance in rollouts of a chain of Gaussians, whose guided law is known exactly."""

import itertools
import math

import pytest
import torch
from oracles import F64
from test_rollout import LEVEL
from test_rollout_history import BLUR, VIEWS
from torch import nn

from noiseloom import (
    Cosine,
    GaussianDiffusion,
    HistoryGuided,
    Prediction,
    Rng,
    SamplingPlan,
    heun,
    rollout,
)

PHI = 0.8
SILENT = GaussianDiffusion(Cosine(ds=2e-4))  # whose time 1 has no signal left: alpha is 0


class Chain(nn.Module):
    """The exact denoiser of x_n = PHI x_{n-1} + noise of unit stationary variance, window 1.

    Its cache is what it was shown last and how much signal that was told to have: a, of
    E[x_{n-1} | a x_{n-1} + s eps] = a times that, all variances being 1.
    """

    def forward(self, x, t, cond=None, carry=None, rng=None):
        carry = dict(carry or {})
        past = carry.setdefault("cache", {}).get("tokens")
        alpha, sigma = (v.to(F64) for v in SILENT.schedule(t))
        mean, variance = torch.zeros_like(x), torch.ones((), dtype=F64)
        if past:
            a = past["signal"][:, -1:]
            mean, variance = PHI * a * past["seen"][:, -1:], 1 - (PHI * a) ** 2
        gain = variance * alpha / (variance * alpha * alpha + sigma * sigma)
        carry["new"] = {"tokens": {"seen": x, "signal": alpha.expand_as(x)}}
        return Prediction(mean + gain * (x - alpha * mean)), carry


def chain(terms, count, batch, steps, rng, n=0, solver=None):
    made = rollout(
        HistoryGuided(Chain(), SILENT, terms),
        SILENT,
        SamplingPlan.uniform(steps),
        Rng(8).normal((batch, n, 1), F64),
        memory=1,
        stabilisation=LEVEL,
        rng=rng,
        solver=solver,
    )
    return torch.cat([step.x for step in itertools.islice(made, count)], 1)[..., 0]


def signal(level):
    return float(SILENT.schedule(torch.tensor(level, dtype=F64))[0]) if level < 1 else 0.0


@pytest.mark.parametrize("name", VIEWS)
def test_check_13_8_in_rollouts_a_sample_is_an_exact_linear_map_of_its_draws(name):
    """DDIM's steps composed by hand, of the laws given the past under each view."""
    terms, branches = VIEWS[name]
    rng, steps = Rng(5).samples(3), 12
    x = chain(terms, 2, 3, steps, rng, n=1)
    first, second = (rng.each("token", torch.tensor([i])) for i in (1, 2))
    like = torch.empty(3, 1, 1, dtype=F64)
    level, blur = torch.tensor(LEVEL, dtype=F64), torch.tensor(BLUR, dtype=F64)
    noisy = SILENT.corrupt(x[:, :1, None], level, first.fold("stabilisation"))
    blurred = SILENT.renoise(noisy, level, blur, first.fold("write").fold("history"))
    got = SILENT.prior(like, second.fold("prior"))
    for t, s in SamplingPlan.uniform(steps).rows(like):
        (a, sd), (a_s, sd_s) = SILENT.schedule(t.to(F64)), SILENT.schedule(s.to(F64))
        guided = 0.0
        for shown, weight in branches:
            q = signal(max(shown, LEVEL))
            m = PHI * q * {BLUR: blurred, 1.0: 0 * noisy}.get(shown, noisy)
            v = 1 - (PHI * q) ** 2
            guided = guided + weight * (m + v * a / (v * a * a + sd * sd) * (got - a * m))
        got = a_s * guided + sd_s * (got - a * guided) / sd
    torch.testing.assert_close(x[:, 1:], got[..., 0], rtol=0, atol=1e-10)


def composed(branches, stabilisation=LEVEL):
    """Of x_n = G z + sum_i F_i y_i, noise z and the past y_i of view i: its pull, and its spread.

    In u = x / alpha and r = sigma^2 / alpha^2 the flow of composed scores is du / dr = 1 / 2 sum_i
    w_i (u - m_i) / (v_i + r): with h(r) = prod_i (v_i + r)^(w_i / 2), G = h(0), the geometric mean,
    and F_i = w_i PHI q_i h(0) / 2 int_0^inf dr / ((v_i + r) h(r)).
    """
    views = [(signal(max(shown, stabilisation)), w) for shown, w in branches]

    def h(r):
        return math.prod((1 - (PHI * q) ** 2 + r) ** (w / 2) for q, w in views)

    # r = e^u, by the trapezoidal rule: the integrand decays at both ends.
    r = torch.linspace(-40, 40, 40_001, dtype=F64).exp()
    clearest = sorted(((q, w) for q, w in views if q), reverse=True)
    areas = [torch.trapezoid(1 / ((1 - (PHI * q) ** 2 + r) * h(r)), r) for q, _ in clearest]
    pulls = [
        w * PHI * q * h(0) / 2 * float(area) for (q, w), area in zip(clearest, areas, strict=True)
    ]
    # Noise of the views: a blurred one's is the clearer one's, scaled, and more of its own, so that
    # y_i = q_i (x + e_1 + ... + e_i).
    spread, before = h(0) ** 2, 0.0
    for i, (q, _) in enumerate(clearest):
        noise = (1 - q * q) / (q * q)
        shared = sum(pull * p for (p, _), pull in zip(clearest[i:], pulls[i:], strict=True))
        spread, before = spread + (noise - before) * shared**2, noise
    return sum(pull * q for (q, _), pull in zip(clearest, pulls, strict=True)), spread


@pytest.mark.parametrize("name", VIEWS)
def test_check_13_8_in_rollouts_the_law_is_that_of_composed_flows(name):
    """An AR(1) process again, of another pull and another spread."""
    terms, branches = VIEWS[name]
    pull, spread = composed(branches)
    batch, variance = 20_000, 1.0
    x = chain(terms, 6, batch, 40, Rng(0), solver=heun())
    for now, then in itertools.pairwise(x.unbind(1)):
        after = pull**2 * variance + spread
        error = 5 * math.sqrt(2 / batch)  # of Heun's steps it is 0.002, at most
        assert abs(float(now.square().mean()) / variance - 1) < error
        assert abs(float((now * then).mean()) - pull * variance) < error * max(variance, after)
        variance = after
    if name == "unconditional":
        assert (pull, variance) == (0, 1)


def test_a_past_that_is_followed_more_than_it_follows_itself_may_be_followed_out_of_its_law():
    """The figures of docs/design.md: above 1 what is made grows without end."""
    assert f"{composed([(0.0, 1.0)], 0.02)[0]:.2f}" == "0.80"
    found = [composed([(1.0, 1 - w), (0.0, w)], 0.02)[0] for w in (1.25, 1.5, 2.0)]
    assert [f"{pull:.2f}" for pull in found] == ["0.93", "1.03", "1.19"]
    found = [composed([(1.0, 1 - w), (0.0, 1.0), (0.5, w - 1)], 0.02)[0] for w in (1.5, 2.0)]
    assert [f"{pull:.2f}" for pull in found] == ["0.91", "1.01"]
