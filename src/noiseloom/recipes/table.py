"""A table of one's own by any kind of state: `noiseloom train table --data FILE.csv`.

A column is a token with classes of its own: categories, whole numbers, or intervals of real ones.
The inferred schema can be written, edited and given back (`--schema FILE.yaml`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from noiseloom.data import Split, TableVocabulary, read_table
from noiseloom.nets import Placed
from noiseloom.recipes.classes import Classes, TokenSplit
from noiseloom.rng import Rng

__all__ = ["Tables"]


@dataclass(frozen=True)
class Tables(Classes):
    """Options of `Classes` for tables.

    Attributes:
        schema: a YAML file that says what columns are; one that is not there yet is written, with
            what was inferred, to be edited. "" only infers.
        missing: values that are missing are a class of their own (class), refused, or their rows
            are dropped.
        bins: intervals of a column of real numbers.
        rare: categories of at most so many rows share a class "other"; 0 for none.
        constant: columns of one value are refused, or left out (leave_out).
        max_classes: the most that a column may have.
        held_out: share of the rows that is held out.
        split: a column that says which rows are held out, "" for the share.
    """

    name: ClassVar[str] = "table"
    summary: ClassVar[str] = "a table of one's own, by any kind of state"
    kind: ClassVar[Literal["text", "table", "sequences"]] = "table"
    paths: ClassVar[tuple[str, ...]] = ("schema",)

    schema: str = ""
    missing: Literal["class", "refuse", "drop"] = "class"
    bins: int = 32
    rare: int = 0
    constant: Literal["refuse", "leave_out"] = "refuse"
    max_classes: int = 256
    held_out: float = 0.1
    split: str = ""
    sampling_steps: int = 32

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
        if data is None:
            raise ValueError("table needs --data FILE.csv, .tsv, .csv.gz or .parquet")
        known = bool(self.schema) and Path(self.schema).exists()
        split, words = read_table(
            data,
            schema=self.schema if known else None,
            missing=self.missing,
            bins=self.bins,
            rare=self.rare,
            constant=self.constant,
            max_classes=self.max_classes,
            held_out=self.held_out,
            split_by=self.split or None,
        )
        if self.schema and not known:
            words.write_schema(self.schema)
        return TokenSplit(split.train, split.held_out, split.notes, words)

    def introduce(self, data: Split[Any]) -> str:
        """The schema, as a table."""
        assert isinstance(data, TokenSplit)
        assert isinstance(data.vocabulary, TableVocabulary)
        return data.vocabulary.describe()

    def evaluate(self, draw: Callable[..., Tensor], data: Split[Any], rng: Rng) -> dict[str, float]:
        """Columns, pairs, what a classifier can tell, copies and distances to training rows."""
        return self.report(draw, data, rng)
