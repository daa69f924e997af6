"""Codecs: data to state and back.

A codec is a frozen value with `encode(data) -> state` and `decode(state) -> data`. Discrete codecs
are a table of K codes of n entries at levels -scale and +scale; encoding looks a class up, decoding
thresholds each entry at 0 (exactly 0 is a zero bit) and looks the code up.

With `axis=None` the entries of a code become a new last axis: (B, T) -> (B, T, n). With an axis
they are merged into it: images (B, C, H, W) with `axis=1` become (B, C n, H, W), all bits of the
first channel, then all of the second.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["Bits", "Codec", "OneHot", "Scaled", "Standardised"]


class Codec(Protocol):
    """Data to state and back."""

    def encode(self, data: Tensor) -> Tensor:
        """The clean state x_0 of some data."""

    def decode(self, state: Tensor) -> Tensor:
        """The data nearest to a state."""


@dataclass(frozen=True)
class Bits:
    """Analog bits: class v becomes n = ceil(log2 K) numbers in {-scale, +scale}.

    Bit i is (2 (floor(c(v) / 2^i) mod 2) - 1) scale, least significant first, with c(v) = v
    ("binary"), v XOR (v >> 1) ("gray"), or a fixed random permutation of 0 .. K - 1 ("random",
    NumPy's legacy generator with seed 42: for K = 256 the paper's UINT8 (RAND)).

    Args:
        num_classes: K >= 1 (one class needs one bit, so that a state is never empty).
        code: "binary", "gray" or "random".
        invalid: what decoding does with one of the 2^n - K unused codes: "nearest" valid code in
            L2, the lowest class among equals; "clamp" to the last code (what the paper's released
            code does); "raise".
        scale: b > 0, the level of the bits.
        axis: where the bits go (module docstring).

    References:
        T. Chen, R. Zhang, G. Hinton, 2022, arXiv 2208.04202, Section 2, Algorithm 3, Appendix C.

    Example:
        >>> Bits(5).encode(torch.tensor([1]))
        tensor([[ 1., -1., -1.]])
    """

    num_classes: int
    code: Literal["binary", "gray", "random"] = "binary"
    invalid: Literal["nearest", "clamp", "raise"] = "nearest"
    scale: float = 1.0
    axis: int | None = None

    def __post_init__(self) -> None:
        _check(self)
        for value, choices in (
            (self.code, ("binary", "gray", "random")),
            (self.invalid, ("nearest", "clamp", "raise")),
        ):
            if value not in choices:
                raise ValueError(f"expected one of {', '.join(choices)}, got {value!r}")

    @property
    def width(self) -> int:
        """The number n of bits of one class."""
        return max((self.num_classes - 1).bit_length(), 1)

    @cached_property
    def table(self) -> Tensor:
        """The codes in the order of the classes: float32, shape (K, n), entries +-scale."""
        return (2.0 * _bits(self._codes, self.width) - 1) * self.scale

    def encode(self, data: Tensor) -> Tensor:
        """Analog bits of integers in 0 .. K - 1."""
        classes = _checked(data, self.num_classes)
        return _merge(self.table.to(data.device)[classes], data.ndim, self.axis)

    def decode(self, state: Tensor) -> Tensor:
        """The classes whose codes the signs of the state spell."""
        entries = _split(state, self.width, self.axis)
        code = self._integers(entries)
        classes = self._classes.to(state.device)[code]
        if self.num_classes == 2**self.width:
            return classes
        wrong = classes < 0
        if self.invalid == "clamp":  # the largest code that is used
            return torch.where(wrong, self._classes[self._codes.max()].to(state.device), classes)
        if not wrong.any():
            return classes
        if self.invalid == "raise":
            raise ValueError(
                f"{int(wrong.sum())} of {wrong.numel()} codes are none of the {self.num_classes} "
                "valid ones; decode with invalid='nearest' or 'clamp', or sample with more steps"
            )
        fixed = classes.clone()
        # All codes have one norm, so the nearest is the one of largest inner product.
        table = self.table.to(entries)
        for rows in torch.split(wrong.nonzero(), 4096):
            index = tuple(rows.T)
            fixed[index] = (entries[index] @ table.T).argmax(-1)
        return fixed

    def invalid_rate(self, state: Tensor) -> Tensor:
        """The share of codes that belong to no class, in [0, 1], a scalar."""
        code = self._integers(_split(state, self.width, self.axis))
        return (self._classes.to(state.device)[code] < 0).float().mean()

    def _integers(self, entries: Tensor) -> Tensor:
        powers = 2 ** torch.arange(self.width, device=entries.device)
        return ((entries > 0) * powers).sum(-1)

    @cached_property
    def _codes(self) -> Tensor:  # class -> code integer
        v = torch.arange(self.num_classes)
        if self.code == "gray":
            return v ^ (v >> 1)
        if self.code == "random":
            order = np.arange(self.num_classes)
            np.random.RandomState(42).shuffle(order)
            return torch.from_numpy(order)
        return v

    @cached_property
    def _classes(self) -> Tensor:  # code integer -> class, -1 where there is none
        classes = torch.full((2**self.width,), -1)
        classes[self._codes] = torch.arange(self.num_classes)
        return classes


@dataclass(frozen=True)
class OneHot:
    """One entry per class, +scale at the class and -scale elsewhere; decodes to the largest.

    Args:
        num_classes: K >= 1.
        scale: b > 0.
        axis: where the entries go (module docstring).

    References:
        T. Chen, R. Zhang, G. Hinton, 2022, arXiv 2208.04202, Appendix B.1.
    """

    num_classes: int
    scale: float = 1.0
    axis: int | None = None

    def __post_init__(self) -> None:
        _check(self)

    @property
    def width(self) -> int:
        """The number K of entries of one class."""
        return self.num_classes

    @cached_property
    def table(self) -> Tensor:
        """The codes in the order of the classes: float32, shape (K, K), entries +-scale."""
        return (2 * torch.eye(self.num_classes) - 1) * self.scale

    def encode(self, data: Tensor) -> Tensor:
        """One-hot codes of integers in 0 .. K - 1."""
        # Not from the table, which for a vocabulary of 32,000 is 4 GB.
        codes = functional.one_hot(_checked(data, self.num_classes), self.num_classes)
        return _merge((2.0 * codes - 1) * self.scale, data.ndim, self.axis)

    def decode(self, state: Tensor) -> Tensor:
        """The class of the largest entry."""
        return _split(state, self.width, self.axis).argmax(-1)


@dataclass(frozen=True)
class Scaled:
    """Integers 0 .. K - 1 as real numbers in [-scale, scale], rounded and clamped back.

    With the data's own mean, as a place in [-1, 1], as the centre, and the inverse of their
    deviation there as the scale, the state has unit variance.

    Args:
        num_classes: K >= 2; 256 for bytes.
        scale: half the width of the range, > 0.
        centre: what becomes 0, a place in [-1, 1].
    """

    num_classes: int = 256
    scale: float = 1.0
    centre: float = 0.0

    def __post_init__(self) -> None:
        _check(self)
        if self.num_classes < 2:
            raise ValueError("a scaled range needs at least 2 levels")

    def encode(self, data: Tensor) -> Tensor:
        """(2 v / (K - 1) - 1 - centre) scale, of numbers in [0, K - 1]."""
        _check_range(data, self.num_classes)
        return (data.float() * (2 / (self.num_classes - 1)) - (1 + self.centre)) * self.scale

    def decode(self, state: Tensor) -> Tensor:
        """The nearest level."""
        _check_numbers(state)
        levels = (state.float() / self.scale + (1 + self.centre)) * ((self.num_classes - 1) / 2)
        return levels.round().clamp(0, self.num_classes - 1).long()


@dataclass(frozen=True)
class Standardised:
    """Real data with zero mean and unit variance: (x - mean) / std.

    Args:
        mean: by feature, on the last axis.
        std: by feature, > 0.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not all(s > 0 for s in self.std):
            raise ValueError("mean and std must have one number per feature, std > 0")

    @classmethod
    def fit(cls, data: Tensor) -> "Standardised":
        """The codec that standardises `data` over all axes but the last.

        A constant feature keeps std 1: it is encoded as 0 and decoded as its constant.

        Raises:
            ValueError: values that are not finite.
        """
        wrong = data.numel() - int(data.isfinite().sum())
        if wrong:
            raise ValueError(f"{wrong} of {data.numel()} values are not finite: leave them out")
        flat = data.double().flatten(0, -2)
        # Not by std > 0: rounding of the mean gives a constant 0.1 a std of 1e-17.
        std = torch.where(flat.amin(0) == flat.amax(0), 1.0, flat.std(0))
        return cls(tuple(flat.mean(0).tolist()), tuple(std.tolist()))

    def encode(self, data: Tensor) -> Tensor:
        """(x - mean) / std."""
        _check_numbers(data)
        return (data - data.new_tensor(self.mean)) / data.new_tensor(self.std)

    def decode(self, state: Tensor) -> Tensor:
        """X std + mean."""
        _check_numbers(state)
        return state * state.new_tensor(self.std) + state.new_tensor(self.mean)


