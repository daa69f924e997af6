"""Drawn structures as a table: what a guide says of different valid ones, the best first.

Of each what the guide says of it as it is (its mean, and the root of its variance), how far it is
from the nearest labelled structure that the guide learnt from, and whether it is new: neither
labelled nor among the run's data.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from noiseloom.context import GuideOutput
from noiseloom.guide_folder import GuideRecord, guidable, structures
from noiseloom.recipes import Guiding, keys_of
from noiseloom.run import Run
from noiseloom.run_folder import read_description, same_data
from noiseloom.steering import Guides, aim_of
from noiseloom.terminal import number, say

__all__ = ["Ranked", "keys_of_data", "picture_of", "ranked", "said_names", "said_of"]

_DRAWN = 24
"""Structures of a picture."""


def said_names(records: Sequence[GuideRecord]) -> list[str]:
    """What properties of guides are called beside each other: those of one name get numbers.

    Of logp, size and logp they are logp_1, size and logp_2; what is called logp_1 already stays so.
    """
    names = [name for record in records for name in record.names]
    found = list[str]()
    for name in names:
        others = (called for i in count(1) if (called := f"{name}_{i}") not in {*names, *found})
        found.append(name if names.count(name) == 1 else next(others))
    return found


@dataclass(frozen=True)
class Ranked:
    """A table of different valid structures, the best first.

    Attributes:
        head: its headings.
        rows: its cells.
        counts: how many were drawn, are invalid, different, and new where that is known.
        data: the structures, decoded, in the order of the rows.
    """

    head: list[str]
    rows: list[list[Any]]
    counts: dict[str, int]
    data: Any

    def column(self, name: str) -> list[Any]:
        """The cells under a heading."""
        return [row[self.head.index(name)] for row in self.rows]


def ranked(
    run: Run,
    guide: Guides,
    records: Sequence[GuideRecord],
    options: Guiding,
    data: Tensor,
    folders: Sequence[Path],
) -> Ranked:
    """Decoded samples by what a guide says of them.

    Args:
        run: that drew them.
        guide: that is asked.
        records: what is known of it.
        options: what is wanted.
        data: decoded samples.
        folders: of the guides, which know the structures that they learnt from.
    """
    recipe, facts = guidable(run), run.facts
    keys = recipe.keys(run.parts, facts, data)
    times = Counter(key for key in keys if key)
    names = said_names(records)
    said_heads = [f"{kind}_{name}" for name in names for kind in ("prediction", "deviation")]
    head = [*recipe.columns(facts), *said_heads, "distance", "new", "times"]
    counts = {"drawn": len(keys), "invalid": len(keys) - times.total(), "different": len(times)}
    if not times:
        return Ranked(head, [], counts | {"new": 0}, None)
    first = {key: i for i, key in reversed(list(enumerate(keys)))}
    data = data[torch.tensor([first[key] for key in times])]
    said = said_of(run, guide, data)
    order = aim_of(records, options)(said).argsort(descending=True, stable=True)
    data, different = data[order], list(times)
    own = [different[i] for i in order.tolist()]
    kept = [structures(folder) for folder in folders]
    learnt = list(dict.fromkeys(key for found in kept for key in found["learnt"]))
    known = {key for found in kept for part in found.values() for key in part}
    if not learnt:
        say("structures that the guide learnt from are not with it: there is no distance to them")
    in_data = keys_of_data(run)
    # Nothing is called new where neither labels nor data are at hand.
    told = {True: "no", False: "yes" if learnt or in_data is not None else ""}
    known |= in_data or set()
    distances = recipe.nearest(own, learnt).tolist() if learnt else [""] * len(own)
    rows = list[list[Any]]()
    both = torch.stack((said.mean, said.variance.sqrt()), -1)[order].flatten(1).tolist()
    for i, cells in enumerate(recipe.cells(run.parts, facts, data)):
        rows.append([*cells, *both[i], distances[i], told[own[i] in known], times[own[i]]])
    if told[False]:
        counts["new"] = sum(key not in known for key in own)
    return Ranked(head, rows, counts, data)


def picture_of(run: Run, table: Ranked, records: Sequence[GuideRecord]) -> str:
    """The best, with what is said of each: means, and in brackets deviations."""
    names = said_names(records)
    columns = [table.column(f"{kind}_{n}") for n in names for kind in ("prediction", "deviation")]
    said = [[number(value) for value in row[:_DRAWN]] for row in columns]
    pairs = zip(said[::2], said[1::2], strict=True)
    told = [[f"{mean} ({d})" for mean, d in zip(*pair, strict=True)] for pair in pairs]
    captions = [", ".join(each) for each in zip(*told, strict=True)]
    data = table.data[: len(captions)]
    return guidable(run).picture(run.parts, run.facts, data, captions)


@torch.no_grad()
def said_of(run: Run, guide: Guides, data: Tensor) -> GuideOutput:
    """What a guide says of decoded structures, as they are."""
    recipe, found = guidable(run), list[GuideOutput]()
    for start in range(0, len(data), 500):
        part = data[start : start + 500]
        state, cond = recipe.seen(run.parts, run.facts, part.to(run.device))
        times = torch.zeros(len(part), device=run.device)
        found.append(GuideOutput(*(v.cpu() for v in guide.predict(state, times, cond))))
    return GuideOutput(*(torch.cat([said[i] for said in found]) for i in range(3)))


def keys_of_data(run: Run, *, held_out: bool = True) -> set[str] | None:
    """Keys of the run's data, or None, which is told, if they are not where they were.

    Args:
        run: whose.
        held_out: also of what was held out, of a recipe that says it is not new, either.
    """
    try:
        split = run.recipe.load(read_description(run.folder)["data"])
    except (OSError, ValueError):
        split = None
    if split is None or not same_data(split, run.facts):
        say("the data of the run are not where they were: new is what the guide has not seen")
        return None
    both = held_out and guidable(run).held_out_known
    parts = (split.train, split.held_out) if both else (split.train,)
    return set().union(*(keys_of(run.recipe, run.parts, run.facts, part) for part in parts))
