"""The processes that share a training: how they are connected, and how they part.

A group that is still there as Python ends may abort the process ("terminate called without an
active exception"): a thread of gloo lets go of a tensor, for which it needs an interpreter that is
no more (PyTorch, pull request 179291). So it is destroyed before, **by all processes at about the
same time**: NCCL's `ncclCommDestroy` is a collective call (its manual, "Communicator Creation and
Management Functions"), and gloo waits for what is under way.

After an error there is nobody to wait for, since the others may be waiting for this process. NCCL
has no call then that one process may make alone: `ncclCommAbort`, too, is one for all. So a process
says what was wrong and is gone at once, without destroying anything; that closes its connections,
by which its peers notice.

One group serves all trainings of a program: that a second can be begun is "unsupported/untested"
(PyTorch's manual, torch.distributed, "Reinitialization"). So it ends with the program, or before,
with the training of a program that is one command: there the main process goes on alone.
"""

import atexit
import contextlib
import gc
import importlib
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any

import torch
from accelerate import Accelerator
from torch import distributed

from noiseloom.world import world_size

__all__ = ["connect", "is_loss_of_peer", "leave", "trained", "trains_once"]

_LOST = ("/gloo/transport/", "ncclRemoteError", "remote process exited")
"""What gloo's connections and NCCL say where a peer is gone."""

_begun = False
"""Whether there is a group that `connect` began: another one is left to whoever began it."""

_once = False
"""Whether the program is one command, so that no other training follows."""


def connect() -> Accelerator:
    """The accelerator, with a group if there are other processes.

    A group that is begun here ends with the program at the latest, see `trained`, and an error
    that ends the program ends the process at once, see `leave`.

    Raises:
        RuntimeError: the processes are not connected.
        ValueError: WORLD_SIZE is no number.
    """
    if distributed.is_available():
        # Its functions take the group that there is when they are imported, which data parallelism
        # does, for a default, and would keep it and its threads to the end.
        importlib.import_module("torch.distributed.nn.functional")
    said = os.environ.get("WORLD_SIZE", "1")
    if said != str(world_size()):  # accelerate would not say which number it is that it cannot read
        raise ValueError(f"WORLD_SIZE is {said!r}, no number of processes: unset it")
    known = _is_connected()
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(),
        mixed_precision="no",  # the loop's own covers the network only, see in_bfloat16
    )
    world = accelerator.num_processes
    if world != world_size():
        raise RuntimeError(
            f"this is one of {world_size()} processes, but {world} are connected: "
            "launch with torchrun, or with accelerate launch --multi_gpu"
        )
    if _is_connected() and not known:
        global _begun
        _begun = True
        atexit.register(_disconnect)  # runs while threads may still ask for the interpreter
        sys.excepthook = partial(_told, sys.excepthook)
    return accelerator


def trains_once() -> None:
    """Say that the program is one command, whose group ends with its training."""
    global _once
    _once = True


def trained() -> None:
    """End the group after a training, while all are here, unless another one may follow."""
    if _once:
        _disconnect()


def leave(code: int, error: BaseException) -> None:
    """End this process, if it is one of several that `connect` has connected.

    Args:
        code: its exit code.
        error: the reason, which was told already.
    """
    if _begun and _is_connected():
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # closed, or nobody reads it any more
                stream.flush()
        if is_loss_of_peer(error):
            time.sleep(5)  # torchrun names who was gone when it looked, and ends the others
        os._exit(code)


def is_loss_of_peer(error: BaseException) -> bool:
    """Whether an error says no more than that another process has ended, which says why itself."""
    said = str(error) if isinstance(error, RuntimeError) and _is_connected() else ""
    return any(words in said for words in _LOST)


def _disconnect() -> None:
    """Destroy the group, if `connect` began one: for all processes, after the last training."""
    global _begun
    if _begun and _is_connected():  # a program may have destroyed it by itself
        _begun = False
        gc.collect()  # a wrapped model that is part of a cycle would keep the group's threads
        distributed.destroy_process_group()


def _is_connected() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def _told(
    tell: Callable[[type[BaseException], BaseException, TracebackType | None], Any],
    kind: type[BaseException],
    error: BaseException,
    trace: TracebackType | None,
) -> None:
    """What `sys.excepthook` does in one of several processes: `tell`, and leave."""
    try:
        tell(kind, error, trace)
    finally:
        leave(130 if issubclass(kind, KeyboardInterrupt) else 1, error)
