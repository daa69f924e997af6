"""What goes wrong in calls that must not wait for the device: noted there, and read later.

A guide whose reward is not a number spoils the samples, and on a GPU the host would have to wait in
every step to see it. So faults are numbers beside the state, one an example, under "faults" in the
carry (`noiseloom.carry`): 0 until something went wrong, then the first thing that did. `sample`
reads them once a plan, `rollout` and `slide` once a chunk.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from noiseloom.carry import Carry

__all__ = ["Faults", "faults_of", "tell", "waits"]

FAR = 1e4
"""No state of unit variance is as large: EDM's noise, of deviation 80, comes to 400."""

_OWNER = "faults"
_REWARD, _KINK, _THROWN = 1, 2, 3


class Faults:
    """The faults of a guide's calls so far.

    Args:
        x: x_t, shape (B, ...).
        scale: of the guide, which is named where it may have been too large.
        carry: of the calls before, or None.
    """

    def __init__(self, x: Tensor, scale: float, carry: Carry | None) -> None:
        self.x, self.scale = x.detach(), scale
        self.inner = dict(carry or {})
        self.found: dict[str, Tensor] | None = self.inner.pop(_OWNER, None)

    def note(
        self, estimates: Sequence[Tensor], rewards: Tensor, grad: Tensor, pulls: Sequence[Tensor]
    ) -> None:
        """Look at what a reward was given and gave.

        Args:
            estimates: clean states that were rewarded, each (B, ...).
            rewards: r of each, shape (B, R).
            grad: their gradient in x_t, shape (B, ...).
            pulls: their gradients in the estimates, each (B, ...).

        Raises:
            ValueError: something is not finite, where the host knows it.
        """
        far = _any(~(self.x.abs() <= FAR))  # NaN is far too
        for estimate in estimates:
            far = far | _any(~(estimate.detach().abs() <= FAR))
        unsound = _any(~rewards.detach().isfinite())
        kink = torch.stack([_any(~pull.isfinite()) for pull in pulls]).any(0)
        steep = _any(~grad.isfinite())
        # The derivative of the network is no fault of the reward's, whose own gradient is finite.
        # Filled, since a number given to `where` is copied from the host, which is a wait.
        code = _THROWN * (steep & ~kink) + _KINK * kink
        code = code.masked_fill(unsound, _REWARD)
        code = code.masked_fill(far & (code > 0), _THROWN)
        if waits(code):
            if code.any():
                example = int((code > 0).nonzero()[0])
                worst = rewards[example].detach()[~rewards[example].isfinite()]
                got = str(float(worst[0])) if len(worst) else ""
                raise ValueError(_said(int(code[example]), example, self.scale, got))
            return
        before = self.found or {
            "code": torch.zeros_like(code),
            "scale": torch.full_like(code, self.scale, dtype=torch.float32),
        }
        self.found = {**before, "code": torch.where(before["code"] > 0, before["code"], code)}

    def onto(self, carry: Carry) -> Carry:
        """A carry with what was noted, and is still to be read."""
        return carry if self.found is None else {**carry, _OWNER: self.found}


def waits(value: Tensor) -> bool:
    """Whether reading a tensor is free: on the CPU, outside of compiled code."""
    return value.device.type == "cpu" and not torch.compiler.is_compiling()


def faults_of(carry: Carry) -> list[dict[str, Tensor]]:
    """What was noted in a carry, by whichever of its owners."""
    found: list[dict[str, Tensor]] = []
    for owner, tree in carry.items():
        if owner == _OWNER:
            found.append(tree)
        elif isinstance(tree, dict):
            found += faults_of(tree)
    return found


def tell(noted: list[dict[str, Tensor]]) -> None:
    """Read what was noted: one wait, where there is anything to read.

    Args:
        noted: by `faults_of` of a carry.

    Raises:
        ValueError: something went wrong; the first example is named.
    """
    if not noted or torch.compiler.is_compiling():
        return
    codes = torch.stack([one["code"] for one in noted]).tolist()
    for row, one in zip(codes, noted, strict=True):
        for example, code in enumerate(row):
            if code:
                raise ValueError(_said(code, example, float(one["scale"][example])))


def _said(code: int, example: int, scale: float, got: str = "another") -> str:
    if code == _REWARD:
        return f"guidance needs finite rewards, got {got} for example {example}"
    if code == _KINK:
        return (
            f"the reward's gradient is not finite (example {example}): use one without kinks or "
            "poles, such as sqrt(d^2 + 1e-6) in place of a distance d"
        )
    return (
        f"what is to be rewarded of example {example} is out of range: guidance of scale {scale:g} "
        "has thrown it too far, so lower its scale, or begin it later"
    )


def _any(wrong: Tensor) -> Tensor:
    """Of every example, shape (B,)."""
    return wrong.reshape(len(wrong), -1).any(1)
