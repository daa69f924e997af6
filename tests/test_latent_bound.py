"""What codes cost: the bound of a diffusion with latents, on laws whose entropy is known."""

import itertools
import math

import pytest
import torch
from tests.test_categorical import Exact, K, made
from tests.test_classes import ExactCodes, network
from torch import Tensor
from torch.nn import functional

from noiseloom import Cosine, GaussianDiffusion, Prediction, Rng, TabularPrior
from noiseloom.bound import nats_bound
from noiseloom.class_denoiser import CodeDenoiser
from noiseloom.encodings import Bits
from noiseloom.latents import latent_bound

N = 2_000
PRIOR = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
LAWS = torch.stack(
    [Rng(5).fold("law", z).uniform((K, K), torch.float64) ** 3 + 0.05 for z in range(3)]
)
LAWS = LAWS / LAWS.sum((1, 2), keepdim=True)
JOINT = PRIOR[:, None, None] * LAWS  # p(z, x)


def rows_of(data: Tensor) -> Tensor:
    pairs = torch.tensor(list(itertools.product(range(K), repeat=2)))
    draws = torch.Generator().manual_seed(0)
    return pairs[torch.multinomial(data.flatten(), N, replacement=True, generator=draws)]


ROWS = rows_of(JOINT.sum(0))
TRUTH = -JOINT.sum(0)[ROWS[:, 0], ROWS[:, 1]].log()  # -ln p(x)
POSTERIOR = (JOINT / JOINT.sum(0))[:, ROWS[:, 0], ROWS[:, 1]].T  # p(z | x), (N, 3)


class Told:
    """The exact denoiser of x given the code."""

    def __init__(self, each: list[object]) -> None:
        self.each = each

    def __call__(
        self, x: Tensor, t: Tensor, cond: dict[str, Tensor], carry: object, rng: object
    ) -> tuple[Prediction, dict[str, object]]:
        z = cond["codes"].argmax(-1)[:, 0]
        mean = None
        for value, denoiser in enumerate(self.each):
            rows = (z == value).nonzero()[:, 0]
            if len(rows):
                found = denoiser(x[rows], t[rows])[0].mean  # type: ignore[operator]
                mean = found.new_zeros(len(x), *found.shape[1:]) if mean is None else mean
                mean[rows] = found
        assert mean is not None
        return Prediction(mean), {}


def bound(q: Tensor, prior: Tensor = PRIOR, kind: str = "absorbing", **options: object) -> Tensor:
    diffusion = made(kind)
    told = Told([Exact(diffusion, law) for law in LAWS])
    logits = q.log()[:, None]
    parts = latent_bound(
        told,
        diffusion,
        ROWS,
        Rng(0),
        logits=logits,
        log_prior=lambda z: prior.log()[z[:, 0]],
        points=4,
        **options,
    )
    return sum(parts)


def agrees(found: Tensor, expected: Tensor) -> bool:
    off = found - expected
    return abs(float(off.mean())) < 4 * float(off.std()) / math.sqrt(N) < 0.25


@pytest.mark.parametrize("kind", ["absorbing", "uniform"])
def test_with_the_exact_posterior_and_prior_it_is_the_entropy(kind: str) -> None:
    assert agrees(bound(POSTERIOR, kind=kind), TRUTH)


def test_with_the_surest_codes_the_gap_is_what_they_leave_open() -> None:
    gap = -POSTERIOR.amax(1).log()
    assert gap.mean() > 0.2
    assert agrees(bound(POSTERIOR, surest=True), TRUTH + gap)


def test_with_another_encoder_the_gap_is_its_distance_from_the_posterior() -> None:
    blind = PRIOR.expand(N, 3)
    gap = (blind * (blind / POSTERIOR).log()).sum(1)
    assert gap.mean() > 0.2
    assert agrees(bound(blind), TRUTH + gap)


def test_with_another_prior_the_gap_is_its_distance_from_the_codes() -> None:
    prior = torch.tensor([0.1, 0.1, 0.8], dtype=torch.float64)
    gap = (POSTERIOR * (PRIOR / prior).log()).sum(1)
    assert gap.mean() > 0.2
    assert agrees(bound(POSTERIOR, prior), TRUTH + gap)


def test_of_analog_bits_too() -> None:
    codec = CodeDenoiser(network(2), Cosine(), Bits(3).table)
    told = Told([ExactCodes(codec.codes, law) for law in LAWS])
    nats = latent_bound(
        told,
        GaussianDiffusion(Cosine()),
        ROWS,
        Rng(0),
        logits=POSTERIOR.log()[:, None],
        log_prior=lambda z: PRIOR.log()[z[:, 0]],
        codec=codec,
        points=16,
    )
    assert agrees(sum(nats), TRUTH)


def test_an_encoder_that_tells_the_whole_row_wins_nothing() -> None:
    def copied(
        x: Tensor, t: Tensor, cond: dict[str, Tensor], *rest: object
    ) -> tuple[Prediction, dict[str, object]]:
        return Prediction(cond["codes"].double()), {}

    prior = TabularPrior(2, K)
    prior.table.copy_(JOINT.sum(0).flatten()[None])
    logits = 200 * functional.one_hot(ROWS, K).double()
    told, paid = latent_bound(
        copied, made("absorbing"), ROWS, Rng(0), logits=logits, log_prior=prior.log_prob, points=2
    )
    assert float(told.abs().max()) < 1e-6
    torch.testing.assert_close(paid, TRUTH, atol=1e-5, rtol=1e-5)


def test_a_row_has_one_code_at_all_levels_the_same_alone_and_in_a_batch() -> None:
    seen = []

    def listening(
        x: Tensor, t: Tensor, cond: dict[str, Tensor], *rest: object
    ) -> tuple[Prediction, dict[str, object]]:
        seen.append(cond["codes"])
        return Prediction(torch.full((*x.shape, K), 1 / K)), {}

    def call(rows: slice, start: int = 0) -> tuple[Tensor, Tensor]:
        keys = Rng(0).samples(len(ROWS[rows]), start)
        return latent_bound(
            listening,
            made("absorbing"),
            ROWS[rows],
            keys,
            logits=POSTERIOR[rows, None].log(),
            log_prior=lambda z: PRIOR.log()[z[:, 0]],
            points=3,
            passes=2,
        )

    told, paid = call(slice(0, 20))
    assert len(seen) == 6
    assert all(torch.equal(codes, seen[0]) for codes in seen)
    assert len(seen[0].argmax(-1).unique()) > 1
    alone = call(slice(7, 9), 7)
    torch.testing.assert_close(alone[0], told[7:9])
    torch.testing.assert_close(alone[1], paid[7:9])
    # What is drawn for the noise is what the bound alone would draw.
    same = nats_bound(
        lambda x, t, *rest: listening(x, t, {"codes": seen[0]}),
        made("absorbing"),
        ROWS[:20],
        Rng(0),
        points=3,
    )
    torch.testing.assert_close(told, same)
