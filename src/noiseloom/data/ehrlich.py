"""Ehrlich functions: a closed-form stand-in for what is measured of proteins.

As a protein does, a sequence must be possible at all, and is worth something by motifs, spaced
elements that have to be there together:

    f(x) = prod_i h(x, a_i, s_i)   where x is feasible, else 0
    h(x, a, s) = max_l floor(q n_l / k) / q,   n_l = sum_j [x_{l + s_j} = a_j]

x has L tokens of v classes and is feasible if a Markov chain that bans some transitions can make
it; there are c motifs a_i of k elements at offsets s_i, and q steps in which a motif counts. The
largest value is 1, and is attained. Everything is known of it, of any sequence.

References:
    S. Stanton, R. Alberstein, N. Frey, A. Watkins, K. Cho, 2024, Closed-Form Test Functions for
    Biophysical Sequence Design, arXiv 2407.00236, Section 4. There infeasible sequences have no
    value (minus infinity); here they have the least there is, 0, and `valid` flags them. How the
    chain, motifs and offsets are drawn is our own (`ehrlich`).
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from noiseloom.rng import Rng

__all__ = ["Ehrlich", "ehrlich"]


@dataclass(frozen=True, eq=False)
class Ehrlich:
    """An Ehrlich function; `ehrlich` draws one.

    Attributes:
        length: L, tokens of a sequence.
        transitions: of the chain, shape (v, v), float64: rows are laws of the next class, 0 where
            that is banned. The first class is uniform.
        motifs: a, int64, shape (c, k).
        offsets: s, int64, shape (c, k), from 0 up.
        quantisation: q, 1 .. k.

    Raises:
        ValueError: what does not fit together, or an optimum that cannot be: motifs one after the
            other that are longer than L, or that the chain bans with repeats between them.
    """

    length: int
    transitions: Tensor
    motifs: Tensor
    offsets: Tensor
    quantisation: int

    def __post_init__(self) -> None:
        v = len(self.transitions)
        if self.transitions.shape != (v, v) or self.motifs.ndim != 2:
            raise ValueError(
                "transitions must have shape (v, v) and motifs (c, k), got "
                f"{tuple(self.transitions.shape)} and {tuple(self.motifs.shape)}"
            )
        if self.offsets.shape != self.motifs.shape or not self.motifs.numel():
            raise ValueError(
                f"offsets of shape {tuple(self.offsets.shape)} for motifs of shape "
                f"{tuple(self.motifs.shape)}: expected the same, with something in it"
            )
        if not 0 <= int(self.motifs.min()) <= int(self.motifs.max()) < v:
            raise ValueError(f"motifs are of classes 0 .. {v - 1}")
        if self.offsets[:, 0].any() or (self.offsets.diff(dim=1) < 1).any():
            raise ValueError("offsets begin at 0 and grow within each motif")
        if not 1 <= self.quantisation <= self.motifs.shape[1]:
            raise ValueError(
                f"quantisation must be 1 .. {self.motifs.shape[1]}, the elements of a motif, got "
                f"{self.quantisation}"
            )
        if (self.transitions < 0).any() or (self.transitions.sum(1) - 1).abs().max() > 1e-9:
            raise ValueError("rows of transitions must be laws: at least 0, and 1 in sum")
        places = (self.offsets[:, -1] + 1).tolist()
        if sum(places) > self.length:
            raise ValueError(f"motifs of {places} places do not fit into {self.length}")
        if not self.valid(self.optimum()[None]).all():
            raise ValueError("the chain bans the motifs one after the other, filled with repeats")

    @property
    def classes(self) -> int:
        """V, the number of classes."""
        return len(self.transitions)

    def valid(self, rows: Tensor) -> Tensor:
        """Whether each of rows (N, L) is feasible, bool, shape (N,).

        A class that there is not (an end, a mask) makes it infeasible.

        Raises:
            ValueError: rows of another length.
        """
        if rows.ndim != 2 or rows.shape[1] != self.length:
            raise ValueError(f"rows must have shape (N, {self.length}), got {tuple(rows.shape)}")
        known = ((rows >= 0) & (rows < self.classes)).all(1)
        rows = rows.clamp(0, self.classes - 1).long()
        allowed = (self.transitions > 0).to(rows.device)
        return known & allowed[rows[:, :-1], rows[:, 1:]].all(1)

    def present(self, rows: Tensor) -> Tensor:
        """Elements of each motif that rows (N, L) have at one place, max_l n_l: int64, (N, c)."""
        found = []
        for motif, offsets in zip(self.motifs.tolist(), self.offsets.tolist(), strict=True):
            starts = self.length - offsets[-1]
            there = [rows[:, s : s + starts] == a for a, s in zip(motif, offsets, strict=True)]
            found.append(torch.stack(there).sum(0).amax(1))
        return torch.stack(found, 1)

    def why_not(self, row: Tensor, letters: str) -> str:
        """Why a row (L,) is not feasible, with letters for classes; "" if it is."""
        tokens = row.tolist()
        length = next((i for i, a in enumerate(tokens) if not 0 <= a < self.classes), len(tokens))
        if length < self.length:
            return f"it has {length} letters, and all have {self.length}"
        for i, (a, b) in enumerate(pairwise(tokens), 1):
            if self.transitions[a, b] == 0:
                told = f"the chain bans {letters[b]} after {letters[a]}"
                return f"{told}, letters {i} and {i + 1}"
        return ""

    def value(self, rows: Tensor) -> Tensor:
        """F of each of rows (N, L): float64, shape (N,), exact but for one rounding.

        Raises:
            ValueError: rows of another length.
        """
        valid, q = self.valid(rows), self.quantisation
        steps = self.present(rows) * q // self.motifs.shape[1]
        return torch.where(valid, steps.prod(1).double() / q ** len(self.motifs), 0)

    def optimum(self) -> Tensor:
        """A sequence of value 1, int64, shape (L,): motif after motif, elements repeated between.

        Room that is left over follows the last motif, with repeats of its last element.
        """
        found: list[int] = []
        for motif, offsets in zip(self.motifs.tolist(), self.offsets.tolist(), strict=True):
            for a, here, there in zip(motif, offsets, [*offsets[1:], offsets[-1] + 1], strict=True):
                found += [a] * (there - here)
        found += found[-1:] * (self.length - len(found))
        return torch.tensor(found)

    def draw(self, count: int, rng: Rng) -> Tensor:
        """Feasible sequences: so many runs of the chain, int64, shape (count, L).

        Args:
            count: N.
            rng: one key; sample i has the same numbers whatever N is.
        """
        u = rng.samples(count).uniform((count, self.length), torch.float64)
        ladder = self.transitions.cumsum(1)
        tokens = [(u[:, 0] * self.classes).long()]
        for i in range(1, self.length):
            # The first class whose sum reaches u: never one of no width.
            tokens.append((ladder[tokens[-1]] < u[:, i : i + 1]).sum(1))
        return torch.stack(tokens, 1)


def ehrlich(
    rng: Rng,
    *,
    classes: int = 20,
    length: int = 32,
    motifs: int = 2,
    motif_length: int = 4,
    quantisation: int | None = None,
    banned: float = 0.4,
) -> Ehrlich:
    """Draw an Ehrlich function whose optimum is feasible.

    Of every class floor(banned v) transitions are banned, at random, but neither that to itself nor
    the one along a random cycle through all classes: so every class can be reached from every other
    one. The rest are softmax(2 z) of standard normal z. The motifs are one run of the chain, in
    which no element comes twice in a motif; each has a random set of offsets within L // c places.

    Args:
        rng: key of all that is drawn.
        classes: v >= 2.
        length: L >= c k.
        motifs: c >= 1.
        motif_length: k >= 1.
        quantisation: q; by default k.
        banned: share in [0, 1) of the transitions from a class; 0.4 as in the released code.

    Raises:
        ValueError: a number out of range, or motifs longer than what the chain can make of
            different classes.

    Example:
        >>> f = ehrlich(Rng(0), classes=5, length=8, motifs=2, motif_length=3)
        >>> f.value(f.optimum()[None])
        tensor([1.], dtype=torch.float64)
    """
    if classes < 2 or motifs < 1 or motif_length < 1 or length < motifs * motif_length:
        raise ValueError(
            "an Ehrlich function needs classes >= 2, motifs >= 1, motif_length >= 1 and length >= "
            f"motifs * motif_length, got {classes}, {motifs}, {motif_length} and {length}"
        )
    if not 0 <= banned < 1:
        raise ValueError(f"banned must be a share in [0, 1), got {banned}")
    bans = min(int(banned * classes), classes - 2)
    if motif_length > classes - bans:
        raise ValueError(
            f"with {bans} of {classes} transitions banned there may be no motif of {motif_length} "
            f"different elements: take at most {classes - bans}, more classes, or ban fewer"
        )
    transitions = _transitions(classes, bans, rng.fold("transitions"))
    places = length // motifs
    offsets = torch.zeros(motifs, motif_length, dtype=torch.int64)
    for i in range(motifs):
        order = rng.fold("offsets", i).permutation(places - 1)[: motif_length - 1]
        offsets[i, 1:] = order.sort().values + 1
    elements = _motifs(transitions, motifs, motif_length, rng.fold("motifs"))
    q = motif_length if quantisation is None else quantisation
    return Ehrlich(length, transitions, elements, offsets, q)


def _transitions(v: int, bans: int, rng: Rng) -> Tensor:
    cycle = rng.fold("cycle").permutation(v)
    after = torch.empty(v, dtype=torch.int64)
    after[cycle] = cycle.roll(-1)
    allowed = torch.ones(v, v, dtype=torch.bool)
    for a in range(v):
        others = [b for b in rng.fold("ban", a).permutation(v).tolist() if b not in (a, after[a])]
        allowed[a, others[:bans]] = False
    logits = 2 * rng.fold("logits").normal((v, v), torch.float64)
    return logits.masked_fill(~allowed, -torch.inf).softmax(1)


def _motifs(transitions: Tensor, motifs: int, k: int, rng: Rng) -> Tensor:
    """One run of the chain, cut into motifs without an element twice."""
    v = len(transitions)
    law = torch.full((v,), 1 / v, dtype=torch.float64)
    found: list[int] = []
    for i, u in enumerate(rng.uniform((motifs * k,), torch.float64).tolist()):
        # Another class can always follow: more are allowed than a motif has.
        law = law.index_fill(0, torch.tensor(found[i - i % k :], dtype=torch.int64), 0)
        ladder = law.cumsum(0)
        found.append(int((ladder < u * ladder[-1]).sum()))
        law = transitions[found[-1]].clone()
    return torch.tensor(found).reshape(motifs, k)
