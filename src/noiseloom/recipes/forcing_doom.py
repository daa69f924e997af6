"""Diffusion Forcing on video: first-person views that follow the actions they are given.

A token is a frame, and comes with the action that led to it. Training windows have a noise level
per frame; a video is a rollout, far longer than what was trained on: real frames are read once,
and the next ones follow one by one, each under its own action.

B. Chen et al., 2024, "Diffusion Forcing", arXiv 2407.01392, Section 4.1, Figure 3: trained on 36
frames, rolled out for 1,000 and more without a sliding window, where teacher forcing and causal
full-sequence diffusion diverge. It is shown there in pictures; here with a curve of the distance
to real frames over time (`noiseloom.metrics.drift`). `forcing` has the two baselines: teacher
forcing, of every frame after clean ones, is rolled out alike, and full sequences with a window that
slides (`noiseloom.sliding`).

It is for any file of `Clips`; `noiseloom record doom` makes the one it is named after.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from noiseloom.data import Split
from noiseloom.data.clips import ClipWindows
from noiseloom.metrics.lite0 import Lite0Features
from noiseloom.recipes.filming import (
    Video,
    check_counts,
    check_given,
    drift_report,
    filmed,
    journeys,
    whole_stretches,
)
from noiseloom.recipes.recipe import Drawing, Facts, Findings, Given, Parts
from noiseloom.recipes.video_model import VideoModel
from noiseloom.rng import Rng
from noiseloom.rollouts import Finished, TokenCond, along, rollout
from noiseloom.sliding import slide
from noiseloom.training.precision import compiled

__all__ = ["ForcingDoom"]

CALLS = 30_000
"""Calls of a network from which on compiling it (half a minute) makes a rollout faster."""


@dataclass(frozen=True)
class ForcingDoom(VideoModel):
    """Options of `DiffusionForcing` for video, and of `Rolling`, and the videos drawn by them."""

    name: ClassVar[str] = "forcing-doom"
    summary: ClassVar[str] = "video under given actions, of any file of clips, far beyond training"
    shows: ClassVar[Literal["pictures", "series", "trajectories", "videos"]] = "videos"
    grows: ClassVar[bool] = True

    def draw(self, parts: Parts, facts: Facts, given: Given, rng: Rng) -> Iterator[Drawing]:
        """Videos that begin with {"frames" (B, context, C, H, W)} and follow {"actions" (B, N, A)}.

        The actions are those of the real frames and of the frames to make, N >= context + length.
        What is finished is kept as bytes, outside of the device. A GPU records what makes a chunk.
        """
        device = next(parts.denoiser.parameters()).device
        check_given(given, facts, self.context, self.length)
        frames, actions = given["frames"], given["actions"].to(device)
        count = self.context + self.length
        # The last chunk may be longer than the video; what comes too late is seen by no frame.
        places = torch.arange(count + self.chunk).clamp(max=count - 1)
        cond = along(action=actions[:, places]) if facts["actions"] else None
        guided = self.by_history(parts.denoiser, parts.diffusion)
        denoiser = self.make_denoiser(guided, {}).eval()
        known = parts.codec.encode(frames.to(device))
        with self._fast(denoiser, device):
            chunks = self._roll(denoiser, parts, known, cond, rng)
            yield from filmed(chunks, parts.codec, self.length)

    def _roll(
        self,
        denoiser: nn.Module,
        parts: Parts,
        known: Tensor,
        cond: TokenCond | None,
        rng: Rng,
    ) -> Iterator[Finished]:
        options: dict[str, Any] = {
            "chunk": self.chunk,
            "stabilisation": self.read_at,
            "cond": cond,
            "rng": rng,
            "solver": self.make_solver(),
            "graph": known.device.type == "cuda",
        }
        plan = self.make_plan(parts.diffusion.schedule)
        if self.slides:
            options |= {"solver": replace(self, resample=1).make_solver(), "rounds": self.resample}
            return slide(denoiser, parts.diffusion, plan, known, window=self.window, **options)
        return rollout(denoiser, parts.diffusion, plan, known, memory=self.window - 1, **options)

    def _fast(self, denoiser: nn.Module, device: torch.device) -> AbstractContextManager[None]:
        """Compiled networks, where that pays."""
        calls = self.sampling_steps * self.length / self.chunk
        if device.type != "cuda" or calls < CALLS:
            return nullcontext()
        return compiled(denoiser, graphs=False, bfloat16=False)

    def decode(self, parts: Parts, result: Tensor, given: Given) -> Tensor:
        """The frames, as they are: uint8, shape (B, length, C, H, W)."""
        return result

    def whereabouts(self, given: Given, step: Drawing) -> str:
        """The frame that it has come to."""
        return f"frame {step.result.shape[1]:,} of {self.length:,}"

    def inspect(self, parts: Parts, last: Drawing) -> dict[str, float]:
        """How fast a video grows, `samples` of them side by side."""
        assert isinstance(last, Video)
        return {"frames_per_second": 1 / last.seconds}

    def check(self) -> None:
        """The feature network of the evaluation must be there, and enough frames to compare."""
        check_counts(self.samples, self.stretch, self.length)
        Lite0Features()

    def evaluate(self, draw: Callable[..., Tensor], data: Split[Any], rng: Rng) -> dict[str, float]:
        """How videos drift, in EfficientNet-Lite0 features (`drift_report`), and how fast they are.

        From held-out frames and under held-out actions; `frames_per_second` is of each video, with
        all of them side by side. Of videos that were interrupted whole stretches are judged.
        """
        check_counts(self.samples, self.stretch, self.length)
        features = Lite0Features().to("cuda" if torch.cuda.is_available() else "cpu")
        given, real = self.asked(data.held_out, self.samples)
        made, cut = whole_stretches(draw(given), self.samples, self.length, self.stretch)
        videos = made, real[: len(made), : made.shape[1]], data.train.columns["frames"]
        # The feature network sees colours.
        made, real, train = (x.expand(*x.shape[:-3], 3, -1, -1) for x in videos)
        found = drift_report(features, made, real, train, self.stretch, rng)
        return Findings(found, found.files, cut)

    @property
    def usage(self) -> str:
        """Lines of Python that make videos with a loaded `run`."""
        return (
            "run = run.with_options(length=200)\n"
            'held = run.recipe.load("DATA").held_out\n'
            "given, real = run.recipe.asked(held, 4)  # frames to begin with, and actions\n"
            "videos = run.samples(given, seed=1)"
        )

    def asked(self, data: ClipWindows, count: int) -> tuple[dict[str, Tensor], Tensor]:
        """What videos are given from places spread over a recording, and the frames that came.

        Actions follow each other as recorded; where an episode ends, with those of the next.

        Args:
            data: the recording.
            count: B, number of videos.

        Returns:
            What `draw` takes, and the real frames under these actions, uint8, shape
            (B, length, C, H, W); they jump where an episode ends.
        """
        ahead, known = journeys(data, count, self.context, self.length)
        frames, actions = data.columns["frames"], data.columns["actions"]
        given = {"frames": frames[known], "actions": actions[torch.cat((known, ahead), 1)]}
        return given, frames[ahead]
