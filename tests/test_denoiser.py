"""From a network to an estimate: targets and heads (checks 9, 10, 13 and 14)."""

import math

import pytest
import torch
from oracles import F64, Binary, Categorical, Constant
from torch import nn

from noiseloom.denoiser import Clipped, LinearHead, Preconditioned, SigmoidHead, SoftmaxHead
from noiseloom.diffusion import GaussianDiffusion, Prediction
from noiseloom.encodings import Bits, OneHot
from noiseloom.noise import EDM, SCHEDULES, Cosine, RectifiedFlow, ScaledCosine
from noiseloom.rng import Rng

schedules = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)


class Says(nn.Module):
    """A network that says a fixed output and remembers what it was given."""

    def __init__(self, output):
        super().__init__()
        self.output = output

    def forward(self, x, log_snr, cond=None):
        self.x, self.log_snr, self.cond = x, log_snr, cond
        return self.output


def normal(*shape, name="x"):
    return Rng(0).fold(name).normal(shape, F64)


def at(value):
    return torch.tensor(value, dtype=F64)


@schedules
@pytest.mark.parametrize("clip", [None, 0.3])
def test_check_10_targets_convert_to_the_same_mean_and_back(schedule, clip):
    x, mean = normal(4, 3), normal(4, 3, name="mean")
    if clip:
        mean = mean.clamp(-clip, clip)
    for time in (0.05, 0.4, 0.95):
        t = at(time)
        alpha, sigma = schedule(t)
        radius = (alpha**2 + sigma**2).sqrt()
        eps = (x - alpha * mean) / sigma
        v = (alpha * eps - sigma * mean) / radius
        for target, output in (("x0", mean), ("eps", eps), ("v", v)):
            if target == "eps" and isinstance(schedule, RectifiedFlow):
                continue
            model = Preconditioned(Says(output), schedule, target=target)
            got = model(x, t)[0].mean
            torch.testing.assert_close(got, mean, rtol=1e-8, atol=1e-8)
            again = (x - alpha * got) / sigma
            torch.testing.assert_close(alpha * got + sigma * again, x)
            torch.testing.assert_close(again, eps, rtol=1e-6, atol=1e-6)
        # The paper's conversions, where variance is preserved.
        if float(radius) == pytest.approx(1, rel=1e-12):
            torch.testing.assert_close(alpha * x - sigma * v, mean)
            torch.testing.assert_close(sigma * x + alpha * v, eps)


@schedules
@pytest.mark.parametrize("std", [0.5, 1.0, 2.0])
def test_the_edm_target_sees_and_says_unit_variance(schedule, std):
    """Karras et al.: inputs, targets and errors have unit variance for data of that deviation."""
    n = 100_000
    clean = std * Rng(3).normal((n, 1), F64)
    for time in (0.1, 0.5, 0.9):
        t = at(time)
        alpha, sigma = schedule(t)
        x = GaussianDiffusion(schedule).corrupt(clean, t, Rng(4))
        network = Says(torch.zeros_like(x))
        skip = Preconditioned(network, schedule, target="edm", data_std=std)(x, t)[0].mean
        network.output = torch.ones_like(x)
        gain = Preconditioned(network, schedule, target="edm", data_std=std)(x, t)[0].mean - skip
        assert float(network.x.var()) == pytest.approx(1, abs=5 * math.sqrt(2 / n))
        ideal = (clean - skip) / gain
        assert float(ideal.var()) == pytest.approx(1, abs=5 * math.sqrt(2 / n))
        # f = 0 is already the best linear denoiser.
        torch.testing.assert_close(skip, alpha * std**2 / (alpha**2 * std**2 + sigma**2) * x)


def test_the_edm_target_is_the_published_one_where_alpha_is_1():
    schedule, d, x, f = EDM(), 0.5, normal(5), normal(5, name="f")
    for time in (0.3, 0.6, 1.0):
        _, sigma = schedule(at(time))
        network = Says(f)
        got = Preconditioned(network, schedule, target="edm", data_std=d)(x, at(time))[0].mean
        skip = d**2 / (sigma**2 + d**2)
        out = sigma * d / (sigma**2 + d**2).sqrt()
        torch.testing.assert_close(got, skip * x + out * f)
        torch.testing.assert_close(network.x, x / (sigma**2 + d**2).sqrt())


