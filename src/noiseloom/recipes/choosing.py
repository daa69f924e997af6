"""The options of drawing tokens: in which order and how boldly."""

import math
from dataclasses import dataclass
from typing import Literal

from noiseloom.priors.choice import check_choice

__all__ = ["Choosing"]


@dataclass(frozen=True)
class Choosing:
    """How tokens are chosen; may be changed for every draw.

    Attributes:
        unmask: masked tokens become classes at random times, as the model has it (random), or those
            first that it is surest of (confidence), which is no draw from the model.
        order_noise: of confidence, >= 0: the order's temperature; 0 is strictly by confidence.
        temperature: of the autoregressive state, >= 0; 1 is its law.
        top_p: mass of the nucleus of each token of the autoregressive state, in (0, 1].
        beams: of the autoregressive state: above 1 the likeliest row that a search with so many
            beginnings finds, which is no draw; 1 for a draw.

    Raises:
        ValueError: an option is out of range.
    """

    unmask: Literal["random", "confidence"] = "random"
    order_noise: float = 0.0
    temperature: float = 1.0
    top_p: float = 1.0
    beams: int = 1

    def __post_init__(self) -> None:
        check_choice(self.temperature, self.top_p)
        if self.beams < 1:
            raise ValueError(f"beams must be at least 1, got {self.beams}")
        if self.beams > 1 and (self.temperature != 1 or self.top_p != 1):
            raise ValueError("a search draws nothing: leave temperature and top_p out, or beams")
        if not 0 <= self.order_noise < math.inf:
            raise ValueError(f"order_noise must be at least 0, got {self.order_noise}")
