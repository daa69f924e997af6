"""Drift: how far generated video is from real frames, as time goes on.

A model that draws each frame after its own earlier ones may leave what it was trained on: pictures
blur, freeze, wash out or break up, and more so the longer it runs. Windows of time, of all videos
together, are compared with real frames by two distances in the features of a network, which see
what is shown, and by four statistics of pixels, which tell how it fails:

    sharpness   mean over frames of the variance of Y[i-1,j] + Y[i+1,j] + Y[i,j-1] + Y[i,j+1] -
                4 Y[i,j] over all places with four neighbours, Y = 0.299 R + 0.587 G + 0.114 B in
                levels 0 .. 255 (one channel is Y itself): blur lowers it, noise raises it
    mean        mean of all values
    std         mean over frames of the standard deviation of a frame's values: its contrast
    change      mean absolute difference of a value and the one before it in time: 0 where a video
                is frozen

A distance depends on the number n of frames, the Frechet distance by its bias: all windows and all
anchors have the same n, spread evenly over videos and time. The frames of a video are alike: n of
them are worth fewer that are independent, so that even real video lies above 0. Anchors are
therefore windows of as many real videos, as long, and the standard error of the kernel distance is
that over whole videos: each is left out in turn, the real frames staying as they are (the
jackknife, `noiseloom.metrics.kid.kid_by_group`). Of a single video there is none.

The distances: `noiseloom.metrics.kid`, `noiseloom.metrics.frechet`. The variance of the Laplacian:
J. Pech-Pacheco et al., 2000, "Diatom autofocusing in brightfield microscopy: a comparative study",
Sec. 3.2. Curves of this kind are not in B. Chen et al., 2024 (arXiv:2407.01392), who show rollouts
of 2,000 frames as pictures.
"""

import torch
from torch import Tensor
from torch.nn import functional

from noiseloom.metrics.features import Features
from noiseloom.metrics.frechet import frechet
from noiseloom.metrics.kid import kid_by_group
from noiseloom.metrics.report import noised
from noiseloom.rng import Rng

__all__ = ["Drift", "frame_statistics"]

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
_AT_A_TIME = 512  # frames


