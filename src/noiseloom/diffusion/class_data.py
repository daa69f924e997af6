"""What data of classes may be."""

import torch
from torch import Tensor

__all__ = ["as_classes"]


def as_classes(clean: Tensor, classes: int, probabilities: Tensor | None = None) -> Tensor:
    """The classes as int64, if they are such; data on the CPU alone are looked through.

    A look at data elsewhere would wait for the device at every step of a training: there a class
    out of range fails when something is looked up, and one of probability 0 costs without end
    wherever a denoiser rules it out.

    Args:
        clean: of any shape.
        classes: K.
        probabilities: of a law of noise, shape (K,), or (T, K) for tokens (..., T).

    Raises:
        TypeError: they are not whole numbers.
        ValueError: one is not in 0 .. K - 1, or has probability 0.
    """
    if clean.is_floating_point() or clean.is_complex() or clean.dtype == torch.bool:
        raise TypeError(f"classes are whole numbers, got {clean.dtype}")
    clean = clean.long()
    if clean.device.type != "cpu" or not clean.numel() or torch.compiler.is_compiling():
        return clean
    for value in clean.aminmax():
        if not 0 <= value < classes:
            raise ValueError(f"classes are whole numbers from 0 to {classes - 1}, got {value}")
    if probabilities is not None and bool((probabilities <= 0).any()):
        pi = probabilities.cpu()
        pi = pi[clean] if pi.ndim == 1 else pi[torch.arange(len(pi)), clean]
        if bool((never := pi <= 0).any()):
            place = never.nonzero()[0]
            where = f" at place {int(place[-1])}" if probabilities.ndim > 1 else ""
            raise ValueError(
                f"the data have class {int(clean[tuple(place)])}{where}, which has probability 0 "
                "in this noise: a class that there is needs some"
            )
    return clean
