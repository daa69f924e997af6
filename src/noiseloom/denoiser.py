"""Denoisers: from a network to an estimate of the clean state.

A denoiser is a module `(x, t, cond=None, carry=None, rng=None) -> (prediction, carry)`.
`Preconditioned` makes one from any network `(x, log_snr, cond)`, and `PreconditionedParts` from one
that sees all parts of a product state at once (`noiseloom.preconditioning`).
"""

from collections.abc import Mapping
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from noiseloom.carry import Carry, clone
from noiseloom.diffusion import GaussianDiffusion, Prediction, ProductDiffusion, by_part
from noiseloom.manifolds import Manifold
from noiseloom.noise import Schedule
from noiseloom.preconditioning import (
    LOG_SNR_LIMIT,
    Head,
    LinearHead,
    Preconditioning,
    SigmoidHead,
    SoftmaxHead,
)
from noiseloom.rng import Rng
from noiseloom.shapes import Cond, align, part_times, parts_of

__all__ = [
    "LOG_SNR_LIMIT",
    "Clipped",
    "Denoiser",
    "Head",
    "LinearHead",
    "Preconditioned",
    "PreconditionedParts",
    "Projected",
    "SigmoidHead",
    "SoftmaxHead",
]


class Denoiser(Protocol):
    """An estimate of x_0, given x_t and whatever is known."""

    def __call__(
        self,
        x: Tensor,
        t: Tensor,
        cond: Cond | None = None,
        carry: Carry | None = None,
        rng: Rng | None = None,
    ) -> tuple[Prediction, Carry]:
        """The prediction at time t, and what the next call should be given."""


class Preconditioned(nn.Module):
    """A denoiser from a network, a schedule, a target and a head, as `Preconditioning` has them.

    Args:
        network: `(x, log_snr, cond) -> output`, or `-> (output, hidden)`. log_snr is float32 of
            shape (B,), or a longer left prefix of the state's shape where the time is finer. Given
            `cond["position"]`, the index of the state's first token, it is called with the carry's
            cache as `cond["cache"]`, and returns `(output, entries)`, which are handed on as "new".
        schedule: t -> (alpha, sigma).
        target: what the network predicts; "eps" needs alpha(1) > 0, "score" a manifold.
        head: how outputs become an estimate; other than linear only with target "x0".
        data_std: the standard deviation of the data, used by "edm".
        clock: largest |log-SNR| that the network is told, in (0, 20].
        manifold: where the states live, for "score".
    """

    def __init__(
        self,
        network: nn.Module,
        schedule: Schedule,
        *,
        target: Literal["x0", "eps", "v", "edm", "score"] = "x0",
        head: Head | None = None,
        data_std: float = 1.0,
        clock: float = LOG_SNR_LIMIT,
        manifold: Manifold | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.how = Preconditioning(
            schedule, target, head or LinearHead(), data_std, clock, manifold
        )

    @property
    def schedule(self) -> Schedule:
        """T -> (alpha, sigma)."""
        return self.how.schedule

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        cond: Cond | None = None,
        carry: Carry | None = None,
        rng: Rng | None = None,
    ) -> tuple[Prediction, Carry]:
        """The prediction at time t, a left prefix of the shape of x; the carry passes through."""
        t = align(t, x)
        level = self.how.level(t)
        carry = dict(carry or {})
        write, streams = False, cond is not None and "position" in cond
        if cond is not None and streams:
            if "cache" not in carry:
                blank = getattr(self.network, "blank", None)
                carry["cache"] = blank(x) if blank else {}
            write = cond.get("write", False)
            cond = {**{k: v for k, v in cond.items() if k != "write"}, "cache": carry["cache"]}
        # Classes have no type that numbers could go on in.
        dtype = x.dtype if x.is_floating_point() else next(self.network.parameters()).dtype
        output = self.network(self.how.seen(x, level), self.how.told(x, t), cond)
        output, hidden = output if isinstance(output, tuple) else (output, None)
        # Without gradients the network may be a CUDA graph: what outlives the call is copied, a
        # hidden state, and entries, but only when they are to be kept.
        if streams:
            if write:
                carry["new"] = clone(hidden)
            hidden = None
        # Networks may run in bfloat16 under autocast; everything after them does not.
        with torch.autocast(x.device.type, enabled=False):
            prediction = self.how.estimate(output, x, level, dtype)
        if hidden is not None:
            hidden = hidden if torch.is_grad_enabled() else hidden.clone()
            prediction = Prediction(**{**vars(prediction), "hidden": hidden})
        return prediction, carry


