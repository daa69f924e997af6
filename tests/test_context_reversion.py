"""Where a guide goes outside of its data, with a context and without (check 7).

On [-1, 1] y is nearly x. Outside, at x = -5 and 5, the prior says mean 0 and variance 1. The rows
are those of the table in section 10 of the notes on Context-Guided Diffusion, and the bounds are
wide enough for its figures and ours: the networks and seeds are not the same.
"""

import pytest
import torch
from oracles import F64
from torch import nn

from noiseloom.context import (
    Context,
    ContextRegulariser,
    Guide,
    constant_covariance,
    guide_loss,
)
from noiseloom.diffusion import GaussianDiffusion
from noiseloom.noise import LinearGamma
from noiseloom.rng import Rng

POINTS, LABELS = 64, 40
PLACES = torch.tensor([[-5.0], [5.0], [-0.5], [0.5]], dtype=F64)


class Network(nn.Module):
    """64 features of a perceptron, |h| <= 1."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(1, 64, dtype=F64), nn.Linear(64, 64, dtype=F64)

    def forward(self, x, log_snr, cond=None):
        return self.second(self.first(x).tanh()).tanh() / 8


def at_time_0(shape, rng, device):
    return torch.zeros(shape, dtype=F64)


def context(kind, rng):
    u = rng.fold("place").uniform((POINTS, 1), F64)
    if kind == "everywhere":
        return 12 * u - 6
    sign = torch.where(rng.fold("side").uniform((POINTS, 1)) < 0.5, -1, 1)
    return sign * (1.5 + 4.5 * u)


def trained(kind, weight, sigma=1.0, tau=1.0):
    """What it says at `PLACES`: mean and variance, in deviations of the labels."""
    rng = Rng(0)
    x = 2 * rng.fold("x").uniform((LABELS, 1), F64) - 1
    y = x + 0.1 * rng.fold("y").normal((LABELS, 1), F64)
    with rng.fold("weights").torch():
        guide = Guide(Network(), GaussianDiffusion(LinearGamma(clip=0.0)), 64).double()
    guide.fit(y)
    term = ContextRegulariser(
        Network,
        rng.fold("features"),
        samples=1,
        sigma=sigma,
        tau=tau,
        schedule=constant_covariance,
        weight=2 * weight / POINTS,  # ours is half of the squared distances
        reference=None,
    )
    adam = torch.optim.Adam(guide.parameters(), 1e-3)
    for i in range(1500):
        states = Context(context(kind, rng.fold("context", i)), rng.fold("draws", i))
        key, options = rng.fold("step", i), {"context": states, "term": term, "times": at_time_0}
        guide_loss(guide, x, y, key, **options).mean().backward()
        adam.step()
        adam.zero_grad()
    with torch.no_grad():
        said = guide(PLACES, torch.tensor(0.0, dtype=F64))
        right = guide.standardised(PLACES[2:])
    return said.mean[:2, 0], said.variance[:2, 0], said.mean[2:, 0] / right[:, 0]


def reverts(mean, variance):
    return bool(mean.abs().max() < 0.15 and ((variance - 1).abs() < 0.25).all())


def test_check_7_a_context_takes_the_guide_back_to_its_prior_and_keeps_the_fit():
    mean, variance, share = trained("everywhere", 0.1, 0.01, 0.1)
    assert reverts(mean, variance), (mean, variance)
    assert (share - 1).abs().max() < 0.2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("row", "back", "kept"),
    [
        (("everywhere", 0.0), False, True),
        (("everywhere", 1.0, 0.01, 0.1), True, False),  # the overlap, at a large weight
        (("everywhere", 1.0, 1.0, 0.1), False, True),  # what the features span is cheap
        (("everywhere", 1.0, 1.0, 0.001), False, True),
        (("apart", 1.0, 0.01, 0.1), True, True),
        (("apart", 1.0, 1.0, 0.1), True, True),
    ],
)
def test_check_7_where_it_goes_back_and_where_the_fit_is_kept(row, back, kept):
    mean, variance, share = trained(*row)
    assert reverts(mean, variance) == back, (mean, variance)
    if not back:
        assert mean[0] < -1 < 1 < mean[1]
    assert bool((share - 1).abs().max() < 0.2) == kept, share
    if not kept:
        assert share.max() < 0.6
