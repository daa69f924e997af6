"""Which pictures with captions are used, which belong together, and which are held out."""

import hashlib
from collections import Counter
from collections.abc import Hashable, Sequence

from torch import Tensor

from noiseloom.data.captioned import Captioned
from noiseloom.data.phrases import caption_words
from noiseloom.rng import Rng

__all__ = ["groups", "parts", "usable"]


def usable(
    pairs: list[Captioned], missing: list[str], skip_bad: bool, notes: list[str]
) -> list[Captioned]:
    """Those with captions, once nothing is missing or that is fine."""
    if missing and not skip_bad:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise ValueError(
            f"{missing[0]}{more}: add or mend it, or leave such out with --skip-bad (skip_bad=True)"
        )
    if missing:
        notes.append(f"{len(missing)} pictures are not there, the first is of {missing[0]}")
    kept, empty = [], 0
    for pair in pairs:
        told = [(t, at) for t, at in zip(pair.captions, pair.places, strict=True) if t]
        if len(told) < len(pair.captions) and not skip_bad:
            place = pair.places[pair.captions.index("")]
            raise ValueError(
                f"{place}: the caption is empty: write one, or leave such out with --skip-bad "
                "(skip_bad=True)"
            )
        empty += len(pair.captions) - len(told)
        if told:
            texts, places = ([part[i] for part in told] for i in (0, 1))
            kept.append(Captioned(pair.name, texts, places, pair.groups, pair.part))
    if empty:
        notes.append(f"{empty} captions are empty")
    return kept


def groups(pairs: Sequence[Captioned], pixels: Tensor, apart: str) -> list[int]:
    """A number for each picture, the same for those that must not be parted."""
    first = list(range(len(pairs)))

    def root(row: int) -> int:
        while first[row] != row:
            first[row] = first[first[row]]
            row = first[row]
        return row

    known: dict[Hashable, int] = {}
    for row, (pair, picture) in enumerate(zip(pairs, pixels.numpy(), strict=True)):
        keys: list[Hashable] = [hashlib.blake2b(picture.tobytes()).digest(), *pair.groups]
        if apart == "captions":
            keys += [tuple(caption_words(text)) for text in pair.captions]
        for key in keys:
            first[root(row)] = root(known.setdefault(key, row))
    return [root(row) for row in range(len(pairs))]


def parts(
    pairs: Sequence[Captioned], together: Sequence[int], share: float, seed: int, notes: list[str]
) -> tuple[list[int], list[int]]:
    """Rows to train on and rows that are held out."""
    given = {pair.part for pair in pairs}
    rows = range(len(pairs))
    if {"train", "held_out"} <= given:
        train = [row for row in rows if pairs[row].part == "train"]
        own = {together[row] for row in train}
        held = [r for r in rows if pairs[r].part == "held_out" and together[r] not in own]
        none = len(pairs) - len(train) - len(held)
        if none:
            notes.append(
                f"{none} pictures are of no part, or held out and belong to a training one"
            )
        if not held:
            raise ValueError("all held-out pictures belong together with one to train on")
        return train, held
    if given != {""}:
        notes.append("all pictures are of one part, so a share of them was held out")
    sizes = Counter(together)
    if len(sizes) < 2:
        raise ValueError(
            f"all {len(pairs)} pictures belong together, by their pixels, groups or captions, so "
            "that none can be held out"
        )
    wanted = max(round(share * len(pairs)), 1)
    left = {group: size for group, size in sizes.items() if size <= wanted}
    # Where all are larger than what is asked for, the smallest one.
    order = list(left) or [min(sizes, key=lambda group: sizes[group])]
    chosen: set[int] = set()
    count = 0
    for place in Rng(seed).fold("held out").permutation(len(order)).tolist():
        size = sizes[order[place]]
        if len(chosen) < len(sizes) - 1 and (not chosen or count + size <= wanted):
            chosen.add(order[place])
            count += size
    train = [row for row in rows if together[row] not in chosen]
    return train, [row for row in rows if together[row] in chosen]
