"""The loss, its times, weights and rows: check 15's first pass, and the training smoke."""

import math
from fractions import Fraction

import pytest
import torch
from oracles import F64, Binary
from torch import nn

from noiseloom.conditioning import SelfConditioned
from noiseloom.denoiser import LinearHead, Preconditioned, SigmoidHead, SoftmaxHead
from noiseloom.diffusion import GaussianDiffusion, Prediction
from noiseloom.encodings import Bits
from noiseloom.noise import EDM, SCHEDULES, Cosine
from noiseloom.objective import (
    denoising_loss,
    drop_condition,
    edm_weight,
    eps_weight,
    log_normal_times,
    logit_normal,
    min_snr_weight,
    self_conditioned_rows,
    stratified_times,
    uniform_times,
    v_weight,
)
from noiseloom.rng import Rng

DIFFUSION = GaussianDiffusion()


class Net(nn.Module):
    """A denoiser with parameters that reads the estimate, and remembers what it was given."""

    def __init__(self, d=3, head=None):
        super().__init__()
        with Rng(0).torch():
            self.layer = nn.Linear(2 * d, d, dtype=F64)
        self.head = head or LinearHead()
        self.given = []

    def forward(self, x, t, cond=None, carry=None, rng=None):
        self.given.append({"x": x, "t": t, "grad": torch.is_grad_enabled(), **cond})
        mean = self.layer(torch.cat((x, cond["estimate"]), -1)).tanh()
        return self.head(mean), dict(carry or {})


def batch(n=8, *shape):
    clean = Rng(3).samples(n).normal((n, *(shape or (3,))), F64).sign()
    return clean, Rng(4).samples(n).uniform((n,), F64)


def gradient(model, loss):
    model.zero_grad()
    loss.sum().backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


# Rows


@pytest.mark.parametrize("rate", ["0", "0.1", "0.29", "1/3", "0.5", "0.58", "0.7", "0.9", "1"])
def test_check_15_exactly_the_floor_of_the_rate_is_chosen(rate):
    rate = Fraction(rate)  # 0.7 * 90 is 62.99... in floating point
    for n in (1, 2, 3, 7, 10, 50, 64, 90, 100, 1000):
        chosen = self_conditioned_rows(torch.arange(n), float(rate))
        assert len(chosen) == math.floor(rate * n)
        assert len(set(chosen.tolist())) == len(chosen)


@pytest.mark.parametrize("rate", [0.1, 1 / 3, 0.5, 0.9])
def test_slices_of_a_global_batch_choose_what_the_whole_does(rate):
    whole = self_conditioned_rows(torch.arange(96), rate).tolist()
    for parts in ((48, 48), (24, 24, 24, 24), (32, 32, 32), (5, 80, 11), (96,)):
        start, together = 0, []
        for size in parts:
            part = self_conditioned_rows(torch.arange(start, start + size), rate)
            exact = rate * size
            assert math.floor(exact - 1e-9) <= len(part) <= math.ceil(exact + 1e-9)
            together += (part + start).tolist()
            start += size
        assert together == whole


# Times, weights, conditions


def test_uniform_times_fill_the_unit_interval_and_follow_the_sample():
    t = uniform_times((50_000,), Rng(0))
    assert float(t.min()) > 0
    assert float(t.max()) < 1
    assert abs(float(t.mean()) - 0.5) < 5 * math.sqrt(1 / 12 / 50_000)
    whole = uniform_times((100, 4), Rng(0).samples(100))
    assert torch.equal(whole[17:18], uniform_times((1, 4), Rng(0).samples(1, 17)))


