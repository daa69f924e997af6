"""Benzenoids as SMILES, the line notation that chemistry programs read.

D. Weininger, 1988, "SMILES, a chemical language and information system", J. Chem. Inf. Comput. Sci.
28, 31. Carbons are written as aromatic ones, "c", in the order of a walk through the skeleton; a
bond back to an atom that was written is a pair of equal numbers. One molecule has one SMILES here,
as it is written from the canonical form, but not the one that other programs call canonical.
"""

from torch import Tensor

from noiseloom.data.hexagons import canonical
from noiseloom.data.hueckel import carbons

__all__ = ["smiles"]


def smiles(cells: Tensor) -> list[str]:
    """The SMILES of benzenoids.

    Args:
        cells: int64, shape (N, h, 2), cata-condensed benzenoids.

    Example:
        >>> import torch
        >>> smiles(torch.tensor([[[0, 0]], [[3, 1]]]))
        ['c1ccccc1', 'c1ccccc1']
    """
    _, bonds = carbons(canonical(cells))
    return [_written(pairs) for pairs in bonds.tolist()]


def _written(bonds: list[list[int]]) -> str:
    beside: dict[int, list[int]] = {}
    for a, b in bonds:
        beside.setdefault(a, []).append(b)
        beside.setdefault(b, []).append(a)
    # A walk as deep as it goes; every bond that is left over closes a ring.
    order: dict[int, int] = {}
    below: dict[int, list[int]] = {atom: [] for atom in beside}
    closes: dict[int, list[tuple[int, int]]] = {atom: [] for atom in beside}

    def walk(atom: int, parent: int) -> None:
        order[atom] = len(order)
        for other in beside[atom]:
            if other not in order:
                below[atom].append(other)
                walk(other, atom)
            elif other != parent and order[other] < order[atom]:
                ring = (other, atom)
                closes[other].append(ring)
                closes[atom].append(ring)

    walk(0, -1)
    open_rings: dict[tuple[int, int], int] = {}

    def write(atom: int) -> str:
        text = "c"
        for ring in closes[atom]:
            if ring in open_rings:
                number = open_rings.pop(ring)
            else:
                used = set(open_rings.values())
                number = next(n for n in range(1, len(bonds)) if n not in used)
                open_rings[ring] = number
            text += str(number) if number < 10 else f"%{number}"
        for i, other in enumerate(below[atom]):
            branch = write(other)
            text += branch if i == len(below[atom]) - 1 else f"({branch})"
        return text

    return write(0)
