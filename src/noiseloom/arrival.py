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

    def strayed(self, starts: Tensor, plans: Tensor, arrive: Tensor) -> Tensor:
        """Share of the steps of each plan that nothing recorded is like, in [0, 1].

        Args:
            starts: where plans begin, shape (n, d).
            plans: places, shape (n, H, d), H a multiple of `stride`.
            arrive: the steps of each plan up to its arrival, int64, shape (n,), at least `stride`;
                those beyond are not looked at.

        Returns:
            Shape (n,).
        """
        steps = torch.arange(self.stride, int(arrive.max()) + 1, self.stride)
        places = plans[:, steps - 1]
        moved = torch.cat((starts[:, None], places), 1).diff(dim=1).norm(dim=-1)
        counted = steps <= arrive[:, None]
        away = torch.zeros_like(moved)
        away[counted] = self._nearest(places[counted]).to(away)
        strayed: Tensor = ((moved > self.far) | (away > self.away)) & counted
        return strayed.sum(1) / counted.sum(1).double()


class EarliestArrival:
    """Plans for many tasks side by side, each with an arrival of its own.

    A plan is one draw for all, each task with what is left of its arrival, and where that fails
    another of all arrivals at once, for these tasks. Before, arrivals were tried one after the
    other: the same choice, in up to a draw for each.

    Args:
        draw: from the number of the plan, observations (n, D), goals (n, G), arrivals L (n,), and
            which task each is of (n,), to plans (n, H, D + A), which rest at the goal from step L
            on. Those of a task have the same noise.
        strayed: from observations, plans and L to the share of the first L steps that cannot be
            (`Recorded.strayed`), shape (n,).
        arrivals: the L to choose from, rising; later plans aim at what is left of one.
        every: steps from plan to plan.
        most: largest share of strayed steps of a plan that will do.
    """

    def __init__(
        self,
        draw: Callable[[int, Tensor, Tensor, Tensor, Tensor], Tensor],
        strayed: Callable[[Tensor, Tensor, Tensor], Tensor],
        arrivals: Sequence[int],
        *,
        every: int,
        most: float = 0.0,
    ) -> None:
        self.draw, self.strayed = draw, strayed
        self.arrivals, self.every, self.most = torch.tensor(arrivals), every, most
        self.left: Tensor | None = None

    def __call__(self, number: int, observations: Tensor, goals: Tensor) -> Tensor:
        """A plan for each task, shape (n, H, D + A)."""
        open_ = torch.arange(len(goals))
        chosen = torch.zeros(len(goals), dtype=torch.int64)
        share = torch.full((len(goals),), torch.inf, dtype=torch.float64)
        plans: Tensor | None = None
        if self.left is not None and number:
            chosen = (self.left - self.every).clamp(min=int(self.arrivals[0]))
            plans = self.draw(number, observations, goals, chosen, open_)
            share = self.strayed(observations, plans, chosen)
            open_ = (share > self.most).nonzero()[:, 0]
        if len(open_):
            drawn, arrive, least = self._tried(number, observations, goals, open_)
            better = least <= share[open_]  # of equals the later one: there is more time
            if plans is None:
                plans = drawn
            plans[open_[better]], chosen[open_[better]] = drawn[better], arrive[better]
        self.left = chosen
        assert plans is not None
        return plans

    def _tried(
        self, number: int, observations: Tensor, goals: Tensor, tasks: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Of some tasks the plan for the earliest arrival that will do, its arrival and share.

        If none will do it is the one that strays least, of equals the latest.
        """
        n = len(self.arrivals)
        rows, arrive = tasks.repeat_interleave(n), self.arrivals.repeat(len(tasks))
        here = observations[rows]
        drawn = self.draw(number, here, goals[rows], arrive, rows)
        share = self.strayed(here, drawn, arrive).reshape(-1, n)
        least = n - 1 - share.flip(1).argmin(1)  # the last of the smallest
        will = share <= self.most
        place = torch.where(will.any(1), will.int().argmax(1), least)
        taken = torch.arange(len(tasks)) * n + place
        return drawn[taken], arrive[taken], share.flatten()[taken]
