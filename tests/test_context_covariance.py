"""The kernel of the context, by hand, by both factorisations, and as the prior of a process.

Names say which of the checks of section 10 of the notes on Context-Guided Diffusion a test is.
"""

import math

import pytest
import torch
from oracles import F64

from noiseloom.context import COVARIANCES, Kernel, context_energy, noise_covariance
from noiseloom.diffusion import CategoricalDiffusion, GaussianDiffusion, ProductDiffusion
from noiseloom.noise import EDM, SCHEDULES, Cosine, LinearGamma
from noiseloom.recipes import GuideTraining
from noiseloom.rng import Rng

H = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], dtype=F64)
MEAN = torch.tensor([[0.5], [-1.0], [2.0]], dtype=F64)
VARIANCE = torch.tensor([[1.0], [1.5], [0.5]], dtype=F64)
methods = pytest.mark.parametrize("method", ["cholesky", "woodbury", "auto"])


def hand(method="auto", sigma=2.0, tau=0.5):
    full = torch.ones(3, dtype=F64)
    return Kernel(H, sigma * full, tau * full, method)


def drawn(M=40, F=7, method="auto", seed=0):
    rng = Rng(seed)
    h, sigma = rng.fold("h").normal((M, F), F64), rng.fold("s").uniform((M,), F64)
    return Kernel(h, sigma, 0.05 + rng.fold("t").uniform((M,), F64), method)


def dense(kernel):
    return kernel.root @ kernel.root.T + kernel.tau.diag()


@methods
def test_check_1_the_hand_kernel(method):
    kernel = hand(method)
    right = torch.tensor([[2.5, 0, 2], [0, 2.5, 2], [2, 2, 4.5]], dtype=F64)
    torch.testing.assert_close(dense(kernel), right)
    assert float(kernel.log_det()) == pytest.approx(math.log(8.125), abs=1e-12)
    basis = torch.eye(3, dtype=F64)
    inverse = torch.tensor([0.8923, 0.8923, 0.7692], dtype=F64)
    torch.testing.assert_close(kernel.distance(basis), inverse, rtol=0, atol=5e-5)
    assert float(kernel.distance(MEAN)[0]) == pytest.approx(64.1 / 13, abs=1e-12)
    assert float(kernel.distance(VARIANCE - 1)[0]) == pytest.approx(9.4 / 13, abs=1e-12)
    assert float(kernel.energy(MEAN)[0]) == pytest.approx(6.269673, abs=5e-7)
    assert float(kernel.energy(VARIANCE[:, 0] - 1)) == pytest.approx(4.165827, abs=5e-7)
    energy = context_energy(MEAN, VARIANCE, kernel, variance_target=1.0)
    assert float(energy) == pytest.approx(10.4355, abs=5e-7)


@methods
def test_check_2_at_the_prior_there_is_no_slope_and_the_rest_is_half_the_distance(method):
    kernel = hand(method)
    ends = [torch.zeros_like(MEAN), torch.full_like(MEAN, 1.5)]
    mean, variance = (v.requires_grad_() for v in ends)
    least = context_energy(mean, variance, kernel, variance_target=1.5)
    least.backward()
    assert not mean.grad.any()
    assert not variance.grad.any()
    constant = kernel.log_det() + 3 * math.log(2 * math.pi)
    torch.testing.assert_close(least.detach(), constant)
    elsewhere = context_energy(MEAN, VARIANCE, kernel, variance_target=1.5)
    both = kernel.distance(MEAN) + kernel.distance(VARIANCE - 1.5)
    torch.testing.assert_close(elsewhere - least, both[0] / 2)


@methods
def test_check_3_scales_and_orders(method):
    residual = Rng(1).normal((3,), F64)
    alone = hand(method, sigma=0.0, tau=0.3).distance(residual)
    torch.testing.assert_close(alone, residual.square().sum() / 0.3)
    whole = hand(method).distance(residual)
    torch.testing.assert_close(hand(method, 2 * 7.0, 0.5 * 7.0).distance(residual), whole / 7)
    kernel, order = drawn(method=method), Rng(2).permutation(40)
    r = Rng(3).normal((40, 2), F64)
    full = Kernel(kernel.root[order], torch.ones(40, dtype=F64), kernel.tau[order], method)
    torch.testing.assert_close(full.energy(r[order]), kernel.energy(r), rtol=1e-10, atol=0)


