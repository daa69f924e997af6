"""What a denoiser says about the clean state."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Prediction", "mixed"]


@dataclass(frozen=True)
class Prediction:
    """An estimate of x_0 given x_t.

    Attributes:
        mean: the posterior mean E[x_0 | x_t], in the shape of the state; on manifolds, where there
            is none, exp_x(sigma^2 score), approximate.
        logits: of a cross-entropy head: one per entry of the state (sigmoid), or with `codes` one
            per class, on a new last axis (softmax).
        codes: the softmax head's code table, shape (K, n): row k is the code of class k.
        axis: the axis of the state that holds the groups of n code entries.
        hidden: a state of the network for the next call (latent self-conditioning), batch first.
        score: on manifolds, the gradient of ln p_t at x_t, a tangent.
    """

    mean: Tensor
    logits: Tensor | None = None
    codes: Tensor | None = None
    axis: int = -1
    hidden: Tensor | None = None
    score: Tensor | None = None


def mixed(x: Tensor, said: Sequence[tuple[float, Prediction]]) -> Prediction:
    """What several predictions of one state say together, as guidance weighs them.

        mean = sum_i w_i mean_i    of numbers,    ln p = sum_i w_i ln p_i + const    of classes

    On a line of probabilities guidance would leave the simplex. A class that one of them rules out
    is ruled out.

    Args:
        x: the state: numbers, or classes (integers).
        said: weights, which add up to 1, and predictions.
    """
    if x.is_floating_point():
        return Prediction(torch.stack([weight * p.mean for weight, p in said]).sum(0))
    logs = [p.mean.log() if p.logits is None else p.logits.float().log_softmax(-1) for _, p in said]
    never = torch.stack([log == -torch.inf for log in logs]).any(0)
    parts = [
        weight * log.masked_fill(never, 0) for (weight, _), log in zip(said, logs, strict=True)
    ]
    logits = torch.stack(parts).sum(0).masked_fill(never, -torch.inf)
    return Prediction(logits.softmax(-1), logits)
