"""What drawing takes: seconds, and calls of the bare network, counted where they are made."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from noiseloom.training.precision import networks

__all__ = ["Tally"]


class Tally:
    """Counts over the blocks that it watches.

    Args:
        model: its sub-modules called `network` are counted, or else the whole. Its own `encoder`,
            which is called before any step is made, is not.

    Attributes:
        seconds: of all blocks.
        rows: that the networks were given in them: a call with a batch of B counts B times.
    """

    def __init__(self, model: nn.Module) -> None:
        self.networks = [m for m in networks(model) if m is not getattr(model, "encoder", None)]
        self.device = next(model.parameters()).device
        self.seconds = 0.0
        self.rows = 0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """A block in which calls are counted; it ends when the device has done all of them."""
        with ExitStack() as stack:
            for network in self.networks:
                hook = network.register_forward_pre_hook(self._count, with_kwargs=True)
                stack.callback(hook.remove)
            self._wait()
            began = time.perf_counter()
            yield
            self._wait()
            self.seconds += time.perf_counter() - began

    def report(self, samples: int) -> dict[str, float]:
        """Metrics of so many samples that were drawn in the blocks."""
        return {
            "samples_per_second": samples / max(self.seconds, 1e-9),
            "network_evaluations": self.rows / samples,
        }

    def _count(self, _: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        first = next(v for v in (*args, *named.values()) if isinstance(v, Tensor))
        self.rows += len(first)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