class Drift:
    """What windows of video are compared with: n real frames, whose features are computed once.

    Args:
        features: feature network.
        real: frames that were trained on, uint8, shape (N, C, H, W), N >= n; n are drawn.
        n: frames of a window that are compared, at least 20. The Frechet distance needs 2 dim, and
            is left out where n is less: 2,560 for the 1,280 features of `Lite0Features`, such as
            160 frames of 16 videos.
        rng: draws real frames and noise.
        allow_small: give the Frechet distance for n < 2 dim too, where its bias may outweigh what
            is to be seen.

    Raises:
        ValueError: fewer than n frames, or n below 20.
    """

    def __init__(
        self, features: Features, real: Tensor, n: int, rng: Rng, *, allow_small: bool = False
    ) -> None:
        if not 20 <= n <= len(real):
            raise ValueError(f"n must be in 20 .. {len(real)}, the number of real frames, got {n}")
        self.features, self.n, self.rng, self.allow_small = features, n, rng, allow_small
        rows = rng.fold("real").permutation(len(real))[:n].sort()[0]
        self._shape = real.shape[1:]
        self._real = features(real[rows])

    def curve(
        self, videos: Tensor, *, window: int, stride: int | None = None
    ) -> list[dict[str, float]]:
        """Compare each window of time with the real frames.

        Args:
            videos: uint8, shape (B, T, C, H, W); windows take the same times of all of them.
            window: frames of a window, 2 .. T, such that B window >= n.
            stride: from one window's start to the next; by default `window`.

        Returns:
            For each window, with F the name of the feature network: start and stop (exclusive), n,
            kid_F and its standard error over videos kid_F_se (not of one), fd_F, sharpness, mean,
            std and change. The
            statistics of pixels are those of all B window frames.

        Raises:
            ValueError: other frames than the real ones, or a window that does not fit.
        """
        count, length = videos.shape[:2]
        if videos.ndim != 5 or videos.shape[2:] != self._shape:
            raise ValueError(
                f"videos of shape {tuple(videos.shape)} do not fit real frames of shape "
                f"{tuple(self._shape)}: they need axes (B, T, C, H, W)"
            )
        stride = window if stride is None else stride
        if not 2 <= window <= length or stride < 1 or count * window < self.n:
            raise ValueError(
                f"a window must have 2 .. {length} frames, {self.n} or more in all {count} videos "
                f"together, and stride must be at least 1, got {window=} and {stride=}"
            )
        starts = range(0, length - window + 1, stride)
        frames = videos.flatten(0, 1)
        # Of the window's frames, video by video, those at equal distances.
        places = torch.linspace(0, count * window - 1, self.n, dtype=torch.float64).round().long()
        video, places = places // window, places // window * length + places % window
        # Windows that overlap share frames: each is given to the network once.
        wanted = torch.stack([places + start for start in starts])
        used, which = torch.unique(wanted, return_inverse=True)
        found = self.features(frames[used.to(frames.device)])
        statistics = frame_statistics(videos)
        return [
            {"start": float(start), "stop": float(start + window), "n": float(self.n)}
            | self._distances(found[rows.to(found.device)], video)
            | {
                name: float(value[:, start + (name == "change") : start + window].mean())
                for name, value in statistics.items()
            }
            for start, rows in zip(starts, which, strict=True)
        ]

    def anchors(
        self, held_out: Tensor, *, window: int, noise: float = 0.1
    ) -> dict[str, dict[str, float]]:
        """What real video has that was not trained on, and the same with noise.

        Args:
            held_out: uint8, shape (B, T, C, H, W), best with the B of the videos to be judged.
            window: frames of a window; means over the windows that fit without overlap.
            noise: standard deviation, in units of the range of a value.

        Returns:
            {"held_out": ..., "noised": ...}, each with the keys of `curve` but start and stop.
        """
        # One by one: the draws for a video take many times its memory.
        rngs = [self.rng.fold("noise", b) for b in range(len(held_out))]
        worse = [noised(video, 256, noise, rng) for video, rng in zip(held_out, rngs, strict=True)]
        sets = {"held_out": held_out, "noised": torch.stack(worse)}
        found = {}
        for name, videos in sets.items():
            windows = self.curve(videos, window=window)
            keys = [key for key in windows[0] if key not in ("start", "stop")]
            found[name] = {k: sum(row[k] for row in windows) / len(windows) for k in keys}
        return found

    def _distances(self, found: Tensor, video: Tensor) -> dict[str, float]:
        name = self.features.name
        distance, error = kid_by_group(found, self._real, video)
        result = {f"kid_{name}": distance}
        if error is not None:
            result[f"kid_{name}_se"] = error
        if self.n >= 2 * self.features.dim or self.allow_small:
            result[f"fd_{name}"] = frechet(found, self._real, allow_small=self.allow_small)
        return result


def frame_statistics(videos: Tensor) -> dict[str, Tensor]:
    """Sharpness, mean, std and change of every frame, as the module defines them.

    Args:
        videos: uint8, shape (B, T, C, H, W), C = 3 or 1, H and W at least 3.

    Returns:
        float64, each of shape (B, T); the change of a video's first frame is 0.
    """
    channels, height, width = videos.shape[2:]
    if channels not in (1, 3) or min(height, width) < 3:
        raise ValueError(
            f"frames must have 1 or 3 channels and sides of at least 3, got shape "
            f"({channels}, {height}, {width})"
        )
    weights = torch.tensor(_LUMA if channels == 3 else (1.0,), device=videos.device)
    parts = []
    for frames in torch.split(videos, max(_AT_A_TIME // len(videos), 1), 1):
        x = frames.float()
        y = (weights[:, None, None] * x).sum(2)
        around = y[..., 2:, 1:-1] + y[..., :-2, 1:-1] + y[..., 1:-1, 2:] + y[..., 1:-1, :-2]
        laplacian = (around - 4 * y[..., 1:-1, 1:-1]).flatten(2)
        values = x.flatten(2)
        parts.append(
            torch.stack(
                (
                    laplacian.double().var(-1, correction=0),
                    values.double().mean(-1),
                    values.double().std(-1, correction=0),
                )
            )
        )
    sharpness, mean, std = torch.cat(parts, 2)
    changes = [
        (b.float() - a.float()).abs().flatten(1).mean(1).double()
        for a, b in zip(videos[:, :-1].unbind(1), videos[:, 1:].unbind(1), strict=True)
    ]
    change = functional.pad(torch.stack(changes, 1), (1, 0)) if changes else torch.zeros_like(mean)
    return {"sharpness": sharpness, "mean": mean, "std": std, "change": change}
