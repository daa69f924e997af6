"""Samples of a model with codes by few evaluations of its network, counted, whatever it is told."""

import itertools
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from noiseloom.latents import Latent
from noiseloom.recipes.coded import Coded
from noiseloom.recipes.recipe import Facts, Given, Parts
from noiseloom.rng import Rng
from noiseloom.training.precision import in_bfloat16, networks

__all__ = ["Compared", "by_evaluations", "in_calls", "unled"]

_BATCH = 250


def in_calls(
    recipe: Coded, parts: Parts, facts: Facts, given: Given, calls: Sequence[int], count: int = 1
) -> list[tuple[Coded, int]]:
    """Recipes whose samples take about so many evaluations of the network, and what they take.

    Guidance takes more than one a row, and Heun two but where a row ends at time 0, as several do
    with an overshoot. Those of guidance are counted, in a draw by two rows, which is also what a
    device needs before it can be timed. Where no codes are told there is no guidance to them.
    Restarts and rows that are made several times are left out: their calls are no matter of the
    rows of the plan alone, and are asked for by options of their own.

    Args:
        recipe: of the run.
        parts: of the run.
        facts: of the model.
        given: what samples are told.
        calls: evaluations that are wanted of a sample, >= 1 each.
        count: samples that are drawn to count by, if as many are given.
    """
    plain = unled(replace(recipe, codes="none", restarts=(), resample=1), given)
    some, counted = {name: value[:count] for name, value in given.items()}, [0]
    count = len(some["label"])
    keys = Rng(0).samples(count, device=next(parts.denoiser.parameters()).device)

    def add(module: torch.nn.Module, args: tuple[Tensor, ...]) -> None:
        counted[0] += len(args[0])  # guidance may be one call with twice the batch

    model = parts.denoiser
    told = model.denoiser if isinstance(model, Latent) else model
    hook = told.register_forward_pre_hook(add)
    try:
        deque(replace(plain, sampling_steps=2).draw(parts, facts, some, keys), maxlen=0)
    finally:
        hook.remove()
    fewest = 2 if plain.plan == "karras" else 1
    branches = counted[0] // count // _moves(replace(plain, sampling_steps=2), parts)
    options = [replace(plain, sampling_steps=rows) for rows in range(fewest, max(calls) + 2)]
    took = [branches * _moves(option, parts) for option in options]
    found = []
    for wanted in calls:
        # Of two that are as near the one with an even number of rows.
        away = [(abs(n - wanted), (fewest + i) % 2) for i, n in enumerate(took)]
        nearest = away.index(min(away))
        found.append((options[nearest], took[nearest]))
    return found


def _moves(recipe: Coded, parts: Parts) -> int:
    """Evaluations that a plan takes by its solver without guidance: Heun's two, one to time 0."""
    ends = recipe.make_plan(parts.diffusion.schedule).s
    double = recipe.sampler.startswith("heun")
    return len(ends) + (int((ends > 0).sum()) if double else 0)


@dataclass(frozen=True, eq=False)
class Compared:
    """Samples that were told one kind of codes, by one number of evaluations.

    Attributes:
        kind: of the codes.
        wanted: the evaluations that were asked for, the same number for every kind.
        calls: those that a sample took, the number nearest to it where guidance takes two a row.
        samples: decoded, on the CPU.
        seconds: that they took.
    """

    kind: str
    wanted: int
    calls: int
    samples: Tensor
    seconds: float

    @property
    def name(self) -> str:
        """What their metrics end in: KIND_WANTED."""
        return f"{self.kind}_{self.wanted}"

    def costs(self) -> dict[str, float]:
        """calls_KIND_WANTED, what a sample took, where that is not what was asked for."""
        return {f"calls_{self.name}": float(self.calls)} if self.calls != self.wanted else {}


@torch.no_grad()
def by_evaluations(
    recipe: Coded,
    parts: Parts,
    facts: Facts,
    kinds: Mapping[str, Given],
    rng: Rng,
    *,
    only: Mapping[str, Sequence[int]] | None = None,
) -> Iterator[Compared]:
    """Samples that are told each of some codes, by each of `recipe.evaluations`.

    The fewest evaluations come first, of all kinds in their order, so that what there is of a
    comparison that is interrupted is one, too. All are drawn from the same noise, without restarts
    and without making rows several times (`in_calls`). No kind is timed before it has been drawn
    once.

    Args:
        recipe: of the run.
        parts: of the run.
        facts: of the model.
        kinds: what samples are told, as of `code_sources`.
        rng: one key.
        only: kinds for which not all evaluations are wanted, and which are.
    """
    model = parts.denoiser
    device = next(model.parameters()).device

    def precise() -> AbstractContextManager[None]:
        return in_bfloat16(networks(model), device) if device.type == "cuda" else nullcontext()

    asked: dict[str, list[tuple[Coded, int]]] = {}
    wanted = sorted(set(recipe.evaluations))
    for calls, kind in itertools.product(wanted, kinds):
        given = kinds[kind]
        if calls not in (only or {}).get(kind, wanted):
            continue
        if kind not in asked:
            with precise():
                asked[kind] = in_calls(recipe, parts, facts, given, wanted, _BATCH)
        quick, took = asked[kind][wanted.index(calls)]
        found, began = [], time.perf_counter()
        for start in range(0, len(given["label"]), _BATCH):
            part = {name: value[start : start + _BATCH] for name, value in given.items()}
            keys = rng.samples(len(part["label"]), start, device)
            with precise():
                *_, last = quick.draw(parts, facts, part, keys)
            found.append(quick.decode(parts, last.result, part).cpu())
        seconds = time.perf_counter() - began
        yield Compared(kind, calls, took, torch.cat(found), seconds)


def unled(recipe: Coded, given: Given) -> Coded:
    """A recipe without guidance to codes, where none are told."""
    return recipe if "codes" in given else replace(recipe, code_guidance=1.0)
