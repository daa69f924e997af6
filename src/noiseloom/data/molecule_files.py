"""Molecules as others read them: SDF files, and pictures (SVG)."""

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from noiseloom.data.chemistry import chemistry

__all__ = ["molecule_picture", "structure_file"]

_SIDE = 180  # of a drawing, in pixels


def structure_file(
    path: Path, molecules: Sequence[Any], values: Mapping[str, Sequence[Any]]
) -> Path:
    """Write molecules with coordinates in the plane as SDF (V2000), as a whole or not at all.

    Args:
        path: of the file.
        molecules: RDKit's; None are left out.
        values: properties by name, one for each molecule; the first names it.

    Returns:
        The file.
    """
    chem = chemistry()
    from rdkit.Chem import rdDepictor

    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("w", encoding="utf-8") as file, chem.SDWriter(file) as writer:
            for i, molecule in enumerate(molecules):
                if molecule is None:
                    continue
                own = chem.Mol(molecule)
                rdDepictor.Compute2DCoords(own)
                for j, (name, column) in enumerate(values.items()):
                    if not j:
                        own.SetProp("_Name", str(column[i]))
                    own.SetProp(name, str(column[i]))
                writer.write(own)
        with part.open("rb") as written:
            os.fsync(written.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def molecule_picture(molecules: Sequence[Any], captions: Sequence[str], columns: int = 6) -> str:
    """An SVG of molecules, row by row, on white: carbons are black on dark pages, too.

    "" where RDKit has nothing to draw with: machines without a screen may lack libXrender, which
    its drawing needs, and nothing but a picture is lost.

    Args:
        molecules: RDKit's, sanitised, at least one.
        captions: a line below each.
        columns: how many are side by side.

    Warns:
        UserWarning: nothing can be drawn.

    Raises:
        ValueError: none, or another number of captions.
    """
    if not molecules or len(captions) != len(molecules):
        raise ValueError(f"{len(captions)} captions for {len(molecules)} molecules, at least one")
    chemistry()
    try:
        from rdkit.Chem.Draw import rdMolDraw2D
    except ImportError as error:
        warnings.warn(f"there are no pictures of molecules: {error}", stacklevel=2)
        return ""
    across = min(columns, len(molecules))
    down = -(-len(molecules) // across)
    canvas: Any = rdMolDraw2D.MolDraw2DSVG(across * _SIDE, down * _SIDE, _SIDE, _SIDE)
    canvas.DrawMolecules(list(molecules), legends=list(captions))
    canvas.FinishDrawing()
    text: str = canvas.GetDrawingText()
    # A page has no declaration in its midst, and a picture no fixed size.
    return text[text.index("<svg") :].replace(
        f"width='{across * _SIDE}px' height='{down * _SIDE}px'", "", 1
    )
