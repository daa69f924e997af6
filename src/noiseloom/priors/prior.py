"""What all priors are: a law over codes, and what they refuse."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from noiseloom.rng import Rng

__all__ = ["Prior", "check_prior"]


class Prior(nn.Module, ABC):
    """A law p(z | label) over codes z of m positions with k values each.

    Args:
        m: number of positions, >= 1.
        k: number of values, >= 1.
        num_classes: K, for labels 0 .. K - 1 and the null label K, which stands for p(z); None for
            a prior without labels.

    Raises:
        ValueError: one of them is below 1.
    """

    def __init__(self, m: int, k: int, num_classes: int | None = None) -> None:
        super().__init__()
        for name, value in (("m", m), ("k", k), ("num_classes", num_classes)):
            if value is not None and value < 1:
                raise ValueError(f"{name} of a prior must be at least 1, got {value}")
        self.m, self.k, self.num_classes = m, k, num_classes

    @abstractmethod
    def log_prob(self, codes: Tensor, label: Tensor | None = None) -> Tensor:
        """The log-probability of codes (B, m), in nats, shape (B,)."""

    @abstractmethod
    def sample(
        self, count: int | Tensor, rng: Rng, *, temperature: float = 1.0, top_p: float = 1.0
    ) -> Tensor:
        """Codes (B, m), int64, for so many samples or for labels (B,)."""

    @property
    def null(self) -> int:
        """The label that stands for none."""
        return self.num_classes or 0

    def checked(self, codes: Tensor) -> Tensor:
        """The codes, as int64, if they are codes of this prior.

        Values are checked on the CPU, where they are cheap to read.

        Raises:
            TypeError: they are not integers.
            ValueError: another shape, or a value out of range.
        """
        if codes.ndim != 2 or codes.shape[1] != self.m:
            raise ValueError(
                f"codes of shape {tuple(codes.shape)} for a prior over {self.m} positions: "
                f"expected (B, {self.m})"
            )
        _check_values("codes", codes, self.k - 1)
        return codes.long()

    def labels(self, label: Tensor | None, batch: int, device: torch.device) -> Tensor:
        """The labels of a batch, the null label where there are none: int64, shape (B,).

        Raises:
            TypeError: they are not integers.
            ValueError: labels for a prior without, another shape, or a value out of range.
        """
        if label is None:
            return torch.full((batch,), self.null, device=device)
        if self.num_classes is None:
            raise ValueError(
                f"a label of shape {tuple(label.shape)} for a prior without classes: build it "
                "with num_classes, or leave the label out"
            )
        if label.shape != (batch,):
            raise ValueError(
                f"a label of shape {tuple(label.shape)} for {batch} codes: expected ({batch},)"
            )
        _check_values("labels", label, self.null, f", or {self.null} for none")
        return label.long()

    def wanted(self, count: int | Tensor, rng: Rng, device: torch.device) -> tuple[Tensor, Rng]:
        """Labels and keys of what is to be sampled, one of each per sample.

        Args:
            count: number of samples, or their labels (B,).
            rng: one key, of which sample i gets its own, `Rng.samples`; or one key per sample.
            device: where the samples are made.

        Raises:
            TypeError: neither a whole number nor a row of labels.
            ValueError: a number below 0, keys of another number, or labels that are wrong.
        """
        label = count if isinstance(count, Tensor) else None
        number = count.shape[0] if isinstance(count, Tensor) and count.ndim else count
        if not isinstance(number, int):
            raise TypeError(f"expected a number of samples or labels of shape (B,), got {number}")
        if number < 0:
            raise ValueError(f"expected a number of samples of at least 0, got {number}")
        label = self.labels(None if label is None else label.to(device), number, device)
        return label, keys(rng, number, device)


def keys(rng: Rng, batch: int, device: torch.device) -> Rng:
    """One key per sample: those given, or the first of one.

    Raises:
        ValueError: keys of another number.
    """
    if not isinstance(rng.root, Tensor):
        return rng.samples(batch, device=device)
    if rng.root.shape != (batch,):
        raise ValueError(
            f"keys of shape {tuple(rng.root.shape)} for {batch} samples: give one per sample"
        )
    return Rng(rng.root.to(device), rng.path)


def check_prior(prior: Prior, m: int, k: int, num_classes: int | None = None) -> None:
    """Refuse a prior that was made for other codes than a model has.

    A prior without classes serves a model with them: its codes do not ask for a label.

    Args:
        prior: the prior.
        m: positions of the model's codes.
        k: their values.
        num_classes: the model's classes, None for none.

    Raises:
        ValueError: one of the three is another.
    """
    if (prior.m, prior.k) != (m, k):
        raise ValueError(
            f"a prior over codes of m {prior.m}, k {prior.k} for a model with codes of m {m}, k "
            f"{k}: train a prior on this model's codes"
        )
    if prior.num_classes is not None and prior.num_classes != num_classes:
        has = "no classes" if num_classes is None else f"{num_classes} classes"
        raise ValueError(
            f"a prior of {prior.num_classes} classes for a model with {has}: train a prior with "
            "this model's classes, or without"
        )


def _check_values(what: str, values: Tensor, top: int, more: str = "") -> None:
    if values.is_floating_point() or values.is_complex() or values.dtype == torch.bool:
        raise TypeError(f"{what} must be integers, got {values.dtype}")
    if values.device.type != "cpu" or torch.compiler.is_compiling() or not values.numel():
        return
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > top:
        end = top - 1 if more else top
        raise ValueError(f"{what} must be in 0 .. {end}{more}, got values from {low} to {high}")
