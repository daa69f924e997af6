"""Points to benzenoids: every real one comes back however it lies, and nothing else is let in."""

import math

import pytest
import torch

from noiseloom.data import benzenoids, snap
from noiseloom.data.hexagons import centres, keys
from noiseloom.rng import Rng

F64 = torch.float64
DATA = benzenoids(range(1, 9))


def points(cells):
    """Centres of rings in space, (N, h, 3)."""
    return torch.nn.functional.pad(centres(torch.tensor(cells)), (0, 1))


def moved(x, mask, rng, jitter):
    """Turned or reflected, shifted, shuffled and jittered within a ball, padding and all."""
    count, size = mask.shape
    q, r = torch.linalg.qr(rng.fold("turn").normal((count, 3, 3), F64))
    q = q * r.diagonal(dim1=1, dim2=2).sign()[:, None]  # uniform on O(3)
    way = torch.nn.functional.normalize(rng.fold("way").normal((count, size, 3), F64), dim=-1)
    far = jitter * rng.fold("far").uniform((count, size, 1), F64) ** (1 / 3)
    x = (x.double() + way * far) @ q + 9 * rng.fold("shift").normal((count, 1, 3), F64)
    order = rng.fold("order").uniform((count, size)).argsort(1)
    return x.gather(1, order[..., None].expand_as(x)), mask.gather(1, order), q


@pytest.mark.parametrize("jitter", [0.0, 0.05, 0.1])
@pytest.mark.parametrize("seed", range(4))
def test_real_structures_come_back_turned_reflected_shuffled_and_jittered(jitter, seed):
    batch = DATA[torch.arange(len(DATA))]
    x, mask, q = moved(batch["positions"], batch["mask"], Rng(seed), jitter)
    assert 0.3 < (torch.linalg.det(q) > 0).double().mean() < 0.7
    found = snap(x, mask)
    assert found.valid.all(), set(found.reasons)
    assert found.keys == DATA.keys
    torch.testing.assert_close(found.gaps, DATA.gaps)
    assert torch.equal(found.rings, DATA.rings)
    assert found.off.max() < (1e-5 if jitter == 0 else 1.5 * jitter)


def test_the_cells_are_those_of_the_points_in_their_order():
    cells = [[[0, 0], [1, 0], [1, 1], [2, 1]]]
    found = snap(points(cells))
    apart = torch.cdist(centres(found.cells), centres(found.cells))
    torch.testing.assert_close(apart, torch.cdist(points(cells), points(cells)))
    padded = torch.cat((torch.full((1, 2, 3), math.nan, dtype=F64), points(cells)), 1)
    again = snap(padded, torch.tensor([[False] * 2 + [True] * 4]))
    assert torch.equal(again.cells[:, :4], found.cells)
    assert not again.cells[:, 4:].any()
    assert again.rings.tolist() == [4]


def at(x, place, by):
    y = x.clone()
    y[0, place] += torch.tensor(by, dtype=F64)
    return y


PHENANTHRENE = points([[[0, 0], [1, 0], [1, 1]]])
ZIGZAG = points([[[0, 0], [1, 0], [1, 1], [2, 1], [2, 2]]])


@pytest.mark.parametrize(
    ("x", "reason"),
    [
        (PHENANTHRENE, "valid"),
        (at(PHENANTHRENE, 0, [math.nan, 0, 0]), "not finite"),
        (at(ZIGZAG, 2, [0, 0, 0.5]), "not planar"),
        (at(PHENANTHRENE, 0, [-1, 0, 0]), "not connected"),
        (points([[[0, 0], [1, 0], [5, 0], [6, 0]]]), "not connected"),
        (at(ZIGZAG, 4, [0.0, 0.28, 0.0]), "off the lattice"),
        (torch.cat((PHENANTHRENE, PHENANTHRENE[:, :1] + 0.05), 1), "two rings in one place"),
        (points([[[0, 0], [1, 0], [0, 1]]]), "three rings share a carbon"),
        (
            points([[[1, 0], [0, 1], [-1, 1], [-1, 0], [0, -1], [1, -1]]]),
            "the rings close a circle",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_benzenoid_is_refused_with_the_reason(x, reason):
    found = snap(x)
    assert found.reasons == [reason]
    assert found.valid.tolist() == [reason == "valid"]
    name = keys(torch.tensor([[[0, 0], [1, 0], [1, 1]]]))
    assert found.keys == (name if reason == "valid" else [None])
    assert found.gaps.isnan().tolist() == [reason != "valid"]


def test_a_circle_without_corners_is_refused():
    """Twelve rings around a hole of seven: every ring touches two, so neighbours are no tree."""
    ring = [[2, 0], [1, 1], [0, 2], [-1, 2], [-2, 2], [-2, 1], [-2, 0], [-1, -1], [0, -2], [1, -2]]
    ring += [[2, -2], [2, -1]]
    found = snap(points([ring]))
    assert found.reasons == ["the rings close a circle"]
    assert snap(points([ring[:-1]])).reasons == ["valid"]


def test_the_tolerance_is_the_largest_distance_from_where_a_point_belongs():
    """A bent chain of three: its ends are moved along it, by which the fit turns nothing."""
    x = points([[[-1, 0], [0, 0], [1, 0]]])
    for by, valid in ((0.14, True), (0.16, False)):
        y = x.clone()
        y[0, 0, 0] -= by
        y[0, 2, 0] += by
        found = snap(y)
        assert found.valid.tolist() == [valid]
        assert float(found.off) == pytest.approx(by)
        assert snap(y, tolerance=0.2).valid.tolist() == [True]
    y = x.clone()
    y[0, 1, 2] += 0.3  # a height of 0.3 is one of 0.2 and -0.1 about the plane that fits best
    assert float(snap(y, tolerance=0.3).off) == pytest.approx(0.2, abs=0.01)


def test_points_without_order_are_never_valid():
    x = 2 * Rng(0).normal((500, 6, 3), F64)
    found = snap(x)
    assert not found.valid.any()
    assert not found.off.isnan().any()
    assert snap(torch.zeros(2, 1, 3)).reasons == ["valid"] * 2  # benzene


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"expected \(B, N, 3\) with N from 1 to 16"):
        snap(torch.zeros(2, 5, 2))
    with pytest.raises(ValueError, match="at least one real point"):
        snap(torch.zeros(2, 5, 3), torch.zeros(2, 5, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"in \(0, 0.4\)"):
        snap(torch.zeros(2, 5, 3), tolerance=0.5)
