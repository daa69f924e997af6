"""Videos side by side, as one animated WebP."""

import io
import math

import torch
from PIL import Image
from torch import Tensor

__all__ = ["film", "tiled"]


def tiled(videos: Tensor, columns: int | None = None, gap: int = 2) -> Tensor:
    """Videos in rows as one video, uint8, shape (T, C, height, width); small ones are magnified.

    Args:
        videos: uint8, shape (B, T, C, H, W).
        columns: in a row; by default as many as make a square.
        gap: grey pixels between them.
    """
    B, T, C, H, W = videos.shape
    columns = columns or math.ceil(math.sqrt(B))
    scale = max(1, 64 // max(H, W))
    large = videos.repeat_interleave(scale, -1).repeat_interleave(scale, -2)
    high, wide = H * scale + gap, W * scale + gap
    page = torch.full((T, C, high * -(-B // columns) - gap, wide * columns - gap), 128)
    page = page.to(torch.uint8)
    for i, video in enumerate(large):
        top, left = i // columns * high, i % columns * wide
        page[..., top : top + H * scale, left : left + W * scale] = video
    return page


def film(video: Tensor, fps: float = 15.0, quality: int = 80) -> bytes:
    """A video as an animated WebP."""
    pictures = []
    for frame in video:
        rgb = frame if len(frame) == 3 else frame[:1].expand(3, -1, -1)
        pictures.append(Image.fromarray(rgb.permute(1, 2, 0).contiguous().numpy()))
    file = io.BytesIO()
    pictures[0].save(
        file,
        "WEBP",
        save_all=True,
        append_images=pictures[1:],
        duration=round(1000 / fps),
        loop=0,
        quality=quality,
        method=2,
    )
    return file.getvalue()
