"""Diffusion Forcing on handwritten digits, row by row, in two minutes on a laptop.

A token is a row of 8 pixels of the shipped digits: small enough to train here, and to see in the
report which rows are certain when. The claim at this scale: one model, trained once on independent
levels, draws in any order that is chosen afterwards.

Nobody has published figures for these. Ours, three seeds of 1,500 steps (100 to 140 s a run on one
core): autoregressive, of the class asked for 0.949 +- 0.014, coverage 0.518 +- 0.021 where held-out
digits have 0.739, copies 0.005 +- 0.004; other orders are in docs/results.md.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from noiseloom.data import Images, Split, digits
from noiseloom.data.templates import check_known
from noiseloom.diffusion import GaussianDiffusion
from noiseloom.encodings import Bits, Codec, Scaled
from noiseloom.noise import SCHEDULES
from noiseloom.recipes.bits_digits import digits_report
from noiseloom.recipes.filling import beside, check_gaps, same_gaps
from noiseloom.recipes.forcing import DiffusionForcing
from noiseloom.recipes.recipe import Drawing, Facts, Given, Parts
from noiseloom.rng import Rng

__all__ = ["ForcingDigits", "Rows"]


@dataclass(frozen=True)
class Rows:
    """Pictures as sequences of their rows: (B, C, H, W) to (B, H, C W) and back.

    Args:
        codec: of the pictures.
        channels: C of its states.
    """

    codec: Codec
    channels: int

    def encode(self, data: Tensor) -> Tensor:
        """Rows of the encoded pictures."""
        return self.codec.encode(data).movedim(1, 2).flatten(2)

    def decode(self, state: Tensor) -> Tensor:
        """Pictures of decoded rows."""
        rows = state.reshape(*state.shape[:2], self.channels, -1)
        return self.codec.decode(rows.movedim(2, 1))


@dataclass(frozen=True)
class ForcingDigits(DiffusionForcing):
    """Options of `DiffusionForcing` for the digits, chosen for two CPU cores.

    Attributes:
        state: pixels as real numbers, or as analog bits.
    """

    name: ClassVar[str] = "forcing-digits"
    summary: ClassVar[str] = "digits row by row, a noise level per row, on a laptop"

    state: Literal["pixels", "bits"] = "pixels"
    clock: float = 10.0
    steps: int = 1500
    batch_size: int = 64
    learning_rate: float = 2e-3
    warmup: int = 100
    beta2: float = 0.99
    decay: Literal["constant", "cosine"] = "cosine"
    ema_decay: float = 0.998
    threads: int = 1
    label_drop: float = 0.05
    sampling_steps: int = 20
    samples: int = 360
    width: int = 96

    @property
    def tokens(self) -> int:
        """Rows of a digit."""
        return 8

    def load(self, data: str | None) -> Split[Images]:
        """The shipped digits."""
        if data is not None:
            raise ValueError("forcing-digits has its own data: leave --data out")
        return digits()

    def build(self, facts: Facts) -> Parts:
        """The rows' codec, and a denoiser of sequences of them."""
        channels, _, width = facts["shape"]
        codec: Codec = Scaled(facts["levels"])
        if self.state == "bits":
            bits = Bits(facts["levels"], axis=1)
            codec, channels = bits, channels * bits.width
        classes = len(facts["classes"]) if self.conditional else None
        trained = self.make_trained(channels * width, classes)
        return Parts(trained, GaussianDiffusion(SCHEDULES[self.schedule]), Rows(codec, channels))

    def draw(self, parts: Parts, facts: Facts, given: Given, rng: Rng) -> Iterator[Drawing]:
        """Pictures along the plan.

        Given {"pixels" (B, C, H, W), "known" bool (B, H)}, rows that are known stay as they are,
        and the others are drawn beside them, of the class "label" if there is one.
        """
        if "known" not in given:
            return super().draw(parts, facts, given, rng)
        held = same_gaps(given["known"])
        check_known(held, "row")
        check_gaps(self, parts.denoiser, held)
        device = next(parts.denoiser.parameters()).device
        cond = self.cond(given["label"].to(device), facts) if "label" in given else {}
        denoiser = self.make_denoiser(parts.denoiser, cond).eval()
        clean = parts.codec.encode(given["pixels"]).to(device)
        return beside(self, denoiser, parts.diffusion, clean, held.to(device), cond, rng)

    def evaluate(
        self, draw: Callable[[Tensor], Tensor], data: Split[Images], rng: Rng
    ) -> dict[str, float]:
        """Class agreement, and distances in the features of an independent classifier."""
        return digits_report(draw, data, rng, self.samples, self.conditional)
