"""How discrete are analog bits?

A trained denoiser's estimate settles on the two levels -scale and +scale; what does not, and bits
that spell no class, show a model that has not learnt that its data is discrete. T. Chen et al.,
2023, "Analog Bits" (arXiv:2208.04202), Fig. 7.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

__all__ = ["bit_histogram", "discreteness"]


def discreteness(x: Tensor, scale: float = 1.0, tolerance: float = 0.1) -> float:
    """Share of analog bits within tolerance * scale of one of the two levels -scale and +scale.

    Args:
        x: analog bits, float, any shape; NaN counts as far off.
        scale: the level b > 0.
        tolerance: in units of the scale.
    """
    return float(((x.abs() - scale).abs() <= tolerance * scale).double().mean())


def bit_histogram(
    steps: Iterable[Tensor], scale: float = 1.0, bins: int = 60, limit: float = 1.5
) -> tuple[Tensor, Tensor]:
    """The distribution of analog bits at every denoising step.

    Args:
        steps: the state or the estimate after each step, float, any shape.
        scale: the level b > 0.
        bins: number of bins.
        limit: the bins cover -limit * scale .. limit * scale; what is beyond counts in the
            outermost.

    Returns:
        Edges of the bins, shape (bins + 1,), and the share of bits in each, shape (steps, bins).

    Raises:
        ValueError: no steps, or NaN in one of them.
    """
    bound = limit * scale
    rows = []
    for i, x in enumerate(steps):
        if x.isnan().any():
            raise ValueError(f"the bits of step {i} hold NaN")
        counts = torch.histc(x.detach().float().cpu().clamp(-bound, bound), bins, -bound, bound)
        rows.append(counts / counts.sum())
    if not rows:
        raise ValueError("a histogram over steps needs at least one step")
    return torch.linspace(-bound, bound, bins + 1), torch.stack(rows)
