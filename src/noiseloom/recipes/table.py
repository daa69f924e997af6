"""A table of one's own by any kind of state: `noiseloom train table --data FILE.csv`.

A column is a token with classes of its own: categories, whole numbers, or intervals of real ones.
The inferred schema can be written, edited and given back (`--schema FILE.yaml`).
"""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from noiseloom.data import Split, TableVocabulary, Vocabulary, read_table, vocabulary
from noiseloom.data.labelled import Cells
from noiseloom.data.option_names import as_options
from noiseloom.data.table_files import ColumnError
from noiseloom.data.table_schema_file import write_schema
from noiseloom.metrics import closest
from noiseloom.nets import Placed
from noiseloom.recipes.classes import TokenSplit
from noiseloom.recipes.guided_rows import GuidedRows
from noiseloom.recipes.recipe import Facts, Parts
from noiseloom.rng import Rng

__all__ = ["Tables"]


@dataclass(frozen=True)
class Tables(GuidedRows):
    """Options of `Classes` for tables.

    Attributes:
        schema: a YAML file that says what columns are, and perhaps rules between them; one that is
            not there yet is written, with what was inferred, to be edited, also where a column is
            refused. "" only infers.
        missing: values that are missing (empty, ?, NA, N/A, NaN, null) are a class of
            their own (class), refused, or their rows are dropped.
        bins: intervals of a column of real numbers.
        rare: categories of at most so many rows share a class "other"; 0 for none.
        constant: columns of one value are refused, or left out (leave_out).
        max_classes: the most that a column may have.
        leave_out: columns that are no tokens, separated by commas, whatever the schema says.
        held_out: share of the rows that is held out.
        split_seed: decides which rows these are.
        split: a column that says which rows are held out, "" for the share.
        held_out_value: the word of that column whose rows are held out; "" for test, val,
            validation and held_out, beside train.
    """

    name: ClassVar[str] = "table"
    summary: ClassVar[str] = "a table of one's own, by any kind of state"
    kind: ClassVar[Literal["text", "table", "sequences"]] = "table"
    paths: ClassVar[tuple[str, ...]] = ("schema",)
    distance: ClassVar[str] = "columns that differ"

    schema: str = ""
    missing: Literal["class", "refuse", "drop"] = "class"
    bins: int = 32
    rare: int = 0
    constant: Literal["refuse", "leave_out"] = "refuse"
    max_classes: int = 256
    leave_out: str = ""
    held_out: float = 0.1
    split_seed: int = 0
    split: str = ""
    held_out_value: str = ""
    sampling_steps: int = 32

    @property
    def unheard(self) -> Mapping[str, str]:
        """What draws held-out rows where a column says which they are, or its word without one."""
        if not self.split:
            return {**super().unheard, "held_out_value": "a table without --split"}
        drawn = dict.fromkeys(("held_out", "split_seed"), "a table with --split")
        return {**super().unheard, **drawn}

    @property
    def alike(self) -> bool:
        """A class of one column is not that of another."""
        return False

    def make_network(self, inputs: int, classes: int, length: int) -> nn.Module:
        """The transformer, with maps in and out for each column."""
        inner = super().make_network(self.width, self.width, length)
        return Placed(inner, length, inputs, classes, self.width)

    def load(self, data: str | None) -> Split[Any]:
        """The rows at a path."""
        return self._read(data, None)

    def load_like(self, data: str | None, facts: Facts) -> Split[Any]:
        """The rows of a table by the columns of a model."""
        known = vocabulary(facts["vocabulary"])
        return self._read(data, known if isinstance(known, TableVocabulary) else None)

    def _read(self, data: str | None, like: TableVocabulary | None) -> Split[Any]:
        if data is None:
            raise ValueError("table needs --data FILE.csv, .tsv, .csv.gz or .parquet")
        known = bool(self.schema) and Path(self.schema).exists() and like is None
        try:
            with as_options():
                split, words = read_table(
                    data,
                    schema=self.schema if known else None,
                    vocabulary=like,
                    missing=self.missing,
                    bins=self.bins,
                    rare=self.rare,
                    constant=self.constant,
                    max_classes=self.max_classes,
                    held_out=self.held_out,
                    seed=self.split_seed,
                    split_by=self.split or None,
                    held_out_value=self.held_out_value or None,
                    leave_out=_names(self.leave_out),
                )
        except ColumnError as error:
            raise ValueError(f"{error}{self._offered(error, known)}") from error
        if self.schema and not known and like is None:
            words.write_schema(self.schema)
        return TokenSplit(split.train, split.held_out, split.notes, words)

    def _offered(self, error: ColumnError, known: bool) -> str:
        """Write the schema that a person may edit where a column is refused, and say so."""
        if known:
            return ""
        if not self.schema:
            return "; --schema FILE.yaml writes what columns are taken for, to be edited"
        write_schema(self.schema, error.schema, error.why)
        return f"; {self.schema} has what columns are taken for now: edit it, and give it again"

    def introduce(self, data: Split[Any]) -> str:
        """The schema, as a table."""
        assert isinstance(data, TokenSplit)
        assert isinstance(data.vocabulary, TableVocabulary)
        return data.vocabulary.describe()

    def evaluate(self, draw: Callable[..., Tensor], data: Split[Any], rng: Rng) -> dict[str, float]:
        """Columns, pairs, what a classifier can tell, copies and distances to training rows."""
        assert isinstance(data, TokenSplit)
        assert isinstance(data.vocabulary, TableVocabulary)
        return self.report(draw, data, rng, rules=data.vocabulary.comparisons())

    def structure_columns(
        self, cells: Cells, words: Vocabulary, labels: Sequence[str]
    ) -> tuple[str, ...]:
        """The run's own columns, which all must be there."""
        assert isinstance(words, TableVocabulary)
        for name in words.names:
            cells.column(name)
        return words.names

    def tokens_of(self, cells: Cells, words: Vocabulary, columns: Sequence[str]) -> Tensor:
        """Tokens by the run's schema."""
        assert isinstance(words, TableVocabulary)
        rows = list(zip(*(cells.column(name) for name in columns), strict=True))
        return words.encode(rows, cells.places)

    def guide_trunk(self, facts: Facts, inputs: int, width: int, depth: int) -> nn.Module:
        """With maps in for each column."""
        inner = super().guide_trunk(facts, width, width, depth)
        found = Placed(inner, facts["length"], inputs, 1, width)
        found.leave.requires_grad_(False)
        found.bias.requires_grad_(False)
        return found

    def keys(self, parts: Parts, facts: Facts, data: Tensor) -> list[str]:
        """A line of CSV for each row; numbers of intervals are their medians."""
        found = []
        for row in self.cells(parts, facts, data):
            line = io.StringIO()
            csv.writer(line, lineterminator="").writerow(row)
            found.append(line.getvalue())
        return found

    def columns(self, facts: Facts) -> tuple[str, ...]:
        """The table's."""
        return tuple(column["name"] for column in facts["vocabulary"]["columns"])

    def cells(self, parts: Parts, facts: Facts, data: Tensor) -> list[list[str]]:
        """Of each row; what is missing is empty."""
        rows = vocabulary(facts["vocabulary"]).decode(data)
        return [["" if cell is None else str(cell) for cell in row] for row in rows]

    def nearest(self, made: Sequence[str], known: Sequence[str]) -> Tensor:
        """Columns in which a row differs from the one that is most like it."""
        rows = list(csv.reader([*made, *known]))
        columns = [
            {cell: i for i, cell in enumerate(dict.fromkeys(c))} for c in zip(*rows, strict=True)
        ]
        numbers = [
            [places[cell] for places, cell in zip(columns, row, strict=True)] for row in rows
        ]
        codes = torch.tensor(numbers)
        shares = closest(codes[: len(made)], codes[len(made) :])
        return (shares * len(columns)).round().long()


def _names(text: str) -> list[str]:
    """Columns that are separated by commas; one with a comma in its name has quotes around it."""
    return [name.strip() for name in next(csv.reader([text], skipinitialspace=True), [])]
