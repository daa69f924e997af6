"""States of one size: the width of each is the one whose parameters are nearest."""

from dataclasses import replace

import pytest

from noiseloom.recipes.text import Text
from noiseloom.sizes import of_one_size, parameters

FACTS = {"length": 8, "sizes": [5] * 8, "frequencies": [[0.4, 0.2, 0.2, 0.1, 0.1]]}
BASE = Text(length=8, width=64, depth=2, heads=2)


@pytest.mark.parametrize("state", ["latent", "embedding", "autoregressive"])
@pytest.mark.parametrize("heads", [2, 4])
def test_the_nearest_width_is_taken(state, heads) -> None:
    first, other = replace(BASE, heads=heads), replace(BASE, heads=heads, state=state)
    same, found = of_one_size([first, other], FACTS)
    assert same == first
    target = parameters(first, FACTS)
    gap = {
        width: abs(parameters(replace(other, width=width), FACTS) - target)
        for width in range(2 * heads, 100, 2 * heads)
    }
    if gap[64] <= 0.05 * target:
        assert found == other
    else:
        assert found == replace(other, width=min(gap, key=gap.__getitem__))
        assert found.width < 64


def test_a_larger_network_is_made_as_well() -> None:
    small = replace(BASE, state="bits", width=16)
    _, found = of_one_size([BASE, small], FACTS)
    assert 60 <= found.width <= 64
    assert abs(parameters(found, FACTS) / parameters(BASE, FACTS) - 1) < 0.1


def test_what_cannot_be_built_is_left_as_it_is() -> None:
    wrong = replace(BASE, width=63)
    assert of_one_size([BASE, wrong], FACTS) == [BASE, wrong]
    assert of_one_size([wrong, BASE], FACTS) == [wrong, BASE]
