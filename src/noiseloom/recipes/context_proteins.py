"""Context-guided diffusion of proteins: low values to learn from, judged by what is true.

L. Klarner, T. Rudner, G. Morris, C. Deane, Y. W. Teh, 2024, "Context-Guided Diffusion for
Out-of-Distribution Molecular and Protein Design", arXiv 2407.11942, Section 5.3: a discrete
diffusion of sequences (N. Gruver et al., 2023, NOS, arXiv 2305.20009), and a guide of labels that
leave the good ones out. Their antibodies are not to be had, so there are two landscapes here that
know the truth about samples:

- `--data flip_gb1_splits.zip --split low_vs_high`: variants of GB1 at four sites, whose fitness was
  measured for 149,361 of 160,000 (`noiseloom.data.gb1`). It is looked up, and what was not measured
  is counted and left out;
- `--data ehrlich`: a function of motifs that must be there together, in a sequence that a Markov
  chain can make (`noiseloom.data.ehrlich`). It knows every sequence, and its best is worth 1.

This is the generator, by any kind of state; it learns from the low part alone. Then a guide leads
its samples: `noiseloom guide RUN --labels ehrlich --context ehrlich --shifted ehrlich:high`, then
`sample RUN --guide ...`, whose table says the true values too. `sample --parent SEQ --max-edits N`
redesigns a sequence.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from noiseloom.data import (
    Ehrlich,
    GB1Split,
    Landscape,
    Split,
    Symbols,
    Tokens,
    Variants,
    Vocabulary,
    ehrlich,
    read_gb1,
)
from noiseloom.data.gb1 import AMINO_ACIDS, domain_of
from noiseloom.data.labelled import Cells
from noiseloom.metrics import row_keys
from noiseloom.recipes.class_pieces import LandscapeSplit
from noiseloom.recipes.landscapes import Landscapes
from noiseloom.recipes.recipe import Facts
from noiseloom.rng import Rng

__all__ = ["ContextProteins"]

_LETTERS = AMINO_ACIDS + "BJOUXZ" + "abcdefghijklmnopqrstuvwxyz"


def _is_ehrlich(path: str) -> bool:
    return Path(path).name == "ehrlich" and not Path(path).exists()


@lru_cache(maxsize=4)
def _measured(table: str, split: GB1Split) -> Variants:
    return read_gb1(table, split).measured


@dataclass(frozen=True)
class ContextProteins(Landscapes):
    """Options of `Landscapes` for proteins.

    Attributes:
        split: of GB1's variants, FLIP's: trained on fitness below 1 (low_vs_high), on one, two or
            three mutations at most, or on a share of all (sampled).
        table: another file of GB1's variants, such as four_mutations_full_data.csv.zip, that says
            what more of them are worth; by default those of the data are known.
        letters: v, classes of an Ehrlich function.
        length: L, its tokens.
        motifs: c, how many there are.
        motif_length: k, elements of each.
        quantisation: q, steps in which a motif counts, 1 .. k; null for k.
        banned: share of the transitions that its chain bans.
        landscape_seed: which function it is.
        pool: runs of the chain that the data are.
        held_out: share of the pool, the most valuable, that is held out; of equal values all, or
            none, are.
    """

    name: ClassVar[str] = "context-proteins"
    summary: ClassVar[str] = "proteins of low value (GB1, or an Ehrlich function), for guides"
    paths: ClassVar[tuple[str, ...]] = ("plan", "table")

    split: GB1Split = "low_vs_high"
    table: str = ""
    letters: int = 20
    length: int = 32
    motifs: int = 2
    motif_length: int = 4
    quantisation: int | None = None
    banned: float = 0.4
    landscape_seed: int = 0
    pool: int = 20_000
    held_out: float = 0.2

    width: int = 64
    depth: int = 3
    steps: int = 3000

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 2 <= self.letters <= len(_LETTERS) or self.pool < 2:
            raise ValueError(
                f"letters must be 2 to {len(_LETTERS)} and pool at least 2, got {self.letters} and "
                f"{self.pool}"
            )
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out is a share between 0 and 1, got {self.held_out}")

    def load(self, data: str | None) -> LandscapeSplit:
        """The variants of a file, or runs of an Ehrlich function's chain."""
        if data is None:
            raise ValueError(
                "context-proteins needs --data FILE of GB1's variants, flip_gb1_splits.zip or "
                "four_mutations_full_data.csv.zip, or --data ehrlich"
            )
        if _is_ehrlich(data):
            return self._runs()
        found = read_gb1(data, self.split, table=self.table or None)
        known, total = len(found.measured), Variants.total
        notes = (f"{known:,} of {total:,} variants are measured, of the others nothing is known",)
        parts = found.train, found.test, notes, Variants.words, found.measured, found.validation
        return LandscapeSplit(*parts)

    def is_data(self, path: str) -> bool:
        """The word for an Ehrlich function's runs, or a .zip file of variants."""
        return _is_ehrlich(path) or path.lower().endswith(".zip")

    def facts(self, data: Split[Any]) -> Facts:
        """Which landscape it is, besides."""
        assert isinstance(data, LandscapeSplit)
        kind = "gb1" if isinstance(data.truth, Variants) else "ehrlich"
        return super().facts(data) | {"landscape": kind}

    def fits(self, facts: Facts, own: Facts) -> None:
        """Raise ValueError if a model cannot be judged on, or continue, data of other facts."""
        if facts["landscape"] != own["landscape"]:
            raise ValueError(f"the run is of {own['landscape']}, the data of {facts['landscape']}")
        super().fits(facts, own)

    def truth(self, facts: Facts) -> Landscape | None:
        """The Ehrlich function, or of GB1 what the option `table` knows."""
        if facts["landscape"] == "ehrlich":
            return self.function
        return _measured(self.table, self.split) if self.table else None

    def why_not(self, facts: Facts, row: Tensor) -> str:
        """Why a row (T,) is none of the landscape's; of GB1 that is known without measurements."""
        if facts["landscape"] == "gb1":
            return Variants.why_not(row, AMINO_ACIDS)
        return super().why_not(facts, row)

    def tokens_of(self, cells: Cells, words: Vocabulary, columns: Sequence[str]) -> Tensor:
        """Tokens of its cells; of FLIP's constructs those of GB1's own residues."""
        texts = [domain_of(text) for text in cells.column(columns[0])]
        own = replace(cells, columns={**cells.columns, columns[0]: texts})
        return super().tokens_of(own, words, columns)

    @property
    def function(self) -> Ehrlich:
        """The Ehrlich function of these options."""
        return ehrlich(
            Rng(self.landscape_seed).fold("ehrlich"),
            classes=self.letters,
            length=self.length,
            motifs=self.motifs,
            motif_length=self.motif_length,
            quantisation=self.quantisation,
            banned=self.banned,
        )

    def _runs(self) -> LandscapeSplit:
        truth, words = self.function, Symbols(_LETTERS[: self.letters], self.length)
        drawn = truth.draw(self.pool, Rng(self.landscape_seed).fold("pool"))
        first = {key: row for row, key in reversed(list(enumerate(row_keys(drawn))))}
        rows = drawn[sorted(first.values())]
        values = truth.value(rows)
        ceiling = values.sort().values[int((1 - self.held_out) * (len(rows) - 1))]
        high = values > ceiling
        if not high.any():
            raise ValueError(
                f"none of the {len(rows):,} runs is worth more than the rest, {float(ceiling):g}: "
                "raise pool or held_out, or lower motifs"
            )
        low, best = (
            Tokens(part.to(torch.uint8), words.sizes) for part in (rows[~high], rows[high])
        )
        equal = len(drawn) - len(rows)
        notes = (f"{equal:,} runs equal another one",) if equal else ()
        return LandscapeSplit(low, best, notes, words, truth)
