"""Text of one's own by any kind of state: `noiseloom train text --data FILE.txt --state masked`.

Characters or pieces, in windows of equal length; bits per token on windows that were held out, and
samples under a judge of n-grams. The claim is the comparison: `noiseloom compare --data FILE.txt
--state masked,uniform,bits,embedding,autoregressive --budget 600 --out FOLDER`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor

from noiseloom.data import Split, Vocabulary, read_text, vocabulary
from noiseloom.data.characters import Characters
from noiseloom.data.option_names import as_options
from noiseloom.recipes.classes import Classes, TokenSplit
from noiseloom.recipes.recipe import Facts
from noiseloom.rng import Rng

__all__ = ["Text"]


@dataclass(frozen=True)
class Text(Classes):
    """Options of `Classes` for text.

    Attributes:
        length: tokens of a window.
        alphabet: all characters that occur; letters, the 27 of text8; or a sentencepiece model.
        held_out: share of the text that is held out.
        held_blocks: 0: the end of the text is held out; else it is cut into so many blocks, some of
            which are drawn.
        split_seed: decides which blocks these are; without blocks it says nothing.
        cache: a folder to keep tokens in, for a text larger than memory; "" for memory.
    """

    name: ClassVar[str] = "text"
    summary: ClassVar[str] = "text of one's own, by any kind of state"
    kind: ClassVar[Literal["text", "table", "sequences"]] = "text"
    paths: ClassVar[tuple[str, ...]] = ("alphabet", "cache")

    length: int = 64
    alphabet: str = "all"
    held_out: float = 0.1
    held_blocks: int = 0
    split_seed: int = 0
    cache: str = ""

    def load(self, data: str | None) -> Split[Any]:
        """Windows of the text at a path."""
        return self._read(data, None)

    def load_like(self, data: str | None, facts: Facts) -> Split[Any]:
        """Windows of a text by the characters or pieces of a model."""
        return self._read(data, vocabulary(facts["vocabulary"]))

    def _read(self, data: str | None, known: Vocabulary | None) -> Split[Any]:
        if data is None:
            raise ValueError("text needs --data FILE.txt, a folder of such files, or a tar file")
        with as_options():
            split, words = read_text(
                data,
                self.length,
                alphabet=self.alphabet,
                held_out=self.held_out,
                blocks=self.held_blocks or None,
                seed=self.split_seed,
                cache=self.cache or None,
                vocabulary=known,
            )
        return TokenSplit(split.train, split.held_out, split.notes, words)

    def evaluate(self, draw: Callable[..., Tensor], data: Split[Any], rng: Rng) -> dict[str, float]:
        """Bits under n-grams in both directions, distinct n-grams, words that occur."""
        assert isinstance(data, TokenSplit)
        words, breaks = data.vocabulary, []
        if isinstance(words, Characters):
            breaks = [i for i, c in enumerate(words.characters) if c.isspace()]
        return self.report(draw, data, rng, breaks=breaks)
