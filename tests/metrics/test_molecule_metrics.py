"""Metrics of molecules, by hand-made cases."""

import pytest
import torch

pytest.importorskip("rdkit", reason="needs the extra chem")

from rdkit import Chem, DataStructs
from rdkit.Chem import rdFingerprintGenerator

from noiseloom.data.chemistry import scores
from noiseloom.data.molecular_graphs import flat
from noiseloom.data.molecules import parse_molecules
from noiseloom.metrics.molecules import (
    fingerprint_mmd,
    fingerprints,
    molecule_report,
    nearest_similarity,
)

KEYS = ["CCO", "c1ccccc1", "CC(=O)O", "CCN", "CCCCO"]


def similarity(a, b):
    """By RDKit's own function."""
    make = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=1024)
    one, other = (make.GetFingerprint(Chem.MolFromSmiles(s)) for s in (a, b))
    return DataStructs.TanimotoSimilarity(one, other)


def graphs(*keys):
    found, _, _ = parse_molecules(keys, keys, max_atoms=8, kinds=("C", "N", "O", "N+"))
    return found.graphs


def test_similarities_are_those_of_rdkit():
    found = nearest_similarity(KEYS, KEYS[1:3])
    expected = [max(similarity(a, b) for b in KEYS[1:3]) for a in KEYS]
    assert found.tolist() == pytest.approx(expected)
    assert found[1:3].tolist() == [1, 1]
    assert fingerprints(KEYS).sum(1).min() > 0
    with pytest.raises(ValueError, match="'X' is no molecule"):
        fingerprints(["X"])


def test_the_discrepancy_is_the_sum_over_pairs():
    x, y = KEYS[:3], KEYS[2:]

    def mean(a, b, same):
        pairs = [(i, j) for i in range(3) for j in range(3) if not (same and i == j)]
        return sum(similarity(a[i], b[j]) for i, j in pairs) / len(pairs)

    expected = mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y, False)
    assert fingerprint_mmd(x, y) == pytest.approx(expected)
    with pytest.raises(ValueError, match="two molecules a side, got 1 and 3"):
        fingerprint_mmd(x[:1], y)


def test_a_report_of_drawn_graphs_by_hand():
    """Two of one molecule, another, one of five bonds, and one in two pieces."""
    five = graphs("CC(C)(C)C")
    five[0, 1, 1] = five[0, 0, 2] = 2  # the double bond is lost again
    pieces = graphs("CCO")
    pieces[0, 1, 3] = pieces[0, 2, 2] = 0
    drawn = torch.cat((graphs("CCO", "OCC", "c1ccccc1"), five, pieces))
    ethanol, benzene, pentane, ethane = scores(
        [flat(s) for s in ("CCO", "c1ccccc1", "CC(C)(C)C", "CC")]
    )
    kinds = ("C", "N", "O", "N+")
    report, keys = molecule_report(drawn, kinds, correct=False, ceiling=float(ethanol[0]))
    assert keys == ["CCO", "CCO", "c1ccccc1", "", ""]
    assert report["valid"] == pytest.approx(3 / 5)
    assert report["sanitised"] == pytest.approx(4 / 5)
    assert report["valid_corrected"] == 1
    assert report["unique"] == pytest.approx(2 / 3)
    assert report["label"] == pytest.approx(float(2 * ethanol[0] + benzene[0]) / 3)
    assert report["label_top"] == report["label_best"] == pytest.approx(float(benzene[0]))
    assert report["qed"] == pytest.approx(float(2 * ethanol[1] + benzene[1]) / 3)
    assert report["sa"] == pytest.approx(float(2 * ethanol[2] + benzene[2]) / 3)
    assert report["above"] == pytest.approx(1 / 5)
    mended, keys = molecule_report(drawn, kinds, correct=True)
    assert keys == ["CCO", "CCO", "c1ccccc1", "CC(C)(C)C", "CC"]
    assert mended["valid"] == report["valid"]
    assert mended["unique"] == pytest.approx(4 / 5)
    total = 2 * ethanol[0] + benzene[0] + pentane[0] + ethane[0]
    assert mended["label"] == pytest.approx(float(total) / 5)
    assert "above" not in mended


def test_a_report_of_nothing_says_so():
    none = graphs("C")
    none[:, :, 0] = -1
    report, keys = molecule_report(none, ("C", "N", "O"), correct=True)
    assert report == {"valid": 0, "sanitised": 0, "valid_corrected": 0}
    assert keys == [""]
