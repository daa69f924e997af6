"""Molecules as graphs and back, valences mended, labels, files with their lines, the cache."""

import gzip
import os
from pathlib import Path

import pytest
import torch

pytest.importorskip("rdkit", reason="needs the extra chem")

from rdkit import Chem

from noiseloom.data import Molecules, read_molecules
from noiseloom.data.chemistry import check_chemistry, scores
from noiseloom.data.molecular_graphs import (
    GraphError,
    atom_kinds,
    corrected_graphs,
    flat,
    graph_of,
    molecules_of,
    smiles_of_graphs,
)
from noiseloom.data.molecule_files import molecule_picture, structure_file
from noiseloom.data.molecules import parse_molecules
from noiseloom.rng import Rng

SAMPLE = Path(__file__).with_name("zinc_sample.smi")
SMILES = SAMPLE.read_text().split()
KINDS = ("C", "N", "O", "F", "S", "N+", "O-")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NOISELOOM_CACHE", str(tmp_path / "cache"))


def table(kinds, bonds, atoms=None):
    """A graph by hand."""
    atoms = atoms or len(kinds)
    found = torch.zeros(atoms, 1 + atoms, dtype=torch.int8)
    found[:, 0] = -1
    for i, kind in enumerate(kinds):
        found[i, 0] = KINDS.index(kind)
    for i, j, order in bonds:
        found[i, 1 + j] = found[j, 1 + i] = order
    return found


def written(graph):
    return smiles_of_graphs(graph[None], KINDS)[0]


def corrected(graph):
    return corrected_graphs(graph[None], KINDS)[0]


# Graphs.


def test_every_molecule_comes_back_from_its_graph():
    """Charged, aromatic and large ones; the only thing lost is what is left and right in space."""
    places = [f"line {i}" for i in range(len(SMILES))]
    found, rows, notes = parse_molecules(SMILES, places, max_atoms=38)
    assert rows == list(range(len(SMILES)))
    assert not notes
    assert {"N+", "O-", "S-", "I", "P", "Br"} <= set(found.kinds)
    expected = [Chem.MolToSmiles(Chem.MolFromSmiles(s), isomericSmiles=False) for s in SMILES]
    assert found.keys == expected


def test_graphs_are_symmetric_and_zero_in_padding():
    found, _, _ = parse_molecules(SMILES, SMILES, max_atoms=38)
    bonds, real = found.graphs[:, :, 1:], found.graphs[:, :, 0] >= 0
    assert torch.equal(bonds, bonds.mT)
    assert not bonds.diagonal(dim1=1, dim2=2).any()
    assert not bonds[~(real[:, :, None] & real[:, None])].any()
    assert found.sizes.tolist() == [flat(s).GetNumAtoms() for s in SMILES]
    assert real.long().diff(dim=1).amax() <= 0  # atoms first


def test_keys_do_not_know_the_order_of_the_atoms():
    found, _, _ = parse_molecules(SMILES, SMILES, max_atoms=38)
    order = Rng(0).permutation(38)
    moved = found.graphs[:, order]
    moved = torch.cat((moved[:, :, :1], moved[:, :, 1:][:, :, order]), -1)
    assert smiles_of_graphs(moved, found.kinds) == found.keys


@pytest.mark.parametrize(
    ("smiles", "kinds", "bonds"),
    [
        ("C=O", ["C", "O"], {(0, 1): 2}),
        ("CC#N", ["C", "C", "N"], {(0, 1): 1, (1, 2): 3}),
        ("C[N+](=O)[O-]", ["C", "N+", "O", "O-"], {(0, 1): 1, (1, 2): 2, (1, 3): 1}),
    ],
)
def test_graphs_by_hand(smiles, kinds, bonds):
    graph = graph_of(flat(smiles), KINDS, 5)
    assert [KINDS[k] for k in graph[:, 0].tolist() if k >= 0] == kinds
    assert {
        (i, j): int(graph[i, 1 + j]) for i in range(5) for j in range(i) if graph[i, 1 + j]
    } == {(j, i): order for (i, j), order in bonds.items()}
    assert written(graph) == Chem.CanonSmiles(smiles)


