"""What causal transformers know of earlier tokens, and who sees whom: for tokens and frames alike.

In this module x is the state, whose first two axes are (B, T); the errors name its shape. A cache
is {"tokens": [for each block {"keys", "values"}]}, n tokens of all of which there has been, or, if
it began as `blank`, has "real" beside it, {"tokens": bool (B, n)}: whether there has been a token.
So it has one size from the first token on, and a network one shape, and one graph, for all.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from noiseloom.carry import Carry
from noiseloom.nets.attention import Sight, rotation

__all__ = ["added", "alone", "blank", "cached", "check_heads", "check_window", "entries", "sight"]


def check_window(window: int) -> None:
    """Refuse a window in which a token does not see itself.

    Args:
        window: number of tokens that a token attends to, itself included.

    Raises:
        ValueError: a window without tokens.
    """
    if window < 1:
        raise ValueError(f"a window must have at least 1 token, got {window}")


def check_heads(width: int, heads: int) -> None:
    """Refuse heads that rotary positions cannot turn.

    Args:
        width: features W inside.
        heads: attention heads.

    Raises:
        ValueError: heads not of an even number of features.
    """
    if heads < 1 or width % (2 * heads):
        raise ValueError(
            f"width {width} cannot be divided among {heads} heads of an even number of "
            "features, which rotary positions turn in pairs"
        )


def blank(x: Tensor, count: int, shapes: Sequence[tuple[int, ...]]) -> Carry:
    """The cache of a past in which there has been nothing, in the type that autocast would give it.

    Args:
        x: state.
        count: number of tokens that it holds, none of them real.
        shapes: for each block, that of the keys of one token.
    """
    kind = x.device.type
    cast = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    dtype = torch.get_autocast_dtype(kind) if cast else x.dtype
    size = (len(x), count)
    blocks = [
        {name: x.new_zeros((*size, *shape), dtype=dtype) for name in ("keys", "values")}
        for shape in shapes
    ]
    return {"tokens": blocks, "real": {"tokens": x.new_zeros(size, dtype=torch.bool)}}


def added(x: Tensor, cond: Mapping[str, Any], tokens: list[dict[str, Tensor]]) -> Carry:
    """What the tokens of x add to `cond["cache"]`: a tree like it.

    Args:
        x: state.
        cond: "cache", or the empty one.
        tokens: for each block {"keys", "values"}.
    """
    if "real" not in cond["cache"]:
        return {"tokens": tokens}
    real = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
    return {"tokens": tokens, "real": {"tokens": real}}


def cached(cond: Mapping[str, Any]) -> int:
    """The number n of tokens in `cond["cache"]`, 0 where there is none."""
    if not cond.get("cache"):
        return 0
    n: int = cond["cache"]["tokens"][0]["keys"].shape[1]
    return n


def alone(x: Tensor, cond: Mapping[str, Any], n: int) -> bool:
    """Whether `cond["alone"]`: the cache holds the tokens of x as the others see them.

    Token i of x then sees those before it in the cache, and of x itself alone.

    Args:
        x: state.
        cond: "alone".
        n: number of cached tokens.

    Raises:
        ValueError: other tokens than those of x in the cache.
    """
    if not cond.get("alone"):
        return False
    if n != x.shape[1] or "real" in cond["cache"]:
        raise ValueError(
            f"tokens alone see a cache of the same {x.shape[1]} tokens, which began empty, got one "
            f"of {n}: first read them with an empty cache"
        )
    return True


def entries(
    x: Tensor, cond: Mapping[str, Any], shapes: Sequence[tuple[int, ...]]
) -> list[dict[str, Tensor]] | None:
    """The entries of `cond["cache"]`, one per block, or None where there are none.

    Args:
        x: state.
        cond: "cache", {"tokens": [for each block {"keys", "values"}]}.
        shapes: for each block, that of the keys of one token.

    Raises:
        ValueError: entries of another number or shape.
    """
    if not cond.get("cache"):
        return None
    past: list[dict[str, Tensor]] = cond["cache"]["tokens"]
    if len(past) != len(shapes):
        raise ValueError(
            f"a cache of {len(past)} blocks for a network of {len(shapes)}: give it the entries "
            "that this network returned"
        )
    n = cached(cond)
    for entry, shape in zip(past, shapes, strict=True):
        for leaf in entry.values():
            if leaf.shape != (len(x), n, *shape):
                raise ValueError(
                    f"cached keys or values of shape {tuple(leaf.shape)} for a state of shape "
                    f"{tuple(x.shape)}: expected ({len(x)}, n, {', '.join(map(str, shape))}), n "
                    "the same in all"
                )
    return past


def sight(
    x: Tensor, cond: Mapping[str, Any], n: int, window: int, width: int, *, causal: bool = True
) -> Sight:
    """Who sees whom, and the turns of rotary positions.

    Token i sees tokens i - window + 1 .. i, or .. i + window - 1 if it is not causal. No mask is
    made where causal order, or nothing, says that: for a whole history within a window, and for one
    token after those of a full cache.
    Of tokens `alone` all of these but token i are the cached ones.

    Args:
        x: state.
        cond: "mask", bool, shape (B, n + T), True for a real token; "cache", which may say of its
            own that they are not; "position", an int, or int64 of shape () or (B,): the index of
            the first token of x in the whole sequence, and, where they are "alone", of the first
            cached one.
        n: number of cached tokens.
        window: number of tokens that a token sees, itself included.
        width: features of a head.
        causal: whether a token sees none that follow; without a cache it may.

    Raises:
        ValueError: a position of another shape, or none where n > 0; a cache of what is not causal.
    """
    if not causal and cond.get("cache") is not None:
        raise ValueError("a network that sees what follows keeps no cache: leave it out")
    seen = _seen(x, n, _real(x, cond), window, alone(x, cond, n), causal)
    dtype = torch.promote_types(x.dtype, torch.float32)
    turn = rotation(_positions(x, n, cond.get("position")), width, dtype)
    return {"seen": seen, "causal": causal and seen is None and n == 0, "turn": turn}


def _real(x: Tensor, cond: Mapping[str, Any]) -> Tensor | None:
    """Which of the cached tokens and those of x are real, shape (B, n + T); None where all are."""
    mask: Tensor | None = cond.get("mask")
    if "real" not in (cond.get("cache") or {}):
        return mask
    real: Tensor = functional.pad(cond["cache"]["real"]["tokens"], (0, x.shape[1]), value=True)
    return real if mask is None else real & mask


def _seen(
    x: Tensor, n: int, real: Tensor | None, window: int, single: bool, causal: bool
) -> Tensor | None:
    """Shape (B or 1, T, n + T); None where causal order, or nothing, says it all."""
    length = x.shape[1]
    whole = length <= window if n == 0 else length == 1 and n < window and not single
    if real is None and whole:
        return None
    index = torch.arange(n + length, device=x.device)
    age = index[n:, None] - index
    band, itself = (age >= 0 if causal else age > -window) & (age < window), age == 0
    if single:
        earlier = band[:, n:] & ~itself[:, n:]
        band = torch.cat((earlier, itself[:, n:]), 1)
    # Padding sees itself: a softmax over nothing is not a number, and would spread.
    return band[None] if real is None else band & real[:, None] | itself


def _positions(x: Tensor, n: int, position: int | Tensor | None) -> Tensor:
    """Indices of the tokens of x in the whole sequence, shape (B or 1, T)."""
    if position is None:
        if n:
            raise ValueError(
                f'a cache of {n} tokens without a position: pass cond["position"], the index of '
                "the state's first token in the whole sequence"
            )
        position = 0
    if isinstance(position, Tensor) and position.ndim:
        if position.shape != x.shape[:1]:
            raise ValueError(
                f"a position of shape {tuple(position.shape)} for a state of shape "
                f"{tuple(x.shape)}: expected () or ({len(x)},)"
            )
        position = position[:, None]
    steps = torch.arange(x.shape[1], device=x.device)
    return (position + steps).reshape(-1, x.shape[1])
