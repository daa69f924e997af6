"""The schedule by which tokens lose evenly what they say of their class."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from noiseloom import Rng, information
from noiseloom.encodings import Bits, OneHot
from noiseloom.information import Tabulated, affordable_draws, information_schedule

CODES = {"bits": Bits(27).table, "onehot": OneHot(5).table, "random": Rng(1).normal((9, 16))}
LAWS = {"bits": 27, "onehot": 5, "random": 9}


def lost(codes: Tensor, p: Tensor, alpha: float, sigma: float, seed: int) -> float:
    """H(x | noisy code) / H(x) by draws of its own."""
    n = 20_000
    generator = torch.Generator().manual_seed(seed)
    x = torch.multinomial(p, n, replacement=True, generator=generator)
    noisy = alpha * codes[x] + sigma * torch.randn(n, codes.shape[1], generator=generator).double()
    near = -(noisy[:, None] - alpha * codes).square().sum(-1) / (2 * sigma**2) + p.log()
    nats = -near.log_softmax(-1)[torch.arange(n), x].mean()
    return float(nats / -(p * p.log()).sum())


@pytest.mark.parametrize("kind", list(CODES))
@pytest.mark.parametrize("even", [True, False])
def test_the_share_that_is_lost_is_the_time(kind: str, even: bool) -> None:
    codes, count = CODES[kind].double(), LAWS[kind]
    p = torch.ones(count) if even else torch.arange(1, count + 1).float()
    p = (p / p.sum()).double()
    schedule = information_schedule(codes, p)
    for t in (0.1, 0.3, 0.5, 0.7, 0.9):
        alpha, sigma = (float(v) for v in schedule(torch.tensor(t, dtype=torch.float64)))
        assert alpha**2 + sigma**2 == pytest.approx(1)
        assert lost(codes, p, alpha, sigma, 3) == pytest.approx(t, abs=0.035)


def test_of_one_bit_it_is_the_entropy_by_quadrature() -> None:
    p = torch.tensor([0.5, 0.5], dtype=torch.float64)
    schedule = information_schedule(Bits(2).table, p, draws=20_000)
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    for snr in (0.3, 1.0, 3.0):
        # H(x | y) of y = x + eps / sqrt(snr), x = +-1: E log(1 + exp(-2 snr - 2 sqrt(snr) eps)).
        inner = np.log1p(np.exp(-2 * snr - 2 * math.sqrt(snr) * nodes))
        share = float((weights * inner).sum() / weights.sum() / math.log(2))
        t = float(schedule.time(torch.tensor(math.log(snr), dtype=torch.float64)))
        assert t == pytest.approx(share, abs=0.02)


def binary(p: float, distance: float, snr: float) -> float:
    """H(x | y) in nats of two classes whose codes are so far apart, by quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(120)
    total, gap = 0.0, distance * math.sqrt(snr)
    for q in (p, 1 - p):  # -ln p(x | y) = ln(1 + (1 - q) / q exp(-gap^2 / 2 - gap eps))
        inner = np.log1p((1 - q) / q * np.exp(-gap * gap / 2 - gap * nodes))
        total += q * float((weights * inner).sum() / weights.sum())
    return total


@pytest.mark.parametrize("kind", ["bits", "onehot"])
def test_columns_lose_the_mean_of_what_each_loses_by_quadrature(kind: str) -> None:
    """An even binary column, an uneven one, one of other classes, and one that says nothing."""
    codes = {"bits": Bits(4).table, "onehot": OneHot(4).table}[kind]
    laws = [[0.5, 0.5, 0, 0], [0.9, 0.0, 0.0, 0.1], [0, 0.3, 0.7, 0], [0, 0, 1, 0]]
    schedule = information_schedule(codes, torch.tensor(laws), draws=40_000)
    pairs = [(0.5, 0, 1), (0.9, 0, 3), (0.3, 1, 2)]
    whole = sum(binary(p, 0, 1) for p, _, _ in pairs)
    for level in (-2.0, -0.5, 1.0, 2.0):
        lost = sum(
            binary(p, float((codes[i] - codes[j]).double().norm()), math.exp(level))
            for p, i, j in pairs
        )
        found = float(schedule.time(torch.tensor(level, dtype=torch.float64)))
        assert found == pytest.approx(lost / whole, abs=0.02)
    mixed = information_schedule(codes, torch.tensor(laws).mean(0), draws=40_000)
    t = torch.tensor(0.5, dtype=torch.float64)
    assert abs(float(mixed.log_snr(t) - schedule.log_snr(t))) > 0.1  # of no column


