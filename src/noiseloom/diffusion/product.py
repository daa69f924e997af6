"""Noise on a state of several parts: each has a diffusion, and times, of its own."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, Self

from torch import Tensor

from noiseloom.diffusion.gaussian import GaussianDiffusion
from noiseloom.diffusion.prediction import Prediction
from noiseloom.diffusion.protocol import Diffusion
from noiseloom.noise import Schedule
from noiseloom.rng import Rng
from noiseloom.shapes import State, part_times, parts_of

__all__ = ["ProductDiffusion", "by_part"]

Parts = dict[str, Tensor]


@dataclass(frozen=True)
class ProductDiffusion:
    """The diffusions of the parts of a state, by name.

    Every method is that of the part's own diffusion, called for each with the draws of its name.
    States are dicts of tensors, predictions dicts of `Prediction`. A time is a dict too, or one
    number for all, or one per example.

    Args:
        parts: by name; their order does not count.
    """

    parts: Mapping[str, Diffusion]

    @property
    def schedule(self) -> Schedule:
        """The schedule of all parts.

        Raises:
            ValueError: they do not have one in common.
        """
        each = [own.schedule for own in self.parts.values()]
        if any(own != each[0] for own in each):
            raise ValueError(f"the parts {sorted(self.parts)} have schedules of their own")
        return each[0]

    def on(self, mask: Tensor) -> Self:
        """The same diffusion of a batch of which some nodes are padding, in all parts.

        Args:
            mask: bool, shape (B, N) or (1, N), True for a real node.

        Raises:
            TypeError: a part whose diffusion knows no padding.
        """
        parts: dict[str, Diffusion] = {}
        for name, own in self.parts.items():
            if not isinstance(own, GaussianDiffusion):
                raise TypeError(f"{type(own).__name__}, of the part {name!r}, knows no padding")
            parts[name] = own.on(mask)
        return replace(self, parts=parts)

    def prior(self, like: Parts, rng: Rng) -> Parts:
        """A state at time 1, with the shapes, types and devices of `like`."""
        return {name: own.prior(like[name], rng.fold(name)) for name, own in self._of(like)}

    def corrupt(self, clean: Parts, t: Tensor | Parts, rng: Rng) -> Parts:
        """A draw of q(x_t | x_0)."""
        t = part_times(t, clean)
        return {n: own.corrupt(clean[n], t[n], rng.fold(n)) for n, own in self._of(clean)}

    def reverse(
        self,
        x: Parts,
        prediction: Mapping[str, Prediction],
        t: Tensor | Parts,
        s: Tensor | Parts,
        rng: Rng | None = None,
        *,
        stochasticity: float = 0.0,
        variance: Literal["small", "large"] = "small",
    ) -> Parts:
        """One move from t to s <= t; a part that stays is the same, bit for bit.

        Args:
            x: state at t.
            prediction: the estimate of each part.
            t: times of x.
            s: times to move to.
            rng: key of the draws.
            stochasticity: eta in [0, 1], as for `GaussianDiffusion.reverse`.
            variance: of DDPM's noise, likewise.
        """
        t, s = part_times(t, x), part_times(s, x)
        return {
            n: own.reverse(
                x[n],
                prediction[n],
                t[n],
                s[n],
                rng and rng.fold(n),
                stochasticity=stochasticity,
                variance=variance,
            )
            for n, own in self._of(x)
        }

    def renoise(self, x: Parts, t: Tensor | Parts, s: Tensor | Parts, rng: Rng) -> Parts:
        """One move up from t to s >= t, a draw of q(x_s | x_t)."""
        t, s = part_times(t, x), part_times(s, x)
        return {n: own.renoise(x[n], t[n], s[n], rng.fold(n)) for n, own in self._of(x)}

    def result(self, prediction: Mapping[str, Prediction], x: Parts, s: Tensor | Parts) -> Parts:
        """What the parts of a state are decoded from."""
        s = part_times(s, x)
        return {n: own.result(prediction[n], x[n], s[n]) for n, own in self._of(x)}

    def loss(
        self, prediction: Mapping[str, Prediction], clean: Parts, x: Parts, t: Tensor | Parts
    ) -> Parts:
        """The loss of each part, as its own diffusion has it: how to weigh parts is up to you."""
        t = part_times(t, clean)
        return {n: own.loss(prediction[n], clean[n], x[n], t[n]) for n, own in self._of(clean)}

    def tilt(
        self, prediction: Mapping[str, Prediction], grad: Parts, x: Parts, t: Tensor | Parts
    ) -> dict[str, Prediction]:
        """The predictions after multiplying p_t by a likelihood with these gradients."""
        t = part_times(t, x)
        return {n: own.tilt(prediction[n], grad[n], x[n], t[n]) for n, own in self._of(x)}

    def _of(self, x: Parts) -> Iterator[tuple[str, Diffusion]]:
        for name in parts_of(self.parts, x):
            yield name, self.parts[name]


def by_part(
    diffusion: Diffusion | ProductDiffusion, x: State, t: Tensor | Mapping[str, Tensor]
) -> dict[str, tuple[Diffusion, Tensor, Tensor]]:
    """The parts of a state, each with its diffusion and its time; one tensor is the part "".

    Raises:
        ValueError: a state, or a time, of other parts.
    """
    if isinstance(diffusion, ProductDiffusion):
        parts = parts_of(diffusion.parts, x)
        times = part_times(t, parts)
        return {n: (own, parts[n], times[n]) for n, own in diffusion.parts.items()}
    if isinstance(x, dict) or isinstance(t, Mapping):
        raise ValueError(f"{type(diffusion).__name__} is of one tensor, and was given parts")
    return {"": (diffusion, x, t)}
