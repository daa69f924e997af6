"""Molecules as graphs: kinds of atoms, and the orders of the bonds between them.

A graph is a table of whole numbers, a row for an atom: its kind, -1 where there is none, and the
orders of its bonds to all, 0 to 3. A kind is an element with its charge, "C" or "N+". Bonds are
kekulised, so that no fourth order is needed for aromatic ones; hydrogens are those that the
valences leave room for; what is left and right in space is forgotten (J. Jo, S. Lee, S. J. Hwang,
2022, GDSS, arXiv 2202.02514, Appendix; there charges are forgotten, too).
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noiseloom.data.chemistry import chemistry

__all__ = [
    "ELEMENTS",
    "GraphError",
    "atom_kinds",
    "corrected_graphs",
    "flat",
    "graph_of",
    "molecules_of",
    "smiles_of_graphs",
]

ELEMENTS = ("C", "N", "O", "F", "P", "S", "Cl", "Br", "I")
"""Those of ZINC250k."""

_KIND = re.compile(r"([A-Z][a-z]?)([+-]?)(\d*)")


class GraphError(ValueError):
    """A molecule that has no graph of this form."""


def flat(text: str) -> Any:  # noqa: ANN401
    """RDKit's molecule of a SMILES, its stereochemistry left out; None if it cannot be read."""
    chem = chemistry()
    from rdkit import rdBase

    with rdBase.BlockLogs():  # or every broken line writes several to the terminal
        molecule = chem.MolFromSmiles(text) if text.split() == [text] else None
    if molecule is None or not molecule.GetNumAtoms():
        return None
    chem.RemoveStereochemistry(molecule)
    return molecule


def atom_kinds(molecule: Any, elements: Iterable[str] = ELEMENTS) -> list[str]:  # noqa: ANN401
    """The kinds of a molecule's atoms.

    Args:
        molecule: RDKit's.
        elements: that it may have.

    Raises:
        GraphError: another element, an isotope, a radical, or a molecule in several pieces.
    """
    if len(chemistry().GetMolFrags(molecule)) != 1:
        raise GraphError("in several pieces")
    found, allowed = [], frozenset(elements)
    for atom in molecule.GetAtoms():
        symbol, charge = atom.GetSymbol(), atom.GetFormalCharge()
        if symbol not in allowed:
            raise GraphError("with other elements")
        if atom.GetIsotope() or atom.GetNumRadicalElectrons():
            raise GraphError("with isotopes or radicals")
        found.append(_kind(symbol, charge))
    return found


def graph_of(molecule: Any, kinds: Sequence[str], atoms: int) -> Tensor:  # noqa: ANN401
    """The graph of a molecule, int8, shape (atoms, 1 + atoms).

    Args:
        molecule: RDKit's, sanitised.
        kinds: of atoms, in the order of their numbers.
        atoms: rows of the table.

    Raises:
        GraphError: it has more atoms, other kinds, or bonds of no order 1 to 3.
    """
    chem = chemistry()
    count = molecule.GetNumAtoms()
    if count > atoms:
        raise GraphError("too large")
    found = np.zeros((atoms, 1 + atoms), np.int8)
    found[:, 0] = -1
    places = {kind: i for i, kind in enumerate(kinds)}
    plain = chem.Mol(molecule)
    chem.Kekulize(plain, clearAromaticFlags=True)
    for atom in plain.GetAtoms():
        kind = _kind(atom.GetSymbol(), atom.GetFormalCharge())
        if kind not in places:
            raise GraphError(f"with {kind}, which the run does not know")
        found[atom.GetIdx(), 0] = places[kind]
    orders = {chem.BondType.SINGLE: 1, chem.BondType.DOUBLE: 2, chem.BondType.TRIPLE: 3}
    for bond in plain.GetBonds():
        order = orders.get(bond.GetBondType())
        if order is None:
            raise GraphError("with bonds that are not single, double or triple")
        i, j = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        found[i, 1 + j] = found[j, 1 + i] = order
    return torch.from_numpy(found)


def molecules_of(graphs: Tensor, kinds: Sequence[str]) -> list[Any]:
    """RDKit's molecules of graphs, sanitised; None of what it refuses, and of no atoms.

    Args:
        graphs: integers, shape (N, A, 1 + A); orders are read above the diagonal.
        kinds: of atoms, by number.
    """
    return [_sanitised(_built(graph, kinds)) for graph in graphs.cpu().numpy()]


def smiles_of_graphs(graphs: Tensor, kinds: Sequence[str]) -> list[str]:
    """Canonical SMILES of graphs; "" of what is no molecule, and of several pieces."""
    chem = chemistry()
    return [
        chem.MolToSmiles(molecule)
        if molecule is not None and len(chem.GetMolFrags(molecule)) == 1
        else ""
        for molecule in molecules_of(graphs, kinds)
    ]


