"""Acting by plans: plan from where one is, follow the plan for a while, plan again."""

import operator
import time
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

__all__ = ["Replanning", "goal_reward", "pd_action"]

_GAIN, _DAMPING = 10.0, 2.0
_SMOOTH = 0.01  # keeps the distance differentiable where it is 0


class Replanning:
    """A policy (`data.maze.Policy`) for many tasks side by side, with its own clock.

    In every `every`-th step all tasks plan together from what is observed; up to the next plan,
    step h of it is followed in step h, whatever happens.

    Args:
        plan: from the number of the plan (0, 1, ...), observations (n, D) and goals (n, G) to steps
            (n, H, D + A): o_{t+1} and a_t. A new episode needs a new policy.
        every: steps from plan to plan, at most H.
        control: carry out the planned actions, or act on the way to the planned observations
            (positions) by `pd_action`.

    Attributes:
        plans: number of plans so far.
        steps: number of steps so far.
        seconds: that planning has taken.

    Raises:
        TypeError: an `every` that is not whole.
        ValueError: one below 1, another control, a first step in which no plan is made, plans that
            are shorter than `every`, or not finite; a latency before the first.
    """

    def __init__(
        self,
        plan: Callable[[int, Tensor, Tensor], Tensor],
        *,
        every: int,
        control: Literal["actions", "positions"] = "actions",
    ) -> None:
        if control not in ("actions", "positions"):
            raise ValueError(f"control: choose from actions, positions, not {control!r}")
        try:
            whole = operator.index(every)
        except TypeError:
            raise TypeError(f"plans follow after a whole number of steps, got {every!r}") from None
        if whole < 1:
            raise ValueError(f"plans follow after 1 step or more, got {every}")
        self.plan = plan
        self.every = whole
        self.control = control
        self.plans = self.steps = 0
        self.seconds = 0.0
        self._planned = torch.empty(0)

    def __call__(self, step: int, observations: Tensor, goals: Tensor | None = None) -> Tensor:
        """The actions of a step; goals are those of `plan`, None for none (n, 0)."""
        if step % self.every == 0:
            if goals is None:
                goals = observations.new_empty(len(observations), 0)
            began = time.perf_counter()
            self._planned = self.plan(self.plans, observations, goals)
            self.seconds += time.perf_counter() - began
            self.plans += 1
            if self._planned.shape[1] < self.every:
                raise ValueError(
                    f"a plan of {self._planned.shape[1]} steps cannot be followed for {self.every}:"
                    " plan again earlier (--replan), or plan further (--horizon)"
                )
            if not self._planned.isfinite().all():
                raise ValueError("a plan is not finite: lower the scale of the guidance")
        elif not self.plans:
            raise ValueError(
                f"a policy follows a plan, and none has been made at step {step}: begin at step 0"
            )
        self.steps += 1
        now = self._planned[:, step % self.every]
        D = observations.shape[1]
        if self.control == "actions":
            return now[:, D:]
        return pd_action(observations, now[:, :D])

    @property
    def latency(self) -> dict[str, float]:
        """Milliseconds of planning: "ms_per_plan", and spread over all steps "ms_per_step"."""
        if not self.plans:
            raise ValueError("no plan has been made, so there is no latency: act first")
        total = 1000 * self.seconds
        return {"ms_per_plan": total / self.plans, "ms_per_step": total / self.steps}


def pd_action(observations: Tensor, targets: Tensor) -> Tensor:
    """The force of a point mass on the way to a target: a = clip(10 (p' - p) + 2 (v' - v)).

    Args:
        observations: positions p and velocities v, shape (n, 2 d).
        targets: p' and v' of a hundredth of a second later, same shape.
    """
    position, velocity = (targets - observations).chunk(2, -1)
    return (_GAIN * position + _DAMPING * velocity).clamp(-1, 1)


def goal_reward(positions: Tensor, goals: Tensor) -> Tensor:
    """How near a plan keeps to its goal: r = -(1 / H) sum_h sqrt(|p_h - g|^2 + 0.01^2).

    The paper's reward, with its sum over all steps so that any of them may be the arrival, as a
    mean, so that a scale serves every horizon; its tanh and weights of a later release are left
    out. It is finite, and so is its gradient, of norm at most 1 / H for each step.

    Args:
        positions: p_h, shape (B, H, d), in deviations of the data.
        goals: g, shape (B, d), in the same units; NaN where anything will do.

    Returns:
        Shape (B,).

    References:
        B. Chen et al., 2024, Diffusion Forcing, arXiv 2407.01392, Section 3.4 and Appendix C.5.
    """
    away = (positions - goals[:, None]).masked_fill(goals.isnan()[:, None], 0).square().sum(-1)
    return -(away + _SMOOTH**2).sqrt().mean(1)
