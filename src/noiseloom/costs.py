"""What runs are and took: parameters, seconds, memory; and whether they are of one size."""

import json
from collections.abc import Mapping
from pathlib import Path

from torch import nn

from noiseloom.commands import load

__all__ = ["ALIKE", "costs", "unequal_note"]

ALIKE = 0.05
"""By how much the parameters of runs may differ before a comparison says so."""


def costs(folder: Path) -> dict[str, float]:
    """What a run is and took: parameters, seconds of its stages, GPU memory, as far as known.

    `parameters` are all that were trained, of a model with codes those of an encoder
    (`encoder_parameters`) among them; those of a prior (`prior_parameters`) are not. Memory is the
    most that PyTorch had allocated at once in training (`gpu_gigabytes`); of a CPU it is not known.

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
        records = [json.loads(line) for line in lines if name == "train" and '"gpu_' in line]
        found[f"{name}_seconds"] = float(json.loads(lines[-1])["seconds"])
        if records:
            found["gpu_gigabytes"] = max(record["gpu_gigabytes"] for record in records)
    return found


def unequal_note(parameters: Mapping[str, float]) -> str | None:
    """A sentence if the largest run has over 5 % more parameters than the smallest, or None.

    Args:
        parameters: of runs, by what they are called.
    """
    if not parameters:
        return None
    least, most = (pick(parameters, key=lambda n: parameters[n]) for pick in (min, max))
    more = parameters[most] - parameters[least]
    if more <= ALIKE * parameters[least]:
        return None
    share = more / max(parameters[least], 1)
    return (
        f"warning: parameters differ by {share:.1%}: {parameters[least]:,.0f} of {least}, "
        f"{parameters[most]:,.0f} of {most}"
    )
