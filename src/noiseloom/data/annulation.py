"""How the rings of a benzenoid turn: counts of short paths through its tree of rings.

A path over k + 2 rings, each fused to the next, turns k times: straight on ("L", linear
annulation), or 60 degrees to the left or the right ("+" and "-", angular). Read backwards the turns
come in the opposite order with the opposite signs, and a reflection changes the signs: such words
are one pattern. A benzenoid is described by how often it has each. (I. Gutman, S. J. Cyvin, 1989,
"Introduction to the Theory of Benzenoid Hydrocarbons", on the L, A sequence of cata-condensed ones,
which has no signs.)
"""

from itertools import product

import numpy as np
import torch
from torch import Tensor

from noiseloom.data.hexagons import STEPS

__all__ = ["patterns", "turn_counts"]

_TURNS = {"L": 0, "+": 1, "-": -1}
_MIRROR = {"L": "L", "+": "-", "-": "+"}


def patterns(turns: int) -> tuple[str, ...]:
    """The patterns of 1 to `turns` turns, the columns of `turn_counts`.

    Example:
        >>> patterns(2)
        ('L', '+', 'LL', 'L+', '++', '+-')
    """
    words = (w for k in range(1, turns + 1) for w in product(_TURNS, repeat=k))
    return tuple(dict.fromkeys(_pattern(word) for word in words))


def turn_counts(cells: Tensor, turns: int = 4) -> Tensor:
    """How many paths of each pattern there are, up to their direction.

    Args:
        cells: int64, shape (N, h, 2), cata-condensed benzenoids.
        turns: the most turns of a path, >= 1.

    Returns:
        int64, shape (N, len(patterns(turns))).

    Example:
        >>> chrysene = torch.tensor([[[0, 0], [1, 0], [1, 1], [2, 1]]])
        >>> dict(zip(patterns(2), turn_counts(chrysene, 2)[0].tolist()))
        {'L': 0, '+': 2, 'LL': 0, 'L+': 0, '++': 0, '+-': 1}
    """
    names = patterns(turns)
    where = {name: i for i, name in enumerate(names)}
    spots = cells.to(torch.int64).numpy()
    around = spots[:, :, None] + np.array(STEPS)
    hit = (around[:, :, :, None] == spots[:, None, None]).all(-1)
    beside = np.where(hit.any(-1), hit.argmax(-1), -1)  # the ring on each side, -1 for none
    # All paths of all structures, each way, as a table: where they end, which way they went there.
    structure, ring, way = np.nonzero(beside >= 0)
    end, word = beside[structure, ring, way], np.zeros_like(way)
    counts = np.zeros((len(spots), len(names)), dtype=np.int64)
    for k in range(1, turns + 1):
        further = []
        for letter, turn in enumerate(_TURNS.values()):
            goes = (way + turn) % 6
            then = beside[structure, end, goes]
            there = then >= 0
            longer = word[there] * len(_TURNS) + letter
            further.append((structure[there], then[there], goes[there], longer))
        structure, end, way, word = (np.concatenate(part) for part in zip(*further, strict=True))
        column = np.array([where[_pattern(w)] for w in product(_TURNS, repeat=k)])
        np.add.at(counts, (structure, column[word]), 1)
    return torch.from_numpy(counts // 2)


def _pattern(word: tuple[str, ...]) -> str:
    other = tuple(_MIRROR[letter] for letter in word)
    same = (word, other, word[::-1], other[::-1])
    return "".join(min(same, key=lambda w: ["L+-".index(letter) for letter in w]))
