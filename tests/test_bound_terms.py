"""Each term of the bound of codes by itself, on laws and denoisers for which it is known."""

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from noiseloom import Cosine, GaussianDiffusion, LinearGamma, Prediction, Rng, TabularPrior
from noiseloom.bound import nats_bound
from noiseloom.class_denoiser import CodeDenoiser
from noiseloom.data import Split, Tokens
from noiseloom.information import information_schedule
from noiseloom.next_token import NextToken
from noiseloom.recipes import Classes
from noiseloom.recipes.class_bits import ROW

# Two classes have nearly one code, and no code is far from all others.
COLLIDING = torch.tensor([[1.0], [1.02], [0.5], [-0.4], [-1.2]])
LEAKY = LinearGamma(clip=0.2)
"""A schedule whose log-SNR is ln(0.2 / 0.8) at time 1: a fifth of the signal is left."""
EVEN = information_schedule(COLLIDING, torch.ones(5))


def codec_of(schedule: Any, table: Tensor) -> CodeDenoiser:
    return CodeDenoiser(nn.Identity(), schedule, table)


class Even:
    """E[x_0 | x_t] where all codes are equally likely, and tokens independent."""

    def __init__(self, schedule: Any, table: Tensor) -> None:
        self.schedule, self.table = schedule, table.double()

    def __call__(self, x: Tensor, t: Tensor, *rest: object) -> tuple[Prediction, dict[str, object]]:
        alpha, sigma = (v.reshape(-1, 1, 1, 1) for v in self.schedule(t.double()))
        away = (x.double()[:, :, None] - alpha * self.table).square().sum(-1)
        p = (-away / (2 * sigma[..., 0] ** 2)).softmax(-1)
        return Prediction((p @ self.table).to(x)), {}


def blind(x: Tensor, t: Tensor, *rest: object) -> tuple[Prediction, dict[str, object]]:
    return Prediction(torch.zeros_like(x)), {}


def mean_and_error(nats: Tensor) -> tuple[float, float]:
    return float(nats.mean()), float(nats.std()) / math.sqrt(len(nats))


@pytest.mark.parametrize("level", [-1.0, 2.0, 5.0])
@pytest.mark.parametrize("schedule", [Cosine(), EVEN])
def test_codes_that_collide_cost_what_the_decoder_cannot_tell_apart(
    schedule: Any, level: float
) -> None:
    """Of even independent tokens its law is the posterior: the bound is T ln K at any level."""
    rows = Rng(0).integers(5, (6000, 2))
    nats = nats_bound(
        Even(schedule, COLLIDING),
        GaussianDiffusion(schedule),
        rows,
        Rng(1),
        codec=codec_of(schedule, COLLIDING),
        log_snr=level,
    )
    mean, error = mean_and_error(nats)
    assert abs(mean - 2 * math.log(5)) < 4 * error < 0.12


def test_signal_that_is_left_at_time_1_is_paid_for() -> None:
    """With the exact denoiser the bound is ln K + KL(q(x_1) || N(0, sigma_1^2))."""
    table = torch.tensor([[-2.0], [2.0]])
    alpha, sigma = (float(v) for v in LEAKY(torch.ones((), dtype=torch.float64)))
    x = torch.linspace(-8, 8, 8001, dtype=torch.float64)
    near = torch.distributions.Normal(alpha * table[:, 0].double(), sigma)
    mixture = near.log_prob(x[:, None]).logsumexp(1) - math.log(2)
    prior = torch.distributions.Normal(0.0, sigma).log_prob(x)
    gap = float(torch.trapezoid(mixture.exp() * (mixture - prior), x))
    nats = nats_bound(
        Even(LEAKY, table),
        GaussianDiffusion(LEAKY),
        Rng(0).integers(2, (8000, 1)),
        Rng(1),
        codec=codec_of(LEAKY, table),
    )
    mean, error = mean_and_error(nats)
    assert abs(mean - math.log(2) - gap) < 4 * error < gap / 2


@pytest.mark.parametrize(
    ("schedule", "level"),
    [(Cosine(), -4.0), (Cosine(), 3.0), (LEAKY, -1.0), (EVEN, -4.0), (EVEN, 3.0)],
)
def test_who_sees_nothing_pays_for_all_of_the_code_wherever_the_schedule_begins(
    schedule: Any, level: float
) -> None:
    """With mean 0 prior and integral are |c|^2 (e^low + (e^level - e^low)) / 2; the class is sure.

    Of that at level -4, what lies below log-SNR -6 is a seventh.
    """
    codec = codec_of(schedule, torch.tensor([[2.0, 1.0]]))
    rows = torch.zeros(1000, 3, dtype=torch.int64)
    nats = nats_bound(
        blind, GaussianDiffusion(schedule), rows, Rng(0), codec=codec, points=64, log_snr=level
    )
    mean, error = mean_and_error(nats / (3 * 5 * math.exp(level) / 2))
    assert abs(mean - 1) < 4 * error < 0.01


