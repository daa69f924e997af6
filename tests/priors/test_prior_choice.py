"""One of k values: temperature, nucleus, and the inverse of the distribution function."""

import torch

from noiseloom.priors.choice import choose

P = torch.tensor([0.1, 0.4, 0.05, 0.25, 0.2])


def share(logits, **options):
    """What share of evenly spread numbers chooses each value."""
    u = (torch.arange(20_000) + 0.5) / 20_000
    found = choose(logits.expand(20_000, -1), u, **options)
    return torch.bincount(found, minlength=len(logits)) / 20_000


def test_the_share_of_a_value_is_its_probability():
    torch.testing.assert_close(share(P.log()), P, atol=1e-4, rtol=0)
    assert choose(torch.zeros(1, 2), torch.tensor([0.5])) == 1  # the first sum above u


def test_a_temperature_is_a_power():
    for temperature in (0.3, 2.0):
        expected = P ** (1 / temperature)
        torch.testing.assert_close(
            share(P.log(), temperature=temperature), expected / expected.sum(), atol=1e-4, rtol=0
        )
    for cold in (0.0, 1e-4, 1e-300):
        assert share(P.log(), temperature=cold).argmax() == 1
        assert share(P.log(), temperature=cold).max() == 1


def test_the_nucleus_is_the_smallest_set_of_enough_mass():
    # Values by mass: 1 (0.4), 3 (0.65), 4 (0.85), 0 (0.95), 2.
    for top_p, kept in ((0.01, [1]), (0.39, [1]), (0.41, [1, 3]), (0.66, [1, 3, 4]), (0.96, None)):
        mask = (
            torch.ones(5) if kept is None else torch.zeros(5).index_fill(0, torch.tensor(kept), 1)
        )
        expected = P * mask / (P * mask).sum()
        torch.testing.assert_close(share(P.log(), top_p=top_p), expected, atol=1e-4, rtol=0)
    equal = torch.zeros(4)  # among equals, the first; a mass met exactly is enough
    assert share(equal, top_p=0.5).tolist() == [0.5, 0.5, 0, 0]


def test_the_nucleus_is_of_the_law_at_its_temperature():
    assert share(P.log(), top_p=0.5, temperature=0.2).max() == 1


def test_the_impossible_is_never_chosen():
    logits = torch.tensor([-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf]).expand(3, 5)
    u = torch.tensor([2.0**-24, 0.5, 1 - 2.0**-24])
    for temperature in (0.5, 1.0, 3.0):
        assert set(choose(logits, u, temperature).tolist()) <= {1, 3}