class PreconditionedParts(nn.Module):
    """A denoiser of a product state: one network sees all parts, each in its own preconditioning.

    Args:
        network: `(x, log_snr, cond) -> outputs`, all three by the names of the parts: states as
            their preconditioning shows them, and of each part its own log-SNR, float32 of shape
            (B,), or a longer left prefix of the part's shape where its time is finer.
        parts: how each part is preconditioned.

    Raises:
        ValueError: no parts.

    Example:
        >>> from noiseloom import Cosine, EDM
        >>> class Network(nn.Module):
        ...     def forward(self, x, log_snr, cond=None):
        ...         return {name: torch.zeros_like(part) for name, part in x.items()}
        >>> parts = {"a": Preconditioning(EDM(), "edm"), "b": Preconditioning(Cosine(), "v")}
        >>> denoiser = PreconditionedParts(Network(), parts)
        >>> x = {"a": torch.zeros(2, 3), "b": torch.zeros(2, 5)}
        >>> said, _ = denoiser(x, torch.tensor([0.5, 0.2]))
        >>> {name: tuple(prediction.mean.shape) for name, prediction in said.items()}
        {'a': (2, 3), 'b': (2, 5)}
    """

    def __init__(self, network: nn.Module, parts: Mapping[str, Preconditioning]) -> None:
        super().__init__()
        if not parts:
            raise ValueError("a denoiser of parts needs at least one")
        self.network = network
        self.parts = dict(parts)

    def forward(
        self,
        x: dict[str, Tensor],
        t: Tensor | Mapping[str, Tensor],
        cond: Cond | None = None,
        carry: Carry | None = None,
        rng: Rng | None = None,
    ) -> tuple[dict[str, Prediction], Carry]:
        """A prediction of each part; the carry passes through.

        Args:
            x: state by name.
            t: times by name, or one for all, of shape () or (B,).
            cond: conditions, for the network.
            carry: handed on.
            rng: not used.

        Raises:
            ValueError: a state, times or outputs of other parts.
        """
        x, times = parts_of(self.parts, x), part_times(t, x)
        aligned = {name: align(times[name], part) for name, part in x.items()}
        levels = {name: how.level(aligned[name]) for name, how in self.parts.items()}
        seen = {name: how.seen(x[name], levels[name]) for name, how in self.parts.items()}
        told = {name: how.told(x[name], aligned[name]) for name, how in self.parts.items()}
        outputs = parts_of(self.parts, self.network(seen, told, cond))
        place = next(iter(x.values())).device.type
        with torch.autocast(place, enabled=False):
            said = {
                name: how.estimate(outputs[name], x[name], levels[name])
                for name, how in self.parts.items()
            }
        return said, dict(carry or {})


class Clipped(nn.Module):
    """Keeps the mean within [-limit, limit].

    For bits the limit is their level: the decoded signs stay, but the noise that solvers derive
    from the mean, and the next self-conditioning input, are the clipped one's.

    Args:
        denoiser: the denoiser to clip.
        limit: > 0.

    References:
        T. Chen, R. Zhang, G. Hinton, 2022, arXiv 2208.04202 (the released code's x0 clipping).
    """

    def __init__(self, denoiser: nn.Module, limit: float) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.limit = limit

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        cond: Cond | None = None,
        carry: Carry | None = None,
        rng: Rng | None = None,
    ) -> tuple[Prediction, Carry]:
        """The inner prediction with its mean clipped."""
        prediction, carry = self.denoiser(x, t, cond, carry, rng)
        fields: dict[str, Any] = vars(prediction)
        mean = prediction.mean.clamp(-self.limit, self.limit)
        return Prediction(**{**fields, "mean": mean}), carry


class Projected(nn.Module):
    """Keeps the mean where states are: of padding it is 0, of edges symmetric without diagonal.

    Moves and scores project what a denoiser says, and so need this not where their diffusion knows
    the mask. Whatever else reads it does: guidance, whose diffusion is that of all batches, and the
    next self-conditioning input, where heads say something of padding, too.

    Args:
        denoiser: the inner denoiser.
        diffusion: what noise is, in all examples; `cond["mask"]`, bool (B, N), says which nodes of
            a batch are real, if there is padding.
    """

    def __init__(
        self, denoiser: nn.Module, diffusion: GaussianDiffusion | ProductDiffusion
    ) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.diffusion = diffusion

    def forward(
        self,
        x: Any,  # noqa: ANN401
        t: Any,  # noqa: ANN401
        cond: Cond | None = None,
        carry: Carry | None = None,
        rng: Rng | None = None,
    ) -> tuple[Any, Carry]:
        """The inner prediction, or that of each part, with its mean projected."""
        said, carry = self.denoiser(x, t, cond, carry, rng)
        mask = (cond or {}).get("mask")
        diffusion = self.diffusion if mask is None else self.diffusion.on(mask)
        found = {}
        for name, (own, part, time) in by_part(diffusion, x, t).items():
            prediction = said[name] if name else said
            fields: dict[str, Any] = vars(prediction)
            found[name] = Prediction(**{**fields, "mean": own.result(prediction, part, time)})
        return found.get("", found), carry
