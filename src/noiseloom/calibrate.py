"""What a guide says in its data, outside of them and of its context, from clean states to noise.

Every structure is noised once for each level, by one fixed key, so that guides are compared on the
same states.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from noiseloom.context import GuideOutput, Predictor
from noiseloom.metrics import calibration_report, inside_share
from noiseloom.rng import Rng
from noiseloom.run import Run
from noiseloom.training import Data

__all__ = ["LEVELS", "RELIABILITY", "calibrate", "summary"]

LEVELS = 11
"""Levels of noise, evenly from time 0 to the noisiest of the guide's training."""
RELIABILITY = tuple(round(0.05 * i, 2) for i in range(1, 20))
"""Shares of the central intervals of the reliability curve."""
_BATCH, _MOST = 500, 2000


@torch.no_grad()
def calibrate(
    run: Run,
    guide: Predictor,
    sets: Mapping[str, tuple[Data, Tensor | None]],
    names: tuple[str, ...],
    deviation: tuple[float, ...],
    noisiest: float = 1.0,
) -> dict[str, Any]:
    """Figures of a guide, as plain values.

    Args:
        run: whose states it reads.
        guide: ready to be asked.
        sets: by name, structures, and their labels (N, J) if there are any; of larger ones the
            first 2,000 in a fixed random order.
        names: of the properties.
        deviation: of the labels learnt from, in which nats are counted.
        noisiest: time of the last level.

    Returns:
        `levels` (times), `shares` (`RELIABILITY`), and under `sets` for each set its size `n` and
        under `properties` for each property lists over the levels: `mean` of what is said, its
        `spread` from structure to structure, the `deviation` that is said (the root of the mean
        variance); and beside labels what `calibration_report` says, and `reliability`, the shares
        inside the intervals.
    """
    levels = [noisiest * i / (LEVELS - 1) for i in range(LEVELS)]
    found: dict[str, Any] = {}
    for name, (rows, labels) in sets.items():
        chosen = Rng(0).fold("calibration").permutation(len(rows))[:_MOST]
        labels = None if labels is None else labels[chosen]
        said = [_said(run, guide, rows, chosen, t, i) for i, t in enumerate(levels)]
        properties = {}
        for j, title in enumerate(names):
            each = [_told(mean[:, j], variance[:, j]) for mean, variance in said]
            if labels is not None:
                for entry, (mean, variance) in zip(each, said, strict=True):
                    truth = labels[:, j]
                    entry |= calibration_report(truth, mean[:, j], variance[:, j], deviation[j])
                    inside = inside_share(truth, mean[:, j], variance[:, j], RELIABILITY)
                    entry["reliability"] = inside.tolist()
                    # Of what is noise alone the same is said of all, in no order.
                    entry["spearman"] = 0.0 if math.isnan(entry["spearman"]) else entry["spearman"]
            properties[title] = {key: [entry[key] for entry in each] for key in each[0]}
        found[name] = {"n": len(chosen), "properties": properties}
    return {"levels": levels, "shares": list(RELIABILITY), "sets": found}


def summary(
    calibration: Mapping[str, Any], centre: tuple[float, ...], deviation: tuple[float, ...]
) -> dict[str, float]:
    """Means over levels and properties, in deviations of the labels learnt from.

    Of held-out labels `nll`, `rmse`, `spearman`, `inside_50` to `inside_95` and `deviation`, that
    is said; of shifted and of test ones the same with these as endings; of the context
    `mean_context`, how far the mean is from that of the labels, on average, and
    `deviation_context`.
    """
    found = dict[str, float]()
    for name in calibration["sets"]:
        ending = "" if name == "held_out" else f"_{name}"
        each: dict[str, list[float]] = {}
        for j, told in enumerate(calibration["sets"][name]["properties"].values()):
            for key in ("nll", "spearman", *(k for k in told if k.startswith("inside"))):
                each.setdefault(key, []).extend(told.get(key, []))
            for key in ("rmse", "deviation"):
                each.setdefault(key, []).extend(v / deviation[j] for v in told.get(key, []))
            if name == "context":
                away = ((v - centre[j]) / deviation[j] for v in told["mean"])
                each.setdefault("mean", []).extend(away)
        found |= {f"{k}{ending}": sum(v) / len(v) for k, v in each.items() if v}
    return found


def _said(
    run: Run, guide: Predictor, rows: Data, chosen: Tensor, t: float, level: int
) -> tuple[Tensor, Tensor]:
    """Means and variances (N, J) of some structures at a time, on the CPU."""
    recipe, found = run.recipe, list[GuideOutput]()
    keys = Rng(0).fold("calibration").samples(len(chosen), device=run.device)
    for start in range(0, len(chosen), _BATCH):
        part = torch.arange(start, min(start + _BATCH, len(chosen)))
        batch = {name: value.to(run.device) for name, value in rows[chosen[part]].items()}
        key = keys.rows(part.to(run.device)).fold("level", level)
        times = torch.full((len(part),), t, device=run.device)
        clean: Any = recipe.clean(run.parts, batch)
        x = run.diffusion.corrupt(clean, times, key.fold("noise"))
        found.append(guide.predict(x, times, recipe.told(batch, run.facts, key.fold("told"))))
    mean, variance = (torch.cat([said[i] for said in found]).double().cpu() for i in range(2))
    return mean, variance


def _told(mean: Tensor, variance: Tensor) -> dict[str, Any]:
    return {
        "mean": float(mean.mean()),
        "spread": float(mean.std(correction=0)),
        "deviation": float(variance.mean().sqrt()),
    }
