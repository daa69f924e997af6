"""What is read of a file of clips, and the model of its frames, each with its action."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from noiseloom.data import Split
from noiseloom.data.clips import Clips, ClipWindows
from noiseloom.data.tokens import evenly
from noiseloom.diffusion import GaussianDiffusion
from noiseloom.encodings import Scaled
from noiseloom.noise import SCHEDULES
from noiseloom.recipes.recipe import Facts, Parts
from noiseloom.recipes.video_networks import PATCHES, video_transformer, video_unet
from noiseloom.recipes.video_options import VideoOptions
from noiseloom.rng import Rng

__all__ = ["VideoModel"]


@dataclass(frozen=True)
class VideoModel(VideoOptions):
    """`VideoOptions`, and what they make of a file: data, facts, frames and a denoiser."""

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
