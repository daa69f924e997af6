"""Pictures as sequences of square patches, and what tells the patches' places apart."""

import torch
from torch import Tensor

from noiseloom.nets.attention import rotation

__all__ = ["cut", "paste", "places"]


def cut(x: Tensor, patch: int) -> Tensor:
    """Cut pictures into patches, in reading order.

    Args:
        x: shape (..., C, H, W), H and W multiples of `patch`.
        patch: side of a patch, in pixels.

    Returns:
        Shape (..., H W / patch^2, C patch^2).
    """
    *outer, channels, height, width = x.shape
    pixels = x.reshape(*outer, channels, height // patch, patch, width // patch, patch)
    pixels = pixels.movedim((-4, -2, -5), (-5, -4, -3))  # (..., rows, columns, C, patch, patch)
    return pixels.reshape(*outer, height * width // patch**2, channels * patch**2)


def paste(y: Tensor, patch: int, rows: int) -> Tensor:
    """The inverse of `cut`.

    Args:
        y: shape (..., N, C patch^2).
        patch: side of a patch, in pixels.
        rows: number of rows of patches, a divisor of N.

    Returns:
        Shape (..., C, rows patch, N / rows patch).
    """
    *outer, count, features = y.shape
    columns, channels = count // rows, features // patch**2
    pixels = y.reshape(*outer, rows, columns, channels, patch, patch)
    pixels = pixels.movedim((-5, -4, -3), (-4, -2, -5))  # (..., C, rows, patch, columns, patch)
    return pixels.reshape(*outer, channels, rows * patch, columns * patch)


def places(rows: int, columns: int, width: int, like: Tensor) -> Tensor:
    """Fixed embeddings of the patches' places: cosines and sines of row and column.

    Half of the features are the row's and half the column's, with the frequencies of `rotation`;
    they exist for pictures of any size.

    Args:
        rows: number of rows of patches.
        columns: number of patches in a row.
        width: features W, a multiple of 4.
        like: gives type and device.

    Returns:
        Shape (rows columns, W).

    References:
        W. Peebles, S. Xie, 2023, arXiv 2212.09748, section 3.2 (fixed sines and cosines).
    """
    index = torch.arange(rows * columns, device=like.device)
    grid = torch.stack((index // columns, index % columns))
    waves = rotation(grid, width // 2, like.dtype)  # (2, 2, N, 1, W / 4)
    return waves.movedim(2, 0).flatten(1)
