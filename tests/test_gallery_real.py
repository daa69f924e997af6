"""Real pictures beside samples are no neighbours, which of a turntable are nearly the same."""

import torch

from noiseloom.data import Images, Split
from noiseloom.gallery import _real


def test_held_out_pictures_of_a_class_are_spread_over_it():
    pixels = torch.arange(24, dtype=torch.uint8).reshape(24, 1, 1, 1)
    held = Images(pixels, torch.arange(24) // 12, ["a", "b"])
    first, second = _real(Split(held, held), [0, 1], 4, by_class=True)
    assert first.flatten().tolist() == [0, 4, 7, 11]
    assert second.flatten().tolist() == [12, 16, 19, 23]


def test_a_class_may_have_fewer_held_out_pictures_or_none():
    held = Images(torch.zeros(2, 1, 1, 1, dtype=torch.uint8), torch.zeros(2).long(), ["a", "b"])
    some, none = _real(Split(held, held), [0, 1], 4, by_class=True)
    assert len(some) == 2
    assert len(none) == 0
