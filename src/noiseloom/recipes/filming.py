"""Rollouts as videos: what they follow, their frames as bytes as they come, and how they drift."""

import json
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from noiseloom.data.clips import ClipWindows
from noiseloom.data.tokens import spread
from noiseloom.encodings import Codec
from noiseloom.film import film
from noiseloom.metrics.drift import Drift
from noiseloom.metrics.features import Features
from noiseloom.recipes.recipe import Facts, Findings, Given
from noiseloom.rng import Rng
from noiseloom.rollouts import Finished

__all__ = [
    "Video",
    "check_counts",
    "check_given",
    "drift_report",
    "filmed",
    "journeys",
    "whole_stretches",
]

START = 3
"""Chunks before the pace is steady: on a GPU one runs as it is, one is recorded, one replayed."""
ANCHOR = 3
"""Stretches of real video that are judged, too."""
LEAST = 20
"""Frames of a stretch, of all videos together, that `Drift` compares with real ones."""
SHOWN, PIECE = 4, 96
"""Videos of a film, and frames of its beginning and of its end."""


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
    after the last episode, with the first. A recording that is shorter than what is asked for is
    gone through again and again, and that is said.

    Args:
        data: the recording.
        count: B, number of places.
        context: frames before those to follow, at most as many as a window has.
        length: frames to follow.

    Returns:
        Indices of the frames to follow, (B, length), and of those before, (B, context).
    """
    before = data.firsts[spread(len(data), count), None]
    before = before + torch.arange(context)
    # Frames that follow another one: in a window, and not its first.
    led = torch.zeros(len(data.columns["frames"]), dtype=torch.bool)
    for i in range(1, data.length):
        led[data.firsts + i] = True
    places = led.nonzero()[:, 0]
    if length > len(places):
        warnings.warn(
            f"videos of {length:,} frames follow the {len(places):,} that are held out again and "
            "again, and are compared with these alone: record more, or lower length",
            stacklevel=2,
        )
    ahead = torch.searchsorted(places, before[:, -1:] + 1) + torch.arange(length)
    return places[ahead % len(places)], before


def check_given(given: Given, facts: Facts, context: int, length: int) -> None:
    """Check what videos are asked for.

    Args:
        given: {"frames" (B, context, C, H, W) uint8, "actions" (B, context + length, A) float32}.
        facts: of the run.
        context: frames to begin with.
        length: frames to make.

    Raises:
        TypeError: another type of numbers.
        ValueError: something is missing, of another shape, too short, or not finite.
    """
    for name, kind in (("frames", torch.uint8), ("actions", torch.float32)):
        if name not in given:
            has = ", ".join(given) or "nothing"
            raise ValueError(f"videos are given frames and actions: no {name} among {has}")
        if given[name].dtype != kind:
            raise TypeError(f"{name} must be {str(kind)[6:]}, got {given[name].dtype}")
    frames, actions = given["frames"], given["actions"]
    if frames.shape[1:] != (context, *facts["shape"]):
        C, H, W = facts["shape"]
        raise ValueError(
            f"a video begins with {context} frames of {C} x {H} x {W}, got frames of "
            f"shape {tuple(frames.shape)}"
        )
    if actions.ndim != 3 or actions.shape[::2] != (len(frames), facts["actions"]):
        raise ValueError(
            f"{len(frames)} videos follow actions of {facts['actions']} features, got actions "
            f"of shape {tuple(actions.shape)}"
        )
    if not actions.isfinite().all():
        raise ValueError("actions must be finite numbers")
    if actions.shape[1] < context + length:
        raise ValueError(
            f"{actions.shape[1]} actions are given, and {context} frames of context and "
            f"{length} to make need {context + length}: give more actions, or "
            "lower length"
        )


def check_counts(samples: int, stretch: int, length: int) -> None:
    """Raise ValueError if too few frames are asked for to judge how videos drift."""
    if min(stretch, length) < 2:
        raise ValueError(f"stretch and length must be at least 2, got {stretch} and {length}")
    counted = samples * min(stretch, length)
    if counted < LEAST:
        raise ValueError(
            f"samples x stretch must be {LEAST} frames or more, for a distance to real ones, got "
            f"{counted} of samples {samples}, stretch {stretch} and length {length}"
        )


def whole_stretches(
    made: Tensor, samples: int, length: int, stretch: int
) -> tuple[Tensor, dict[str, tuple[int, int]]]:
    """Of videos that may have been interrupted those frames that can be judged.

    Args:
        made: (B, T, C, H, W), B <= samples, T <= length.
        samples: videos that were asked for.
        length: frames of each.
        stretch: frames that are judged together.

    Returns:
        The videos up to the end of a stretch, or whole, and what is made and was asked for of
        "frames" and "samples", where that is less.

    Raises:
        KeyboardInterrupt: not one stretch was made.
    """
    asked = {"frames": (made.shape[1], length), "samples": (len(made), samples)}
    if made.shape[1] < length:
        made = made[:, : made.shape[1] // stretch * stretch]
        asked["frames"] = made.shape[1], length
    if not made.shape[1]:
        raise KeyboardInterrupt(f"before there were {stretch:,} frames to judge")
    return made, {name: (some, all_) for name, (some, all_) in asked.items() if some < all_}


def drift_report(
    features: Features, made: Tensor, real: Tensor, train: Tensor, stretch: int, rng: Rng
) -> Findings:
    """How videos drift from real frames, as numbers, as curves and to be looked at.

    Of each quantity q of `Drift`, called frame_q where it is one of pixels: q_first and q_last, of
    the first and the last stretch, for distances q_worst too, each with `_held_out` and `_noised`
    appended for real video; of kernel distances q_first_se and so on are standard errors over
    videos (`Drift`). Files: .curve.json with every stretch and its error, "at" its middle frame;
    .begin.webp and .end.webp, in pairs of real and made videos.

    Args:
        features: feature network.
        made: videos, uint8, shape (B, T, C, H, W).
        real: what really came, in that shape.
        train: frames that were trained on, uint8, shape (N, C, H, W).
        stretch: frames of a stretch, at most T counted.
        rng: draws real frames and noise.
    """
    window = min(stretch, made.shape[1])
    drift = Drift(features, train, min(len(made) * window, len(train)), rng)
    rows = drift.curve(made, window=window)
    anchors = drift.anchors(real[:, : ANCHOR * window], window=window)
    names = [name for name in rows[0] if name not in ("start", "stop", "n")]
    curve = {"at": [(row["start"] + row["stop"]) / 2 for row in rows]}
    report = {"n": float(len(made))}
    for name in names:
        values = curve[name] = [row[name] for row in rows]
        for ending, anchor in anchors.items():
            curve[f"{name}_{ending}"] = [anchor[name]] * len(rows)
        if name.endswith("_se"):
            continue
        found = {"first": 0, "last": len(rows) - 1}
        if name.startswith(("kid", "fd")):
            found["worst"] = max(range(len(rows)), key=values.__getitem__)
        called = name if name.startswith(("kid", "fd")) else f"frame_{name}"
        for when, row in found.items():
            for error in ("", "_se"):
                if name + error not in rows[row]:
                    continue
                report[f"{called}_{when}{error}"] = rows[row][name + error]
                for ending, anchor in anchors.items():
                    report[f"{called}_{when}{error}_{ending}"] = anchor[name + error]
    pairs = torch.stack((real[:SHOWN], made[:SHOWN]), 1).flatten(0, 1)
    return Findings(
        report,
        {
            ".curve.json": json.dumps(curve).encode(),
            ".begin.webp": film(pairs[:, :PIECE], columns=4),
            ".end.webp": film(pairs[:, -PIECE:], columns=4),
        },
    )
