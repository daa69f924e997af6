"""What data of classes may be: whole numbers of classes that there are."""

import re
from typing import Any

import numpy as np
import pytest
import torch
from test_categorical import LAW, K, kinds, made, time
from test_classes import network
from torch import Tensor

from noiseloom import Prediction, Rng
from noiseloom.class_denoiser import ClassDenoiser
from noiseloom.diffusion import CategoricalDiffusion
from noiseloom.next_token import NextToken

HOLE = torch.tensor([0.4, 0.6, 0.0], dtype=torch.float64)


def moves(pi: Tensor, u: float) -> Tensor:
    """The law of where a class is, a row for each."""
    return (1 - u) * torch.eye(K, dtype=torch.float64) + u * pi


@pytest.mark.parametrize("pi", [HOLE, torch.tensor([0.0, 1.0, 0.0]).double()])
@pytest.mark.parametrize("wrong", [0.0, 0.3])
def test_classes_that_noise_never_draws_count_in_the_loss(pi: Tensor, wrong: float) -> None:
    """Of one token: the bound by quadrature is the entropy, and more of another posterior."""
    diffusion = CategoricalDiffusion(K, "marginal", probabilities=pi)
    nodes, weights = np.polynomial.legendre.leggauss(60)
    states, clean, total = torch.arange(K).repeat(K)[:, None], torch.arange(K), 0.0
    clean = clean.repeat_interleave(K)[:, None]
    for node, weight in zip(nodes, weights, strict=True):
        t, weight = time(((node + 1) / 2) ** 3), weight / 2 * 3 * ((node + 1) / 2) ** 2
        matrix = moves(pi, float(t))
        law = (1 - wrong) * LAW + wrong * LAW.flip(0)
        joint = law[:, None] * matrix
        p = (joint / joint.sum(0).clamp_min(1e-300)).T[states]
        nats = diffusion.loss(Prediction(p), clean, states, t.expand(K * K, 1))[:, 0]
        chance = LAW[clean[:, 0]] * matrix[clean[:, 0], states[:, 0]]
        total += weight * float(torch.where(chance > 0, chance * nats, 0).sum())
    entropy = -float((LAW * LAW.log()).sum())
    truth = -float((LAW * ((1 - wrong) * LAW + wrong * LAW.flip(0)).log()).sum())
    assert total == pytest.approx(truth, abs=3e-4)
    assert (truth > entropy) is (wrong > 0)


def test_a_class_that_a_denoiser_rules_out_costs_without_end_and_one_it_hopes_for_something() -> (
    None
):
    diffusion = CategoricalDiffusion(K, "marginal", probabilities=torch.tensor([0.5, 0.5, 0.0]))
    x, t = torch.tensor([[0]]), torch.tensor(0.5)
    sure = Prediction(torch.tensor([[[0.5, 0.5, 0.0]]]))
    assert float(diffusion.loss(sure, torch.tensor([[2]]), x, t)) == torch.inf
    # r(2) = gamma w_2 = gamma p_2 / ((1 - gamma) pi_0), beta pi_0 = 1 / gamma pi_0: 0.5 / 0.5.
    hopes = Prediction(torch.tensor([[[0.5, 0.0, 0.5]]]))
    knows = Prediction(torch.tensor([[[1.0, 0.0, 0.0]]]))
    rest = diffusion.loss(hopes, x, x, t) - diffusion.loss(knows, x, x, t)
    # And S, by which the ratio at 1 is another: S / S_0 = (0.5 / 0.75 + 0.5 / 0.25) / (1 / 0.75).
    ratio = (0.5 / 0.75 + 0.5 / 0.25) * 0.75
    at_one = 0.5 * 0.5 / 0.75 * (ratio - 1 - np.log(ratio))
    assert float(rest) == pytest.approx(1 / 0.5 * 0.5 * (0.5 * 0.5 / 0.25 + at_one), rel=1e-5)


@kinds
@pytest.mark.parametrize("bad", [-1, K, 7])
def test_classes_that_there_are_not_are_refused(kind: str, bad: int) -> None:
    told = f"classes are whole numbers from 0 to {K - 1}, got {bad}"
    with pytest.raises(ValueError, match=f"^{re.escape(told)}$"):
        made(kind).corrupt(torch.tensor([[0, bad, 1]]), time(0.5), Rng(0))


