"""What the tokens of a table mean: a column each, to values and files and back."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from noiseloom.data.table_cells import check_reach, encode_cells, read_cells
from noiseloom.data.table_columns import Classes, Column, Value
from noiseloom.data.table_rules import Comparison, comparison
from noiseloom.data.table_schema import check_names
from noiseloom.data.table_schema_file import free_path, write_schema
from noiseloom.data.table_writing import check_writable, write_table
from noiseloom.rng import Rng

__all__ = ["BUT_GAPS", "CONSTANT", "TableVocabulary", "left_by"]

CONSTANT = "all training rows have one value"
"""Why a column is left out that says nothing."""
BUT_GAPS = "by the schema; its missing values count"
"""Why one is left out of which no more is wanted."""


@dataclass(frozen=True)
class TableVocabulary:
    """The columns of a table as T tokens, token c with K_c classes.

    Attributes:
        columns: those that are tokens, in the order of the file.
        left_out: columns of the file that are not, and why.
        rules: that rows keep, as `noiseloom.data.table_rules` reads them.

    Raises:
        ValueError: no columns, or two of one name, or a rule that is none.
    """

    columns: tuple[Column, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    rules: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.columns:
            raise ValueError("no column is left")
        if len(set(self.names)) < len(self.columns):
            raise ValueError("two columns have one name")
        if self.rules and "rules" in self.names:
            raise ValueError("a column is called 'rules', as rules are in a schema: rename it")
        self.comparisons()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the T columns."""
        return tuple(column.name for column in self.columns)

    @property
    def gaps_of(self) -> list[str]:
        """Columns that are left out, and whose gaps leave out rows where missing ones do."""
        return [name for name, why in self.left_out.items() if why in (CONSTANT, BUT_GAPS)]

    def comparisons(self) -> tuple[Comparison, ...]:
        """The rules: of rows of tokens (N, T) each says which can keep it, bool (N,)."""
        return tuple(comparison(rule, self.columns) for rule in self.rules)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Classes of each column, K_1, ..., K_T."""
        return tuple(column.size for column in self.columns)

    def encode(
        self,
        rows: Sequence[Sequence[Any] | Mapping[str, Any]],
        places: Sequence[str] | None = None,
    ) -> Tensor:
        """Tokens of rows, int64, shape (N, T).

        A number beyond or between the intervals of its column is in the nearest of them.

        Args:
            rows: values or cells of the T columns, in their order or by name; None, NaN and the
                words of a file are missing values.
            places: what rows are called in errors; by default "row 1" and so on.

        Raises:
            ValueError: a row of another length, a value that has no class, by row and column.
        """
        ordered = []
        places = places or [f"row {number}" for number in range(1, len(rows) + 1)]
        for place, row in zip(places, rows, strict=True):
            if isinstance(row, Mapping):
                check_names(row, self.names, f"{place}: the vocabulary")
                check_names(self.names, row, place)
                row = [row[name] for name in self.names]
            if len(row) != len(self.columns):
                raise ValueError(
                    f"{place} has {len(row)} values, and there are {len(self.columns)} columns"
                )
            ordered.append(row)
        tokens = torch.zeros((len(ordered), len(self.columns)), dtype=torch.int64)
        for c, column in enumerate(self.columns):
            classes = encode_cells(column, [row[c] for row in ordered], places)[1]
            tokens[:, c] = torch.from_numpy(classes)
        return tokens

    def decode(self, tokens: Tensor, rng: Rng | None = None) -> list[list[Value]]:
        """Rows of values: text, whole or real numbers, None where missing.

        Args:
            tokens: integers of any type, shape (N, T).
            rng: draws uniformly within the interval of a number, with one key or a key for each
                row; without it an interval gives the median of its training rows.

        Raises:
            ValueError: another shape, or a class that a column does not have.
        """
        values = self._checked(tokens)
        found = [
            column.decode(values[:, c], rng.fold("column", c) if rng else None)
            for c, column in enumerate(self.columns)
        ]
        return [list(row) for row in zip(*found, strict=True)]

    def log_widths(self, tokens: Tensor) -> Tensor:
        """Nats that each token's interval loses, float64, shape (N, T).

        -log density(row) = -log p(tokens) + sum of these: log(high - low) of an interval of reals,
        log(high - low + 1) of one of whole numbers, 0 of what is exact. The density is that of
        `decode` with an Rng, and where a column has exact numbers too it is one with atoms.

        Args:
            tokens: integers of any type, shape (N, T).

        Raises:
            ValueError: another shape, or a class that a column does not have.
        """
        values = self._checked(tokens)
        found = [c.log_widths()[values[:, i]] for i, c in enumerate(self.columns)]
        return torch.from_numpy(np.stack(found, 1))

    def facts(self) -> dict[str, Any]:
        """Plain JSON values from which `from_facts` makes it again."""
        columns = [column.facts() for column in self.columns]
        found = {"kind": "table", "columns": columns, "left_out": dict(self.left_out)}
        return {**found, "rules": list(self.rules)} if self.rules else found

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> "TableVocabulary":
        """Make a vocabulary again of what `facts` gave.

        Raises:
            ValueError: other facts.
        """
        try:
            if facts["kind"] != "table":
                raise ValueError(f"these are facts of {facts['kind']!r}, not of a table")
            columns = tuple(Column.from_facts(found) for found in facts["columns"])
            rules = tuple(facts.get("rules", ()))
            return cls(columns, dict(facts.get("left_out", {})), rules)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"these are no facts of a table: {error}") from error

    def schema(self) -> dict[str, Any]:
        """What `read_table` takes as `schema` to make the same columns of the same rows."""
        found: dict[str, Any] = {column.name: column.schema() for column in self.columns}
        found |= {name: left_by(why) for name, why in self.left_out.items()}
        return {**found, "rules": list(self.rules)} if self.rules else found

    def write_schema(self, path: str | os.PathLike[str], force: bool = False) -> None:
        """Write the schema as a YAML file, to be edited and given back.

        Args:
            path: the file.
            force: replace a file that is there.

        Raises:
            FileExistsError: there is such a file, and no `force`.
        """
        write_schema(path, self.schema(), force=force)

    def describe(self) -> str:
        """A table for people: name, kind, classes, examples and missing rows of each column."""
        body = [["column", "kind", "classes", "examples", "missing in training rows"]]
        for column in self.columns:
            body.append(
                [column.name, column.called, str(column.size), column.examples, str(column.gaps)]
            )
        body += [[name, "left out", "", reason, ""] for name, reason in self.left_out.items()]
        widths = [max(map(len, cells)) for cells in zip(*body, strict=True)]
        lines = ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) for r in body]
        return "\n".join(line.rstrip() for line in lines)

    def read_template(self, path: str | os.PathLike[str]) -> tuple[Tensor, Tensor]:
        """Rows with gaps, for a model to fill.

        Empty cells and "?" are unknown, and so is a column that is not there. NA, NaN and null say
        that a value is known to be missing, where the column has a class for that. A number in bins
        may be a tenth of the range of training rows beyond it (`check_reach`).

        Args:
            path: a file as `read_table` takes it, with any of the columns; those that were left out
                are passed over.

        Returns:
            Tokens, int64, shape (N, T), 0 where unknown, and whether each is known, bool (N, T).

        Raises:
            FileNotFoundError: no such file.
            ValueError: a column that is none of the table's; a value without a class, or a number
                that the column could not have, by line.
        """
        cells, places = read_cells(path, self.names, self.left_out)
        tokens = torch.zeros((len(cells), len(self.columns)), dtype=torch.int64)
        known = torch.zeros(tokens.shape, dtype=torch.bool)
        for c, column in enumerate(self.columns):
            there = [i for i, row in enumerate(cells) if row[c]]
            try:
                where = [places[i] for i in there]
                values, found = encode_cells(column, [cells[i][c] for i in there], where)
                check_reach(column, values, where)
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from None
            tokens[there, c], known[there, c] = torch.from_numpy(found), True
        return tokens, known

    def write_rows(
        self,
        path: str | os.PathLike[str],
        tokens: Tensor,
        rng: Rng | None = None,
        force: bool = False,
        *,
        known: Sequence[Sequence[str]] | None = None,
    ) -> None:
        """Write rows as a table with the header of the original, less what was left out of it.

        Numbers have decimals as they had there, and missing values are empty cells.

        Args:
            path: the file, .csv, .tsv or .parquet.
            tokens: integers of any type, shape (N, T).
            rng: as `decode` has it.
            force: replace a file that is there.
            known: cells that are known, as `read_cells` has them, a row for each: they are written
                as they were given, where a class alone would give another number of its interval;
                dates and whole numbers as the column has them (2021-2-1 as 2021-02-01).

        Raises:
            FileExistsError: there is such a file, and no `force`.
            ImportError: a .parquet file, without the extra `parquet`.
            ValueError: another kind of file, tokens that `decode` refuses.
        """
        rows = [
            [column.text(v) for column, v in zip(self.columns, row, strict=True)]
            for row in self.decode(tokens, rng)
        ]
        for row, cells in zip(rows, known, strict=True) if known is not None else ():
            for c, (column, cell) in enumerate(zip(self.columns, cells, strict=True)):
                if cell and column.parse(cell) is not None:
                    row[c] = column.known(cell)
        check_writable(Path(path))  # before a folder is made for it
        words = [column.type == "text" for column in self.columns]
        types = [column.arrow for column in self.columns]
        write_table(free_path(path, force), self.names, rows, words, types)

    def _checked(self, tokens: Tensor) -> Classes:
        if tokens.ndim != 2 or tokens.shape[1] != len(self.columns):
            raise ValueError(
                f"tokens must have shape (N, {len(self.columns)}), got {tuple(tokens.shape)}"
            )
        values: Classes = tokens.detach().cpu().long().numpy()
        wrong = (values < 0) | (values >= np.array(self.sizes))
        if wrong.any():
            row, c = np.argwhere(wrong)[0].tolist()
            raise ValueError(
                f"row {row + 1}, column {self.names[c]!r}: class {values[row, c]} of "
                f"0 .. {self.sizes[c] - 1}"
            )
        return values


def left_by(why: str | None) -> str | dict[str, Any]:
    """What a schema says of a column that was left out for a reason."""
    return {"kind": "leave_out", "gaps": True} if why in (CONSTANT, BUT_GAPS) else "leave_out"
