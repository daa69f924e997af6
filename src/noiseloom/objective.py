"""What is learnt: losses, the times they are taken at, and how those are weighted.

`denoising_loss` is Bit Diffusion's Algorithm 1 for any diffusion, denoiser and head. A time sampler
is a function `(shape, rng) -> t`, a weight a function `log_snr -> w` of the error of x_0.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

import noiseloom.carry as carries
from noiseloom.carry import Carry
from noiseloom.denoiser import LOG_SNR_LIMIT
from noiseloom.diffusion import Diffusion, Prediction, ProductDiffusion
from noiseloom.noise import Schedule
from noiseloom.rng import Rng
from noiseloom.shapes import Cond, State, align, first_part, map_state, part_times

__all__ = [
    "Measure",
    "Weight",
    "denoising_loss",
    "drop_condition",
    "edm_weight",
    "eps_weight",
    "log_normal_times",
    "logit_normal",
    "min_snr_weight",
    "self_conditioned_rows",
    "stratified_times",
    "uniform_times",
    "v_weight",
]

Weight: TypeAlias = Callable[[Tensor], Tensor]
"""From log-SNR to the weight of the squared error of x_0."""

Measure: TypeAlias = Callable[[Prediction, Tensor, Tensor, Tensor], Tensor]
"""What a prediction of x_0 from x_t at t costs: `(prediction, clean, x, t) -> loss`."""

S = TypeVar("S", Tensor, dict[str, Tensor])
"""A state: a tensor, or its parts by name."""


def uniform_times(shape: Sequence[int], rng: Rng, device: torch.device | str = "cpu") -> Tensor:
    """Times t ~ U(0, 1), independent: shape (B,), or (B, T) for a time per token."""
    return rng.uniform(shape, device=device)


def stratified_times(
    rows: Tensor, batch: int, rng: Rng, device: torch.device | str = "cpu"
) -> Tensor:
    """One time in each of `batch` equal parts of [0, 1]: t_i = (i + u_i) / batch.

    Each is uniform over the training set, and a batch covers all noise levels evenly, which takes
    the spread of t out of the gradient's noise.

    Args:
        rows: global positions i in the batch, int64, shape (b,).
        batch: size of the global batch.
        rng: one key per sample.
        device: where the times go.

    References:
        D. Kingma et al., 2021, arXiv 2107.00630, Appendix I.1.
    """
    u = rng.uniform(rows.shape, device=device)
    return (rows.to(u.device, non_blocking=True) + u) / batch


def logit_normal(t: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Uniform times to logit-normal ones: ln(t / (1 - t)) ~ N(mean, std^2).

    Puts the batch where the structure of a sample is decided, and little of it at the ends, where
    there is nothing left or nothing yet to learn; the optimum at each t stays the same.

    Args:
        t: uniform in [0, 1], any shape (stratified times stay stratified).
        mean: of the logit; above 0 is noisier.
        std: of the logit, > 0.

    References:
        P. Esser et al., 2024, arXiv 2403.03206, Section 3.1.
    """
    edge = 1e-6
    normal = torch.special.ndtri(t.double().clamp(edge, 1 - edge))
    made: Tensor = (mean + std * normal).sigmoid().to(t.dtype)
    return made


