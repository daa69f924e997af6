"""Clusters: turns counted by walking, exact spectral clustering, and what the split leaves out."""

import pytest
import torch

from noiseloom.data import (
    Folds,
    benzenoids,
    cluster_folds,
    label_folds,
    patterns,
    random_folds,
    turn_counts,
)
from noiseloom.data.clusters import spectral_clusters, tanimoto
from noiseloom.data.hexagons import STEPS, cata_condensed
from noiseloom.rng import Rng

WAYS = {step: i for i, step in enumerate(STEPS)}
LETTERS = {0: "L", 1: "+", 5: "-"}


def by_walking(cells, turns):
    """Words of turns of all simple paths, depth first, counted once for both directions."""
    cells, counts = set(map(tuple, cells)), {}

    def walk(path, word):
        if 0 < len(word) <= turns:
            mirrored = word.translate(str.maketrans("+-", "-+"))
            same = {word, mirrored, word[::-1], mirrored[::-1]}
            (name,) = same & set(patterns(turns))
            counts[name] = counts.get(name, 0) + 0.5
        for step in STEPS:
            after = (path[-1][0] + step[0], path[-1][1] + step[1])
            if after in cells and after not in path and len(word) < turns:
                went = (path[-1][0] - path[-2][0], path[-1][1] - path[-2][1]) if path[1:] else None
                turn = "" if went is None else LETTERS[(WAYS[step] - WAYS[went]) % 6]
                walk([*path, after], word + turn)

    for cell in cells:
        walk([cell], "")
    return [counts.get(name, 0) for name in patterns(turns)]


def test_turns_are_those_found_by_walking():
    for h in (3, 5, 7):
        cells = cata_condensed(h)
        expected = [by_walking(c, 4) for c in cells.tolist()]
        assert turn_counts(cells).tolist() == expected
    assert len(patterns(4)) == 41
    assert [len([p for p in patterns(4) if len(p) == k]) for k in range(1, 5)] == [2, 4, 10, 25]


def test_turns_do_not_depend_on_how_a_molecule_lies():
    cells = cata_condensed(7)
    q, r = cells.unbind(-1)
    for image in ((-r, q + r), (r, q), (-q, -r)):
        assert torch.equal(turn_counts(torch.stack(image, -1)), turn_counts(cells))


def test_similarity_is_that_of_counts():
    a = torch.tensor([[1, 2, 0], [0, 4, 4]])
    expected = [[1, 2 / 9], [2 / 9, 1]]
    torch.testing.assert_close(tanimoto(a, a), torch.tensor(expected, dtype=torch.float64))


def planted(count=60):
    """Counts around two profiles, in an order that says nothing of them."""
    rng = Rng(0)
    kind = rng.integers(2, (count,))
    profile = torch.tensor([[9, 1, 5, 0], [1, 9, 0, 5]])[kind]
    return profile + rng.fold("noise").integers(3, (count, 4)), kind


@pytest.mark.parametrize("landmarks", [20, 1000])
def test_planted_clusters_are_found(landmarks):
    counts, kind = planted()
    label = spectral_clusters(counts, 2, Rng(1), components=2, landmarks=landmarks)
    assert torch.equal(label == label[0], kind == kind[0])


def test_with_all_landmarks_it_is_the_normalised_cut_of_the_whole_kernel():
    """Two components: the second eigenvector of D^-1 K by hand, cut in two as k-means does."""
    counts = turn_counts(cata_condensed(8))
    label = spectral_clusters(counts, 2, Rng(0), components=2)
    kernel = tanimoto(counts, counts)
    degree = kernel.sum(1)
    values, vectors = torch.linalg.eigh(kernel / (degree[:, None] * degree).sqrt())
    assert values[-1] == pytest.approx(1)
    line = vectors[:, -2] / degree.sqrt()
    cuts = line.sort().values
    spread = [
        sum(float((part - part.mean()).square().sum()) for part in (cuts[:i], cuts[i:]))
        for i in range(1, len(cuts))
    ]
    cut = 1 + min(range(len(spread)), key=spread.__getitem__)
    upper = line >= cuts[cut]
    assert torch.equal(label == label[upper][0], upper)


def test_the_split_of_benzenoids_leaves_small_gaps_out_of_the_training_data():
    """At 9 rings; the descriptions know nothing of gaps."""
    data = benzenoids(9)
    folds = cluster_folds(turn_counts(data.cells), Rng(0))
    parts = (folds.train, folds.validation, folds.test)
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(len(data)))
    assert len(folds.train) > len(data) / 2
    lowest = data.gaps.argsort()[: len(data) // 20]
    assert not torch.isin(lowest, folds.train).any()
    assert torch.isin(lowest, folds.test).double().mean() > 0.5
    medians = [float(data.gaps[part].median()) for part in parts]
    assert medians[0] > medians[1] > medians[2]
    again = cluster_folds(turn_counts(data.cells), Rng(1), landmarks=300)
    shared = torch.isin(again.train, folds.train).sum()
    assert shared > 0.97 * max(len(again.train), len(folds.train))


def test_the_control_has_the_sizes_asked_for_and_no_kind():
    data = benzenoids(9)
    folds = random_folds((900, 400, 189), Rng(0))
    assert isinstance(folds, Folds)
    parts = (folds.train, folds.validation, folds.test)
    assert [len(part) for part in parts] == [900, 400, 189]
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(1489))
    means = [float(data.gaps[part].mean()) for part in parts]
    assert max(means) - min(means) < 5 * float(data.gaps.std()) / 189**0.5


@pytest.mark.parametrize("best", ["high", "low"])
def test_check_17_no_training_label_is_better_than_the_median(best):
    labels = benzenoids(9).gaps
    folds = label_folds(labels, Rng(0), best=best)
    sign = 1 if best == "high" else -1
    median = float(labels.quantile(0.5))
    assert (sign * labels[folds.train] <= sign * median).all()
    for part in (folds.validation, folds.test):
        assert (sign * labels[part] > sign * median).all()
    parts = (folds.train, folds.validation, folds.test)
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(1489))
    assert abs(len(folds.validation) - len(folds.test)) <= 1
    assert len(folds.train) >= 745
    means = [float(labels[part].mean()) for part in parts[1:]]
    assert abs(means[0] - means[1]) < 5 * float(labels.std()) / 372**0.5


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.ones(9), "0 of 9 labels are better than the median"),
        (torch.tensor([1.0, torch.nan, 2, 3]), "all finite"),
        (torch.ones(4, 1), r"labels of shape \(4, 1\)"),
    ],
    ids=["equal", "nan", "column"],
)
def test_labels_that_cannot_be_split_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        label_folds(labels, Rng(0))


def test_what_cannot_be_clustered_is_refused():
    with pytest.raises(ValueError, match="3 samples for 2 clusters in 5 components"):
        spectral_clusters(torch.ones(3, 2), 2, Rng(0))
    with pytest.raises(ValueError, match="with something in each"):
        spectral_clusters(torch.zeros(9, 2), 2, Rng(0))
    with pytest.raises(ValueError, match="of one kind cannot be split"):
        cluster_folds(torch.ones(9, 2), Rng(0))
