"""What codes do for a model: its loss, its paths and what they cost, told and not.

Samples are told codes of held-out data ("oracle", as good as those of any prior), codes of the
run's prior ("generated"), or none; each with the class of the same held-out sample, if the model is
told classes.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from noiseloom.curvature import flow_geometry
from noiseloom.data.split import Set
from noiseloom.latents import Latent
from noiseloom.plan import SamplingPlan
from noiseloom.recipes.by_calls import unled
from noiseloom.recipes.coded import Coded
from noiseloom.recipes.recipe import Facts, Given, Parts
from noiseloom.rng import Rng
from noiseloom.sampling import heun
from noiseloom.shapes import Cond

__all__ = [
    "code_sources",
    "code_times",
    "error",
    "errors",
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
        denoiser = unled(recipe, given).make_denoiser(parts.denoiser, cond).eval()
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


def _on(values: Mapping[str, Tensor], parts: Parts) -> dict[str, Tensor]:
    device = next(parts.denoiser.parameters()).device
    return {name: value.to(device) for name, value in values.items()}
