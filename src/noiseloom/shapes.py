"""The law of shapes: which axes a time belongs to is never guessed.

A time has the number of axes of its state, each 1 or equal to the state's, or it is a *left prefix*
of the state's shape, each entry 1 or equal: `()`, `(B,)`, `(B, T)`, `(1, T)`. Broadcasting from
the right, as PyTorch does, computes wrong numbers in silence when batch, token and channel counts
happen to agree; here everything that does not obey the law raises and names both shapes.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor

__all__ = [
    "Cond",
    "State",
    "Time",
    "align",
    "first_part",
    "map_state",
    "mean_like",
    "part_times",
    "parts_of",
]

Time: TypeAlias = Tensor
"""Float tensor in [0, 1]; 0 is clean, 1 is noise."""

State: TypeAlias = Tensor | dict[str, Tensor]
"""A tensor, or one tensor per name for product spaces."""

Cond: TypeAlias = Mapping[str, Any]
"""Conditions by name; an absent key is the null condition for every example.

A tensor is of shape (B, ...), an entry per example; (1, ...) and () are for all of them.
"""


def align(t: Tensor, x: Tensor) -> Tensor:
    """Give a time the state's number of axes, so that the two broadcast as meant.

    Args:
        t: time, a left prefix of the shape of `x` or of its number of axes, entries 1 or equal. A
            scalar comes back as it is: it may live on the CPU while the state is on a GPU.
        x: state.

    Returns:
        The same numbers in shape `t.shape + (1, ..., 1)`, with `x.ndim` axes (a scalar: 0 axes).

    Raises:
        TypeError: `t` is not a floating-point tensor.
        ValueError: the shape of `t` obeys neither form; both shapes are named.

    Example:
        >>> import torch
        >>> align(torch.rand(4, 8), torch.zeros(4, 8, 3)).shape
        torch.Size([4, 8, 1])
    """
    if not (isinstance(t, Tensor) and t.is_floating_point()):
        raise TypeError(f"a time must be a floating-point tensor, got {_kind(t)}")
    prefix = x.shape[: t.ndim]
    if t.ndim > x.ndim or any(a not in (1, b) for a, b in zip(t.shape, prefix, strict=True)):
        raise ValueError(
            f"a time of shape {tuple(t.shape)} does not fit a state of shape {tuple(x.shape)}: "
            "it must be a left prefix of the state's shape, each entry 1 or equal"
        )
    return t if t.ndim == 0 else t.reshape(t.shape + (1,) * (x.ndim - t.ndim))


def mean_like(values: Tensor, t: Tensor, counted: Tensor | None = None) -> Tensor:
    """Average `values` over the axes along which an aligned time is constant.

    Args:
        values: one number per entry of the state.
        t: aligned time (`align`).
        counted: bool, as many axes as `values`, each 1 or equal: the entries the mean is over, by
            default all. A mean over none is 0.

    Returns:
        The means, in the shape of `t` (all axes 1 where `t` is a scalar).
    """
    shape = t.shape if t.ndim else (1,) * values.ndim
    axes = [i for i, size in enumerate(shape) if size == 1]
    if counted is None:
        return values.mean(axes, keepdim=True) if axes else values
    # Not times 0: what does not count may be infinite.
    values = torch.where(counted, values, 0)
    if not axes:
        return values
    number = counted.expand_as(values).to(values.dtype).sum(axes, keepdim=True)
    return values.sum(axes, keepdim=True) / number.clamp(min=1)


def map_state(function: Callable[..., Any], state: State, *others: State) -> Any:  # noqa: ANN401
    """Apply a function to a tensor, or to each named part of a product state.

    Raises:
        ValueError: the states do not have the same parts.
    """
    if isinstance(state, Tensor):
        return function(state, *others)
    parts = [parts_of(state, other) for other in others]
    return {name: function(part, *(p[name] for p in parts)) for name, part in state.items()}


def first_part(state: State) -> Tensor:
    """A tensor that has a state's batch and place: itself, or the first of its parts."""
    return state if isinstance(state, Tensor) else next(iter(state.values()))


def parts_of(expected: Mapping[str, Any], state: object) -> dict[str, Tensor]:
    """A product state in the order of the parts that it should have, and has.

    Raises:
        ValueError: it has others, or is one tensor.
    """
    if not isinstance(state, dict) or state.keys() != expected.keys():
        raise ValueError(f"expected the parts {sorted(expected)}, got {_kind(state)}")
    return {name: state[name] for name in expected}


def part_times(t: Time | Mapping[str, Time], state: dict[str, Tensor]) -> dict[str, Time]:
    """A time for each part of a product state.

    Args:
        t: by name; or one for all parts, of shape () or (B,). More axes are a part's own: what the
            time of a node is says nothing of an edge's.
        state: tensors by name.

    Raises:
        ValueError: other names, or one time of more axes for all.
    """
    if isinstance(t, Mapping):
        return parts_of(state, t)
    if t.ndim > 1:
        raise ValueError(
            f"a time of shape {tuple(t.shape)} for the parts {sorted(state)}: times of more than "
            "one axis are given by part, as a dict"
        )
    return dict.fromkeys(state, t)


def _kind(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of {value.dtype}"
    return f"parts {sorted(value)}" if isinstance(value, dict) else type(value).__name__
