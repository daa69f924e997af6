import pytest
import torch

from noiseloom.metrics import Coverage, coverage, expected_coverage, memorised_share, nearest
from noiseloom.rng import Rng

DIRECT = "donot_use_mm_for_euclid_dist"


def _points(*values):
    return torch.tensor(values, dtype=torch.float64)[:, None]


def test_points_on_a_line():
    """Radii of the real points: 1, 1, 1, 8; of the samples: 49.5, 1, 1."""
    found = coverage(_points(0.5, 50, 51), _points(0, 1, 2, 10), k=1)
    assert found == Coverage(precision=1 / 3, recall=1.0, density=2 / 3, coverage=0.5)


def test_the_second_neighbour():
    """Radii of the real points for k = 2: 2, 1, 2, 9. Their balls hold 0.5: three; 50, 51: none."""
    found = coverage(_points(0.5, 50, 51), _points(0, 1, 2, 10), k=2)
    assert found.density == pytest.approx(3 / (2 * 3))
    assert found.coverage == 3 / 4


def test_identical_and_disjoint_sets():
    x = Rng(0).normal((50, 3))
    same = coverage(x, x.flip(0), k=5)
    assert (same.precision, same.recall, same.coverage) == (1, 1, 1)
    assert same.density >= 1  # every point is in its own ball and, on average, in five others'
    assert coverage(x + 100, x) == Coverage(0, 0, 0, 0)


def test_mode_collapse_lowers_recall_and_coverage_only():
    real = torch.cat([Rng(1).normal((200, 2)), Rng(2).normal((200, 2)) + 30])
    found = coverage(Rng(3).normal((200, 2)), real)
    assert found.precision > 0.9
    assert found.recall < 0.55
    assert found.coverage < 0.55


def test_expected_coverage_is_the_mean():
    N, M, k = 30, 20, 3
    values = []
    for i in range(300):
        rng = Rng(i)
        values.append(coverage(rng.fold("s").normal((M, 3)), rng.normal((N, 3)), k).coverage)
    values = torch.tensor(values)
    error = values.std() / len(values) ** 0.5
    assert abs(values.mean() - expected_coverage(M, N, k)) < 4 * error


def test_pieces_change_nothing(monkeypatch):
    samples, real = Rng(0).normal((40, 3)), Rng(1).normal((50, 3))
    whole, distance = coverage(samples, real), nearest(samples, real)
    monkeypatch.setitem(coverage.__globals__, "ROWS", 7)
    assert coverage(samples, real) == whole
    # A product of matrices may be summed in another order where they are of another size.
    torch.testing.assert_close(nearest(samples, real), distance)


def test_nearest_is_exact_on_pictures():
    reference = torch.tensor([[[0, 0], [0, 3]], [[255, 0], [0, 0]]], dtype=torch.uint8)[:, None]
    x = torch.tensor([[[0, 4], [0, 3]], [[255, 0], [0, 0]]], dtype=torch.uint8)[:, None]
    assert nearest(x, reference).tolist() == [4, 0]


def test_memorised_share_tells_copies_from_draws():
    train, held_out, fresh = Rng(0).normal((3, 1000, 2))
    assert memorised_share(train[:100], train, held_out) == 1
    assert memorised_share(fresh, train, held_out) < 0.03
    assert memorised_share(held_out, train, held_out) == pytest.approx(0.01, abs=0.001)
    assert memorised_share(fresh + 50, train, held_out) == 0


@pytest.mark.parametrize(
    ("samples", "real", "words"),
    [
        (torch.zeros(5, 2), torch.zeros(50, 2), "more than k rows, got 5 samples"),
        (torch.zeros(50, 2), torch.zeros(50, 3), "other dimensions"),
        (torch.full((50, 2), torch.nan), torch.zeros(50, 2), "finite"),
    ],
)
def test_refusals(samples, real, words):
    with pytest.raises(ValueError, match=words):
        coverage(samples, real)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 255.0])
def test_nearest_is_the_direct_distance_to_rounding(scale):
    """Far from the origin, with copies and all but copies, which products would miss."""
    rng, n, d = Rng(0), 1500, 300
    reference = (scale * (20 + rng.fold("y").normal((n, d)))).float()
    others = (scale * (20 + rng.fold("x").normal((600, d)))).float()
    alike = reference[:500] + scale * 1e-3 * rng.fold("by").normal((500, d)).float()
    x = torch.cat((others, alike, reference[1400:]))
    direct = torch.cdist(x.double(), reference.double(), compute_mode=DIRECT).amin(1)
    found = nearest(x, reference)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, direct, rtol=1e-9, atol=0)
    assert (found[-100:] == 0).all()


def test_nearest_takes_bytes_as_they_are():
    rng = Rng(0)
    x, y = (rng.fold("b", i).integers(256, (50, 3, 8, 8)).to(torch.uint8) for i in range(2))
    direct = torch.cdist(x.flatten(1).double(), y.flatten(1).double(), compute_mode=DIRECT)
    torch.testing.assert_close(nearest(x, y), direct.amin(1), rtol=1e-12, atol=0)
