"""Molecules of a file of SMILES as graphs in memory, with what they are worth."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from noiseloom.data.cache import cached, keep, recall
from noiseloom.data.chemistry import check_chemistry, chemistry, scores
from noiseloom.data.molecular_graphs import (
    ELEMENTS,
    GraphError,
    atom_kinds,
    flat,
    graph_of,
    molecules_of,
    smiles_of_graphs,
)
from noiseloom.data.sequence_files import read_records

__all__ = ["Molecules", "parse_molecules", "read_molecules"]

# Part of every cache key: raise it when the same file and options give other graphs or scores.
_FORMAT = 1


@dataclass(frozen=True, eq=False)
class Molecules:
    """Molecules of at most A atoms, hydrogens not counted.

    Attributes:
        graphs: int8, shape (N, A, 1 + A): of each atom its kind, -1 for none, and the orders of its
            bonds to all (`noiseloom.data.molecular_graphs`).
        kinds: of atoms, by number: elements with charges, "C", "N+".
        scores: float64, shape (N, 3), y, QED and SA (`SCORES`); of no columns if not computed.
    """

    graphs: Tensor
    kinds: tuple[str, ...]
    scores: Tensor

    def __len__(self) -> int:
        return len(self.graphs)

    def __getitem__(self, indices: Tensor) -> dict[str, Tensor]:
        """A batch {"graph": int8 (B, A, 1 + A)}."""
        return {"graph": self.graphs[indices]}

    def tensors(self) -> tuple[Tensor, ...]:
        """Graphs, and the names of the kinds."""
        names = torch.tensor(list(" ".join(self.kinds).encode()), dtype=torch.uint8)
        return self.graphs, names

    def select(self, indices: Tensor) -> "Molecules":
        """Some of them, in the order of `indices`."""
        return replace(self, graphs=self.graphs[indices], scores=self.scores[indices])

    def fitted(self, kinds: Sequence[str], atoms: int) -> tuple["Molecules", Tensor]:
        """Those of other kinds' numbers and another size, as a run knows them.

        Args:
            kinds: of atoms, by number.
            atoms: A, rows of a table.

        Returns:
            The molecules that have no other kinds and are no larger, and which they are, int64.
        """
        places = torch.tensor([*(kinds.index(k) if k in kinds else -2 for k in self.kinds), -1])
        kind = places[self.graphs[:, :, 0].long()]
        rows = ((kind > -2).all(1) & (self.sizes <= atoms)).nonzero()[:, 0]
        graphs = torch.cat((kind[..., None], self.graphs[:, :, 1:]), -1)[rows].to(torch.int8)
        more = atoms - graphs.shape[1]
        kept = graphs[:, :atoms, : 1 + atoms]
        padded = torch.nn.functional.pad(kept, (0, max(more, 0), 0, max(more, 0)))
        padded[:, atoms - max(more, 0) :, 0] = -1
        return Molecules(padded, tuple(kinds), self.scores[rows]), rows

    @property
    def labels(self) -> Tensor:
        """QED (10 - SA) / 9, shape (N,)."""
        return self.scores[:, 0]

    @property
    def sizes(self) -> Tensor:
        """Atoms of each, int64, shape (N,)."""
        return (self.graphs[:, :, 0] >= 0).sum(1)

    @property
    def keys(self) -> list[str]:
        """Canonical SMILES of each."""
        return smiles_of_graphs(self.graphs, self.kinds)


def read_molecules(
    path: str | Path,
    *,
    column: str | None = None,
    max_atoms: int = 38,
    elements: Sequence[str] = ELEMENTS,
    skip_bad: bool = False,
    scored: bool = True,
) -> tuple[Molecules, tuple[str, ...]]:
    """The different molecules of a file, with their scores.

    What was computed is kept (`noiseloom.data.cache`): 10,000 molecules take half a minute.

    Args:
        path: .smi, .txt (one a line) or .csv, all with .gz too.
        column: of a .csv file that holds SMILES; by default the one called smiles, or the only one.
        max_atoms: larger molecules are left out, hydrogens not counted.
        elements: molecules with others are left out.
        skip_bad: leave out what RDKit cannot read, too.
        scored: compute scores, which takes half of the time.

    Returns:
        The molecules, and what was left out, a sentence each.

    Raises:
        FileNotFoundError: no such file.
        ImportError: the extra `chem` is not installed.
        ValueError: a line that is no SMILES, or no molecules.
    """
    check_chemistry()
    path = Path(path).expanduser()
    records, _ = read_records(path, column, None, "molecule")
    texts, places = [r.text for r in records], [f"{path}, line {r.line}" for r in records]
    known = "\n".join(f"{r.line} {r.text}" for r in records)  # the lines for what is left out
    digest = hashlib.blake2b(known.encode(), digest_size=16).hexdigest()
    from rdkit import __version__ as rdkit

    file = cached(
        ["molecules", _FORMAT, rdkit, digest, max_atoms, list(elements), skip_bad, scored]
    )
    if stored := recall(file, "graphs", "scores", "told"):
        kinds, notes = json.loads(bytes(stored[2].tolist()))
        return Molecules(stored[0], tuple(kinds), stored[1]), tuple(notes)
    found, rows, notes = parse_molecules(
        texts, places, max_atoms=max_atoms, elements=elements, skip_bad=skip_bad
    )
    if not len(found):
        raise ValueError(f"{path} holds no molecule that can be used: {'; '.join(notes)}")
    first = {key: i for i, key in reversed(list(enumerate(found.keys)))}
    repeated = sorted({*range(len(found))} - {*first.values()})
    if repeated:
        own = [places[rows[i]] for i in repeated]
        notes = (*notes, _left_out("that repeat another one", own))
        found = found.select(torch.tensor(sorted(first.values())))
    if scored:
        found = replace(found, scores=scores(molecules_of(found.graphs, found.kinds)))
    told = torch.tensor(list(json.dumps([found.kinds, notes]).encode()), dtype=torch.uint8)
    keep(file, {"graphs": found.graphs, "scores": found.scores, "told": told})
    return found, notes


def parse_molecules(
    texts: Sequence[str],
    places: Sequence[str],
    *,
    max_atoms: int,
    kinds: Sequence[str] | None = None,
    elements: Sequence[str] = ELEMENTS,
    skip_bad: bool = False,
) -> tuple[Molecules, list[int], tuple[str, ...]]:
    """Molecules of SMILES, without scores.

    Args:
        texts: SMILES.
        places: where each is, for errors.
        max_atoms: larger molecules are left out.
        kinds: of atoms, by number, and then tables have `max_atoms` rows; by default all that there
            are, the most frequent first, and as many rows as the largest molecule.
        elements: molecules with others are left out.
        skip_bad: leave out what RDKit cannot read, too.

    Returns:
        The molecules, the rows of `texts` that they are, and what was left out.

    Raises:
        ImportError: the extra `chem` is not installed.
        ValueError: a text that is no SMILES.
    """
    chemistry()
    read, counts = list[tuple[int, object]](), Counter[str]()
    left = defaultdict[str, list[int]](list)  # rows, by why
    largest = 0
    for row, text in enumerate(texts):
        molecule = flat(text)
        if molecule is None:
            if not skip_bad:
                raise ValueError(
                    f"{places[row]}: {text[:60]!r} is no SMILES of a molecule that RDKit can read: "
                    "mend it or take it out"
                    + ", as a header would have to be"
                    * places[row].endswith(" line 1")
                )
            left["that RDKit cannot read"].append(row)
            continue
        try:
            if molecule.GetNumAtoms() > max_atoms:
                raise GraphError(f"of more than {max_atoms} atoms")
            counts.update(own := atom_kinds(molecule, elements))
        except GraphError as reason:
            left[str(reason)].append(row)
            continue
        largest = max(largest, len(own))
        read.append((row, molecule))
    known = kinds or sorted(counts, key=lambda kind: (-counts[kind], kind))
    width, graphs, rows = largest if kinds is None else max_atoms, list[Tensor](), list[int]()
    for row, molecule in read:
        try:
            graphs.append(graph_of(molecule, known, width))
        except GraphError as reason:
            left[str(reason)].append(row)
            continue
        rows.append(row)
    notes = tuple(_left_out(why, [places[i] for i in left[why]]) for why in sorted(left))
    none = torch.empty(0, width, 1 + width, dtype=torch.int8)
    stacked = torch.stack(graphs) if graphs else none
    empty = torch.empty(len(graphs), 0, dtype=torch.float64)
    return Molecules(stacked, tuple(known), empty), rows, notes


def _left_out(why: str, places: Sequence[str]) -> str:
    """How many are left out, and the line of the first; its file is said beside it."""
    first = places[0].rpartition(", ")[2]
    return f"{len(places):,} molecules {why} are left out, the first at {first}"
