"""What `noiseloom record` can record, and the options of each source."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["SOURCES", "BenzenoidSource", "DoomSource", "MazeSource"]


@dataclass(frozen=True)
class MazeSource:
    """A point mass that a controller drives from goal to goal (extra sim).

    Attributes:
        maze: which (PointMaze v3).
        stay: at each goal the controller stays 0 to so many steps more.
    """

    maze: Literal["umaze", "medium", "large"] = "umaze"
    stay: int = 100


@dataclass(frozen=True)
class DoomSource:
    """Video of a random walk through the rooms of Doom's my_way_home (extra sim).

    Attributes:
        walk: blind draws its actions without looking, so that they suit whatever a video shows;
            seeing goes where there is room, and is led into walls where a video differs.
        size: side of a frame, in pixels; a step takes 3 size^2 bytes, 12 kB at 64.
        skip: tics, of 35 a second, that an action is held.
        jobs: processes that record at the same time; the recording does not depend on it.
    """

    walk: Literal["blind", "seeing"] = "blind"
    size: int = 64
    skip: int = 4
    jobs: int = 1


@dataclass(frozen=True)
class BenzenoidSource:
    """All benzenoids of a number of rings, their gaps and the parts of every split.

    Attributes:
        rings: of every structure, 5 to 13.
    """

    rings: int = 11


SOURCES: dict[str, type] = {
    "maze": MazeSource,
    "doom": DoomSource,
    "benzenoids": BenzenoidSource,
}
"""What can be recorded, and the options of each; `noiseloom.record` makes them."""