@pytest.mark.parametrize("schedule", [Cosine(), EDM()], ids=str)
def test_log_normal_times_have_log_normal_noise(schedule):
    n = 50_000
    t = log_normal_times((n,), Rng(0), schedule, mean=-0.5, std=0.8)
    ratio = -schedule.log_snr(t.double()) / 2
    assert abs(float(ratio.mean()) + 0.5) < 5 * 0.8 / math.sqrt(n)
    assert abs(float(ratio.std()) - 0.8) < 5 * 0.8 / math.sqrt(2 * n)
    wide = log_normal_times((1000,), Rng(1), schedule, std=20.0)
    assert float(wide.min()) >= 0
    assert float(wide.max()) <= 1


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_weights_turn_the_error_of_x0_into_that_of_other_targets(schedule):
    d = GaussianDiffusion(schedule)
    clean, mean = Rng(0).normal((6, 4), F64), Rng(1).normal((6, 4), F64)
    # From 0.2: below, EDM has log-SNR above 20, where the weights are capped (tested on its own).
    t = torch.linspace(0.2, 0.9, 6, dtype=F64)
    alpha, sigma = (v[:, None] for v in schedule(t))
    radius = (alpha**2 + sigma**2).sqrt()
    x = d.corrupt(clean, t, Rng(2))

    def eps(x_0):
        return (x - alpha * x_0) / sigma

    def v(x_0):
        return (alpha * eps(x_0) - sigma * x_0) / radius

    square = (mean - clean) ** 2
    log_snr = schedule.log_snr(t)[:, None]
    torch.testing.assert_close(eps_weight(log_snr) * square, (eps(mean) - eps(clean)) ** 2)
    if torch.allclose(radius, torch.ones_like(radius)):  # v is defined at unit variance
        torch.testing.assert_close(v_weight(log_snr) * square, (v(mean) - v(clean)) ** 2)


def test_weights_by_their_formulas():
    log_snr = torch.linspace(-5, 8, 50, dtype=F64)
    snr = log_snr.exp()
    torch.testing.assert_close(min_snr_weight(5.0)(log_snr), snr.clamp(max=5))
    sigma, d = 1 / snr.sqrt(), 0.7
    torch.testing.assert_close(edm_weight(d)(log_snr), (sigma**2 + d**2) / (sigma * d) ** 2)


def test_conditions_drop_at_their_rate_per_sample():
    n, label = 20_000, torch.arange(20_000) % 10
    rng = Rng(0).samples(n)
    dropped = drop_condition(label, 10, 0.1, rng)
    share = float((dropped == 10).double().mean())
    assert abs(share - 0.1) < 5 * math.sqrt(0.09 / n)
    kept = dropped != 10
    assert torch.equal(dropped[kept], label[kept])
    part = drop_condition(label[100:200], 10, 0.1, Rng(0).samples(100, 100))
    assert torch.equal(part, dropped[100:200])
    assert drop_condition(label, 10, 0.0, rng) is label
    assert drop_condition(label, 10, 1.0, rng).eq(10).all()


# Algorithm 1


def by_hand(net, clean, t, rows, noise):
    """Algorithm 1 with the estimate a detached constant."""
    alpha, sigma = (v[:, None] for v in DIFFUSION.schedule(t))
    x = alpha * clean + sigma * noise
    estimate = torch.zeros_like(x)
    with torch.no_grad():
        first = net(x, t, {"estimate": torch.zeros_like(x)})[0].mean
    estimate[rows] = first[rows]
    mean = net(x, t, {"estimate": estimate})[0].mean
    return ((mean - clean) ** 2).mean(1)