def corrected_graphs(graphs: Tensor, kinds: Sequence[str]) -> Tensor:
    """Graphs with every valence in order, and of their pieces the largest.

    While an atom has too many bonds, the first such: a nitrogen with four, or an oxygen with three,
    gets a charge of +1, if there is such a kind; otherwise its bond of the highest order, to the
    first such neighbour, loses one. Of equal pieces the one with the first atom stays. Graphs
    without mistakes, in one piece, come back as they are.

    Args:
        graphs: integers, shape (N, A, 1 + A).
        kinds: of atoms, by number.

    References:
        C. Zang, F. Wang, 2020, MoFlow, arXiv 2006.10137, whose rule GDSS has but for details.
    """
    found = graphs.cpu().clone()
    for graph in found:
        _correct(graph, kinds)
        _keep_largest(graph)
    return found


def _kind(symbol: str, charge: int) -> str:
    sign = "+" if charge > 0 else "-"
    return symbol + (sign + (str(abs(charge)) if abs(charge) > 1 else "") if charge else "")


def _charge(kind: str) -> tuple[str, int]:
    match = _KIND.fullmatch(kind)
    assert match is not None, kind
    symbol, sign, size = match.groups()
    return symbol, (int(size or 1) if sign == "+" else -int(size or 1)) if sign else 0


def _built(graph: NDArray[Any], kinds: Sequence[str]) -> Any:  # noqa: ANN401
    """A molecule as the graph says, right or wrong; its atoms are numbered as the rows are."""
    chem = chemistry()
    orders = (None, chem.BondType.SINGLE, chem.BondType.DOUBLE, chem.BondType.TRIPLE)
    found, places = chem.RWMol(), dict[int, int]()
    for row, kind in enumerate(graph[:, 0].tolist()):
        if kind >= 0:
            symbol, charge = _charge(kinds[kind])
            atom = chem.Atom(symbol)
            atom.SetFormalCharge(charge)
            atom.SetIntProp("row", row)
            places[row] = found.AddAtom(atom)
    for i, j in np.argwhere(np.triu(graph[:, 1:], 1)).tolist():
        if i in places and j in places:
            found.AddBond(places[i], places[j], orders[graph[i, 1 + j]])
    return found


def _sanitised(molecule: Any) -> Any:  # noqa: ANN401
    chem = chemistry()
    from rdkit import rdBase

    if not molecule.GetNumAtoms():
        return None
    with rdBase.BlockLogs():
        wrong = chem.SanitizeMol(molecule, catchErrors=True)
    if wrong != chem.SanitizeFlags.SANITIZE_NONE:
        return None
    for atom in molecule.GetAtoms():
        atom.ClearProp("row")
    return molecule.GetMol()


def _correct(graph: Tensor, kinds: Sequence[str]) -> None:
    chem = chemistry()
    from rdkit import rdBase

    while True:
        molecule = _built(graph.numpy(), kinds)
        with rdBase.BlockLogs():
            problems = chem.DetectChemistryProblems(molecule)
        rows = [
            molecule.GetAtomWithIdx(p.GetAtomIdx()).GetIntProp("row")
            for p in problems
            if p.GetType() == "AtomValenceException"
        ]
        if not rows:
            return
        row = min(rows)
        orders, kind = graph[row, 1:], kinds[int(graph[row, 0])]
        total = int(orders.sum())
        if (kind, total) in (("N", 4), ("O", 3)) and f"{kind}+" in kinds:
            graph[row, 0] = kinds.index(f"{kind}+")
            continue
        if not total:  # a kind that cannot be at all: as little as there is
            graph[row] = 0
            graph[row, 0] = -1
            continue
        other = int(orders.argmax())
        graph[row, 1 + other] -= 1
        graph[other, 1 + row] -= 1


def _keep_largest(graph: Tensor) -> None:
    rows = (graph[:, 0] >= 0).nonzero()[:, 0].tolist()
    best, left = list[int](), set(rows)
    bonds = graph[:, 1:].tolist()
    for row in rows:
        if row not in left:
            continue
        piece, edge = [row], [row]
        left.discard(row)
        while edge:
            edge = [j for i in edge for j in sorted(left) if bonds[i][j]]
            edge = list(dict.fromkeys(edge))
            left.difference_update(edge)
            piece += edge
        if len(piece) > len(best):
            best = piece
    for row in set(rows) - set(best):
        graph[row] = 0
        graph[row, 0] = -1
        graph[:, 1 + row] = 0
