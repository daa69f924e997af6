"""Checkpoints that are whole or not there.

A checkpoint is a folder `state/step-00000500/` with one safetensors file for each part of the
training state (`model`, `ema`, `optimizer`, ...) and `state.json`. It is written under a hidden
name, synchronised to the disk and renamed: the rename is the moment at which it exists. Only then
is the one before it removed, so that a crash, a kill or a full disk at any moment leaves a complete
one. Nothing is pickled. Names are those of the bare model.
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

__all__ = [
    "check",
    "damaged",
    "difference",
    "load",
    "load_moments",
    "moments",
    "newest",
    "place",
    "publish",
    "read",
    "restore",
    "save",
]

Parts = Mapping[str, Mapping[str, Tensor]]


def save(folder: Path, step: int, parts: Parts, facts: Mapping[str, Any]) -> Path:
    """Write a checkpoint as a set; the previous one stays where it is.

    Args:
        folder: `state` of a run.
        step: number of updates made.
        parts: tensors by name, for each part; a part becomes one safetensors file.
        facts: what JSON can hold.

    Returns:
        The folder of the new checkpoint.

    Raises:
        OSError: it could not be written; nothing of it is left behind.
    """
    final = folder / f"step-{step:08d}"
    hidden = folder / f".{final.name}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_hidden(folder)
        hidden.mkdir()
        for name, tensors in parts.items():
            save_file(_plain(tensors), hidden / f"{name}.safetensors", {"format": "pt"})
        (hidden / "state.json").write_text(json.dumps({"step": step, **facts}, indent=2) + "\n")
        for path in (*hidden.iterdir(), hidden):
            _sync(path)
        hidden.rename(final)
        _sync(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(hidden, ignore_errors=True)
        if newest(folder) is None:
            remedy = "there is none before it: free some space and start again"
        else:
            remedy = "the one before it is intact: free some space and continue with --resume"
        raise OSError(
            f"cannot write the checkpoint of step {step} in {folder} ({error}); {remedy}"
        ) from error
    return final


def newest(folder: Path) -> Path | None:
    """The last complete checkpoint in `state`, or None."""
    return max(folder.glob("step-*"), default=None)


def load(path: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Read a checkpoint: the tensors of its parts, on the CPU, and its facts.

    Raises:
        ValueError: a file is damaged.
    """
    parts = {file.stem: read(file) for file in sorted(path.glob("*.safetensors"))}
    try:
        return parts, json.loads((path / "state.json").read_text())
    except (OSError, ValueError) as error:
        raise ValueError(damaged(path / "state.json", error)) from error


def publish(checkpoint: Path, out: Path) -> None:
    """Show a checkpoint's weights in the run's folder and remove the checkpoints before it.

    `model.safetensors` and `ema.safetensors` appear in `out`, averages named `power-<width>` as
    `ema_snapshots/step-<step>-<width>.safetensors`. Doing it twice is doing it once, so a run that
    was killed in the middle does it again when it resumes.

    Raises:
        OSError: a file could not be placed; the checkpoint itself is intact.
    """
    for name in ("model.safetensors", "ema.safetensors"):
        place(checkpoint / name, out / name)
    for path in checkpoint.glob("power-*.safetensors"):
        width = path.name.removeprefix("power-")
        place(path, out / "ema_snapshots" / f"{checkpoint.name}-{width}")
    for path in checkpoint.parent.glob("step-*"):
        if path != checkpoint:
            path.rename(path.with_name(f".{path.name}"))
    _remove_hidden(checkpoint.parent)


def place(source: Path, target: Path) -> None:
    """Make `target` a second name of `source`, or a copy where the file system has no links.

    For files that are replaced and never written to, as those of a checkpoint are.
    """
    target.parent.mkdir(exist_ok=True)
    hidden = target.with_name(f".{target.name}")
    hidden.unlink(missing_ok=True)
    try:
        hidden.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, hidden)
    hidden.replace(target)
    hidden.unlink(missing_ok=True)  # it is still there where both were names of one file


def read(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file, on the CPU.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is truncated or no safetensors file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(damaged(path, error)) from error


def restore(model: nn.Module, path: Path, part: str = "") -> None:
    """Give a model the weights in a file.

    Args:
        model: which stays where it is.
        path: of the file.
        part: name of the model in what was saved, if that was more.

    Raises:
        ValueError: a damaged file, or weights of another model.
        FileNotFoundError: no such file.
    """
    whole = f"{part}." if part else ""
    found = read(path)
    state = {n.removeprefix(whole): v for n, v in found.items() if n.startswith(whole)}
    check(state, model, path)
    model.load_state_dict(state)


def check(state: Mapping[str, Tensor], model: nn.Module, path: Path) -> None:
    """Check that a state dict is of this model.

    Raises:
        ValueError: a name or a shape differs; the first such tensor is named.
    """
    told = difference(state, model.state_dict())
    if told:
        raise ValueError(
            f"{path} is of another model: {told}; use the options it was trained with, or another "
            "output folder"
        )


def difference(theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> str | None:
    """Which tensor of a file is the first to have another name or shape than here, or None."""
    there, here = ({k: tuple(v.shape) for k, v in state.items()} for state in (theirs, ours))
    for name in (*here, *there):
        if there.get(name) != here.get(name):
            one, other = (shapes.get(name, "no such tensor") for shapes in (there, here))
            return f"{name!r} is {one} there and {other} here"
    return None


def damaged(path: Path, error: Exception | str) -> str:
    """What to say of a file that cannot be read."""
    return f"{path} is truncated or damaged ({error}): restore it from a copy, or train again"


def moments(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The tensors of an optimiser, named `index.key`; all else in it is a matter of options."""
    states = optimizer.state_dict()["state"].items()
    return {f"{i}.{key}": value for i, state in states for key, value in state.items()}


def load_moments(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give an AdamW the tensors that `moments` took from one of the same parameters.

    Raises:
        ValueError: a name or a shape differs; the first such tensor is named.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    known = {name.partition(".")[0] for name in tensors}  # without those that had no gradient
    ours = {
        f"{i}.{key}": like
        for i, p in enumerate(parameters)
        for key, like in (("step", torch.zeros(())), ("exp_avg", p), ("exp_avg_sq", p))
        if str(i) in known
    }
    told = difference(tensors, ours)
    if told:
        raise ValueError(told)
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        i, _, key = name.partition(".")
        p = parameters[int(i)]
        # Like the parameter also in memory format, which the file does not keep.
        like = torch.empty_like(p).copy_(value) if value.shape == p.shape else value
        state.setdefault(int(i), {})[key] = like.detach()
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous CPU tensors, no two of which share memory: safetensors takes no others."""
    plain: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, value in tensors.items():
        value = value.detach().cpu().contiguous()
        storage = value.untyped_storage().data_ptr()
        plain[name] = value.clone() if storage in seen else value
        seen.add(storage)
    return plain


def _remove_hidden(folder: Path) -> None:
    for path in folder.glob(".step-*"):
        shutil.rmtree(path)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