@pytest.mark.parametrize("rate", [0.0, 0.25, 0.5, 1.0])
def test_check_15_the_loss_and_its_gradient_are_algorithm_1s(rate):
    net = Net()
    clean, t = batch()
    loss = denoising_loss(
        SelfConditioned(net), DIFFUSION, clean, t, None, Rng(5), self_conditioning=rate
    )
    assert loss.shape == (8,)
    rows = self_conditioned_rows(torch.arange(8), rate)
    noise = Rng(5).samples(8).fold("noise").normal((8, 3), F64)
    if rate:
        first, second = net.given
        assert not first["grad"]
        assert second["grad"]
        assert torch.equal(first["x"], second["x"][rows])  # x_t is formed once
        assert torch.equal(first["t"], second["t"][rows])
        assert not first["estimate"].any()
        nonzero = second["estimate"].any(1).nonzero()[:, 0]
        assert torch.equal(nonzero, rows)
        assert len(nonzero) == math.floor(rate * 8)
    else:
        assert len(net.given) == 1
    expected = by_hand(net, clean, t, rows, noise)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradient(net, loss), gradient(net, expected))


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.5])
def test_a_part_of_the_global_batch_has_its_slice_of_the_losses(rate):
    clean, t = batch(12)
    cond = {"label": torch.arange(12), "table": "shared"}
    net = Net()
    options = {"self_conditioning": rate, "weight": v_weight}
    whole = denoising_loss(
        SelfConditioned(net), DIFFUSION, clean, t, cond, Rng(5).samples(12), **options
    )
    grads = []
    for start, end in ((0, 6), (6, 12), (3, 8)):
        part = denoising_loss(
            SelfConditioned(net),
            DIFFUSION,
            clean[start:end],
            t[start:end],
            {"label": cond["label"][start:end], "table": "shared"},
            Rng(5).samples(end - start, start),
            rows=torch.arange(start, end),
            **options,
        )
        torch.testing.assert_close(part, whole[start:end], rtol=1e-12, atol=1e-12)
        grads.append(gradient(net, part))
    torch.testing.assert_close(gradient(net, whole), grads[0] + grads[1])


def test_both_passes_get_the_conditions_of_their_rows_and_a_dropout_key_each():
    net = Net()
    clean, t = batch()
    cond = {"label": torch.arange(8), "table": "shared"}
    denoising_loss(SelfConditioned(net), DIFFUSION, clean, t, cond, Rng(5), self_conditioning=0.5)
    first, second = net.given
    rows = self_conditioned_rows(torch.arange(8), 0.5)
    assert torch.equal(first["label"], rows)
    assert torch.equal(second["label"], torch.arange(8))
    assert first["table"] == second["table"] == "shared"
    assert first["dropout"].shape == (4,)
    assert second["dropout"].shape == (8,)
    assert len({*first["dropout"].tolist(), *second["dropout"].tolist()}) == 12
    assert "dropout" not in cond


@pytest.mark.parametrize("shape", [(8,), (8, 5), (8, 1), (8, 5, 3)], ids=str)
def test_every_shape_of_time_gives_a_loss_per_sample(shape):
    net = Net()
    clean = Rng(3).normal((8, 5, 3), F64)
    t = Rng(4).uniform(shape, F64)
    loss = denoising_loss(
        SelfConditioned(net), DIFFUSION, clean, t, None, Rng(5), self_conditioning=0.5
    )
    assert loss.shape == (8,)
    weighted = denoising_loss(
        SelfConditioned(net),
        DIFFUSION,
        clean,
        t,
        None,
        Rng(5),
        self_conditioning=0.5,
        weight=v_weight,
    )
    alone = torch.cat(
        [
            denoising_loss(
                SelfConditioned(net),
                DIFFUSION,
                clean[i : i + 1],
                t[i : i + 1],
                None,
                Rng(5).samples(1, i),
                rows=torch.tensor([i]),
                self_conditioning=0.5,
                weight=v_weight,
            )
            for i in range(8)
        ]
    )
    torch.testing.assert_close(weighted, alone)
    if len(shape) == 1:
        weight = v_weight(DIFFUSION.schedule.log_snr(t))
        torch.testing.assert_close(weighted, weight * loss)


def test_a_weight_belongs_to_its_own_token():
    clean, t = Rng(3).normal((2, 5, 3), F64), Rng(4).uniform((2, 5), F64)

    class Zero(nn.Module):
        def forward(self, x, t, cond=None, carry=None, rng=None):
            return Prediction(torch.zeros_like(x)), {}

    loss = denoising_loss(Zero(), DIFFUSION, clean, t, None, Rng(0), weight=v_weight)
    weight = v_weight(DIFFUSION.schedule.log_snr(t))
    torch.testing.assert_close(loss, (weight * (clean**2).mean(-1)).mean(-1))


