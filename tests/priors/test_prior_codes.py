"""Priors made of plain values, and how many bits codes take them."""

import math
import re

import pytest
import torch
from prior_cases import entropy, law, tabular

from noiseloom.priors import (
    AutoregressivePrior,
    BitsPrior,
    Codes,
    PriorKind,
    TabularPrior,
    code_likelihoods,
    likelihood_note,
)
from noiseloom.rng import Rng


@pytest.mark.parametrize(
    ("kind", "made"),
    [("tabular", TabularPrior), ("autoregressive", AutoregressivePrior), ("bits", BitsPrior)],
)
@pytest.mark.parametrize("width", [6, 8])
def test_a_kind_makes_the_prior_it_says(kind, made, width):
    prior = PriorKind(kind, 2, 3, 5, width=width, depth=1).make().eval()
    assert type(prior) is made
    assert (prior.m, prior.k, prior.num_classes) == (2, 3, 5)
    assert prior.sample(torch.tensor([0, 4]), Rng(0)).shape == (2, 2)


def test_bits_of_codes_are_those_of_the_law_they_are_drawn_from():
    prior, n = tabular(2, 4, seed=1), 20000
    train, held = (Codes(prior.sample(n, Rng(seed))) for seed in (1, 2))
    found = code_likelihoods(prior, 4, train, held)
    p = law(2, 4, seed=1).reshape(4, 4)
    expected = entropy(p) / math.log(2)
    spread = float((p * (p.log2() + expected).square()).sum().sqrt()) / n**0.5
    assert found["prior_bits_train"] == pytest.approx(expected, abs=5 * spread)
    assert found["prior_bits_held_out"] == pytest.approx(expected, abs=5 * spread)
    marginals = (entropy(p.sum(0)) + entropy(p.sum(1))) / math.log(2)
    assert found["marginal_bits"] == pytest.approx(marginals, abs=0.05)
    assert expected + 0.05 < marginals < found["code_bits"] == 4
    assert code_likelihoods(None, 4, train, held).keys() == {"code_bits", "marginal_bits"}


def test_codes_are_taken_with_their_classes():
    codes = torch.arange(10).reshape(5, 2)
    batch = Codes(codes, torch.arange(5))[torch.tensor([3, 0])]
    assert batch["codes"].tolist() == [[6, 7], [0, 1]]
    assert batch["label"].tolist() == [3, 0]
    assert Codes(codes)[torch.tensor([1])].keys() == {"codes"}


@pytest.mark.parametrize(
    ("train", "held", "bound", "told"),
    [
        (480.0, 476.1, True, "the bound of the bits .* is 476.1, above the 3.0 .* train it longer"),
        (3.1, 3.2, False, "the number of bits .* is 3.2, above the 3.0 .* train it longer"),
        (2.0, 3.2, False, "above the 3.0 .* by heart"),
        (2.0, 2.5, True, "are an upper bound"),
        (3.0, 3.1, False, None),  # about as many as they hold is chance
    ],
)
def test_a_prior_that_tells_codes_worse_than_chance_is_noted(train, held, bound, told):
    found = {"code_bits": 3.0, "prior_bits_train": train, "prior_bits_held_out": held}
    note = likelihood_note(found, bound=bound)
    if told is None:
        assert note is None
    else:
        assert re.search(told, note)
        assert "\n" not in note


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"kind": "foo"}, "kind of a prior must be tabular, autoregressive or bits, got 'foo'"),
        ({"m": 0}, "m of a prior must be a whole number of at least 1, got 0"),
        ({"k": 2.5}, "k of a prior must be a whole number of at least 1, got 2.5"),
        ({"num_classes": 0}, "num_classes of a prior must be a whole number of at least 1, got 0"),
        ({"width": "wide"}, "width of a prior must be a whole number of at least 1, got 'wide'"),
        ({"depth": -1}, "depth of a prior must be a whole number of at least 1, got -1"),
        ({"dropout": 1.0}, r"dropout of a prior must be in \[0, 1\), got 1.0"),
    ],
)
def test_a_prior_of_no_known_kind_or_size_is_none(changes, told):
    with pytest.raises(ValueError, match=told):
        PriorKind(**{"kind": "bits", "m": 2, "k": 3, **changes})
