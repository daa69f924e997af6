"""What a guide's regularisers are: terms of its loss, all with one interface."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from noiseloom.context.guide import Guide, GuideOutput
from noiseloom.shapes import Cond, State

__all__ = ["Shown", "Term", "context_of"]


@dataclass(frozen=True)
class Shown:
    """A batch as a guide has been shown it.

    Attributes:
        x: noised states.
        t: their times, shape (B,).
        cond: what the network was told besides.
        output: what the guide said, in standardised units.
    """

    x: State
    t: Tensor
    cond: Cond
    output: GuideOutput


class Term(Protocol):
    """A term of the loss. It never sees a label.

    Attributes:
        weight: its factor; at 0 nothing of it is computed, nor drawn.
        needs_context: whether it asks for unlabelled states.
    """

    weight: float
    needs_context: bool

    def __call__(self, guide: Guide, labelled: Shown, context: Shown | None) -> Tensor:
        """A number, weight and scale included, that the mean loss of the labels is added to."""


def context_of(context: Shown | None) -> Shown:
    """The context, which is there.

    Raises:
        ValueError: it is not.
    """
    if context is None:
        raise ValueError("this term needs a context: unlabelled states")
    return context