def test_logits_are_used_only_when_asked_for():
    net = Net(head=SigmoidHead())
    clean, t = batch()
    square = denoising_loss(SelfConditioned(net), DIFFUSION, clean, t, None, Rng(5))
    nats = denoising_loss(
        SelfConditioned(net), DIFFUSION, clean, t, None, Rng(5), cross_entropy=True
    )
    x = net.given[0]["x"]
    f = net.layer(torch.cat((x, torch.zeros_like(x)), -1)).tanh()
    torch.testing.assert_close(square, (((f / 2).tanh() - clean) ** 2).mean(1))
    torch.testing.assert_close(nats, nn.functional.softplus(-f * clean).mean(1))


# Training smoke: Bernoulli bits, whose optimum is known by quadrature

P = 0.2


class Mlp(nn.Module):
    """Sees x_t, log-SNR and their sufficient statistic alpha x / sigma^2, clamped."""

    def __init__(self, outputs=1):
        super().__init__()
        with Rng(7).torch():
            self.layers = nn.Sequential(
                nn.Linear(3, 48), nn.SiLU(), nn.Linear(48, 48), nn.SiLU(), nn.Linear(48, outputs)
            )

    def forward(self, x, log_snr, cond=None):
        clock = log_snr[:, None]
        statistic = (x * clock.sigmoid().sqrt() / (-clock).sigmoid()).clamp(-6, 6)
        return self.layers(torch.cat((x, clock / 10, statistic / 2), 1))


def quadrature():
    """Midpoints in t, a grid in x around both modes: points, times and weights of E over x_t, t."""
    t = (torch.arange(100, dtype=F64) + 0.5) / 100
    alpha, sigma = (v[:, None] for v in DIFFUSION.schedule(t))
    z = torch.linspace(-6, 6, 241, dtype=F64)
    mass = (-(z**2) / 2).exp()
    mass = mass / mass.sum() / 100
    x = torch.cat((alpha + sigma * z, -alpha + sigma * z), 1)
    weights = torch.cat((P * mass, (1 - P) * mass)).expand(100, -1)
    return x, t, weights


def trained(head, outputs=1, cross_entropy=False, steps=700, size=512):
    model = Preconditioned(Mlp(outputs), DIFFUSION.schedule, head=head)
    optimiser = torch.optim.Adam(model.parameters(), 4e-3)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = 4e-3 * (1 - step / steps)
        rng = Rng(0).fold("step", step)
        clean = torch.where(rng.fold("bit").uniform((size, 1)) < P, 1.0, -1.0)
        # Stratified times: less noise in the gradient, the same expectation.
        t = (torch.arange(size) + rng.fold("t").uniform((size,))) / size
        loss = denoising_loss(
            model, DIFFUSION, clean, t, None, rng, cross_entropy=cross_entropy
        ).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    x, t, _ = quadrature()
    with torch.no_grad():
        flat = model(x.float().reshape(-1, 1), t.float().repeat_interleave(x.shape[1]))[0].mean
    return flat.double().reshape(x.shape)


def test_training_smoke_l2_and_cross_entropy_reach_the_known_optimum():
    x, t, weights = quadrature()
    exact = Binary(DIFFUSION.schedule, P)(x, t)[0].mean
    variance = 1 - (weights * exact**2).sum()  # E (x_0 - E[x_0 | x_t])^2 for x_0 = +-1
    prior_only = 1 - (2 * P - 1) ** 2
    assert 0.05 < float(variance) < prior_only
    square = trained(LinearHead())
    sigmoid = trained(SigmoidHead(), cross_entropy=True)
    softmax = trained(SoftmaxHead(Bits(2).table), 2, cross_entropy=True)
    for mean in (square, sigmoid, softmax):
        excess = float((weights * (mean - exact) ** 2).sum())  # of the L2 loss over its optimum
        assert excess < 0.02 * float(variance)
    for a, b in ((square, sigmoid), (sigmoid, softmax)):
        assert float((weights * (a - b) ** 2).sum().sqrt()) < 0.05


