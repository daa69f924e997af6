"""NOS: hidden states that a guide moves. And masks, of which it is mostly used (check 15).

Names say which of the checks of section 10 of the notes on Context-Guided Diffusion a test is.
"""

from itertools import pairwise

import pytest
import torch
from oracles import F64
from torch import nn

from noiseloom import (
    CategoricalDiffusion,
    ClassDenoiser,
    CodeDenoiser,
    Cosine,
    LinearGamma,
    Prediction,
    Rng,
    SamplingPlan,
    SelfConditioned,
    denoising_loss,
    final,
    sample,
)
from noiseloom.context import ContextRegulariser, Guide, GuideEnsemble, guide_loss
from noiseloom.encodings import Bits
from noiseloom.guidance import HiddenGuided, acquisition, hidden_guided, state_value
from noiseloom.nets import MLP, PooledStates, Transformer

K, T, W, F = 4, 6, 16, 5


def stirred(network, seed=7):
    """Not zero at the end, where untrained networks are."""
    with Rng(seed).torch():
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.3)
    return network.eval()


def network(features=K + 1, seed=7, **options):
    made = Transformer(features, K, max_length=T, width=W, depth=2, heads=2, **options)
    return stirred(made, seed)


def value(h, cond):
    """Smooth, of all tokens."""
    weights = Rng(3).normal((W,), h.dtype)
    return (h @ weights).sin().mean(1)


def coupled(h, cond):
    """Smooth, of all tokens together: what moves one changes the slope at the others."""
    return 3 * (h @ Rng(3).normal((W,), h.dtype)).mean(1).sin()


DIFFUSION = CategoricalDiffusion(K)
X = torch.tensor([[4, 4, 0, 4, 2, 4], [1, 4, 4, 4, 4, 4], [4, 3, 3, 0, 4, 1]])
FREE = X == 4
TIME = torch.tensor([0.3, 0.8, 0.5])


def logits(own, x=X, cond=None):
    return own(x, TIME, cond)[0].logits


def apart(before, after):
    """KL of the laws of masked tokens, shape (B, T)."""
    p, q = (v.log_softmax(-1) for v in (after, before))
    return torch.where(FREE, (p.exp() * (p - q)).nan_to_num(0.0).sum(-1), 0)


