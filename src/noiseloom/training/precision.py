"""Mixed precision for the network alone."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["in_bfloat16", "networks"]


def networks(model: nn.Module) -> list[nn.Module]:
    """The outermost sub-modules called `network`, or else the model."""
    named = {n: m for n, m in model.named_modules() if n.rpartition(".")[2] == "network"}
    return [m for n, m in named.items() if not any(n.startswith(f"{o}.") for o in named)] or [model]


@contextlib.contextmanager
def in_bfloat16(networks: Sequence[nn.Module], device: torch.device) -> Iterator[None]:
    """Run the forward pass of some modules under autocast, and give their outputs in float32.

    One region per call: a region that spanned the first pass of self-conditioning, which is without
    gradient, and the second would hand the first's cached weights to the second.
    """
    for network in networks:
        network.forward = _autocast(network.forward, device.type)
    try:
        yield
    finally:
        for network in networks:
            del network.forward


def _autocast(forward: Callable[..., Any], kind: str) -> Callable[..., Any]:
    def cast(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        with torch.autocast(kind, dtype=torch.bfloat16):
            result = forward(*args, **kwargs)
        return _full(result)

    return cast


def _full(tree: Any) -> Any:  # noqa: ANN401
    if isinstance(tree, Tensor):
        return tree.float() if tree.dtype == torch.bfloat16 else tree
    if isinstance(tree, dict):
        return {name: _full(value) for name, value in tree.items()}
    return type(tree)(_full(value) for value in tree) if isinstance(tree, (list, tuple)) else tree
