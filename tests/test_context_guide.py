"""Guides: what their network is shown, of any state, and the units in which they speak."""

import pytest
import torch
from oracles import F64
from torch import nn

from noiseloom.context import Guide, GuideEnsemble, GuideOutput, mixture
from noiseloom.denoiser import Preconditioned
from noiseloom.diffusion import (
    CategoricalDiffusion,
    GaussianDiffusion,
    ProductDiffusion,
    RiemannianDiffusion,
)
from noiseloom.nets import MLP
from noiseloom.noise import EDM, Cosine, LinearGamma
from noiseloom.rng import Rng


class Told(nn.Module):
    """Keeps what it is given; embeds in the sum of it."""

    def forward(self, x, log_snr, cond=None):
        self.given = x, log_snr, cond
        parts = list(x.values()) if isinstance(x, dict) else [x]
        return sum(p.flatten(1).sum(1, keepdim=True) for p in parts).expand(-1, 3)


def guide(diffusion, targets=1, network=None):
    with Rng(0).torch():
        return Guide(network or Told(), diffusion, 3, targets)


@pytest.mark.parametrize("schedule", [Cosine(), EDM()])
@pytest.mark.parametrize("shape", [(), (4,), (4, 5)])
def test_numbers_are_seen_as_a_denoiser_sees_them(schedule, shape):
    x, t = Rng(1).normal((4, 5, 2)), Rng(2).uniform(shape)
    own, other = guide(GaussianDiffusion(schedule)), Told()
    own(x, t, {"mask": 1})
    Preconditioned(Seeing(other), schedule)(x, t, {"mask": 1})
    assert torch.equal(own.network.given[0], other.given[0])
    assert torch.equal(own.network.given[1], other.given[1])
    assert own.network.given[1].shape == (shape or (4,))
    assert own.network.given[2] == other.given[2] == {"mask": 1}


class Seeing(nn.Module):
    def __init__(self, told):
        super().__init__()
        self.told = told

    def forward(self, x, log_snr, cond=None):
        self.told(x, log_snr, cond)
        return x


@pytest.mark.parametrize("kind", ["absorbing", "uniform"])
def test_classes_are_seen_as_one_hot_vectors_and_may_be_given_so(kind):
    diffusion = CategoricalDiffusion(4, kind)
    x, t = diffusion.prior((3, 6), Rng(0)), torch.tensor([0.2, 0.5, 1.0])
    x[:, 0] = 2
    own = guide(diffusion)
    said = own(x, t)
    seen, log_snr, _ = own.network.given
    assert seen.shape == (3, 6, diffusion.width)
    assert torch.equal(seen.argmax(-1), x)
    assert bool(log_snr.any()) == (kind == "uniform")
    again = own(seen.clone(), t)
    assert all(torch.equal(a, b) for a, b in zip(said, again, strict=True))


def test_parts_are_seen_by_name_each_with_its_own_noise():
    parts = {
        "kinds": CategoricalDiffusion(4, "uniform"),
        "places": GaussianDiffusion(EDM()),
        "turns": RiemannianDiffusion(),
    }
    x = {
        "kinds": torch.tensor([[0, 3], [1, 2]]),
        "places": Rng(0).normal((2, 2, 3)),
        "turns": Rng(1).normal((2, 1)),
    }
    own = guide(ProductDiffusion(parts))
    one = own(x, torch.tensor([0.3, 0.6]))
    seen, log_snr, _ = own.network.given
    assert {n: tuple(v.shape) for n, v in seen.items()} == {
        "kinds": (2, 2, 4),
        "places": (2, 2, 3),
        "turns": (2, 2),
    }
    for name, alone in parts.items():
        single = guide(alone)
        single(x[name], torch.tensor([0.3, 0.6]))
        assert torch.equal(single.network.given[0], seen[name])
        assert torch.equal(single.network.given[1], log_snr[name])
    assert log_snr["kinds"][0] != log_snr["places"][0]
    by_part = own(x, dict.fromkeys(parts, torch.tensor([0.3, 0.6])))
    assert all(torch.equal(a, b) for a, b in zip(one, by_part, strict=True))


