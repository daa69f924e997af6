"""Eight Gaussians on a ring, told which or not: checks 5 to 11 and 17 of the notes on DisCo-Diff.

The notes' values are of 40,000 points. Here the plane is a grid, on which sums are expectations to
many digits, and the notes' numbers have to be within five of their own standard errors.
"""

import itertools
import math

import pytest
import torch
from oracles import F64, Clusters
from torch import nn

from noiseloom.curvature import curvature, jacobian_squares
from noiseloom.diffusion import GaussianDiffusion, Prediction
from noiseloom.guidance import ClassifierFree
from noiseloom.latents import Latent, latent_loss, one_hot
from noiseloom.noise import EDM
from noiseloom.objective import denoising_loss
from noiseloom.plan import SamplingPlan
from noiseloom.priors import TabularPrior
from noiseloom.rng import Rng
from noiseloom.sampling import final, heun, sample

SCHEDULE = EDM()
DIFFUSION, RING = GaussianDiffusion(SCHEDULE), Clusters(SCHEDULE)
POINTS, S2 = 40_000, 0.04
RATIOS = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0)
ratios = pytest.mark.parametrize("r", RATIOS)


def time(r):
    return SCHEDULE.time(-2 * torch.tensor(r, dtype=F64).log())


def plane(r, ring=RING, side=160):
    """Points of a grid and the probability of each under the law of x_t; none at the centre."""
    line = torch.linspace(-1, 1, side, dtype=F64) * (3 + 7 * math.sqrt(S2 + r * r))
    x = torch.cartesian_prod(line, line)
    logits = -(x[:, None] - ring.centres).square().sum(-1) / (2 * (S2 + r * r))
    p = logits.exp() @ ring.weights
    return x, p / p.sum()


def told(x, k, ring=RING):
    return {"codes": ring.codes(torch.full((len(x),), k))}


def mean(x, r, cond=None, ring=RING):
    return ring(x, time(r), cond)[0].mean


def conditional_loss(r):
    return 2 * S2 * r * r / (S2 + r * r)


def gap(x, r, ring=RING, groups=None):
    """E[|D(x, own component) - D(x, what is known)|^2 | x]: what is not known costs this."""
    alpha, sigma = SCHEDULE(time(r))
    share = ring.share(x, alpha, sigma)
    known = ring if groups is None else Clusters(SCHEDULE, groups=groups)
    total = torch.zeros(len(x), dtype=F64)
    for k in range(8):
        if groups is None:
            blind = mean(x, r)
        else:
            codes = known.codes(torch.full((len(x),), k))
            blind = known(x, time(r), {"codes": codes})[0].mean
        total += share[:, k] * (mean(x, r, told(x, k)) - blind).square().sum(1)
    return total


def sharp():
    """An encoder that says the component of a point."""
    encoder = nn.Sequential(nn.Linear(2, 8, dtype=F64), nn.Unflatten(1, (1, 8)))
    with torch.no_grad():
        encoder[0].weight.copy_(40 * RING.centres)
        encoder[0].bias.zero_()
    return encoder


def close(value, table, deviation, digits):
    """Within five standard errors of the table's points, and half of its last digit."""
    error = 5 * float(deviation) / math.sqrt(POINTS) + 0.51 * digits
    assert abs(float(value) - table) < error, f"{float(value):.5g} is not {table} +- {error:.2g}"


def moments(values, p):
    m = (p * values).sum()
    return m, ((p * values * values).sum() - m * m).clamp_min(0).sqrt()


# Check 5: curvature

MEDIANS = {0.2: 9e-10, 0.5: 0.155, 1.0: 0.881, 2.0: 0.0076, 4.0: 1.0e-6, 8.0: 8e-10}


@ratios
def test_check_5_the_flow_of_a_known_component_is_straight(r):
    x, _ = plane(r, side=60)
    for k in range(8):
        assert curvature(RING, DIFFUSION, x, time(r), cond=told(x, k)).max() < 1e-8


