"""Classes that are drawn anew, by gathers, against the same sums over one-hot vectors."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from noiseloom import Cosine, Prediction, Rng
from noiseloom.diffusion import CategoricalDiffusion
from noiseloom.diffusion.class_draws import drawn as drawn_of
from noiseloom.noise import LinearGamma
from noiseloom.shapes import align, mean_like

K, B, T = 7, 24, 5
LAW = torch.tensor([0.3, 0.05, 0.2, 1e-4, 0.25, 0.1, 0.1 - 1e-4], dtype=torch.float64)
HOLES = torch.tensor([0.4, 0.0, 0.2, 0.1, 0.3, 0.0, 0.0], dtype=torch.float64)
CASES = {
    "uniform": CategoricalDiffusion(K, "uniform"),
    "uniform, cosine": CategoricalDiffusion(K, "uniform", Cosine()),
    "one law": CategoricalDiffusion(K, "marginal", probabilities=LAW),
    "one law with holes": CategoricalDiffusion(K, "marginal", probabilities=HOLES),
    "sizes": CategoricalDiffusion.of_sizes((7, 2, 5, 7, 3)),
    "a law a place": CategoricalDiffusion(
        K, "marginal", LinearGamma(), torch.stack((LAW, HOLES, LAW.flip(0), HOLES, LAW))
    ),
}
cases = pytest.mark.parametrize("case", list(CASES))


class OneHots:
    """The definitions, written down over all classes."""

    def __init__(self, diffusion: CategoricalDiffusion) -> None:
        self.diffusion = diffusion

    def parts(self, x: Tensor, p: Tensor, t: Tensor) -> tuple[Tensor, ...]:
        pi = self.diffusion.probabilities
        pi = torch.full_like(p, 1 / K) if pi is None else pi.to(p).expand_as(p)
        now = self.diffusion._log_snr(align(t, x))
        return functional.one_hot(x, K).to(p), pi, now[..., None] if now.ndim else now

    def weighed(self, here: Tensor, law: Tensor, pi: Tensor, now: Tensor) -> Tensor:
        there = (-now).sigmoid().to(law.dtype) * (pi * here).sum(-1, keepdim=True)
        likely = now.sigmoid().to(law.dtype) * here + there
        return law / likely.clamp_min(torch.finfo(law.dtype).tiny)

    def loss(self, p: Tensor, clean: Tensor, x: Tensor, t: Tensor) -> Tensor:
        here, pi, now = self.parts(x, p, t)
        now = now.clamp_max(30)
        gamma, noise = now.sigmoid().to(p.dtype), (-now).sigmoid().to(p.dtype)
        ratios = []
        for law in (functional.one_hot(clean, K).to(p), p):
            w = self.weighed(here, law, pi, now)
            ratios.append(gamma * w + noise * pi * w.sum(-1, keepdim=True))
        r_0, r = ratios
        none = (r_0 <= 0) | (here > 0)
        d = torch.where(none, 0, r_0.masked_fill(none, 1).log() - r.masked_fill(none, 1).log())
        total = torch.where(none, 0, r_0 * (torch.expm1(-d) + d)).sum(-1)
        total = total + torch.where((r_0 <= 0) & (here <= 0), r, 0).sum(-1)
        t = align(t, clean)
        share = self.diffusion.noise(t)
        beta = (self.diffusion.rate(t) / (1 - share).clamp_min(1e-30)).to(p.dtype)
        return mean_like(beta * (pi * here).sum(-1) * total, t)

    def moved(self, x: Tensor, p: Tensor, t: Tensor, s: Tensor) -> Tensor:
        here, pi, now = self.parts(x, p, t)
        then = self.parts(x, p, s)[2]
        log = functional.logsigmoid(now) - functional.logsigmoid(then)
        kept, lost = log.exp().to(p.dtype), -torch.expm1(log).to(p.dtype)
        arrives = kept * here + lost * (pi * here).sum(-1, keepdim=True)
        w = self.weighed(here, p, pi, now)
        spread = (-then).sigmoid().to(p.dtype) * pi * w.sum(-1, keepdim=True)
        law = arrives * (then.sigmoid().to(p.dtype) * w + spread)
        return law / law.sum(-1, keepdim=True)

    def evidence(self, x: Tensor, t: Tensor) -> Tensor:
        here, pi, now = self.parts(x, torch.zeros(*x.shape, K), t)
        gamma, noise = now.sigmoid().float(), (-now).sigmoid().float()
        return (gamma * here + noise * (pi * here).sum(-1, keepdim=True)).log()


def drawn(case: str, dtype: torch.dtype, sharp: float = 1.0) -> tuple[Tensor, ...]:
    """Logits, clean classes, states, and times as a batch, a token or all may have them."""
    diffusion = CASES[case]
    pi = diffusion.probabilities
    possible = torch.ones(T, K) if pi is None else (pi > 0).float().expand(T, K)
    clean = torch.multinomial(possible, B, replacement=True, generator=_seed(0)).T
    t = torch.rand(B, T, generator=_seed(1), dtype=torch.float64)
    t[: B // 3] = t[: B // 3] ** 12  # hardly any noise
    t[-1] = 1
    x = diffusion.corrupt(clean, t, Rng(2))
    logits = sharp * torch.randn(B, T, K, generator=_seed(3), dtype=torch.float64)
    return logits.to(dtype), clean, x, t


def _seed(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@cases
@pytest.mark.parametrize("sharp", [0.1, 1.0, 12.0])
@pytest.mark.parametrize("form", ["token", "row", "all"])
def test_the_loss_and_its_gradient_are_those_of_all_classes(
    case: str, sharp: float, form: str
) -> None:
    diffusion, (logits, clean, x, t) = CASES[case], drawn(case, torch.float64, sharp)
    t = {"token": t, "row": t[:, 0], "all": t[5, 0]}[form]
    found, gradients = [], []
    for loss in (
        lambda p: diffusion.loss(Prediction(p), clean, x, t),
        lambda p: OneHots(diffusion).loss(p, clean, x, t),
    ):
        given = logits.clone().requires_grad_()
        value = loss(given.softmax(-1))
        gradients.append(torch.autograd.grad(value.sum(), given)[0])
        found.append(value.detach())
    scale = found[1].abs() + 1e-3
    assert float(((found[0] - found[1]) / scale).abs().max()) < 1e-11
    # The gradient of a softmax is rounded beside what it is made of.
    scale = scale[..., None] + gradients[1].abs().amax(-1, keepdim=True)
    assert float(((gradients[0] - gradients[1]) / scale).abs().max()) < 1e-11


@pytest.mark.parametrize("case", ["uniform", "one law", "one law with holes"])
@pytest.mark.parametrize("t", [1e-9, 1e-5, 1e-3, 0.1, 0.5, 0.9, 0.999, 1 - 1e-5, 1 - 1e-7])
def test_in_float32_it_is_nearer_to_the_truth_than_the_sums(case: str, t: float) -> None:
    """Half of the tokens are drawn anew, whatever the time."""
    diffusion, (logits, clean, x, _) = CASES[case], drawn(case, torch.float32, 3.0)
    x = torch.where(Rng(5).uniform((B, T)) < 0.5, x, clean)
    time, p = torch.full((B, T), t, dtype=torch.float64), logits.softmax(-1)
    exact = p.double() / p.double().sum(-1, keepdim=True)
    truth = OneHots(diffusion).loss(exact, clean, x, time)
    new, old = (
        float(((value.double() - truth) / (truth + 1e-2)).abs().max())
        for value in (
            diffusion.loss(Prediction(p), clean, x, time),
            OneHots(diffusion).loss(p, clean, x, time),
        )
    )
    assert new < 1.5 * old + 1e-6
    assert new < (1e-5 if t < 0.99 else 1e-3)


@cases
@pytest.mark.parametrize("form", ["token", "row", "all"])
def test_moves_are_those_of_all_classes(case: str, form: str) -> None:
    diffusion, (logits, _, x, t) = CASES[case], drawn(case, torch.float64)
    t = {"token": t, "row": t[:, 0], "all": t[5, 0]}[form]
    for factor in (0.0, 0.3, 0.99):
        expected = OneHots(diffusion).moved(x, logits.softmax(-1), t, t * factor)
        found = diffusion.moved(x, Prediction(logits.softmax(-1)), t, t * factor)
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-10)


@cases
@pytest.mark.parametrize("form", ["token", "row", "all"])
def test_what_a_token_says_of_itself_is_that_of_all_classes(case: str, form: str) -> None:
    diffusion, (_, _, x, t) = CASES[case], drawn(case, torch.float32)
    t = {"token": t, "row": t[:, 0], "all": t[5, 0]}[form]
    torch.testing.assert_close(diffusion.evidence(x, t), OneHots(diffusion).evidence(x, t))
    zero = diffusion.evidence(x, torch.zeros(()))  # nothing but what it is
    assert torch.equal(zero == 0, functional.one_hot(x, K).bool())
    assert bool((zero[zero != 0] == -torch.inf).all())


def test_masks_say_nothing_of_themselves() -> None:
    diffusion = CategoricalDiffusion(3)
    found = diffusion.evidence(torch.tensor([[0, 3, 2]]), torch.tensor(0.5))
    never = -torch.inf
    expected = [[0.0, never, never], [0.0, 0.0, 0.0], [never, never, 0.0]]
    assert found.tolist() == [expected]


def test_a_perfect_prediction_costs_nothing_and_a_sure_wrong_one_much() -> None:
    diffusion, (_, clean, x, t) = CASES["uniform"], drawn("uniform", torch.float32)
    t = t.clamp(0.05, 0.95)
    sure = functional.one_hot(clean, K).float()
    assert float(diffusion.loss(Prediction(sure), clean, x, t).abs().max()) < 1e-4
    wrong = functional.one_hot((clean + 1) % K, K).float()
    found = diffusion.loss(Prediction(wrong), clean, x, t)
    assert bool(found.isfinite().all())
    assert float(found.min()) > 0.01


@pytest.mark.parametrize("case", ["one law", "one law with holes", "sizes", "a law a place"])
@pytest.mark.parametrize("shape", [(4000, T), (7, 300, T)])
def test_draws_of_one_law_are_those_of_the_law_of_each(case: str, shape: tuple[int, ...]) -> None:
    diffusion = CASES[case]
    x = diffusion.prior(shape, Rng(3))
    assert diffusion.probabilities is not None
    law = diffusion.probabilities.float().expand(*shape, K)
    assert torch.equal(x, drawn_of(law, Rng(3)))


@cases
def test_a_time_that_the_host_knows_stays_there(case: str) -> None:
    """A scalar on the CPU beside states elsewhere: no operation mixes devices but by value."""
    diffusion, t = CASES[case], torch.tensor(0.5, dtype=torch.float64)
    x = torch.zeros(B, T, dtype=torch.int64, device="meta")
    p = Prediction(torch.zeros(B, T, K, device="meta"))
    for found in (diffusion.evidence(x, t), diffusion.moved(x, p, t, t * 0.5)):
        assert (found.device.type, found.shape) == ("meta", (B, T, K))
    assert diffusion.loss(p, x, x, t).device.type == "meta"
