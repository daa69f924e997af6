"""Bit Diffusion on pictures: discrete pixels as analog bits, self-conditioning, overshoot.

T. Chen, R. Zhang, G. Hinton, 2022, "Analog Bits: Generating Discrete Data using Diffusion Models
with Self-Conditioning", arXiv 2208.04202. From top to bottom: the options, then Algorithm 1 (the
loss) and what `Recipe.draw` lacks of Algorithm 2. Recipes for a data set set its defaults and load
it.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from noiseloom.conditioning import SelfConditioned
from noiseloom.denoiser import Clipped, Head, LinearHead, Preconditioned, SigmoidHead, SoftmaxHead
from noiseloom.diffusion import GaussianDiffusion
from noiseloom.encodings import Bits, OneHot, Scaled
from noiseloom.metrics import discreteness
from noiseloom.nets import DiT
from noiseloom.noise import SCHEDULES
from noiseloom.objective import (
    Weight,
    denoising_loss,
    eps_weight,
    logit_normal,
    min_snr_weight,
    stratified_times,
    uniform_times,
    v_weight,
)
from noiseloom.recipes.picture_networks import mirrored, picture_unet
from noiseloom.recipes.recipe import Drawing, Facts, Parts, Recipe
from noiseloom.rng import Rng
from noiseloom.shapes import Cond
from noiseloom.training import Loss

__all__ = ["BitDiffusion"]

_WEIGHTS: dict[str, Weight | None] = {
    "x0": None,
    "eps": eps_weight,
    "v": v_weight,
    "min-snr": min_snr_weight(),
}


@dataclass(frozen=True)
class BitDiffusion(Recipe):
    """Analog bits of pictures, with the continuous baseline and every ablation as options.

    Attributes:
        state: what is diffused: analog bits, one-hot vectors, or the pixels as real numbers (the
            continuous baseline, everything else equal).
        code: of the bits: binary, gray, or random (the paper's UINT8 (RAND)).
        scale: level b of the state.
        schedule: of the noise.
        target: what the network predicts.
        head: how its output becomes the estimate of a discrete state: linear, sigmoid (log-odds per
            bit), softmax (over the values of each pixel). Pixels always have a linear one.
        loss_kind: squared error, or the cross-entropy of a sigmoid or softmax head; auto is the
            cross-entropy where there is one.
        times: independent; stratified, one in each of batch_size equal parts of [0, 1]; or those
            made logit-normal, which learns faster where few steps are all there is.
        weight: whose squared error is minimised: the target's, x0's, eps's, v's, or min-SNR.
        self_conditioning: share of the batch with a first pass; 0 for none.
        self_conditioning_kind: what is handed on: the estimate, or the hidden state (dit only).
        flip: mirror half of the pictures.
        network: unet, or dit (a transformer over patches).
        width: of the network's first stage, or of its tokens.
        multipliers: widths of the U-Net's stages over `width`.
        blocks: residual blocks per stage, or depth of the transformer.
        attention: side of the largest feature maps that get self-attention; 0 for none.
        head_width: channels per attention head.
        patch: side of the transformer's patches.
        dropout: rate in the network.
    """

    state: Literal["bits", "onehot", "pixels"] = "bits"
    code: Literal["binary", "gray", "random"] = "binary"
    scale: float = 1.0
    schedule: Literal[
        "cosine", "scaled-cosine", "sigmoid", "linear", "ddpm", "edm", "rectified-flow"
    ] = "cosine"
    target: Literal["x0", "eps", "v"] = "x0"
    head: Literal["linear", "sigmoid", "softmax"] = "linear"
    loss_kind: Literal["auto", "l2", "cross-entropy"] = "auto"
    times: Literal["uniform", "stratified", "logit-normal"] = "uniform"
    weight: Literal["target", "x0", "eps", "v", "min-snr"] = "target"
    self_conditioning: float = 0.5
    self_conditioning_kind: Literal["estimate", "hidden"] = "estimate"
    label_drop: float = 0.1
    flip: bool = False
    network: Literal["unet", "dit"] = "unet"
    width: int = 256
    multipliers: tuple[int, ...] = (1, 1, 1)
    blocks: int = 3
    attention: int = 16
    head_width: int = 64
    patch: int = 2
    dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = ("width", "blocks", "head_width", "patch", "scale")
        for name in sizes:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        if not self.multipliers or min(self.multipliers) < 1:
            raise ValueError(f"multipliers must be one or more, above 0, got {self.multipliers}")
        if self.loss_kind == "cross-entropy" and not self._has_probabilities:
            raise ValueError("loss_kind cross-entropy needs a discrete state and another head")
        if self.self_conditioning_kind == "hidden" and self.network != "dit":
            raise ValueError("self_conditioning_kind hidden needs network dit")
        if not 0 <= self.self_conditioning <= 1:
            raise ValueError(f"self_conditioning must be in [0, 1], got {self.self_conditioning}")
        hidden = not self.self_conditioning or self.self_conditioning_kind == "hidden"
        for name in ("self_guidance", "momentum"):
            if hidden and getattr(self, name):
                raise ValueError(f"{name} needs self_conditioning on the estimate")

    @property
    def _has_probabilities(self) -> bool:
        return self.state != "pixels" and self.head != "linear"

    def build(self, facts: Facts) -> Parts:
        """Codec, head, network and their denoiser."""
        codec: Bits | OneHot | Scaled
        channels, height, width = facts["shape"]
        if self.state == "bits":
            codec = Bits(facts["levels"], self.code, scale=self.scale, axis=1)
        elif self.state == "onehot":
            codec = OneHot(facts["levels"], scale=self.scale, axis=1)
        else:
            codec = Scaled(facts["levels"], scale=self.scale)
        if not isinstance(codec, Scaled):
            channels *= codec.width
        head: Head = LinearHead()
        if self.head == "sigmoid" and self._has_probabilities:
            head = SigmoidHead(self.scale)
        elif self.head == "softmax" and not isinstance(codec, Scaled):
            head = SoftmaxHead(codec.table, axis=1)
        schedule = SCHEDULES[self.schedule]
        network = self._network(channels, head.outputs(channels), (height, width), facts)
        denoiser: nn.Module = Preconditioned(network, schedule, target=self.target, head=head)
        if self.self_conditioning:
            denoiser = SelfConditioned(denoiser, kind=self.self_conditioning_kind, limit=self.scale)
        return Parts(denoiser, GaussianDiffusion(schedule), codec)

    def _network(self, inputs: int, outputs: int, size: tuple[int, int], facts: Facts) -> nn.Module:
        classes = len(facts["classes"]) if self.conditional and len(facts["classes"]) > 1 else None
        estimate = self.self_conditioning > 0 and self.self_conditioning_kind == "estimate"
        if self.network == "dit":
            return DiT(
                inputs,
                outputs,
                size=size,
                patch=self.patch,
                width=self.width,
                depth=self.blocks,
                heads=max(self.width // self.head_width, 1),
                num_classes=classes,
                self_conditioning=estimate,
                hidden_conditioning=self.self_conditioning_kind == "hidden",
                dropout=self.dropout,
            )
        return picture_unet(
            inputs,
            outputs,
            size,
            width=self.width,
            multipliers=self.multipliers,
            blocks=self.blocks,
            attention=self.attention,
            head_width=self.head_width,
            num_classes=classes,
            self_conditioning=estimate,
            dropout=self.dropout,
        )

    def loss(self, parts: Parts, facts: Facts) -> Loss:
        """Algorithm 1: encode, corrupt, estimate once without gradient, then predict."""

        def loss(model: nn.Module, batch: dict[str, Tensor], rng: Rng, rows: Tensor) -> Tensor:
            pixels = batch["pixels"]
            device, count = pixels.device, len(pixels)
            if self.flip:
                pixels = mirrored(pixels, rng.fold("flip"))
            clean = self.clean(parts, {**batch, "pixels": pixels})
            times = rng.fold("time")
            if self.times == "uniform":
                t = uniform_times((count,), times, device)
            else:
                t = stratified_times(rows, self.batch_size, times, device)
            if self.times == "logit-normal":
                t = logit_normal(t, std=0.8)
            return denoising_loss(
                model,
                parts.diffusion,
                clean,
                t,
                self.told(batch, facts, rng),
                rng,
                rows=rows,
                self_conditioning=self.self_conditioning,
                weight=_WEIGHTS[self.target if self.weight == "target" else self.weight],
                cross_entropy=self.loss_kind != "l2" and self._has_probabilities,
            )

        return loss

    def make_denoiser(self, trained: nn.Module, cond: Cond) -> nn.Module:
        """For Algorithm 2: estimates do not leave the range of the bits."""
        return Clipped(super().make_denoiser(trained, cond), self.scale)

    def inspect(self, parts: Parts, last: Drawing) -> dict[str, float]:
        """How discrete the analog bits are, and how many codes are invalid."""
        if self.state == "pixels":
            return {}
        found = {"discreteness": discreteness(last.result, self.scale)}
        if isinstance(parts.codec, Bits):
            found["invalid_codes"] = float(parts.codec.invalid_rate(last.result))
        return found
