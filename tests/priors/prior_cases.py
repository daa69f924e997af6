"""Small priors of each kind, known laws, and what is asked of samples."""

import math

import torch

from noiseloom.priors import AutoregressivePrior, BitsPrior, TabularPrior
from noiseloom.rng import Rng

SMALL = {"width": 16, "depth": 2, "heads": 2}


def every(m, k):
    """All codes, in the order of a table."""
    return torch.cartesian_prod(*[torch.arange(k)] * m).reshape(-1, m)


def law(m, k, rows=1, seed=0):
    """Some probabilities of all codes, far from uniform, shape (rows, k^m)."""
    logits = 1.5 * Rng(seed).fold("law").normal((rows, k**m)).double()
    return logits.softmax(-1)


def entropy(p):
    return float(-torch.xlogy(p, p).sum())


def tabular(m, k, num_classes=None, seed=0):
    prior = TabularPrior(m, k, num_classes)
    prior.table.copy_(law(m, k, len(prior.table), seed))
    return prior


def stirred(prior, seed=0, scale=0.3):
    """With weights that say something: at initialisation all laws are uniform."""
    rng = Rng(seed).fold("weights")
    with torch.no_grad():
        for i, p in enumerate(prior.parameters()):
            p.copy_(scale * rng.fold("parameter", i).normal(p.shape))
    return prior.eval()


def autoregressive(m, k, num_classes=None, seed=0, **options):
    prior = AutoregressivePrior(m, k, num_classes=num_classes, **{**SMALL, **options})
    return stirred(prior, seed)


def bits(m, k, num_classes=None, seed=0, **options):
    options = {**SMALL, "steps": 4, **options}
    return stirred(BitsPrior(m, k, num_classes=num_classes, **options), seed)


KINDS = {"tabular": tabular, "autoregressive": autoregressive, "bits": bits}


def frequencies(codes, k):
    """The table of frequencies of some codes, shape (k^m,)."""
    place = torch.zeros(len(codes), dtype=torch.int64)
    for column in codes.T:
        place = place * k + column
    return torch.bincount(place, minlength=k ** codes.shape[1]) / len(codes)


def total_variation(p, q):
    return float((p - q).abs().sum() / 2)


def assert_drawn_from(codes, p, k):
    """Chi-square of every position and of every pair of them, to five deviations."""
    m = codes.shape[1]
    table = p.reshape((k,) * m)
    for i in range(m):
        for j in range(i, m):
            kept = [i] if i == j else [i, j]
            expected = len(codes) * table.sum([a for a in range(m) if a not in kept]).flatten()
            found = len(codes) * frequencies(codes[:, kept], k)
            chi, free = float(((found - expected) ** 2 / expected).sum()), len(expected) - 1
            assert chi < free + 5 * math.sqrt(2 * free), (kept, chi, free)