@schedules
def test_networks_see_unit_scale_and_a_bounded_clock(schedule):
    x = normal(2, 3, 4).float()
    network = Says(torch.zeros(2, 3, 4))
    model = Preconditioned(network, schedule)
    for shape, clock in {
        (): (2,),
        (2,): (2,),
        (1,): (2,),
        (2, 1): (2,),
        (1, 1): (2,),
        (2, 3): (2, 3),
        (1, 3): (2, 3),
        (2, 3, 1): (2, 3),
        (1, 1, 4): (2, 3, 4),
        (2, 3, 4): (2, 3, 4),
    }.items():
        t = Rng(1).uniform(shape)
        model(x, t)
        assert network.log_snr.shape == clock
        assert network.log_snr.dtype == torch.float32
        assert network.log_snr.is_contiguous()
        expected = schedule.log_snr(t.reshape(shape + (1,) * (3 - len(shape))).expand(2, 3, 4))
        got = network.log_snr.reshape(clock + (1,) * (3 - len(clock))).expand(2, 3, 4)
        torch.testing.assert_close(got, expected.clamp(-20, 20))
    for end in (0.0, 1.0):
        says, _ = model(x, torch.tensor(end))
        assert network.log_snr.abs().max() <= 20
        assert network.x.isfinite().all()
        assert says.mean.isfinite().all()
    alpha, sigma = schedule(at(0.4))
    model(x, at(0.4))
    expected = x / float((alpha**2 + sigma**2).sqrt())
    torch.testing.assert_close(network.x, expected)


@schedules
def test_times_beyond_the_clock_are_told_as_the_nearest_that_is_not(schedule):
    network = Says(torch.zeros(5, 3))
    t = torch.tensor([0.0, 1e-4, 0.5, 1 - 1e-4, 1.0])
    wide, narrow = (Preconditioned(network, schedule, clock=clock) for clock in (20.0, 4.0))
    wide(torch.zeros(5, 3), t)
    told = network.log_snr
    narrow(torch.zeros(5, 3), t)
    assert torch.equal(network.log_snr, told.clamp(-4, 4))
    assert float(told.abs().max()) > 4
    for end in (0.0, 1.0):
        narrow(torch.zeros(5, 3), torch.tensor(end))
        assert torch.equal(network.log_snr, told[int(4 * end)].clamp(-4, 4).expand(5))


@schedules
def test_check_9_scaling_the_data_is_shifting_the_clock(schedule):
    """The mean of b u at (x, alpha, sigma) is b times u's where alpha*/sigma* = b alpha/sigma."""
    x, t = normal(200), at(0.6)
    alpha, sigma = schedule(t)
    unit = Binary(schedule, 0.3)
    for b in (0.1, 0.5, 2.0):
        sigma_star = 1 / (1 + (b * alpha / sigma) ** 2).sqrt()
        alpha_star = b * alpha / sigma * sigma_star
        expected = b * unit.mean(x * sigma_star / sigma, alpha_star, sigma_star)
        torch.testing.assert_close(Binary(schedule, 0.3, b)(x, t)[0].mean, expected)
        shift = schedule.log_snr(t) + 2 * math.log(b)
        torch.testing.assert_close(2 * (alpha_star / sigma_star).log(), shift)


@pytest.mark.parametrize("b", [0.5, 1.0])
def test_check_13_sigmoid_cross_entropy_is_least_at_the_posterior_log_odds(b):
    """For the empirical posterior: k of n examples that share x_t have the bit."""
    d, head = GaussianDiffusion(), SigmoidHead(b)
    for n, k in ((10, 3), (7, 6), (1000, 20)):
        clean = torch.full((n, 1), -b, dtype=F64)
        clean[:k] = b
        f = torch.full((), math.log(k / (n - k)), dtype=F64, requires_grad=True)
        prediction = head(f.expand(n, 1))
        loss = d.loss(prediction, clean, clean, at(0.5)).sum()
        p = k / n
        entropy = -p * math.log(p) - (1 - p) * math.log(1 - p)
        assert float(loss.detach()) == pytest.approx(entropy, rel=1e-12)
        (grad,) = torch.autograd.grad(loss, f)
        assert abs(float(grad)) < 1e-14
        mean = prediction.mean[0, 0].detach()
        torch.testing.assert_close(mean, b * (2 * f.detach().sigmoid() - 1))
        torch.testing.assert_close(mean, b * (f.detach() / 2).tanh())
        torch.testing.assert_close(mean, clean.mean())  # the optimum is the posterior mean


