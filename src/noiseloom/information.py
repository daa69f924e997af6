"""A schedule for codes of classes: what a token still says of its own class falls evenly in time.

For masks with linear gamma a token is known with probability 1 - t, so that the share of its
entropy that it has lost is t. Codes in a Gaussian diffusion have no such schedule of their own: of
16 random features a class can be read until a cosine's t is 0.7, and most times in training would
show nothing to learn. Here t is that share, whatever the codes are,

    t = H(x | alpha c(x) + sigma eps) / H(x),

for one token alone, by drawn noise. So times mean the same for all states of one data set. Where
places have laws of their own, as the columns of a table, it is the share of what all of them know,

    t = sum_c H(x_c | alpha c(x_c) + sigma eps) / sum_c H(x_c),

so that a column counts by its entropy, as in the bound. One schedule is for all columns, since one
for each would gain little: of columns of 2 to 32 classes half is lost at log-SNRs that are within
0.1 (bits) to 0.6 (one-hot, random features) of each other.

S. Dieleman et al., 2022, arXiv 2211.15089, Section 3.4, warp times to the same end by the loss.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from noiseloom.rng import Rng
from noiseloom.schedule import Pair, wide

__all__ = ["Tabulated", "affordable_draws", "information_schedule"]

_LIMIT = 14.0  # |log-SNR| at the ends
_STEP = 0.25
_LEAST = 64  # draws of a place
_BLOCK = 128  # draws whose distances to all codes are held at once


@dataclass(frozen=True)
class Tabulated(Pair):
    """The variance-preserving schedule through given log-SNRs, linear between them.

    Args:
        times: from 0 to 1, increasing.
        log_snrs: at these, decreasing.

    Raises:
        ValueError: they are not.
    """

    times: tuple[float, ...]
    log_snrs: tuple[float, ...]

    def __post_init__(self) -> None:
        t, snr = torch.tensor(self.times), torch.tensor(self.log_snrs)
        rises, falls = bool((t.diff() > 0).all()), bool((snr.diff() < 0).all())
        if (
            len(t) != len(snr)
            or len(t) < 2
            or not (rises and falls)
            or (self.times[0], self.times[-1]) != (0, 1)
        ):
            raise ValueError("a schedule needs times that rise from 0 to 1 and log-SNRs that fall")

    def _pair(self, t: Tensor) -> tuple[Tensor, Tensor]:
        log_snr = _between(t, self.times, self.log_snrs)
        return log_snr.sigmoid().sqrt(), (-log_snr).sigmoid().sqrt()

    def time(self, log_snr: Tensor) -> Tensor:
        """The time at which it is that, or the nearest end."""
        found = _between(-wide(log_snr), tuple(-v for v in self.log_snrs), self.times)
        return found.to(log_snr.dtype)


def affordable_draws(classes: int) -> int:
    """Draws that take seconds: 2,000 of up to 2,048 classes, at least 1,000 of more."""
    return min(2000, max(1000, 2**22 // classes))


def information_schedule(
    codes: Tensor, frequencies: Tensor, draws: int = 2000, tolerance: float = 0.0
) -> Tabulated:
    """The schedule of codes whose tokens lose their entropy evenly.

    Args:
        codes: the table, shape (K, n).
        frequencies: of the classes, shape (K,), or (T, K) for places with laws of their own.
        draws: of class and noise, the same for all log-SNRs, shared out among the places, at least
            64 for each; those of a time are off by about 1 in the root of it.
        tolerance: between two log-SNRs at which shares are lost that differ by less, it is linear.

    Raises:
        ValueError: nothing to lose: each place has one class.
    """
    rng = Rng(0).fold("information schedule")
    laws = frequencies.double().reshape(-1, len(codes))
    laws = laws / laws.sum(-1, keepdim=True)
    each = draws if len(laws) == 1 else max(-(-draws // len(laws)), _LEAST)
    levels = torch.arange(_LIMIT, -_LIMIT - _STEP / 2, -_STEP, dtype=torch.float64)
    lost, entropy = torch.zeros_like(levels), torch.zeros((), dtype=torch.float64)
    for place, p in enumerate(laws):
        kept = p > 0
        if kept.sum() > 1:
            draw = rng.fold("place", place) if place else rng
            lost += _lost(codes.double()[kept], p[kept], levels, each, draw, tolerance)
            entropy -= (p[kept] * p[kept].log()).sum()
    if not entropy > 0:
        raise ValueError("each place has one class, which noise takes nothing from")
    share = (lost / entropy).clamp(0, 1).cummax(0).values
    # Strictly rising, from 0 to 1: a little of the time goes to where nothing happens any more.
    even = torch.linspace(0, 1, len(levels), dtype=torch.float64)
    times = 0.98 * (share - share[0]) / (share[-1] - share[0]) + 0.02 * even
    return Tabulated(tuple(times.tolist()), tuple(levels.tolist()))


def _lost(
    codes: Tensor, p: Tensor, levels: Tensor, draws: int, rng: Rng, tolerance: float
) -> Tensor:
    """H(x | noisy code) at each log-SNR, nats."""
    # Equally many draws in equal parts of the law, whose classes therefore have their frequencies.
    u = (torch.arange(draws) + 0.5) / draws
    classes = torch.searchsorted(p.cumsum(0), u.double()).clamp(max=len(p) - 1)
    noise = rng.normal((draws, codes.shape[1])).double()
    most = -float((p * p.log()).sum()) * tolerance
    known: dict[int, float] = {}

    def at(i: int) -> float:
        if i not in known:
            known[i] = _nats(codes, p, float(levels[i]), classes, noise)
        return known[i]

    lost = torch.empty_like(levels)
    gaps = [(0, len(levels) - 1)]
    while gaps:  # it falls with the log-SNR: nothing happens between two levels that lose as much
        low, high = gaps.pop()
        middle = (low + high) // 2
        if high - low < 2 or abs(at(high) - at(low)) < most:
            lost[low : high + 1] = torch.linspace(at(low), at(high), high - low + 1).to(lost)
        else:
            gaps += [(low, middle), (middle, high)]
    return lost


def _nats(codes: Tensor, p: Tensor, level: float, classes: Tensor, noise: Tensor) -> float:
    """The mean of -ln p(x | noisy code) of drawn classes, for drawn noise, at one log-SNR."""
    gain, total = math.exp(level), 0.0
    prior = p.log() - gain * codes.square().sum(-1) / 2
    blocks = (torch.split(drawn, _BLOCK) for drawn in (classes, noise))
    for own, eps in zip(*blocks, strict=True):
        x = codes[own] + eps * math.exp(-level / 2)
        near = torch.addmm(prior, x, codes.T, alpha=gain)
        # Nearness to the own code, in which nothing is lost to rounding, needs no more digits.
        total += float((near - near.gather(1, own[:, None])).float().logsumexp(1).sum())
    return total / len(classes)


@lru_cache(maxsize=64)
def _kept(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    # A copy to a device each time would wait for it.
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device)


def _between(x: Tensor, xs: tuple[float, ...], ys: tuple[float, ...]) -> Tensor:
    """Piecewise linear through the points, and constant beyond."""
    at, to = (_kept(values, x.dtype, x.device) for values in (xs, ys))
    x = x.clamp(xs[0], xs[-1])
    right = torch.searchsorted(at, x.contiguous()).clamp(1, len(xs) - 1)
    left = right - 1
    share = (x - at[left]) / (at[right] - at[left])
    return torch.lerp(to[left], to[right], share)