def test_a_few_levels_say_on_average_what_many_do() -> None:
    rows, schedule = Rng(0).integers(5, (4000, 2)), Cosine()
    few, many = (
        nats_bound(
            Even(schedule, COLLIDING),
            GaussianDiffusion(schedule),
            rows,
            Rng(points),
            codec=codec_of(schedule, COLLIDING),
            points=points,
        )
        for points in (3, 100)
    )
    (one, error), (other, less) = mean_and_error(few), mean_and_error(many)
    assert abs(one - other) < 4 * math.hypot(error, less) < 0.5
    assert less < error


def test_codes_are_not_read_below_what_the_schedule_leaves() -> None:
    codec = codec_of(LEAKY, COLLIDING)
    with pytest.raises(ValueError, match=r"log_snr -4 is below -1\.386, which the schedule leaves"):
        nats_bound(
            blind,
            GaussianDiffusion(LEAKY),
            torch.zeros(1, 1, dtype=torch.int64),
            Rng(0),
            codec=codec,
            log_snr=-4.0,
        )


@dataclass(frozen=True)
class Apart(Classes):
    """Rows that are trained on are of another law than those held out."""

    name: ClassVar[str] = "apart"
    summary: ClassVar[str] = "two laws"
    kind: ClassVar[str] = "text"
    width: int = 16
    depth: int = 1
    heads: int = 2
    levels: int = 4
    judged: int = 64
    m: int = 2
    k: int = 3
    encoder_width: int = 8
    encoder_depth: int = 1

    def load(self, data: str | None) -> Split[Any]:
        train = Rng(0).integers(2, (200, 4))
        return Split(Tokens(train, (3,) * 4), Tokens(torch.full((64, 4), 2), (3,) * 4))


def made(**options: Any) -> tuple[Apart, Any, Any, Split[Any]]:
    recipe = Apart(**options)
    data = recipe.load(None)
    facts = recipe.facts(data)
    with Rng(0).torch():
        parts = recipe.build(facts)
    with torch.no_grad():  # untrained networks say the same of all classes
        for i, parameter in enumerate(parts.denoiser.parameters()):
            parameter += 0.3 * Rng(1).fold("shake", i).normal(parameter.shape)
    return recipe, parts, facts, data


def several(recipe, rows) -> int:
    """Draws of each row: as many as make up the rows that are judged, of 32 tokens each."""
    return recipe.judged * ROW // rows.numel()


@pytest.mark.parametrize("state", ["masked", "uniform", "bits", "autoregressive"])
def test_bits_are_of_the_rows_that_are_held_out(state: str) -> None:
    recipe, parts, facts, data = made(state=state)
    held, seen = data.held_out.values, data.train.values[:64]
    found = recipe.examine(parts, facts, data, Rng(2))["bits_per_token"]
    draws = 1 if state == "autoregressive" else several(recipe, held)
    own, other = (
        recipe.bits(parts, rows.repeat(draws, 1), Rng(2).fold("bits"))[0] for rows in (held, seen)
    )
    assert found == pytest.approx(own)
    assert abs(own - other) > 0.05
    if isinstance(parts.denoiser, NextToken):
        with torch.no_grad():
            exact = -parts.denoiser.eval().log_prob(held).mean() / 4 / math.log(2)
        assert found == pytest.approx(float(exact), rel=1e-5)


@pytest.mark.parametrize("base", ["masked", "bits"])
def test_bits_with_codes_are_those_given_them_and_those_for_them(base: str) -> None:
    recipe, parts, facts, data = made(state="latent", latent_base=base)
    parts = replace(parts, prior=TabularPrior(2, 3))
    found = recipe.examine(parts, facts, data, Rng(2))
    rows = data.held_out.values
    rows = rows.repeat(several(recipe, rows), 1)
    told, paid = recipe.nats(parts, rows, Rng(2).fold("bits"))[-1] / 4 / math.log(2)
    assert found["bits_per_token"] == pytest.approx(float(told.mean() + paid.mean()))
    assert found["bits_per_token_codes"] == pytest.approx(float(paid.mean()))
    # The prior is even: the encoder's surest codes cost ln 3 each, its draws no more than that.
    assert 0.01 < found["bits_per_token_codes"] <= 2 * math.log2(3) / 4
    surest = recipe.nats(parts, rows, Rng(2).fold("bits"), "surest")[-1][0] / 4 / math.log(2)
    expected = float(surest.mean()) + 2 * math.log2(3) / 4
    assert found["bits_per_token_surest"] == pytest.approx(expected)
