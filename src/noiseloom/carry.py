"""What one denoiser call hands to the next.

A carry is a dict from owner name to a tree of tensors (dicts, tuples and lists of them). Two rules
make it possible to handle one, or the tree of one owner, without knowing the owner: the batch is
axis 0 of every leaf, and leaves under a key "tokens" have the tokens as axis 1. This module is all
that touches a carry from outside: rollouts append and drop tokens, Monte Carlo repeats, training
takes rows.
"""

import sys
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

__all__ = [
    "Carry",
    "append_tokens",
    "caches",
    "clone",
    "detach",
    "gather",
    "keep_tokens",
    "repeat",
    "scatter",
    "slide_tokens",
    "write_caches",
]

Carry: TypeAlias = dict[str, Any]
"""From owner name to a tree; axis 0 of every leaf is the batch."""


def gather(carry: Carry, rows: Tensor) -> Carry:
    """The carry of some rows of the batch.

    Args:
        carry: any carry.
        rows: int64, shape (n,).
    """
    return _map_carry(lambda leaf, _: leaf[rows], carry)


def scatter(carry: Carry, rows: Tensor, batch: int) -> Carry:
    """The inverse of `gather`: place rows in a batch whose other rows are zero, the null carry.

    Args:
        carry: carry of n rows.
        rows: int64, shape (n,), where they go.
        batch: size B of the result.
    """

    def place(leaf: Tensor, _: bool) -> Tensor:
        # A channels-last leaf stays one: networks concatenate it with the state.
        last = leaf.ndim == 4 and leaf.is_contiguous(memory_format=torch.channels_last)
        form = torch.channels_last if last else torch.contiguous_format
        empty = torch.empty(
            (batch, *leaf.shape[1:]), dtype=leaf.dtype, device=leaf.device, memory_format=form
        )
        return empty.zero_().index_copy_(0, rows, leaf)

    return _map_carry(place, carry)


def repeat(carry: Carry, times: int) -> Carry:
    """Each row `times` times in a row: row b becomes rows b * times ... (b + 1) * times - 1."""
    return _map_carry(lambda leaf, _: leaf.repeat_interleave(times, 0), carry)


def clone(carry: Carry) -> Carry:
    """The same numbers in memory of their own."""
    return _map_carry(lambda leaf, _: leaf.clone(), carry)


def detach(carry: Carry) -> Carry:
    """The same numbers without their history of gradients."""
    return _map_carry(lambda leaf, _: leaf.detach(), carry)


def keep_tokens(carry: Carry, count: int) -> Carry:
    """With no more than the last `count` tokens of every leaf under a key "tokens"."""

    def last(leaf: Tensor, tokens: bool) -> Tensor:
        return leaf[:, leaf.shape[1] - count :] if tokens and leaf.shape[1] > count else leaf

    return _map_carry(last, carry)


def append_tokens(carry: Carry, new: Carry, most: int = sys.maxsize) -> Carry:
    """With the tokens of `new` after those of `carry`; other leaves are the newer ones.

    Args:
        carry: any carry; an empty one is extended by everything.
        new: carry of the later tokens.
        most: the last so many tokens are kept. They are copied once, and lie in memory in the same
            way however many there were.
    """
    joined: Carry = _append(carry, keep_tokens(new, most), most)
    return joined


def slide_tokens(carry: Carry, count: int, window: int) -> Carry:
    """The carry of a window that has moved on: `count` tokens leave, as many null ones enter.

    Args:
        carry: of a denoiser that sees all of a window; every leaf has its tokens as axis 1.
        count: how far it moved.
        window: tokens of the window.

    Raises:
        ValueError: a leaf that is of something else, such as a cache of earlier tokens.
    """

    def moved(leaf: Tensor, _: bool) -> Tensor:
        if leaf.ndim < 2 or leaf.shape[1] != window:
            raise ValueError(
                f"a window of {window} tokens moves on, and what the denoiser hands on is not of "
                f"them: a tensor of shape {tuple(leaf.shape)}"
            )
        return torch.cat((leaf[:, count:], torch.zeros_like(leaf[:, :count])), 1)

    return _map_carry(moved, carry)


def caches(carry: Carry) -> Carry:
    """Every "cache", wherever it is, and nothing else: what is known of the past alone."""
    kept: Carry = {}
    for owner, tree in carry.items():
        if owner == "cache":
            kept["cache"] = tree
        elif isinstance(tree, dict) and (inner := caches(tree)):
            kept[owner] = inner
    return kept


def write_caches(carry: Carry, most: int = sys.maxsize) -> Carry:
    """Every "cache" extended by the entries under "new" beside it, and nothing else.

    What a denoiser hands on about the tokens that it has just been shown becomes what it knows of
    the past; estimates and hidden states were these tokens' own, and go.

    Args:
        carry: what the denoiser handed on.
        most: the last so many tokens of every cache are kept.
    """
    kept: Carry = {}
    for owner, tree in carry.items():
        if owner == "cache":
            kept["cache"] = append_tokens(tree, carry["new"], most)
        elif owner != "new" and isinstance(tree, dict) and (inner := write_caches(tree, most)):
            kept[owner] = inner
    return kept


def _map_carry(function: Callable[[Tensor, bool], Tensor], carry: Carry) -> Carry:
    # A tree by itself is handled too: its owner may drop the tokens of its own part of a carry.
    mapped: Carry = _map(function, carry)
    return mapped


def _map(function: Callable[[Tensor, bool], Tensor], tree: Any, tokens: bool = False) -> Any:  # noqa: ANN401
    if isinstance(tree, Tensor):
        return function(tree, tokens)
    if isinstance(tree, dict):
        return {k: _map(function, v, tokens or k == "tokens") for k, v in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(_map(function, v, tokens) for v in tree)
    if tree is None:
        return None
    raise TypeError(f"a carry holds tensors in dicts, lists and tuples, not {type(tree).__name__}")


def _append(old: Any, new: Any, most: int, tokens: bool = False) -> Any:  # noqa: ANN401
    if isinstance(new, dict):
        shared = {k: v for k, v in new.items() if k in old}
        both = {k: _append(old[k], v, most, tokens or k == "tokens") for k, v in shared.items()}
        return {**old, **new, **both}
    if isinstance(new, (list, tuple)):
        return type(new)(_append(a, b, most, tokens) for a, b in zip(old, new, strict=True))
    if not tokens or new is None:
        return new
    return torch.cat((old[:, max(old.shape[1] + new.shape[1] - most, 0) :], new), 1)
