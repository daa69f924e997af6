"""Classes and codes of networks in bfloat16: all but the network is in float32 or better."""

import pytest
import torch
from test_categorical import LAW, K, kinds, made, pushed, time
from torch import Tensor, nn

from noiseloom import Cosine, Prediction, Rng, SamplingPlan
from noiseloom.class_denoiser import ClassDenoiser, CodeDenoiser
from noiseloom.diffusion import GaussianDiffusion
from noiseloom.encodings import Bits
from noiseloom.nets import Transformer
from noiseloom.sampling import final, sample


class Constant(nn.Module):
    """The law of independent tokens: the exact denoiser."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(LAW.float().log())

    def forward(self, x: Tensor, log_snr: Tensor, cond: object = None) -> Tensor:
        return self.logits.expand(*x.shape[:2], K)


def coded(network: nn.Module, learnt: bool = False) -> CodeDenoiser:
    return CodeDenoiser(network, Cosine(), Bits(K).table, learnt=learnt)


@kinds
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_module_in_half_precision_has_the_law_of_its_logits(
    kind: str, dtype: torch.dtype
) -> None:
    """In 1,000 steps, of which each moves less than such numbers can tell from nothing."""
    diffusion, network = made(kind), Constant()
    denoiser = ClassDenoiser(network, diffusion).to(dtype)
    with torch.no_grad():
        law = pushed(denoiser, diffusion, SamplingPlan.uniform(1000), 1)
    expected = torch.zeros(diffusion.width).double()
    expected[:K] = network.logits.detach().double().softmax(-1)
    torch.testing.assert_close(law, expected, atol=2e-5, rtol=0)


@kinds
def test_a_move_and_a_loss_of_halves_are_made_in_float32(kind: str) -> None:
    diffusion = made(kind)
    p = Rng(1).normal((40, 5, K)).softmax(-1).bfloat16()
    clean = Rng(2).integers(K, (40, 5))
    for t in (1e-4, 1e-3, 0.01, 0.5, 0.999):
        every = torch.full((40, 5), t, dtype=torch.float64)
        x = diffusion.corrupt(clean, every, Rng(3))
        half, full = Prediction(p), Prediction(p.float())
        assert torch.equal(
            diffusion.loss(half, clean, x, every), diffusion.loss(full, clean, x, every)
        )
        law = diffusion.moved(x, half, every, every * 0.99)
        assert torch.equal(law, diffusion.moved(x, full, every, every * 0.99))
        assert law.dtype == torch.float32


@kinds
def test_the_loss_of_a_module_in_bfloat16_is_a_number_at_every_time(kind: str) -> None:
    diffusion, network = made(kind), Constant()
    denoiser = ClassDenoiser(network, diffusion).to(torch.bfloat16)
    logits = network.logits.detach().double()
    clean = Rng(4).integers(K, (2_000, 1))
    for value in (1e-4, 1e-3, 0.01, 0.5, 0.99):
        t = time(value)
        x = diffusion.corrupt(clean, t, Rng(0))
        found = diffusion.loss(denoiser(x, t)[0], clean, x, t.expand(clean.shape))
        said = logits.expand(*x.shape, K) + diffusion.evidence(x, t).double()
        exact = Prediction(said.softmax(-1), said)
        expected = diffusion.loss(exact, clean, x, t.expand(clean.shape))
        torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-4)


def test_a_step_that_is_hardly_one_moves_as_far_as_it_should() -> None:
    """The share drawn anew, 1 - gamma_t / gamma_s, of a step that float32 rounds off."""
    diffusion, t, s = made("uniform"), time(0.3), time(0.3 - 1e-7)
    x = torch.tensor([[0]])
    sure = torch.nn.functional.one_hot(torch.tensor([[1]]), K)
    exact = diffusion.moved(x, Prediction(sure.double()), t, s)
    found = diffusion.moved(x, Prediction(sure.float()), t, s)
    torch.testing.assert_close(found[0, 0, 1:].double(), exact[0, 0, 1:], rtol=1e-5, atol=0)


@pytest.mark.parametrize("learnt", [True, False])
def test_codes_are_read_outside_of_autocast(learnt: bool) -> None:
    codes = coded(Constant(), learnt)
    x, t = Rng(0).normal((20, 1, 2)), torch.full((20,), 0.4)
    with torch.no_grad():
        plain, _ = codes(x, t)
        with torch.autocast("cpu", torch.bfloat16):
            found, _ = codes(x, t)
            read = codes.decode(x)
    assert found.mean.dtype == torch.float32
    assert torch.equal(found.mean, plain.mean)
    assert found.logits is not None
    assert plain.logits is not None
    assert torch.equal(found.logits, plain.logits)
    assert torch.equal(read, codes.decode(x))


@kinds
def test_the_loss_of_classes_is_made_outside_of_autocast(kind: str) -> None:
    diffusion = made(kind)
    clean, t = Rng(2).integers(K, (40, 5)), torch.full((40, 5), 0.3)
    said = Prediction(Rng(1).normal((40, 5, K)).softmax(-1))
    x = diffusion.corrupt(clean, t, Rng(3))
    with torch.autocast("cpu", torch.bfloat16):
        found = diffusion.loss(said, clean, x, t)
    assert torch.equal(found, diffusion.loss(said, clean, x, t))


@pytest.mark.parametrize("learnt", [True, False])
@pytest.mark.parametrize("form", [(), (3,), (3, 4)])
def test_codes_of_a_network_in_bfloat16_are_states_in_float32(
    learnt: bool, form: tuple[int, ...]
) -> None:
    network = Transformer(
        K + 2, K, max_length=4, width=16, depth=1, heads=2, self_conditioning=True
    )
    codes = coded(network, learnt).to(torch.bfloat16)
    with torch.no_grad():
        x = codes.encode(torch.zeros(3, 4, dtype=torch.int64))
        assert x.dtype == torch.float32
        said, _ = codes(x, torch.full(form, 0.5), {"estimate": torch.zeros_like(x)})
    assert said.mean.dtype == torch.float32
    assert said.mean.shape == x.shape
    diffusion, plan = GaussianDiffusion(Cosine()), SamplingPlan.uniform(3)
    with torch.no_grad():
        steps = sample(codes, diffusion, plan, diffusion.prior(x, Rng(0)), rng=Rng(1))
    assert final(steps).x.dtype == torch.float32
