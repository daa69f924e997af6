"""What the reference networks check of their conditions, and how they take an estimate."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["acted", "check_names", "check_tokens", "entered", "with_actions", "with_estimate"]


def check_names(cond: Mapping[str, Any], known: tuple[str, ...]) -> None:
    """Refuse conditions that a network does not read: in silence they would have no effect.

    Args:
        cond: conditions by name.
        known: the names that the network reads.

    Raises:
        ValueError: a name that is not among `known`.
    """
    for name in cond:
        if name not in known:
            raise ValueError(
                f"the network knows no condition {name!r}: it takes {', '.join(known)}"
            )


def check_tokens(
    x: Tensor,
    log_snr: Tensor,
    cond: Mapping[str, Any],
    features: int,
    *,
    patch: int | None = None,
    longest: int | None = None,
    before: int = 0,
) -> None:
    """Refuse a sequence, log-SNR or mask whose shapes do not fit together.

    Args:
        x: state, shape (B, T, D), or (B, T, D, H, W) for frames; integers of shape (B, T) are
            classes 0 .. D - 1.
        log_snr: shape (B,) or (B, T).
        cond: "mask", shape (B, before + T).
        features: D.
        patch: side of the patches that frames are to be cut into; None for vectors.
        longest: the most that T may be.
        before: number of tokens before the state's that the network is given too.

    Raises:
        ValueError: one of the shapes is another.
    """
    if not x.is_floating_point() and patch is None and x.ndim == 2:
        x = x[..., None].expand(*x.shape, features)
    fits = x.ndim == (3 if patch is None else 5) and x.shape[2] == features
    if patch is not None and not (fits and x.shape[3] % patch == x.shape[4] % patch == 0):
        raise ValueError(
            f"a state of shape {tuple(x.shape)}: expected (B, T, {features}, H, W) with H and W "
            f"multiples of the patch, {patch}"
        )
    if not fits or (longest is not None and x.shape[1] > longest):
        most = "" if longest is None else f" with T at most {longest}"
        raise ValueError(f"a state of shape {tuple(x.shape)}: expected (B, T, {features}){most}")
    batch, length = x.shape[:2]
    if log_snr.shape not in ((batch, length), (batch,)):
        raise ValueError(
            f"a log-SNR of shape {tuple(log_snr.shape)} for a state of shape {tuple(x.shape)}: "
            f"expected {(batch,)} or {(batch, length)}"
        )
    mask = cond.get("mask")
    if mask is not None and mask.shape != (batch, before + length):
        after = f" after {before} cached tokens" if before else ""
        raise ValueError(
            f"a mask of shape {tuple(mask.shape)} for a state of shape {tuple(x.shape)}{after}: "
            f"expected {(batch, before + length)}"
        )


def entered(
    layer: nn.Linear,
    x: Tensor,
    cond: Mapping[str, Any],
    wanted: bool,
    features: int,
    estimated: int | None = None,
) -> Tensor:
    """The first layer of a network on its tokens, and the estimate beside them if there is one.

    Of classes it is that of their one-hot vectors, looked up: W[:, x] + b.

    Args:
        layer: of D features, or D + E with an estimate.
        x: state, shape (B, T, D), or classes, integers of shape (B, T).
        cond: "estimate", of shape (B, T, E); absent means zeros.
        wanted: whether the network was built with self-conditioning.
        features: D.
        estimated: E; by default D.

    Raises:
        ValueError: as of `with_estimate`.
    """
    if x.is_floating_point():
        found: Tensor = layer(with_estimate(x, cond, wanted, 2, estimated))
        return found
    weight, estimate = layer.weight, cond.get("estimate")
    h = functional.embedding(x, weight[:, :features].T)
    if layer.bias is not None:
        h = h + layer.bias
    if estimate is None:
        return h
    _check_estimate(estimate, torch.Size((*x.shape, estimated or features)), wanted)
    return h + functional.linear(estimate.to(weight.dtype), weight[:, features:])


def with_actions(layer: nn.Linear | None, old: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights to take over (`noiseloom.training.Heir`): actions that are new say nothing at first.

    Args:
        layer: of actions, called "action"; None for a network without.
        old: weights of another network.
    """
    if layer is None or "action.weight" in old:
        return dict(old)
    return {**old, "action.weight": torch.zeros_like(layer.weight)}


def acted(
    layer: nn.Linear | None, unknown: Tensor | None, x: Tensor, cond: Mapping[str, Any]
) -> Tensor | None:
    """What the actions of tokens add to them: A action + b, or a learnt vector where it is unknown.

    Args:
        layer: of A features, None for a network without actions.
        unknown: shape (W,), what an unknown action adds; None for such a network.
        x: state, whose first axes are (B, T).
        cond: "action" (B, T, A), "action_mask" (B,) or (B, T), True where the action is known.

    Returns:
        Shape (B or 1, T or 1, W), or None for a network without actions.

    Raises:
        ValueError: an action for such a network, or of another shape.
    """
    action, known = cond.get("action"), cond.get("action_mask")
    if layer is None or unknown is None:
        if action is not None or known is not None:
            raise ValueError(
                "an action for a network without actions: build it with action_features, or "
                "leave the action and its mask out"
            )
        return None
    if action is None:
        return unknown[None, None]
    tokens, features = tuple(x.shape[:2]), layer.in_features
    if action.shape != (*tokens, features):
        raise ValueError(
            f"an action of shape {tuple(action.shape)} for a state of shape {tuple(x.shape)}: "
            f"expected {(*tokens, features)}"
        )
    a: Tensor = layer(action.to(layer.weight.dtype))
    if known is not None:
        if known.shape not in (tokens, tokens[:1]):
            raise ValueError(
                f"an action_mask of shape {tuple(known.shape)} for a state of shape "
                f"{tuple(x.shape)}: expected {tokens[:1]} or {tokens}"
            )
        a = torch.where(known.reshape(len(x), -1, 1), a, unknown.to(a.dtype))
    return a


def with_estimate(
    x: Tensor, cond: Mapping[str, Any], wanted: bool, dim: int, estimated: int | None = None
) -> Tensor:
    """The network's input: the state, and beside it the self-conditioning estimate.

    Args:
        x: state.
        cond: "estimate", of the state's shape; absent means zeros.
        wanted: whether the network was built with self-conditioning.
        dim: axis of the channels or features.
        estimated: features of the estimate, where there are others than the state's.

    Raises:
        ValueError: an estimate for a network without self-conditioning, or of another shape.
    """
    estimate, shape = cond.get("estimate"), list(x.shape)
    shape[dim] = estimated or shape[dim]
    if estimate is None and not wanted:
        return x
    if estimate is None:  # in the state's layout, if it is of its shape
        same = shape == list(x.shape)
        return torch.cat((x, torch.zeros_like(x) if same else x.new_zeros(shape)), dim)
    _check_estimate(estimate, torch.Size(shape), wanted)
    return torch.cat((x, estimate.to(x.dtype)), dim)


def _check_estimate(estimate: Tensor, shape: torch.Size, wanted: bool) -> None:
    if not wanted:
        raise ValueError(
            f"an estimate of shape {tuple(estimate.shape)} for a network without "
            "self-conditioning: build it with self_conditioning=True"
        )
    if estimate.shape != shape:
        raise ValueError(
            f"an estimate of shape {tuple(estimate.shape)} for a state of shape {tuple(shape)}: "
            "the two must be equal"
        )