def test_check_14_the_softmax_head_at_its_extremes():
    for code in ("binary", "gray", "random"):
        for b in (0.5, 1.0):
            table = Bits(256, code, scale=b).table
            head = SoftmaxHead(table)
            assert head.outputs(24) == 768
            zero = head(torch.zeros(2, 768, dtype=F64)).mean
            assert zero.shape == (2, 24)
            assert zero.abs().max() < 1e-15
            j = torch.tensor([3, 141, 255])
            logits = torch.zeros(3, 256, dtype=F64)
            logits[torch.arange(3), j] = 1e4
            assert torch.equal(head(logits.reshape(1, 768)).mean, table[j].double().reshape(1, 24))
            wild = head(100 * Rng(0).normal((50, 768), F64)).mean
            assert wild.abs().max() <= b * (1 + 1e-15)


@pytest.mark.parametrize("codec", [Bits(5), Bits(6, "gray"), OneHot(4)], ids=str)
def test_check_14_with_the_right_logits_it_is_the_exact_posterior(codec):
    schedule, codes = Cosine(), codec.table.double()
    weights = Rng(0).uniform((codec.num_classes,), F64)
    weights /= weights.sum()
    exact = Categorical(schedule, codes, weights)
    x, t = normal(100, codec.width), at(0.6)
    alpha, sigma = schedule(t)
    # All codes have one norm, so it needs no term of its own.
    logits = weights.log() + alpha * (x @ codes.T) / sigma**2
    off = x[:, None] - alpha * codes
    joint = weights * (-(off**2).sum(-1) / (2 * sigma**2)).exp()
    brute = joint @ codes / joint.sum(-1, keepdim=True)
    torch.testing.assert_close(SoftmaxHead(codes)(logits).mean, brute)
    torch.testing.assert_close(exact(x, t)[0].mean, brute)


@pytest.mark.parametrize("axis", [1, -1, 2])
def test_the_softmax_head_keeps_groups_on_their_axis(axis):
    codec = Bits(5, axis=axis)
    data = Rng(0).integers(5, (2, 3, 4))
    clean = codec.encode(data).double()
    head = SoftmaxHead(codec.table, axis=axis)
    shape = list(clean.shape)
    shape[axis] = head.outputs(shape[axis])
    output = Rng(1).normal(shape, F64)
    prediction = head(output)
    assert prediction.mean.shape == clean.shape
    assert prediction.logits.shape[-1] == 5
    # The cross-entropy of each group, against PyTorch's, group by group.
    loss = GaussianDiffusion().loss(prediction, clean, clean, torch.zeros(2, 1, 1, dtype=F64))
    logits = output.movedim(axis, -1).reshape(-1, 5)
    label = data.movedim(axis, -1).flatten()
    nats = nn.functional.cross_entropy(logits, label, reduction="none").reshape(2, -1).mean(1)
    torch.testing.assert_close(loss[:, 0, 0], nats)
    decoded = codec.decode(
        head(
            1e3
            * nn.functional.one_hot(data.movedim(axis, -1), 5)
            .flatten(-2)
            .double()
            .movedim(-1, axis)
        ).mean
    )
    assert torch.equal(decoded, data)


