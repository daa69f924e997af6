"""What samples are truly worth, beside real rows: by a landscape, which is asked and not believed.

The best of more rows are better, and so is a mean of few that are known: all sets are cut to one
size, and how many are known is said.
"""

from torch import Tensor

from noiseloom.data import Landscape
from noiseloom.metrics.rows import mean_and_error, row_keys
from noiseloom.rng import Rng

__all__ = ["value_report", "values_of"]


def values_of(rows: Tensor, landscape: Landscape, top: float = 0.1) -> dict[str, float]:
    """The true values of a set of n rows.

        measured        share of valid rows whose value is known
        value, _se      mean of these values, and its standard error
        value_top       mean of the largest round(top n) of them, at least one, of different rows
        value_best      the largest

    Where fewer different ones are known than the top has places, it is of these. What is not
    defined is left out: of no valid row all, of none that is known, the values.

    Args:
        rows: integers, shape (n, T).
        landscape: what is known of them.
        top: share of the rows that the top is, in (0, 1].

    Raises:
        ValueError: a share out of range.
    """
    if not 0 < top <= 1:
        raise ValueError(f"top must be a share in (0, 1], got {top}")
    valid = landscape.valid(rows)
    values = landscape.value(rows)[valid]
    known = values.isfinite()
    if not len(values):
        return {}
    found = {"measured": float(known.double().mean())}
    if not known.any():
        return found
    found["value"], found["value_se"] = mean_and_error(values[known])
    # Equal rows are worth the same: any of them will do.
    different = dict(zip(row_keys(rows[valid][known]), values[known].tolist(), strict=True))
    best = sorted(different.values(), reverse=True)[: max(round(top * len(rows)), 1)]
    return found | {"value_top": sum(best) / len(best), "value_best": best[0]}


def value_report(
    samples: Tensor,
    train: Tensor,
    held_out: Tensor,
    landscape: Landscape,
    rng: Rng,
    *,
    top: float = 0.1,
) -> dict[str, float]:
    """The true values of samples, and of as many training and held-out rows: `values_of` of each.

    The names of the training rows' end in `_train`, those of held-out ones in `_held_out`; `n` is
    the number of rows of each set.

    Args:
        samples: integers, shape (N, T).
        train: what the model was trained on, likewise.
        held_out: what it was not trained on, likewise.
        landscape: what is known of them.
        rng: draws the rows.
        top: share of the rows that the top is, in (0, 1].

    Raises:
        ValueError: an empty set, or a share out of range.
    """
    sets = {"": samples, "_train": train, "_held_out": held_out}
    n = min(map(len, sets.values()))
    if not n:
        raise ValueError(f"there must be rows in all sets, got {[len(x) for x in sets.values()]}")
    report = {"n": float(n)}
    for suffix, rows in sets.items():
        order = rng.fold("rows" + suffix).permutation(len(rows))[:n].to(rows.device)
        for name, value in values_of(rows[order], landscape, top).items():
            if value == value:  # an error of one value is none
                report[f"{name}{suffix}"] = value
    return report
