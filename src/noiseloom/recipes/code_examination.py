"""What codes do for a model: its loss, its samples by few evaluations, its paths, told and not.

Samples are told codes of held-out data ("oracle", as good as those of any prior), codes of the
run's prior ("generated"), or none; each with the class of the same held-out sample, if the model is
told classes.
"""

import itertools
import math
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from noiseloom.curvature import flow_geometry
from noiseloom.data.split import Set
from noiseloom.latents import Latent
from noiseloom.plan import SamplingPlan
from noiseloom.recipes.coded import Coded
from noiseloom.recipes.recipe import Facts, Given, Parts
from noiseloom.rng import Rng
from noiseloom.sampling import heun
from noiseloom.shapes import Cond
from noiseloom.training.precision import in_bfloat16, networks

__all__ = [
    "Compared",
    "by_evaluations",
    "code_sources",
    "code_times",
    "error",
    "errors",
    "in_calls",
    "paths",
]

_BATCH = 250
_ROWS = 9  # of the plan by which paths are followed, beside the levels looked at


def code_sources(
    recipe: Coded, parts: Parts, facts: Facts, data: Set, rows: Tensor, rng: Rng
) -> dict[str, Given]:
    """What samples are told, by where their codes are from: generated, none, oracle (held out).

    They come in the order in which one wants to know them. A model whose codes were never dropped
    in training does not know what none means, and has no such samples.

    Args:
        recipe: of the run.
        parts: whose prior, if there is one, draws the generated codes.
        facts: of the model.
        data: held-out samples.
        rows: int64, shape (n,): which of them; one may be there several times.
        rng: one key.
    """
    labels = {"label": data[rows]["label"]}
    found: dict[str, Given] = {"none": labels} if recipe.knows_none else {}
    if isinstance(parts.denoiser, Latent):
        if parts.prior is not None:
            cond = _on(recipe.cond(labels["label"], facts), parts)
            drawn = recipe.generated(parts.prior, cond, len(rows), rng.fold("generated"))
            found = {"generated": {**labels, "codes": drawn.cpu()}, **found}
        codes = recipe.encoded(parts, facts, data, rng.fold("oracle"), rows=rows).codes
        found["oracle"] = {**labels, "codes": codes}
    return found


def code_times(
    recipe: Coded, parts: Parts, facts: Facts, data: Set, rows: Tensor, rng: Rng
) -> dict[str, float]:
    """What codes cost: ms_encode of the encoder, ms_prior of the prior's draws, each a sample.

    Of the second of two calls, in milliseconds.

    Args:
        recipe: of the run.
        parts: of the run.
        facts: of the model.
        data: held-out samples.
        rows: int64, shape (n,): which of them.
        rng: one key.
    """
    if not isinstance(parts.denoiser, Latent):
        return {}
    prior, labels = parts.prior, data[rows]["label"]

    def encode() -> object:
        return recipe.encoded(parts, facts, data, rng, rows=rows)

    def draw() -> object:
        assert prior is not None
        cond = _on(recipe.cond(labels, facts), parts)
        return recipe.generated(prior, cond, len(rows), rng).cpu()  # which waits for the device

    found = {}
    for name, work in {"ms_encode": encode, **({"ms_prior": draw} if prior else {})}.items():
        work()
        began = time.perf_counter()
        work()
        found[name] = 1000 * (time.perf_counter() - began) / len(rows)
    return found


@torch.no_grad()
def errors(
    recipe: Coded,
    parts: Parts,
    facts: Facts,
    held: Mapping[str, Tensor],
    codes: Tensor | None,
    sigmas: Sequence[float],
    rng: Rng,
) -> dict[str, float]:
    """`error` at some noise levels for true, null and shuffled codes: loss_SIGMA_KIND.

    Codes that are used are worse shuffled than dropped where there is much noise; with little, the
    state tells all. Null ones are left out where training never dropped codes.

    Args:
        recipe: of the run.
        parts: of the run.
        facts: of the model.
        held: a batch of held-out data.
        codes: int64, shape (B, m): theirs; None for a model without.
        sigmas: levels sigma / alpha, > 0.
        rng: one key.
    """
    batch = _on(held, parts)
    clean, cond = recipe.clean(parts, batch), recipe.cond(batch["label"], facts)
    kinds: dict[str, Cond] = {"null": cond} if recipe.knows_none else {}
    model = parts.denoiser
    if codes is not None:
        assert isinstance(model, Latent)
        true = model.given(codes).to(clean.device)
        order = rng.fold("shuffle").permutation(len(codes))
        kinds["true"], kinds["shuffled"] = ({**cond, "codes": c} for c in (true, true[order]))
    return {
        f"loss_{sigma:g}_{name}": error(parts, clean, sigma, told, rng.fold("loss"))
        for sigma in sigmas
        for name, told in kinds.items()
    }


