"""The options of training."""

import math
from dataclasses import dataclass
from typing import Literal

__all__ = ["Training"]


@dataclass(frozen=True)
class Training:
    """The options every recipe has; recipes inherit them and set the paper's defaults.

    Attributes:
        steps: number of updates.
        batch_size: samples per update, over all processes and accumulation together.
        accumulate: forward and backward passes per update, each on an equal part of the batch.
        learning_rate: after warm-up.
        warmup: updates over which the learning rate rises linearly.
        decay: what the learning rate does after that: stays, or falls to 0 as a half cosine.
        weight_decay: AdamW's decoupled weight decay.
        beta1: AdamW's decay of the mean gradient.
        beta2: AdamW's decay of the mean squared gradient.
        clip: largest norm of the whole gradient, or of that of each member of an ensemble.
        ema_decay: d of the exponential average, warmed up: min(d, (1 + k) / (10 + k)).
        post_hoc_ema: also keep two power-function averages (relative widths 0.05 and 0.10), with a
            snapshot at each checkpoint, for `reconstruct`.
        precision: of the network; auto is bfloat16 on a GPU, float32 on a CPU.
        compile: compile the network; by default on a GPU only.
        checkpoint_every: updates between two checkpoints.
        threads: of the CPU, set by the command line for the whole process; 0 leaves PyTorch's own
            choice. Small networks gain nothing from more than one, and lose by orders of magnitude
            where another program wants the cores; bitwise equality needs an equal number.
        seed: of everything that is drawn.

    Raises:
        ValueError: an option is out of range.
    """

    steps: int = 1000
    batch_size: int = 64
    accumulate: int = 1
    learning_rate: float = 1e-3
    warmup: int = 100
    decay: Literal["constant", "cosine"] = "constant"
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    clip: float = 1.0
    ema_decay: float = 0.9999
    post_hoc_ema: bool = False
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: bool | None = None
    checkpoint_every: int = 500
    threads: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulate", "checkpoint_every"):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        for name in ("warmup", "weight_decay", "threads"):
            self._require(name, getattr(self, name) >= 0, "at least 0")
        for name in ("learning_rate", "clip"):
            self._require(name, getattr(self, name) > 0, "above 0")
        for name in ("beta1", "beta2", "ema_decay"):
            self._require(name, 0 <= getattr(self, name) < 1, "in [0, 1)")
        self._require("decay", self.decay in ("constant", "cosine"), "constant or cosine")
        choices = ("auto", "float32", "bfloat16")
        self._require("precision", self.precision in choices, " or ".join(choices))

    def rate(self, step: int) -> float:
        """The learning rate of update number `step` (1, 2, ...)."""
        if step <= self.warmup:
            return self.learning_rate * step / self.warmup
        if self.decay == "constant":
            return self.learning_rate
        done = (step - self.warmup) / (self.steps + 1 - self.warmup)
        return self.learning_rate * (1 + math.cos(math.pi * min(done, 1.0))) / 2

    def _require(self, name: str, holds: bool, range_: str) -> None:
        if not holds:
            raise ValueError(f"{name} must be {range_}, got {getattr(self, name)}")
