"""What is truly known of rows of tokens: whether they are valid, and what they are worth.

A guide only believes; a landscape knows. What it does not know is said to be unknown (NaN), and is
never made up.
"""

from typing import Protocol

from torch import Tensor

from noiseloom.rng import Rng

__all__ = ["Landscape"]


class Landscape(Protocol):
    """The truth about rows of tokens."""

    def valid(self, rows: Tensor) -> Tensor:
        """Whether each of rows (N, T) is one that can be, bool, shape (N,)."""

    def why_not(self, row: Tensor, letters: str) -> str:
        """Why a row (T,) is not valid, in a line; "" if it is.

        Args:
            row: of tokens; classes that have no letter are none of a sequence.
            letters: what classes are called.
        """

    def value(self, rows: Tensor) -> Tensor:
        """What each of rows (N, T) is worth, float64, shape (N,); NaN where nobody knows."""

    def draw(self, count: int, rng: Rng) -> Tensor:
        """Valid rows, whatever they are worth, int64, shape (count, T): without labels, a context.

        Sample i has the same numbers whatever the count is.
        """
