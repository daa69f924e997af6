"""Dock hits of a run of molecules with AutoDock Vina, an extra step outside of noiseloom.

    pip install vina meeko gemmi 'noiseloom[chem]'
    mk_prepare_receptor.py --read_pdb receptor.pdb -o receptor -p      # of meeko: receptor.pdbqt
    python examples/dock.py hits.csv receptor.pdbqt --center 84.2 6.9 -7.1 --size 22 19 14 -n 50

Writes hits-docked.csv: the SMILES, the affinity in kcal/mol (lower binds more tightly), and

    y = min(max(-affinity, 0), 20) / 20 QED (10 - SA) / 9,

the label of L. Klarner et al., 2024, arXiv 2407.11942, the best first. Molecules are docked as the
table has them, their charges and tautomers too, from one conformer, so that an affinity is a rough
guess of a rough score; a docking takes seconds to a minute of a core, and at most 200 are done. The
table can be the labels of another guide: noiseloom guide RUN --labels hits-docked.csv --columns y.
"""

import argparse
import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

MOST = 200


def rows_of(path: Path, most: int) -> list[str]:
    """The first SMILES of a table of samples."""
    if not 1 <= most <= MOST:
        raise ValueError(f"-n must be 1 to {MOST}, got {most}")
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        if "structure" not in (rows.fieldnames or ()):
            raise ValueError(f"{path} has no column structure: give what noiseloom sample writes")
        found = [row["structure"] for row in rows if row["structure"]]
    if not found:
        raise ValueError(f"{path} has no molecules")
    return list(dict.fromkeys(found))[:most]


def ligand_of(smiles: str, seed: int) -> str:
    """A conformer with its hydrogens as PDBQT."""
    from meeko import MoleculePreparation, PDBQTWriterLegacy
    from rdkit import Chem
    from rdkit.Chem import AllChem

    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    if AllChem.EmbedMolecule(molecule, randomSeed=seed) != 0:
        raise ValueError("no conformer")
    AllChem.MMFFOptimizeMolecule(molecule)
    text, fine, why = PDBQTWriterLegacy.write_string(MoleculePreparation().prepare(molecule)[0])
    if not fine:
        raise ValueError(why.strip() or "meeko refuses it")
    return str(text)


def docked(
    keys: Sequence[str],
    receptor: Path,
    center: Sequence[float],
    size: Sequence[float],
    exhaustiveness: int,
    seed: int,
) -> Iterator[tuple[str, float | None, str]]:
    """Each molecule with its affinity in kcal/mol, or why there is none."""
    from vina import Vina

    program: Any = Vina(sf_name="vina", cpu=1, seed=seed, verbosity=0)
    program.set_receptor(str(receptor))
    program.compute_vina_maps(center=list(center), box_size=list(size))
    for key in keys:
        try:
            program.set_ligand_from_string(ligand_of(key, seed))
            program.dock(exhaustiveness=exhaustiveness, n_poses=1)
            yield key, float(program.energies(n_poses=1)[0][0]), ""
        except (ValueError, RuntimeError, TypeError) as error:
            yield key, None, " ".join(str(error).split())


def label(affinity: float, qed_sa: float) -> float:
    """The paper's label."""
    return min(max(-affinity, 0.0), 20.0) / 20 * qed_sa


def main(words: Sequence[str]) -> Path:
    """Dock, and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("receptor", type=Path)
    parser.add_argument("--center", type=float, nargs=3, required=True, metavar=("X", "Y", "Z"))
    parser.add_argument("--size", type=float, nargs=3, default=(20.0, 20.0, 20.0))
    parser.add_argument("-n", type=int, default=50, help=f"first molecules, at most {MOST}")
    parser.add_argument("--exhaustiveness", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args(words)
    keys = rows_of(asked.table, asked.n)
    from rdkit import Chem

    from noiseloom.data.chemistry import scores

    values = scores([Chem.MolFromSmiles(key) for key in keys])[:, 0].tolist()
    place = (asked.center, asked.size, asked.exhaustiveness, asked.seed)
    rows = []
    for (key, affinity, why), own in zip(docked(keys, asked.receptor, *place), values, strict=True):
        y = None if affinity is None else label(affinity, own)
        print(key, f"{affinity:.2f} kcal/mol" if affinity is not None else why, flush=True)
        rows.append((key, affinity, y, own))
    rows = [row for row in rows if row[2] is not None]
    rows.sort(key=lambda row: -row[2])
    out: Path = asked.table.with_name(f"{asked.table.stem}-docked.csv")
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("smiles", "affinity", "y", "qed_sa"))
        writer.writerows((k, f"{a:.3f}", f"{y:.6f}", f"{own:.6f}") for k, a, y, own in rows)
    print(f"{len(rows)} of {len(keys)} docked: {out}")
    return out


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (ImportError, OSError, ValueError) as error:
        sys.exit(f"error: {error}")
