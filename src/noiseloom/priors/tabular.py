"""The table of all codes: exact, and the reference of the others."""

import math

import torch
from torch import Tensor

from noiseloom.priors.choice import check_choice, choose
from noiseloom.priors.prior import Prior
from noiseloom.rng import Rng

__all__ = ["TabularPrior"]

LARGEST = 2**20
"""Entries of the largest table: 8 MB."""


class TabularPrior(Prior):
    """One probability for every code: p(z | label) = table[label, sum_i z_i k^(m - 1 - i)].

    It starts uniform, and learns by counting (`fit`).

    Args:
        m: number of positions.
        k: number of values of each.
        num_classes: K, or None for a prior without labels.

    Attributes:
        table: float64, shape (K + 1, k^m), rows sum to 1; the last is the null label's, p(z).

    Raises:
        ValueError: (K + 1) k^m is above 2^20.

    Example:
        >>> prior = TabularPrior(2, 3)
        >>> prior.fit(torch.tensor([[0, 1], [0, 1], [2, 2]]), smoothing=0)
        >>> prior.log_prob(torch.tensor([[0, 1]])).exp()
        tensor([0.6667])
    """

    table: Tensor

    def __init__(self, m: int, k: int, num_classes: int | None = None) -> None:
        super().__init__(m, k, num_classes)
        rows = self.null + 1
        if rows * k**m > LARGEST:
            raise ValueError(
                f"a table of {rows} x {k}^{m} entries is above the limit of {LARGEST}: use an "
                "autoregressive prior"
            )
        self.register_buffer("table", torch.full((rows, k**m), k**-m, dtype=torch.float64))

    def fit(self, codes: Tensor, label: Tensor | None = None, *, smoothing: float = 1.0) -> None:
        """Count.

            p(z) = (n_z + s k^-m) / (N + s),    p(z | c) = (n_cz + s p(z)) / (N_c + s)

        so that a code never seen keeps a probability, and a class never seen has that of all. With
        s = 0 it is the table of frequencies.

        Args:
            codes: shape (N, m), N >= 1.
            label: shape (N,); of a null label only p(z) learns.
            smoothing: s >= 0, in samples.

        Raises:
            ValueError: no codes, wrong codes or labels, or a smoothing out of range.
        """
        codes = self.checked(codes)
        label = self.labels(label, len(codes), codes.device)
        if not len(codes):
            raise ValueError("there are no codes to count")
        if not 0 <= smoothing < math.inf:
            raise ValueError(f"smoothing must be at least 0 and finite, got {smoothing}")
        rows, size = self.table.shape
        counts = torch.bincount(label * size + self._place(codes), minlength=rows * size)
        counts = counts.reshape(rows, size).to(self.table)
        everything = counts.sum(0)
        base = (everything + smoothing / size) / (len(codes) + smoothing)
        total = counts.sum(1, keepdim=True) + smoothing
        # A class without samples and smoothing is 0 / 0.
        each = torch.where(total > 0, (counts + smoothing * base) / total.clamp(min=1e-300), base)
        each[-1] = base
        self.table.copy_(each)

    def log_prob(self, codes: Tensor, label: Tensor | None = None) -> Tensor:
        """The exact log-probability.

        Args:
            codes: shape (B, m).
            label: shape (B,), in 0 .. K; absent means K for all.

        Returns:
            Nats, float32, shape (B,); -inf for what has none.
        """
        codes = self.checked(codes)
        label = self.labels(label, len(codes), codes.device)
        return self.table[label, self._place(codes)].log().float()

    def entropy(self, label: int | None = None) -> float:
        """H = - sum_z p(z | label) ln p(z | label), in nats; of p(z) by default.

        Raises:
            ValueError: no such label.
        """
        row = None if label is None else torch.tensor([label])
        p = self.table[self.labels(row, 1, torch.device("cpu"))]
        return float(-torch.xlogy(p, p).sum())

    def sample(
        self, count: int | Tensor, rng: Rng, *, temperature: float = 1.0, top_p: float = 1.0
    ) -> Tensor:
        """Draw position by position, each given those before it, as an autoregressive prior does.

        Args:
            count: number of samples, or their labels (B,).
            rng: one key, or one per sample.
            temperature: of each conditional p(z_i | z_<i, label), >= 0; 0 takes its mode.
            top_p: mass of the nucleus of each conditional, after the temperature, in (0, 1].

        Returns:
            int64, shape (B, m).
        """
        check_choice(temperature, top_p)
        label, rng = self.wanted(count, rng, self.table.device)
        u = rng.uniform((len(label), self.m), device=label.device)
        rows, before = len(self.table), torch.zeros_like(label)
        chosen = []
        for i in range(self.m):
            prefixes = self.table.reshape(rows, self.k**i, self.k, -1).sum(-1)
            z = choose(prefixes[label, before].log(), u[:, i], temperature, top_p)
            before = before * self.k + z
            chosen.append(z)
        return torch.stack(chosen, 1)

    def _place(self, codes: Tensor) -> Tensor:
        """The columns of codes in the table: the first position counts most."""
        powers = [self.k**i for i in reversed(range(self.m))]
        return (codes * torch.tensor(powers, device=codes.device)).sum(1)