def log_normal_times(
    shape: Sequence[int],
    rng: Rng,
    schedule: Schedule,
    *,
    mean: float = -1.2,
    std: float = 1.2,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Times whose noise-to-signal ratio is log-normal: ln(sigma / alpha) ~ N(mean, std^2).

    References:
        T. Karras et al., 2022, arXiv 2206.00364, Table 1 (training).
    """
    log_ratio = mean + std * rng.normal(shape, device=device)
    return schedule.time(-2 * log_ratio).clamp(0, 1)


def eps_weight(log_snr: Tensor) -> Tensor:
    """SNR: the squared error of x_0 becomes that of eps."""
    return _snr(log_snr)


def v_weight(log_snr: Tensor) -> Tensor:
    """SNR + 1: the squared error of x_0 becomes that of v."""
    return _snr(log_snr) + 1


def min_snr_weight(cap: float = 5.0) -> Weight:
    """min(SNR, cap) (T. Hang et al., 2023, arXiv 2303.09556, Section 3.4)."""
    return lambda log_snr: log_snr.exp().clamp(max=cap)


def edm_weight(data_std: float = 0.5) -> Weight:
    """SNR + 1 / data_std^2, which is (sigma^2 + d^2) / (sigma d)^2 (2206.00364, Table 1)."""
    return lambda log_snr: _snr(log_snr) + data_std**-2


def self_conditioned_rows(rows: Tensor, rate: float) -> Tensor:
    """Which of some rows get a first pass: floor(rate B) of the first B, evenly spread.

    Row i does where floor((i + 1) rate) > floor(i rate): of any B in a row, floor(rate B) or one
    more. It follows the global index, so that every process of a parallel run has its share, and
    the number is fixed: the cost is constant. Products within 1e-9 of a whole number count as it:
    0.7 of 90 are 63, though 0.7 * 90 is below 63 in floating point.

    Args:
        rows: int64, shape (b,), global positions in the batch, on the CPU.
        rate: in [0, 1].

    Returns:
        Positions in `rows`, int64.
    """
    before, after = ((n * rate + 1e-9).floor() for n in (rows.double(), rows.double() + 1))
    return (after > before).nonzero()[:, 0]


def drop_condition(label: Tensor, null: int, rate: float, rng: Rng) -> Tensor:
    """Labels with a share `rate` of them replaced by the null class, drawn per sample.

    References:
        J. Ho, T. Salimans, 2022, arXiv 2207.12598, Algorithm 1 (p_uncond).
    """
    if rate == 0:
        return label
    return torch.where(rng.uniform(label.shape, device=label.device) < rate, null, label)


def denoising_loss(
    denoiser: nn.Module,
    diffusion: Diffusion | ProductDiffusion,
    clean: S,
    t: Tensor | S,
    cond: Cond | None,
    rng: Rng,
    *,
    rows: Tensor | None = None,
    self_conditioning: float = 0.0,
    weight: Weight | Mapping[str, Weight] | None = None,
    counted: Tensor | Mapping[str, Tensor] | None = None,
    cross_entropy: bool = False,
    measure: Measure | None = None,
) -> S:
    """The denoising loss of each sample, E over entries of w(log-SNR) |x_0 - mean|^2.

    1. x_t is formed once. 2. A fixed share of the rows takes a first pass, without gradient, from
    the null carry; what it hands on is given to those rows, null to the others. 3. The loss is on
    the second pass.

    Args:
        denoiser: what is trained, in training mode.
        diffusion: what noise is.
        clean: x_0, shape (B, ...): numbers, or classes (int64); or its parts by name.
        t: time, shape (B,) or a longer left prefix; of parts one for all, or times by name.
        cond: conditions, batch first.
        rng: key of the noise; one key per sample, or one for all, from which each sample has its
            own by its row. Its stream "dropout" goes to the network as `cond["dropout"]`, one key
            per sample, and "denoiser" to the denoiser, the same in both passes.
        rows: global positions of the samples, int64 on the CPU; by default 0 .. B - 1.
        self_conditioning: share of rows that take the first pass, in [0, 1].
        weight: of the error of x_0 by log-SNR, or None for 1. On manifolds the loss is the error
            of sigma times the score, and so is what it weighs. Of parts one for all, or by name.
        counted: bool, a left prefix of the state's shape as a time is: the entries the mean is
            over, by default all. A sample without any has loss 0. With one time per sample
            padding is left out already by `diffusion.on(mask)`.
        cross_entropy: use the head's logits instead of its mean's squared error.
        measure: `(prediction, clean, x, t) -> loss` in the shape of the aligned time, instead of
            the diffusion's own.

    Returns:
        Shape (B,); of each part by name, for the caller to weigh.

    References:
        T. Chen, R. Zhang, G. Hinton, 2022, arXiv 2208.04202, Algorithm 1.
    """
    first = first_part(clean)
    batch, device = len(first), first.device
    rows = torch.arange(batch) if rows is None else rows
    if not isinstance(rng.root, Tensor):
        rng = rng.each("sample", rows.to(device, non_blocking=True))
    noise: Any = diffusion  # of a tensor or of parts, as the state is
    x = noise.corrupt(clean, t, rng.fold("noise"))
    draws = rng.fold("denoiser")  # both passes see the same
    carry: Carry | None = None
    if self_conditioning:
        chosen = self_conditioned_rows(rows, self_conditioning).to(device, non_blocking=True)
        if len(chosen):
            with torch.no_grad():
                told = _with_dropout(_rows(cond, chosen), rng.rows(chosen).fold("first pass"))
                some, time = map_state(lambda part: part[chosen], x), _time_rows(t, chosen)
                _, carry = denoiser(some, time, told, None, draws.rows(chosen))
            carry = carries.scatter(carry, chosen, batch)
    prediction, _ = denoiser(x, t, _with_dropout(cond, rng), carry, draws)

    def of(name: str | None, diffusion: Diffusion, said: Prediction, time: Tensor) -> Tensor:
        def own(value: Any) -> Any:  # noqa: ANN401
            return value if name is None or not isinstance(value, Mapping) else value.get(name)

        said = said if cross_entropy else replace(said, logits=None)
        return _per_sample(
            diffusion, said, own(clean), own(x), time, own(weight), own(counted), own(measure)
        )

    if isinstance(clean, Tensor):
        return of(None, noise, prediction, t)
    times = part_times(t, clean)
    return {name: of(name, noise.parts[name], prediction[name], times[name]) for name in clean}


def _per_sample(
    diffusion: Diffusion,
    prediction: Prediction,
    clean: Tensor,
    x: Tensor,
    t: Tensor,
    weight: Weight | None,
    counted: Tensor | None,
    measure: Measure | None,
) -> Tensor:
    # A loss of its own for each sample, and for each entry that may or may not count.
    axes = 1 if counted is None else counted.ndim
    t = align(t, clean)
    t = t.reshape(t.shape or [1] * clean.ndim).to(clean.device)
    t = t.expand(*clean.shape[:axes], *t.shape[axes:])
    loss = (measure or diffusion.loss)(prediction, clean, x, t)
    if weight is not None:
        loss = loss * weight(diffusion.schedule.log_snr(t))
    if counted is None:
        return loss.flatten(1).mean(1)
    share = align(counted.to(loss.dtype), clean)
    # Not times 0: what does not count may be infinite.
    total = torch.where(share > 0, loss, 0).flatten(1).sum(1)
    return total / share.expand_as(loss * share).flatten(1).sum(1).clamp(min=1)


def _with_dropout(cond: Cond | None, rng: Rng) -> dict[str, Any]:
    return {**(cond or {}), "dropout": rng.fold("dropout").key}


def _rows(cond: Cond | None, chosen: Tensor) -> dict[str, Any]:
    return {k: v[chosen] if isinstance(v, Tensor) else v for k, v in (cond or {}).items()}


def _time_rows(t: State, chosen: Tensor) -> Any:  # noqa: ANN401
    return map_state(lambda own: own[chosen] if own.ndim and len(own) > 1 else own, t)


def _snr(log_snr: Tensor) -> Tensor:
    """SNR, bounded as the network's clock is: times may come as close to 0 as they like."""
    return log_snr.clamp(max=LOG_SNR_LIMIT).exp()
