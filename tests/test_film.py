"""Animated pictures: they show what they were given, side by side, within a size."""

import io
import itertools

import numpy as np
import pytest
import torch
from PIL import Image

from noiseloom.film import _left, film, said
from noiseloom.rng import Rng


def pages(found):
    """Pictures (T, height, width, 3) and their times."""
    image = Image.open(io.BytesIO(found))
    assert image.format == "WEBP"
    shown, times = [], []
    for number in range(image.n_frames):
        image.seek(number)
        shown.append(np.array(image.convert("RGB")))
        times.append(image.info["duration"])
    return np.stack(shown), times


def colours(count, length, side=16, channels=3):
    """Of one colour each, another in every frame."""
    levels = Rng(0).integers(200, (count, length, channels)) + 20
    return levels[..., None, None].expand(-1, -1, -1, side, side).byte()


def test_videos_are_side_by_side_row_by_row():
    videos = colours(5, 4)
    shown, times = pages(film(videos, fps=8))
    assert shown.shape == (4, 34, 52, 3)  # 2 rows, 3 columns, 2 pixels between
    assert times == [125] * 4
    for v in range(5):
        top, left = v // 3 * 18, v % 3 * 18
        inside = shown[:, top + 4 : top + 12, left + 4 : left + 12].mean((1, 2))
        assert np.abs(inside - videos[v, :, :, 0, 0].numpy()).max() < 6
    assert np.abs(shown[:, 22:30, 40:48].mean((1, 2)) - 128).max() < 6  # no sixth


def test_one_video_and_one_channel():
    shown, _ = pages(film(colours(1, 3)[0]))
    assert shown.shape == (3, 16, 16, 3)
    grey, _ = pages(film(colours(3, 3, channels=1), columns=3))
    assert grey.shape == (3, 16, 52, 3)
    assert np.ptp(grey[:, 8, 8].astype(int), axis=-1).max() < 6


@pytest.mark.parametrize("share", [0.9, 0.5, 0.25])
def test_as_few_frames_are_left_out_as_the_size_asks_for(share):
    """At half of the frames or more, of which every second one was shown whatever the limit."""
    videos = Rng(0).integers(256, (1, 60, 3, 32, 32)).byte()
    whole = film(videos, fps=10)
    limit = int(len(whole) * share)
    part = film(videos, fps=10, limit=limit)
    assert 0.85 * limit < len(part) <= limit
    shown, times = pages(part)
    places = [i * 60 // len(shown) for i in range(len(shown))]
    assert times == [100 * (b - a) for a, b in itertools.pairwise([*places, 60])]
    reference, _ = pages(whole)
    assert np.abs(shown.astype(int) - reference[places]).mean() < 5  # noise: others are off by 85
    assert len(shown) > 60 * share * 0.85


def test_what_is_left_out_is_said():
    videos = Rng(0).integers(256, (1, 60, 3, 32, 32)).byte()
    assert said(film(videos)) == ""
    assert (
        said(film(videos.expand(4, -1, -1, -1, -1), limit=1)) == "every 60th of 60 frames is shown"
    )
    part = film(videos, limit=int(len(film(videos)) * 0.8))
    assert said(part) == f"{len(pages(part)[0])} of 60 frames are shown"
    assert _left(30, 60) == "every 2nd of 60 frames is shown"
    assert _left(240, 479) == "every 2nd of 479 frames is shown"
    assert _left(1000, 2500) == "1,000 of 2,500 frames are shown"
    still = torch.zeros(1, 20, 3, 8, 8, dtype=torch.uint8)  # which a file has as a single picture
    assert said(film(still)) == ""
    assert len(film(videos, limit=1)) < len(film(videos, quality=20)) < len(film(videos))


def test_refusals():
    with pytest.raises(TypeError, match="made of uint8 pixels, got"):
        film(torch.zeros(2, 3, 8, 8))
    for bad in (torch.zeros(2, 2, 8, 8), torch.zeros(0, 3, 8, 8), torch.zeros(3, 8, 8)):
        with pytest.raises(ValueError, match="must have axes"):
            film(bad.byte())
    for given in ({"fps": 0}, {"columns": 0}, {"quality": 101}, {"limit": 0}):
        with pytest.raises(ValueError, match="must be at least 1, fps above 0"):
            film(colours(1, 2), **given)
