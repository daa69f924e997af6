"""Runs whose samples are led by guides: what is asked of them, and how it moves what is drawn."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias, cast

import torch
from torch import nn

from noiseloom.conditioning import inside
from noiseloom.context import Guide, GuideEnsemble, GuideOutput
from noiseloom.context.guide import Times
from noiseloom.diffusion import (
    CategoricalDiffusion,
    Diffusion,
    GaussianDiffusion,
    ProductDiffusion,
    ZeroCentre,
)
from noiseloom.guidance import (
    PropertyGuided,
    acquisition,
    hidden_guided,
    nudged,
    scaling,
    state_value,
)
from noiseloom.guidance.acquisition import Acquisition
from noiseloom.guide_folder import GuideRecord, guidable, load_guide
from noiseloom.langevin import corrected
from noiseloom.recipes import Guiding
from noiseloom.recipes.recipe import Steering
from noiseloom.run import Run
from noiseloom.sampling import Solver
from noiseloom.shapes import Cond, State

__all__ = ["Together", "aim_of", "load_guides", "steered", "steering_of"]


LEAST_LOG_SNR = -5.0
"""Of numbers that are guided by default: sigma / alpha is e^2.5 = 12 there."""


class Together(nn.Module):
    """Several guides as one, that says the properties of all, one guide's after another's.

    Args:
        guides: of the same states.
    """

    def __init__(self, guides: Sequence[Guide | GuideEnsemble]) -> None:
        super().__init__()
        self.guides = nn.ModuleList(guides)

    @property
    def each(self) -> list[Guide | GuideEnsemble]:
        """The guides."""
        return cast("list[Guide | GuideEnsemble]", list(self.guides))

    @property
    def diffusion(self) -> Diffusion | ProductDiffusion:
        """What noise is."""
        return self.each[0].diffusion

    def predict(self, x: State, t: Times, cond: Cond | None = None) -> GuideOutput:
        """Mean and variance of all properties, in the units of their labels."""
        said = [guide.predict(x, t, cond) for guide in self.each]
        return GuideOutput(*(torch.cat([s[i] for s in said], -1) for i in range(3)))


Guides: TypeAlias = Guide | GuideEnsemble | Together
"""What leads samples."""


def load_guides(
    run: Run, folders: str | Path | Sequence[str | Path]
) -> tuple[Guides, list[GuideRecord]]:
    """The guides in some folders as one, and what is known of each.

    Raises:
        FileNotFoundError: no guide in one of them.
        ValueError: none is named, or one is not for this run.
    """
    folders = [folders] if isinstance(folders, str | Path) else folders
    if not folders:
        raise ValueError("name a guide's folder")
    found = [load_guide(folder, run) for folder in folders]
    guides = [guide for guide, _ in found]
    return guides[0] if len(guides) == 1 else Together(guides), [record for _, record in found]


def steered(
    run: Run,
    folders: str | Path | Sequence[str | Path],
    options: Guiding | None = None,
    **changes: Any,  # noqa: ANN401
) -> Run:
    """A run whose samples are led by guides: `samples` and all else are as of the run.

        led = steered(run, "runs/proteins/guides/context-0", target="maximise", scale=2.0)

    Args:
        run: to be led.
        folders: of a guide, or of several.
        options: how; by default those of `Guiding`.
        **changes: options that differ.

    Raises:
        FileNotFoundError: no guide in one of the folders.
        ValueError: a guide for other states or words, or what cannot be asked of it.
    """
    options = replace(options or Guiding(), **changes)
    guide, records = load_guides(run, folders)
    steering = steering_of(run, guide, records, options)
    return replace(run, parts=replace(run.parts, steering=steering), statistics={})


def aim_of(records: Sequence[GuideRecord], options: Guiding) -> Acquisition:
    """What is asked of guides, to be climbed: the sum over properties, by what is wanted of each.

    Means and confidence bounds are in deviations of the training labels, so that aims of different
    units can be added.

    Args:
        records: of the guides, in their order.
        options: target, objective and kappa.

    Raises:
        ValueError: not one target for each property, or an objective that a target gives nothing to
            work with.
    """
    names = [name for record in records for name in record.names]
    targets = options.targets()
    if len(targets) != len(names):
        raise ValueError(
            f"{len(targets)} targets for {len(names)} properties: give one for each of "
            f"{', '.join(names)}, separated by commas, any for one that does not matter"
        )
    lowest, highest, deviations = (
        [value for record in records for value in record.labels[key]]
        for key in ("lowest", "highest", "deviation")
    )
    terms: list[tuple[float, Acquisition]] = []
    for i, target in enumerate(targets):
        if target is None:
            continue
        objective, best = options.objective, (highest[i], lowest[i])
        if objective == "auto":
            objective = "mean" if isinstance(target, str) else "log-prob"
        if isinstance(target, str) == (objective == "log-prob"):
            told = "a value, --target 2.5" if isinstance(target, str) else "maximise or minimise"
            raise ValueError(f"objective {objective} needs as a target {told}, got {target}")
        if isinstance(target, float):
            terms.append((1.0, acquisition.log_prob(target, index=i)))
            continue
        down, inverse = target == "minimise", 1 / deviations[i]
        if objective == "mean":
            terms.append((inverse, acquisition.mean(index=i, minimise=down)))
        elif objective == "improvement":
            terms.append((1.0, acquisition.improvement(best[down], index=i, minimise=down)))
        else:
            bound = acquisition.lcb if objective == "lcb" else acquisition.ucb
            terms.append((inverse, bound(options.kappa, index=i, minimise=down)))
    return acquisition.weighted(*terms)


def steering_of(
    run: Run,
    guide: Guides,
    records: Sequence[GuideRecord],
    options: Guiding,
) -> Steering:
    """What makes a denoiser and a solver guided. At scale 0 they are as they were, but corrected.

    Args:
        run: to be led.
        guide: says the properties, in evaluation.
        records: what is known of it.
        options: how.

    Raises:
        ValueError: what cannot be asked, or a way that the guide or the states do not have.
    """
    recipe, aim = guidable(run), aim_of(records, options)
    noisiest = min(record.options.noisiest for record in records)
    if (options.guide_begin or 0) > noisiest:
        raise ValueError(
            f"the guide knows noise up to time {noisiest:g}: --guide-begin must be at most that"
        )
    begin = _default_begin(run.diffusion) if options.guide_begin is None else options.guide_begin
    begin = min(begin, noisiest)
    space = run.diffusion
    rule = _rule(options, space)
    numbers = not isinstance(space, CategoricalDiffusion)
    moves = options.way == "nudge" or options.corrector > 0 or options.rule == "norm-ratio"
    if moves and not numbers:
        raise ValueError(
            "--way nudge, --corrector and --rule norm-ratio move numbers, and this run has "
            "classes: use --way tilt with rule constant or decay, or --way hidden"
        )
    if numbers and options.way == "hidden":
        raise ValueError("--way hidden moves classes, and this run has numbers: use tilt or nudge")
    if options.way == "hidden":
        _check_hidden(guide, records, noisiest)

    def steer(denoiser: nn.Module, solver: Solver) -> tuple[nn.Module, Solver]:
        if options.corrector:
            solver = corrected(solver, steps=options.corrector)
        if options.scale == 0:
            return denoiser, solver
        if options.way == "hidden":
            assert not isinstance(guide, Together)
            value = state_value(guide, lambda said: options.scale * aim(said))
            strength = {"rate": options.hidden_rate, "stability": options.stability}
            return hidden_guided(denoiser, value, steps=options.hidden_steps, **strength), solver
        common: dict[str, Any] = {"rule": rule, "told": recipe.guide_told, "begin": begin}
        if options.way == "nudge":
            return denoiser, nudged(solver, guide, aim, options.scale, **common)

        def led(core: nn.Module) -> nn.Module:
            return PropertyGuided(core, space, guide, aim, options.scale, **common)

        return inside(denoiser, led), solver

    return steer


def _default_begin(diffusion: Diffusion | ProductDiffusion) -> float:
    """The time from which on learned slopes may be multiplied by sigma^2 / alpha."""
    if isinstance(diffusion, ProductDiffusion):
        return min(_default_begin(part) for part in diffusion.parts.values())
    if not isinstance(diffusion, GaussianDiffusion):
        return 1.0
    level = torch.tensor(LEAST_LOG_SNR, dtype=torch.float64)
    return float(diffusion.schedule.time(level).clamp(0, 1))


def _rule(options: Guiding, space: Diffusion | ProductDiffusion) -> scaling.Rule | None:
    """The rule of the scale; None for a way's own."""
    parts = space.parts.values() if isinstance(space, ProductDiffusion) else [space]
    turn = any(isinstance(getattr(part, "subspace", None), ZeroCentre) for part in parts)
    ratio = scaling.norm_ratio(order=2 if turn else 1)
    rules = {"constant": None, "norm-ratio": ratio, "decay": scaling.decaying()}
    rule: scaling.Rule | None = rules[options.rule]
    if options.clip is not None:
        return scaling.clipped(options.clip, rule or scaling.constant)
    if options.way == "nudge":
        return rule and scaling.clipped(10.0, rule)
    own = space.parts if isinstance(space, ProductDiffusion) else {"": space}
    schedules = {n: d.schedule for n, d in own.items() if isinstance(d, GaussianDiffusion)}
    return scaling.bounded(schedules, rule=rule or scaling.constant)


def _check_hidden(guide: Guides, records: Sequence[GuideRecord], noisiest: float) -> None:
    if isinstance(guide, Together):
        raise ValueError("--way hidden is of one guide: train one for all properties together")
    if records[0].options.reads != "denoiser":
        raise ValueError(
            "--way hidden needs a guide that reads the denoiser's hidden states: train one with "
            "noiseloom guide RUN --labels FILE --reads denoiser"
        )
    if noisiest < 1:
        raise ValueError(
            f"the guide knows noise up to time {noisiest:g}, and --way hidden asks it at every "
            "time: train one with --noisiest 1"
        )
