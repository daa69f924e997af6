"""Sequences of a landscape that knows what they are worth: labels, contexts and the truth of it."""

import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from noiseloom.data import Landscape, Split, Symbols, Tokens, vocabulary
from noiseloom.metrics import row_keys, value_report
from noiseloom.recipes.class_pieces import LandscapeSplit
from noiseloom.recipes.guidable import Labelled
from noiseloom.recipes.recipe import Facts, Parts
from noiseloom.recipes.sequences import Sequences
from noiseloom.rng import Rng

__all__ = ["Landscapes"]


@dataclass(frozen=True)
class Landscapes(Sequences):
    """Options of `Sequences`; subclasses say what the landscape is: `is_data`, `load`, `truth`.

    A guide of such a run needs no file of labels: `--labels`, `--context` and `--shifted` may name
    the data. Labels are those of the rows trained on; with ":high" after the name, of the rows held
    out, which are worth more, with ":validation" of those kept apart, if there are. A context is
    drawn by the landscape, `context` rows, none of which was trained on.

    Attributes:
        context: rows that a context has.
    """

    value_name: ClassVar[str] = "value"

    context: int = 20_000
    chemistry: bool | None = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, idle in (("spelling", "auto"), ("longest", 0), ("chemistry", False)):
            if getattr(self, name) != idle:
                raise ValueError(f"{name} is of other sequences: leave it at {str(idle).lower()}")
        if self.context < 1:
            raise ValueError(f"context must be at least 1, got {self.context}")

    def is_data(self, path: str) -> bool:
        """Whether a path names the data of a landscape."""
        raise NotImplementedError

    def split_at(self, path: str) -> LandscapeSplit | None:
        """The data of a name, or None where it is that of no landscape."""
        if not self.is_data(path):
            return None
        found = self.load(path)
        assert isinstance(found, LandscapeSplit)
        return found

    def truth(self, facts: Facts) -> Landscape | None:
        """What is known of any row of a run with these facts, without its data, if anything is."""
        raise NotImplementedError

    def why_not(self, facts: Facts, row: Tensor) -> str:
        """Why a row (T,) is none of the landscape's, as it says itself."""
        truth, words = self.truth(facts), vocabulary(facts["vocabulary"])
        assert isinstance(words, Symbols)
        return "" if truth is None else truth.why_not(row, "".join(words.symbols))

    def load_like(self, data: str | None, facts: Facts) -> Split[Any]:
        """As `load`: a landscape has words of its own."""
        return self.load(data)

    def introduce(self, data: Split[Any]) -> str:
        """How much the parts are worth."""
        assert isinstance(data, LandscapeSplit)
        told = []
        for part in (data.train, data.held_out):
            values = data.landscape.value(part.values)
            low, high = float(values.min()), float(values.max())
            told.append(f"{len(part):,} worth {low:.4g} to {high:.4g}")
        return f"data: trained on {told[0]}; held out {told[1]}"

    def labelled(self, path: str, facts: Facts, columns: Sequence[str] | None) -> Labelled:
        """Rows of the data with their true values, or those of a table with labels."""
        name, part = _name_and_part(path)
        split = self.split_at(name)
        if split is None:
            return self._of_table(path, facts, columns)
        self.fits(self.facts(split), facts)
        if columns not in (None, (self.value_name,)):
            told = ", ".join(columns or ())
            raise ValueError(f"{name} has one label, {self.value_name}, and not {told}")
        rows = {"train": split.train, "high": split.held_out, "validation": split.validation}[part]
        if rows is None:
            raise ValueError(f"{name} has no rows for validation: leave :{part} out")
        values = split.landscape.value(rows.values).double()[:, None]
        return Labelled(rows, values, (self.value_name,))

    def _of_table(self, path: str, facts: Facts, columns: Sequence[str] | None) -> Labelled:
        found, truth = super().labelled(path, facts, columns), self.truth(facts)
        assert isinstance(found.rows, Tokens)
        rows = found.rows.values
        wrong = [] if truth is None else (~truth.valid(rows)).nonzero()[:, 0].tolist()
        for row in wrong[:1]:
            why = self.why_not(facts, rows[row])
            raise ValueError(
                f"{found.place(path, row)}: the sequence cannot be: {why}: leave the row out"
            )
        return found

    def labels_itself(self, path: str) -> bool:
        """Those of the data."""
        return self.is_data(_name_and_part(path)[0])

    def unlabelled(self, path: str, facts: Facts) -> Tokens:
        """Rows that the landscape of the data draws, or those of any file of sequences."""
        split = self.split_at(path)
        if split is None:
            return super().unlabelled(path, facts)
        self.fits(self.facts(split), facts)
        seen = set(row_keys(split.train.values))
        rows = split.landscape.draw(self.context, Rng(0).fold("context"))
        keys = row_keys(rows)
        first = {key: i for i, key in reversed(list(enumerate(keys))) if key not in seen}
        return Tokens(rows[sorted(first.values())], split.train.sizes)

    def keys(self, parts: Parts, facts: Facts, data: Tensor) -> list[str]:
        """The sequences, "" of those that cannot be."""
        texts, truth = super().keys(parts, facts, data), self.truth(facts)
        if truth is None:
            return texts
        return [s if ok else "" for s, ok in zip(texts, truth.valid(data).tolist(), strict=True)]

    def columns(self, facts: Facts) -> tuple[str, ...]:
        """Headings of a sequence and, where that can be known, of what it is truly worth."""
        known = self.truth(facts) is not None
        return ("structure", f"true_{self.value_name}") if known else ("structure",)

    def cells(self, parts: Parts, facts: Facts, data: Tensor) -> list[list[str]]:
        """The sequence and its true value; nothing where that is unknown."""
        cells, truth = super().cells(parts, facts, data), self.truth(facts)
        if truth is None:
            return cells
        values = truth.value(data).tolist()
        return [[*c, "" if v != v else f"{v:.6g}"] for c, v in zip(cells, values, strict=True)]

    def true_values(self, parts: Parts, facts: Facts, data: Tensor) -> dict[str, Tensor]:
        """What the landscape says of valid rows, where it can be known without the data."""
        truth = self.truth(facts)
        if truth is None:
            return {}
        values = truth.value(data).double()
        return {self.value_name: torch.where(truth.valid(data), values, torch.nan)}

    def evaluate(self, draw: Callable[..., Tensor], data: Split[Any], rng: Rng) -> dict[str, float]:
        """Validity, uniqueness, novelty and stretches, and what samples are truly worth."""
        assert isinstance(data, LandscapeSplit)
        assert isinstance(data.vocabulary, Symbols)
        truth = data.landscape

        def forms(rows: Tensor) -> Sequence[Hashable | None]:
            valid = truth.valid(rows).tolist()
            return [k if ok else None for k, ok in zip(row_keys(rows), valid, strict=True)]

        rows = draw({"row": torch.arange(self.samples)})
        found = self.report(lambda _: rows, data, rng, pad=data.vocabulary.end, forms=forms)
        train, held = data.train.values, data.held_out.values
        return value_report(rows, train, held, truth, rng.fold("values")) | found


def _name_and_part(path: str) -> tuple[str, str]:
    match = re.fullmatch(r"(.+):(train|validation|high)", path)
    return (match[1], match[2]) if match else (path, "train")