def test_stratified_times_put_one_time_in_each_part_and_follow_the_global_row():
    rows, rng = torch.arange(64), Rng(3).samples(64)
    t = stratified_times(rows, 64, rng)
    assert torch.equal((t * 64).floor().long(), rows)
    half = stratified_times(rows[32:], 64, rng.rows(rows[32:]))
    assert torch.equal(half, t[32:])


def test_logit_normal_times_have_the_quantiles_of_their_name():
    t = logit_normal(torch.linspace(0.001, 0.999, 999), mean=0.3, std=0.7)
    logits = t.logit()
    assert float(logits.mean()) == pytest.approx(0.3, abs=1e-6)
    assert float(logits.std()) == pytest.approx(0.7, rel=0.01)
    ends = logit_normal(torch.tensor([0.0, 1.0]))
    assert bool(((ends > 0) & (ends < 1)).all())


def test_weights_stay_finite_at_the_clean_end():
    infinite = torch.tensor(torch.inf)
    for weight in (eps_weight, v_weight, edm_weight(), min_snr_weight()):
        assert bool(weight(infinite).isfinite())


class Listening(nn.Module):
    """Predicts zero, and keeps what it was shown."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def forward(self, x, t, cond=None, carry=None, rng=None):
        self.calls.append((x, rng))
        return Prediction(torch.zeros_like(x)), {"self_conditioning": {"estimate": x}}


def test_one_key_for_all_is_a_key_for_every_row_of_the_global_batch():
    clean, t = Rng(1).normal((8, 3)), torch.linspace(0.1, 0.9, 8)
    whole, part = Listening(), Listening()
    denoising_loss(whole, DIFFUSION, clean, t, None, Rng(0))
    denoising_loss(part, DIFFUSION, clean[4:], t[4:], None, Rng(0), rows=torch.arange(4, 8))
    assert torch.equal(part.calls[0][0], whole.calls[0][0][4:])
    one, other = (denoiser.calls[0][1].normal((n, 2)) for denoiser, n in ((whole, 8), (part, 4)))
    assert torch.equal(one[4:], other)


def test_both_passes_draw_the_same():
    denoiser, clean = Listening(), Rng(1).normal((8, 3))
    settings = {"rows": torch.arange(8), "self_conditioning": 0.5}
    denoising_loss(denoiser, DIFFUSION, clean, torch.full((8,), 0.5), None, Rng(0), **settings)
    (_, first), (_, second) = denoiser.calls
    assert torch.equal(first.normal((4, 2)), second.normal((8, 2))[1::2])


def test_what_does_not_count_is_left_out_of_any_time():
    clean = torch.ones(2, 4, 3)
    counted = torch.tensor([[1, 1, 0, 0], [1, 0, 0, 0]]).bool()
    clean[~counted] = 10
    for t in (torch.rand(2, 4), torch.rand(2), torch.rand(1, 4), torch.tensor(0.3)):
        loss = denoising_loss(Listening(), DIFFUSION, clean, t, None, Rng(0), counted=counted)
        torch.testing.assert_close(loss, torch.ones(2))


def test_a_time_for_all_gives_each_sample_its_own_loss():
    clean = Rng(1).normal((6, 3))
    many = denoising_loss(Listening(), DIFFUSION, clean, torch.full((6,), 0.3), None, Rng(0))
    for t in (torch.tensor(0.3), torch.tensor([0.3])):
        one = denoising_loss(Listening(), DIFFUSION, clean, t, None, Rng(0))
        torch.testing.assert_close(one, many)
    assert many.std() > 0.1
