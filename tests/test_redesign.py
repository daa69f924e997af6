"""Sites of a redesign: exactly so many, drawn by their law, and gains against a plain scan."""

import itertools
import math

import pytest
import torch
from torch import nn

import noiseloom as nl
from noiseloom import Rng, free_sites, substitution_gains
from noiseloom.context import Guide
from noiseloom.redesign import sites_of


@pytest.mark.parametrize("count", [0, 1, 3, 6, 9])
def test_so_many_sites_are_free_and_none_that_is_not_allowed(count):
    allowed = torch.rand(200, 8, generator=torch.Generator().manual_seed(0)) < 0.6
    gains = torch.randn(8, generator=torch.Generator().manual_seed(1))
    for options in ({}, {"gains": gains}, {"gains": gains, "temperature": 0.0}):
        free = free_sites(allowed, count, Rng(0).samples(200), **options)
        assert (free <= allowed).all()
        assert torch.equal(free.sum(1), allowed.sum(1).clamp_max(count))


def test_a_sample_has_its_sites_alone_and_among_others():
    allowed = torch.ones(10, 30, dtype=torch.bool)
    all_of_them = free_sites(allowed, 4, Rng(5).samples(10))
    assert torch.equal(free_sites(allowed[:3], 4, Rng(5).samples(3, 6)), all_of_them[6:9])
    assert len({tuple(row) for row in all_of_them.tolist()}) == 10


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_sets_of_sites_come_with_the_probability_of_draws_without_putting_back(temperature):
    n, gains = 40_000, torch.tensor([0.0, 1.0, -0.5, 0.3])
    allowed = torch.tensor([True, True, True, True, False]).expand(n, 5)
    free = free_sites(
        allowed, 2, Rng(1), gains=torch.cat((gains, gains[:1] + 9)), temperature=temperature
    )
    weight = (gains / temperature).exp().tolist()
    total = sum(weight)
    for a, b in itertools.combinations(range(4), 2):
        p = sum(weight[i] / total * weight[j] / (total - weight[i]) for i, j in ((a, b), (b, a)))
        share = float((free[:, a] & free[:, b]).double().mean())
        assert share == pytest.approx(p, abs=5 * math.sqrt(p * (1 - p) / n))


def test_without_gains_any_set_is_as_likely_as_another():
    n = 30_000
    free = free_sites(torch.ones(n, 4, dtype=torch.bool), 2, Rng(2))
    for a, b in itertools.combinations(range(4), 2):
        share = float((free[:, a] & free[:, b]).double().mean())
        assert share == pytest.approx(1 / 6, abs=5 * math.sqrt(5 / 36 / n))


def test_at_temperature_nothing_the_largest_gains_are_taken():
    gains = torch.tensor([0.1, 3.0, -2.0, 0.2, 2.0])
    allowed = torch.tensor([[True, True, True, True, False]])
    free = free_sites(allowed, 2, Rng(0), gains=gains, temperature=0.0)
    assert free.tolist() == [[False, True, False, True, False]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": -1}, "count >= 0"),
        ({"temperature": -1.0}, "temperature >= 0"),
        ({"gains": torch.zeros(4)}, "gains must be finite"),
        ({"gains": torch.full((3,), torch.nan)}, "gains must be finite"),
        ({"allowed": torch.ones(2, 3)}, "allowed must be bool"),
    ],
)
def test_what_cannot_be_chosen_by_is_refused(change, message):
    options = {"allowed": torch.ones(2, 3, dtype=torch.bool), "count": 1, "rng": Rng(0), **change}
    with pytest.raises(ValueError, match=message):
        free_sites(options.pop("allowed"), options.pop("count"), options.pop("rng"), **options)


def test_sites_are_read_as_people_write_them():
    assert sites_of("2-3, 5", 5).nonzero()[:, 0].tolist() == [1, 2, 4]
    for text, message in [
        ("0", "sites 1 to 5, and 0"),
        ("4-6", "sites 1 to 5, and 4-6"),
        ("3-2", "and 3-2 is none"),
        ("", "numbers and stretches"),
        ("1,x", "got 'x'"),
        ("1,,2", "got ''"),
    ]:
        with pytest.raises(ValueError, match=message):
            sites_of(text, 5)


class Reads(nn.Module):
    """Not linear in the tokens: products of neighbours."""

    def __init__(self):
        super().__init__()
        with Rng(3).torch():
            self.map = nn.Linear(5, 4)

    def forward(self, x, log_snr, cond=None):
        h = self.map(x)
        return torch.tanh((h[:, 1:] * h[:, :-1]).sum(1))


@pytest.mark.parametrize("kind", ["absorbing", "uniform"])
def test_gains_are_those_of_every_substitution(kind):
    classes = 4 if kind == "absorbing" else 5
    diffusion = nl.CategoricalDiffusion(classes, kind)
    with Rng(4).torch():
        guide = Guide(Reads(), diffusion, 4)
    guide.fit(torch.tensor([[0.0], [10.0]]))
    guide.eval()
    x, ask = torch.tensor([1, 3, 0, 2, 2, 1]), nl.acquisition.ucb(0.5)
    gains = substitution_gains(guide, ask, x, 4, batch_size=7)
    assert gains.shape == (6, 4)
    for i, k in itertools.product(range(6), range(4)):
        other = x.clone()
        other[i] = k
        with torch.no_grad():
            pair = ask(guide.predict(torch.stack((other, x)), torch.zeros(2)))
        assert float(gains[i, k]) == pytest.approx(float(pair[0] - pair[1]), abs=1e-4)
    assert (gains[torch.arange(6), x] == 0).all()
    with pytest.raises(ValueError, match="one row of classes"):
        substitution_gains(guide, ask, x[None], 4)