@pytest.mark.parametrize("size", [100.0, -100.0])
def test_cross_entropy_heads_stay_finite_in_float32(size):
    table = Bits(5).table
    clean = table[torch.tensor([0, 3])]
    for head, output in (
        (SigmoidHead(), torch.full((2, 3), size)),
        (SoftmaxHead(table), size * (torch.arange(5) == 1).float().expand(2, 5)),
    ):
        output = output.clone().requires_grad_()
        prediction = head(output)
        loss = GaussianDiffusion().loss(prediction, clean, clean, torch.tensor([0.0, 1.0]))
        (grad,) = torch.autograd.grad(loss.sum(), output)
        for value in (prediction.mean, loss, grad):
            assert value.isfinite().all()
            assert value.dtype == torch.float32
        # And it is right: a certain and wrong bit costs |f| nats, a class 100 or ln 4.
        if isinstance(head, SigmoidHead):
            wrong = (clean > 0) != (size > 0)
            torch.testing.assert_close(loss[:, 0], 100 * wrong.float().mean(1))
        else:
            expected = 100.0 if size > 0 else math.log(4)
            torch.testing.assert_close(loss[:, 0], torch.full((2,), expected))


def test_logits_survive_where_the_mean_is_saturated():
    """In float32 tanh(50) is 1: the loss must read the logits."""
    f = torch.tensor([[50.0, 60.0]], requires_grad=True)
    loss = GaussianDiffusion().loss(SigmoidHead()(f), -torch.ones(1, 2), f, torch.tensor(0.5))
    torch.testing.assert_close(loss, torch.tensor([[55.0]]))
    loss.sum().backward()
    torch.testing.assert_close(f.grad, torch.full((1, 2), 0.5))


def test_hidden_states_and_carries_pass_through():
    class Remembers(nn.Module):
        def forward(self, x, log_snr, cond=None):
            return x, x + 1

    x, carry = normal(2, 3), {"other": {"x": torch.ones(2)}}
    says, after = Preconditioned(Remembers(), Cosine())(x, at(0.5), None, carry)
    torch.testing.assert_close(says.hidden, x + 1)
    assert after == carry
    assert after is not carry
    assert Preconditioned(Says(x), Cosine())(x, at(0.5))[0].hidden is None


def test_everything_after_the_network_leaves_autocast():
    class Product(nn.Module):
        def forward(self, x, log_snr, cond=None):
            self.output = x @ x
            return self.output

    network, x = Product(), normal(3, 3).float()
    with torch.autocast("cpu", torch.bfloat16):
        mean = Preconditioned(network, Cosine(), target="v")(x, at(0.5))[0].mean
    assert network.output.dtype == torch.bfloat16
    alpha, sigma = Cosine()(at(0.5))
    torch.testing.assert_close(mean, float(alpha) * x - float(sigma) * network.output.float())


def test_a_clipped_denoiser_keeps_what_else_was_said():
    x = normal(20, 3)
    inner = Preconditioned(Says(3 * x), Cosine(), head=SigmoidHead(2.0))
    says, _ = Clipped(inner, 1.0)(x, at(0.5))
    assert torch.equal(says.mean, inner(x, at(0.5))[0].mean.clamp(-1, 1))
    assert torch.equal(says.logits, 3 * x)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Preconditioned(nn.Identity(), Cosine(), target="x"), "one of x0, eps, v, edm"),
        (lambda: Preconditioned(nn.Identity(), RectifiedFlow(), target="eps"), "alpha = 0"),
        (
            lambda: Preconditioned(nn.Identity(), ScaledCosine(clip=0.0), target="eps"),
            "use 'x0' or 'v'",
        ),
        (lambda: Preconditioned(nn.Identity(), Cosine(), target="v", head=SigmoidHead()), "x0"),
        (lambda: SoftmaxHead(Bits(5).table).outputs(4), "groups of 3"),
        (lambda: Preconditioned(nn.Identity(), Cosine(), clock=0.0), "clock must be in"),
        (lambda: Preconditioned(nn.Identity(), Cosine(), clock=21.0), "clock must be in"),
    ],
)
def test_impossible_denoisers_raise(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_heads_ask_for_their_outputs():
    assert LinearHead().outputs(24) == SigmoidHead().outputs(24) == 24
    assert SoftmaxHead(Bits(256).table).outputs(24) == 3 * 256
    assert isinstance(LinearHead()(torch.ones(2)), Prediction)
    assert Constant(Cosine(), 2.0)(torch.ones(2), at(0.5))[0].mean.tolist() == [2, 2]
