"""Splits that put a kind of sample out of the training data: a cluster, or the better labels.

Spectral clustering, of all samples through some of them: similarities of counts

    K(a, b) = sum min(a, b) / sum max(a, b)

are a positive kernel, of which the columns of m landmarks give K ~ C W^+ C^T (C. Williams, M.
Seeger, 2001, "Using the Nystroem method to speed up kernel machines"); with all samples as
landmarks it is K itself. The leading eigenvectors of D^-1/2 K D^-1/2, D the row sums, divided by
D^1/2, are the coordinates in which k-means finds clusters (A. Ng, M. Jordan, Y. Weiss, 2001, "On
spectral clustering"; J. Shi, J. Malik, 2000, "Normalized cuts and image segmentation").
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from noiseloom.rng import Rng

__all__ = [
    "Folds",
    "cluster_folds",
    "label_folds",
    "random_folds",
    "spectral_clusters",
    "tanimoto",
]


@dataclass(frozen=True, eq=False)
class Folds:
    """Which samples are for what: int64, ascending, no two alike.

    Attributes:
        train: to learn from.
        validation: to choose by, out of the training's kind where the split is by clusters.
        test: to judge by.
    """

    train: Tensor
    validation: Tensor
    test: Tensor


def cluster_folds(counts: Tensor, rng: Rng, *, landmarks: int = 1000) -> Folds:
    """Training is the larger of two clusters; the other, clustered again, gives the other two.

    Of these the test is the one less like the training data. No label enters.

    Args:
        counts: descriptions, >= 0, shape (N, F).
        rng: key of the draws.
        landmarks: of `spectral_clusters`.

    References:
        L. Klarner et al., 2024, arXiv 2407.11942 (released code), with fingerprints of its own.
    """
    first = spectral_clusters(counts, 2, rng.fold("first"), landmarks=landmarks)
    inside = first == first.bincount(minlength=2).argmax()
    train, rest = inside.nonzero()[:, 0], (~inside).nonzero()[:, 0]
    if len(rest) < 2:
        raise ValueError(f"{len(counts)} samples of one kind cannot be split by clusters")
    second = spectral_clusters(counts[rest], 2, rng.fold("second"), landmarks=landmarks)
    parts = [rest[second == k] for k in range(2)]
    some = train[rng.fold("some").permutation(len(train))[:landmarks]]
    likeness = [float(tanimoto(counts[part], counts[some]).mean()) for part in parts]
    far = min(range(2), key=likeness.__getitem__)
    return Folds(train, parts[1 - far], parts[far])


def random_folds(sizes: tuple[int, int, int], rng: Rng) -> Folds:
    """Training, validation and test of these sizes, drawn at random: the control."""
    order = rng.permutation(sum(sizes))
    return Folds(*(part.sort().values for part in torch.split(order, list(sizes))))


def label_folds(labels: Tensor, rng: Rng, *, best: Literal["high", "low"] = "high") -> Folds:
    """Training is the worse half by label, up to the median; the better half is cut at random.

    Args:
        labels: shape (N,), N >= 3, all finite.
        rng: key of the cut.
        best: which labels are better.

    Raises:
        ValueError: labels of another shape or not finite, or too few above (below) the median.

    References:
        L. Klarner et al., 2024, arXiv 2407.11942 (released code of small molecules).
    """
    if best not in ("high", "low"):
        raise ValueError(f"best must be 'high' or 'low', got {best!r}")
    if labels.ndim != 1 or len(labels) < 3 or not labels.isfinite().all():
        raise ValueError(
            f"labels of shape {tuple(labels.shape)}: expected 3 or more of shape (N,), all finite"
        )
    value = labels.double() if best == "high" else -labels.double()
    inside = value <= value.quantile(0.5)
    train, rest = inside.nonzero()[:, 0], (~inside).nonzero()[:, 0]
    if len(rest) < 2:
        raise ValueError(
            f"{len(rest)} of {len(labels)} labels are better than the median: too few to judge by"
        )
    rest = rest[rng.permutation(len(rest))]
    half = len(rest) // 2
    return Folds(train, rest[:half].sort().values, rest[half:].sort().values)


def spectral_clusters(
    counts: Tensor,
    clusters: int,
    rng: Rng,
    *,
    components: int = 5,
    landmarks: int = 1000,
    tries: int = 10,
) -> Tensor:
    """The cluster of each sample, int64, shape (N,), values 0 .. clusters - 1.

    Args:
        counts: descriptions, >= 0 and none of them all zero, shape (N, F).
        clusters: how many, >= 1.
        rng: key of the landmarks and of k-means.
        components: eigenvectors used, the constant one among them.
        landmarks: m; all samples if there are no more.
        tries: starts of k-means, of which the tightest counts.

    Raises:
        ValueError: fewer samples than clusters or components, or descriptions that are zero or
            negative.
    """
    count = len(counts)
    if count < max(clusters, components):
        raise ValueError(f"{count} samples for {clusters} clusters in {components} components")
    if (counts < 0).any() or not (counts > 0).any(1).all():
        raise ValueError("descriptions must be counts, with something in each")
    chosen = rng.fold("landmarks").permutation(count)[:landmarks]
    columns = tanimoto(counts, counts[chosen])
    values, vectors = torch.linalg.eigh(columns[chosen])
    kept = values > 1e-10 * values[-1]
    half = columns @ (vectors[:, kept] / values[kept].sqrt())  # K ~ half half^T
    degree = (half @ half.sum(0)).clamp_min(1e-12)
    half = half / degree.sqrt()[:, None]
    values, vectors = torch.linalg.eigh(half.mT @ half)
    lead = half @ (vectors[:, -components:] / values[-components:].clamp_min(1e-12).sqrt())
    return _k_means(lead / degree.sqrt()[:, None], clusters, tries, rng.fold("k-means"))


def tanimoto(a: Tensor, b: Tensor) -> Tensor:
    """Similarities sum min / sum max of counts: float64, shape (N, M), for (N, F) and (M, F)."""
    a, b = a.double(), b.double()
    total = a.sum(1)[:, None] + b.sum(1)
    apart = torch.cdist(a, b, p=1)  # sum max - sum min
    return (total - apart) / (total + apart)


def _k_means(x: Tensor, clusters: int, tries: int, rng: Rng, rounds: int = 100) -> Tensor:
    """Lloyd's algorithm from k-means++ (D. Arthur, S. Vassilvitskii, 2007), the best of `tries`."""
    best, least = torch.zeros(len(x), dtype=torch.int64), torch.inf
    for i in range(tries):
        draws = rng.fold("try", i).uniform((clusters,), torch.float64)
        centres = x[int(draws[0] * len(x))][None]
        for u in draws[1:]:
            chance = (torch.cdist(x, centres) ** 2).amin(1).cumsum(0)
            place = int(torch.searchsorted(chance, u * chance[-1]).clamp(max=len(x) - 1))
            centres = torch.cat((centres, x[place][None]))
        label = torch.full_like(best, -1)
        for _ in range(rounds):
            distance = torch.cdist(x, centres)
            new = distance.argmin(1)
            if torch.equal(new, label):
                break
            label = new
            share = torch.nn.functional.one_hot(label, clusters).to(x)
            size = share.sum(0)[:, None]
            centres = torch.where(size > 0, share.mT @ x / size.clamp_min(1), centres)
        spread = float((torch.cdist(x, centres) ** 2).amin(1).sum())
        if spread < least:
            best, least = label, spread
    return best
