"""Tables: counts, smoothing, and samples."""

import math

import pytest
import torch
from prior_cases import assert_drawn_from, every, tabular

from noiseloom.priors import TabularPrior
from noiseloom.rng import Rng

CODES = torch.tensor([[0, 0], [0, 0], [1, 2], [2, 0]])
LABEL = torch.tensor([0, 1, 1, 3])  # one without a class, and none of class 2


def probabilities(prior, label=None):
    label = None if label is None else torch.full((9,), label)
    return prior.log_prob(every(2, 3), label).exp().double()


def test_it_starts_uniform():
    torch.testing.assert_close(
        TabularPrior(2, 3, 4).log_prob(CODES, LABEL), torch.full((4,), -2 * math.log(3))
    )


def test_without_smoothing_it_is_the_table_of_frequencies():
    prior = TabularPrior(2, 3, 3)
    prior.fit(CODES, LABEL, smoothing=0)
    everything = torch.tensor([2, 0, 0, 0, 0, 1, 1, 0, 0]) / 4
    torch.testing.assert_close(probabilities(prior), everything.double())
    assert probabilities(prior, 0)[0] == 1
    torch.testing.assert_close(probabilities(prior, 1)[[0, 5]], torch.tensor([0.5, 0.5]).double())
    torch.testing.assert_close(probabilities(prior, 2), everything.double())
    assert prior.entropy() == pytest.approx(1.5 * math.log(2))
    assert prior.entropy(0) == 0


def test_it_draws_what_it_has_counted():
    prior = TabularPrior(2, 3, 3)
    prior.fit(CODES, LABEL, smoothing=0)
    assert prior.sample(200, Rng(0)).unique(dim=0).tolist() == [[0, 0], [1, 2], [2, 0]]
    one = prior.sample(torch.ones(200, dtype=torch.int64), Rng(0))
    assert one.unique(dim=0).tolist() == [[0, 0], [1, 2]]


def test_smoothing_is_samples_of_a_wider_law():
    prior = TabularPrior(2, 3, 3)
    prior.fit(CODES, LABEL, smoothing=2)
    everything = (torch.tensor([2, 0, 0, 0, 0, 1, 1, 0, 0]) + 2 / 9) / 6
    torch.testing.assert_close(probabilities(prior), everything.double())
    one = torch.zeros(9).index_fill(0, torch.tensor([0, 5]), 1)
    torch.testing.assert_close(probabilities(prior, 1), ((one + 2 * everything) / 4).double())
    torch.testing.assert_close(probabilities(prior, 2), everything.double())
    torch.testing.assert_close(prior.table.sum(1), torch.ones(4).double())


def test_no_law_is_likelier_than_the_frequencies():
    codes = tabular(2, 4, seed=3).sample(500, Rng(2))
    prior = TabularPrior(2, 4)
    prior.fit(codes, smoothing=0)
    least = -prior.log_prob(codes).mean()
    assert float(least) == pytest.approx(prior.entropy(), rel=1e-6)
    for seed in range(3):
        assert -tabular(2, 4, seed=seed).log_prob(codes).mean() > least


@pytest.mark.parametrize("label", [0, 1, 2])
def test_samples_are_from_the_table(label):
    prior = tabular(3, 4, 2)
    codes = prior.sample(torch.full((6000,), label), Rng(label))
    assert_drawn_from(codes, prior.table[label], 4)


def test_other_samples_are_not():
    prior = tabular(3, 4, 2)
    with pytest.raises(AssertionError):
        assert_drawn_from(prior.sample(torch.full((6000,), 0), Rng(0)), prior.table[1], 4)


def test_temperature_0_is_the_greedy_chain():
    prior = tabular(3, 4)
    table = prior.table[0].reshape(4, 4, 4)
    a = int(table.sum((1, 2)).argmax())
    b = int(table[a].sum(1).argmax())
    c = int(table[a, b].argmax())
    for temperature in (0.0, 1e-6):
        codes = prior.sample(50, Rng(0), temperature=temperature)
        assert codes.unique(dim=0).tolist() == [[a, b, c]]


def test_a_nucleus_of_every_factor():
    prior = tabular(2, 4)
    table = prior.table[0].reshape(4, 4)
    kept = set()
    for a in nucleus(table.sum(1), 0.6):
        kept |= {(a, b) for b in nucleus(table[a] / table[a].sum(), 0.6)}
    drawn = prior.sample(3000, Rng(0), top_p=0.6).unique(dim=0)
    assert {tuple(z) for z in drawn.tolist()} == kept
    assert len(kept) < 16


def nucleus(p, share):
    order, kept, mass = p.argsort(descending=True).tolist(), [], 0.0
    while mass < share:
        kept.append(order[len(kept)])
        mass += float(p[kept[-1]])
    return kept


def test_what_cannot_be_counted_is_refused():
    prior = TabularPrior(2, 3)
    with pytest.raises(ValueError, match="no codes to count"):
        prior.fit(CODES[:0])
    for smoothing in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"smoothing must be at least 0.*, got {smoothing}"):
            prior.fit(CODES, smoothing=smoothing)
    with pytest.raises(ValueError, match="prior without classes"):
        prior.fit(CODES, LABEL)
    with pytest.raises(ValueError, match=r"a table of 1 x 100\^10 entries is above .* 1048576"):
        TabularPrior(10, 100)
    with pytest.raises(ValueError, match=r"a table of 3 x 2\^19 entries"):
        TabularPrior(19, 2, 2)


def test_the_entropy_of_a_label_that_is_not_there_is_refused():
    prior = TabularPrior(2, 3, 4)
    assert prior.entropy(4) == prior.entropy()
    for label in (5, -1):
        with pytest.raises(ValueError, match=f"in 0 .. 3, or 4 for none, got .* {label} to"):
            prior.entropy(label)
    with pytest.raises(ValueError, match="prior without classes"):
        TabularPrior(2, 3).entropy(0)
