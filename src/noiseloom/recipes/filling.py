"""Filling in: known tokens stay at one time, and the others are drawn beside them.

A model with a time per token needs no training of its own for it: what is known is held, at the
time at which it reads what is finished, and the plan is of what is drawn.
"""

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor, nn

from noiseloom.causality import is_causal, warn_of_known_after
from noiseloom.data.templates import check_known
from noiseloom.diffusion import GaussianDiffusion
from noiseloom.noise import Schedule
from noiseloom.plan import SamplingPlan
from noiseloom.rng import Rng
from noiseloom.sampling import Solver, Step, sample
from noiseloom.shapes import Cond

__all__ = ["Filling", "beside", "check_differences", "check_gaps", "check_window", "same_gaps"]


class Filling(Protocol):
    """What is asked of a recipe."""

    @property
    def forcing(self) -> str:
        """Times of the tokens in training."""

    @property
    def held_at(self) -> float:
        """The time at which known tokens are held."""

    def plan_beside(self, schedule: Schedule, known: list[int]) -> SamplingPlan:
        """The plan of the tokens that are not known, among those that are."""

    def make_solver(self) -> Solver:
        """How a move is made."""


def beside(
    recipe: Filling,
    denoiser: nn.Module,
    diffusion: GaussianDiffusion,
    clean: Tensor,
    held: Tensor,
    cond: Cond,
    rng: Rng,
) -> Iterator[Step[Tensor]]:
    """The sampling loop of the tokens that are not known.

    Args:
        recipe: says the plan, the solver, and at which time known tokens are held.
        denoiser: that is asked.
        diffusion: what noise is.
        clean: tokens, shape (B, T, F); of those that are not known the numbers are of no account.
        held: which are known, bool, shape (T,).
        cond: what the denoiser is told.
        rng: a key for each sample.
    """
    x, at = torch.empty_like(clean), recipe.held_at
    known = clean[:, held]
    if at > 0 and known.shape[1]:
        times = torch.full((1, known.shape[1]), at, device=clean.device)
        known = diffusion.corrupt(known, times, rng.fold("stabilisation"))
    x[:, held] = known
    x[:, ~held] = diffusion.prior(clean[:, ~held], rng.fold("prior"))
    plan = recipe.plan_beside(diffusion.schedule, held.nonzero()[:, 0].tolist())
    solver = recipe.make_solver()
    return sample(denoiser, diffusion, plan, x, cond=cond, rng=rng, solver=solver)


def check_gaps(recipe: Filling, denoiser: nn.Module, held: Tensor) -> None:
    """Refuse what a model has learnt nothing for, and warn of what cannot act.

    Args:
        recipe: of the model.
        denoiser: the model.
        held: tokens that are known, bool, shape (T,).

    Raises:
        ValueError: a model that has not seen such tokens beside those that it draws.

    Warns:
        UserWarning: tokens that are known after others that are not, and a network that is causal.
    """
    follows = bool((held[1:] & ~held[:-1]).any())
    causal = is_causal(denoiser)
    if recipe.forcing == "full-sequence":
        raise ValueError(
            "a model of full sequences has seen one time for all tokens, and none that is known "
            "beside others: train with --forcing independent to fill in"
        )
    if follows and recipe.forcing == "teacher-forcing" and not causal:
        raise ValueError(
            "a model that is teacher-forced has seen nothing but noise after what it draws: train "
            "with --forcing independent to fill in between what is known"
        )
    if follows and causal:
        warn_of_known_after(stacklevel=3)


def same_gaps(known: Tensor) -> Tensor:
    """What is known, bool, shape (T,), of samples of which all know the same, (B, T).

    Raises:
        ValueError: they do not.
    """
    if known.ndim != 2 or (known != known[:1]).any():
        raise ValueError(
            "samples that are filled in together have the same gaps, known of shape (B, T) with "
            f"equal rows: got shape {tuple(known.shape)}"
        )
    return known[0]


def check_differences(state: str) -> None:
    """Raise ValueError for tokens that are differences.

    What is known after a gap says what those in it add up to, and no token holds a sum.
    """
    if state == "differences":
        raise ValueError(
            "this model's tokens are differences, and what is known after a gap says what they add "
            "up to, which no token holds: train with --state values to fill in"
        )


def check_window(values: Tensor, known: Tensor, tokens: int, columns: int, lead: int) -> None:
    """Check a window of a series that is to be filled in.

    Args:
        values: shape (B, n, D).
        known: which of its steps are known, bool, shape (n,).
        tokens: T of the model.
        columns: D of the model.
        lead: the first steps, by whose mean size all are measured. In training it is 1 in their
            tokens, so that those that are known would say what the others are.

    Raises:
        ValueError: another shape, n > T, all or nothing known, or gaps in the first steps.
    """
    if values.shape[1:] != (len(known), columns) or len(known) > tokens:
        raise ValueError(
            f"what is filled in has at most {tokens} steps of {columns} columns, got values of "
            f"shape {tuple(values.shape)}, of which {len(known)} steps are said to be known or not"
        )
    check_known(known, "step")
    if not known[:lead].all():
        raise ValueError(
            f"the first {lead} steps have gaps, and their mean size is what all are measured by: "
            "give whole steps before the gaps"
        )
