"""The networks of a recipe of video with the sizes that its options leave open.

With these, networks for frames of 64 x 64 have 34 million parameters.
"""

from typing import Any

from noiseloom.nets import VideoTransformer, VideoUNet

__all__ = ["PATCHES", "video_transformer", "video_unet"]

PATCHES = {"video": 8, "bidirectional": 8, "unet": 2}
"""Sides of a patch, in pixels, where 0 is asked for."""


def video_transformer(
    channels: int,
    *,
    patch: int,
    width: int,
    **options: Any,  # noqa: ANN401
) -> VideoTransformer:
    """A transformer on patches.

    Args:
        channels: of a frame.
        patch: side of a patch, in pixels; 0 for 8.
        width: features inside; 0 for 384.
        options: further ones of `VideoTransformer`.
    """
    patch, width = patch or PATCHES["video"], width or 384
    return VideoTransformer(channels, channels, patch=patch, width=width, **options)


def video_unet(
    channels: int,
    *,
    patch: int,
    width: int,
    multipliers: tuple[int, ...],
    **options: Any,  # noqa: ANN401
) -> VideoUNet:
    """A U-Net of one block a stage: attention in the last two, time in all but the first.

    Args:
        channels: of a frame.
        patch: side of a patch, in pixels; 0 for 2.
        width: features of the first stage, over its multiplier; 0 for 128.
        multipliers: of the stages, over `width`.
        options: further ones of `VideoUNet`.
    """
    stages, width = len(multipliers), width or 128
    return VideoUNet(
        channels,
        channels,
        patch=patch or PATCHES["unet"],
        width=width,
        multipliers=multipliers,
        blocks=1,
        attention=[i >= stages - 2 for i in range(stages)],
        time=[i > 0 or stages == 1 for i in range(stages)],
        head_width=min(width, 64),
        **options,
    )