def test_benzene_is_kekulised():
    graph = graph_of(flat("c1ccccc1"), KINDS, 6)
    assert sorted(graph[:, 1:].flatten().tolist()) == [0] * 24 + [1] * 6 + [2] * 6
    assert written(graph) == "c1ccccc1"


@pytest.mark.parametrize(
    ("smiles", "reason"),
    [
        ("C.C", "in several pieces"),
        ("C[Si](C)(C)C", "with other elements"),
        ("[13CH3]C", "with isotopes or radicals"),
        ("[CH3]", "with isotopes or radicals"),
    ],
)
def test_what_has_no_graph_is_refused(smiles, reason):
    with pytest.raises(GraphError, match=reason):
        atom_kinds(flat(smiles))


def test_graphs_that_do_not_fit_are_refused():
    with pytest.raises(GraphError, match="too large"):
        graph_of(flat("CCCC"), KINDS, 3)
    with pytest.raises(GraphError, match="with Cl, which the run does not know"):
        graph_of(flat("CCl"), KINDS, 3)


# Mending.


def test_what_is_right_stays_as_it_is():
    found, _, _ = parse_molecules(SMILES, SMILES, max_atoms=38)
    assert torch.equal(corrected_graphs(found.graphs, found.kinds), found.graphs)


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        # Five bonds of a carbon: the double one becomes single.
        (table("CCCCC", [(0, 1, 2), (0, 2, 1), (0, 3, 1), (0, 4, 1)]), "CC(C)(C)C"),
        # Of equal ones that to the first neighbour, and then the other, which is the higher.
        (table("CNO", [(0, 1, 3), (0, 2, 3)]), "N=C=O"),
        (table("OCCC", [(0, i, 1) for i in range(1, 4)]), "C[O+](C)C"),
        # Fluorine has one bond: it loses the other.
        (table("FCC", [(0, 1, 1), (0, 2, 1)]), "CF"),
        # Four bonds of nitrogen are charged, five lose one first.
        (table("NCCCC", [(0, i, 1) for i in range(1, 5)]), "C[N+](C)(C)C"),
        (table("NCC", [(0, 1, 3), (0, 2, 2)]), "C=[N+]=C"),
        # The largest piece stays, of equal ones the first.
        (table("CCOOO", [(0, 1, 1), (2, 3, 1), (3, 4, 1)]), "OOO"),
        (table("COCN", [(0, 1, 1), (2, 3, 1)]), "CO"),
    ],
)
def test_valences_are_mended_by_hand(graph, expected):
    kinds = (*KINDS, "O+") if "O+" in expected else KINDS
    found = corrected_graphs(graph[None], kinds)
    assert smiles_of_graphs(found, kinds) == [Chem.CanonSmiles(expected)]
    assert torch.equal(corrected_graphs(found, kinds), found)


def test_without_a_charged_kind_bonds_go():
    graph = table("NCCCC", [(0, i, 1) for i in range(1, 5)])
    found = corrected_graphs(graph[None], ("C", "N"))
    assert found[0, 1, 1] == 0
    assert smiles_of_graphs(found, ("C", "N")) == ["CN(C)C"]


def test_noise_is_mended_to_molecules():
    """Any symmetric table is: 200 random ones, hardly any of which is one before."""
    draw = Rng(1)
    bonds = draw.fold("bonds").integers(8, (200, 7, 7)).clamp(max=3).triu(1) % 4
    bonds = bonds * (draw.fold("there").uniform((200, 7, 7)) < 0.5)
    kinds = draw.fold("kinds").integers(len(KINDS), (200, 7, 1))
    graphs = torch.cat((kinds, bonds + bonds.mT), -1).to(torch.int8)
    assert sum(map(bool, smiles_of_graphs(graphs, KINDS))) < 50
    found = corrected_graphs(graphs, KINDS)
    assert all(smiles_of_graphs(found, KINDS))
    assert (found[:, :, 1:] <= graphs[:, :, 1:]).all()


