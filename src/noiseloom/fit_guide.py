"""The second stage of a run that is to be guided: a guide is trained, judged and shown.

It is trained by the loop that trains runs, so that a training that was killed goes on to the same
weights (`guide_stages`).
"""

import contextlib
import json
from dataclasses import asdict, replace
from pathlib import Path

from torch import Tensor

from noiseloom import __version__
from noiseloom.calibrate import calibrate, summary
from noiseloom.fit import all_or_nothing
from noiseloom.guide_folder import (
    GuideRecord,
    forget_next,
    is_guide,
    place_of_next,
    read_guide,
    remove_guide,
    replace_guide,
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
        force: replace a guide that is there; a finished one stays until the new one is, which is
            made beside it, and gone on with by the same call without `force`.

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
    place, begun = _begun(out, record, force)
    if begun is not None and begun.finished and begun.digests == record.digests and place == out:
        say(f"{out} is finished")
        return begun
    model = make_trained(run, options, material)  # what cannot be made takes the place of nothing
    with claimed(out):
        if begun is not None and begun.finished:
            if begun.digests != record.digests:  # and is to be judged by other structures
                checkpoint.restore(model, place / "ema.safetensors")
                begun = _judged(run, model.to(run.device), material, place, record, out)
        else:
            if force:
                remove_guide(place)
            if place != out:
                say(f"{out} stays as it is until the new one is finished")
            else:
                forget_next(out)
            with all_or_nothing(place):
                write_guide(place, record)
                structures(place, material.keys)
                _train(run, options, material, place, model)
            begun = _judged(run, model, material, place, record, out)
        if place != out:
            replace_guide(out)
    return begun


def _train(
    run: Run, options: GuideTraining, material: Material, place: Path, model: Trained
) -> None:
    """Make the updates.

    Raises:
        ValueError: gradients that are no numbers, with what a method's own term can do for it.
    """
    from noiseloom.report import records_of  # matplotlib takes its time

    lighter = f"lower weight ({options.weight:g})"
    told = {
        "context": f"raise tau ({options.tau:g}) or {lighter}",
        "parameter-prior": f"raise prior_variance ({options.prior_variance:g})",
        **dict.fromkeys(("coral", "adversarial", "confusion"), lighter),
    }.get(options.method, "")
    remedy = f"; of {options.method}, {told}" if told else ""
    try:
        train_guide(run, options, material, place, model)
    except ValueError as error:
        if "learning_rate" not in str(error):
            raise
        raise ValueError(f"{error}{remedy}") from error
    records = records_of(place / "metrics.jsonl")
    if records and all(record.get("left_out") for record in records):
        remove_guide(place)  # its checkpoint is of nothing
        raise ValueError(
            f"none of {len(records)} updates could be made, as no gradient was a number: lower "
            f"learning_rate or use float32{remedy}"
        )


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


def _begun(out: Path, record: GuideRecord, force: bool) -> tuple[Path, GuideRecord | None]:
    """Where a guide is to be made, and what was begun there and is to be gone on with.

    Raises:
        FileExistsError: another one, or something else, and no `force`.
    """
    if not is_free(out) and not is_guide(out):
        raise FileExistsError(f"{out} holds something that is no guide: choose another --out")
    following = place_of_next(out)
    if force:
        return following if _is_to_stay(out) else out, None
    with contextlib.suppress(ValueError):  # a damaged one is begun again by force
        found = read_guide(following)
        if found is not None and not _difference(found, record):
            return following, found
    found = read_guide(out)
    told = _difference(found, record) if found is not None else ""
    if told:
        raise FileExistsError(
            f"{out} was begun with {told}: replace it with --force, or choose another --out"
        )
    return out, found


def _is_to_stay(out: Path) -> bool:
    """Whether a guide is not to be removed before another one is finished."""
    try:
        found = read_guide(out)
    except ValueError:  # what is damaged may have been finished
        return True
    return found is not None and found.finished


def _difference(found: GuideRecord, record: GuideRecord) -> str:
    """By what a guide is another than the one that is asked for; "" if it is that one."""
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
    return told


def _judged(
    run: Run, model: Trained, material: Material, place: Path, record: GuideRecord, out: Path
) -> GuideRecord:
    """Judge a trained guide and write that down; with that it is finished, for its place `out`."""
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
    write_text(place / "calibration.json", json.dumps(found, indent=1) + "\n")
    told = summary(found, labels["mean"], labels["deviation"])
    record = replace(record, summary=told)
    write_guide_report(place, record, guide_examples(run, model.guide, material), out)
    write_guide(place, record)
    return record
