"""CUDA graphs: all that a function launches, recorded once and launched again by one call.

A GPU may need less time for a kernel than its host for launching it. A recording takes the host out
of the loop: it holds the kernels, the addresses they read and write, and every number that the host
had decided. So a function can be recorded if it depends on nothing but the tensors it is given and
what is always the same, and asks the device for nothing.
"""

from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor

__all__ = ["Replayed"]


class Replayed:
    """A function of trees of tensors: recorded at its second call with arguments of a form.

    The first call runs it as it is: what is compiled or allocated on first use is so by then. The
    results are copies, one of each tensor, and so are the arguments, at every call and contiguous:
    no memory is lent, and nothing is compiled again, for other strides, while it is recorded.

    Args:
        function: from dicts, lists and tuples of tensors, and of hashable values that are part of
            the form, to a tree of tensors.
        device: where it works.

    Raises:
        ValueError: the device is no GPU.
        RuntimeError: what is to be recorded waits for the device.
    """

    def __init__(self, function: Callable[..., Any], device: torch.device) -> None:
        if device.type not in _CAPTURES:
            raise ValueError(f"a CUDA graph needs a GPU, and the device is {device}")
        self.function = function
        self.capture = _CAPTURES[device.type]
        self.recordings: dict[Hashable, Callable[..., Any] | None] = {}

    def __call__(self, *args: Any) -> Any:  # noqa: ANN401
        """The function's results, for the first time by calling it."""
        form = _form(args)
        if form not in self.recordings:
            self.recordings[form] = None
            return self.function(*_copies(args))
        replay = self.recordings[form] or self._record(args)
        self.recordings[form] = replay
        return replay(*args)

    def _record(self, args: tuple[Any, ...]) -> Callable[..., Any]:
        inputs = _copies(args)
        places = _leaves(inputs)
        launch, outputs = self.capture(self.function, inputs)

        def replay(*args: Any) -> Any:  # noqa: ANN401
            for place, leaf in zip(places, _leaves(args), strict=True):
                place.copy_(leaf)
            launch()
            return _map(torch.clone, outputs)

        return replay


def _capture(
    function: Callable[..., Any], inputs: tuple[Any, ...]
) -> tuple[Callable[[], object], Any]:
    """What launches the function's work again, and the results it writes."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        outputs = function(*inputs)
    return graph.replay, outputs


_CAPTURES = {"cuda": _capture}
"""How work is recorded, by kind of device."""


def _copies(tree: Any) -> Any:  # noqa: ANN401
    return _map(lambda leaf: leaf.clone(memory_format=torch.contiguous_format), tree)


def _map(function: Callable[[Tensor], Tensor], tree: Any) -> Any:  # noqa: ANN401
    if isinstance(tree, Tensor):
        return function(tree)
    if isinstance(tree, dict):
        return {name: _map(function, value) for name, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(_map(function, value) for value in tree)
    return tree


def _leaves(tree: Any) -> list[Tensor]:  # noqa: ANN401
    found: list[Tensor] = []

    def find(leaf: Tensor) -> Tensor:
        found.append(leaf)
        return leaf

    _map(find, tree)
    return found


def _form(tree: Any) -> Hashable:  # noqa: ANN401
    """All that a recording takes as given."""
    if isinstance(tree, Tensor):
        return tree.shape, tree.dtype, tree.device
    if isinstance(tree, dict):
        return tuple((name, _form(value)) for name, value in tree.items())
    if isinstance(tree, (list, tuple)):
        return tuple(_form(value) for value in tree)
    found: Hashable = tree
    return found
