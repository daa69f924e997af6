"""What runs are and took: parameters, seconds, memory; and whether they are of one size."""

import itertools
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import nn

from noiseloom.commands import load

__all__ = ["ALIKE", "costs", "short_note", "steady_rate", "unequal_note"]

ALIKE = 0.05
"""By how much the parameters of runs may differ before a comparison says so."""
_SPAN = 50  # updates between two waits for a GPU: times of single ones are those of the host


def costs(folder: Path) -> dict[str, float]:
    """What a run is and took: parameters, seconds of its stages, their pace, memory if known.

    `parameters` are all that were trained, of a model with codes those of an encoder
    (`encoder_parameters`) among them; those of a prior (`prior_parameters`) are not. Memory is the
    most that PyTorch had allocated at once in training on a GPU (`gpu_gigabytes`), or of a CPU what
    the process held, libraries and data among it (`peak_gigabytes`, `noiseloom.training.memory`).

    Args:
        folder: of the run.
    """
    parts = load(folder).parts
    modules = {"": parts.denoiser, "encoder_": getattr(parts.denoiser, "encoder", None)}
    modules["prior_"] = parts.prior if isinstance(parts.prior, nn.Module) else None
    found = {
        f"{name}parameters": float(sum(p.numel() for p in module.parameters()))
        for name, module in modules.items()
        if module is not None
    }
    for name, file in (("train", folder), ("prior", folder / "prior")):
        path = file / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.is_file() else []
        if not lines:
            continue
        records = [json.loads(line) for line in lines]
        found[f"{name}_seconds"] = float(records[-1]["seconds"])
        if name == "train":
            rate = steady_rate([record["seconds"] for record in records])
            found |= {} if rate is None else {"updates_per_second": rate}
            for peak in ("gpu_gigabytes", "peak_gigabytes"):
                memory = [record[peak] for record in records if peak in record]
                found |= {peak: max(memory)} if memory else {}
    return found


def steady_rate(seconds: Sequence[float]) -> float | None:
    """Updates per second of a training once it runs: the median over stretches of 50.

    The first 50 are left out, in which networks are compiled, and by the median what happens at
    times (checkpoints, a resumption, another program).

    Args:
        seconds: after every update, from the first on.

    Returns:
        None of a training of less than three stretches.
    """
    times = seconds[::_SPAN]
    spans = [after - before for before, after in itertools.pairwise(times[1:])]
    if len(spans) < 2 or statistics.median(spans) <= 0:
        return None
    return _SPAN / statistics.median(spans)


def short_note(rates: Sequence[float | None]) -> str | None:
    """Why some of several trainings have no pace, or None where all or none have one.

    Args:
        rates: `steady_rate` of each.
    """
    if len({rate is None for rate in rates}) < 2:
        return None
    return (
        f"updates_per_second is known of trainings of more than {3 * _SPAN} updates: a median of "
        f"stretches of {_SPAN}, without the first"
    )


def unequal_note(parameters: Mapping[str, float], beside: str = "") -> str | None:
    """A sentence if the largest run has over 5 % more parameters than the smallest, or None.

    Args:
        parameters: of runs, by what they are called.
        beside: in words, what is counted with them.
    """
    if not parameters:
        return None
    least, most = (pick(parameters, key=lambda n: parameters[n]) for pick in (min, max))
    more = parameters[most] - parameters[least]
    if more <= ALIKE * parameters[least]:
        return None
    share = more / max(parameters[least], 1)
    return (
        f"warning: parameters{beside} differ by {share:.1%}: {parameters[least]:,.0f} of {least}, "
        f"{parameters[most]:,.0f} of {most}"
    )
