"""Benzenoids: how many there are, what they are called, and their gaps, against closed forms."""

import math
import time
from itertools import product

import pytest
import torch

from noiseloom.data import Benzenoids, benzenoids, load_benzenoids
from noiseloom.data.benzenoids import gaps_of, keys_of
from noiseloom.data.hexagons import STEPS, canonical, cata_condensed, centres, keys, touching
from noiseloom.data.hueckel import carbons, hueckel_gaps, kekule_counts
from noiseloom.rng import Rng

COUNTS = [1, 1, 2, 5, 12, 36, 118, 411, 1489, 5572, 21115]
ANTHRACENE = torch.tensor([[[0, 0], [1, 0], [2, 0]]])
PHENANTHRENE = torch.tensor([[[0, 0], [1, 0], [1, 1]]])


def chain(turns):
    """A benzenoid that turns so at each ring but the ends: 0 straight on, 1 left, -1 right."""
    cells, way = [(0, 0), STEPS[0]], 0
    for turn in turns:
        way = (way + turn) % 6
        cells.append((cells[-1][0] + STEPS[way][0], cells[-1][1] + STEPS[way][1]))
    return torch.tensor([cells])


def turned(cells, i):
    """One of the twelve images, by hand: q and r in cube coordinates are permuted and signed."""
    q, r = cells.unbind(-1)
    cube = [q, r, -q - r]
    order = [(0, 1, 2), (1, 2, 0), (2, 0, 1), (1, 0, 2), (0, 2, 1), (2, 1, 0)][i % 6]
    sign = 1 - 2 * (i // 6)
    return sign * torch.stack([cube[order[0]], cube[order[1]]], -1)


def test_there_are_as_many_as_are_known_and_it_takes_seconds():
    start = time.perf_counter()
    assert [len(cata_condensed(h)) for h in range(1, 12)] == COUNTS
    assert time.perf_counter() - start < 30
    with pytest.raises(ValueError, match="of 1 to 16 rings are enumerated, not of 17"):
        cata_condensed(17)


def test_they_are_what_a_search_of_all_polyhexes_finds():
    """Every connected set of cells whose neighbours form a tree, and nothing else."""
    found = {((0, 0),)}
    for h in range(2, 7):
        found = {
            tuple(sorted((*cells, (q + a, r + b))))
            for cells in found
            for (q, r), (a, b) in product(cells, STEPS)
            if (q + a, r + b) not in cells
        }
        all_sets = torch.tensor(sorted(found))
        trees = all_sets[touching(all_sets).flatten(1).sum(1) == 2 * (h - 1)]
        names = keys(trees)
        expected = cata_condensed(h)
        assert set(names) == set(keys(expected))
        assert len(set(keys(expected))) == len(expected) == COUNTS[h - 1]
        found = {tuple(map(tuple, cells)) for cells in canonical(all_sets).tolist()}


def test_all_images_have_one_name_and_form():
    cells = cata_condensed(7)
    names = keys(cells)
    assert torch.equal(canonical(cells), cells)
    for i in range(12):
        image = turned(cells, i) + torch.tensor([3, -40])
        image = image[:, Rng(0).fold("order", i).permutation(7)]
        assert torch.equal(canonical(image), cells)
        assert keys(image) == names
    distances = torch.cdist(centres(cells), centres(cells))
    torch.testing.assert_close(
        torch.cdist(centres(turned(cells, 7)), centres(turned(cells, 7))), distances
    )
    with pytest.raises(ValueError, match=r"expected \(N, h, 2\) with h from 1 to 16"):
        keys(torch.zeros(2, 17, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match="16 or more apart"):
        keys(torch.tensor([[[0, 0], [16, 0]]]))


@pytest.mark.parametrize(
    ("cells", "gap"),
    [
        (torch.tensor([[[0, 0]]]), 2.0),  # benzene
        (ANTHRACENE[:, :2], 1.236068),
        (ANTHRACENE, 0.828427),
        (PHENANTHRENE, 1.210450),
    ],
    ids=["benzene", "naphthalene", "anthracene", "phenanthrene"],
)
def test_known_gaps(cells, gap):
    assert hueckel_gaps(cells).tolist() == [pytest.approx(gap, abs=5e-7)]


def test_gaps_of_acenes_have_a_closed_form():
    for h in range(1, 13):
        (gap,) = hueckel_gaps(chain([0] * (h - 2))[:, :h]).tolist()
        assert gap == pytest.approx(math.sqrt(9 + 8 * math.cos(h * math.pi / (h + 1))) - 1)


@pytest.mark.parametrize("rings", range(2, 8))
def test_gaps_are_those_of_the_whole_adjacency_of_atoms_found_in_the_plane(rings):
    """Corners of hexagons in the plane, those in one place are one: no numbering of ours.

    In a fjord two carbons may be a bond's length apart and not bonded: bonds are hexagons' sides.
    """
    cells = cata_condensed(rings)
    angle = torch.pi / 6 + torch.arange(6) * torch.pi / 3
    corner = torch.stack((angle.cos(), angle.sin()), -1).double()
    found = []
    for middle in centres(cells):
        spots = (middle[:, None] + corner).reshape(-1, 2)
        first = (torch.cdist(spots, spots) < 0.1).float().argmax(1)
        atoms, atom = first.unique(return_inverse=True)
        assert len(atoms) == 4 * rings + 2
        sides = torch.stack((atom, atom.reshape(-1, 6).roll(-1, 1).flatten()), 1)
        bonds = torch.zeros(len(atoms), len(atoms), dtype=torch.float64)
        bonds[sides[:, 0], sides[:, 1]] = bonds[sides[:, 1], sides[:, 0]] = 1
        assert bonds.sum() == 2 * (5 * rings + 1)
        levels = torch.linalg.eigvalsh(bonds)
        found.append(levels[2 * rings + 1] - levels[2 * rings])
    torch.testing.assert_close(hueckel_gaps(cells), torch.stack(found))


def test_the_skeleton_is_hexagons_around_the_centres():
    cells = cata_condensed(5)
    places, bonds = carbons(cells)
    assert places.shape == (12, 22, 2)
    assert bonds.shape == (12, 26, 2)
    a, b = (places.gather(1, end[..., None].expand(-1, -1, 2)) for end in bonds.unbind(-1))
    torch.testing.assert_close((a - b).norm(dim=-1), torch.ones(12, 26, dtype=torch.float64))
    bonded = torch.bincount(bonds[0].flatten(), minlength=22)
    assert bonded.tolist().count(3) == 8  # two carbons of each fusion
    assert bonded.tolist().count(2) == 14
    around = (torch.cdist(centres(cells), places) - 1).abs() < 1e-9
    assert (around.sum(-1) == 6).all()
    for pairs in bonds.tolist():
        assert len({tuple(pair) for pair in pairs}) == 26


def test_kekule_structures_are_counted():
    for h in range(2, 12):  # straight chains h + 1, zigzags Fibonacci numbers
        assert kekule_counts(chain([0] * (h - 2))).tolist() == [h + 1]
        zigzag = chain([(-1) ** i for i in range(h - 2)])
        fibonacci = [2, 3]
        while len(fibonacci) < h:
            fibonacci.append(sum(fibonacci[-2:]))
        assert kekule_counts(zigzag).tolist() == [fibonacci[-1]]
    assert kekule_counts(torch.tensor([[[0, 0], [1, 0], [-1, 1], [0, -1]]])).tolist() == [9]


def test_what_is_not_cata_condensed_has_no_gap():
    triangle = torch.tensor([[[0, 0], [1, 0], [0, 1]]])
    with pytest.raises(ValueError, match="3 rings have 14 carbons, and some of these have not"):
        hueckel_gaps(triangle)


def test_a_thousand_gaps_are_quick():
    cells = cata_condensed(10)[:1000]
    start = time.perf_counter()
    gaps = hueckel_gaps(cells)
    assert time.perf_counter() - start < 2
    assert (gaps > 0.1).all()
    assert (gaps < 1.24).all()


def test_a_batch_has_centred_points_in_a_plane_and_nothing_in_padding():
    data = benzenoids([3, 5])
    assert len(data) == 14
    batch = data[torch.arange(14)]
    x, mask = batch["positions"], batch["mask"]
    assert x.dtype == torch.float32
    assert mask.sum(1).tolist() == [3] * 2 + [5] * 12
    assert x.sum(1).abs().max() < 1e-5
    assert not x[~mask].any()
    assert not x[..., 2].any()
    near = torch.cdist(x.double(), x.double())
    near = near.masked_fill(~(mask[:, :, None] & mask[:, None]), math.inf)
    near = near.masked_fill(torch.eye(5, dtype=torch.bool), math.inf)
    assert (near.amin((1, 2)) - 3**0.5).abs().max() < 1e-5
    fused = ((near - 3**0.5).abs() < 1e-4).flatten(1).sum(1)
    assert fused.tolist() == [4] * 2 + [8] * 12
    torch.testing.assert_close(batch["gap"].double(), data.gaps, rtol=0, atol=1e-6)
    torch.testing.assert_close(gaps_of(data.cells, data.rings), data.gaps)
    assert keys_of(data.cells, data.rings) == data.keys
    assert len(set(data.keys)) == 14
    some = data.select(torch.tensor([13, 0]))
    assert some.keys == [data.keys[13], data.keys[0]]
    with pytest.raises(ValueError, match="name at least one"):
        benzenoids([])


def test_files_give_back_what_was_saved(tmp_path):
    data, path = benzenoids(range(2, 7)), tmp_path / "b.safetensors"
    data.save(path)
    again = load_benzenoids(path)
    assert isinstance(again, Benzenoids)
    for a, b in zip(again.tensors(), data.tensors(), strict=True):
        assert torch.equal(a, b)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match="holds no benzenoids"):
        load_benzenoids(path)
    Benzenoids(data.cells[:3], data.rings, data.gaps).save(path)
    with pytest.raises(ValueError, match="holds no benzenoids"):
        load_benzenoids(path)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load_benzenoids(tmp_path / "none")
