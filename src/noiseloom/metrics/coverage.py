"""Are the samples realistic, are they diverse, are they copies? Answers by nearest neighbours.

Let B(p, r) be the closed ball and r_k(p) the distance of a point to its k-th nearest neighbour in
its own set, itself left out. With real points R and samples S:

    precision   share of samples in some real ball B(p, r_k(p))
    recall      share of real points in some sample's ball
    density     mean over samples of the number of real balls they are in, over k
    coverage    share of real points whose ball holds a sample

T. Kynkaanniemi et al., 2019, "Improved precision and recall metric" (arXiv:1904.06991), Eq. 1-2; M.
Naeem et al., 2020, "Reliable fidelity and diversity metrics" (arXiv:2002.09797), Eq. 3-4.
Precision, recall and coverage reward more samples: compare only numbers made with equal counts. If
samples and real points have one distribution, coverage is on average

    1 - prod_{i=1..k} (N - i) / (N + M - i)    with N real points and M samples (Naeem, Lemma 2).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from noiseloom.progress import tell

__all__ = ["Coverage", "coverage", "expected_coverage", "memorised_share", "nearest"]

ROWS = 1024  # of a distance matrix at a time, to bound memory
_FEW = 4  # rows that may be the nearest, as far as rounding tells


class Coverage(NamedTuple):
    """Precision, recall and coverage in [0, 1]; density in [0, infinity), 1 where sets agree."""

    precision: float
    recall: float
    density: float
    coverage: float


def coverage(samples: Tensor, real: Tensor, k: int = 5) -> Coverage:
    """Precision, recall, density and coverage.

    Args:
        samples: features, float, shape (M, d), M > k.
        real: features, float, shape (N, d), N > k.
        k: which neighbour bounds a ball; Naeem et al. use 5, Kynkaanniemi et al. 3.

    Raises:
        ValueError: not more than k rows, other dimensions, features that are not finite.
    """
    if not 0 < k < min(len(samples), len(real)):
        raise ValueError(
            f"k={k} neighbours need more than k rows, got {len(samples)} samples and {len(real)} "
            "real ones"
        )
    _check(samples, real)
    real_radius, sample_radius = _radius(real, k), _radius(samples, k)
    balls, inside, reached = [], [], []
    for start in range(0, len(real), ROWS):
        tell("neighbours of pictures", start, len(real))
        rows = slice(start, start + ROWS)
        distance = torch.cdist(real[rows].double(), samples.double())
        hit = distance <= real_radius[rows, None]
        balls.append(hit.sum(0))
        reached.append(hit.any(1))
        inside.append((distance <= sample_radius).any(1))
    count = torch.stack(balls).sum(0).double()  # per sample: how many real balls hold it
    return Coverage(
        precision=float((count > 0).double().mean()),
        recall=float(torch.cat(inside).double().mean()),
        density=float(count.mean() / k),
        coverage=float(torch.cat(reached).double().mean()),
    )


def expected_coverage(samples: int, real: int, k: int = 5) -> float:
    """What coverage is on average if samples and real points have one distribution.

    Args:
        samples: their number M.
        real: their number N.
        k: which neighbour bounds a ball.
    """
    i = torch.arange(1, k + 1, dtype=torch.float64)
    return float(1 - ((real - i) / (real + samples - i)).prod())


def nearest(x: Tensor, reference: Tensor, device: torch.device | None = None) -> Tensor:
    """Euclidean distance of every row to its nearest row of a reference set.

    Which rows are the nearest few is found by products of matrices in float32, from

        |a - b|^2 = |a|^2 + |b|^2 - 2 <a, b>,    a = x - c,  b = y - c,  c the reference's mean,

    whose digits cancel for rows that are alike, the less so centred; the distances to these few are
    then computed from their differences, in float64. So a distance is wrong, and too large, only
    where more than a few rows are as near as the nearest but for some 1e-6 of |a|^2.

    Args:
        x: float or uint8, shape (n, ...).
        reference: the same kind, shape (m, ...).
        device: where to compute; by default where the rows are.

    Returns:
        float64, shape (n,), on the device of x.
    """
    x, reference = x.flatten(1), reference.flatten(1)
    _check(x, reference)
    device = x.device if device is None else device
    blocks = [rows.to(device) for rows in torch.split(reference, ROWS)]  # as they are: bytes
    kind = x.dtype if x.dtype.is_floating_point else torch.float32
    centre = torch.stack([rows.double().sum(0) for rows in blocks]).sum(0) / len(reference)
    centre = centre.to(kind)
    centred = [(rows - centre).float() for rows in blocks]
    found = []
    for start in range(0, max(len(x), 1), ROWS):
        tell("nearest neighbours", start, len(x))
        rows = x[start : start + ROWS].to(device)
        where = _few((rows - centre).float(), centred)
        apart = [_apart(rows, blocks, where[:, j]) for j in range(where.shape[1])]
        found.append(torch.stack(apart).amin(0))
    return torch.cat(found).to(x.device)


def memorised_share(
    samples: Tensor, train: Tensor, held_out: Tensor, device: torch.device | None = None
) -> float:
    """Share of samples that are nearer to a training picture than real unseen pictures are.

    "Nearer" means below the first percentile of the held-out pictures' distances to the nearest
    training picture: a model that memorises nothing scores about 0.01, one that copies scores 1.

    Args:
        samples: pixels or features, shape (n, ...).
        train: what the model was trained on, shape (m, ...).
        held_out: real ones it was not trained on, shape (h, ...).
        device: where to compute; by default where the rows are.
    """
    bound = torch.quantile(nearest(held_out, train, device), 0.01)
    return float((nearest(samples, train, device) < bound).double().mean())


def _few(a: Tensor, blocks: Sequence[Tensor]) -> Tensor:
    """Which rows of all blocks may be the nearest to each row of `a`, int64 (n, few)."""
    least = torch.full((len(a), 0), math.inf, device=a.device)
    where = torch.zeros((len(a), 0), dtype=torch.int64, device=a.device)
    for i, b in enumerate(blocks):
        squares = b.square().sum(1) - 2 * a @ b.mT  # and |a|^2, the same for all rows
        value, index = squares.topk(min(_FEW, len(b)), 1, largest=False)
        least, where = torch.cat((least, value), 1), torch.cat((where, index + i * ROWS), 1)
        order = least.topk(min(_FEW, least.shape[1]), 1, largest=False).indices
        least, where = least.gather(1, order), where.gather(1, order)
    return where


def _apart(x: Tensor, blocks: Sequence[Tensor], where: Tensor) -> Tensor:
    """Distance of every row to the one of the blocks' rows that is named for it."""
    found = x.new_empty(len(x), dtype=torch.float64)
    for i, rows in enumerate(blocks):
        here = where // ROWS == i
        found[here] = (x[here].double() - rows[where[here] % ROWS].double()).norm(dim=1)
    return found


def _radius(x: Tensor, k: int) -> Tensor:
    """Distance of every row to its k-th nearest other row, shape (n,)."""
    x = x.double()
    # The nearest of all is the row itself, or a copy of it: either way one zero too many.
    parts = []
    for start in range(0, len(x), ROWS):
        tell("distances of neighbours", start, len(x))
        distance = torch.cdist(x[start : start + ROWS], x)
        parts.append(distance.kthvalue(k + 1, dim=1).values)
    return torch.cat(parts)


def _check(x: Tensor, y: Tensor) -> None:
    if x.shape[1:] != y.shape[1:]:
        raise ValueError(f"sets of other dimensions: {tuple(x.shape)} and {tuple(y.shape)}")
    if not (x.isfinite().all() and y.isfinite().all()):
        raise ValueError("features must be finite, got NaN or infinity")