@ratios
def test_check_5_median_curvature_of_the_ring(r):
    x, p = plane(r)
    kappa, order = curvature(RING, DIFFUSION, x, time(r)).sort()
    level = p[order].cumsum(0)
    # A median of n draws lies between the quantiles at 1 / 2 -+ 5 / (2 sqrt n).
    off = 2.5 / math.sqrt(POINTS)
    low, high = (float(kappa[torch.searchsorted(level, q)]) for q in (0.5 - off, 0.5 + off))
    assert low * 0.94 <= MEDIANS[r] <= high * 1.06
    if r == 1:
        assert float(kappa[torch.searchsorted(level, 0.5)]) > 0.1


# Check 6: paths


@pytest.mark.parametrize("data_std", [1.0, math.inf])
def test_check_6_a_known_component_is_reached_on_a_line(data_std):
    x = 80 * Rng(0).normal((64, 2), F64)
    k = torch.arange(64) % 8
    mu, begin = RING.centres[k], x
    plan = SamplingPlan.karras(200, SCHEDULE)
    worst = 0.0
    for step in sample(
        RING, DIFFUSION, plan, x, cond={"codes": RING.codes(k)}, rng=Rng(0), solver=heun(data_std)
    ):
        r = SCHEDULE(step.s)[1]
        line = mu + (begin - mu) * ((S2 + r * r) / (S2 + 6400)).sqrt()
        worst = max(worst, float((step.x - line).norm(dim=1).max() / (S2 + r * r).sqrt()))
        if data_std == math.inf:  # on the line itself, however far along it
            a, b = step.x - mu, begin - mu
            across = (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]) / b.norm(dim=1)
            assert across.abs().max() < 1e-10
    assert worst < 2e-3


# Check 7: losses

LOSSES = {0.2: 0.0400, 0.5: 0.168, 1.0: 1.09, 2.0: 3.96, 4.0: 7.05, 8.0: 8.47}
KNOWN = {0.2: 0.0400, 0.5: 0.0690, 1.0: 0.0769, 2.0: 0.0792, 4.0: 0.0798, 8.0: 0.0800}
DIGITS = {0.2: 1e-4, 0.5: 1e-3, 1.0: 1e-2, 2.0: 1e-2, 4.0: 1e-2, 8.0: 1e-2}


@ratios
def test_check_7_the_least_losses(r):
    x, p = plane(r)
    extra, own = (p * gap(x, r)).sum(), conditional_loss(r)
    y, k = RING.draw(POINTS, Rng(0))
    t, losses = time(r).expand(POINTS), []
    for drop in (1.0, 0.0):  # what trains, with codes dropped and not; a mean of two squares
        model = Latent(RING, sharp(), m=1, k=8, updates=1, drop=drop, hard=True)
        with torch.no_grad():
            losses.append(2 * latent_loss(model, DIFFUSION, y, t, None, Rng(1)))
    blind, known = losses
    noisy = DIFFUSION.corrupt(y, t, Rng(1).samples(POINTS).fold("noise"))
    close(own, KNOWN[r], 0, 1e-4)
    close(own + extra, LOSSES[r], blind.std(), DIGITS[r])
    # The same by drawing, and by the law of total variance, on the same draws.
    assert abs(float(known.mean()) - own) < 5 * float(known.std()) / math.sqrt(POINTS)
    assert abs(float(blind.mean() - own - extra)) < 5 * float(blind.std()) / math.sqrt(POINTS)
    between = mean(noisy, r, {"codes": RING.codes(k)}) - mean(noisy, r)
    difference = blind - known - between.square().sum(1)
    assert abs(float(difference.mean())) < 5 * float(difference.std()) / math.sqrt(POINTS) + 1e-12


def test_check_7_the_gap_goes_from_0_to_the_variance_between_modes():
    gaps = []
    for r in (0.1, *RATIOS, 30.0, 300.0):
        x, p = plane(r, side=80)
        gaps.append(float((p * gap(x, r)).sum()))
    assert gaps[0] < 1e-6
    assert all(a < b for a, b in itertools.pairwise(gaps))
    assert 9 - 2e-3 < gaps[-1] < 9


# Check 8: mixing back


