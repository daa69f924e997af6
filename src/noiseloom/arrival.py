"""When to arrive: of plans whose end is known, the earliest that keeps to what was recorded.

A plan that rests at its goal from step L on is drawn as any other, with its end known. Too small
an L leaves the model no way but one that nobody could take, through walls or too fast; too large a
one lets it put the way off, and with a new plan every few steps put it off for ever. So L is tried
from small to large, for every task by itself, until a plan keeps to what the recording shows to be
possible; from then on the same arrival is aimed at, until a plan for it fails.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from noiseloom.data import Windows
from noiseloom.rng import Rng

__all__ = ["EarliestArrival", "Recorded"]

_WINDOWS, _PLACES, _QUERIES = 2_000, 10_000, 2_000
_SPARE = 1.1  # of what the recording shows, for what it happens not to show


class Recorded:
    """What plans can be held against: places that a recording visited, and how far it came.

    A place is off if the nearest of many recorded ones is farther away than hardly any recorded
    place is, and a step if `stride` steps lead farther than any that were recorded.

    Args:
        data: windows of what was recorded.
        dims: the first d features of an observation are a place.
        stride: of the steps that are looked at.
        rng: draws the windows that are compared with.
    """

    def __init__(self, data: Windows, dims: int, stride: int, rng: Rng) -> None:
        self.stride = stride
        count = min(_WINDOWS, len(data))
        rows = rng.permutation(len(data))[:count]
        seen = data[rows]["observations"][..., :dims]
        self.far = float((seen[:, stride:] - seen[:, :-stride]).norm(dim=-1).max()) * _SPARE
        places = torch.unique(seen.flatten(0, 1), dim=0)  # windows overlap
        places = places[rng.fold("places").permutation(len(places))[: 2 * _PLACES]]
        self.places, others = places.chunk(2)
        self.away = float(self._nearest(others).quantile(0.999)) * 2

    def _nearest(self, places: Tensor) -> Tensor:
        """Distance from each of (n, d) to the nearest recorded place."""
        parts = [torch.cdist(part, self.places).amin(1) for part in torch.split(places, _QUERIES)]
        return torch.cat(parts)

    def strayed(self, starts: Tensor, plans: Tensor) -> Tensor:
        """Share of the steps of each plan that nothing recorded is like, in [0, 1].

        Args:
            starts: where plans begin, shape (n, d).
            plans: places of the steps up to the arrival, shape (n, L, d), L a multiple of `stride`.

        Returns:
            Shape (n,).
        """
        places = plans[:, self.stride - 1 :: self.stride]
        moved = torch.cat((starts[:, None], places), 1).diff(dim=1).norm(dim=-1)
        away = self._nearest(places.flatten(0, 1)).reshape(moved.shape)
        strayed: Tensor = (moved > self.far) | (away > self.away)
        return strayed.double().mean(1)


class EarliestArrival:
    """Plans for many tasks side by side, each with an arrival of its own.

    Args:
        draw: from the number of the plan, observations (n, D), goals (n, G), and L to plans
            (n, H, D + A) of all tasks, which rest at the goal from step L on.
        strayed: from observations and the first L steps of plans to the share of steps that cannot
            be (`Recorded.strayed`), shape (n,).
        arrivals: the L to choose from, rising; later plans aim at what is left of one.
        every: steps from plan to plan.
        most: largest share of strayed steps of a plan that will do.
    """

    def __init__(
        self,
        draw: Callable[[int, Tensor, Tensor, int], Tensor],
        strayed: Callable[[Tensor, Tensor], Tensor],
        arrivals: Sequence[int],
        *,
        every: int,
        most: float = 0.0,
    ) -> None:
        self.draw, self.strayed = draw, strayed
        self.arrivals, self.every, self.most = tuple(arrivals), every, most
        self.left: Tensor | None = None

    def __call__(self, number: int, observations: Tensor, goals: Tensor) -> Tensor:
        """A plan for each task, shape (n, H, D + A)."""
        n, least = len(goals), self.arrivals[0]
        worst = torch.full((n,), torch.inf, dtype=torch.float64)
        chosen, plans = torch.zeros(n, dtype=torch.int64), torch.empty(0)

        def attempt(left: int, rows: Tensor) -> None:
            nonlocal plans
            drawn = self.draw(number, observations, goals, left)
            share = self.strayed(observations, drawn[:, :left])
            better = rows & (share <= worst)  # of equals the later one: there is more time
            if not len(plans):
                plans = drawn
            plans = torch.where(better[:, None, None], drawn, plans)
            worst[better], chosen[better] = share[better], left

        if self.left is not None and number:
            left = (self.left - self.every).clamp(min=least)
            for value in sorted(set(left.tolist())):
                attempt(value, left == value)
        for value in self.arrivals:
            if (open_ := worst > self.most).any():
                attempt(value, open_)
        self.left = chosen
        return plans
