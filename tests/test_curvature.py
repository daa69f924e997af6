"""The curvature meter on flows known exactly, on networks, and by a difference."""

import math

import pytest
import torch
from oracles import F64, Clusters, Gaussian
from torch import nn

from noiseloom.curvature import (
    FlowGeometry,
    JacobianSquares,
    curvature,
    flow_geometry,
    jacobian_squares,
)
from noiseloom.denoiser import Preconditioned
from noiseloom.diffusion import GaussianDiffusion, Prediction
from noiseloom.nets import DiT, UNet
from noiseloom.noise import EDM, SCHEDULES, Cosine, RectifiedFlow
from noiseloom.plan import SamplingPlan
from noiseloom.rng import Rng
from noiseloom.sampling import heun
from noiseloom.stochastic import restarts

schedules = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)


def at(value):
    return torch.tensor(value, dtype=F64)


class Ellipse(nn.Module):
    """x_0 ~ N(0, diag(v)): y_i = c_i sqrt(v_i + r^2), whose curvature is a formula."""

    def __init__(self, schedule, v):
        super().__init__()
        self.schedule, self.v = schedule, torch.as_tensor(v, dtype=F64)

    def forward(self, x, t, cond=None, carry=None, rng=None):
        alpha, sigma = self.schedule(t[:, None] if t.ndim else t)
        return Prediction(alpha * self.v / (alpha * alpha * self.v + sigma * sigma) * x), {}

    def curvature(self, y, r):
        """From y' = y r / (v + r^2) and y'' = y v / (v + r^2)^2."""
        first = y * r / (self.v + r * r)
        second = y * self.v / (self.v + r * r).square()
        cross = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]
        return cross.abs() / first.norm(dim=1) ** 3


@schedules
@pytest.mark.parametrize("r", [0.1, 1.0, 7.0])
def test_curvature_of_an_ellipse_in_any_schedule(schedule, r):
    exact, y = Ellipse(schedule, (0.1, 2.0)), Rng(0).normal((50, 2), F64)
    t = schedule.time(-2 * at(r).log())
    x, diffusion = schedule(t)[0] * y, GaussianDiffusion(schedule)
    truth = exact.curvature(y, r)
    torch.testing.assert_close(curvature(exact, diffusion, x, t), truth, rtol=1e-5, atol=1e-9)
    difference = curvature(exact, diffusion, x, t, step=1e-4)
    torch.testing.assert_close(difference, truth, rtol=3e-3, atol=1e-6)
    each = curvature(exact, diffusion, x, t.expand(50))
    torch.testing.assert_close(each, truth, rtol=1e-5, atol=1e-9)


def test_a_round_law_is_straight_whatever_its_centre():
    schedule = Cosine()
    x, t = Rng(0).normal((20, 3, 4), F64), at(0.4)
    exact, diffusion = Gaussian(schedule, 0.3, 1.7), GaussianDiffusion(schedule)
    assert curvature(exact, diffusion, x, t).max() < 1e-10
    plan = SamplingPlan.from_times(torch.linspace(0.9, 0, 9, dtype=F64))
    told = flow_geometry(exact, diffusion, plan, x, Rng(0), solver=heun(math.inf))
    torch.testing.assert_close(told.straightness, torch.ones(20, dtype=F64))
    assert told.median.max() < 1e-10


@pytest.mark.parametrize("schedule", [EDM(), Cosine(), RectifiedFlow()], ids=str)
def test_jacobians_of_an_ellipse(schedule):
    v, r = at([0.1, 2.0]), 0.6
    exact, t = Ellipse(schedule, v), schedule.time(-2 * at(r).log())
    gain = v / (v + r * r)
    x, diffusion = Rng(0).normal((4, 2), F64), GaussianDiffusion(schedule)
    got = jacobian_squares(exact, diffusion, x, t, Rng(0), probes=None)
    torch.testing.assert_close(got.denoiser, gain.square().sum().expand(4))
    torch.testing.assert_close(got.drift, ((1 - gain) / r).square().sum().expand(4))
    # The rows of a diagonal are hit by every probe: no variance. Turned, there is.
    one = jacobian_squares(exact, diffusion, x, t, Rng(0))
    torch.testing.assert_close(one.denoiser, got.denoiser)