@ratios
def test_check_8_conditional_denoisers_mix_back_to_the_blind_one(r):
    x, _ = plane(r, side=60)
    share = RING.share(x, *SCHEDULE(time(r)))
    mixed = sum(share[:, k, None] * mean(x, r, told(x, k)) for k in range(8))
    torch.testing.assert_close(mixed, mean(x, r), rtol=1e-12, atol=1e-12)
    nothing = {"codes": torch.zeros(len(x), 1, 8, dtype=F64)}
    assert torch.equal(mean(x, r, nothing), mean(x, r))


class Table(nn.Module):
    """A denoiser in one dimension that knows a number for each bin of the state and each code."""

    def __init__(self, bins, k):
        super().__init__()
        self.edges = torch.linspace(-5, 5, bins - 1, dtype=F64)
        self.values = nn.Parameter(torch.zeros(bins, k + 1, dtype=F64))

    def forward(self, x, t, cond=None, carry=None, rng=None):
        codes = cond["codes"][:, 0]  # the last column is that of no code
        column = torch.where(codes.sum(-1) == 0, codes.shape[-1], codes.argmax(-1))
        return Prediction(self.values[torch.bucketize(x, self.edges), column[:, None]]), {}


def test_check_8_dropped_codes_teach_a_table_the_mixed_denoiser():
    """Trained to its least loss, which for a table is where Newton's first step ends."""
    n, k, rate, t, key = 60_000, 3, 0.3, time(1.5), Rng(2)
    centres = torch.tensor([-2.0, 0.5, 3.0], dtype=F64)
    encoder = nn.Sequential(nn.Linear(1, k, dtype=F64), nn.Unflatten(1, (1, k)))
    with torch.no_grad():  # draws of these logits are not the nearest centre alone
        encoder[0].weight.copy_(2 * centres[:, None])
        encoder[0].bias.copy_(-centres.square())
    clean = centres[Rng(0).integers(k, (n,))][:, None] + 0.3 * Rng(1).normal((n, 1), F64)
    table = Table(12, k)
    model = Latent(table, encoder, m=1, k=k, updates=1, drop=rate, hard=True)
    seen = []
    table.register_forward_pre_hook(lambda _, args: seen.append((args[0], args[2]["codes"])))
    loss = latent_loss(model, DIFFUSION, clean, t, None, key).sum()
    (slope,) = torch.autograd.grad(loss, table.values, create_graph=True)
    (bend,) = torch.autograd.grad(slope.sum(), table.values)
    values = -slope.detach() / bend.clamp_min(1e-9)

    ((x, codes),) = seen
    bins, kept, apart = torch.bucketize(x, table.edges)[:, 0], codes[:, 0].sum(-1) > 0, []
    own = one_hot(codes[kept, 0].argmax(-1), k, F64)
    for place in range(12):
        told, silent = own[bins[kept] == place], clean[~kept & (bins == place)]
        count = told.sum(0)
        assert len(silent) > 100
        share = count / count.sum()
        each = torch.where(count > 0, values[place, :k], 0.0)
        spread = float(silent.std()) * (1 / len(silent) + 1 / len(told)) ** 0.5
        assert abs(float(share @ each - values[place, k])) < 5 * spread, place
        often = each[count > 100]
        apart.append(float(often.max() - often.min()) / spread)
    assert max(apart) > 20  # codes do matter


# Check 9: Jacobians. Exact (grids of 80 to 640 a side agree) are, told nothing, 0.5067, 1.0329,
# 1.2161, 0.6507, 0.1023, 0.00882, and of the drift 12.605, 6.792, 1.021, 0.1720, 0.0764,
# 0.02725: those noted at 0.5 are five standard errors high, as if of fewer points.

DENOISER = {0.2: 0.511, 0.5: 1.11, 1.0: 1.21, 2.0: 0.653, 4.0: 0.103, 8.0: 0.0088}
DRIFT = {0.2: 12.5, 0.5: 6.94, 1.0: 1.02, 2.0: 0.174, 4.0: 0.0766, 8.0: 0.0272}
DIGITS_D = {0.2: 1e-3, 0.5: 1e-2, 1.0: 1e-2, 2.0: 1e-3, 4.0: 1e-3, 8.0: 1e-4}
DIGITS_G = {0.2: 0.1, 0.5: 1e-2, 1.0: 1e-2, 2.0: 1e-3, 4.0: 1e-4, 8.0: 1e-4}


