"""Files that are written as a whole or not at all: bytes, text, a recording of tensors."""

import os
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

__all__ = ["write_bytes", "write_text", "write_whole"]


def write_whole(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Tensor],
    about: Mapping[str, str],
    *,
    what: str,
    force: bool,
) -> None:
    """Write a .safetensors file, without a second copy of it in memory.

    Args:
        path: the file.
        tensors: by name.
        about: its metadata.
        what: these are, for errors.
        force: replace a file that is there.

    Raises:
        FileExistsError: there is such a file, and no `force`.
        OSError: it cannot be written.
        ValueError: another kind of file.
    """
    path = Path(path).expanduser()
    if path.suffix != ".safetensors":
        raise ValueError(f"{path}: {what} are written as .safetensors")
    if path.exists() and not force:
        raise FileExistsError(f"{path} exists: choose another name, or replace it with force")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        part.touch()
        usual = part.stat().st_mode  # save_file would make it the writer's alone
        columns = {name: tensor.contiguous() for name, tensor in tensors.items()}
        save_file(columns, part, {"format": "pt", **about})
        part.chmod(usual)
        part.replace(path)
    except SafetensorError as error:
        raise OSError(f"{path} cannot be written: {error}") from error
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file as a whole or not at all."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file as a whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