def test_probes_are_unbiased_and_belong_to_samples():
    schedule = EDM()
    ring, diffusion, t = Clusters(schedule), GaussianDiffusion(schedule), schedule.time(at(0.0))
    x = at([[2.2, 1.3]]).expand(4000, 2)
    exact = jacobian_squares(ring, diffusion, x, t, Rng(0), probes=None)
    rng = Rng(1).samples(4000)
    got = jacobian_squares(ring, diffusion, x, t, rng, probes=2)
    single = jacobian_squares(ring, diffusion, x, t, rng)
    for name in ("denoiser", "drift"):
        # Two probes of their own halve the variance.
        ratio = float(getattr(got, name).var() / getattr(single, name).var())
        assert ratio == pytest.approx(0.5, abs=0.1)
        drawn, truth = getattr(got, name), float(getattr(exact, name)[0])
        assert drawn.std() > 0.05
        assert abs(float(drawn.mean()) - truth) < 5 * float(drawn.std()) / math.sqrt(4000)
    part = jacobian_squares(ring, diffusion, x[17:20], t, rng.rows(torch.arange(17, 20)), probes=2)
    torch.testing.assert_close(part.denoiser, got.denoiser[17:20])


def test_straightness_and_curvature_along_paths_of_the_ring():
    schedule = EDM()
    ring, diffusion = Clusters(schedule), GaussianDiffusion(schedule)
    plan = SamplingPlan.karras(30, schedule, sigma_min=0.02)
    x, k = 80 * Rng(0).normal((200, 2), F64), torch.arange(200) % 8
    blind = flow_geometry(ring, diffusion, plan, x, Rng(1), probes=None)
    known = flow_geometry(
        ring, diffusion, plan, x, Rng(1), cond={"codes": ring.codes(k)}, probes=None
    )
    torch.testing.assert_close(blind.ratio, schedule(plan.t)[1])
    assert blind.curvature.shape == blind.jacobian.drift.shape == (30, 200)
    bent = (blind.ratio > 0.5) & (blind.ratio < 1.2)
    assert (blind.median[bent] > 0.05).all()
    assert known.median.max() < 1e-8
    assert (blind.straightness <= 1 + 1e-12).all()
    assert float(blind.straightness.median()) < 1 - 1e-6
    # Heun in the angle leaves the line by its own error, which the path's length shows.
    assert float(known.straightness.median()) > 1 - 1e-3


def test_rows_that_are_asked_for_have_what_they_have_among_all_and_cost_by_themselves():
    schedule = EDM()
    ring, diffusion = Clusters(schedule), GaussianDiffusion(schedule)
    plan, x = SamplingPlan.karras(10, schedule), 80 * Rng(0).normal((20, 2), F64)
    told, calls = [], []
    for at_ in (None, (7, 2, -1), ()):
        before = ring.calls
        told.append(flow_geometry(ring, diffusion, plan, x, Rng(1), at=at_))
        calls.append(ring.calls - before)
    whole, some, none = told
    for found, rows in ((some, [7, 2, 9]), (none, [])):
        assert torch.equal(found.straightness, whole.straightness)
        assert torch.equal(found.ratio, whole.ratio[rows])
        assert torch.equal(found.curvature, whole.curvature[rows])
        assert torch.equal(found.jacobian.denoiser, whole.jacobian.denoiser[rows])
        assert torch.equal(found.jacobian.drift, whole.jacobian.drift[rows])
    assert calls[2] == 19  # Heun's
    assert (calls[1] - 19) * 10 == (calls[0] - 19) * 3
    with pytest.raises(IndexError):
        flow_geometry(ring, diffusion, plan, x, Rng(1), at=(10,))


def test_the_median_is_a_paths_and_not_an_outliers():
    kappa = at([[5.0, 1e6, 1.0, 2.0, 3.0], [0.0, 0.0, 0.0, 0.0, 1e6]])  # means above 200,000
    none = torch.zeros(2, 5, dtype=F64)
    told = FlowGeometry(at([1.0, 0.5]), kappa, JacobianSquares(none, none), none[0])
    assert told.median.tolist() == [3.0, 0.0]


