"""SMILES of benzenoids, read again: by a small reader of our own, and by RDKit where it is."""

import re

import pytest
import torch

from noiseloom.data import benzenoids, smiles
from noiseloom.data.hexagons import cata_condensed
from noiseloom.data.hueckel import hueckel_gaps


def read(text):
    """The adjacency that a SMILES of aromatic carbons stands for."""
    bonds, rings, stack, last, count = [], {}, [], None, 0
    for token in re.findall(r"c|\(|\)|%\d\d|\d", text):
        if token == "c":
            if last is not None:
                bonds.append((last, count))
            last, count = count, count + 1
        elif token == "(":
            stack.append(last)
        elif token == ")":
            last = stack.pop()
        elif token in rings:
            bonds.append((rings.pop(token), last))
        else:
            rings[token] = last
    assert not rings
    assert not stack
    matrix = torch.zeros(count, count, dtype=torch.float64)
    for a, b in bonds:
        matrix[a, b] = matrix[b, a] = 1
    return matrix


@pytest.mark.parametrize("rings", range(1, 8))
def test_smiles_stand_for_the_skeleton(rings):
    cells = cata_condensed(rings)
    written = smiles(cells)
    assert len(set(written)) == len(cells)
    for text, gap in zip(written, hueckel_gaps(cells).tolist(), strict=True):
        matrix = read(text)
        assert matrix.shape == (4 * rings + 2,) * 2
        assert matrix.sum() == 2 * (5 * rings + 1)
        assert sorted(matrix.sum(1).tolist()) == [2] * (2 * rings + 4) + [3] * (2 * rings - 2)
        levels = torch.linalg.eigvalsh(matrix)
        assert float(levels[2 * rings + 1] - levels[2 * rings]) == pytest.approx(gap)


def test_all_images_of_a_molecule_are_written_alike():
    cells = cata_condensed(6)
    q, r = cells.unbind(-1)
    assert smiles(torch.stack((-r - 3, q + r + 2), -1)) == smiles(cells)
    assert smiles(torch.stack((r, q), -1)[:, [3, 1, 0, 5, 4, 2]]) == smiles(cells)


def test_rdkit_reads_each_as_another_molecule():
    chem = pytest.importorskip("rdkit.Chem")
    data = benzenoids(8)
    molecules = [chem.MolFromSmiles(text) for text in smiles(data.cells)]
    assert all(m.GetRingInfo().NumRings() == 8 for m in molecules)
    assert len({chem.MolToSmiles(m) for m in molecules}) == len(data)