@torch.no_grad()
def error(parts: Parts, clean: Tensor, sigma: float, cond: Cond, rng: Rng) -> float:
    """E |D(x, sigma) - x_0|^2, which for a Gaussian of deviation s is d s^2 sigma^2 / total.

    Args:
        parts: of the run.
        clean: x_0, shape (B, ...), of d numbers each.
        sigma: level sigma / alpha, > 0.
        cond: conditions, batch first.
        rng: one key.
    """
    schedule, found = parts.diffusion.schedule, 0.0
    t = schedule.time(torch.tensor(-2 * math.log(sigma), dtype=torch.float64)).to(clean)
    for start in range(0, len(clean), _BATCH):
        part = clean[start : start + _BATCH]
        told = {name: value[start : start + _BATCH] for name, value in cond.items()}
        x = parts.diffusion.corrupt(part, t, rng.samples(len(part), start, clean.device))
        mean = parts.denoiser(x, t, told)[0].mean
        found += float((mean - part).square().sum())
    return found / len(clean)


def in_calls(
    recipe: Coded, parts: Parts, facts: Facts, given: Given, calls: Sequence[int], count: int = 1
) -> list[tuple[Coded, int]]:
    """Recipes whose samples take about so many evaluations of the network, and what they take.

    Guidance takes more than one a row, and Heun two but for the last. They are counted, in a draw
    by two rows, which is also what a device needs before it can be timed. Where no codes are told
    there is no guidance to them. Restarts and rows that are made several times are left out: their
    calls are no matter of the rows of the plan alone, and are asked for by options of their own.

    Args:
        recipe: of the run.
        parts: of the run.
        facts: of the model.
        given: what samples are told.
        calls: evaluations that are wanted of a sample, >= 1 each.
        count: samples that are drawn to count by, if as many are given.
    """
    plain = _unled(replace(recipe, codes="none", restarts=(), resample=1), given)
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
    double = recipe.sampler.startswith("heun")
    branches = counted[0] // count // (3 if double else 2)
    found = []
    for wanted in calls:
        rows = wanted / branches
        rows = max(1, round((rows + 1) / 2 if double else rows))
        quick = replace(plain, sampling_steps=max(rows, 2) if plain.plan == "karras" else rows)
        rows = quick.sampling_steps
        found.append((quick, branches * (2 * rows - 1 if double else rows)))
    return found


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


def paths(
    recipe: Coded,
    parts: Parts,
    facts: Facts,
    kinds: Mapping[str, Given],
    sigmas: Sequence[float],
    rng: Rng,
    *,
    rows: int | None = None,
) -> dict[str, float]:
    """How paths to samples run, and how fast the functions that make them change there.

        straightness_KIND                 chord by arc, the median over the samples
        curvature_SIGMA_KIND              the median: the mean has a heavy tail; in 1 / |x_0|
        jacobian_denoiser_SIGMA_KIND      Frobenius norm of dD / dy
        jacobian_drift_SIGMA_KIND         and of dG / dy, G = (y - D) / sigma; see `curvature`

    Norms are root mean squares over the samples, of a probe each. Paths are Heun's, by
    Karras' levels and those asked for.

    Args:
        recipe: of the run.
        parts: of the run.
        facts: of the model.
        kinds: what samples are told, as of `code_sources`.
        sigmas: levels sigma / alpha, > 0.
        rng: one key.
        rows: how many of Karras' levels; by default 9, which are few: paths are then those of
            quick samples, and leave the law of the data where they bend.
    """
    found: dict[str, float] = {}
    schedule = parts.diffusion.schedule
    levels = schedule.time(-2 * torch.tensor(sigmas, dtype=torch.float64).log())
    plan = SamplingPlan.karras(rows or _ROWS, schedule)
    # Curvature is a matter of place: between Karras' levels are factors of 3, and a peak.
    times = torch.unique(torch.cat((plan.t, plan.s[-1:], levels))).flip(0)
    plan = SamplingPlan.from_times(times)
    places = [int((times - level).abs().argmin()) for level in levels]
    for kind, given in kinds.items():
        device = next(parts.denoiser.parameters()).device
        cond = recipe.cond(given["label"].to(device), facts)
        cond |= replace(recipe, codes="none").told_codes(parts, cond, given, rng)
        denoiser = _unled(recipe, given).make_denoiser(parts.denoiser, cond).eval()
        keys = rng.samples(len(given["label"]), device=device)
        x = torch.empty(len(given["label"]), *recipe.shape(parts, facts), device=device)
        x = parts.diffusion.prior(x, keys.fold("prior"))
        geometry = flow_geometry(
            denoiser, parts.diffusion, plan, x, keys, cond=cond, solver=heun(math.inf), at=places
        )
        found[f"straightness_{kind}"] = float(geometry.straightness.median())
        for place, sigma in enumerate(sigmas):
            found[f"curvature_{sigma:g}_{kind}"] = float(geometry.median[place])
            for name in ("denoiser", "drift"):
                squares = getattr(geometry.jacobian, name)[place]
                found[f"jacobian_{name}_{sigma:g}_{kind}"] = float(squares.mean().sqrt())
    return found


def _unled(recipe: Coded, given: Given) -> Coded:
    """A recipe without guidance to codes, where none are told."""
    return recipe if "codes" in given else replace(recipe, code_guidance=1.0)


def _on(values: Mapping[str, Tensor], parts: Parts) -> dict[str, Tensor]:
    device = next(parts.denoiser.parameters()).device
    return {name: value.to(device) for name, value in values.items()}
