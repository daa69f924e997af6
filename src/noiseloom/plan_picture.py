"""Pictures of plans in characters: rows are steps, columns tokens, shades times."""

import torch
from torch import Tensor

__all__ = ["shaded"]

_SHADES = " ░▒▓█"


def shaded(times: Tensor, width: int, height: int) -> list[str]:
    """Lines of times (rows, tokens): 1 is dark and 0 blank, in five shades.

    Where there are more rows than `height` or more tokens than `width`, as many are shown, evenly
    spaced, the first and the last among them.

    Raises:
        ValueError: a width or height below 1.
    """
    if width < 1 or height < 1:
        raise ValueError(f"a heat map needs a width and height >= 1, got {width} and {height}")
    rows, columns = (
        torch.linspace(0, size - 1, min(size, most), dtype=torch.float64).round().long()
        for size, most in zip(times.shape, (height, width), strict=True)
    )
    shades = (times[rows][:, columns] * (len(_SHADES) - 1)).round().long().tolist()
    return ["".join(_SHADES[shade] for shade in line) for line in shades]