def test_labels_are_standardised_by_the_training_set_and_said_in_their_own_units():
    labels = torch.tensor([[1000.0, 2.0], [1002.0, 4.0], [1007.0, 9.0]])
    own = guide(GaussianDiffusion(), 2)
    own.fit(labels)
    scaled = own.standardised(labels)
    torch.testing.assert_close(scaled.mean(0), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(scaled.square().mean(0), torch.ones(2), atol=1e-4, rtol=0)
    x, t = Rng(0).normal((5, 2)), torch.tensor(0.4)
    said, units = own(x, t), own.predict(x, t)
    assert said.mean.shape == said.variance.shape == (5, 2)
    torch.testing.assert_close(own.standardised(units.mean), said.mean, atol=1e-4, rtol=0)
    spread = labels.double().std(0, correction=0).float()
    torch.testing.assert_close(units.variance.sqrt().float(), said.variance.sqrt() * spread)
    again = guide(GaussianDiffusion(), 2)
    again.load_state_dict(own.state_dict())
    assert torch.equal(again.predict(x, t).mean, units.mean)


def test_small_effects_on_a_large_offset_keep_their_digits():
    labels = 1e8 + torch.tensor([[1.0], [2.0], [3.0]], dtype=F64)
    own, right = guide(GaussianDiffusion()), torch.tensor([[-1.0], [0.0], [1.0]]) * 1.5**0.5
    own.fit(labels)
    torch.testing.assert_close(own.standardised(labels), right)
    x, t = Rng(0).normal((5, 2)), torch.tensor(0.4)
    said, units = own(x, t), own.predict(x, t)
    torch.testing.assert_close(own.standardised(units.mean), said.mean, atol=1e-6, rtol=0)
    # Weights of an earlier guide, with its units in float32, are taken as they are.
    earlier = {n: v.float() for n, v in own.state_dict().items()}
    again = guide(GaussianDiffusion())
    again.load_state_dict(earlier)
    assert again.centre.dtype == F64
    assert again.centre.tolist() == earlier["centre"].tolist()


def test_variances_have_a_floor_and_a_slope_there():
    own = guide(GaussianDiffusion())
    with torch.no_grad():
        own.heads.weight.zero_()
        own.heads.bias.copy_(torch.tensor([0.0, -40.0]))
    variance = own(torch.zeros(1, 2), torch.tensor(0.5)).variance
    assert float(variance.detach()) == pytest.approx(1e-6, rel=1e-4)
    variance.sum().backward()
    assert float(own.heads.bias.grad[1]) > 0


def test_an_ensemble_says_the_moments_of_the_mixture():
    """Against the moments of equal Gaussians, by their densities on a grid."""
    means, variances = torch.tensor([-1.0, 0.5, 2.0]), torch.tensor([0.3, 0.1, 0.7])
    grid = torch.linspace(-12, 12, 20001, dtype=F64)
    laws = [torch.distributions.Normal(m, v.sqrt()) for m, v in zip(means, variances, strict=True)]
    density = torch.stack([law.log_prob(grid).exp() for law in laws]).mean(0)
    mean = torch.trapezoid(density * grid, grid)
    variance = torch.trapezoid(density * (grid - mean).square(), grid)
    each = [
        GuideOutput(m.reshape(1, 1), v.reshape(1, 1), torch.zeros(1, 2))
        for m, v in zip(means, variances, strict=True)
    ]
    said = mixture(each)
    assert float(said.mean) == pytest.approx(float(mean), abs=1e-6)
    assert float(said.variance) == pytest.approx(float(variance), abs=1e-6)
    assert said.embedding.shape == (1, 6)


def test_members_of_an_ensemble_share_their_labels_units():
    with Rng(0).torch():
        members = [Guide(MLP(2, 3, width=8, depth=1), GaussianDiffusion(), 3, 2) for _ in range(3)]
    own = GuideEnsemble(members)
    own.fit(Rng(1).normal((20, 2)) * 5 + 3)
    x, t = Rng(2).normal((4, 2)), torch.tensor(0.3)
    units = members[0].in_units(own(x, t))
    for got, right in zip(own.predict(x, t), units, strict=True):
        torch.testing.assert_close(got, right)
    assert own.diffusion is members[0].diffusion


def fitted(labels, targets=1):
    return lambda: guide(GaussianDiffusion(), targets).fit(torch.tensor(labels))


T = torch.tensor(0.5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (fitted([1.0, 2.0]), r"shape \(2,\): expected \(B, 1\)"),
        (fitted([[1.0], [float("nan")]]), r"finite, got \[nan\] in row 1"),
        (fitted([[1.0, 2.0], [2.0, 2.0]], 2), "all 2 labels of property 1 are 2"),
        (fitted([[1.0]]), "all 1 labels of property 0 are 1"),
        (lambda: guide(GaussianDiffusion())({"a": torch.zeros(2)}, T), "of one tensor"),
        (
            lambda: guide(ProductDiffusion({"a": GaussianDiffusion()}))(torch.zeros(2), T),
            r"expected the parts \['a'\]",
        ),
        (
            lambda: guide(CategoricalDiffusion(4))(torch.zeros(2, 3), T),
            r"vectors of 5 entries, and was given numbers of shape \(2, 3\)",
        ),
        (
            lambda: guide(GaussianDiffusion())(torch.zeros(2, 3, dtype=torch.int64), T),
            "of numbers, and was given torch.int64",
        ),
        (
            lambda: Guide(Told(), GaussianDiffusion(), 5)(torch.zeros(2, 2), T),
            r"says \(2, 5\), got \(2, 3\)",
        ),
        (lambda: GuideEnsemble([]), "one guide or more"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(make, message):
    with pytest.raises(ValueError, match=message) as said:
        make()
    assert "\n" not in str(said.value)


def test_masks_are_told_no_time_as_their_denoisers_are():
    own = guide(CategoricalDiffusion(4, "absorbing", LinearGamma()))
    x = torch.tensor([[4, 1]])
    early, late = own(x, torch.tensor(0.1)), own(x, torch.tensor(0.9))
    assert torch.equal(early.mean, late.mean)
