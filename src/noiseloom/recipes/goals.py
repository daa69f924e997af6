"""How plans of trajectories are led: by an end that is known, by rewards, and made anew as they go.

Nothing of this is in the training but windows whose end is known. A goal is what observations are
to be. One that is partly open leads by guidance, and so do rewards; one that is known whole can be
a plan's known end, since tokens are known as a whole or not.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from noiseloom.conditioning import inside
from noiseloom.encodings import Standardised
from noiseloom.guidance.gradient import Reward
from noiseloom.plan import SamplingPlan
from noiseloom.planning import Replanning, goal_reward
from noiseloom.recipes.forcing import DiffusionForcing, token_plan
from noiseloom.recipes.planning import Leading
from noiseloom.recipes.recipe import Facts, Given, Parts, Task
from noiseloom.rng import Rng

__all__ = ["Goals"]


@dataclass(frozen=True)
class Goals(DiffusionForcing, Leading):
    """Options of plans that are led: those of `DiffusionForcing`, and how (`Leading`).

    Attributes:
        horizon: steps H of a plan, a multiple of `stack`.
        stack: steps of a token.
        context: observations that are known, the present one among them, at most `stack`.
        rewards: model what each step earned, too.
        known_ends: share of the windows of training whose end, 1 to T - 2 tokens, is known: what is
            observed, for a `deadline`. null for none, but half of them in mazes.
    """

    horizon: int = 40
    stack: int = 4
    context: int = 1
    rewards: bool = False
    known_ends: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        Leading.__post_init__(self)
        if self.known_ends is not None and not 0 <= self.known_ends <= 1:
            raise ValueError(f"known_ends is a share of the windows, got {self.known_ends}")
        for name in ("deadline", "known_ends"):
            if getattr(self, name) and not self.sees_the_end:
                raise ValueError(
                    "a plan is made for its end by a network that sees it: use network "
                    f"bidirectional and forcing independent or full-sequence, or {name} 0"
                )
        if self.deadline and self.tokens < 3:
            raise ValueError(
                f"a plan with a known end has at least two tokens, got 1 of {self.stack} steps: "
                "raise horizon, or use a smaller stack, or deadline 0"
            )
        if self.deadline and not self.share_of_ends:
            raise ValueError(
                "a deadline is for models that were trained on windows with a known end: train "
                "with known_ends 0.5, or lead by goal_guidance, with deadline 0"
            )
        try:
            self.completion()
        except ValueError as error:
            raise ValueError(f"future_plan: {error}") from error

    @property
    def idle(self) -> Mapping[str, str]:
        """What is of guidance, or of its futures, where there are none."""
        return {**super().idle, **self.idle_by_guidance(self.rewards)}

    def unused(self, task: Task, *, goal: bool = False) -> Mapping[str, str]:
        """What is for plans that are made anew, by `planner`, and of a goal where none is given."""
        found = {**self.idle, "replan": "plans that are drawn once, and not made anew"}
        if not goal:
            found["deadline"] = "plans without a goal"
            if self.seek in ("auto", "rewards"):
                both = dict.fromkeys(
                    ("seek", "goal_rounds"), "plans without a goal, led by rewards"
                )
                found = both | found
        return found

    @property
    def ahead(self) -> int:
        """H, steps of a plan."""
        return self.horizon

    @property
    def tokens(self) -> int:
        """The known token, and those of a plan."""
        return 1 + self.ahead // self.stack

    @property
    def every(self) -> int:
        """The steps that `replan` stands for."""
        usual = self.stack * max(round(self.ahead / self.stack / 6), 1)
        return usual if self.replan is None else self.replan

    @property
    def sees_the_end(self) -> bool:
        """Whether a token may depend on later ones that are known."""
        return self.network == "bidirectional" and self.forcing != "teacher-forcing"

    @property
    def share_of_ends(self) -> float:
        """The share that `known_ends` stands for."""
        return self.known_ends or 0.0

    def with_ends(self, t: Tensor, counted: Tensor, rng: Rng) -> tuple[Tensor, Tensor]:
        """Times of windows, a share of which is as plans are.

        Their end, 1 to T - 2 tokens, is known: clean, and does not count. The others are all at one
        time, as in a plan of the whole. Independent times hardly ever show either, and models that
        were trained on them alone plan no long ways (docs/results.md).
        """
        if not self.share_of_ends or not self.sees_the_end or self.tokens < 3:
            return t, counted
        rng, shape = rng.fold("end"), (len(t),)
        told = rng.fold("told").uniform(shape, device=t.device)[:, None] < self.share_of_ends
        length = 1 + rng.fold("length").integers(self.tokens - 2, shape, device=t.device)
        place = torch.arange(self.tokens, device=t.device)
        known = told & (place >= self.tokens - length[:, None])
        t = torch.where(told & (place > 0), t[:, 1:2], t)
        return t.masked_fill(known, 0.0), counted & ~known

    def end_columns(self, facts: Facts) -> int:
        """How many of a step's columns are known of an end: what is observed."""
        return int(facts["observations"])

    def shown(self, clean: Tensor, t: Tensor, counted: Tensor | None, facts: Facts) -> Tensor:
        """The tokens of training: of a known end, what is not known of it is at its mean."""
        columns = len(facts["columns"])
        if not self.share_of_ends or counted is None or self.end_columns(facts) == columns:
            return clean
        end = (t == 0) & ~counted & (torch.arange(self.tokens, device=t.device) > 0)
        column = torch.arange(clean.shape[-1], device=t.device) % columns
        return clean.masked_fill(end[..., None] & (column >= self.end_columns(facts)), 0.0)

    def ending(self, plan: int) -> int:
        """How many tokens at the end of an episode's plan number 0, 1, ... are known."""
        if not self.deadline:
            return 0
        left = max(self.deadline * self.ahead - plan * self.every, self.ahead / 4)
        steps = min(left, self.deadline * self.ahead)
        moving = math.ceil(round(steps / self.stack, 9))  # 0.55 * 200 is a little above 110
        return self.tokens - 1 - min(moving, self.tokens - 2)

    def goals(self, given: Given, D: int) -> Tensor | None:
        """What D observations are to be, (B, D), NaN where that is open; None for no goal.

        Raises:
            ValueError: goals of another shape, or infinite.
        """
        goal = given.get("goal")
        if goal is None:
            return None
        if goal.ndim != 2 or goal.shape[1] != D or goal.isinf().any():
            raise ValueError(
                f"a goal has a number for each of the {D} observations, or NaN where it is open, "
                f"got shape {tuple(goal.shape)}{', with inf' if goal.isinf().any() else ''}"
            )
        return goal

    def names(self, facts: Facts) -> list[str]:
        """Of what is observed, for people."""
        return list(facts["columns"][: facts["observations"]])

    def start(self, numbers: Tensor) -> Tensor:
        """An observation from what people say of its columns, NaN where they said nothing.

        Raises:
            ValueError: something is missing.
        """
        if numbers.isnan().any():
            said = int((~numbers.isnan()).sum())
            raise ValueError(f"a start has {len(numbers)} numbers, one for each column, got {said}")
        return numbers

    def aim(self, numbers: Tensor | None) -> Tensor | None:
        """The goal that plans are given, from what people say of the columns, if they do."""
        return numbers

    def end(self, parts: Parts, given: Given, facts: Facts) -> tuple[Tensor, Tensor] | None:
        """What a plan rests as: a token (B, F), and how many of them, (B,); None for an open end.

        They are known from the deadline on, or after {"arrive" (B,)} steps.

        Raises:
            ValueError: a goal that is partly open, or as `goals` raises.
        """
        goals = self.goals(given, facts["observations"])
        if goals is None or not self.deadline:
            return None
        rest = self.at_rest(goals, facts)
        if rest[:, : self.end_columns(facts)].isnan().any():
            raise ValueError(
                "a known end needs every observation of the goal: give all of them, or leave the "
                "end open with deadline 0, and use goal_guidance"
            )
        assert isinstance(parts.codec, Standardised)
        mean = rest.new_tensor(parts.codec.mean[: rest.shape[1]])
        rest = torch.where(rest.isnan(), mean, rest)
        token = parts.codec.encode(rest.repeat(1, self.stack)[:, None])[:, 0]
        if "arrive" in given:
            counts = [self.tokens - 1 - int(n) // self.stack for n in given["arrive"].tolist()]
        else:
            plan = int(given["plan"][0]) if "plan" in given else 0
            counts = [self.ending(plan)] * len(goals)
        return token, torch.tensor(counts)

    def at_rest(self, goals: Tensor, facts: Facts) -> Tensor:
        """A step that rests at goals (B, D): (B, columns), NaN for what is not known of it."""
        unknown = goals.new_full((len(goals), len(facts["columns"]) - goals.shape[1]), math.nan)
        return torch.cat((goals, unknown), 1)

    def guide(self, trained: nn.Module, parts: Parts, given: Given, facts: Facts) -> nn.Module:
        """A trained denoiser, led by the gradient of a reward; so is what it is told."""
        if self.goal_guidance == "none":
            return trained
        reward = self.reward(parts, self.goals(given, facts["observations"]))
        plan = self.completion()
        return inside(trained, lambda core: self.lead(core, parts.diffusion, reward, plan))

    def completion(self) -> SamplingPlan:
        """The plan by which futures are completed, of `future_plan` and `future_steps`."""
        name = self.future_plan
        if name == "auto":
            name = "full-sequence" if self.network == "bidirectional" else "autoregressive"
        usual = {"full-sequence": 16, "autoregressive": 4}.get(name, 8)
        return token_plan(name, self.future_steps or usual, self.tokens)

    def reward(self, parts: Parts, goals: Tensor | None) -> Reward:
        """What guidance climbs, of clean tokens.

        Raises:
            ValueError: no goal is given, or no rewards are modelled, where they are wanted.
        """
        kind = self.seek
        if kind == "auto":
            kind = "rewards" if goals is None else "goal"
            if goals is None and not self.rewards:
                raise ValueError(
                    "guidance leads to a goal, or to rewards that are modelled: give "
                    "a goal, or train with rewards"
                )
        if kind != "rewards" and goals is None:
            raise ValueError(f"seek {kind} needs a goal")
        if kind != "goal" and not self.rewards:
            raise ValueError(f"seek {kind} is of models of rewards: train with rewards")
        aims = None
        if goals is not None:
            assert isinstance(parts.codec, Standardised)
            D = goals.shape[1]
            mean, std = (goals.new_tensor(v[:D]) for v in (parts.codec.mean, parts.codec.std))
            aims = (goals - mean) / std

        def reward(tokens: Tensor) -> Tensor:
            steps, total = self.steps_of(tokens), tokens.new_zeros(len(tokens))
            if kind != "rewards":
                assert aims is not None
                total = total + goal_reward(steps[..., : aims.shape[1]], aims)
            return total if kind == "goal" else total + steps[..., -1].mean(1)

        return reward

    def steps_of(self, tokens: Tensor) -> Tensor:
        """The steps of a plan, (B, H, columns), from all tokens (B, T, F), in their units."""
        return tokens[:, 1:].reshape(len(tokens), self.ahead, -1)

    def planner(self, draw: Callable[..., Tensor]) -> Replanning:
        """A policy for a simulator of one's own, which makes a plan with `draw` as it goes.

        Args:
            draw: from what is known to plans, such as `run.samples`.

        Raises:
            ValueError: a model that plans from several observations, or no further than `replan`.
        """
        if self.context != 1:
            raise ValueError(
                f"the loop plans from one observation, and the model from {self.context}: train "
                "with context 1, or call samples with what is known"
            )
        if self.every > self.ahead:
            raise ValueError(f"replan must be at most horizon = {self.ahead}, got {self.every}")

        def plan(number: int, observations: Tensor, goals: Tensor) -> Tensor:
            given = {"observations": observations[:, None]}
            given["plan"] = torch.full((len(observations),), number)
            if goals.shape[1]:
                given["goal"] = goals
            steps = draw(given)
            return steps[..., : steps.shape[-1] - self.rewards]

        return Replanning(plan, every=self.every)


def side_by_side(plans: Sequence[SamplingPlan]) -> SamplingPlan:
    """One plan in which each sample has its own, of rows (1, T); who is done before others waits.

    Its rows are (B, T). A sample is drawn as by its own plan.
    """
    most = max(map(len, plans))

    def joined(name: str) -> Tensor:
        each = [getattr(plan, name)[:, 0] for plan in plans]
        waits = [part.new_zeros(most - len(part), part.shape[1]) for part in each]
        return torch.stack([torch.cat(pair) for pair in zip(each, waits, strict=True)], 1)

    return SamplingPlan(joined("t"), joined("s"))
