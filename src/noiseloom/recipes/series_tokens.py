"""What a token of a series is: a step's columns, over the size of what is known, standardised.

A step that has a gap is NaN in all of its columns, and so is its token (of differences, the one
after it as well). It has no part in any size, mean or deviation.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from noiseloom.encodings import Standardised

__all__ = ["SeriesTokens", "seasons", "with_gaps"]


def with_gaps(values: Tensor) -> Tensor:
    """Values (N, D) in which a step with a gap is missing as a whole."""
    return values.masked_fill(~values.isfinite().all(-1, keepdim=True), torch.nan)


def seasons(first: Tensor, tokens: int, periods: tuple[float, ...]) -> Tensor:
    """Sine and cosine of the time within each season, float32, (B, tokens, 2 periods).

    Args:
        first: steps of the first tokens, int64, shape (B,).
        tokens: how many follow each other.
        periods: lengths of the seasons, in steps.
    """
    step = first[:, None] + torch.arange(tokens, device=first.device)
    period = torch.tensor(periods, dtype=torch.float64, device=first.device)
    angle = 2 * torch.pi * (step[..., None] / period % 1)
    return torch.stack((angle.sin(), angle.cos()), -1).flatten(-2).float()


@dataclass(frozen=True)
class SeriesTokens(Standardised):
    """Windows of a series as tokens, and back.

    Args:
        floor: by column, > 0: a tenth of the mean size in training, the least size that known steps
            are taken to have. A column that has been nothing so far has no size to be measured by.
        lead: steps that are known of a window.
        state: what a token is: the values, or what they changed by since the step before.
    """

    floor: tuple[float, ...]
    lead: int
    state: Literal["values", "differences"]

    @classmethod
    def of(
        cls, values: Tensor, windows: Tensor, lead: int, state: Literal["values", "differences"]
    ) -> "SeriesTokens":
        """Those of a series.

        Args:
            values: to train on, shape (N, D).
            windows: some of it, shape (B, T, D).
            lead: as above.
            state: as above.

        Raises:
            ValueError: no token of these windows is there.
        """
        floor = _mean(values.abs(), 0)[0] / 10
        floor = torch.where(floor > 0, floor, 1)
        raw = cls((), (), tuple(floor.tolist()), lead, state)
        tokens, size = raw.measured(windows)
        if not tokens.isfinite().any():
            raise ValueError(
                "hardly any step to train on is without gaps: fill them, or remove the columns "
                "that have most"
            )
        # Windows in which a column is next to nothing at first say nothing of its usual size, and
        # what then comes is as large as it likes.
        fits = []
        for k in range(len(floor)):
            there = tokens[..., k].isfinite()
            alive = there & (size[:, :, k] > floor[k])
            seen = tokens[..., k][alive if alive.any() else there]
            bound = 10 * (seen - seen.median()).abs().median()
            if bound > 0:
                seen = seen.clamp(seen.median() - bound, seen.median() + bound)
            fits.append(Standardised.fit(seen[:, None]))
        mean, std = (tuple(getattr(fit, name)[0] for fit in fits) for name in ("mean", "std"))
        return cls(mean, std, raw.floor, lead, state)

    def measured(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens of windows before standardisation, (B, T, D), and the size they are measured by.

        Args:
            values: shape (B, T, D), or, of differences, (B, T + 1, D).
        """
        size = _mean(values[:, : self.lead].abs(), 1).maximum(values.new_tensor(self.floor))
        scaled = values / size
        return (scaled if self.state == "values" else scaled.diff(dim=1)), size

    def tokens(self, values: Tensor) -> Tensor:
        """Tokens of windows, float32, (B, T, D); 0 where they are missing."""
        tokens = self.measured(values)[0]
        return self.encode(torch.where(tokens.isfinite(), tokens, 0)).float()

    def lagged(self, values: Tensor, lagged: Tensor) -> Tensor:
        """What tokens are told of the tokens some steps before, float32, (B, T, lags (D + 1)).

        These are measured and standardised as the tokens themselves, 0 where they are not known;
        after each comes 1 if it is, else 0.

        Args:
            values: of the windows, shape (B, T, D), or their known steps alone.
            lagged: so many steps before, shape (B, lags, T, D); of differences, one step more.
        """
        size = self.measured(values[:, : self.lead])[1]
        scaled = lagged / size[:, None]
        found = scaled if self.state == "values" else scaled.diff(dim=2)
        known = found.isfinite().all(-1, keepdim=True)
        found = self.encode(torch.where(known, found, 0)).masked_fill(~known, 0)
        return torch.cat((found, known.to(found.dtype)), -1).transpose(1, 2).flatten(2).float()

    def values(self, tokens: Tensor, known: Tensor) -> Tensor:
        """Values of tokens that follow those that are known, in their units, float64.

        Args:
            tokens: shape (B, h, D).
            known: values, shape (B, lead, D).
        """
        known = known.double()
        size = self.measured(known)[1]
        scaled = self.decode(tokens.double())
        if self.state == "differences":
            scaled = known[:, -1:] / size + scaled.cumsum(1)
        return scaled * size


def _mean(values: Tensor, axis: int) -> Tensor:
    """The mean of what is there, 0 of nothing; where all is there, that of `Tensor.mean`."""
    there = values.isfinite()
    count = there.sum(axis, keepdim=True).clamp(min=1).to(values.dtype)
    filled = torch.where(there, values, 0)
    return filled.mean(axis, keepdim=True) * (values.shape[axis] / count)
