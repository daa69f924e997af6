"""The options of video under given actions, and the plans that they name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from noiseloom.noise import Schedule
from noiseloom.plan import SamplingPlan
from noiseloom.recipes.forcing import DiffusionForcing
from noiseloom.recipes.rolling import Rolling, Sliding

__all__ = ["VideoOptions"]


@dataclass(frozen=True)
class VideoOptions(Sliding, DiffusionForcing, Rolling):
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
