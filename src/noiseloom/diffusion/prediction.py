"""What a denoiser says about the clean state."""

from dataclasses import dataclass

from torch import Tensor

__all__ = ["Prediction"]


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
