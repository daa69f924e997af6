"""How networks run: in mixed precision, the network alone; and, to draw from them, compiled."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._functorch import config

__all__ = ["compiled", "in_bfloat16", "networks", "without_cudnn_attention"]


def networks(model: nn.Module) -> list[nn.Module]:
    """The outermost sub-modules called `network`, with encoders beside them, or else the model."""
    modules = [(n, n.rpartition(".")[2], m) for n, m in model.named_modules()]
    kinds = ("network", "encoder") if any(kind == "network" for _, kind, _ in modules) else ()
    named = {n: m for n, kind, m in modules if kind in kinds}
    return [m for n, m in named.items() if not any(n.startswith(f"{o}.") for o in named)] or [model]


@contextlib.contextmanager
def compiled(
    model: nn.Module,
    *,
    graphs: bool = True,
    bfloat16: bool | None = None,
    backend: str | Callable[..., Any] = "inductor",
) -> Iterator[None]:
    """Draw from a denoiser, however wrapped, with compiled networks; afterwards they are as before.

        with compiled(denoiser):
            for step in sample(denoiser, ...):

    Compiling may take minutes, and again for every shape of batch: it is for rollouts, and for
    thousands of samples.

    Args:
        model: on its device; what is called `network` in it is compiled, or else the whole.
        graphs: on a GPU, replay each network as a CUDA graph. Not where these calls are recorded
            themselves, by `rollout(..., graph=True)`.
        bfloat16: run the networks in it; by default on a GPU only.
        backend: of `torch.compile`.
    """
    inner, device = networks(model), next(model.parameters()).device
    gpu = device.type == "cuda"
    mode = "reduce-overhead" if graphs and gpu and backend == "inductor" else None
    half = in_bfloat16(inner if (gpu if bfloat16 is None else bfloat16) else [], device)
    # A guide goes back through one call several times: what it kept is not to be written over.
    with half, config.patch(donated_buffer=False):
        try:
            for network in inner:
                network.compile(dynamic=False, backend=backend, mode=mode)
            yield
        finally:
            for network in inner:
                network._compiled_call_impl = None


@contextlib.contextmanager
def in_bfloat16(networks: Sequence[nn.Module], device: torch.device) -> Iterator[None]:
    """Run the forward pass of some modules under autocast, and give their outputs in float32.

    But not their caches, which are only read by such passes again (`nets.causal`).

    One region per call: a region that spanned the first pass of self-conditioning, which is without
    gradient, and the second would hand the first's cached weights to the second.
    """
    patched = [(n, name) for n in networks for name in ("forward", "blank") if hasattr(n, name)]
    before = [vars(network).get(name) for network, name in patched]  # of a region around this one
    for network, name in patched:
        setattr(network, name, _autocast(getattr(network, name), device.type))
    try:
        yield
    finally:
        for (network, name), outer in zip(patched, before, strict=True):
            delattr(network, name)
            if outer is not None:
                setattr(network, name, outer)


@contextlib.contextmanager
def without_cudnn_attention() -> Iterator[None]:
    """Attention by other kernels than cuDNN's, which PyTorch prefers on an H100 or H200.

    Its backward pass in bfloat16 now and then gives gradients that are not numbers, for no fault of
    what it is given (pytorch/pytorch issue 196678, NVIDIA/cudnn-frontend issues 160 and 1072).
    """
    before = torch.backends.cuda.cudnn_sdp_enabled()  # type: ignore[no-untyped-call]
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)


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
        return {name: v if name == "tokens" else _full(v) for name, v in tree.items()}
    return type(tree)(_full(value) for value in tree) if isinstance(tree, (list, tuple)) else tree