def test_columns_that_are_alike_have_the_schedule_of_one() -> None:
    p = torch.tensor([0.5, 0.3, 0.2])
    one = information_schedule(OneHot(3).table, p, draws=20_000)
    many = information_schedule(OneHot(3).table, p.expand(20, 3), draws=20_000)
    few = information_schedule(OneHot(3).table, p.expand(20, 3))
    t = torch.linspace(0, 1, 21, dtype=torch.float64)[2:-2]
    for other, close in ((many, 0.01), (few, 0.03)):
        assert float((other.time(one.log_snr(t)) - t).abs().max()) < close


@pytest.mark.parametrize("kind", ["bits", "random"])
def test_of_many_classes_a_cheaper_one_is_nearly_that(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the draws, and no levels between two at which as much is lost."""
    codes = Bits(512).table if kind == "bits" else Rng(1).normal((512, 16))
    p = 1 / torch.arange(1, 513)
    dear, levels = information_schedule(codes, p), []
    normal = information._nats
    monkeypatch.setattr(information, "_nats", lambda *a: levels.append(a[2]) or normal(*a))
    cheap = information_schedule(codes, p, draws=1000, tolerance=0.01)
    assert len(set(levels)) < 45  # of 113
    t = torch.linspace(0, 1, 41, dtype=torch.float64)[2:-2]
    assert float((cheap.time(dear.log_snr(t)) - t).abs().max()) < 0.02
    same = information_schedule(codes, p, draws=1000)
    assert float((cheap.time(same.log_snr(t)) - t).abs().max()) < 0.005  # of the levels alone


def test_the_cost_is_that_of_some_two_thousand_classes_and_no_more() -> None:
    assert affordable_draws(27) == affordable_draws(2048) == 2000
    assert affordable_draws(4096) == 1024
    assert affordable_draws(8192) == affordable_draws(100_000) == 1000


def test_columns_of_one_class_have_no_schedule() -> None:
    with pytest.raises(ValueError, match="each place has one class"):
        information_schedule(OneHot(3).table, torch.eye(3))


def test_time_and_log_snr_are_inverse_and_reach_both_ends() -> None:
    schedule = information_schedule(CODES["random"], torch.ones(9))
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    snr = schedule.log_snr(t)
    assert bool((snr.diff() < 0).all())
    torch.testing.assert_close(schedule.time(snr), t, atol=1e-9, rtol=0)
    assert (float(snr[0]), float(snr[-1])) == pytest.approx((14, -14), abs=1e-6)


def test_classes_that_do_not_occur_say_nothing() -> None:
    p = torch.tensor([0.5, 0.5, 0.0])
    some = information_schedule(OneHot(3).table, p)
    assert some == information_schedule(OneHot(3).table[:2], p[:2])


@pytest.mark.parametrize(
    ("times", "levels"),
    [
        ((0.0, 1.0), (1.0, 2.0)),
        ((0.0, 0.5), (2.0, 1.0)),
        ((0.0, 0.5, 0.5, 1.0), (4.0, 3.0, 2.0, 1.0)),
    ],
)
def test_a_table_must_fall(times: tuple[float, ...], levels: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="rise from 0 to 1"):
        Tabulated(times, levels)
