"""Windows of a text: all of its parts, none across them."""

import pytest
import torch

from noiseloom.data import TokenWindows
from noiseloom.data.tokens import evenly, spread


def all_of(windows):
    return windows[torch.arange(len(windows))]["tokens"].tolist()


@pytest.mark.parametrize("length", [1, 2, 5])
@pytest.mark.parametrize("stride", [1, 2, 7])
@pytest.mark.parametrize(
    "parts", [None, [(0, 30)], [(0, 7), (9, 10), (12, 30)], [(3, 3), (20, 28), (5, 11)]]
)
def test_windows_are_those_of_each_part(length, stride, parts):
    windows = TokenWindows(torch.arange(30, dtype=torch.uint8), length, 30, stride, parts)
    expected = [
        list(range(begin, begin + length))
        for first, end in parts or [(0, 30)]
        for begin in range(first, end - length + 1, stride)
    ]
    assert all_of(windows) == expected
    assert windows.to("cpu") is windows
    assert windows[torch.tensor([0])]["tokens"].dtype == torch.int64
    assert windows.sizes == (30,) * length
    own = [token for begin, end in parts or [(0, 30)] for token in range(begin, end)]
    assert torch.cat(windows.tensors()[:-1]).tolist() == own


def test_only_the_parts_go_to_a_device():
    windows = TokenWindows(torch.arange(30), 3, 30, 2, [(12, 20), (3, 5), (6, 10)])
    moved = windows.to("meta")
    assert len(moved) == len(windows) == 4
    assert moved.parts == ((0, 8), (8, 10), (10, 14))
    assert moved.text.shape == (14,)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"length": 0}, "at least 1"),
        ({"stride": 0}, "at least 1"),
        ({"length": 9}, "a text of 8 tokens has no window of 9"),
        ({"parts": [(0, 2), (3, 5)]}, "a text of 2 tokens has no window of 3"),
        ({"parts": []}, "a text of 0 tokens"),
        ({"parts": [(0, 9)]}, "parts of a text of 8 tokens end there"),
        ({"parts": [(5, 1)]}, "parts of a text of 8 tokens end there"),
    ],
)
def test_windows_that_there_are_none_of_are_refused(options, told):
    with pytest.raises(ValueError, match=told):
        TokenWindows(**{"text": torch.zeros(8), "length": 3, "classes": 2, **options})


@pytest.mark.parametrize("count", [1, 7, 2000, 2**24 + 4, 10**10])
def test_places_are_spread_evenly_and_are_there(count):
    for number in (1, 3, 1000):
        places = spread(count, number)
        assert len(places) == number
        assert int(places[0]) == 0
        assert 0 <= int(places.min()) <= int(places.max()) < count
        gaps = places.diff()
        assert not len(gaps) or int(gaps.max() - gaps.min()) <= 1
        assert torch.equal(evenly(count, number), spread(count, min(count, number)))
        assert len(evenly(count, number).unique()) == min(count, number)
