"""What scenes are made of."""

from dataclasses import dataclass

__all__ = ["COLOURS", "GRID", "MOST", "SHAPES", "SIZES", "Thing"]

GRID = 3
"""Rows, and columns, of a scene."""
MOST = 6
"""Things in a scene."""
SHAPES = ("circle", "square", "triangle", "cross", "diamond")
COLOURS = ("red", "green", "blue", "yellow", "purple", "white")
SIZES = ("small", "large")


@dataclass(frozen=True, order=True)
class Thing:
    """A thing of a scene.

    Attributes:
        row: of its cell, from the top, 0 .. 2.
        column: of its cell, from the left, 0 .. 2.
        shape: one of `SHAPES`.
        colour: one of `COLOURS`.
        size: small or large.

    Raises:
        ValueError: anything else.
    """

    row: int
    column: int
    shape: str
    colour: str
    size: str

    def __post_init__(self) -> None:
        if not (0 <= self.row < GRID and 0 <= self.column < GRID):
            raise ValueError(f"cells of a scene are 0 .. {GRID - 1}, got {self.row}, {self.column}")
        known = (("shape", SHAPES), ("colour", COLOURS), ("size", SIZES))
        for name, words in known:
            if getattr(self, name) not in words:
                raise ValueError(
                    f"the {name} must be one of {', '.join(words)}, got {getattr(self, name)!r}"
                )
