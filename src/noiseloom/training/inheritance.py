"""Starting from another run's weights: what is new in a model starts without effect."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from noiseloom.training.checkpoint import read

__all__ = ["Heir", "init_from"]


@runtime_checkable
class Heir(Protocol):
    """A module that knows how it grows, where zeros at the end of a tensor are not the answer."""

    def inherit(
        self, old: Mapping[str, Tensor], classes: Sequence[int] | None
    ) -> Mapping[str, Tensor]:
        """The tensors to start from, laid out as this module's, so that it does what the old did.

        Args:
            old: the tensors of the module that is inherited from, by their names within it.
            classes: for each class of the old model its index in this one; None for the same.

        Raises:
            ValueError: this module cannot do what the old one did.
        """


def init_from(
    model: nn.Module,
    source: Path | str | Mapping[str, Tensor],
    classes: Sequence[int] | None = None,
) -> list[str]:
    """Start a model from another run's weights; what is new in it starts without effect.

    Names are compared without the wrappers around the network. A tensor with a new name keeps its
    initialisation. A tensor that grew along one axis (the input channels of a first layer that now
    also sees an estimate) is filled up with zeros at the end of that axis. A module for which that
    is not right says so with a method `inherit` (`Heir`).

    Args:
        model: model to change, in place.
        source: a run's folder (its averaged weights, or else its weights), a safetensors file, or
            a state dict.
        classes: for each class of the source its index in the model; None for the same.

    Returns:
        What is new, one entry per tensor, in the order of the model: its name, and for a tensor
        that grew `name: old shape -> new shape`.

    Raises:
        FileNotFoundError: there are no weights in `source`.
        ValueError: a tensor of `source` is missing in the model, shrank, or grew along more than
            one axis; or a part that is new cannot be without effect.
    """
    origin = "the given weights" if isinstance(source, Mapping) else str(source)
    given = _bare(source if isinstance(source, Mapping) else _weights(Path(source)))
    state = _bare(model.state_dict())
    weights = _inherited(model, given, classes)
    for name, old in weights.items():
        if name not in state:
            raise ValueError(
                f"{name!r} of {origin} has no place in this model: build the model with that part, "
                "or, from Python, pass a dict without it"
            )
        grown = [(a, b) for a, b in zip(old.shape, state[name].shape, strict=False) if a != b]
        if old.ndim != state[name].ndim or len(grown) > 1 or any(a > b for a, b in grown):
            raise ValueError(
                f"{name!r} is {tuple(old.shape)} in {origin} and {tuple(state[name].shape)} in "
                "this model: a tensor may grow along one axis, and not shrink; build the model as "
                "wide as that one"
            )
    new = []
    with torch.no_grad():
        for name, value in state.items():
            if name not in given:
                new.append(name)
            elif given[name].shape != value.shape:
                new.append(f"{name}: {tuple(given[name].shape)} -> {tuple(value.shape)}")
            if name in weights:
                old = weights[name]
                if old.shape != value.shape:
                    value.zero_()
                value[tuple(slice(n) for n in old.shape)].copy_(old)
    return new


def _inherited(
    model: nn.Module, given: Mapping[str, Tensor], classes: Sequence[int] | None
) -> dict[str, Tensor]:
    """The given tensors as the model's modules want them, from the outermost inwards."""
    weights, outer = dict(given), _wrappers(model.state_dict())
    for path, module in model.named_modules():
        within = f"{path}.".removeprefix(outer) if path else ""
        old = {n.removeprefix(within): v for n, v in weights.items() if n.startswith(within)}
        if old and isinstance(module, Heir):
            weights |= {within + n: v for n, v in module.inherit(old, classes).items()}
    return weights


def _bare(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    outer = _wrappers(tensors)
    return {name.removeprefix(outer): value for name, value in tensors.items()}


def _wrappers(names: Iterable[str]) -> str:
    """What stands before `network` in all names that have one: "denoiser.", or nothing."""
    found = {m[1] for name in names if (m := re.match(r"((?:\w+\.)*?)network\.", name))}
    return found.pop() if len(found) == 1 else ""


def _weights(source: Path) -> dict[str, Tensor]:
    if not source.is_dir():
        return read(source)
    averaged = source / "ema.safetensors"
    return read(averaged if averaged.is_file() else source / "model.safetensors")
