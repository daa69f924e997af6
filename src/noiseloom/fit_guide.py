"""The second stage of a run that is to be guided: a guide is trained, judged and shown.

It is trained by the loop that trains runs, so that a training that was killed goes on to the same
weights (`guide_stages`).
"""

import json
from dataclasses import asdict, replace
from pathlib import Path

from torch import Tensor

from noiseloom import __version__
from noiseloom.calibrate import calibrate, summary
from noiseloom.fit import all_or_nothing
from noiseloom.guide_folder import (
    GuideRecord,
    is_guide,
    read_guide,
    remove_guide,
    space_of,
    structures,
    write_guide,
)
from noiseloom.guide_material import Material, Sources
from noiseloom.guide_stages import Trained, make_trained, train_guide
from noiseloom.recipes import GuideTraining
from noiseloom.run import Run
from noiseloom.run_folder import claimed, is_free, write_text
from noiseloom.terminal import say
from noiseloom.training import Data, checkpoint
from noiseloom.world import world_size

__all__ = ["fit_guide"]


def fit_guide(
    run: Run,
    options: GuideTraining,
    out: Path,
    material: Material,
    sources: Sources,
    *,
    command: str = "",
    force: bool = False,
) -> GuideRecord:
    """Train a guide, or go on with one; judge it, and write its page.

    Args:
        run: of a recipe that can be guided.
        options: of the training.
        out: its folder: a new one, or one that was begun with the same options and files. A
            finished one is judged again where it is to be judged by others.
        material: what was read of the sources.
        sources: the files.
        command: what was typed.
        force: replace a guide that is there.

    Returns:
        Its description, with a summary.

    Raises:
        FileExistsError: another guide was begun there, or the folder holds something else.
        ValueError: a method without the context that it needs, a covariance that is all but
            singular, a training that diverges, or more than one process.
    """
    if world_size() > 1:
        raise ValueError("a guide is trained by one process: leave torchrun out")
    if options.needs_context and material.context is None:
        raise ValueError(f"method {options.method} needs unlabelled structures: --context FILE")
    record = _record(run, options, material, sources, command)
    begun = _begun(out, record, force)
    if begun is not None and begun.finished and begun.digests == record.digests:
        say(f"{out} is finished")
        return begun
    model = make_trained(run, options, material)  # what cannot be made takes the place of nothing
    with claimed(out):
        if begun is not None and begun.finished:  # and is to be judged by other structures
            checkpoint.restore(model, out / "ema.safetensors")
            return _judged(run, model.to(run.device), material, out, record)
        if force and begun is None:
            remove_guide(out)
        with all_or_nothing(out):
            write_guide(out, record)
            structures(out, material.keys)
            train_guide(run, options, material, out, model)
        return _judged(run, model, material, out, record)


def _record(
    run: Run, options: GuideTraining, material: Material, sources: Sources, command: str
) -> GuideRecord:
    labels = material.learnt.labels.double()
    found = {
        "lowest": labels.amin(0),
        "highest": labels.amax(0),
        "mean": labels.mean(0),
        "deviation": labels.std(0, correction=0),
    }
    return GuideRecord(
        options,
        material.learnt.names,
        space_of(run, options),
        sources.plain(),
        material.digests,
        material.counts,
        {name: tuple(values.tolist()) for name, values in found.items()},
        command,
        __version__,
    )


def _begun(out: Path, record: GuideRecord, force: bool) -> GuideRecord | None:
    """The guide that is to be gone on with, if there is one.

    Raises:
        FileExistsError: another one, or something else, and no `force`.
    """
    if not is_free(out) and not is_guide(out):
        raise FileExistsError(f"{out} holds something that is no guide: choose another --out")
    found = None if force else read_guide(out)
    if found is None:
        return None
    told = ""
    for name, theirs in asdict(found.options).items():
        ours = getattr(record.options, name)
        if theirs != ours:
            told = told or f"{name} {theirs}, not {ours}"
    learnt = ("labels", "context") if record.options.needs_context else ("labels",)
    for theirs, ours, what in (
        (found.space, record.space, "another run"),
        (found.names, record.names, "other properties"),
        *((found.digests.get(k), record.digests.get(k), f"another file of {k}") for k in learnt),
    ):
        if not told and theirs != ours:
            told = what
    if told:
        raise FileExistsError(
            f"{out} was begun with {told}: replace it with --force, or choose another --out"
        )
    return found


def _judged(
    run: Run, model: Trained, material: Material, out: Path, record: GuideRecord
) -> GuideRecord:
    """Judge a trained guide and write that down; with that it is finished."""
    from noiseloom.guide_examples import guide_examples
    from noiseloom.guide_report import write_guide_report  # matplotlib takes its time

    sets: dict[str, tuple[Data, Tensor | None]] = {
        "held_out": (material.held_out.rows, material.held_out.labels)
    }
    sets |= {name: (own.rows, own.labels) for name, own in material.judging.items()}
    if material.context is not None:
        sets["context"] = material.context, None
    labels, options = record.labels, record.options
    found = calibrate(
        run, model.guide.eval(), sets, record.names, labels["deviation"], options.noisiest
    )
    write_text(out / "calibration.json", json.dumps(found, indent=1) + "\n")
    told = summary(found, labels["mean"], labels["deviation"])
    record = replace(record, summary=told)
    write_guide_report(out, record, guide_examples(run, model.guide, material))
    write_guide(out, record)
    return record
