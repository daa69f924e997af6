"""Tokens of a text that needs not fit into memory: a file of them, mapped."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from noiseloom.data.characters import smallest

__all__ = ["mapped_tokens"]

# Part of every name: raise it when the same text and options give other tokens.
_FORMAT = 1


def mapped_tokens(
    folder: Path,
    name: str,
    key: object,
    encode: Callable[[], tuple[int, dict[str, Any], Iterable[NDArray[Any]]]],
) -> tuple[Tensor, dict[str, Any]]:
    """Tokens in a file, written piece by piece unless they are there.

    The file's name has a hash of `key`, so that what was written for another key is never
    overwritten. Beside it, written last, lies a JSON file with what is known of it. Either is
    written as a whole or not at all, also when several processes do so at once.

    Facts are read when all tokens have been written: they may be of what was found on the way.

    Args:
        folder: where; it is made if it is not there.
        name: what the files' names begin with.
        key: what the tokens are a function of, plain JSON values.
        encode: called if there is no such file: number of classes, facts to keep, and the tokens in
            pieces.

    Returns:
        The tokens, of the smallest type, mapped into memory (to write to them changes no file), and
        the facts that were kept.

    Raises:
        OSError: the files cannot be written.
        ValueError: they are damaged.
    """
    digest = hashlib.blake2b(json.dumps([_FORMAT, key]).encode(), digest_size=8).hexdigest()
    tokens, about = folder / f"{name}-{digest}.tokens", folder / f"{name}-{digest}.json"
    if not about.exists():
        classes, facts, pieces = encode()
        kind = torch.empty(0, dtype=smallest(classes)).numpy().dtype
        part = folder / f".{tokens.name}.{os.getpid()}.part"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(f"tokens cannot be written to {folder}: {error.strerror}") from error
        try:
            count = 0
            with part.open("wb") as file:
                for piece in pieces:
                    piece.astype(kind).tofile(file)
                    count += len(piece)
            part.replace(tokens)
            told = {"classes": classes, "count": count, "facts": facts}
            part.write_text(json.dumps(told), encoding="utf-8")
            part.replace(about)
        except OSError as error:
            why = error.strerror or error  # NumPy tells only how much it could write
            raise OSError(f"tokens cannot be written to {folder}: {why}") from error
        finally:
            part.unlink(missing_ok=True)
    try:
        told = json.loads(about.read_text(encoding="utf-8"))
        dtype, count = smallest(told["classes"]), int(told["count"])
        if tokens.stat().st_size != count * dtype.itemsize:
            raise ValueError(f"{tokens.name} is not of the size that it had")
        return torch.from_file(str(tokens), shared=False, size=count, dtype=dtype), told["facts"]
    except (ValueError, KeyError, TypeError, FileNotFoundError) as error:
        raise ValueError(
            f"the tokens in {about} are damaged ({error}): remove that file to make them again"
        ) from error