def moved(h_of, own, x=X, **cond):
    """What v says of the states that the guided network finishes from."""
    hook, seen = own.inner.network, []

    class Listening(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = hook.network

        def states(self, *given):
            return self.inner.states(*given)

        def finish(self, h, rest):
            seen.append(h)
            return self.inner.finish(h, rest)

    hook.network = Listening()
    own(x, TIME, cond)
    hook.network = hook.network.inner
    return h_of(seen[-1], {})


def test_the_network_stops_and_goes_on():
    for options in ({}, {"hidden_conditioning": True}, {"rotary": True}):
        own, x, log_snr = network(**options), Rng(0).normal((3, T, K + 1)), torch.zeros(3)
        whole, halves = own(x, log_snr), own.finish(*own.states(x, log_snr))
        pairs = zip(whole, halves, strict=True) if isinstance(whole, tuple) else [(whole, halves)]
        assert all(torch.equal(a, b) for a, b in pairs)
        h, rest = own.states(x, log_snr)
        other = h.clone()
        other[:, 2] += Rng(1).normal((3, W))
        said = [own.finish(v, rest) for v in (h, other)]
        a, b = ((v[0] if isinstance(v, tuple) else v) for v in said)
        changed = (a != b).any(-1)
        assert changed[:, 2].all()
        assert not changed[:, [0, 1, 3, 4, 5]].any()


def test_check_14_without_steps_the_logits_are_the_unguided_ones():
    plain = ClassDenoiser(network(), DIFFUSION)
    assert torch.equal(logits(hidden_guided(plain, value, steps=0)), logits(plain))
    assert not torch.equal(logits(hidden_guided(plain, value, steps=3)), logits(plain))


@pytest.mark.parametrize("free", [None, [0, 1, 1, 0, 0, 0], "rows"])
def test_check_14_tokens_that_are_not_free_never_change(free):
    plain = ClassDenoiser(network(), DIFFUSION)
    own, cond, right = hidden_guided(plain, value, steps=5), {}, FREE
    if free == "rows":
        right = torch.arange(18).reshape(3, 6) % 2 == 0
        cond["free"] = right
    elif free is not None:
        right = torch.tensor(free, dtype=torch.bool)
        cond["free"] = right
    before, after = (
        d.inner.network(nn.functional.one_hot(X, K + 1).float(), torch.zeros(3), c)
        for d, c in ((plain, {}), (own, cond))
    )
    changed = (before != after).any(-1)
    assert torch.equal(changed, right.expand(3, 6))


def test_check_14_the_value_is_asked_of_states_whose_fixed_tokens_stay():
    seen = []

    def watched(h, cond):
        seen.append(h.detach())
        return coupled(h, cond)

    logits(hidden_guided(ClassDenoiser(network(), DIFFUSION), watched, steps=4))
    assert len(seen) == 4
    for h in seen[1:]:
        assert torch.equal((h != seen[0]).any(-1), FREE)


def test_check_14_the_divergence_is_positive_and_falls_with_stability():
    plain = ClassDenoiser(network(), DIFFUSION)
    before, spreads, worths = logits(plain), [], []
    for stability in (0.0, 0.1, 1.0, 10.0):
        own = hidden_guided(plain, value, steps=40, rate=0.1, stability=stability)
        kl = apart(before, logits(own)).detach()
        assert (kl >= -1e-6).all()
        spreads.append(float(kl.sum(1).mean()))
        worths.append(float(moved(value, own).detach().mean()))
    start = hidden_guided(plain, value, steps=0)
    worths.append(float(moved(value, start).detach().mean()))
    assert all(a > 1.5 * b for a, b in pairwise(spreads)), spreads
    assert all(a > b for a, b in pairwise(worths)), worths


@pytest.mark.parametrize("worth", [value, coupled])
def test_the_steps_are_adagrads(worth):
    """Against torch's own, on -v + lambda KL, where tokens that are not free stay."""
    net = network().double()
    x, log_snr = nn.functional.one_hot(X, K + 1).double(), torch.zeros(3)
    free = FREE.double()[..., None]
    with torch.no_grad():
        h, rest = net.states(x, log_snr)
        before = net.finish(h, rest).log_softmax(-1)
    delta = torch.zeros_like(h, requires_grad=True)
    adagrad = torch.optim.Adagrad([delta], 0.3)
    for _ in range(4):
        adagrad.zero_grad()
        after = net.finish(h + free * delta, rest).log_softmax(-1)
        kl = nn.functional.kl_div(before, after, reduction="sum", log_target=True)
        (0.2 * kl - worth(h + free * delta, {}).sum()).backward()
        adagrad.step()
    right = net.finish(h + free * delta.detach(), rest)
    own = HiddenGuided(net, worth, steps=4, rate=0.3, stability=0.2, mask=K)
    torch.testing.assert_close(own(x, log_snr), right)


def test_rows_do_not_depend_on_the_batch_that_they_are_in():
    own = hidden_guided(ClassDenoiser(network(), DIFFUSION), value, steps=4)
    whole = logits(own)
    for row in range(3):
        alone = own(X[row : row + 1], TIME[row : row + 1])[0].logits
        torch.testing.assert_close(alone[0], whole[row], rtol=1e-4, atol=1e-4)


def test_weights_are_shared_and_the_denoiser_stays_as_it_is():
    for wrap in (lambda d: d, SelfConditioned):
        conditioned = wrap is SelfConditioned
        plain = wrap(ClassDenoiser(network(self_conditioning=conditioned), DIFFUSION))
        guided = hidden_guided(plain, value)
        assert type(guided) is type(plain)
        assert {id(p) for p in guided.parameters()} == {id(p) for p in plain.parameters()}
        assert not any(isinstance(m, HiddenGuided) for m in plain.modules())
        x = DIFFUSION.prior((2, T), Rng(0))
        steps = sample(guided, DIFFUSION, SamplingPlan.uniform(4), x, rng=Rng(1))
        end = final(steps)
        assert not (end.x == K).any()
        assert not end.prediction.mean.requires_grad
        assert all(p.grad is None for p in plain.parameters())


@pytest.mark.parametrize("kind", ["uniform", "codes"])
def test_without_masks_all_tokens_are_free(kind):
    if kind == "uniform":
        diffusion = CategoricalDiffusion(K, "uniform")
        plain, x = ClassDenoiser(network(K), diffusion), X.clamp(max=K - 1)
    else:
        table = Bits(K).table
        plain = CodeDenoiser(network(sum(table.shape)), Cosine(), table)
        x = Rng(0).normal((3, T, table.shape[1]))
    own = hidden_guided(plain, value, steps=3)
    with torch.no_grad():
        before, after = (d(x, TIME)[0].mean for d in (plain, own))
    assert (before != after).any(-1).all()


# Guides that read hidden states


def guide_of(net, targets=1, seed=0):
    with Rng(seed).torch():
        guide = Guide(PooledStates(net, W, F), DIFFUSION, F, targets)
    guide.fit(torch.tensor([[1.0] * targets, [5.0] * targets]))
    return guide.eval()


def test_a_guide_of_pooled_states_says_the_same_of_states_as_of_tokens():
    net = network()
    guides = [guide_of(net, seed=i) for i in range(2)]
    aim, cond = acquisition.lcb(0.7), {"mask": torch.arange(T) < torch.tensor([[6], [4], [5]])}
    seen, log_snr = guides[0].inputs(X, TIME)
    h, _ = net.states(seen, log_snr, cond)
    for own in (guides[0], GuideEnsemble(guides)):
        right = aim(own.predict(X, TIME, cond))
        torch.testing.assert_close(state_value(own, aim)(h, cond), right)
    # What the denoiser's own network makes of the same tokens is what the guide reads.
    denoiser = hidden_guided(ClassDenoiser(net, DIFFUSION), state_value(guides[0], aim), steps=0)
    got = moved(state_value(guides[0], aim), denoiser)
    torch.testing.assert_close(got, aim(guides[0].predict(X, TIME)))


def test_padded_tokens_do_not_count_and_encoders_stay_as_they_are():
    net = network()
    pooled = guide_of(net).network
    h = Rng(0).normal((3, T, W))
    mask = torch.arange(T) < torch.tensor([[6], [4], [0]])
    other = torch.where(mask[..., None], h, 100.0)
    torch.testing.assert_close(
        pooled.pooled(h, {"mask": mask}), pooled.pooled(other, {"mask": mask})
    )
    torch.testing.assert_close(pooled.pooled(h)[:1], pooled.pooled(h, {"mask": mask})[:1])
    assert not any(p.requires_grad for p in net.parameters())
    assert PooledStates(network(), W, F, learn=True).encoder.input.weight.requires_grad


def test_a_frozen_copy_of_the_encoder_gives_the_contexts_features():
    def build():
        return PooledStates(Transformer(K + 1, K, max_length=T, width=W, depth=1, heads=2), W, F)

    term = ContextRegulariser(build, Rng(0), samples=9)
    seen, log_snr = guide_of(network()).inputs(X, TIME)
    features = term.random(seen, log_snr)
    assert features.shape == (3, F)
    assert features.std(0).min() > 0.01
    assert not list(term.parameters())


def test_guided_sequences_have_more_of_what_is_asked_for():
    """Rows that are rich or poor in class 0; denoiser and guide learn for a second each.

    What is asked for is the share of zeros: it can be counted.
    """
    rng = Rng(0)
    rich = rng.fold("rich").uniform((600, 1)) < 0.5
    clean = torch.where(
        rng.fold("zero").uniform((600, T)) < torch.where(rich, 0.5, 0.1),
        0,
        1 + rng.fold("other").integers(K - 1, (600, T)),
    )
    share = (clean == 0).double().mean(1, keepdim=True).float()
    net = network()
    plain = ClassDenoiser(net, DIFFUSION)
    adam = torch.optim.Adam(net.parameters(), 3e-3)
    for i in range(200):
        rows = rng.fold("rows", i).integers(600, (64,))
        t = rng.fold("t", i).uniform((64,))
        denoising_loss(
            plain, DIFFUSION, clean[rows], t, None, rng.fold("step", i), cross_entropy=True
        ).mean().backward()
        adam.step()
        adam.zero_grad()
    guide = guide_of(net)
    guide.fit(share)
    adam = torch.optim.Adam([p for p in guide.parameters() if p.requires_grad], 1e-2)
    for i in range(200):
        rows = rng.fold("guide rows", i).integers(600, (64,))
        guide_loss(guide, clean[rows], share[rows], rng.fold("guide", i)).mean().backward()
        adam.step()
        adam.zero_grad()
    x, plan = DIFFUSION.prior((1500, T), Rng(0)), SamplingPlan.uniform(6)

    def zeros(minimise, steps):
        value = state_value(guide, acquisition.mean(minimise=minimise))
        own = hidden_guided(plain, value, steps=steps)
        end = final(sample(own, DIFFUSION, plan, x, rng=Rng(1))).x
        return (end == 0).double().mean(1)

    unguided, fewer, more = zeros(False, 0), zeros(True, 10), zeros(False, 10)
    error = float((2 * unguided.var() / 1500).sqrt())
    assert float(unguided.mean()) == pytest.approx(float(share.mean()), abs=0.1)
    assert float(more.mean() - unguided.mean()) > 5 * error
    assert float(unguided.mean() - fewer.mean()) > 5 * error


# Check 15: masks


def test_check_15_the_weight_of_a_masked_token_is_one_over_the_time():
    clean = torch.tensor([[1, 2, 0, 3]])
    p = Rng(0).uniform((1, 4, K), F64)
    prediction = Prediction(p / p.sum(-1, keepdim=True))
    x = torch.tensor([[K, 2, K, K]])
    for t in (0.05, 0.4, 1.0):
        diffusion = CategoricalDiffusion(K, schedule=LinearGamma(clip=0.0))
        times = torch.full((1, 4), t, dtype=F64)
        loss = diffusion.loss(prediction, clean, x, times)
        nats = -prediction.mean.gather(-1, clean[..., None])[..., 0].log()
        right = torch.where(x == K, nats / t, 0)
        torch.testing.assert_close(loss, right, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("steps", [1, 3, 20])
def test_check_15_no_mask_remains_and_one_token_has_the_law_of_the_data(steps):
    law = torch.tensor([0.45, 0.3, 0.2, 0.05], dtype=F64)

    class Exact(nn.Module):
        def forward(self, x, t, cond=None, carry=None, rng=None):
            p = law * DIFFUSION.evidence(x, t).double().exp()
            return Prediction(p / p.sum(-1, keepdim=True)), {}

    n = 20000
    x = DIFFUSION.prior((n, 1), Rng(0))
    end = final(sample(Exact(), DIFFUSION, SamplingPlan.uniform(steps), x, rng=Rng(steps))).x
    assert not (end == K).any()
    count, expected = torch.bincount(end[:, 0], minlength=K).double(), n * law
    chi = float(((count - expected).square() / expected).sum())
    assert chi < 16.3  # 0.1 % of chi^2 with 3 degrees of freedom


# Errors


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HiddenGuided(network(), value, steps=-1), "steps >= 0"),
        (lambda: HiddenGuided(network(), value, rate=0.0), "rate > 0"),
        (lambda: HiddenGuided(MLP(2, 2), value), "MLP has no states to move"),
        (lambda: hidden_guided(network(), value), "Transformer is no denoiser of classes"),
        (
            lambda: logits(hidden_guided(ClassDenoiser(network(), DIFFUSION), lambda h, c: h)),
            r"one number per example, shape \(3,\)",
        ),
        (
            lambda: logits(
                hidden_guided(ClassDenoiser(network(), DIFFUSION), value),
                cond={"free": torch.ones(4)},
            ),
            r"free tokens of shape \(4,\) for tokens of \(3, 6\)",
        ),
    ],
)
def test_what_cannot_be_is_said_in_one_line(make, message):
    with pytest.raises(ValueError, match=message) as said:
        make()
    assert "\n" not in str(said.value)


def test_classes_that_are_looked_up_are_free_where_they_are_masked():
    net = network().double()
    own = HiddenGuided(net, value, steps=2, rate=0.3, mask=K)
    vectors = nn.functional.one_hot(X, K + 1).double()
    torch.testing.assert_close(own(X, torch.zeros(3)), own(vectors, torch.zeros(3)))
