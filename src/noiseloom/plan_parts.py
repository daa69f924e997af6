"""Plans for a state of several parts, each of which becomes certain in an order of its own."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from noiseloom.plan import SamplingPlan
from noiseloom.plan_file import read_parts, write_parts
from noiseloom.shapes import State, parts_of

__all__ = ["PartsPlan"]


@dataclass(frozen=True, eq=False)
class PartsPlan:
    """A plan for each part of a state that is a dict: row i moves every part by its own row i.

    It has no `joint`, which each of its plans has: whether rows that move several parts bias the
    samples depends on which part sees which, and only the denoiser knows that. `among` is of one
    part's tokens, and so of its plan.

    Args:
        plans: by name, all with the same number of rows. `beside` and `in_turn` make them so.

    Example:
        >>> text, image = SamplingPlan.autoregressive(2, 3), SamplingPlan.uniform(4)
        >>> print(PartsPlan.in_turn({"text": text, "image": image}))
        PartsPlan of 10 rows: text, 3 tokens, from 1 to 0; image, from 1 to 0
    """

    plans: Mapping[str, SamplingPlan]

    def __post_init__(self) -> None:
        object.__setattr__(self, "plans", dict(self.plans))  # the caller's may change
        if not self.plans:
            raise ValueError("a plan of parts needs one part or more, by name, and has none")
        sizes = {name: len(plan) for name, plan in self.plans.items()}
        if len(set(sizes.values())) != 1:
            raise ValueError(
                f"the plans of parts need one and the same number of rows, got {sizes}: "
                "PartsPlan.beside makes the shorter ones wait"
            )

    @classmethod
    def beside(
        cls, plans: Mapping[str, SamplingPlan], *, delays: Mapping[str, int] | None = None
    ) -> Self:
        """All parts at once; those that begin later, or end earlier, wait where they are.

        Args:
            plans: by name, of any numbers of rows.
            delays: by name, rows before a part begins, >= 0; none for those that are not named.

        Raises:
            TypeError: a delay that is no whole number.
            ValueError: no parts, a delay below 0, or of a part without a plan.
        """
        delays = dict(delays or {})
        for name, delay in delays.items():
            if not isinstance(delay, Integral) or isinstance(delay, bool):
                raise TypeError(f"the delay of {name!r} is a whole number of rows, got {delay!r}")
            if name not in plans or delay < 0:
                raise ValueError(
                    f"a delay is a number of rows >= 0 of one of {sorted(plans)}, got {delay} of "
                    f"{name!r}"
                )
        ends = {name: delays.get(name, 0) + len(plan) for name, plan in plans.items()}
        rows = max(ends.values(), default=0)
        return cls(
            {
                name: _waiting(plan, delays.get(name, 0), rows - ends[name])
                for name, plan in plans.items()
            }
        )

    @classmethod
    def in_turn(cls, plans: Mapping[str, SamplingPlan]) -> Self:
        """One part after the other, in the order of the dict: p(a), p(b | a), and so on."""
        delays, rows = {}, 0
        for name, plan in plans.items():
            delays[name] = rows
            rows += len(plan)
        return cls.beside(plans, delays=delays)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """A plan from what `save` wrote.

        Raises:
            ValueError: the file, and what is wrong in it, are named.
        """
        try:
            return cls(read_parts(Path(path), SamplingPlan))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def save(self, path: str | Path) -> None:
        """Write the plan to a .json file, from which it is loaded to the last bit."""
        write_parts(Path(path), {name: (plan.t, plan.s) for name, plan in self.plans.items()})

    def hold(self, name: str, at: float = 0.0) -> "PartsPlan":
        """Keep a part where it is: what the others follow. Rows in which none of them moves go.

        Some tokens of a part are held by its own plan's `hold`.

        Args:
            name: of the part.
            at: the time it stays at; 0 is clean.

        Raises:
            ValueError: no such part, or no other that moves.
        """
        if name not in self.plans:
            raise ValueError(f"a plan of {sorted(self.plans)} cannot hold {name!r}")
        still = torch.full_like(self.plans[name].t, at)
        plans = {**self.plans, name: SamplingPlan(still, still)}
        moving = torch.stack([_moves(plan) for plan in plans.values()]).any(0)
        if not moving.any():
            raise ValueError(f"holding {name!r} leaves no part to move")
        return PartsPlan({n: SamplingPlan(p.t[moving], p.s[moving]) for n, p in plans.items()})

    def overshoot(self, steps: float) -> "PartsPlan":
        """Every part moves further, by steps of its own (`SamplingPlan.overshoot`)."""
        return PartsPlan({name: plan.overshoot(steps) for name, plan in self.plans.items()})

    def rest(self, at: float) -> "PartsPlan":
        """Let what is done wait at a small time, until one last row takes all parts to their end.

        `SamplingPlan.rest` of all of their tokens: a part that is done waits for the others.

        Args:
            at: the time, in [0, 1); 0 changes nothing.
        """
        rested = self._as_one().rest(at)
        widths = [plan.t[0].numel() for plan in self.plans.values()]
        pairs = zip(*(torch.split(v, widths, 1) for v in (rested.t, rested.s)), strict=True)
        named = zip(self.plans.items(), pairs, strict=True)
        return PartsPlan(
            {
                name: SamplingPlan(*(times.reshape(-1, *plan.t.shape[1:]) for times in pair))
                for (name, plan), pair in named
            }
        )

    def check_whole(self) -> None:
        """Raise ValueError, which names the first wrong part and token, if it is not `whole`."""
        for name, plan in self.plans.items():
            try:
                plan.check_whole()
            except ValueError as error:
                raise ValueError(f"part {name!r}: {error}") from error

    @property
    def whole(self) -> bool:
        """Whether it leads all of every part from time 1 to 0."""
        return all(plan.whole for plan in self.plans.values())

    @property
    def gapless(self) -> bool:
        """Whether each row begins where the one before it ends, in every part."""
        return all(plan.gapless for plan in self.plans.values())

    def _as_one(self) -> SamplingPlan:
        """The plan with all times of a row side by side, shape (N, K)."""
        plans = self.plans.values()
        t, s = (
            torch.cat([times.reshape(len(self), -1) for times in kind], 1)
            for kind in ([plan.t for plan in plans], [plan.s for plan in plans])
        )
        return SamplingPlan(t, s)

    def rows(self, x: State) -> Iterator[tuple[dict[str, Tensor], dict[str, Tensor]]]:
        """The rows as times for a state, by name.

        Raises:
            ValueError: the state has other parts.
        """
        parts = parts_of(self.plans, x)
        for rows in zip(*(self.plans[n].rows(part) for n, part in parts.items()), strict=True):
            t, s = (dict(zip(parts, times, strict=True)) for times in zip(*rows, strict=True))
            yield t, s

    def __len__(self) -> int:
        return len(next(iter(self.plans.values())))

    def heatmap(self, width: int = 64, height: int = 16) -> str:
        """The plans as pictures side by side, as `SamplingPlan.heatmap` draws them.

        Args:
            width: at most so many columns of a part, >= 1.
            height: at most so many lines, >= 1.
        """
        pictures = (plan.heatmap(width, height).split("\n") for plan in self.plans.values())
        return "\n".join("│".join(line) for line in zip(*pictures, strict=True))

    def __str__(self) -> str:
        parts = "; ".join(f"{name}, {plan.extent}" for name, plan in self.plans.items())
        return f"PartsPlan of {len(self)} rows: {parts}"


def _moves(plan: SamplingPlan) -> Tensor:
    """Which rows move anything, bool, shape (N,)."""
    return (plan.s != plan.t).reshape(len(plan), -1).any(1)


def _waiting(plan: SamplingPlan, before: int, after: int) -> SamplingPlan:
    """With rows before and after it in which nothing moves."""
    first = plan.t[:1].expand(before, *plan.t.shape[1:])
    last = plan.s[-1:].expand(after, *plan.s.shape[1:])
    return SamplingPlan(torch.cat((first, plan.t, last)), torch.cat((first, plan.s, last)))