@ratios
def test_check_9_squares_of_the_jacobians(r):
    x, p = plane(r)
    blind = jacobian_squares(RING, DIFFUSION, x, time(r), Rng(0), probes=None)
    known = jacobian_squares(RING, DIFFUSION, x, time(r), Rng(0), cond=told(x, 3), probes=None)
    d, d_std = moments(blind.denoiser, p)
    g, g_std = moments(blind.drift, p)
    close(d, DENOISER[r], d_std, DIGITS_D[r])
    close(g, DRIFT[r], g_std, DIGITS_G[r])
    one = torch.ones_like(x[:, 0])
    torch.testing.assert_close(known.denoiser, 2 * (S2 / (S2 + r * r)) ** 2 * one)
    torch.testing.assert_close(known.drift, 2 * (r / (S2 + r * r)) ** 2 * one)
    assert d > known.denoiser[0]
    # The drift's is smaller without the code from about 1 on: the claim is not of the drift.
    assert bool(g < known.drift[0]) == (r >= 1)


@ratios
def test_check_9_the_denoisers_jacobian_is_the_posterior_covariance(r):
    x, _ = plane(r, side=30)
    share, own = RING.share(x, *SCHEDULE(time(r))), S2 * r * r / (S2 + r * r)
    gain = S2 / (S2 + r * r)
    each = RING.centres + gain * (x[:, None] - RING.centres)  # (B, K, 2)
    off = each - mean(x, r)[:, None]
    covariance = torch.einsum("bk,bki,bkj->bij", share, off, off) + own * torch.eye(2, dtype=F64)
    square = (covariance / (r * r)).square().sum((1, 2))
    got = jacobian_squares(RING, DIFFUSION, x, time(r), Rng(0), probes=None).denoiser
    torch.testing.assert_close(got, square, rtol=1e-9, atol=1e-12)


# Check 10: errors of Heun at equal calls

ROWS = {9: 5, 17: 9, 35: 18, 79: 40}
TABLE_10 = {9: (2.34, 0.57), 17: (0.279, 0.098), 35: (0.034, 0.018), 79: (0.0052, 0.0032)}
DIGITS_10 = {9: 1e-2, 17: 1e-3, 35: 1e-3, 79: 1e-4}
# In the angle: at the deviation of the ring per axis, told nothing and all, and at a component's.
SPREAD, OWN = math.sqrt(4.5 + S2), 0.2
IN_THE_ANGLE = {
    9: (1.07, 1.29, 0.136),
    17: (0.055, 0.145, 0.067),
    35: (0.0108, 0.0218, 0.0177),
    79: (0.0023, 0.0035, 0.0035),
}


@pytest.fixture(scope="module")
def ends():
    """Noise, components, and where the flow takes it: unknown (fine steps) and known (exact)."""
    x, k = 80 * Rng(3).normal((2000, 2), F64), torch.arange(2000) % 8
    fine = SamplingPlan.karras(300, SCHEDULE)
    blind = final(sample(RING, DIFFUSION, fine, x, rng=Rng(0), solver=heun(SPREAD))).x
    line = RING.centres[k] + (x - RING.centres[k]) * math.sqrt(S2 / (S2 + 6400))
    return x, ((None, blind), ({"codes": RING.codes(k)}, line))


def errors(ends, calls, data_std):
    x, cases = ends
    plan, said = SamplingPlan.karras(ROWS[calls], SCHEDULE), []
    for cond, truth in cases:
        before = RING.calls
        got = final(
            sample(RING, DIFFUSION, plan, x, cond=cond, rng=Rng(0), solver=heun(data_std))
        ).x
        assert RING.calls - before == calls
        off = (got - truth).norm(dim=1)
        said.append((float(off.mean()), float(off.std()) / math.sqrt(len(off))))
    return said


