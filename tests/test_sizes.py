"""States of one size: the width of each is the one whose parameters are nearest to the median."""

from dataclasses import replace
from statistics import median_low

import pytest

from noiseloom.costs import ALIKE
from noiseloom.recipes import BitsDigits
from noiseloom.recipes.text import Text
from noiseloom.sizes import equal_states, of_one_size, parameters
from noiseloom.table import Cell

FACTS = {"length": 8, "sizes": [5] * 8, "frequencies": [[0.4, 0.2, 0.2, 0.1, 0.1]]}
BASE = Text(length=8, width=64, depth=2, heads=2)
PRIORS = range(4, 36, 4)
STATES = ("masked", "bits", "embedding", "latent", "autoregressive")


@pytest.mark.parametrize("heads", [2, 4])
def test_the_nearest_width_is_taken(heads) -> None:
    given = [replace(BASE, heads=heads, state=state) for state in STATES]
    target = median_low(parameters(recipe, FACTS) for recipe in given)
    for recipe, found in zip(given, of_one_size(given, FACTS), strict=True):
        widths = range(2 * heads, 100, 2 * heads)
        if recipe.state == "latent":  # its prior may be narrower, too
            priors = {
                w: numel(replace(recipe, prior_width=w).prior_kind(FACTS).make()) for w in PRIORS
            }
            first = {
                width: parameters(replace(recipe, width=width, prior="none"), FACTS)
                for width in widths
            }
            best = min(
                abs(n + more - target)
                for n in first.values()
                for more in priors.values()
                if more <= target / 4
            )
            assert abs(parameters(found, FACTS) - target) <= max(best, target // 50)
        else:
            gap = {
                width: abs(parameters(replace(recipe, width=width), FACTS) - target)
                for width in widths
            }
            assert found == replace(recipe, width=min(gap, key=gap.__getitem__))
        assert abs(parameters(found, FACTS) / target - 1) < heads / 32  # half a step, of squares
    assert found == given[-1]


@pytest.mark.parametrize("width", [64, 96, 128])
def test_states_by_default_are_within_what_is_called_equal(width) -> None:
    facts = {"length": 64, "sizes": [27] * 64, "frequencies": [[1 / 27] * 27]}
    states = ("masked", "uniform", "bits", "embedding", "latent", "autoregressive")
    given = [Text(state=state, width=width, depth=2) for state in states]
    counts = [parameters(recipe, facts) for recipe in of_one_size(given, facts)]
    assert max(counts) <= (1 + ALIKE) * min(counts)


def test_the_order_does_not_matter() -> None:
    given = [replace(BASE, state=state) for state in STATES]
    there, back = of_one_size(given, FACTS), of_one_size(given[::-1], FACTS)
    assert there == back[::-1]
    assert len({recipe.width for recipe in there}) == 2  # latent has less, for its encoder
    assert there[3].width < 64


def test_a_prior_counts_and_has_a_quarter_at_most() -> None:
    latent = replace(BASE, state="latent", prior_width=64)
    alone = parameters(replace(latent, prior="none"), FACTS)
    kind = latent.prior_kind(FACTS)
    assert parameters(latent, FACTS) - alone == numel(kind.make())
    counted = replace(latent, prior="tabular")
    assert parameters(counted, FACTS) == alone  # of a table nothing is trained
    masked = replace(BASE, state="masked")
    *_, found = of_one_size([masked, masked, latent], FACTS)
    target = parameters(masked, FACTS)
    assert abs(parameters(found, FACTS) / target - 1) < 0.1
    prior, wider = (numel(replace(kind, width=found.prior_width + more).make()) for more in (0, 4))
    assert prior <= target / 4 < wider
    small = replace(latent, prior_width=12)
    assert of_one_size([masked, masked, small], FACTS)[2].prior_width <= 12
    least = of_one_size([replace(masked, width=8, depth=1)] * 2 + [latent], FACTS)[2]
    assert least.prior_width == 4


def numel(module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_a_larger_network_is_made_as_well() -> None:
    small = replace(BASE, state="bits", width=16)
    *_, found = of_one_size([BASE, BASE, small], FACTS)
    assert 60 <= found.width <= 64
    assert abs(parameters(found, FACTS) / parameters(BASE, FACTS) - 1) < 0.1


def test_what_cannot_be_built_is_left_as_it_is() -> None:
    wrong = replace(BASE, width=63)
    assert of_one_size([BASE, wrong], FACTS) == [BASE, wrong]
    assert of_one_size([wrong, BASE], FACTS) == [wrong, BASE]
    assert of_one_size([wrong], FACTS) == [wrong]


@pytest.mark.parametrize("width", [16, 64, 100])
def test_an_encoder_is_half_as_wide_unless_it_is_said(width) -> None:
    latent = replace(BASE, state="latent", width=width)
    half = 4 * round(width / 8)
    assert parameters(latent, FACTS) == parameters(replace(latent, encoder_width=half), FACTS)


def cells(*options, kind=BASE):
    """Of words as they are typed, such as state=latent."""
    made = [dict(word.split("=") for word in words.split()) for words in options]
    numbers = {"depth", "width", "blocks"}
    return [
        Cell(typed, replace(kind, **{k: int(v) if k in numbers else v for k, v in typed.items()}))
        for typed in made
    ]


def test_only_cells_that_differ_in_state_alone_are_of_one_size() -> None:
    given = cells(
        "state=masked depth=1",
        "state=latent depth=1",
        "state=masked depth=4",
        "state=latent depth=4",
    )
    found, told = equal_states(given, FACTS)
    assert [cell.recipe.depth for cell in found] == [1, 1, 4, 4]
    assert [cell.recipe.width for cell in found][::2] == [64, 64]
    assert all(cell.recipe.width < 64 for cell in found[1::2])
    assert list(told) == ["state=latent depth=1", "state=latent depth=4"]
    for cell, text in zip(found[1::2], told.values(), strict=True):
        assert text.endswith(f"states, with its prior, of width {cell.recipe.prior_width}")
    named = cells("state=masked", "state=latent width=64", "depth=2")
    assert equal_states(named, FACTS) == (named, {})


def test_recipes_without_heads_are_left_as_they_are() -> None:
    given = cells("state=bits blocks=1", "state=onehot blocks=1", kind=BitsDigits())
    assert equal_states(given, {}) == (given, {})