@pytest.mark.parametrize("kind", ["unet", "dit"])
def test_networks_have_curvatures_too(kind):
    """Forward derivatives pass through attention and every layer, and agree with differences."""
    with Rng(0).torch():
        if kind == "unet":
            network = UNet(
                2, 2, width=8, multipliers=(1, 2), blocks=1, attention=(False, True), head_width=8
            )
        else:
            network = DiT(2, 2, size=(4, 4), width=16, depth=2, heads=2)
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.15)
    schedule = Cosine()
    denoiser = Preconditioned(network.double().eval(), schedule, target="v")
    x, t = Rng(1).normal((3, 2, 4, 4), F64), at([0.3, 0.5, 0.7])
    diffusion = GaussianDiffusion(schedule)
    exact = curvature(denoiser, diffusion, x, t)
    assert (exact > 1e-3).all()
    difference = curvature(denoiser, diffusion, x, t, step=1e-3)
    torch.testing.assert_close(difference, exact, rtol=0.02, atol=1e-4)
    squares = jacobian_squares(denoiser, diffusion, x, t, Rng(0), probes=None)
    assert squares.denoiser.isfinite().all()


def test_neither_gradients_nor_states_are_left_behind():
    schedule = Cosine()
    layer = nn.Linear(2, 2).double()

    class Net(nn.Module):
        def forward(self, x, t, cond=None, carry=None, rng=None):
            return Prediction(layer(x).tanh()), {}

    x, diffusion = Rng(0).normal((3, 2), F64), GaussianDiffusion(schedule)
    assert not curvature(Net(), diffusion, x, at(0.5)).requires_grad
    got = jacobian_squares(Net(), diffusion, x, at(0.5), Rng(0))
    assert not got.denoiser.requires_grad
    assert not got.drift.requires_grad
    assert layer.weight.grad is None
    assert x.grad is None


@pytest.mark.parametrize(
    ("t", "message"),
    [
        (at(1.0), "start below time 1"),
        (at(0.0), "end above 0"),
        (torch.full((2, 3), 0.5, dtype=F64), "one time, or one per sample"),
        (torch.full((3,), 0.5, dtype=F64), "one time, or one per sample"),
    ],
)
def test_times_without_a_picture_raise(t, message):
    diffusion, x = GaussianDiffusion(RectifiedFlow()), torch.zeros(2, 3, dtype=F64)
    for measure in (
        lambda: curvature(Gaussian(RectifiedFlow()), diffusion, x, t),
        lambda: jacobian_squares(Gaussian(RectifiedFlow()), diffusion, x, t, Rng(0)),
    ):
        with pytest.raises(ValueError, match=message):
            measure()


def test_plans_and_steps_that_cannot_be_measured_raise():
    exact, x = Gaussian(RectifiedFlow()), torch.zeros(2, 3, dtype=F64)
    diffusion = GaussianDiffusion(RectifiedFlow())
    inside = SamplingPlan.from_times(torch.linspace(0.9, 0.1, 5))
    with pytest.raises(ValueError, match="start below time 1"):
        flow_geometry(exact, diffusion, SamplingPlan.uniform(3), x, Rng(0))
    with pytest.raises(ValueError, match="one time for all"):
        flow_geometry(exact, diffusion, SamplingPlan.full_sequence(3, 3), x, Rng(0))
    for plan in (inside.overshoot(1), restarts(inside, 0.5, 0.7, 1)):
        with pytest.raises(ValueError, match="rows that touch"):
            flow_geometry(exact, diffusion, plan, x, Rng(0))
    with pytest.raises(ValueError, match=r"in \(0, 1\), got 2"):
        curvature(exact, diffusion, x, at(0.5), step=2.0)
    for probes in (0, -1):
        with pytest.raises(ValueError, match=f"probes must be at least 1, got {probes}"):
            jacobian_squares(exact, diffusion, x, at(0.5), Rng(0), probes=probes)
