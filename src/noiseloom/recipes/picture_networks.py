"""What recipes of pictures build and do alike: a U-Net for their size, and pictures mirrored."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from noiseloom.nets import UNet
from noiseloom.rng import Rng

__all__ = ["mirrored", "picture_unet"]


def picture_unet(
    inputs: int,
    outputs: int,
    size: Sequence[int],
    *,
    multipliers: Sequence[int],
    attention: int,
    **options: Any,  # noqa: ANN401
) -> UNet:
    """A U-Net for pictures of one size.

    Args:
        inputs: channels of the state.
        outputs: channels of the prediction.
        size: height and width of the pictures.
        multipliers: of the stages' widths.
        attention: side of the largest feature maps that get self-attention; 0 for none.
        **options: others of `UNet`.

    Raises:
        ValueError: a size that cannot be halved as often as there are stages after the first.
    """
    halved = len(multipliers) - 1
    if any(side % 2**halved for side in size):
        raise ValueError(
            f"pictures of {size[0]} x {size[1]} pixels cannot be halved {halved} times: choose "
            "another size, or fewer multipliers"
        )
    attend = [size[0] >> i <= attention for i in range(halved + 1)]
    return UNet(inputs, outputs, multipliers=multipliers, attention=attend, **options)


def mirrored(pixels: Tensor, rng: Rng) -> Tensor:
    """Half of some pictures, (B, C, H, W), mirrored left to right."""
    mirror = rng.uniform((len(pixels),), device=pixels.device) < 0.5
    return torch.where(mirror[:, None, None, None], pixels.flip(-1), pixels)