def _check(codec: Bits | OneHot | Scaled) -> None:
    if codec.num_classes < 1:
        raise ValueError(f"num_classes must be at least 1, got {codec.num_classes}")
    if codec.scale <= 0:
        raise ValueError(f"scale must be positive, got {codec.scale}")


def _bits(values: Tensor, width: int) -> Tensor:
    return (values[..., None] >> torch.arange(width, device=values.device)) & 1


def _checked(data: Tensor, num_classes: int) -> Tensor:
    if data.is_floating_point() or data.is_complex():
        raise TypeError(f"classes must be integers, got {data.dtype}")
    _check_range(data, num_classes)
    return data.long()


def _check_range(data: Tensor, num_classes: int) -> None:
    # Values are checked where they are cheap to read; a GPU's own bounds check stops it later.
    if data.device.type == "cpu" and data.numel():
        low, high = data.min().item(), data.max().item()
        if not (low >= 0 and high <= num_classes - 1):  # so that NaN is out of range
            raise ValueError(
                f"classes must be in 0 .. {num_classes - 1}, got values from {low} to {high}"
            )


def _check_numbers(values: Tensor) -> None:
    """Rounding and thresholds would make NaN a value like any other."""
    if values.device.type == "cpu" and (wrong := int(values.isnan().sum())):
        raise ValueError(f"{wrong} of {values.numel()} values are not a number (NaN)")


def _merge(codes: Tensor, ndim: int, axis: int | None) -> Tensor:
    if axis is None:
        return codes
    position = axis % ndim
    return codes.movedim(-1, position + 1).flatten(position, position + 1)


def _split(state: Tensor, width: int, axis: int | None) -> Tensor:
    _check_numbers(state)
    if axis is None:
        if state.shape[-1] != width:
            raise ValueError(f"a state of {width}-entry codes cannot end in {state.shape[-1]}")
        return state
    position = axis % state.ndim
    size = state.shape[position]
    if size % width:
        raise ValueError(f"axis {axis} of size {size} does not hold codes of {width} entries")
    shape = (*state.shape[:position], size // width, width, *state.shape[position + 1 :])
    return state.reshape(shape).movedim(position + 1, -1)
