"""Distances of colours and of neighbours, by hand and by law."""

import pytest
import torch

from noiseloom.metrics import colour_distances
from noiseloom.rng import Rng

BOARD = torch.tensor([[[0, 1, 0], [1, 0, 1], [0, 1, 0]]])
STRIPES = torch.tensor([[[0, 0, 0], [1, 1, 1], [0, 0, 0]]])


def test_by_hand():
    # Pairs of the board are 01 and 10, 6 of 12 each; of the stripes 00 4, 11 2, 01 3, 10 3.
    found = colour_distances(BOARD, STRIPES, 2)
    assert found["colours"] == pytest.approx(1 / 9)
    assert found["neighbours"] == pytest.approx(1 / 2)
    # Turned by a quarter there are the same pairs, and a set is not far from itself.
    assert colour_distances(STRIPES.mT, STRIPES, 2) == {"colours": 0, "neighbours": 0}


def test_pixels_that_were_shuffled_keep_their_colours_and_lose_their_neighbours():
    rng = Rng(0)
    flat = rng.integers(4, (500, 8)).repeat_interleave(8, 1).reshape(500, 8, 8)  # lines of a colour
    mixed = flat.flatten()[rng.fold("mix").permutation(flat.numel())].reshape(flat.shape)
    found = colour_distances(mixed, flat, 4)
    assert found["colours"] == 0
    # Half of the pairs, those along lines, are of one colour, of which independence has 1/4:
    # 1/2 (1/2) (4 (1/4 - 1/16) + 12 / 16) = 3/8.
    assert found["neighbours"] == pytest.approx(3 / 8, abs=0.01)


@pytest.mark.parametrize("shape", [(9, 2, 3), (9, 9)])
def test_what_is_no_square_is_refused(shape):
    with pytest.raises(ValueError, match=r"\(N, side, side\)"):
        colour_distances(torch.zeros(shape), BOARD, 2)


def test_pictures_of_one_pixel_have_colours_only():
    found = colour_distances(torch.tensor([0, 0, 1])[:, None, None], BOARD[:, :1, :1], 2)
    assert found == {"colours": pytest.approx(1 / 3)}
