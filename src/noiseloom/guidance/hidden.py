"""NOS: guidance of discrete diffusions through the network's last hidden states.

Classes have no gradient, but the states h that a network makes their logits of have. They are moved
to where a guide that reads them says more, and held by how far the logits have gone:

    minimise over delta   -v(h + delta) + stability KL(p(. | h + delta) || p(. | h))

by a few Adagrad steps; then the logits are those of h + delta. A hook in the network, not a tilt.

References:
    N. Gruver et al., 2023, Protein Design with Guided Discrete Diffusion, arXiv 2305.20009,
    Section 4.2 and Algorithm 2.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor, nn

from noiseloom.class_denoiser import ClassDenoiser, CodeDenoiser
from noiseloom.context import Guide, GuideEnsemble, mixture
from noiseloom.guidance.acquisition import Acquisition
from noiseloom.guidance.gradient import checked

__all__ = ["HiddenGuided", "StateValue", "Unfinished", "hidden_guided", "state_value"]

StateValue: TypeAlias = Callable[[Tensor, Mapping[str, Any]], Tensor]
"""From token states (B, T, W) and conditions to what each row is worth, shape (B,)."""


@runtime_checkable
class Unfinished(Protocol):
    """A network that can stop at its last token states, and go on from others.

    `finish(*states(...))` is what it says when called; `finish` works token by token.
    """

    def states(
        self, x: Tensor, log_snr: Tensor, cond: Mapping[str, Any] | None = None
    ) -> tuple[Tensor, Any]:
        """The last token states, shape (B, T, W), and what `finish` needs besides."""

    def finish(self, h: Tensor, rest: object) -> Tensor | tuple[Tensor, Tensor]:
        """The output, shape (B, T, K), perhaps with hidden states for the next call."""


class HiddenGuided(nn.Module):
    """A network of classes whose last token states are moved before it says its logits.

    With G the sum of squared gradients so far, each of `steps` times

        delta <- delta - rate grad / (sqrt(G) + 1e-10),    where the token is free.

    Tokens that are not free have the logits that they had. KL is the sum over free tokens, of
    log-softmaxes. The paper's code takes the mean over batch, tokens and classes (of logits that
    are not normalised, and the other way round): its lambda is B T K times `stability`.

    Args:
        network: with `states` and `finish`, as `Transformer`.
        value: v, differentiable in the states: as `state_value` makes it.
        steps: K >= 0; at 0 the network itself.
        rate: eta, of Adagrad: about the length of the first step, in each entry.
        stability: lambda >= 0.
        mask: the class that is the mask, if there is one: then tokens are free by default where
            they are masked; otherwise all are. `cond["free"]`, bool (B, T) or (T,),
            says which are.

    Raises:
        ValueError: numbers out of range, and, in a call, values of another shape, without a
            gradient, or (read on the CPU only) not finite.
    """

    def __init__(
        self,
        network: nn.Module,
        value: StateValue,
        *,
        steps: int = 10,
        rate: float = 1.0,
        stability: float = 0.01,
        mask: int | None = None,
    ) -> None:
        super().__init__()
        if steps < 0 or rate <= 0 or stability < 0:
            raise ValueError(
                "hidden guidance needs steps >= 0, rate > 0 and stability >= 0, got "
                f"{steps}, {rate} and {stability}"
            )
        if not isinstance(network, Unfinished):
            raise ValueError(
                f"{type(network).__name__} has no states to move: hidden guidance is for networks "
                "with states and finish, as Transformer"
            )
        self.network: Any = network
        self.value = value
        self.steps, self.rate, self.stability, self.mask = steps, rate, stability, mask

    @property
    def causal(self) -> bool:
        """Whether the network is."""
        return bool(getattr(self.network, "causal", False))

    def forward(
        self, x: Tensor, log_snr: Tensor, cond: Mapping[str, Any] | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """The output of the moved states; conditions are those of the network, and "free"."""
        told = dict(cond or {})
        free = told.pop("free", None)
        h, rest = self.network.states(x, log_snr, told)
        if self.steps:
            h = h + self._offset(h, rest, self._free(x, free).to(h.dtype), told)
        said: Tensor | tuple[Tensor, Tensor] = self.network.finish(h, rest)
        return said

    def _offset(self, h: Tensor, rest: object, free: Tensor, told: Mapping[str, Any]) -> Tensor:
        """The delta, 0 where a token is not free."""
        h = h.detach()
        with torch.no_grad():
            before = _log_softmax(self.network.finish(h, rest))
        delta = total = torch.zeros_like(h)
        for _ in range(self.steps):
            with torch.enable_grad():
                delta = delta.detach().requires_grad_()
                moved = h + free * delta
                worth = checked(self.value(moved, told), moved)
                after = _log_softmax(self.network.finish(moved, rest))
                apart = (after.exp() * (after - before)).sum((1, 2))
                loss = (self.stability * apart - worth).sum()
                (grad,) = torch.autograd.grad(loss, delta)
            total = total + grad * grad
            delta = delta.detach() - self.rate * grad / (total.sqrt() + 1e-10)
        return free * delta

    def _free(self, x: Tensor, free: Tensor | None) -> Tensor:
        """Which tokens may be moved, shape (B, T, 1)."""
        tokens = x.shape[:2]
        if free is None:
            if self.mask is None:
                return torch.ones((*tokens, 1), device=x.device)
            here = x[..., self.mask] > 0 if x.is_floating_point() else x == self.mask
            return here[..., None]
        if free.shape not in (tokens, tokens[1:]):
            raise ValueError(
                f"free tokens of shape {tuple(free.shape)} for tokens of {tuple(tokens)}: "
                "expected the same, or one row for all"
            )
        return free.to(x.device).expand(tokens)[..., None]


def hidden_guided(
    denoiser: nn.Module,
    value: StateValue,
    *,
    steps: int = 10,
    rate: float = 1.0,
    stability: float = 0.01,
) -> nn.Module:
    """A denoiser of classes, or of codes of them, however wrapped, guided through hidden states.

    The weights are the denoiser's own, which stays as it is. Options are those of `HiddenGuided`.

    Raises:
        ValueError: there is no denoiser of classes in it.
    """
    network = _core(denoiser).network
    # All shells are copied, the network is not: it is already known to the copying.
    guided = copy.deepcopy(denoiser, {id(network): network})
    core = _core(guided)
    space: Any = core.diffusion if isinstance(core, ClassDenoiser) and core.timeless else None
    mask = None if space is None else space.num_classes
    core.inner.network = HiddenGuided(
        network, value, steps=steps, rate=rate, stability=stability, mask=mask
    )
    return guided


def _core(denoiser: nn.Module) -> ClassDenoiser | CodeDenoiser:
    for module in denoiser.modules():
        if isinstance(module, ClassDenoiser | CodeDenoiser):
            return module
    raise ValueError(f"{type(denoiser).__name__} is no denoiser of classes")


def state_value(guide: Guide | GuideEnsemble, acquisition: Acquisition) -> StateValue:
    """What a guide says of token states: of a network that is `PooledStates` of the denoiser's own.

    Args:
        guide: with such a network, in evaluation.
        acquisition: what is asked of it.
    """
    members: list[Any] = guide.guides if isinstance(guide, GuideEnsemble) else [guide]

    def value(h: Tensor, cond: Mapping[str, Any]) -> Tensor:
        said = [m.in_units(m.outputs(m.network.pooled(h, cond))) for m in members]
        return acquisition(mixture(said) if len(said) > 1 else said[0])

    return value


def _log_softmax(said: Tensor | tuple[Tensor, Tensor]) -> Tensor:
    logits = said if isinstance(said, Tensor) else said[0]
    return logits.float().log_softmax(-1) if logits.itemsize < 4 else logits.log_softmax(-1)
