"""Which samples an update sees, and their keys: functions of the update's number alone."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import torch
from torch import Tensor

from noiseloom.rng import Rng
from noiseloom.training.options import Training

__all__ = ["Batches", "Data", "Part", "sample_order"]


class Data(Protocol):
    """A data set: a length, and samples by an int64 tensor of indices, with the batch as axis 0.

    Tensors are on the CPU, and the loop moves them. A data set that has a method `to(device)` is
    moved once, as a whole, to a GPU, unless it says (`nbytes`) that it would take more than half of
    the memory that is free there.
    """

    def __len__(self) -> int:
        """Number of samples."""

    def __getitem__(self, indices: Tensor, /) -> dict[str, Tensor]:
        """Some samples."""


def sample_order(seed: int, count: int, start: int, stop: int) -> Tensor:
    """Which samples a run sees: place g holds permutation(seed, g // N)[g % N].

    Args:
        seed: of the run.
        count: number of samples N of the data set.
        start: first place; update k (from 0) of batch size B begins at place k B.
        stop: end, exclusive.

    Returns:
        int64, shape (stop - start,).
    """
    epochs = range(start // count, (stop - 1) // count + 1)
    return torch.cat(
        [
            _permutation(seed, count, epoch)[max(start - epoch * count, 0) : stop - epoch * count]
            for epoch in epochs
        ]
    )


def fits(data: Data) -> bool:
    """Whether a data set that says its size (`nbytes`) leaves half of the GPU's memory free."""
    return getattr(data, "nbytes", 0) <= torch.cuda.mem_get_info()[0] / 2


@dataclass(frozen=True)
class Part:
    """What one forward pass needs.

    Opaque to data parallelism, which would move the tensors of a dict or a tuple to the GPU.

    Attributes:
        batch: samples, on the device.
        rng: one key per sample, on the device.
        rows: int64, shape (b,), on the CPU: places of the samples in the global batch.
    """

    batch: dict[str, Tensor]
    rng: Rng
    rows: Tensor


class Batches:
    """One process's share of every batch.

    Args:
        data: the samples.
        options: batch size, accumulation and seed.
        accelerator: the device, and which process of how many this is.

    Raises:
        ValueError: the data set is empty, or the batch cannot be divided into equal parts.
    """

    def __init__(self, data: Data, options: Training, accelerator: Any) -> None:  # noqa: ANN401
        parts = accelerator.num_processes * options.accumulate
        if len(data) == 0:
            raise ValueError("the data set is empty")
        if options.batch_size % parts:
            raise ValueError(
                f"batch_size {options.batch_size} cannot be divided into equal parts for "
                f"{accelerator.num_processes} processes x accumulate {options.accumulate}"
            )
        self.options, self.size = options, options.batch_size // parts
        self.first = accelerator.process_index * options.accumulate * self.size
        self.device: torch.device = accelerator.device
        self.key = Rng(options.seed).fold("train")
        self.resident = self.device.type == "cuda" and hasattr(data, "to") and fits(data)
        self.data: Data = data.to(self.device) if self.resident else data  # type: ignore[attr-defined]

    def part(self, step: int, i: int) -> Part:
        """Part `i` of this process's share of the batch of update number `step` (1, 2, ...)."""
        options = self.options
        first = self.first + i * self.size
        place = (step - 1) * options.batch_size + first
        indices = sample_order(options.seed, len(self.data), place, place + self.size)
        samples = self.data[self._move(indices) if self.resident else indices]
        rows = torch.arange(first, first + self.size)
        keys = self.key.fold("step", step).each("sample", rows).key
        assert isinstance(keys, Tensor)
        batch = {name: self._move(value) for name, value in samples.items()}
        return Part(batch, Rng(self._move(keys)), rows)

    def _move(self, value: Tensor) -> Tensor:
        if value.device.type == self.device.type:
            return value
        # From pinned memory the copy does not wait for the device.
        return value.pin_memory().to(self.device, non_blocking=True)


@lru_cache(maxsize=2)
def _permutation(seed: int, count: int, epoch: int) -> Tensor:
    return Rng(seed).fold("data").fold("epoch", epoch).permutation(count)
