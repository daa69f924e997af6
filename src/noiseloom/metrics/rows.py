"""Rows of tokens as a set: shares with their errors, copies, and rows made worse on purpose."""

from collections.abc import Hashable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from noiseloom.rng import Rng

__all__ = ["copied_share", "mean_and_error", "noised_tokens", "row_keys"]


def mean_and_error(values: Tensor) -> tuple[float, float]:
    """Mean of independent values and its standard error, sd / sqrt(n); NaN of one value alone.

    Args:
        values: bool or numbers, shape (n,), n >= 1; of bools the mean is the share that is true.

    Raises:
        ValueError: no values.

    Example:
        >>> mean_and_error(torch.tensor([True, False, False, True, False]))
        (0.4, 0.24494897427831783)
    """
    if not len(values):
        raise ValueError("the mean of no values is not defined")
    values = values.double()
    if len(values) == 1:
        return float(values[0]), float("nan")
    return float(values.mean()), float(values.std() / len(values) ** 0.5)


def row_keys(rows: Tensor) -> list[bytes]:
    """A key for each row; rows are equal exactly where their keys are.

    Args:
        rows: integers of any type, shape (N, T).
    """
    array = np.ascontiguousarray(rows.cpu().long().numpy())
    return [row.tobytes() for row in array]


def copied_share(keys: Sequence[Hashable], train_keys: Iterable[Hashable]) -> tuple[float, float]:
    """Share of rows that are also in the training set, and its standard error.

    Where a table has few columns real unseen rows are often copies too: a share means something
    beside that of held-out rows.

    Args:
        keys: of the rows, as `row_keys` makes them, at least one.
        train_keys: of the training rows.

    Raises:
        ValueError: no rows.
    """
    known = set(train_keys)
    return mean_and_error(torch.tensor([key in known for key in keys]))


def noised_tokens(
    rows: Tensor, sizes: Sequence[int], amount: float, rng: Rng, *, pad: int | None = None
) -> Tensor:
    """Rows in which some tokens are drawn anew: visibly wrong, the anchor on the bad side.

    Each token, independently with probability `amount`, becomes a uniform draw of the classes of
    its position, which may be what it was.

    Args:
        rows: integers, shape (N, T).
        sizes: K_1, ..., K_T, or one number for all positions.
        amount: probability, in [0, 1].
        rng: draws which tokens, and what they become.
        pad: a class that fills rows up; it stays, and nothing becomes it.

    Raises:
        ValueError: `amount` outside of [0, 1].
    """
    if not 0 <= amount <= 1:
        raise ValueError(f"the share of noise must be in [0, 1], got {amount}")
    place = rows.device
    count = torch.tensor(sizes, dtype=torch.float64, device=place) - int(pad is not None)
    where = rng.fold("where").uniform(rows.shape, device=place) < amount
    drawn = (rng.fold("what").uniform(rows.shape, torch.float64, place) * count).long()
    if pad is not None:
        drawn += drawn >= pad
        where &= rows != pad
    return torch.where(where, drawn, rows.long())
