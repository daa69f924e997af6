"""Scores of sampled paths, against closed forms and by hand."""

import math

import pytest
import torch

from noiseloom.metrics import (
    forecast_report,
    historical_paths,
    history_report,
    quantile_score,
    random_walks,
)
from noiseloom.rng import Rng

NORMAL = torch.distributions.Normal(0.0, 1.0)


@pytest.mark.parametrize("y", [-2.0, -0.3, 0.5, 1.7])
def test_the_score_of_a_normal_law(y):
    levels = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    paths = 10 + NORMAL.icdf(levels)[:, None]
    truth = torch.tensor([10 + y], dtype=torch.float64)
    q = torch.arange(1, 20, dtype=torch.float64) / 20
    at = NORMAL.icdf(q)
    pinball = torch.where(y > at, q * (y - at), (1 - q) * (at - y))
    assert math.isclose(
        quantile_score(paths, truth), float(2 * pinball.mean() / (10 + y)), rel_tol=1e-3
    )
    # Near the integral over all levels, y (2 Phi - 1) + 2 phi - 1 / sqrt(pi), without its tails.
    phi = math.exp(-y * y / 2) / math.sqrt(2 * math.pi)
    crps = y * (2 * float(NORMAL.cdf(torch.tensor(y))) - 1) + 2 * phi - 1 / math.sqrt(math.pi)
    if abs(y) < 1:
        assert abs(quantile_score(paths, truth) * (10 + y) - crps) < 0.03


def test_one_sure_path_has_its_absolute_error():
    truth = torch.tensor([1.0, -2.0, 4.0])
    paths = torch.tensor([1.5, -2.0, 3.0]).expand(7, 3)
    assert math.isclose(quantile_score(paths, truth), 1.5 / 7, rel_tol=1e-6)
    assert quantile_score(truth.expand(7, 3), truth) == 0


def test_a_report_knows_sums_from_columns():
    truth = torch.ones(2, 3, 4)
    off = torch.tensor([1.0, -1.0, 1.0, -1.0])  # errors that cancel in the sum
    report = forecast_report((truth + 0.1 * off).expand(5, 2, 3, 4), truth)
    assert abs(report["crps_sum"]) < 1e-6
    assert math.isclose(report["crps"], 0.1, rel_tol=1e-5)
    assert math.isclose(report["mean_error"], 0.1, rel_tol=1e-5)
    assert report["inside_90"] == 0


def test_what_would_be_over_nothing_is_left_out():
    paths = torch.ones(5, 2, 3, 2)
    assert forecast_report(paths, torch.zeros(2, 3, 2)).keys() == {"inside_90"}
    cancels = torch.tensor([1.0, -1.0]).expand(2, 3, 2)
    assert forecast_report(paths, cancels).keys() == {"crps", "mean_error", "inside_90"}


def test_the_share_inside_is_that_of_the_law():
    rng = Rng(0)
    paths = rng.fold("paths").normal((400, 30, 20, 2))
    truth = rng.fold("truth").normal((30, 20, 2))
    assert abs(forecast_report(paths, truth)["inside_90"] - 0.9) < 0.03
    assert forecast_report(3 * paths, truth)["inside_90"] > 0.99


@pytest.mark.parametrize("season", [1, 4])
@pytest.mark.parametrize("horizon", [3, 4, 9])
def test_history_that_repeats_itself_is_forecast_exactly(season, horizon):
    # Linear trend and, with a season, its shape: both are the same at every place of the past.
    step = torch.arange(80, dtype=torch.float64)
    shape = torch.tensor([0.0, 3.0, -1.0, 5.0], dtype=torch.float64)
    whole = torch.stack((0.5 * step, step + (shape[step.long() % 4] if season == 4 else 0)), 1)
    paths = historical_paths(whole[:60], whole[50:60], horizon, season, 11, Rng(0))
    assert paths.shape == (11, horizon, 2)
    torch.testing.assert_close(paths, whole[60 : 60 + horizon].expand(11, -1, -1))