@pytest.mark.parametrize(("M", "F"), [(5, 40), (40, 5), (20, 20), (256, 16)])
@pytest.mark.parametrize("ratio", [1e-3, 1.0, 1e6])
def test_check_3_both_factorisations_agree(M, F, ratio):
    rng = Rng(4)
    h, tau = rng.fold("h").normal((M, F), F64), ratio * (0.1 + rng.fold("t").uniform((M,), F64))
    one, two = (Kernel(h, torch.ones(M, dtype=F64), tau, m) for m in ("cholesky", "woodbury"))
    r = rng.fold("r").normal((M, 3), F64)
    torch.testing.assert_close(one.distance(r), two.distance(r), rtol=1e-8, atol=0)
    torch.testing.assert_close(one.log_det(), two.log_det(), rtol=1e-8, atol=1e-8)
    slopes = []
    for kernel in (one, two):
        leaf = r.clone().requires_grad_()
        kernel.distance(leaf).sum().backward()
        slopes.append(leaf.grad)
    assert (slopes[0] - slopes[1]).norm() < 1e-8 * slopes[0].norm()
    assert Kernel(h, torch.ones(M, dtype=F64), tau).woodbury == (F < M)


def test_half_precision_features_are_factored_in_float64():
    h = Rng(0).normal((30, 4)).to(torch.bfloat16)
    kernel = Kernel(h, torch.ones(30), torch.full((30,), 0.1))
    exact = Kernel(h.double(), torch.ones(30, dtype=F64), torch.full((30,), 0.1).double())
    assert kernel.factor.dtype == F64
    torch.testing.assert_close(kernel.energy(h[:, 0]), exact.energy(h[:, 0].double()))


@pytest.mark.parametrize(
    ("t", "tau", "sigma"), [(0.0, 0.12931, 1.07069), (0.5, 0.6, 0.6), (1.0, 1.07069, 0.12931)]
)
def test_check_4_multipliers_of_the_sigmoid(t, tau, sigma):
    got = COVARIANCES["sigmoid"](torch.tensor(t, dtype=F64))
    assert [float(v) for v in got] == pytest.approx([sigma, tau], abs=5e-6)


def test_check_4_multipliers_add_up():
    t = torch.linspace(0, 1, 101, dtype=F64)
    for name in ("sigmoid", "linear"):
        sigma, tau = COVARIANCES[name](t)
        torch.testing.assert_close(sigma + tau, torch.full_like(t, 1.2))
        assert (sigma.diff() < 0).all()
        assert min(sigma.min(), tau.min()) > 0
    for own in SCHEDULES.values():
        sigma, tau = noise_covariance(own)(t)
        torch.testing.assert_close(sigma + tau, torch.full_like(t, 1.2))
        assert (tau.diff() >= 0).all()
    assert all((v == 1).all() for v in COVARIANCES["constant"](t))
    by_noise = noise_covariance(LinearGamma(clip=0.0))(t)  # whose share of noise is the time
    for got, line in zip(by_noise, COVARIANCES["linear"](t), strict=True):
        torch.testing.assert_close(got, line)


def test_a_guide_takes_the_share_of_noise_of_its_run_states():
    """On EDM's clock the sigmoid, which stands for it, is 2 to 5 times as loose when clean."""
    t = torch.linspace(0, 1, 11, dtype=F64)
    for run in (GaussianDiffusion(EDM(10.0)), CategoricalDiffusion(3, "absorbing")):
        alpha, sigma = run.schedule(t)
        noise = sigma.square() / (alpha.square() + sigma.square())
        shared, alone = GuideTraining(method="context").term(run)["schedule"](t)
        torch.testing.assert_close(alone, noise + 0.1)
        torch.testing.assert_close(shared, 1.1 - noise)
    parts = {"a": GaussianDiffusion(EDM(10.0)), "b": GaussianDiffusion(Cosine())}
    both = GuideTraining(method="context").term(ProductDiffusion(parts))["schedule"](t)[1]
    each = [GuideTraining(method="context").term(p)["schedule"](t)[1] for p in parts.values()]
    torch.testing.assert_close(both, (each[0] + each[1]) / 2)
    early = noise_covariance(EDM(10.0))(t[2:6])[1]
    assert (COVARIANCES["sigmoid"](t[2:6])[1] / early > 1.9).all()


