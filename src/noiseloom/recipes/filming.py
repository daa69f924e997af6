"""Rollouts as videos: what they follow, and their frames as bytes, as they come."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from noiseloom.data.clips import ClipWindows
from noiseloom.encodings import Codec
from noiseloom.rollouts import Finished

__all__ = ["Video", "filmed", "journeys"]

START = 3
"""Chunks before the pace is steady: on a GPU one runs as it is, one is recorded, one replayed."""


@dataclass(frozen=True)
class Video:
    """What a rollout has made so far.

    Attributes:
        result: the frames, uint8 on the CPU, shape (B, n, C, H, W).
        seconds: that a new frame takes, of all B videos together, once the pace is steady.
    """

    result: Tensor
    seconds: float


def filmed(chunks: Iterator[Finished], codec: Codec, length: int) -> Iterator[Video]:
    """The frames of a rollout, decoded and taken from the device as they come.

    Args:
        chunks: the rollout.
        codec: of the frames.
        length: frames to take.

    Yields:
        All frames so far, after each chunk.

    Raises:
        ValueError: a frame that is not finite.
    """
    made, done, steady, began = torch.empty(0), 0, 0, time.perf_counter()
    for i, chunk in enumerate(chunks):
        wrong = int((~chunk.x.isfinite()).flatten(1).any(1).sum())
        if wrong:
            raise ValueError(
                f"from frame {done} on {wrong} of {len(chunk.x)} videos are not finite: try other "
                "sampling options, or an earlier checkpoint"
            )
        new = codec.decode(chunk.x[:, : length - done]).to("cpu", torch.uint8)
        if not done:
            made = new.new_empty(len(new), length, *new.shape[2:])
        made[:, done : done + new.shape[1]] = new
        done += new.shape[1]
        yield Video(made[:, :done], (time.perf_counter() - began) / (done - steady))
        if done == length:
            return
        if i + 1 == START:
            steady, began = done, time.perf_counter()


def journeys(data: ClipWindows, count: int, context: int, length: int) -> tuple[Tensor, Tensor]:
    """Frames to follow from places spread over a recording.

    Where an episode ends they go on with the next, but for its first frame, to which no action led;
    after the last episode, with the first.

    Args:
        data: the recording.
        count: B, number of places.
        context: frames before those to follow, at most as many as a window has.
        length: frames to follow.

    Returns:
        Indices of the frames to follow, (B, length), and of those before, (B, context).
    """
    before = data.firsts[torch.linspace(0, len(data) - 1, count).round().long(), None]
    before = before + torch.arange(context)
    # Frames that follow another one: in a window, and not its first.
    led = torch.zeros(len(data.columns["frames"]), dtype=torch.bool)
    for i in range(1, data.length):
        led[data.firsts + i] = True
    places = led.nonzero()[:, 0]
    ahead = torch.searchsorted(places, before[:, -1:] + 1) + torch.arange(length)
    return places[ahead % len(places)], before
