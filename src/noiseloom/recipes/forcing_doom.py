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

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from noiseloom.data import Split
from noiseloom.data.clips import Clips, ClipWindows
from noiseloom.data.tokens import evenly
from noiseloom.diffusion import GaussianDiffusion
from noiseloom.encodings import Scaled
from noiseloom.metrics.lite0 import Lite0Features
from noiseloom.noise import SCHEDULES, Schedule
from noiseloom.plan import SamplingPlan
from noiseloom.recipes.filming import (
    Video,
    check_counts,
    check_given,
    drift_report,
    filmed,
    journeys,
    whole_stretches,
)
from noiseloom.recipes.forcing import DiffusionForcing
from noiseloom.recipes.recipe import Drawing, Facts, Findings, Given, Parts
from noiseloom.recipes.rolling import Rolling, Sliding
from noiseloom.recipes.video_networks import PATCHES, video_transformer, video_unet
from noiseloom.rng import Rng
from noiseloom.rollouts import Finished, TokenCond, along, rollout
from noiseloom.sliding import slide
from noiseloom.training.precision import compiled

__all__ = ["ForcingDoom"]

CALLS = 30_000
"""Calls of a network from which on compiling it (half a minute) makes a rollout faster."""


@dataclass(frozen=True)
class ForcingDoom(Sliding, DiffusionForcing, Rolling):
    """Options of `DiffusionForcing` for video, and of `Rolling`.

    Attributes:
        network: a transformer on patches (video) or a U-Net (unet), both causal, or the transformer
            with frames that see all of a window (bidirectional), which needs full sequences: a
            rollout reads a past that knows nothing of what follows.
        frames: of a training window.
        window: frames that a frame attends to, itself included.
        patch: side of a patch, in pixels; 0 for 8 (transformers) or 2 (unet).
        width: features inside; 0 for 384 (transformers) or 128 (unet), which make 34 million
            parameters of frames of 64 x 64.
        multipliers: of the U-Net's stages, over `width`.
        plan: order within a chunk; auto is autoregressive, but of full sequences a window that
            slides, all of its frames at one time.
        rest: time that finished frames of a chunk wait at until it is done.
        held_out: share of the frames, at the end of the recording, that is held out.
        samples: videos that an evaluation makes.
    """

    name: ClassVar[str] = "forcing-doom"
    summary: ClassVar[str] = "video under given actions, of any file of clips, far beyond training"
    shows: ClassVar[Literal["pictures", "series", "trajectories", "videos"]] = "videos"
    grows: ClassVar[bool] = True

    # Other names than there.
    network: Literal["video", "unet", "bidirectional"] = "video"  # type: ignore[assignment]
    frames: int = 36
    window: int = 16
    patch: int = 0
    width: int = 0
    depth: int = 9
    heads: int = 6
    multipliers: tuple[int, ...] = (1, 2, 2, 3)
    rest: float = 0.0
    weight: Literal["target", "min-snr", "fused-snr", "sigmoid"] = "fused-snr"
    snr_decay: float = 0.8
    clock: float = 10.0
    held_out: float = 0.1
    conditional: bool = False
    steps: int = 20_000
    batch_size: int = 64
    learning_rate: float = 1e-3
    warmup: int = 300
    weight_decay: float = 1e-3
    beta2: float = 0.99
    decay: Literal["constant", "cosine"] = "cosine"
    ema_decay: float = 0.999
    checkpoint_every: int = 2000
    sampling_steps: int = 20
    samples: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        Rolling.__post_init__(self)
        for name in ("frames", "window"):
            if getattr(self, name) < 2:
                raise ValueError(f"{name} must be at least 2, got {getattr(self, name)}")
        for name in ("window", "frames"):
            if self.context > getattr(self, name):
                raise ValueError(
                    f"context must be at most {name} = {getattr(self, name)}, got {self.context}"
                )
        if self.slides and self.chunk > self.window:
            raise ValueError(f"chunk must be at most window = {self.window}, got {self.chunk}")
        self.check_slides()
        if self.network == "bidirectional" and not self.slides:
            raise ValueError(
                "network bidirectional makes videos by a window that slides: it is for forcing "
                "full-sequence without a plan"
            )
        self.check_history(self.forcing, self.read_at)
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out must be between 0 and 1, got {self.held_out}")
        if self.conditional or self.label_drop or self.guidance != 1:
            raise ValueError(
                f"{self.name} knows no classes: leave conditional, label_drop and guidance out"
            )

    @property
    def tokens(self) -> int:
        """Frames of a plan: those of a chunk."""
        return self.chunk

    @property
    def idle(self) -> Mapping[str, str]:
        """Orders of a single frame, and what is for more of them."""
        found = self.idle_by_history
        if self.slides:
            found["rest"] = "a window that slides, all of it at one time"
        elif self.chunk == 1 and self.plan == "auto":
            found["rest"] = "frames that are made one by one (chunk 1)"
        elif self.chunk == 1 and not self.by_file and self.forcing != "full-sequence":
            found["plan"] = "frames that are made one by one (chunk 1), which have no order"
        return found

    @property
    def read_at(self) -> float:
        """The time that `stabilisation` stands for."""
        return self.past_time(self.stabilisation, 0.02)

    def named_plan(self, schedule: Schedule) -> SamplingPlan:
        """The plan of a chunk, or of a window that slides; scalar times where one is enough."""
        if self.slides or (self.plan == "auto" and self.chunk == 1):
            return SamplingPlan.uniform(self.sampling_steps)
        return super().named_plan(schedule)

    def load(self, data: str | None) -> Split[ClipWindows]:
        """Windows of the clips at a path; the end of the recording is held out."""
        if data is None:
            raise ValueError(f"{self.name} needs --data FILE.safetensors: noiseloom record doom")
        clips = Clips.read(data)
        channels = clips.frames.shape[1]
        if channels not in (1, 3):
            raise ValueError(
                f"{data}: frames have {channels} channels, of axes (N, C, H, W): give 1 (grey) or "
                "3 (colours), which can be shown and judged"
            )
        try:
            return clips.windows(self.frames, self.held_out)
        except ValueError as error:
            options = f"--frames {self.frames}, --held-out {self.held_out}"
            raise ValueError(f"{data}: {error} ({options})") from error

    def facts(self, data: Split[Any]) -> Facts:
        """Shape of the frames, mean and deviation of their pixels, and features of an action."""
        frames, actions = (data.train.columns[name] for name in ("frames", "actions"))
        few = frames[evenly(len(frames), 1000)]
        pixels = Scaled(256).encode(few).double()
        return {
            "shape": list(frames.shape[1:]),
            "actions": actions.shape[1],
            "mean": float(pixels.mean()),
            "std": float(pixels.std()) or 1.0,
        }

    def drawn_as(self, facts: Facts) -> str | None:
        """What it shows, whatever the facts."""
        return self.shows

    def make_network(
        self, features: int, num_classes: int | None, action_features: int = 0
    ) -> nn.Module:
        """The network for frames of so many channels."""
        common: dict[str, Any] = {
            "patch": self.patch,
            "width": self.width,
            "window": self.window,
            "num_classes": num_classes,
            "action_features": action_features,
            "self_conditioning": self.self_conditioning > 0,
            "dropout": self.dropout,
        }
        if self.network == "unet":
            return video_unet(features, multipliers=self.multipliers, **common)
        common |= {"depth": self.depth, "heads": self.heads, "causal": self.network == "video"}
        return video_transformer(features, **common)

    def build(self, facts: Facts) -> Parts:
        """Pixels of mean 0 and deviation 1 over all frames, and their denoiser.

        Schedules and weights are for states of unit variance: frames of Doom in [-1, 1] have a
        deviation of 0.3, and noise that hides them would count as hardly any.
        """
        channels, height, width = facts["shape"]
        stages = len(self.multipliers) if self.network == "unet" else 1
        patch = self.patch or PATCHES[self.network]
        side = patch * 2 ** (stages - 1)
        if height % side or width % side:
            raise ValueError(
                f"network {self.network} with patch {patch} needs frames whose sides are multiples "
                f"of {side}, and the data's are of {height} x {width}"
            )
        trained = self.make_trained(channels, None, facts["actions"])
        codec = Scaled(256, 1 / facts.get("std", 1.0), facts.get("mean", 0.0))
        return Parts(trained, GaussianDiffusion(SCHEDULES[self.schedule]), codec)

    def clean(self, parts: Parts, batch: dict[str, Tensor]) -> Tensor:
        """Frames of a batch of windows."""
        return parts.codec.encode(batch["frames"])

    def told(self, batch: dict[str, Tensor], facts: Facts, rng: Rng) -> dict[str, Tensor]:
        """The action that led to every frame."""
        return {"action": batch["actions"]} if facts["actions"] else {}

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
