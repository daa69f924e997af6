"""AdamW, what becomes of a gradient that is too long, and of one that is not a number."""

import math
import warnings
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from noiseloom.training.options import Training

__all__ = ["LeftOut", "Several", "adamw", "clipped", "guarded_step"]


@runtime_checkable
class Several(Protocol):
    """A model of several that are trained beside each other, and are not to know of each other."""

    def apart(self) -> Sequence[nn.Module]:
        """Those of them, which share no parameter; what is in none of them goes by itself."""


def adamw(model: nn.Module, options: Training) -> torch.optim.AdamW:
    """AdamW (I. Loshchilov, F. Hutter, 2019, arXiv 1711.05101), in one kernel where there is one.

    Args:
        model: whose parameters it moves.
        options: rate, decays.
    """
    settings: dict[str, Any] = {
        "lr": options.learning_rate,
        "betas": (options.beta1, options.beta2),
        "weight_decay": options.weight_decay,
    }
    try:
        return torch.optim.AdamW(model.parameters(), fused=True, **settings)
    except RuntimeError:  # some device or type of parameter has no fused form
        return torch.optim.AdamW(model.parameters(), **settings)


def clipped(model: nn.Module, longest: float) -> Tensor:
    """Shorten the gradient, or that of each of `Several`: g <- g min(1, longest / |g|).

    Args:
        model: with gradients.
        longest: norm that a gradient may have.

    Returns:
        The norm of the whole gradient before, on the device.
    """
    members = model.apart() if isinstance(model, Several) else []
    groups = [list(member.parameters()) for member in members]
    known = {id(p) for group in groups for p in group}
    groups.append([p for p in model.parameters() if id(p) not in known])
    norms = [nn.utils.clip_grad_norm_(group, longest) for group in groups if group]
    return norms[0] if len(norms) == 1 else torch.stack(norms).norm()


def guarded_step(optimizer: torch.optim.AdamW, norm: Tensor) -> None:
    """An update, and gradients set to none; none at all where the gradient is not a number.

    Args:
        optimizer: of `adamw`.
        norm: of the gradient, on the device.
    """
    if optimizer.defaults["fused"]:
        # What scaled gradients are left out by: the kernel reads it, and nobody asks the device.
        optimizer.found_inf = (~norm.isfinite()).float()  # type: ignore[attr-defined]
        optimizer.step()
    elif norm.isfinite():
        optimizer.step()
    optimizer.zero_grad()


class LeftOut:
    """The updates that a run has left out, since their gradients were not numbers.

    In bfloat16 a backward pass gives one, once in some ten thousand updates, out of calm (34
    million parameters, `forcing-doom`, loss and parameters as good as ever): a run puts up with
    that, but with `limit` of them within 100 updates it does not, nor with a loss that is none.

    Args:
        limit: number that ends a run.
    """

    def __init__(self, limit: int = 3) -> None:
        self.limit, self.steps = limit, list[int]()

    def count(self, step: int, loss: float, norm: float) -> None:
        """Take note of one, with a warning.

        Args:
            step: number of the update.
            loss: of it.
            norm: of its gradient.

        Raises:
            ValueError: the loss is not finite, or this is one too many.
        """
        self.steps.append(step)
        recent = [earlier for earlier in self.steps if earlier > step - 100]
        wrong, value = ("gradient's norm", norm) if math.isfinite(loss) else ("loss", loss)
        said = f"the {wrong} is {value} at step {step}"
        if len(recent) >= self.limit or not math.isfinite(loss):
            raise ValueError(
                f"{said}: lower learning_rate, raise warmup or use float32; the last checkpoint is "
                "from before"
            )
        warnings.warn(f"{said}: that update is left out", stacklevel=2)
