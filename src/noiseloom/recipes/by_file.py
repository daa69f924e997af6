"""Which recipe is for a person's file: text, a table, sequences or pictures, by its name."""

import os
from pathlib import Path

from noiseloom.data.sequence_files import FASTA
from noiseloom.data.table_files import opened

__all__ = ["recipe_for"]

_PLAIN = (".txt", ".md")
_TAR = (".tar", ".tar.gz", ".tgz", ".tar.xz")
_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")
_SEQUENCES = (*FASTA, ".smi")


def recipe_for(data: str) -> str:
    """The name of the recipe that reads what lies at a path: text, table, sequences or palette.

    Text is .txt, .md, a folder that holds such files, or a tar file; a table .csv, .tsv or
    .parquet; sequences are FASTA, .smi, .npy, and a .csv whose only column is called smiles or
    sequence; pictures of few colours (palette) a folder of pictures, or a .zip file. Of files all
    but .npy, .parquet and .zip may have .gz after it.

    Args:
        data: the path.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: it cannot be told, or a table that cannot be opened.
    """
    path = Path(data).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"there is no file or folder {data}")
    name = path.name.lower()
    bare = name.removesuffix(".gz")
    if path.is_dir():
        if any(n.lower().endswith(_PLAIN) for n in _files(path)):
            return "text"
        if any(n.lower().endswith(_PICTURES) for n in _files(path)):
            return "palette"
    elif name.endswith(".zip"):
        return "palette"
    elif name.endswith(_TAR) or bare.endswith(_PLAIN):
        return "text"
    elif bare.endswith(_SEQUENCES) or name.endswith(".npy"):
        return "sequences"
    elif bare.endswith((".csv", ".tsv")) or name.endswith(".parquet"):
        return "sequences" if _is_one_of_sequences(path) else "table"
    raise ValueError(
        f"what {data} is cannot be told: name the recipe, noiseloom compare text|table|sequences|"
        f"palette --data {data}, or another of noiseloom recipes"
    )


def _files(folder: Path) -> list[str]:
    """Names of files at any depth, but hidden ones."""
    found = []
    for _, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [name for name in names if not name.startswith(".")]
    return found


def _is_one_of_sequences(path: Path) -> bool:
    if path.suffix.lower() == ".parquet":
        return False
    with opened(path) as table:
        return [name.lower() for name in table.names] in (["smiles"], ["sequence"])