def test_nothing_is_no_molecule():
    none = torch.zeros(1, 3, 4, dtype=torch.int8)
    none[:, :, 0] = -1
    assert smiles_of_graphs(none, KINDS) == [""]
    assert molecules_of(none, KINDS) == [None]
    assert torch.equal(corrected_graphs(none, KINDS), none)


# Labels.


def test_labels_are_those_of_rdkit():
    """Aspirin has QED 0.5501 in RDKit's documentation; benzene is as easy to make as can be."""
    aspirin, benzene = scores([flat("CC(=O)Oc1ccccc1C(=O)O"), flat("c1ccccc1")])
    expected = torch.tensor([0.5501217966938848, 1.580039750008826], dtype=torch.float64)
    torch.testing.assert_close(aspirin[1:], expected, rtol=0, atol=1e-6)
    assert float(aspirin[0]) == pytest.approx(0.5501218 * (10 - 1.5800398) / 9, abs=1e-6)
    assert benzene.tolist() == pytest.approx([0.4426283718993647, 0.4426283718993647, 1.0])


def test_labels_are_of_the_graph():
    """What is left and right in space is no part of it, and so of no label."""
    found, _ = read_molecules(SAMPLE)
    again = scores(molecules_of(found.graphs, found.kinds))
    torch.testing.assert_close(found.scores, again, rtol=0, atol=0)
    torch.testing.assert_close(found.labels, again[:, 1] * (10 - again[:, 2]) / 9)


def test_an_rdkit_without_its_contributions_is_told_in_a_line(monkeypatch, tmp_path):
    from rdkit import RDConfig

    from noiseloom.data import chemistry

    chemistry._sa_scorer.cache_clear()
    monkeypatch.setattr(RDConfig, "RDContribDir", str(tmp_path))
    with pytest.raises(ImportError, match="lacks its contribution SA_Score"):
        check_chemistry()
    chemistry._sa_scorer.cache_clear()


# Files.


def test_a_broken_line_is_named(tmp_path):
    path = tmp_path / "mine.smi"
    path.write_text("CCO ethanol\nC1CC\nCCN\n")
    with pytest.raises(ValueError, match=r"mine.smi, line 2: 'C1CC' is no SMILES .* mend it"):
        read_molecules(path)
    headed = tmp_path / "headed.smi"
    headed.write_text("smiles name\nCCO ethanol\n")
    with pytest.raises(ValueError, match=r"line 1: .* take it out, as a header would have to be"):
        read_molecules(headed)
    found, notes = read_molecules(path, skip_bad=True)
    assert found.keys == ["CCO", "CCN"]
    assert notes == ("1 molecules that RDKit cannot read are left out, the first at line 2",)


def test_what_is_left_out_is_counted(tmp_path):
    path = tmp_path / "mine.csv.gz"
    lines = [
        "id,smiles",
        "1,CCO",
        "2,OCC",
        "3,CCCCCC",
        "4,C[Si](C)(C)C",
        "5,C.O",
        "6,c1ccco1",
        "7,CCCCCCC",
    ]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    found, notes = read_molecules(path, max_atoms=5)
    assert found.keys == ["CCO", "c1ccoc1"]
    assert notes == (
        "1 molecules in several pieces are left out, the first at line 6",
        "2 molecules of more than 5 atoms are left out, the first at line 4",
        "1 molecules with other elements are left out, the first at line 5",
        "1 molecules that repeat another one are left out, the first at line 3",
    )
    with pytest.raises(ValueError, match=r"holds no molecule that can be used: .* more than 2"):
        read_molecules(path, max_atoms=2)


