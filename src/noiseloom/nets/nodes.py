"""What networks for nodes share: the mask of a batch, and what nodes and pairs know of their time.

Padding is set to 0 as it comes in, so that nothing of it, not even a NaN, takes part in anything.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from noiseloom.nets.layers import Embedding

__all__ = [
    "Clock",
    "hidden_padding",
    "masked_mean",
    "real_nodes",
    "real_pairs",
    "take_estimate",
    "take_parts",
]


class Clock(nn.Module):
    """What is known beside the state, for every node: log-SNRs of several parts, and a class.

    The sum of one `Embedding` for each part, the first of which knows the class.

    Args:
        parts: how many log-SNRs there are.
        width: W.
        num_classes: K, or None.
    """

    def __init__(self, parts: int, width: int, num_classes: int | None = None) -> None:
        super().__init__()
        self.each = nn.ModuleList(
            Embedding(width, width, None if i else num_classes) for i in range(parts)
        )

    def forward(self, log_snr: list[Tensor], cond: Mapping[str, Tensor]) -> Tensor:
        """Embed: shape (B, 1, W), or (B, N, W) where a node has a time of its own.

        Args:
            log_snr: one of each part, shape (B,) or (B, N).
            cond: "label".
        """
        label = {k: v for k, v in cond.items() if k == "label"}
        found: list[Tensor] = []
        for i, (embedding, own) in enumerate(zip(self.each, log_snr, strict=True)):
            e = embedding(own, {} if i else label)
            found.append(e if e.ndim == 3 else e[:, None])
        total = found[0]
        for e in found[1:]:
            total = total + e
        return total


def real_nodes(cond: Mapping[str, Any], x: Tensor) -> Tensor:
    """Which nodes are real, bool (B, N): `cond["mask"]`, or all.

    Raises:
        ValueError: a mask that is not bool, or of another shape.
    """
    mask = cond.get("mask")
    if mask is None:
        return torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
    if mask.shape != x.shape[:2] or mask.dtype != torch.bool:
        raise ValueError(
            f"a mask of {mask.dtype} of shape {tuple(mask.shape)} for a state of shape "
            f"{tuple(x.shape)}: expected bool of shape {tuple(x.shape[:2])}"
        )
    found: Tensor = mask
    return found


def real_pairs(mask: Tensor) -> Tensor:
    """Pairs of different real nodes: bool, shape (B, N, N)."""
    other = ~torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
    return mask[:, :, None] & mask[:, None] & other


def hidden_padding(x: Tensor, real: Tensor) -> Tensor:
    """The state with 0 wherever `real`, a left prefix of its shape, is not."""
    return torch.where(real.reshape(real.shape + (1,) * (x.ndim - real.ndim)), x, 0)


def masked_mean(h: Tensor, mask: Tensor) -> Tensor:
    """The mean over real nodes: (B, N, W) to (B, W), 0 where there is none."""
    real = mask[..., None]
    return torch.where(real, h, 0).sum(1) / real.sum(1).clamp(min=1)


def take_parts(value: object, names: tuple[str, ...] | None, what: str) -> list[Tensor]:
    """The parts of a state in their order, or the one tensor that it is, as a list.

    Args:
        value: a tensor, or parts by name.
        names: those that it should have; None for a tensor.
        what: its name, for the error.

    Raises:
        ValueError: it is a tensor and should have parts, or the other way round, or has others.
    """
    if names is None and isinstance(value, Tensor):
        return [value]
    if names is not None and isinstance(value, dict) and sorted(value) == sorted(names):
        return [value[name] for name in names]
    wanted = "one tensor" if names is None else f"the parts {sorted(names)}"
    found = f"parts {sorted(value)}" if isinstance(value, dict) else "one tensor"
    raise ValueError(f"{what}: expected {wanted}, got {found}")


def take_estimate(
    cond: Mapping[str, Any], state: list[Tensor], names: tuple[str, ...] | None, wanted: bool
) -> list[Tensor] | None:
    """The estimate beside a state, part by part: zeros if it is absent, None if none is wanted.

    Args:
        cond: "estimate".
        state: the parts of the state.
        names: theirs, or None.
        wanted: whether the network was built with self-conditioning.

    Raises:
        ValueError: an estimate that is not wanted, or not of the state's shape.
    """
    estimate = cond.get("estimate")
    if not wanted:
        if estimate is None:
            return None
        raise ValueError(
            "an estimate for a network without self-conditioning: build it with "
            "self_conditioning=True"
        )
    if estimate is None:
        return [torch.zeros_like(part) for part in state]
    guess = take_parts(estimate, names, "estimate")
    shapes = [[tuple(part.shape) for part in parts] for parts in (guess, state)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"an estimate of shapes {shapes[0]} for a state of shapes {shapes[1]}: the two must be "
            "equal"
        )
    return guess