@pytest.mark.parametrize("calls", ROWS)
def test_check_10_edms_heun_errs_less_told_the_component(ends, calls):
    got = errors(ends, calls, math.inf)
    for (value, error), table in zip(got, TABLE_10[calls], strict=True):
        assert abs(value - table) < 5 * error + DIGITS_10[calls] / 2
    assert {9: 3.8, 17: 2.7, 35: 1.8, 79: 1.55}[calls] < got[0][0] / got[1][0] < 4.5


@pytest.mark.parametrize("calls", ROWS)
def test_check_10_heun_in_the_angle_is_better_where_it_knows_the_deviation(ends, calls):
    """At that of what is left to draw: then the code gains at 9 calls only, and loses later."""
    got = [*errors(ends, calls, SPREAD), errors(ends, calls, OWN)[1]]
    for (value, error), table in zip(got, IN_THE_ANGLE[calls], strict=True):
        assert value == pytest.approx(table, abs=5 * error + 0.02 * table)
    blind, known, own = (value for value, _ in got)
    edm = TABLE_10[calls]
    assert blind < 0.47 * edm[0]
    assert own < (0.7 if calls < 35 else 1.15) * edm[1]
    assert known > edm[1]  # at the deviation of what is not drawn any more
    assert (blind > own) == (calls == 9)


# Check 11: guidance


@ratios
@pytest.mark.parametrize("cfg", [-1.0, 0.0, 1.0, 2.0])
def test_check_11_the_guided_score_is_that_of_a_power(r, cfg):
    """grad ln p (p_k / p)^w at scale w, which the paper's numbers call cfg = w - 1."""
    x, k = plane(r, side=20)[0].requires_grad_(), 3
    logits = -(x[:, None] - RING.centres).square().sum(-1) / (2 * (S2 + r * r))
    whole, own = logits.logsumexp(1), logits[:, k]  # up to the same constant
    (score,) = torch.autograd.grad((whole + (cfg + 1) * (own - whole)).sum(), x)
    x, before = x.detach(), RING.calls
    got = ClassifierFree(RING, cfg + 1, drop=("codes",))(x, time(r), told(x, k))[0].mean
    assert RING.calls - before == (1 if cfg in (-1, 0) else 2)
    torch.testing.assert_close(got, x + r * r * score, rtol=1e-8, atol=1e-8)
    known, blind = mean(x, r, told(x, k)), mean(x, r)
    torch.testing.assert_close(got, known + cfg * (known - blind))
    if cfg in (-1, 0):
        assert torch.equal(got, known if cfg == 0 else blind)


# Check 17: finer codes


@ratios
def test_check_17_a_finer_partition_never_costs_and_needs_more_bits(r):
    x, p = plane(r, side=80)
    y, k = RING.draw(POINTS, Rng(0))
    losses, bits = [], []
    for width in (8, 4, 2, 1):  # neighbours on the ring; each partition refines the one before
        groups = torch.arange(8) // width
        losses.append(conditional_loss(r) + float((p * gap(x, r, groups=groups)).sum()))
        # What trains has that mean, and what the prior is to learn that entropy.
        known, t = Clusters(SCHEDULE, groups=groups), time(r).expand(POINTS)
        loss = 2 * denoising_loss(known, DIFFUSION, y, t, {"codes": known.codes(k)}, Rng(1))
        off = 5 * float(loss.std()) / math.sqrt(POINTS)
        assert float(loss.mean()) == pytest.approx(losses[-1], abs=off)
        prior = TabularPrior(1, 8 // width)
        prior.fit(groups[k, None], smoothing=0)
        bits.append(prior.entropy() / math.log(2))
    blind = conditional_loss(r) + float((p * gap(x, r)).sum())
    assert losses[0] == pytest.approx(blind, rel=1e-12)
    assert losses[-1] == pytest.approx(conditional_loss(r), rel=1e-12)
    drops = [a - b for a, b in itertools.pairwise(losses)]
    assert min(drops) > -1e-12
    if r >= 0.5:
        assert min(drops) > 0.02
    assert bits == pytest.approx([0, 1, 2, 3], abs=1e-3)
