"""What the reference networks check of their conditions, and how they take an estimate."""

import difflib
from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["check_names", "with_estimate"]


def check_names(cond: Mapping[str, Tensor], known: tuple[str, ...]) -> None:
    """Refuse conditions that a network does not read: in silence they would have no effect.

    Args:
        cond: conditions by name.
        known: the names that the network reads.

    Raises:
        ValueError: a name that is not among `known`.
    """
    for name in cond:
        if name not in known:
            raise ValueError(_unknown(name, known))


# The compiler cannot trace difflib.
@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _unknown(name: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(name, known, 1, 0.5)
    nearest = f" (nearest: {near[0]!r})" if near else ""
    return f"the network knows no condition {name!r}{nearest}: it takes {', '.join(known)}"


def with_estimate(x: Tensor, cond: Mapping[str, Tensor], wanted: bool, dim: int) -> Tensor:
    """The network's input: the state, and beside it the self-conditioning estimate.

    Args:
        x: state.
        cond: "estimate", of the state's shape; absent means zeros.
        wanted: whether the network was built with self-conditioning.
        dim: axis of the channels or features.

    Raises:
        ValueError: an estimate for a network without self-conditioning, or of another shape.
    """
    estimate = cond.get("estimate")
    if estimate is None:
        return torch.cat((x, torch.zeros_like(x)), dim) if wanted else x
    if not wanted:
        raise ValueError(
            f"an estimate of shape {tuple(estimate.shape)} for a network without "
            "self-conditioning: build it with self_conditioning=True"
        )
    if estimate.shape != x.shape:
        raise ValueError(
            f"an estimate of shape {tuple(estimate.shape)} for a state of shape {tuple(x.shape)}: "
            "the two must be equal"
        )
    return torch.cat((x, estimate.to(x.dtype)), dim)
