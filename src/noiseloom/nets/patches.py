"""Pictures as sequences of square patches, and what tells the patches' places apart."""

import torch
from torch import Tensor, nn

from noiseloom.nets.attention import rotation

__all__ = ["Places", "cut", "paste"]


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


class Places(nn.Module):
    """Fixed embeddings of the patches' places: cosines and sines of row and column.

    Half of the features are the row's and half the column's, with the frequencies of `rotation`;
    they exist for pictures of any size. They are read from a table, as far as it goes: a compiler
    makes what is computed anew for each patch that reads it, and sines in float64 were a fifth of
    an update of 34 million parameters.

    Args:
        width: features W, a multiple of 4.
        most: rows and columns that the table knows.

    References:
        W. Peebles, S. Xie, 2023, arXiv 2212.09748, section 3.2 (fixed sines and cosines).
    """

    def __init__(self, width: int, most: int = 64) -> None:
        super().__init__()
        self.width = width
        self.table: Tensor
        self.register_buffer("table", self._waves(most), persistent=False)

    def _waves(self, count: int) -> Tensor:
        """Of so many rows or columns, shape (count, 2, 1, W / 4)."""
        waves = rotation(torch.arange(count)[None], self.width // 2, torch.float32)
        return waves.movedim(2, 0).squeeze(2)

    def forward(self, rows: int, columns: int) -> Tensor:
        """Of all places in reading order, shape (rows columns, W).

        Args:
            rows: number of rows of patches.
            columns: number of patches in a row.
        """
        most = max(rows, columns)
        table = self.table if most <= len(self.table) else self._waves(most).to(self.table)
        row = table[:rows, None].expand(-1, columns, -1, -1, -1)
        column = table[None, :columns].expand(rows, -1, -1, -1, -1)
        return torch.cat((row, column), 3).flatten(2).flatten(0, 1)
