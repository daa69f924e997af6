"""The diffusion prior: with the exact denoiser it is the law, and it learns one."""

import math

import pytest
import torch
from prior_cases import (
    SMALL,
    bits,
    entropy,
    every,
    frequencies,
    law,
    tabular,
    total_variation,
)
from torch import nn
from torch.nn import functional

from noiseloom.priors import BitsPrior
from noiseloom.rng import Rng


class Exact(nn.Module):
    """The posterior of every position given noisy bits, for a known law of all codes."""

    def __init__(self, p, codec, codes, k):
        super().__init__()
        self.p = nn.Parameter(p.float(), requires_grad=False)
        self.clean, self.values = codec.encode(codes), functional.one_hot(codes, k).float()

    def forward(self, x, log_snr, cond=None):
        alpha, sigma = log_snr.sigmoid().sqrt(), (-log_snr).sigmoid().sqrt()
        off = x[:, None] - alpha[:, None, None, None] * self.clean
        fit = -off.square().sum((2, 3)) / (2 * sigma[:, None] ** 2)
        share = (self.p.log() + fit).softmax(-1)
        return torch.einsum("bz,zmk->bmk", share, self.values).clamp(min=1e-30).log()


def exact(p, m, k, **options):
    prior = BitsPrior(m, k, **{**SMALL, **options})
    prior.denoiser.denoiser.network = Exact(p, prior.codec, every(m, k), k)
    return prior.eval()


def test_the_exact_denoiser_samples_the_law():
    p = law(2, 5)[0]  # 5 of 8 codes are valid
    found = frequencies(exact(p, 2, 5, steps=30).sample(4000, Rng(3)), 5)
    by_chance = float((p * (1 - p) / 4000).sqrt().sum() * math.sqrt(2 / math.pi) / 2)
    assert total_variation(found, p) < by_chance + 0.02


@pytest.mark.parametrize(("m", "end"), [(2, 6.0), (1, 6.0), (1, 0.0)])
def test_the_bound_is_tight_for_the_exact_denoiser(monkeypatch, m, end):
    # At log-SNR 0 much is left to say of a code, which is exact for one position.
    monkeypatch.setattr("noiseloom.priors.bits._CLEAN", end)
    p = law(m, 5)[0]
    prior, codes = exact(p, m, 5), every(m, 5)
    rounds = 200
    said = prior.log_prob(codes.repeat(rounds, 1)).reshape(rounds, -1).double()
    gap = (p * said).sum(1) - (p * p.log()).sum()  # one estimate of the mean a round
    assert abs(float(gap.mean())) < 5 * float(gap.std()) / math.sqrt(rounds)
    assert float(gap.std()) / math.sqrt(rounds) < 0.04


def test_the_bound_of_a_wrong_law_is_its_divergence():
    p, q = law(2, 3)[0], law(2, 3, seed=1)[0]
    nats = -exact(q, 2, 3).log_prob(tabular(2, 3).sample(5000, Rng(0))).double()
    expected = -float((p * q.log()).sum())  # H(p) + KL(p, q)
    assert abs(float(nats.mean()) - expected) < 5 * float(nats.std()) / math.sqrt(5000)
    assert expected > entropy(p) + 0.3


def test_a_bound_has_one_number_by_default():
    prior, codes = bits(2, 5), every(2, 5)
    assert torch.equal(prior.log_prob(codes), prior.log_prob(codes))
    assert not torch.equal(prior.log_prob(codes), prior.log_prob(codes, rng=Rng(1)))
    with pytest.raises(ValueError, match="draws must be at least 1, got 0"):
        prior.log_prob(codes, draws=0)


def test_the_loss_of_a_sample_follows_its_key_and_its_place():
    prior = bits(2, 5, num_classes=2, dropout=0.3, label_drop=0.5).train()
    codes, label = every(2, 5), torch.arange(25) % 2
    read = []
    network = prior.denoiser.denoiser.network
    network.register_forward_pre_hook(lambda _, args: read.append(len(args[0])))
    whole = prior.loss(codes, label, Rng(1))
    rows = torch.arange(11, 16)  # an odd place: every other one takes the first pass
    part = prior.loss(codes[11:16], label[11:16], Rng(1).samples(5, start=11), rows)
    torch.testing.assert_close(part, whole[11:16])
    assert whole.shape == (25,)
    (first, all_), (fewer, five) = read[:2], read[2:]
    assert (all_, five) == (25, 5)
    assert first in (12, 13)
    assert fewer in (2, 3)


def test_what_a_diffusion_has_not_is_refused():
    for options in ({"temperature": 0.5}, {"top_p": 0.9}):
        with pytest.raises(ValueError, match="prior by diffusion, which has neither"):
            bits(2, 5).sample(2, Rng(0), **options)
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        BitsPrior(2, 5, steps=0)
    with pytest.raises(ValueError, match=r"label_drop must be in \[0, 1\], got -1"):
        BitsPrior(2, 5, label_drop=-1)


@pytest.mark.slow
def test_it_learns_a_law_of_every_class():
    p, codes = law(2, 5, 2), every(2, 5)
    with Rng(0).torch():
        prior = BitsPrior(2, 5, num_classes=2, **{**SMALL, "width": 32})
    steps, batch = 1500, 256
    optimizer = torch.optim.Adam(prior.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    label = torch.arange(batch) * 2 // batch  # not every other: those take the first pass
    sums = p.cumsum(1) / p.sum(1, keepdim=True)
    for step in range(steps):
        rng = Rng(step)
        u = rng.fold("data").uniform((batch, 1), torch.float64)
        loss = prior.loss(codes[(sums[label] < u).sum(1)], label, rng).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    prior.eval()
    for c in range(2):
        found = frequencies(prior.sample(torch.full((10_000,), c), Rng(7)), 5)
        assert total_variation(found, p[c]) < 0.1
        assert total_variation(found, p[1 - c]) > 0.3
    nats = -(p[0] * prior.log_prob(codes.repeat(100, 1), torch.zeros(2500).long()).reshape(100, 25))
    assert entropy(p[0]) - 0.2 < float(nats.sum(1).mean()) < 2 * math.log(5)
