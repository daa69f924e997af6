"""What the rest of the package asks of noise on a state that is one tensor."""

from typing import Literal, Protocol

from torch import Tensor

from noiseloom.diffusion.prediction import Prediction
from noiseloom.noise import Schedule
from noiseloom.rng import Rng

__all__ = ["Diffusion"]


class Diffusion(Protocol):
    """Noise on one kind of space; each method says more in `GaussianDiffusion`."""

    @property
    def schedule(self) -> Schedule:
        """T -> (alpha, sigma)."""

    def prior(self, shape: tuple[int, ...] | Tensor, rng: Rng) -> Tensor:
        """A state at time 1, of a shape or like a tensor."""

    def corrupt(self, clean: Tensor, t: Tensor, rng: Rng) -> Tensor:
        """A draw of q(x_t | x_0)."""

    def reverse(
        self,
        x: Tensor,
        prediction: Prediction,
        t: Tensor,
        s: Tensor,
        rng: Rng | None = None,
        *,
        stochasticity: float = 0.0,
        variance: Literal["small", "large"] = "small",
    ) -> Tensor:
        """One move from t to s <= t; the identity, bit for bit, where s == t."""

    def renoise(self, x: Tensor, t: Tensor, s: Tensor, rng: Rng) -> Tensor:
        """One move up from t to s >= t, a draw of q(x_s | x_t)."""

    def result(self, prediction: Prediction, x: Tensor, s: Tensor) -> Tensor:
        """What a state x at time s is decoded from."""

    def loss(self, prediction: Prediction, clean: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """What is learnt, unreduced, in the shape of the aligned time."""

    def tilt(self, prediction: Prediction, grad: Tensor, x: Tensor, t: Tensor) -> Prediction:
        """The prediction after multiplying p_t by a likelihood."""
