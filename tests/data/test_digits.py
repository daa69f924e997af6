import torch

from noiseloom.data import digits
from noiseloom.data.images import stratified
from noiseloom.rng import Rng


def test_every_digit_is_on_one_side():
    split = digits()
    both = torch.cat([split.train.pixels, split.held_out.pixels]).flatten(1)
    assert (len(split.train), len(split.held_out)) == (1437, 360)
    assert len(torch.unique(both, dim=0)) == 1797
    assert both.max() == 15
    assert split.train.classes == tuple("0123456789")


def test_classes_have_their_share():
    split = digits()
    held = torch.bincount(split.held_out.labels)
    total = held + torch.bincount(split.train.labels)
    # Class counts of optdigits.tes, as its source states them.
    assert total.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert ((held - total * 360 / 1797).abs() < 1).all()


def test_digits_look_like_their_labels():
    """Nearest class mean, from the training part: far above chance only if labels fit pictures."""
    split = digits()
    train = split.train.pixels.flatten(1).double()
    means = torch.stack([train[split.train.labels == c].mean(0) for c in range(10)])
    nearest = torch.cdist(split.held_out.pixels.flatten(1).double(), means).argmin(1)
    assert (nearest == split.held_out.labels).double().mean() > 0.85


def test_stratified_partitions_and_depends_on_the_key():
    labels = torch.arange(100) % 7
    kept, held = stratified(labels, 30, Rng(0))
    assert sorted(torch.cat([kept, held]).tolist()) == list(range(100))
    share = torch.bincount(labels[held], minlength=7) - torch.bincount(labels) * 0.3
    assert len(held) == 30
    assert (share.abs() < 1).all()
    assert held.tolist() != stratified(labels, 30, Rng(1))[1].tolist()
    assert held.tolist() == stratified(labels, 30, Rng(0))[1].tolist()
