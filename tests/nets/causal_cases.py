"""The causal networks and their inputs, for the tests of all of them."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from noiseloom.nets import CausalTransformer, Recurrent, VideoTransformer, VideoUNet
from noiseloom.rng import Rng

B, T, A, K = 3, 9, 2, 3
CODES = (2, 5)

EVERYTHING = {
    "num_classes": K,
    "action_features": A,
    "self_conditioning": True,
    "dropout": 0.2,
    "codes": CODES,
}
PER_TOKEN = ("estimate", "action", "action_mask", "mask")


@dataclass(frozen=True)
class Build:
    """Builds small networks of one kind, and inputs for them.

    Attributes:
        name: of the kind.
        shape: of a token.
        output: of the prediction of a token.
        make: the network of some options.
        layers: the attentions over time, one after the other, of a network of some depth.
        reads: whether it reads codes; if not, EVERYTHING is all else.
    """

    name: str
    shape: tuple[int, ...]
    output: tuple[int, ...]
    make: Callable[..., nn.Module]
    layers: Callable[[int], int] = lambda depth: depth
    reads: bool = True

    def __call__(self, **options):
        if not self.reads:
            options.pop("codes", None)
        with Rng(0).torch():
            return self.make(**options)

    def inputs(self, options=EVERYTHING, length=T, dtype=torch.float64):
        """A state, a level per token, and every condition that a network of `options` takes."""
        rng = Rng(7)
        x = rng.fold("x").normal((B, length, *self.shape), dtype)
        log_snr = 5 * rng.fold("t").normal((B, length), dtype)
        cond = {}
        if options.get("num_classes"):
            cond["label"] = torch.arange(B) % (K + 1)
        if options.get("action_features"):
            cond["action"] = rng.fold("action").normal((B, length, A), dtype)
            cond["action_mask"] = rng.fold("known").uniform((B, length)) > 0.3
        if options.get("self_conditioning"):
            cond["estimate"] = rng.fold("estimate").normal((B, length, *self.shape), dtype)
        if options.get("dropout"):
            cond["dropout"] = rng.samples(B).key
        if options.get("codes") and self.reads:
            codes = 3 * rng.fold("codes").normal((B, *CODES), dtype)
            cond["codes"] = codes.softmax(-1) * (torch.arange(B) > 0)[:, None, None]  # null first
        return x, log_snr, cond


def _transformer(window=4, depth=2, heads=2, **options):
    return CausalTransformer(3, 5, width=16, heads=heads, window=window, depth=depth, **options)


def _recurrent(window=None, depth=2, **options):
    return Recurrent(3, 5, width=16, depth=depth, **options)


def _video(window=4, depth=2, heads=2, **options):
    options |= {"window": window, "depth": depth}
    return VideoTransformer(2, 3, patch=2, width=16, heads=heads, **options)


def _unet(window=4, depth=2, **options):
    """Of depth 1 with attention over time at the small stage alone; of 3 with another block."""
    options |= {"window": window, "blocks": max(1, depth - 1), "time": (depth > 1, True)}
    options |= {"multipliers": (1, 2), "attention": (False, True), "head_width": 8}
    return VideoUNet(2, 3, patch=1, width=8, **options)


transformer = Build("transformer", (3,), (5,), _transformer)
recurrent = Build("recurrent", (3,), (5,), _recurrent, reads=False)
video = Build("video", (2, 4, 6), (3, 4, 6), _video)
unet = Build("unet", (2, 4, 6), (3, 4, 6), _unet, {1: 3, 2: 6, 3: 10}.get, False)

WINDOWED = pytest.mark.parametrize("build", [transformer, video, unet], ids=lambda b: b.name)
BUILDS = pytest.mark.parametrize(
    "build", [transformer, recurrent, video, unet], ids=lambda b: b.name
)


def part(data, start, stop):
    """The tokens start .. stop - 1 of some inputs."""
    x, log_snr, cond = data
    some = {k: v[:, start:stop] if k in PER_TOKEN else v for k, v in cond.items()}
    return x[:, start:stop], log_snr[:, start:stop], some
