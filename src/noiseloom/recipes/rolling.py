"""The options of rollouts, and the guidance that they name."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from torch import nn

from noiseloom.conditioning import inside
from noiseloom.diffusion import GaussianDiffusion
from noiseloom.guidance import HistoryGuided, fractional_history

__all__ = ["ByHistory", "Rolling", "Sliding"]


class ByHistory:
    """The guidance of recipes with these two options, which may be changed for every draw.

    Attributes:
        history_guidance: scale of the guidance by the past, 1 for none.
        history_level: time in [0, 1) of the noise on the past that guides.
    """

    history_guidance: float
    history_level: float

    def check_history(self, forcing: str, read_at: float) -> None:
        """Check the options.

        Args:
            forcing: times of the tokens in training.
            read_at: time at which the past is read.

        Raises:
            ValueError: one is out of range, or a model that cannot be guided so.
        """
        if not math.isfinite(self.history_guidance):
            raise ValueError(f"history_guidance must be a number, got {self.history_guidance}")
        if not 0 <= self.history_level < 1:
            raise ValueError(f"history_level is a time in [0, 1), got {self.history_level}")
        if self.history_guidance != 1 and forcing != "independent":
            raise ValueError(
                "history_guidance is for a model that has seen its past at all levels of noise: "
                "train with forcing independent, or leave history_guidance at 1"
            )
        if self.history_guidance != 1 and 0 < self.history_level <= read_at:
            raise ValueError(
                f"history_level must be 0 or above stabilisation {read_at:g}, got "
                f"{self.history_level:g}"
            )

    @property
    def idle_by_history(self) -> dict[str, str]:
        """Options that change nothing (`Recipe.idle`)."""
        if self.history_guidance != 1:
            return {}
        return {"history_level": "samples that the past does not guide (history_guidance 1)"}

    def by_history(
        self,
        trained: nn.Module,
        diffusion: GaussianDiffusion,
        history: Sequence[int] | None = None,
    ) -> nn.Module:
        """A trained denoiser guided by its past, as the options name it.

        As all guidance it goes inside of self-conditioning on the estimate, which is one for all.

        Args:
            trained: the denoiser, self-conditioned or not.
            diffusion: what noise is.
            history: known tokens of a window, or None for what a rollout has finished.
        """
        if self.history_guidance == 1:
            return trained
        terms = fractional_history(self.history_guidance, self.history_level)
        return inside(
            trained, partial(HistoryGuided, diffusion=diffusion, terms=terms, history=history)
        )


class Sliding:
    """Recipes whose models of full sequences are sampled by `noiseloom.sliding.slide`.

    They have been shown one time for all tokens, and no past that is cleaner: what is known is
    given the time of what is made.
    """

    forcing: str
    plan: str
    restarts: tuple[tuple[int, int, float, float], ...]

    @property
    def slides(self) -> bool:
        """Whether samples are made so, which a plan that is named forgoes."""
        return self.forcing == "full-sequence" and self.plan == "auto"

    def check_slides(self) -> None:
        """Raise ValueError for restarts, which are of no window that slides."""
        if self.slides and self.restarts:
            raise ValueError(
                "restarts are not for windows that slide: use resample, or name a plan"
            )


@dataclass(frozen=True)
class Rolling(ByHistory):
    """How videos are rolled out and judged, and forecasts read and follow their past.

    These options may be changed for every rollout.

    Attributes:
        length: frames to make.
        context: real frames that a rollout begins with, at most the network's window.
        chunk: frames that are denoised together.
        stabilisation: time in [0, 1) at which known and finished frames are read: they are noised
            to it once, and told as such. At 0 they are read as they are, told the largest log-SNR,
            `clock`: training at independent times shows one of 10, and hardly ever one of 20. Null
            for 0.02, or for 0 where teacher forcing has shown nothing else.
        history_guidance: scale of the guidance by what was known and made before: 1 is none, above
            it the past is followed more, at two calls for one. It builds up over a rollout: a
            linear process that is followed more than it follows itself grows without end.
        history_level: time in [0, 1) of the noise on the past that guides: 0 is vanilla, above it
            fractional guidance, by the coarse of the past alone, at three calls for one.
        stretch: frames of each stretch of the drift curve; of `samples` videos together they should
            be 2,560, twice the features, for there to be a Frechet distance.

    Raises:
        ValueError: an option is out of range.
    """

    length: int = 2000
    context: int = 4
    chunk: int = 1
    stabilisation: float | None = None
    history_guidance: float = 1.0
    history_level: float = 0.0
    stretch: int = 200

    def __post_init__(self) -> None:
        for name in ("length", "context", "chunk", "stretch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.stabilisation is not None and not 0 <= self.stabilisation < 1:
            raise ValueError(f"stabilisation is a time in [0, 1), got {self.stabilisation}")