@kinds
def test_numbers_that_are_not_whole_are_refused(kind: str) -> None:
    for clean in (torch.zeros(1, 2), torch.zeros(1, 2, dtype=torch.bool)):
        with pytest.raises(TypeError, match=f"classes are whole numbers, got {clean.dtype}"):
            made(kind).corrupt(clean, time(0.5), Rng(0))


@pytest.mark.parametrize(
    ("pi", "tokens", "told"),
    [
        (HOLE, [[0, 1], [2, 1]], "class 2, which has probability 0"),
        (torch.stack((HOLE, LAW)), [[0, 2], [2, 1]], "class 2 at place 0, which has probability 0"),
    ],
)
def test_classes_of_no_probability_are_refused_by_name(
    pi: Tensor, tokens: list[list[int]], told: str
) -> None:
    diffusion = CategoricalDiffusion(K, "marginal", probabilities=pi)
    with pytest.raises(ValueError, match=told) as caught:
        diffusion.corrupt(torch.tensor(tokens), time(0.5), Rng(0))
    assert "\n" not in str(caught.value)
    diffusion.corrupt(torch.tensor(tokens[:1]), time(0.5), Rng(0))


def test_data_elsewhere_are_not_waited_for(monkeypatch: Any) -> None:
    """A look at a value of a tensor of another device would wait for it; meta has none to see."""
    diffusion = CategoricalDiffusion(K, "marginal", probabilities=HOLE)
    clean = torch.zeros(4, 5, dtype=torch.int64, device="meta")
    monkeypatch.setattr(
        Rng, "uniform", lambda self, shape, *a, **k: torch.empty(shape, device="meta")
    )
    assert diffusion.corrupt(clean, torch.tensor(0.5), Rng(0)).shape == (4, 5)


@kinds
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_classes_of_any_whole_type_are_states_of_int64(kind: str, dtype: torch.dtype) -> None:
    diffusion, wide = made(kind), Rng(1).integers(K, (6, 4))
    clean, t = wide.to(dtype), time(0.5)
    x = diffusion.corrupt(clean, t, Rng(0))
    assert x.dtype == torch.int64
    assert torch.equal(x, diffusion.corrupt(wide, t, Rng(0)))
    p = Prediction(Rng(2).normal((6, 4, K)).softmax(-1))
    for name, found, expected in (
        ("up", *(diffusion.renoise(v, t, time(0.7), Rng(3)) for v in (x.to(dtype), x))),
        ("down", *(diffusion.reverse(v, p, t, time(0.2), Rng(3)) for v in (x.to(dtype), x))),
        ("law", *(diffusion.moved(v, p, t, time(0.2)) for v in (x.to(dtype), x))),
        ("said", *(diffusion.evidence(v, t) for v in (x.to(dtype), x))),
        ("loss", *(diffusion.loss(p, v, x, t) for v in (clean, wide))),
        ("masks", *(diffusion.cross_entropy(p, v, x, t) for v in (clean, wide))),
    ):
        assert found.dtype == expected.dtype, name
        assert torch.equal(found, expected), name


@pytest.mark.parametrize("looks_up", [True, False])
def test_a_denoiser_is_told_classes_of_any_whole_type(looks_up: bool) -> None:
    denoiser = ClassDenoiser(network(K + 1), made("absorbing"))
    denoiser.looks_up = looks_up
    x = torch.tensor([[0, 3, 2, 3]])
    found, expected = (denoiser(v, torch.tensor(0.5))[0].mean for v in (x.int(), x))
    assert torch.equal(found, expected)


def test_rows_of_the_autoregressive_model_need_places_and_keys() -> None:
    model = NextToken(network(K + 1, causal=True), K)
    assert model.sample(0, Rng(0).samples(3)).shape == (3, 0)
    assert model.sample(0, Rng(0).samples(3)).dtype == torch.int64
    with pytest.raises(ValueError, match="one key per sample, as Rng"):
        model.sample(3, Rng(0))
    with pytest.raises(ValueError, match="length must be at least 0, got -1"):
        model.sample(-1, Rng(0).samples(3))
    rows = Rng(1).integers(K, (5, 4))
    assert torch.equal(model.log_prob(rows.int()), model.log_prob(rows))
