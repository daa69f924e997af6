"""Walks through the rooms of Doom: which buttons to press, step by step.

A `SeeingWalk` gets about: it goes where there is room. But its actions tell what it saw, and suit
no other place: a video that has gone another way is led into walls by them. A `BlindWalk` draws its
actions without looking. These suit any place, and whoever follows those of another walk sees, in
distribution, what that one saw: so a model that is perfect has videos that no distance can tell
from real ones, however long they are.
"""

import math
from bisect import bisect
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["BUTTONS", "WALKS", "BlindWalk", "SeeingWalk", "Seen"]

BUTTONS = ("TURN_LEFT", "TURN_RIGHT", "MOVE_FORWARD", "MOVE_LEFT", "MOVE_RIGHT")
"""What an action presses (1) or leaves (0), in this order."""

_MOVES: dict[tuple[int, ...], float] = {
    (2,): 0.45,
    (0, 2): 0.12,
    (1, 2): 0.12,
    (2, 3): 0.05,
    (2, 4): 0.05,
    (0,): 0.08,
    (1,): 0.08,
    (3,): 0.025,
    (4,): 0.025,
}  # which buttons are pressed together, and how often
_UP_TO = tuple(accumulate(_MOVES.values()))[:-1]
_RANDOM = 0.3  # how often an action is drawn, and not led by the view
_NEAR = 3  # depth, in units of 8; a step at full speed covers 28 map units
_STUCK = 6.0  # map units: less than half of what the first step from rest covers
_BOLD = 0.1  # how often a step goes on towards a near wall
_ASTRAY = 0.2  # how often a turn goes where there is less room
_CIRCLE = 26  # steps of a whole turn
_BLIND: dict[tuple[int, ...], tuple[float, int, int]] = {
    (2,): (0.25, 4, 14),
    (0, 2): (0.25, 6, 26),
    (1, 2): (0.25, 6, 26),
    (0,): (0.125, 3, 13),
    (1,): (0.125, 3, 13),
}  # which buttons are pressed together, how often they are chosen, and least and most steps
_TURNS = tuple(accumulate(share for share, *_ in _BLIND.values()))[:-1]


class Seen(NamedTuple):
    """What one moment of the game shows.

    Attributes:
        picture: uint8, shape (3, 120, 160).
        place: x and y, in map units.
        ahead: least depth, in units of 8, in the middle quarter of the horizon.
        open: where on the horizon the view is deepest, from -1 (left) to 1 (right).
    """

    picture: NDArray[np.uint8]
    place: tuple[float, float]
    ahead: float
    open: float


class SeeingWalk:
    """A random walk that is biased forward: it follows the rooms, and turns away from walls.

    It changes at random times between going to where the view is deepest and holding a random
    action, mostly forward. Before most walls, and where a step forward led nowhere, it turns until
    the view ahead is deep enough; how deep, and now and then to which side, is drawn.

    Args:
        draws: uniform numbers in (0, 1), a row of three for each step.
    """

    def __init__(self, draws: Sequence[Sequence[float]]) -> None:
        self._draws = iter(draws)
        self._last: Seen | None = None
        self._went = False
        self._pressed: tuple[int, ...] | None = ()  # None: where the view is deepest
        self._held = 0
        self._clear = 0.0  # what must be ahead for a turn away from a wall to end

    def __call__(self, seen: Seen) -> list[float]:
        """The next action."""
        which, how_long, side = next(self._draws)
        last, self._last = self._last, seen
        stuck = last and self._went and math.dist(seen.place, last.place) < _STUCK
        if not self._clear and (stuck or (seen.ahead <= _NEAR and side > _BOLD)):
            self._pressed = (int((seen.open > 0) != (which < _ASTRAY)),)
            self._clear, self._held = _NEAR + 12 * how_long, _CIRCLE
        elif seen.ahead > self._clear > 0 or not self._held:
            self._clear = 0.0
            self._pressed, self._held = None, 4 + int(16 * how_long)
            if which < _RANDOM:
                self._pressed = tuple(_MOVES)[bisect(_UP_TO, side)]
                self._held = 1 + int((12 if self._pressed == (2,) else 4) * how_long)
        self._held -= 1
        pressed = self._pressed
        if pressed is None:
            pressed = (2,) if abs(seen.open) < 0.3 else (int(seen.open > 0), 2)
        self._went = 2 in pressed
        return [float(i in pressed) for i in range(len(BUTTONS))]


class BlindWalk:
    """A random walk that is biased forward and sees nothing: a law of actions alone.

    It goes straight, in curves, or turns where it stands, each for a random number of steps. Walls
    are slid along, and left by curves and turns.

    Args:
        draws: uniform numbers in (0, 1), a row of two or more for each step.
    """

    def __init__(self, draws: Sequence[Sequence[float]]) -> None:
        self._draws = iter(draws)
        self._pressed: tuple[int, ...] = ()
        self._held = 0

    def __call__(self, seen: Seen) -> list[float]:
        """The next action, whatever is seen."""
        which, how_long, *_ = next(self._draws)
        if not self._held:
            self._pressed = tuple(_BLIND)[bisect(_TURNS, which)]
            _, least, most = _BLIND[self._pressed]
            self._held = least + int((most - least + 1) * how_long)
        self._held -= 1
        return [float(i in self._pressed) for i in range(len(BUTTONS))]


WALKS: Mapping[str, Callable[[Sequence[Sequence[float]]], Callable[[Seen], list[float]]]] = {
    "blind": BlindWalk,
    "seeing": SeeingWalk,
}
"""By name: from uniform numbers in (0, 1), a row of three for each step, to a walk."""
