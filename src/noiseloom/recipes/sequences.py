"""Sequences of one's own by any kind of state: proteins, SMILES, or any string a line.

`noiseloom train sequences --data FILE.fasta`. A class for the end comes after the last symbol, so
that the model decides how long a sequence is.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from noiseloom.data import Numbers, Split, Symbols, Vocabulary, read_sequences, vocabulary
from noiseloom.data.chemistry import chemistry
from noiseloom.data.labelled import Cells, text_column
from noiseloom.data.option_names import as_options
from noiseloom.data.table_files import ENDINGS
from noiseloom.data.tokens import Tokens
from noiseloom.metrics import canonical_smiles, nearest_edits, row_keys
from noiseloom.recipes.classes import TokenSplit
from noiseloom.recipes.guided_rows import GuidedRows
from noiseloom.recipes.recipe import Facts, Parts
from noiseloom.rng import Rng

__all__ = ["Sequences"]


@dataclass(frozen=True)
class Sequences(GuidedRows):
    """Options of `Classes` for sequences.

    Attributes:
        column: of a .csv file; "" for the one called smiles or sequence, or the only one.
        spelling: a symbol is a character (characters) or one of SMILES (smiles); auto by the file.
        longest: symbols of the longest sequence; 0 for that of the file.
        longer: refuse a file with longer ones, or drop them.
        held_out: share that is held out.
        split_seed: decides which rows these are.
        split: column of a .csv file that says which rows are held out, "" for the share.
        chemistry: judge validity, uniqueness and novelty by RDKit's canonical SMILES (extra chem);
            by default where symbols are those of SMILES and RDKit is there. Guides take molecules
            for their strings unless it is true.
    """

    name: ClassVar[str] = "sequences"
    summary: ClassVar[str] = "proteins, SMILES or other strings of one's own, by any kind of state"
    kind: ClassVar[Literal["text", "table", "sequences"]] = "sequences"
    distance: ClassVar[str] = "characters put in, taken out or changed"

    column: str = ""
    spelling: Literal["auto", "characters", "smiles"] = "auto"
    longest: int = 0
    longer: Literal["refuse", "drop"] = "refuse"
    held_out: float = 0.1
    split_seed: int = 0
    split: str = ""
    chemistry: bool | None = None

    @property
    def unheard(self) -> Mapping[str, str]:
        """What draws held-out sequences where a column says which they are."""
        drawn = ("held_out", "split_seed") if self.split else ()
        return {**super().unheard, **dict.fromkeys(drawn, "sequences with --split")}

    @classmethod
    def changeable(cls) -> tuple[str, ...]:
        """Those of every draw, and how it is judged."""
        return (*super().changeable(), "chemistry")

    def load(self, data: str | None) -> Split[Any]:
        """The sequences at a path."""
        return self._read(data, None)

    def load_like(self, data: str | None, facts: Facts) -> Split[Any]:
        """Sequences by the symbols of a model."""
        known = vocabulary(facts["vocabulary"])
        return self._read(data, known if isinstance(known, Symbols | Numbers) else None)

    def _read(self, data: str | None, known: Symbols | Numbers | None) -> Split[Any]:
        if data is None:
            raise ValueError(
                "sequences need --data FILE: .fasta, .smi, .txt (one a line), .csv or .npy"
            )
        with as_options():
            split, words = read_sequences(
                data,
                column=self.column or None,
                spelling=self.spelling,
                length=self.longest or None,
                longer=self.longer,
                held_out=self.held_out,
                seed=self.split_seed,
                split=self.split or None,
                vocabulary=known,
            )
        return TokenSplit(split.train, split.held_out, split.notes, words)

    def check(self) -> None:
        """The extra that `chemistry` needs."""
        super().check()
        if self.chemistry:
            canonical_smiles("C")

    def evaluate(self, draw: Callable[..., Tensor], data: Split[Any], rng: Rng) -> dict[str, float]:
        """Validity, uniqueness, novelty, lengths and stretches of symbols."""
        assert isinstance(data, TokenSplit)
        words, options, trained = data.vocabulary, dict[str, Any](), data.train.values
        options["known"] = set(row_keys(trained))
        if isinstance(words, Symbols):
            options["pad"] = words.end
            if self.chemistry or (self.chemistry is None and _molecules(words)):
                options["forms"] = lambda rows: [canonical_smiles(s) for s in words.decode(rows)]
                options["known"] = {_remembered(text) for text in words.decode(trained)}
        return self.report(draw, data, rng, **options)

    def structure_columns(
        self, cells: Cells, words: Vocabulary, labels: Sequence[str]
    ) -> tuple[str, ...]:
        """The column of sequences."""
        return (text_column(cells, self.column, labels),)

    def tokens_of(self, cells: Cells, words: Vocabulary, columns: Sequence[str]) -> Tensor:
        """Tokens of its cells, by the symbols of the run."""
        symbols, texts, found = _symbols(words, str(cells.path)), cells.column(columns[0]), []
        for row, text in enumerate(texts):
            if not text:
                raise ValueError(f"{cells.where(row)}: there is no sequence")
            known = symbols.tokens(text, cells.where(row))
            found.append(known + [symbols.end] * (symbols.length - len(known)))
        return torch.tensor(found)

    def unlabelled(self, path: str, facts: Facts) -> Tokens:
        """Sequences of any file that training reads, or a column of a table."""
        if path.lower().endswith(ENDINGS):
            return super().unlabelled(path, facts)
        words = _symbols(vocabulary(facts["vocabulary"]), path)
        split, _ = read_sequences(Path(path), vocabulary=words, longer=self.longer)
        parts = split.train.values, split.held_out.values
        return Tokens(torch.cat(parts), tuple(facts["sizes"]))

    def keys(self, parts: Parts, facts: Facts, data: Tensor) -> list[str]:
        """The sequences; with `chemistry` their canonical SMILES, "" where there is no molecule."""
        texts = _symbols(vocabulary(facts["vocabulary"]), "the run").decode(data)
        return [canonical_smiles(text) or "" for text in texts] if self.chemistry else texts

    def nearest(self, made: Sequence[str], known: Sequence[str]) -> Tensor:
        """Edit distances."""
        return nearest_edits(made, known)


_remembered = lru_cache(1 << 20)(canonical_smiles)  # 0.1 ms each, of every evaluation of a file


def _molecules(words: Symbols) -> bool:
    """Whether these are symbols of SMILES, and can be told to be molecules."""
    try:
        chemistry()
    except ImportError:
        return False
    return words.spelling == "smiles"


def _symbols(words: Vocabulary, where: str) -> Symbols:
    if not isinstance(words, Symbols):
        raise ValueError(
            f"{where}: guides are for runs on sequences of symbols, and this one is on rows of "
            "numbers (.npy)"
        )
    return words
