"""How good sampled molecules are: right, different, new, like the data, and what they are worth.

Fingerprints are Morgan's, of radius 2 in 1,024 bits, and alike by Tanimoto's similarity |a & b| /
|a | b|, as in MOOD and Context-Guided Diffusion (S. Lee et al., 2023, arXiv 2206.07632; L. Klarner
et al., 2024, 2407.11942), whose molecules are novel below 0.4. This similarity is a positive
kernel, and so has a maximum mean discrepancy (A. Gretton et al., 2012, JMLR 13, Eq. 3, without
bias): it stands where others have a Frechet distance by a network that is not to be had.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from noiseloom.data.chemistry import chemistry, scores
from noiseloom.data.molecular_graphs import corrected_graphs, molecules_of, smiles_of_graphs
from noiseloom.metrics.rows import mean_and_error

__all__ = ["FAR", "fingerprint_mmd", "fingerprints", "molecule_report", "nearest_similarity"]

FAR = 0.4
"""Similarity to the nearest known molecule below which one is called far."""
_BITS, _RADIUS, _TOP, _CHUNK = 1024, 2, 0.05, 1000


def fingerprints(keys: Sequence[str]) -> Tensor:
    """Morgan fingerprints of SMILES, bool, shape (N, 1024).

    Raises:
        ImportError: the extra `chem` is not installed.
        ValueError: what RDKit cannot read.
    """
    chem = chemistry()
    from rdkit.Chem import rdFingerprintGenerator

    make = rdFingerprintGenerator.GetMorganGenerator(radius=_RADIUS, fpSize=_BITS)
    found = torch.zeros(len(keys), _BITS, dtype=torch.bool)
    for i, key in enumerate(keys):
        molecule = chem.MolFromSmiles(key)
        if molecule is None or not key:
            raise ValueError(f"{key!r} is no molecule")
        found[i] = torch.from_numpy(make.GetFingerprintAsNumPy(molecule)).bool()
    return found


def nearest_similarity(made: Sequence[str], known: Sequence[str]) -> Tensor:
    """Tanimoto similarity of each molecule to the one most like it, float64, shape (N,).

    Args:
        made: SMILES.
        known: SMILES, at least one.
    """
    ours, theirs = fingerprints(made), fingerprints(known)
    rows = [_similarity(some, theirs).amax(1) for some in torch.split(ours, _CHUNK)]
    return torch.cat(rows) if rows else torch.empty(0, dtype=torch.float64)


def fingerprint_mmd(x: Sequence[str], y: Sequence[str]) -> float:
    """Squared maximum mean discrepancy of two sets, by Tanimoto's similarity, without bias.

        mean k(x, x') + mean k(y, y') - 2 mean k(x, y)

    with means over different molecules: about 0, and as often below it, for sets of one law.

    Args:
        x: SMILES, at least two.
        y: likewise.

    Raises:
        ValueError: fewer.
    """
    if min(len(x), len(y)) < 2:
        raise ValueError(f"a discrepancy needs two molecules a side, got {len(x)} and {len(y)}")
    a, b = fingerprints(x), fingerprints(y)

    def inner(own: Tensor) -> float:
        total = sum(float(_similarity(some, own).sum()) for some in torch.split(own, _CHUNK))
        return (total - len(own)) / (len(own) * (len(own) - 1))

    between = sum(float(_similarity(some, b).sum()) for some in torch.split(a, _CHUNK))
    return inner(a) + inner(b) - 2 * between / (len(a) * len(b))


def molecule_report(
    graphs: Tensor, kinds: Sequence[str], *, correct: bool, ceiling: float | None = None
) -> tuple[dict[str, float], list[str]]:
    """What drawn graphs are, and what they are worth.

    Args:
        graphs: as drawn, integers, shape (N, A, 1 + A), N >= 1.
        kinds: of atoms, by number.
        correct: whether molecules are judged after `corrected_graphs`.
        ceiling: the largest label that was trained on.

    Returns:
        valid: share that is one sanitised molecule as drawn, with its error; sanitised: the same of
        what may be in pieces; valid_corrected: share of molecules after correction; unique: share
        of different ones among those that are judged; label, label_se, label_top, label_best, qed
        and sa of these: mean, mean of the best 5 %, of different ones, and the largest true value
        of QED (10 - SA) / 9; above: share of all drawn that is worth more than the ceiling. What is
        of molecules is left out where there are none. Besides, the canonical SMILES of all, "" of
        those that are no molecule.
    """
    drawn = smiles_of_graphs(graphs, kinds)
    mended = smiles_of_graphs(corrected_graphs(graphs, kinds), kinds)
    valid, error = mean_and_error(torch.tensor([bool(key) for key in drawn]))
    whole = [molecule is not None for molecule in molecules_of(graphs, kinds)]
    report = {
        "valid": valid,
        "sanitised": sum(whole) / len(whole),
        "valid_corrected": sum(map(bool, mended)) / len(mended),
    }
    if error == error:
        report["valid_se"] = error
    keys = mended if correct else drawn
    judged = [key for key in keys if key]
    if not judged:
        return report, keys
    places = {key: i for i, key in enumerate(dict.fromkeys(judged))}
    each = scores([_read(key) for key in places])
    all_of = each[[places[key] for key in judged]]
    mean, spread = mean_and_error(all_of[:, 0])
    top = each[:, 0].sort(descending=True).values[: max(1, int(_TOP * len(each)))]
    report |= {
        "unique": len(places) / len(judged),
        "label": mean,
        "label_top": float(top.mean()),
        "label_best": float(top[0]),
        "qed": float(all_of[:, 1].mean()),
        "sa": float(all_of[:, 2].mean()),
    }
    if spread == spread:
        report["label_se"] = spread
    if ceiling is not None:
        report["above"] = float((all_of[:, 0] > ceiling).sum()) / len(keys)
    return report, keys


def _read(key: str) -> Any:  # noqa: ANN401
    return chemistry().MolFromSmiles(key)


def _similarity(a: Tensor, b: Tensor) -> Tensor:
    """Of bits (N, F) and (M, F): float64, shape (N, M); of two without bits 1."""
    both = a.float() @ b.float().mT
    either = a.sum(1)[:, None] + b.sum(1) - both
    return torch.where(either > 0, both / either.clamp(min=1), 1.0).double()
