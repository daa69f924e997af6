"""The autoregressive prior: one law by every way of asking for it, and what it learns."""

import math

import pytest
import torch
from prior_cases import (
    SMALL,
    assert_drawn_from,
    autoregressive,
    entropy,
    every,
    law,
    tabular,
)

from noiseloom.priors import AutoregressivePrior, TabularPrior
from noiseloom.rng import Rng
from noiseloom.training.loop import train
from noiseloom.training.options import Training


@pytest.mark.parametrize("label", [None, 0, 1, 2])
def test_the_probabilities_of_all_codes_sum_to_1(label):
    prior = autoregressive(3, 4, num_classes=2)
    codes = every(3, 4)
    given = None if label is None else torch.full((64,), label)
    p = prior.log_prob(codes, given).double().exp()
    assert float(p.detach().sum()) == pytest.approx(1, abs=1e-5)
    assert p.max() > 2 / 64


def test_no_factor_changes_with_its_own_or_later_codes():
    prior = autoregressive(4, 3)
    codes = Rng(0).integers(3, (5, 4))
    whole = prior.conditionals(codes)
    for i in range(4):
        other = codes.clone()
        other[:, i:] = (other[:, i:] + 1) % 3
        assert torch.equal(prior.conditionals(other)[:, : i + 1], whole[:, : i + 1])


def test_the_log_probability_is_the_sum_of_the_steps():
    prior = autoregressive(4, 3, num_classes=2)
    codes, label = Rng(0).integers(3, (6, 4)), torch.arange(6) % 3
    total = torch.zeros(6)
    for i in range(4):  # from nothing but the codes before: the rest is zeros
        known = torch.cat((codes[:, :i], torch.zeros(6, 4 - i, dtype=torch.int64)), 1)
        total = total + prior.conditionals(known, label)[:, i].gather(1, codes[:, i : i + 1])[:, 0]
    torch.testing.assert_close(prior.log_prob(codes, label), total)


@pytest.mark.parametrize("label", [0, 2])
def test_samples_are_from_the_law(label):
    prior = autoregressive(3, 4, num_classes=2)
    given = torch.full((6000,), label)
    p = prior.log_prob(every(3, 4), given[:64]).detach().exp()
    assert_drawn_from(prior.sample(given, Rng(3)), p, 4)


@pytest.mark.parametrize(("temperature", "top_p"), [(0.5, 1.0), (2.0, 0.7), (0.0, 1.0), (1.0, 0.4)])
def test_it_samples_as_its_table_does(temperature, top_p):
    # The same numbers and the same factors: only rounding could tell the two apart.
    prior, table = autoregressive(3, 4, num_classes=2), TabularPrior(3, 4, 2)
    for label in range(3):
        given = torch.full((64,), label)
        table.table[label] = prior.log_prob(every(3, 4), given).detach().double().exp()
    label = torch.arange(300) % 3
    options = {"temperature": temperature, "top_p": top_p}
    drawn = prior.sample(label, Rng(0), **options)
    same = (drawn == table.sample(label, Rng(0), **options)).all(1)
    assert same.float().mean() > 0.98


def test_temperature_0_is_the_greedy_chain():
    prior = autoregressive(4, 3)
    codes = torch.zeros(1, 4, dtype=torch.int64)
    for i in range(4):
        codes[:, i] = prior.conditionals(codes)[:, i].argmax(-1)
    for temperature in (0.0, 1e-9):
        assert torch.equal(prior.sample(9, Rng(0), temperature=temperature), codes.expand(9, 4))


def fitted(prior, codes, p, label=None, steps=150):
    """Trained on the exact expectation: a full batch of all codes, weighted."""
    optimizer = torch.optim.Adam(prior.parameters(), 5e-3)
    for step in range(steps):
        loss = (p * prior.loss(codes, label, Rng(step))).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return prior.eval()


def test_it_learns_a_known_law():
    p, codes = law(3, 4)[0].float(), every(3, 4)
    with Rng(0).torch():
        prior = AutoregressivePrior(3, 4, **SMALL)
    start = (p * prior.loss(codes, None, Rng(0))).sum()
    assert float(start.detach()) == pytest.approx(3 * math.log(4), abs=1e-5)
    fitted(prior, codes, p)
    nats = -(p * prior.log_prob(codes).detach()).sum()
    divergence = float(nats) - entropy(p)
    assert -1e-5 < divergence < 0.01
    assert float(nats) < 3 * math.log(4)


def test_it_learns_the_law_of_every_class():
    p, codes = law(2, 3, 2).float(), every(2, 3)
    with Rng(0).torch():
        prior = AutoregressivePrior(2, 3, num_classes=2, label_drop=0.2, **SMALL)
    label = torch.arange(2).repeat_interleave(9)
    fitted(prior, codes.repeat(2, 1), p.flatten() / 2, label, steps=300)
    for c in range(2):
        nats = -(p[c] * prior.log_prob(codes, torch.full((9,), c)).detach()).sum()
        assert float(nats) - entropy(p[c]) < 0.01
    mixed = p.mean(0)  # the null class, by the labels that were dropped
    assert float(-(mixed * prior.log_prob(codes).detach()).sum()) - entropy(mixed) < 0.02


class Codes:
    """Codes as a data set."""

    def __init__(self, codes):
        self.codes = codes

    def __len__(self):
        return len(self.codes)

    def __getitem__(self, indices):
        return {"codes": self.codes[indices]}


def test_the_training_loop_trains_it(tmp_path):
    source = tabular(2, 4)
    codes = source.sample(4000, Rng(0))
    with Rng(0).torch():
        prior = AutoregressivePrior(2, 4, dropout=0.05, **SMALL)
    options = Training(steps=150, batch_size=128, learning_rate=5e-3, warmup=10, decay="cosine")
    for _ in train(
        prior,
        lambda model, batch, rng, rows: model.loss(batch["codes"], None, rng),
        Codes(codes),
        options,
        tmp_path / "run",
    ):
        pass
    prior.eval()
    best = TabularPrior(2, 4)
    best.fit(codes, smoothing=0)
    nats = float(-prior.log_prob(codes).detach().mean())
    # No law is below the entropy of the frequencies: it comes near, and is below that of no law.
    assert best.entropy() - 1e-4 < nats < best.entropy() + 0.05
    assert nats < 2 * math.log(4) - 0.3


def test_the_loss_of_a_sample_follows_its_key():
    prior = autoregressive(3, 4, num_classes=2, dropout=0.3, label_drop=0.5).train()
    codes, label = every(3, 4), torch.arange(64) % 2
    whole = prior.loss(codes, label, Rng(1))
    part = prior.loss(codes[20:30], label[20:30], Rng(1).samples(10, start=20))
    torch.testing.assert_close(part, whole[20:30])
    assert not torch.allclose(prior.loss(codes, label, Rng(2)), whole)


def test_labels_that_are_all_dropped_teach_nothing():
    prior = autoregressive(3, 4, num_classes=2, label_drop=1.0)
    codes = every(3, 4)
    dropped = prior.loss(codes, torch.arange(64) % 2, Rng(0))
    torch.testing.assert_close(dropped, -prior.log_prob(codes))
    with pytest.raises(ValueError, match=r"label_drop must be in \[0, 1\], got 2"):
        AutoregressivePrior(3, 4, **SMALL, label_drop=2)


def test_dropout_has_no_place_in_samples():
    prior = autoregressive(3, 4, dropout=0.3).train()
    with pytest.raises(ValueError, match=r"call \.eval"):
        prior.sample(2, Rng(0))
