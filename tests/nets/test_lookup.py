"""Networks that are given classes say what they say of one-hot vectors, and learn the same."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from noiseloom import Prediction, Rng, SamplingPlan, sample
from noiseloom.carry import append_tokens
from noiseloom.class_denoiser import ClassDenoiser
from noiseloom.conditioning import SelfConditioned
from noiseloom.diffusion import CategoricalDiffusion
from noiseloom.nets import CausalTransformer, Placed, Transformer
from noiseloom.next_token import NextToken
from noiseloom.noise import Cosine, LinearGamma, RectifiedFlow

D, K, B, T, W = 6, 5, 3, 4, 16
SIZE: dict[str, Any] = {"width": W, "depth": 1, "heads": 2}


def plain(outputs: int = K, **options: Any) -> nn.Module:
    return Transformer(D, outputs, max_length=T, rotary=True, **SIZE, **options)


def causal(outputs: int = K, **options: Any) -> nn.Module:
    return CausalTransformer(D, outputs, window=T, **SIZE, **options)


def placed(outputs: int = K, **options: Any) -> nn.Module:
    return Placed(Transformer(W, W, max_length=T, **SIZE, **options), T, D, outputs, W)


def placed_causal(outputs: int = K, **options: Any) -> nn.Module:
    return Placed(CausalTransformer(W, W, window=T, **SIZE, **options), T, D, outputs, W)


NETWORKS = {f.__name__: f for f in (plain, causal, placed, placed_causal)}
networks = pytest.mark.parametrize("name", list(NETWORKS))


def woken(network: nn.Module) -> nn.Module:
    """Float64, with no part at its silent beginning."""
    for number, parameter in enumerate(network.parameters()):
        parameter.data = 0.2 * Rng(0).fold("weights", number).normal(parameter.shape)
    return network.double()


def classes(seed: int = 0) -> Tensor:
    return Rng(seed).integers(D, (B, T))


@networks
@pytest.mark.parametrize("estimate", [None, "absent", "given"])
def test_outputs_and_gradients_are_those_of_one_hot_vectors(
    name: str, estimate: str | None
) -> None:
    network = woken(NETWORKS[name](self_conditioning=estimate is not None))
    x, snr, cond = classes(), Rng(1).normal((B,)).double(), {}
    if estimate == "given":
        cond["estimate"] = Rng(2).normal((B, T, D)).double().softmax(-1)
    found = []
    for state in (x, functional.one_hot(x, D).double()):
        network.zero_grad()
        y = network(state, snr, cond)
        y.square().sum().backward()
        grads = [
            p.grad if p.grad is not None else torch.zeros_like(p) for p in network.parameters()
        ]
        found.append((y, *grads))
    for new, old in zip(*found, strict=True):
        torch.testing.assert_close(new, old, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("name", ["causal", "placed_causal"])
def test_a_cache_of_classes_is_that_of_vectors(name: str) -> None:
    network: Any = woken(NETWORKS[name]())
    x, snr = classes(), torch.zeros(B).double()
    found = []
    for state in (x, functional.one_hot(x, D).double()):
        cache, said = network.blank(state[:, :1]), []
        for i in range(T):
            told = {"cache": cache, "position": torch.tensor(i)}
            y, new = network(state[:, i : i + 1], snr, told)
            cache, said = append_tokens(cache, new, network.memory), [*said, y]
        found.append(torch.cat(said, 1))
    torch.testing.assert_close(found[0], found[1], atol=1e-12, rtol=0)
    torch.testing.assert_close(found[0], network(x, snr), atol=1e-12, rtol=0)


class Vectors(nn.Module):
    """The same network, which says that it reads vectors."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner: Any = inner
        self.memory = getattr(inner, "memory", 0)

    def blank(self, x: Tensor) -> Any:
        return self.inner.blank(x)

    def forward(self, x: Tensor, log_snr: Tensor, cond: Any = None) -> Any:
        assert x.is_floating_point()
        return self.inner(x, log_snr, cond)


@networks
@pytest.mark.parametrize("kind", ["absorbing", "uniform"])
@pytest.mark.parametrize("schedule", [LinearGamma(), Cosine(), RectifiedFlow()])
def test_denoisers_say_the_same(name: str, kind: Any, schedule: Any) -> None:
    diffusion = CategoricalDiffusion(K if kind == "absorbing" else D, kind, schedule)
    network = woken(NETWORKS[name](diffusion.num_classes, self_conditioning=True)).float()
    noise = diffusion.prior((B, T), Rng(3))
    x = torch.where(Rng(4).uniform((B, T)) < 0.5, noise, classes() % K)
    t, found = torch.full((B,), 0.4), []
    for net in (network, Vectors(network)):
        inner = ClassDenoiser(net, diffusion)
        # A schedule that scales its states scales vectors, which looking up would not.
        assert inner.looks_up == (net is network and not isinstance(schedule, RectifiedFlow))
        first, carry = SelfConditioned(inner)(x, t)
        second, _ = SelfConditioned(inner)(x, t, None, carry)
        found.append((first.logits, second.logits))
    for new, old in zip(*found, strict=True):
        torch.testing.assert_close(new, old, atol=2e-5, rtol=1e-5)


def test_next_tokens_are_the_same() -> None:
    network = woken(causal()).float()
    models = [NextToken(network, K), NextToken(Vectors(network), K)]
    x = classes() % K
    torch.testing.assert_close(models[0].log_prob(x), models[1].log_prob(x), atol=1e-4, rtol=0)
    drawn = [model.sample(T, Rng(5).samples(B)) for model in models]
    assert torch.equal(*drawn)


def test_samples_are_the_same() -> None:
    diffusion, network = CategoricalDiffusion(K), woken(plain()).float()
    found = []
    for net in (network, Vectors(network)):
        x = diffusion.prior((40, T), Rng(6))
        steps = sample(
            ClassDenoiser(net, diffusion), diffusion, SamplingPlan.uniform(5), x, rng=Rng(7)
        )
        *_, last = steps
        found.append(last.x)
        assert isinstance(last.prediction, Prediction)
    assert torch.equal(*found)


@networks
def test_what_does_not_fit_is_refused(name: str) -> None:
    network = NETWORKS[name]()
    snr = torch.zeros(B)
    with pytest.raises(ValueError, match="without self-conditioning"):
        network(classes(), snr, {"estimate": torch.zeros(B, T, D)})
    if "placed" not in name:
        with pytest.raises(ValueError, match=rf"expected \(B, T, {D}\)"):
            network(classes()[0], snr)
