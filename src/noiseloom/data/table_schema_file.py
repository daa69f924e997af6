"""The schema of a table as a YAML file, to be edited and given back."""

import os
from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import Any

import yaml

__all__ = ["free_path", "write_schema"]

_HEAD = """\
# A line for each column. Kinds: categorical, integer, real, date, or leave_out.
#   {kind: categorical, values: [a, b], other: true}  other: a class for all other values
#   {kind: integer, low: 0, high: 9}  every whole number a class; or bins: 32
#   {kind: real, bins: 32}  intervals that hold about equally many rows
#   {kind: date, format: '%d/%m/%Y', bins: 32}  days or seconds, written back as dates
#   {kind: leave_out, gaps: true}  rows without it are left out where missing values are dropped
# missing: true keeps a class for missing values. Columns without a line are inferred.
"""


def write_schema(
    path: str | os.PathLike[str],
    schema: Mapping[str, Any],
    why: Mapping[str, str] | None = None,
    force: bool = False,
) -> None:
    """Write a schema as a YAML file.

    Args:
        path: the file.
        schema: what `read_table` takes.
        why: what is wrong with columns, by name: a comment above each.
        force: replace a file that is there.

    Raises:
        FileExistsError: there is such a file, and no `force`.
    """
    path, lines = free_path(path, force), [_HEAD]
    for name, said in schema.items():
        if why and name in why:
            lines.append(f"# {' '.join(why[name].split())}\n")
        # A line a column, {name: {kind: ...}} without the outer braces.
        line = yaml.safe_dump(
            {name: said}, sort_keys=False, allow_unicode=True, default_flow_style=True, width=inf
        )
        lines.append(f"{line.strip()[1:-1]}\n")
    path.write_text("".join(lines), encoding="utf-8")


def free_path(path: str | os.PathLike[str], force: bool) -> Path:
    """A path that may be written to, in a folder that is there.

    Raises:
        FileExistsError: there is such a file, and no `force`.
    """
    path = Path(path).expanduser()
    if path.exists() and not force:
        raise FileExistsError(f"{path} exists: choose another name, or replace it with force")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