def test_lines_are_those_of_the_file_that_is_read(tmp_path, monkeypatch):
    """The cache is of what a file says, and a file of the same molecules may have other lines."""
    monkeypatch.setenv("NOISELOOM_CACHE", str(tmp_path / "cache"))
    for empty, line in ((0, 2), (3, 5), (0, 2)):
        (tmp_path / "a.smi").write_text("CCO\n" + "\n" * empty + "C.O\nCCN\n")
        _, notes = read_molecules(tmp_path / "a.smi")
        assert notes == (f"1 molecules in several pieces are left out, the first at line {line}",)


@pytest.mark.parametrize(("name", "text"), [("a.smi", ""), ("a.csv", "smiles\n"), ("a.txt", "\n")])
def test_a_file_without_molecules_is_one_of_molecules(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=rf"{name} holds no molecule$"):
        read_molecules(tmp_path / name)


def test_a_second_reading_is_of_the_cache_and_the_same(tmp_path, monkeypatch):
    first, notes = read_molecules(SAMPLE, max_atoms=11)
    assert len(list((tmp_path / "cache").iterdir())) == 1
    monkeypatch.setattr("noiseloom.data.molecules.parse_molecules", None)
    again, told = read_molecules(SAMPLE, max_atoms=11)
    assert told == notes
    assert again.kinds == first.kinds
    assert torch.equal(again.graphs, first.graphs)
    assert torch.equal(again.scores, first.scores)
    with pytest.raises(TypeError):
        read_molecules(SAMPLE, max_atoms=12)  # other options are another file


def test_molecules_as_a_run_knows_them():
    found, _ = read_molecules(SAMPLE)
    kinds = ("O", "C", "N", "X")
    own, rows = found.fitted(kinds, 12)
    fits = [
        i
        for i, s in enumerate(found.keys)
        if flat(s).GetNumAtoms() <= 12 and set(atom_kinds(flat(s))) <= {"C", "N", "O"}
    ]
    assert rows.tolist() == fits
    assert own.graphs.shape[1:] == (12, 13)
    assert own.keys == [found.keys[i] for i in fits]
    wide, _ = own.fitted(found.kinds, 50)
    assert wide.keys == own.keys
    assert torch.equal(wide.scores, found.scores[rows])
    assert (wide.graphs[:, 12:, 0] == -1).all()
    assert isinstance(wide, Molecules)


def test_an_sdf_file_holds_the_molecules_and_what_is_said_of_them(tmp_path):
    keys = ["CCO", "C[N+](C)(C)C"]
    found = [None, *(Chem.MolFromSmiles(key) for key in keys)]
    path = structure_file(tmp_path / "a.sdf", found, {"key": ["", *keys], "y": [0, 0.5, 1.5]})
    again = list(Chem.SDMolSupplier(str(path)))
    assert [Chem.MolToSmiles(m) for m in again] == keys
    assert [m.GetProp("_Name") for m in again] == keys
    assert [float(m.GetProp("y")) for m in again] == [0.5, 1.5]
    assert os.listdir(tmp_path) == ["a.sdf"]


def test_an_sdf_file_is_written_as_a_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.sdf"
    path.write_text("as it was")
    molecules = [Chem.MolFromSmiles("C"), Chem.MolFromSmiles("N")]
    with pytest.raises(IndexError):
        structure_file(path, molecules, {"y": [1]})
    assert path.read_text() == "as it was"
    assert os.listdir(tmp_path) == ["a.sdf"]


def test_a_picture_is_one_svg_without_what_pages_refuse():
    molecules = [Chem.MolFromSmiles(s) for s in ("CCO", "c1ccccc1", "CN")]
    text = molecule_picture(molecules, ["1", "2", "3"], columns=2)
    assert text.startswith("<svg")
    assert text.count("<svg") == 1
    assert "viewBox='0 0 360 360'" in text
    assert "<script" not in text
    assert text.count("fill:#FFFFFF") == 1  # behind all of them
    assert "width='360px'" not in text
    with pytest.raises(ValueError, match="1 captions for 2 molecules"):
        molecule_picture(molecules[:2], ["a"])