@pytest.mark.parametrize(
    ("name", "tau"),
    [
        ("sigmoid", lambda t: 0.1 + 1 / (1 + (-7 * (t - 0.5)).exp())),
        ("linear", lambda t: 0.1 + t),
        ("constant", torch.ones_like),
    ],
)
def test_a_guide_takes_the_schedule_that_is_named(name, tau):
    t = torch.linspace(0, 1, 11, dtype=F64)
    options = GuideTraining(method="context", schedule=name)
    shared, alone = options.term(GaussianDiffusion(EDM(10.0)))["schedule"](t)
    torch.testing.assert_close(alone, tau(t))
    torch.testing.assert_close(shared, tau(1 - t))  # of each, what tau is at the other end


def least(kernel, labels, s2):
    """The f that minimises sum (y - f)^2 / 2 s^2 + f^T K^-1 f / 2, y of the first points.

    Of a quadratic, one Newton step from anywhere.
    """

    def cost(f):
        return (labels - f[: len(labels)]).square().sum() / (2 * s2) + kernel.distance(f) / 2

    start = Rng(9).normal((kernel.size,), F64).requires_grad_()
    (slope,) = torch.autograd.grad(cost(start), start)
    bend = torch.autograd.functional.hessian(cost, start.detach())
    return start.detach() - torch.linalg.solve(bend, slope)


@methods
def test_check_6_the_minimum_over_values_is_the_process_and_the_linear_regression(method):
    n, M, F, s2, sigma, tau = 12, 20, 5, 0.09, 0.7, 0.2
    rng = Rng(5)
    h, y = rng.fold("h").normal((n + M, F), F64), rng.fold("y").normal((n,), F64)
    full = torch.ones(n + M, dtype=F64)
    kernel = Kernel(h, sigma * full, tau * full, method)
    f, K = least(kernel, y, s2), dense(kernel)
    process = K[:, :n] @ torch.linalg.solve(K[:n, :n] + s2 * torch.eye(n, dtype=F64), y)
    torch.testing.assert_close(f, process, rtol=0, atol=8e-10)
    H = h[:n]
    inner = H.T @ H / (tau + s2) + torch.eye(F, dtype=F64) / sigma
    w = torch.linalg.solve(inner, H.T @ y / (tau + s2))
    torch.testing.assert_close(f[n:], h[n:] @ w, rtol=0, atol=1e-9)
    assert f[n:].abs().max() > 0.1  # the labels have reached the context


def test_check_6_a_context_that_shares_nothing_with_the_data_stays_at_the_prior():
    n, M = 6, 8
    h = torch.zeros(n + M, 6, dtype=F64)
    h[:n, :3], h[n:, 3:] = Rng(0).normal((n, 3), F64), Rng(1).normal((M, 3), F64)
    full = torch.ones(n + M, dtype=F64)
    f = least(Kernel(h, full, 0.1 * full), Rng(2).normal((n,), F64), 0.04)
    assert f[n:].abs().max() < 1e-12
    assert f[:n].abs().max() > 0.1


def kernel_of(h=H, sigma=1.0, tau=0.5, method="auto"):
    return Kernel(h, torch.full((len(h),), sigma), torch.full((len(h),), tau), method)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: kernel_of(tau=0.0), "3 points is singular: tau is as small as 0 beside sigma 1;"),
        (lambda: kernel_of(tau=0.0, method="woodbury"), "is singular"),
        (lambda: kernel_of(tau=float("nan")), "tau are not finite"),
        (lambda: kernel_of(H * torch.inf), "features are not finite"),
        (lambda: kernel_of(sigma=-1.0), "variances must be >= 0, got sigma -1.0"),
        (lambda: kernel_of(tau=-0.5), "variances must be >= 0"),
        (lambda: kernel_of(H[:0]), "no context"),
        (lambda: Kernel(H, torch.ones(2), torch.ones(3)), r"sigma of \(2,\)"),
        (lambda: Kernel(H[0], torch.ones(2), torch.ones(2)), r"expected \(M, F\)"),
        (lambda: kernel_of(method="lu"), "cholesky or woodbury, got 'lu'"),
        (lambda: kernel_of().distance(torch.zeros(4)), r"shape \(4,\) for 3 context points"),
        (lambda: context_energy(MEAN, VARIANCE[:, 0], hand()), r"\(3,\), expected the same"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(make, message):
    with pytest.raises(ValueError, match=message) as said:
        make()
    assert "\n" not in str(said.value)
