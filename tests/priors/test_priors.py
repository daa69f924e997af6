"""What holds for every prior."""

import math
import re

import pytest
import torch
from prior_cases import KINDS, every

from noiseloom.priors import AutoregressivePrior, BitsPrior, TabularPrior, check_prior
from noiseloom.rng import Rng

kinds = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)


@kinds
@pytest.mark.parametrize("classes", [None, 3])
def test_shapes_and_ranges(make, classes):
    prior = make(3, 5, classes)
    assert (prior.m, prior.k, prior.num_classes) == (3, 5, classes)
    codes = prior.sample(7, Rng(0))
    assert codes.shape == (7, 3)
    assert codes.dtype == torch.int64
    assert codes.min() >= 0
    assert codes.max() <= 4
    assert prior.log_prob(codes).shape == (7,)


@kinds
def test_sample_17_is_the_same_alone_and_in_a_batch(make):
    prior = make(3, 5, 2)
    label = torch.arange(20) % 3  # the null label too
    batch = prior.sample(label, Rng(4))
    alone = prior.sample(label[17:18], Rng(4).samples(1, start=17))
    assert torch.equal(alone[0], batch[17])
    assert torch.equal(prior.sample(label[:5], Rng(4)), batch[:5])
    assert len(torch.unique(batch, dim=0)) > 5
    assert not torch.equal(prior.sample(label, Rng(5)), batch)


@kinds
def test_an_absent_label_is_the_null_label(make):
    prior = make(2, 4, 3)
    codes, null = every(2, 4), torch.full((16,), 3)
    assert torch.equal(prior.log_prob(codes), prior.log_prob(codes, null))
    assert torch.equal(prior.sample(16, Rng(1)), prior.sample(null, Rng(1)))
    assert not torch.allclose(prior.log_prob(codes), prior.log_prob(codes, null - 1))


@kinds
def test_what_is_no_code_of_a_prior_is_refused(make):
    prior = make(2, 4)
    for codes, message in [
        (torch.tensor([[0, 4]]), r"codes must be in 0 .. 3, got values from 0 to 4"),
        (torch.tensor([[-1, 0]]), r"codes must be in 0 .. 3, got values from -1 to 0"),
        (torch.zeros(1, 3, dtype=torch.int64), r"shape \(1, 3\) for a prior over 2 positions"),
        (torch.zeros(2, dtype=torch.int64), r"shape \(2,\) for a prior over 2 positions"),
    ]:
        with pytest.raises(ValueError, match=message):
            prior.log_prob(codes)
    with pytest.raises(TypeError, match="codes must be integers, got"):
        prior.log_prob(torch.zeros(1, 2))


@kinds
def test_labels_that_do_not_fit_are_refused(make):
    prior, codes = make(2, 4, 3), torch.zeros(2, 2, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"labels must be in 0 .. 2, or 3 for none, got .* 4"):
        prior.log_prob(codes, torch.tensor([0, 4]))
    with pytest.raises(ValueError, match=r"labels must be in 0 .. 2, or 3 for none"):
        prior.sample(torch.tensor([0, -1]), Rng(0))
    with pytest.raises(ValueError, match=r"label of shape \(3,\) for 2 codes"):
        prior.log_prob(codes, torch.tensor([0, 1, 2]))
    with pytest.raises(TypeError, match="labels must be integers"):
        prior.log_prob(codes, torch.zeros(2))
    for ask in (lambda p: p.log_prob(codes, codes[:, 0]), lambda p: p.sample(codes[:, 0], Rng(0))):
        with pytest.raises(ValueError, match="for a prior without classes: build it with"):
            ask(make(2, 4))


@kinds
def test_samples_that_cannot_be_are_refused(make):
    prior = make(2, 4)
    with pytest.raises(ValueError, match=r"keys of shape \(3,\) for 2 samples"):
        prior.sample(2, Rng(0).samples(3))
    with pytest.raises(ValueError, match="a number of samples of at least 0, got -1"):
        prior.sample(-1, Rng(0))
    for count in (2.5, "3", torch.tensor(3)):
        with pytest.raises(TypeError, match="expected a number of samples or labels"):
            prior.sample(count, Rng(0))
    for options in ({"temperature": -1.0}, {"temperature": math.nan}, {"top_p": 0.0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            prior.sample(2, Rng(0), **options)


@kinds
def test_no_samples_are_an_empty_table(make):
    prior = make(2, 5, 3)
    for count in (0, torch.zeros(0, dtype=torch.int64)):
        codes = prior.sample(count, Rng(0))
        assert codes.shape == (0, 2)
        assert codes.dtype == torch.int64
        assert prior.log_prob(codes).shape == (0,)
    if hasattr(prior, "loss"):
        assert prior.loss(codes, None, Rng(0)).shape == (0,)


@pytest.mark.parametrize("make", [KINDS["autoregressive"], KINDS["bits"]])
@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_a_loss_refuses_labels_that_do_not_fit_its_codes(make, rate):
    prior, codes = make(2, 4, 3, label_drop=rate), torch.zeros(3, 2, dtype=torch.int64)
    for label in (torch.tensor([0, 1]), torch.tensor(1), torch.tensor([[0, 1, 2]])):
        shape = str(tuple(label.shape))
        with pytest.raises(ValueError, match=rf"{re.escape(shape)} for 3 codes: expected \(3,\)"):
            prior.loss(codes, label, Rng(0))
    with pytest.raises(ValueError, match=r"labels must be in 0 .. 2, or 3 for none, got .* 4"):
        prior.loss(codes, torch.tensor([0, 1, 4]), Rng(0))


@pytest.mark.parametrize("kind", [TabularPrior, AutoregressivePrior, BitsPrior])
@pytest.mark.parametrize(("name", "size"), [("m", (0, 4)), ("k", (2, 0)), ("num_classes", (2, 4))])
def test_sizes_below_1_are_refused(kind, name, size):
    with pytest.raises(ValueError, match=f"{name} of a prior must be at least 1, got 0"):
        kind(*size, num_classes=0 if name == "num_classes" else None)


def test_a_prior_of_other_codes_is_refused():
    check_prior(TabularPrior(2, 8), 2, 8)
    check_prior(TabularPrior(2, 8), 2, 8, num_classes=3)
    check_prior(TabularPrior(2, 8, 3), 2, 8, num_classes=3)
    with pytest.raises(ValueError, match="codes of m 2, k 8 for a model with codes of m 3, k 8"):
        check_prior(TabularPrior(2, 8), 3, 8)
    with pytest.raises(ValueError, match="m 2, k 8 for a model with codes of m 2, k 16"):
        check_prior(TabularPrior(2, 8), 2, 16)
    with pytest.raises(ValueError, match="a prior of 3 classes for a model with no classes"):
        check_prior(TabularPrior(2, 8, 3), 2, 8)
    with pytest.raises(ValueError, match="a prior of 3 classes for a model with 4 classes"):
        check_prior(TabularPrior(2, 8, 3), 2, 8, 4)


@kinds
def test_one_position_and_one_value(make):
    assert torch.equal(make(1, 1).sample(3, Rng(0)), torch.zeros(3, 1, dtype=torch.int64))
    alone = make(1, 6).sample(40, Rng(0))
    assert alone.shape == (40, 1)
    assert alone.max() <= 5
    assert make(2, 1).log_prob(torch.zeros(1, 2, dtype=torch.int64)).abs() < 1e-3