def test_history_takes_every_place_and_no_other():
    past = torch.randint(100, (30, 1), generator=torch.Generator().manual_seed(0)).double()
    paths = historical_paths(past, past[-1:], 2, 1, 4000, Rng(1))
    moves = {tuple(path) for path in (paths[:, :, 0] - past[-1]).tolist()}
    every = {(float(past[i + 1] - past[i]), float(past[i + 2] - past[i])) for i in range(1, 28)}
    assert moves <= every | {(float(past[1] - past[0]), float(past[2] - past[0]))}
    assert len(moves) > 0.9 * len(every)


@pytest.mark.parametrize("season", [1, 4])
def test_history_with_gaps_is_repeated_where_it_is_whole(season):
    step = torch.arange(80, dtype=torch.float64)
    shape = torch.tensor([0.0, 3.0, -1.0, 5.0], dtype=torch.float64)
    whole = (0.5 * step + (shape[step.long() % 4] if season == 4 else 0))[:, None]
    past = whole[:60].clone()
    past[[7, 20, 21, 37]] = torch.nan
    paths = historical_paths(past, past, 6, season, 50, Rng(0))
    torch.testing.assert_close(paths, whole[60:66].expand(50, -1, -1))
    report = history_report(past, whole[60:72], 6, season, 20, Rng(0))
    assert report["crps"] == pytest.approx(0, abs=1e-9)
    assert report["inside_90"] == 1
    # What is not there is not scored: no season before the last value, and none to repeat.
    late, sparse = past.clone(), past.clone()
    late[-1] = torch.nan
    sparse[::5] = torch.nan
    for other in (late, sparse, past[-20:]):
        assert history_report(other, whole[60:72], 6, season, 20, Rng(0)) == {}
    with pytest.raises(ValueError, match=f"6 steps and a season of {season} is without gaps"):
        historical_paths(sparse, past, 6, season, 5, Rng(0))


def test_history_without_gaps_draws_as_it_did():
    past = Rng(3).normal((50, 2)).double()
    one = historical_paths(past, past, 5, 2, 30, Rng(1))
    h = torch.arange(1, 6)
    back = 2 * ((h + 1) // 2)
    i = Rng(1).integers(50 - 5 - 5, (30, 1)) + 5
    assert torch.equal(one, past[49 + h - back] + past[i + h] - past[i + h - back])


def test_a_random_walk_keeps_the_pace_that_is_known_and_has_no_drift():
    known = torch.tensor([[0.0, 10.0], [3.0, 10.0], [-1.0, 11.0]], dtype=torch.float64)[None]
    pace = torch.tensor([math.sqrt((9 + 16) / 2), math.sqrt(1 / 2)], dtype=torch.float64)
    n = 20_000
    paths = random_walks(known.expand(2, -1, -1), 3, n, Rng(0))
    assert paths.shape == (n, 2, 3, 2)
    moved = (paths - known[0, -1]) / pace
    h = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    errors = (h / n).sqrt()[:, None]
    assert (moved.mean(0).abs() < 4 * errors).all()
    assert ((moved.var(0) / h[:, None] - 1).abs() < 4 * math.sqrt(2 / n)).all()
    steps = moved.diff(dim=2, prepend=torch.zeros(n, 2, 1, 2, dtype=torch.float64))
    found = torch.corrcoef(steps.flatten(1).T)
    assert (found - torch.eye(12)).abs().max() < 5 / math.sqrt(n)


def test_a_random_walk_leaves_gaps_out():
    known = torch.tensor([1.0, math.nan, 2.0, 4.0, math.nan])[None, :, None]
    with_gaps = random_walks(known[:, :4], 2, 5, Rng(0))
    assert torch.equal(with_gaps, random_walks(known[:, 2:4], 2, 5, Rng(0)))
    assert random_walks(known, 2, 5, Rng(0)).isnan().all()
