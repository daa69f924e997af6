r"""Averages of the weights along training.

Every average here obeys one line, after each update of the weights theta:

    average <- beta average + (1 - beta) theta,    beta = decay(step),    step = 1, 2, ...

and a `Decay` is all that tells two averages apart. The exponential average has beta = d, warmed up.
The power-function average weighs theta(tau) by tau^gamma, so that its width grows in proportion to
the length of training; its width is stated relative to that length,

    sigma_rel = sqrt(gamma + 1) / ((gamma + 2) sqrt(gamma + 3)).

Snapshots of two power-function averages taken during training span, to a good approximation, every
other one: `reconstruct` finds any sigma_rel afterwards, without training again.

T. Karras, M. Aittala, J. Lehtinen, J. Hellsten, T. Aila, S. Laine, 2024, "Analyzing and improving
the training dynamics of diffusion models", arXiv 2312.02696, section 3 and appendix C.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from noiseloom.training.checkpoint import read

__all__ = ["Average", "Decay", "exponential", "power_function", "reconstruct"]

Decay: TypeAlias = Callable[[int], float]
"""From the number of the update (1, 2, ...) to beta, the share of the old average that is kept."""


class Average:
    """A running average of a model's parameters, which starts as the parameters themselves.

    Args:
        model: the model; its parameters are read at each update, where they are then.
        decay: beta of each update.

    Example:
        >>> model = nn.Linear(2, 2)
        >>> average = Average(model, exponential(0.999))
        >>> torch.equal(average.state_dict()["bias"], model.bias)
        True
    """

    def __init__(self, model: nn.Module, decay: Decay) -> None:
        self.model, self.decay = model, decay
        self._parameters: list[Tensor] = list(model.parameters())
        self._averages = [p.detach().clone() for p in self._parameters]
        self._of = {id(p): a for p, a in zip(self._parameters, self._averages, strict=True)}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the parameters after update number `step` (1, 2, ...)."""
        torch._foreach_lerp_(self._averages, self._parameters, 1 - self.decay(step))

    def state_dict(self) -> dict[str, Tensor]:
        """The model's state with averaged parameters; its buffers are the model's own."""
        state = self.model.state_dict(keep_vars=True)
        return {name: self._of.get(id(value), value).detach() for name, value in state.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a saved average."""
        for name, value in self.model.state_dict(keep_vars=True).items():
            if id(value) in self._of:
                self._of[id(value)].copy_(state[name])


def exponential(decay: float) -> Decay:
    """Warmed-up decay: beta = min(d, (1 + k) / (10 + k)) after k earlier updates.

    Args:
        decay: d, in [0, 1).
    """
    return lambda step: min(decay, step / (step + 9))


def power_function(sigma_rel: float) -> Decay:
    """Weights proportional to tau^gamma: beta = (1 - 1 / step)^(gamma + 1).

    For weights that are constant between updates the recursion is exact: weight j of n counts
    (j^(gamma + 1) - (j - 1)^(gamma + 1)) / n^(gamma + 1). Equation 2 of the paper.

    Args:
        sigma_rel: width of the average relative to the length of training, in (0, 0.28].
    """
    power = _gamma(sigma_rel) + 1
    return lambda step: (1 - 1 / step) ** power


def reconstruct(folder: Path, sigma_rel: float, step: int | None = None) -> dict[str, Tensor]:
    r"""The power-function average of any width, from the snapshots of a run.

    The profile p_r of the wanted average is projected onto the profiles p_i of the snapshots:

        sum_i x_i theta_i,    A x = b,    A_ij = <p_i, p_j>,    b_i = <p_i, p_r>,

        <p_a, p_b> = (ga + 1) (gb + 1) min(ta, tb)^(ga + gb + 1)
                     / ((ga + gb + 1) ta^(ga + 1) tb^(gb + 1)),

    the integral of two profiles p(tau) = (g + 1) tau^g / t^(g + 1) on [0, t]. Appendix C.

    Args:
        folder: `ema_snapshots` of a run trained with `post_hoc_ema`.
        sigma_rel: relative width, best between those of the snapshots (0.05 to 0.10).
        step: t, the length of training to average over; by default all that there are snapshots
            of. It is best one of the steps that have a snapshot.

    Returns:
        A state dict, on the CPU.

    Raises:
        FileNotFoundError: no snapshot up to `step`.
    """
    pattern = re.compile(r"step-(\d+)-([\d.]+)\.safetensors")
    matches = [m for path in sorted(Path(folder).glob("*")) if (m := pattern.fullmatch(path.name))]
    matches = [m for m in matches if step is None or int(m[1]) <= step]
    if not matches:
        raise FileNotFoundError(
            f"no snapshot up to step {step} in {folder}: train with post_hoc_ema on"
            if step is not None
            else f"no snapshot in {folder}: train with post_hoc_ema on"
        )
    t = np.array([float(m[1]) for m in matches])
    g = np.array([_gamma(float(m[2])) for m in matches])
    t_r, g_r = np.array([step or t.max()]), np.array([_gamma(sigma_rel)])
    gram, target = _inner(t, g, t, g), _inner(t, g, t_r, g_r)[:, 0]
    x = np.linalg.lstsq(gram, target, rcond=None)[0]

    total: dict[str, Tensor] = {}
    newest: dict[str, Tensor] = {}
    for match, share in zip(matches, x.tolist(), strict=True):
        newest = read(Path(folder) / match[0])
        for name, value in newest.items():
            if value.is_floating_point():
                total[name] = total.get(name, 0) + share * value.double()
    return {k: total[k].to(v.dtype) if k in total else v for k, v in newest.items()}


def _gamma(sigma_rel: float) -> float:
    """The exponent of a width: the largest root of (g + 2)^2 (g + 3) = (g + 1) / sigma_rel^2."""
    if not 0 < sigma_rel <= 0.28:  # gamma = 0, the plain mean, has 1 / sqrt(12) = 0.289
        raise ValueError(f"sigma_rel must be in (0, 0.28], got {sigma_rel}")
    v = sigma_rel**-2
    return float(np.roots([1, 7, 16 - v, 12 - v]).real.max())


def _inner(ta: "np.ndarray", ga: "np.ndarray", tb: "np.ndarray", gb: "np.ndarray") -> "np.ndarray":
    ta, ga = ta[:, None], ga[:, None]
    short = np.minimum(ta, tb)
    # Grouped as ratios <= 1: the powers alone overflow.
    ratios = (short / ta) ** ga * (short / tb) ** gb * short / (ta * tb)
    product: np.ndarray = (ga + 1) * (gb + 1) / (ga + gb + 1) * ratios
    return product
